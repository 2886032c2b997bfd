"""Where a lesson's cells begin a slide: by their headings and by what fits, so without tags.

A heading of the first or second level begins a slide, one of the third a slide below it. What
follows stays there as long as it fits; a cell for which there is no room begins one more below, and
takes along the sentence that leads to it.
"""

import re
from math import ceil

from nbformat import NotebookNode

ROOM = 24  # lines of text that a slide shows
FEW = 5  # lines, as of a heading and a sentence: what follows them stays with them
WIDE = 95  # characters that a line of prose holds
PICTURE, HTML, LONGEST_OUTPUT = 15, 10, 16  # lines that an output takes; a longer one scrolls
SKIPPED = {"setup", "learner", "grader"}
HEADING = re.compile(r"^(#{1,3}) ", re.MULTILINE)


def slide_types(cells: list[NotebookNode]) -> list[str]:
    """Return for each cell what nbconvert is to make of it.

    It is `slide`, `subslide`, `-` (goes on where the cell before was) or `skip`.
    """
    kinds, filled = [], 0.0
    for index, cell in enumerate(cells):
        needs = lines(cell)
        if SKIPPED & set(cell.metadata.get("tags", [])) or not cell.source.strip():
            kinds.append("skip")
            continue
        level = _level(cell)
        after = cells[index + 1] if index + 1 < len(cells) else None
        together = needs + (lines(after) if _leads_to(cell, after) else 0)
        if not any(kind != "skip" for kind in kinds) or level in (1, 2):
            kinds.append("slide")
        elif level == 3 or (filled + together > ROOM and filled > FEW):
            kinds.append("subslide")
        else:
            kinds.append("-")
        filled = needs if kinds[-1] != "-" else filled + needs
    return kinds


def _leads_to(cell: NotebookNode, after: NotebookNode | None) -> bool:
    """Return whether a cell is prose with code after it: the two stay on one slide."""
    return cell.cell_type == "markdown" and after is not None and after.cell_type == "code"


def lines(cell: NotebookNode) -> float:
    """Return about how many lines of a slide a cell takes, its outputs included."""
    if cell.cell_type != "code":
        return sum(_prose(line) for line in _paragraphs(cell.source))
    return cell.source.count("\n") + 1.8 + sum(map(_output, cell.get("outputs", [])))


def _paragraphs(text: str) -> list[str]:
    """Return prose by paragraph, as a page joins the lines; lists and tables line by line."""
    joined = re.sub(r"(?<=[^\n|])\n(?=[^\n\s#|*\-<0-9`])", " ", text)
    return joined.splitlines()


def _prose(line: str) -> float:
    if HEADING.match(line):
        return 2.2
    return ceil(len(line) / WIDE) if line.strip() else 0.7


def _output(output: NotebookNode) -> float:
    data = output.get("data", {})
    if any(kind.startswith("image/") for kind in data):
        return PICTURE
    if "text/html" in data:
        return HTML
    text = output.get("text", "") or data.get("text/plain", "")
    return min(text.count("\n") + 1.0, LONGEST_OUTPUT)


def _level(cell: NotebookNode) -> int:
    found = HEADING.match(cell.source) if cell.cell_type == "markdown" else None
    return len(found[1]) if found else 0
