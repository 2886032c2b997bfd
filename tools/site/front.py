"""What the first page shows, taken from the lessons: their code and their recorded outputs."""

import ast
import base64
import io
import re
from html import escape
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from PIL import Image

from course_utils.views import side_by_side
from tools.project import NOTEBOOKS

MLP, STYLE = "01_mlp", "05_style_transfer"
# The cells that are shown, by a piece of their code.
PROOF, BROKEN, PICTURES = "report = compare(raw, port)", "forgetful, port", "photo_rows(rows"
WIDEST = 1200  # pixels, of the style picture


class FrontError(ValueError):
    """A lesson no longer has what the first page shows of it."""


def lesson(name: str) -> NotebookNode:
    """Return a lesson's notebook."""
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


def cell(notebook: NotebookNode, code: str) -> NotebookNode:
    """Return the code cell that holds a piece of code; raises FrontError if none does."""
    for found in notebook.cells:
        if found.cell_type == "code" and code in found.source:
            return found
    raise FrontError(f"The first page shows the cell with {code!r}, and no cell has it now.")


def loop_and_port(notebook: NotebookNode) -> str:
    """Return lesson 1's loop beside its port, as HTML: what happens to one batch."""
    loop = _definition(notebook, "train_epoch")
    port = [
        _definition(notebook, "LitMLP", name) for name in ("training_step", "configure_optimizers")
    ]
    return side_by_side(loop, "\n\n\n".join(port))._repr_html_()


def _definition(notebook: NotebookNode, *path: str) -> str:
    """Return the source of a function, or of a method, that a cell defines."""
    starts = ("class ", "def ")
    source = next(
        c.source for start in starts for c in notebook.cells
        if c.cell_type == "code" and f"{start}{path[0]}(" in c.source
    )  # fmt: skip
    body = ast.parse(source).body
    for name in path:
        node = next(n for n in body if getattr(n, "name", "") == name)
        body = node.body
    lines = source.splitlines()[node.lineno - 1 : node.end_lineno]
    return "\n".join(line[node.col_offset :] for line in lines)


def proof(notebook: NotebookNode) -> str:
    """Return the report on lesson 1's loop and port, as HTML; empty if it is not recorded."""
    outputs = cell(notebook, PROOF).outputs
    return next((o.data["text/html"] for o in outputs if "text/html" in o.get("data", {})), "")


def broken(notebook: NotebookNode) -> str:
    """Return what the doctor says of lesson 1's forgetful loop; empty if it is not recorded."""
    found = cell(notebook, BROKEN)
    return "".join(o.get("text", "") for o in found.outputs).strip()


def style_picture(notebook: NotebookNode) -> bytes | None:
    """Return lesson 5's photographs and paintings as JPEG; None if they are not recorded."""
    for output in cell(notebook, PICTURES).outputs:
        data = output.get("data", {})
        for kind in ("image/jpeg", "image/png"):
            if kind in data:
                return _smaller(base64.b64decode(data[kind]))
    return None


def _smaller(picture: bytes) -> bytes:
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    image.thumbnail((WIDEST, WIDEST))
    file = io.BytesIO()
    image.save(file, format="jpeg", quality=85, optimize=True)
    return file.getvalue()


def filled(text: str, pictures: Path) -> str:
    """Return the first page with its tokens filled in; the style picture goes into a folder.

    What is not recorded is left out, with the section that stands around its token.
    """
    first, last = lesson(MLP), lesson(STYLE)
    picture = style_picture(last)
    if picture:
        (pictures / "style.jpg").write_bytes(picture)
    parts = {
        "side_by_side": loop_and_port(first),
        "proof": proof(first),
        "broken": f"<pre>{escape(broken(first))}</pre>" if broken(first) else "",
        "style": "_static/style.jpg" if picture else "",
    }
    for name, html in parts.items():
        section = re.compile(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->\n", re.DOTALL)
        if not section.search(text):
            raise FrontError(f"site/index.md has no section <!-- {name} --> … <!-- /{name} -->.")
        text = section.sub(lambda found, html=html, name=name: html and found[1].replace(
            f"{{{{{name}}}}}", html), text)  # fmt: skip
    return text
