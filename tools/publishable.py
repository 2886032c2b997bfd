"""What a notebook's recorded outputs must be like before anybody else sees them."""

import re
from collections.abc import Iterator

import nbformat
from nbformat import NotebookNode

from tools.build import METADATA_KEY, code_hash

MOST_BYTES, MOST_WITH_PHOTOGRAPHS = 600_000, 900_000
# A folder of somebody's machine: the usual roots, and a drive letter. Addresses (http://…) and
# fractions are not.
PATHS = re.compile(
    r"(?<![\w./:])(?:/(?:home|root|Users|usr|tmp|work|mnt|opt|var|content|private)/[\w.-]"
    r"|[A-Za-z]:\\\\?\w)"
)
WIDGETS = ("application/vnd.jupyter.widget-view+json", "application/vnd.jupyter.widget-state+json")


def problems(notebook: NotebookNode) -> list[str]:
    """Return everything that keeps a recorded notebook from being published, a line each."""
    found = list(_order(notebook))
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(code, 1):
        found += [f"cell {number}: {problem}" for problem in _outputs(cell)]
    if notebook.metadata.get(METADATA_KEY, {}).get("code") != code_hash(notebook):
        found.append("the outputs are not those of the present code: run `make record`")
    photographs = any("image/jpeg" in o.get("data", {}) for cell in code for o in cell.outputs)
    most = MOST_WITH_PHOTOGRAPHS if photographs else MOST_BYTES
    if (size := len(nbformat.writes(notebook).encode())) > most:
        found.append(f"{size:,} bytes are more than {most:,}")
    if "widgets" in notebook.metadata:
        found.append("widget state is left in the metadata")
    return found


def _order(notebook: NotebookNode) -> Iterator[str]:
    counts = [c.execution_count for c in notebook.cells if c.cell_type == "code" and c.source]
    if counts != list(range(1, len(counts) + 1)):
        yield "the code cells were not each run once, in order"


def _outputs(cell: NotebookNode) -> Iterator[str]:
    for output in cell.outputs:
        if output.output_type == "error":
            yield f"it ended in {output.ename}"
            continue
        if output.get("name") == "stderr":
            yield f"it wrote to stderr: {output.text.strip()[:80]!r}"
        if any(kind in output.get("data", {}) for kind in WIDGETS):
            yield "a widget stands where its text should"
        for text in _texts(output):
            if match := PATHS.search(text):
                where = text[max(0, match.start() - 20) : match.end() + 40]
                yield f"a path of somebody's machine is in it: {where!r}"
            if "\r" in text or "\x1b" in text:
                yield "terminal control characters are in it"


def _texts(output: NotebookNode) -> Iterator[str]:
    yield output.get("text", "")
    for kind, data in output.get("data", {}).items():
        if kind.startswith("text/") and isinstance(data, str):
            yield data
