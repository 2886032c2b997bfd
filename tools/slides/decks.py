"""Make the decks: one HTML page a lesson, which needs no network, and reveal.js beside them.

`python -m tools.slides [NAME ...]` writes them to `build/slides`. reveal.js comes from the Python
package sphinx-revealjs, which carries it whole.
"""

import argparse
import re
import shutil
import sys
from html import escape
from importlib.util import find_spec
from pathlib import Path

import nbformat
from nbconvert import SlidesExporter
from nbformat import NotebookNode

from course_utils.files import write_whole
from tools.project import ROOT, notebook_of, sources
from tools.slides.rules import slide_types

TEMPLATES = Path(__file__).parent
FROM_REVEAL = ("LICENSE", "dist/reveal.css", "dist/reveal.js", "dist/theme", "plugin/notes")
# What a page would fetch when it is opened; a link that one may click is something else.
FETCHED = re.compile(
    r"<(?:script|link|img|iframe|source|video)\b[^>]*?\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>"
    r"|url\([\"']?(?:https?:)?//[^)]*\)|import [^;\n]*from [\"']https?://[^\"']*"
)
OTHER_LESSON = re.compile(r"\]\((\d\d_\w+)\.ipynb(#[^)]*)?\)")
OTHER_FILE = re.compile(r"\[([^\]]+)\]\((?!https?:|#|\d\d_\w+\.html)[^)]+\)")
BADGE = re.compile(r"^\[!\[Open in Colab\].*\n+", re.MULTILINE)


class SlidesError(RuntimeError):
    """The decks could not be made; the message says what to do."""


def reveal_folder() -> Path:
    """Return the folder with reveal.js.

    Raises SlidesError if its package is not installed.
    """
    spec = find_spec("sphinx_revealjs")
    folder = Path(spec.origin).parent / "_static" / "revealjs" if spec and spec.origin else None
    if folder is None or not folder.is_dir():
        raise SlidesError(
            "reveal.js is missing: use `make slides`, or "
            'pip install "loops-to-lightning[slides]" (it comes with sphinx-revealjs).'
        )
    return folder


def deck(notebook: NotebookNode, title: str) -> str:
    """Return a lesson as one HTML page of slides, with its recorded outputs.

    Raises SlidesError if the page would fetch anything from a network.
    """
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            text = OTHER_LESSON.sub(r"](\1.html)", BADGE.sub("", cell.source))
            cell.source = OTHER_FILE.sub(r"\1", text)
        else:
            cell.source = cell.source.removeprefix("# NBVAL_CHECK_OUTPUT\n")
    for cell, kind in zip(notebook.cells, slide_types(notebook.cells), strict=True):
        cell.metadata["slideshow"] = {"slide_type": kind}
    notebook.metadata["title"] = title
    exporter = SlidesExporter(
        template_name="template", extra_template_basedirs=[str(TEMPLATES)],
        reveal_url_prefix="reveal", reveal_theme="white",
    )  # fmt: skip
    page, _ = exporter.from_notebook_node(notebook)
    if found := FETCHED.search(page):
        raise SlidesError(f"{title} would fetch from a network: {found[0][:120]}")
    return page


def decks(paths: list[Path], reveal: Path, into: Path) -> list[Path]:
    """Write the decks of these notebooks, what they need of reveal.js, and a page that lists them.

    Returns the decks. Raises SlidesError, as `deck` does.
    """
    made, rows = [], []
    for path in paths:
        notebook = nbformat.read(path, as_version=4)
        title = re.search(r"^# (.+)$", notebook.cells[0].source, re.MULTILINE)[1]
        write_whole(into / f"{path.stem}.html", deck(notebook, title).encode())
        made.append(into / f"{path.stem}.html")
        rows.append(f'<li><a href="{path.stem}.html">{escape(title)}</a></li>')
    for name in FROM_REVEAL:
        place = into / "reveal" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (reveal / name).is_dir() else shutil.copyfile
        copy(reveal / name, place, **({"dirs_exist_ok": True} if copy is shutil.copytree else {}))
    page = f"<!doctype html><meta charset=utf-8><title>Slides</title><ul>{''.join(rows)}</ul>\n"
    write_whole(into / "index.html", page.encode())
    return made


def main() -> int:
    """Make the decks of the chosen lessons, or say what is wrong."""
    parser = argparse.ArgumentParser(description="Each lesson as a deck of slides.")
    parser.add_argument("names", nargs="*", help="only lessons whose name contains one of these")
    parser.add_argument("--into", type=Path, default=ROOT / "build" / "slides")
    wanted = parser.parse_args()
    paths = [notebook_of(source) for source in sources()]
    paths = [p for p in paths if not wanted.names or any(n in p.stem for n in wanted.names)]
    if not paths:
        print(f"No lesson's name contains {' or '.join(wanted.names)}.", file=sys.stderr)
        return 2
    try:
        made = decks(paths, reveal_folder(), wanted.into)
    except SlidesError as error:
        print(error, file=sys.stderr)
        return 1
    size = sum(path.stat().st_size for path in made)
    print(f"{len(made)} decks, {size / 1e6:.1f} MB: open {wanted.into / 'index.html'}")
    print("Keys: arrows, S for a second window with the time, F for the full screen, O for all.")
    return 0
