"""Where each page of the site comes from, and where a link in it then leads."""

import posixpath
import re
from dataclasses import dataclass
from pathlib import Path

from tools.project import NOTEBOOKS, ROOT, repository, site_of

BUILD = ROOT / "build"
SOURCE, OUT, DOCTREES = BUILD / "site-source", BUILD / "site", BUILD / "site-doctrees"
WRITTEN = ROOT / "site"
DOCS = ROOT / "docs"

# The target of a link or a picture in Markdown, and of one in HTML; a title may stand after it.
TARGET = re.compile(r"(?<=\]\()([^)\s]+)(?=[)\s])|(?<=href=\")([^\"]+)(?=\")")
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|#|//", re.IGNORECASE)


@dataclass(frozen=True)
class Page:
    """A page of the site: the file in the repository, and its place in Sphinx's source."""

    origin: Path
    place: str


def site_address() -> str:
    """Return where GitHub Pages shows this repository; it ends with a slash."""
    return site_of(repository())


def lessons() -> list[Page]:
    """Return the lessons, in the order of the course."""
    found = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
    return [Page(path, f"lessons/{path.name}") for path in found]


def exercises() -> list[Page]:
    """Return the exercises with gaps; the worked ones are folded into the same pages."""
    found = sorted((NOTEBOOKS / "exercises").glob("[0-9][0-9]_*.ipynb"))
    return [Page(path, f"exercises/{path.name}") for path in found]


def documents() -> list[Page]:
    """Return the Markdown pages of `docs`; a README is the first page of its folder."""
    return [Page(path, _document(path.relative_to(DOCS))) for path in sorted(DOCS.rglob("*.md"))]


def _document(path: Path) -> str:
    name = "index.md" if path.name == "README.md" else path.name
    return (path.parent / name).as_posix()


def places() -> dict[str, str]:
    """Return each page's place by the path of its file in the repository."""
    known = {
        page.origin.relative_to(ROOT).as_posix(): page.place
        for page in [*lessons(), *exercises(), *documents()]
    }
    solved = {
        path.replace("exercises/", "solutions/", 1): place
        for path, place in known.items()
        if place.startswith("exercises/")
    }
    return known | solved | {"README.md": "index.md"}


def relinked(text: str, origin: Path, place: str) -> str:
    """Return Markdown whose links lead to pages of the site, or else into the repository.

    `origin` is the file that the text comes from, `place` where it goes. A link to what does not
    exist stays, so that the build finds it.
    """
    known, here = places(), posixpath.dirname(origin.relative_to(ROOT).as_posix())

    def lead(match: re.Match) -> str:
        target = match[0]
        if ELSEWHERE.match(target):
            return target
        path, _, anchor = target.partition("#")
        path = posixpath.normpath(posixpath.join(here, path))
        if path in known:
            found = posixpath.relpath(known[path], posixpath.dirname(place) or ".")
            return found + ("#" + anchor if anchor else "")
        kind = "tree" if (ROOT / path).is_dir() else "blob"
        return f"{repository()}/{kind}/main/{path}" if (ROOT / path).exists() else target

    return TARGET.sub(lead, text)
