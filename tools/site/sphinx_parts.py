"""What the site adds to Sphinx: words for search engines and previews, and a map of the pages."""

import re
from html import escape, unescape
from xml.sax.saxutils import escape as xml_escape

from docutils import nodes
from sphinx.application import Sphinx

MOST_WORDS = 200  # letters of a description
NOT_FOR_SEARCH = ("search", "genindex")


def setup(app: Sphinx) -> dict:
    """Connect all of it."""
    app.connect("html-page-context", _describe)
    app.connect("build-finished", _write_map)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _describe(app: Sphinx, name: str, template: str, context: dict, doctree) -> None:
    """Give a page its description and its preview."""
    own = 'name="description"' in context.get("metatags", "")
    words = _written(doctree) if own else _first_words(doctree)
    title = _plain_title(context) or app.config.project
    shown = app.config.project if name == "index" else f"{title} — {app.config.project}"
    base = app.config.html_baseurl
    pairs = [
        ("og:type", "website"),
        ("og:site_name", app.config.project),
        ("og:title", shown),
        ("og:description", words or app.config.site_description),
        ("og:url", base + name + ".html" if name != "index" else base),
        ("og:image", base + "_static/preview.png"),
        ("og:image:alt", app.config.site_description),
    ]
    tags = [f'<meta property="{key}" content="{escape(value)}">' for key, value in pairs]
    tags.append('<meta name="twitter:card" content="summary_large_image">')
    if words and not own:
        tags.insert(0, f'<meta name="description" content="{escape(words)}">')
    context["metatags"] = context.get("metatags", "") + "\n".join(tags)


def _plain_title(context: dict) -> str:
    return unescape(re.sub(r"<[^>]+>", "", context.get("title", "")))


def _written(doctree: nodes.document | None) -> str:
    """Return the description that the page itself has."""
    for node in doctree.findall(nodes.meta) if doctree else ():
        if node.get("name") == "description":
            return node["content"]
    return ""


def _first_words(doctree: nodes.document | None) -> str:
    """Return the first quotation or paragraph of a page, cut at the end of a word."""
    if doctree is None:
        return ""
    quoted = next(doctree.findall(nodes.block_quote), None)
    found = [quoted] if quoted else doctree.findall(nodes.paragraph)
    words = next((" ".join(n.astext().split()) for n in found if len(n.astext()) > 30), "")
    if len(words) <= MOST_WORDS:
        return words
    return words[:MOST_WORDS].rsplit(" ", 1)[0].rstrip(",;:") + " …"


def _write_map(app: Sphinx, error: Exception | None) -> None:
    """Write `sitemap.xml` and a `robots.txt` that names it."""
    if error or app.builder.name != "html":
        return
    base = app.config.html_baseurl
    pages = sorted(app.env.found_docs - set(NOT_FOR_SEARCH))
    listed = "".join(
        f"  <url><loc>{xml_escape(base + ('' if p == 'index' else p + '.html'))}</loc></url>\n"
        for p in pages
    )
    schema = "http://www.sitemaps.org/schemas/sitemap/0.9"
    text = f'<?xml version="1.0" encoding="utf-8"?>\n<urlset xmlns="{schema}">\n{listed}</urlset>\n'
    (app.outdir / "sitemap.xml").write_text(text, encoding="utf-8")
    robots = f"User-agent: *\nAllow: /\nSitemap: {base}sitemap.xml\n"
    (app.outdir / "robots.txt").write_text(robots, encoding="utf-8")
