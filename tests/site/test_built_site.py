"""The built site: every page there, every link alive, nothing fetched from elsewhere."""

import importlib.util
import re
import shutil
import xml.etree.ElementTree as ElementTree

import pytest

from tools.site import __main__ as command
from tools.site import check, gather, links, pages

needs_sphinx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("sphinx", "myst_nb")),
    reason="the site's packages are not installed: pip install '.[site]'",
)
ADDRESS = "https://octocat.github.io/course/"


@pytest.fixture
def folder(tmp_path):
    """Return a site of two pages without a fault."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "index.html").write_text(
        '<title>One</title><a href="deep/two.html#here">two</a><img src="a.png" alt="a curve">'
        '<a href="https://example.org">away</a><link rel="canonical" href="https://example.org">'
    )
    (tmp_path / "deep" / "two.html").write_text(
        '<title>Two</title><h2 id="here">Here</h2><a href="../index.html">up</a>'
        '<a href="/course/deep/two.html">from the root</a>'
    )
    (tmp_path / "a.png").touch()
    return tmp_path


def test_a_site_without_a_fault(folder):
    assert check.problems(folder, ADDRESS) == []
    assert check.external(folder) == {"https://example.org": ["index.html"]}


@pytest.mark.parametrize(
    ("html", "problem"),
    [
        ('<a href="nowhere.html">x</a>', "nowhere.html leads nowhere"),
        ('<a href="deep/two.html#there">x</a>', "a place that the page does not have"),
        ('<a href="#there">x</a>', "a place that the page does not have"),
        ('<a href="/other/">x</a>', "/other/ leads out of the site"),
        ('<img src="gone.png" alt="">', "gone.png leads nowhere"),
        ('<img src="a.png">', "the picture a.png has no words"),
        ('<img src="https://example.org/badge.svg" alt="">', "badge.svg from elsewhere"),
        ('<script src="//cdn.example.org/mathjax.js"></script>', "mathjax.js from elsewhere"),
        ('<link rel="stylesheet" href="https://example.org/a.css">', "a.css from elsewhere"),
        ("<style>p{background:url(https://example.org/a.png)}</style>", "a.png from elsewhere"),
        ("<style>@import 'https://example.org/a.css'</style>", "a.css from elsewhere"),
    ],
)
def test_a_fault_is_found(folder, html, problem):
    page = folder / "index.html"
    page.write_text(page.read_text() + html)
    (found,) = check.problems(folder, ADDRESS)
    assert found.startswith("index.html: ") and problem in found


def test_what_a_style_sheet_fetches_is_found(folder):
    (folder / "a.css").write_text("@font-face{src:url('https://fonts.example.org/a.woff2')}")
    (found,) = check.problems(folder, ADDRESS)
    assert found == "a.css: fetches https://fonts.example.org/a.woff2 from elsewhere"


def test_a_page_without_a_title_is_found(folder):
    (folder / "bare.html").write_text("<p>words</p>")
    assert check.problems(folder, ADDRESS) == ["bare.html: it has no title"]


def test_dead_addresses_elsewhere_are_named(monkeypatch, capsys):
    monkeypatch.setattr(links, "answer", lambda a: "ok" if "alive" in a else "404 Not Found")
    own = pages.site_address()
    asked = {"https://alive.org": ["a.html"], "https://dead.org": ["b.html"], own: ["c.html"]}
    assert links.report(asked) == 1
    said = capsys.readouterr()
    assert said.err == "https://dead.org: 404 Not Found (in b.html)\n"
    assert said.out.startswith("2 addresses elsewhere, 1 of them")
    assert links.report({"https://alive.org": []}) == 0


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Build the site once, elsewhere, with two pages of the catalogue in the place of all."""
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        for module in (command, gather, pages):
            for name in ("SOURCE", "OUT", "DOCTREES"):
                patch.setattr(module, name, folder / name, raising=False)
        patch.setattr(gather.diagnoses, "PLANTED", gather.diagnoses.PLANTED[:2])
        assert command.build() == []
    return folder / "OUT"


@needs_sphinx
def test_the_site_has_every_page(site):
    for place in pages.places().values():
        assert (site / place).with_suffix(".html").is_file()
    for page in (*pages.lessons(), *pages.exercises()):
        assert (site / page.place).read_bytes() == page.origin.read_bytes()


@needs_sphinx
def test_pages_say_what_they_are(site):
    descriptions = set()
    for path in site.rglob("*.html"):
        text = path.read_text("utf-8")
        if path.name in ("404.html", "search.html"):
            continue
        for pattern in (
            r"<title>[^<]+</title>",
            r'<meta property="og:title" content="[^"]+"',
            r'<meta property="og:image" content="https://[^"]+preview.png"',
            r'<link rel="canonical" href="https://[^"]+"',
        ):
            assert re.search(pattern, text), (path.name, pattern)
        (said,) = re.findall(r'<meta (?:[^>]* )?name="description" ?[^>]*>', text)
        descriptions.add(re.sub("&[a-z]+;", "", said))
    assert len(descriptions) > 20
    assert (site / "_static" / "preview.png").is_file()


@needs_sphinx
def test_the_map_lists_the_pages(site):
    found = ElementTree.parse(site / "sitemap.xml").getroot()
    listed = {url[0].text for url in found}
    own = pages.site_address()
    assert own in listed and f"{own}lessons/01_mlp.html" in listed
    for address in listed:
        assert (site / (address.removeprefix(own) or "index.html")).is_file()
    assert "sitemap.xml" in (site / "robots.txt").read_text()


@needs_sphinx
def test_a_broken_link_in_a_page_fails_the_build(site, tmp_path):
    """Not only in a site of two pages: in the one that is published."""
    copy = shutil.copytree(site, tmp_path / "site")
    lesson = copy / "lessons" / "02_autoencoder.html"
    (copy / "lessons" / "01_mlp.html").unlink()
    found = check.problems(copy, pages.site_address())
    assert any("01_mlp.html leads nowhere" in problem for problem in found)
    assert lesson.is_file()
