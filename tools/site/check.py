"""What is wrong with the built pages: links that lead nowhere, requests that leave the site."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What a browser fetches by itself; a link waits for a click.
FETCHED = {"src", "srcset", "poster", "data", "background"}
FETCHING_LINKS = {"stylesheet", "icon", "shortcut", "preload", "prefetch", "manifest",
                  "modulepreload", "preconnect", "dns-prefetch", "apple-touch-icon"}  # fmt: skip
IN_STYLE = re.compile(r"(?:url\(\s*|@import\s+)['\"]?((?:https?:)?//[^'\")\s;]+)")
AWAY = re.compile(r"(?:https?:)?//", re.IGNORECASE)


@dataclass
class Page(HTMLParser):
    """What one page has: its anchors, its links, what it fetches, and what it lacks."""

    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    without_words: list[str] = field(default_factory=list)  # pictures
    title: str = ""
    described: bool = False
    _open: str = ""

    def __post_init__(self):
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag links to, fetches, and is called."""
        have = {name: value or "" for name, value in attrs}
        self._open = tag
        self.anchors |= {have[name] for name in ("id", "name") if name in have}
        self.fetched += [have[name] for name in FETCHED & have.keys()]
        if "style" in have:
            self.fetched += IN_STYLE.findall(have["style"])
        if tag == "link":
            self.fetched += [have["href"]] if FETCHING_LINKS & {*have["rel"].split()} else []
        elif "href" in have:
            self.links.append(have["href"])
        if tag == "img" and "alt" not in have:
            self.without_words.append(have.get("src", "")[:80])
        if tag == "meta" and have.get("name") == "description":
            self.described = True

    def handle_data(self, data: str) -> None:
        """Note the title, and what a style fetches."""
        if self._open == "title":
            self.title += data
        elif self._open == "style":
            self.fetched += IN_STYLE.findall(data)

    def handle_endtag(self, tag: str) -> None:
        """Forget the tag that was open."""
        self._open = ""


@cache
def read(path: Path) -> Page:
    """Return what a built page has."""
    page = Page()
    page.feed(path.read_text("utf-8"))
    return page


def problems(folder: Path, address: str) -> list[str]:
    """Return everything that is wrong with a built site, a line each; `address` is its own."""
    read.cache_clear()
    found = []
    for path in sorted(folder.rglob("*.html")):
        name = path.relative_to(folder).as_posix()
        page = read(path)
        found += [f"{name}: {problem}" for problem in _lacks(page)]
        found += [
            f"{name}: fetches {url} from elsewhere" for url in page.fetched if AWAY.match(url)
        ]
        targets = [*page.links, *(u for u in page.fetched if not u.startswith("data:"))]
        for target in dict.fromkeys(targets):
            problem = _dead(path, target, folder, address)
            found += [f"{name}: {problem}"] if problem else []
    for path in sorted(folder.rglob("*.css")):
        name = path.relative_to(folder).as_posix()
        urls = IN_STYLE.findall(path.read_text("utf-8"))
        found += [f"{name}: fetches {url} from elsewhere" for url in urls]
    return found


def external(folder: Path) -> dict[str, list[str]]:
    """Return each address elsewhere that a page links to, with the pages that do."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("*.html")):
        for link in dict.fromkeys(read(path).links):
            if AWAY.match(link):
                name = path.relative_to(folder).as_posix()
                found.setdefault(link.partition("#")[0], []).append(name)
    return found


def _lacks(page: Page) -> Iterator[str]:
    if not page.title.strip():
        yield "it has no title"
    for picture in page.without_words:
        yield f"the picture {picture} has no words (alt)"


def _dead(page: Path, target: str, folder: Path, address: str) -> str:
    """Return what is wrong with a link inside the site; empty if it leads somewhere."""
    parts = urlsplit(target)
    if parts.scheme or parts.netloc:
        return ""
    root = urlsplit(address).path
    if parts.path.startswith("/"):
        if not parts.path.startswith(root):
            return f"{target} leads out of the site"
        there = folder / unquote(parts.path.removeprefix(root))
    else:
        there = page.parent / unquote(parts.path) if parts.path else page
    there = there / "index.html" if there.is_dir() else there
    if not there.is_file():
        return f"{target} leads nowhere"
    if parts.fragment and there.suffix == ".html" and not _known(there, parts.fragment):
        return f"{target} leads to a place that the page does not have"
    return ""


def _known(page: Path, anchor: str) -> bool:
    return not anchor.strip("#") or unquote(anchor) in read(page).anchors
