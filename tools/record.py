"""Build the notebooks and record their outputs: `python -m tools.record [NAME ...]`.

Set COURSE_DATA_DIR to a folder with full MNIST, or let the course find it. A notebook is written
only if it ran without an error and its outputs are fit to publish.
"""

import argparse
import base64
import io
import sys
import tempfile
from pathlib import Path

from nbformat import NotebookNode
from PIL import Image

from tools.build import METADATA_KEY, build_all, code_hash, write
from tools.execute import NoLoopbackError, check_loopback, digits_decided, execute
from tools.project import NOTEBOOKS, recorded
from tools.publishable import WIDGETS, problems

# A picture of more colours than this is a photograph: 64 would be too few for it.
PHOTOGRAPHIC = 8_000


def record(path: Path) -> list[str]:
    """Run a notebook and write it with its outputs; return what kept it from being written."""
    with tempfile.TemporaryDirectory() as folder:
        run = execute(path, Path(folder))
    if run.error:
        return [run.error]
    notebook = run.notebook
    without_widgets(notebook)
    with_small_pictures(notebook)
    notebook.metadata["language_info"] = {"name": "python"}
    notebook.metadata[METADATA_KEY] = {"code": code_hash(notebook)}
    found = problems(notebook)
    if not found:
        write(notebook, path)
        name = f"{path.parent.name}/{path.name}"
        print(f"{name}: recorded in {run.seconds:.0f} s, {path.stat().st_size / 1000:.0f} kB")
    return found


def with_small_pictures(notebook: NotebookNode) -> None:
    """Store photographs as JPEG, and other pictures with 64 colours where that is smaller."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" not in data:
                continue
            picture = data.pop("image/png")
            image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
            if image.getcolors(PHOTOGRAPHIC) is None:
                data["image/jpeg"] = _encoded(image, format="jpeg", quality=85)
            else:
                few = image.quantize(64, dither=Image.Dither.NONE)
                data["image/png"] = min(picture, _encoded(few, format="png"), key=len)


def _encoded(image: Image.Image, **options: object) -> str:
    file = io.BytesIO()
    image.save(file, optimize=True, **options)
    return base64.b64encode(file.getvalue()).decode()


def without_widgets(notebook: NotebookNode) -> None:
    """Take out what only lives while a kernel runs; what a widget says in words stays.

    A lesson shows a picture beside each widget.
    """
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if _lasts(o.get("data", {}))]


def _lasts(data: dict) -> bool:
    """Take a widget out of an output; return whether the output is no widget, or has words too."""
    return data.pop(WIDGETS[0], None) is None or "text/html" in data


def main() -> int:
    """Build everything, then record the chosen lessons."""
    parser = argparse.ArgumentParser(description="Build and execute the notebooks.")
    parser.add_argument("names", nargs="*", help="only lessons whose name contains one of these")
    wanted = parser.parse_args().names
    try:
        check_loopback()
    except NoLoopbackError as error:
        print(error, file=sys.stderr)
        return 2
    build_all()
    failed = False
    with digits_decided() as digits:
        if digits.train != 60_000:
            print(f"Full MNIST is needed, but there is only {digits}.", file=sys.stderr)
            return 1
        for path in recorded():
            if wanted and not any(name in path.stem for name in wanted):
                continue
            for problem in record(path):
                failed = True
                name = path.relative_to(NOTEBOOKS).as_posix()
                print(f"{name}: not recorded: {problem}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
