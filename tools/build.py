"""Build all that is derived from `notebooks/source`, or say what is out of date.

A lesson's notebook is its source in jupytext's percent format, the notebooks and the module of its
exercises are those of `tools.exercises`. Three tokens in the sources are filled in here:
`{{badge}}` (Open in Colab), `{{setup}}` (the set-up cell for a kernel without the package) and
`{{map}}` (the table of lessons). Recorded outputs stay as long as no code cell has changed; a
hash of the code cells, kept in the notebook's metadata, says which code they belong to.
"""

import argparse
import hashlib
import re
import sys
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode

from course_utils.files import write_whole
from tools import teaching
from tools.exercises import classroom_cells, grader, solution_cells, stub_cells
from tools.project import (
    GRADERS,
    NOTEBOOKS,
    README,
    ROOT,
    exercise_sources,
    grader_of,
    notebook_of,
    repository,
    solution_of,
    sources,
    stub_of,
    templates,
)
from tools.questions import shown

# The pins keep pip from ever exchanging the torch that is there.
SETUP = """\
# Brings the course's helper package where it is missing (as in Colab); does nothing elsewhere.
import importlib.util
import subprocess
import sys
from importlib.metadata import version

if importlib.util.find_spec("course_utils") is None:
    kept = [f"{{name}}=={{version(name)}}" for name in ("torch", "torchvision")]
    package = "loops-to-lightning @ git+{repository}"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", package, *kept], check=True)"""

BADGE = (
    "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
    "(https://colab.research.google.com/github/{name}/blob/main/notebooks/{notebook})"
)
METADATA_KEY = "loops_to_lightning"
NEIGHBOUR = re.compile(r"\[([^\]]+)\]\(\.\./[^)]+\)")  # a link to a file of the course
KEPT = ("tags", "nbgrader")  # of a cell's metadata
MAP_IN_README = re.compile(r"(?<=<!-- map -->\n).*?(?=<!-- /map -->)", re.DOTALL)


def build(source: Path) -> NotebookNode:
    """Return the notebook of a source, with the recorded outputs if they still belong to it."""
    cells = jupytext.reads(source.read_text("utf-8"), fmt="py:percent").cells
    notebook = _notebook(cells, source.stem, notebook_of(source))
    _keep_outputs(notebook, notebook_of(source))
    return notebook


def build_stub(source: Path) -> NotebookNode:
    """Return the exercise notebook with gaps; it has no outputs."""
    return _notebook(stub_cells(source), f"ex-{source.stem}", stub_of(source))


def build_solution(source: Path) -> NotebookNode:
    """Return the worked exercise notebook, with the recorded outputs if they still belong to it."""
    path = solution_of(source)
    notebook = _notebook(solution_cells(source), f"sol-{source.stem}", path)
    _keep_outputs(notebook, path)
    return notebook


def build_classroom(source: Path) -> NotebookNode:
    """Return the exercise notebook for nbgrader: with answers and checks that grade.

    It stands by itself, wherever a learner puts it: it has no badge and leads to no other file.
    """
    cells = classroom_cells(source)
    for cell in cells:
        if cell.cell_type == "markdown":
            cell.source = NEIGHBOUR.sub(r"\1", cell.source.replace("{{badge}}\n\n", ""))
    return _notebook(cells, f"class-{source.stem}", Path(f"{source.stem}.ipynb"))


def notebooks() -> dict[Path, NotebookNode]:
    """Return every notebook as its source has it, by where it belongs."""
    built = {notebook_of(source): build(source) for source in [*sources(), *templates()]}
    for source in exercise_sources():
        built |= {stub_of(source): build_stub(source), solution_of(source): build_solution(source)}
    return built


def _notebook(cells: list[NotebookNode], name: str, path: Path) -> NotebookNode:
    """Return a notebook of these cells; of their metadata, tags and nbgrader's marks stay."""
    for index, cell in enumerate(cells):
        cell.source = shown(cell, _filled(cell.source, path))
        cell.id = f"{name.replace('_', '-')}-{index:03}"[-64:]
        kept = {key: cell.metadata[key] for key in KEPT if cell.metadata.get(key)}
        cell.metadata = nbformat.from_dict(kept)
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def code_hash(notebook: NotebookNode) -> str:
    """Return the SHA-256 of all code cells, the repository's address left out of it."""
    code = "\n\0".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    return hashlib.sha256(code.replace(repository(), "").encode()).hexdigest()


def write(notebook: NotebookNode, path: Path) -> None:
    """Write a notebook whole or not at all, always in the same form."""
    nbformat.validate(notebook)
    write_whole(path, (nbformat.writes(notebook).rstrip("\n") + "\n").encode())


def course_map(prefix: str) -> str:
    """Return the table of lessons in Markdown; `prefix` leads from the reader to `notebooks/`."""
    rows = ["| lesson | what it shows | time |", "|---|---|---|"]
    for source in sources():
        text = jupytext.reads(source.read_text("utf-8"), fmt="py:percent").cells[0].source
        title = re.search(r"^# (.+)$", text, re.MULTILINE)[1]
        summary = re.search(r"^> (.+)$", text, re.MULTILINE)[1]
        minutes = re.search(r"^\*\*Time\*\*: (.+?)[.,;(]", text, re.MULTILINE)[1].strip()
        link = f"{prefix}{notebook_of(source).name}"
        rows.append(f"| [{title}]({link}) | {summary} | {minutes} |")
    return "\n".join(rows)


def readme() -> str:
    """Return the README with the table of lessons brought up to date."""
    table, text = course_map("notebooks/") + "\n", README.read_text("utf-8")
    text, found = MAP_IN_README.subn(lambda match: table, text)
    if not found:
        raise ValueError(f"{README} has no place for the course map: <!-- map --> … <!-- /map -->")
    return text


def build_all() -> None:
    """Build every notebook and grader, and what the README and the teachers' page derive."""
    for path, notebook in notebooks().items():
        write(notebook, path)
    for source in exercise_sources():
        write_whole(grader_of(source), grader(source).encode())
    write_whole(README, readme().encode())
    write_whole(teaching.PAGE, teaching.page().encode())


def stale() -> list[str]:
    """Return the names of the derived files that building would change."""
    built = notebooks()
    graders = {grader_of(source): grader(source) for source in exercise_sources()}
    paths = [path for path, notebook in built.items() if not _same(notebook, path)]
    paths += [path for path, text in graders.items() if not _reads(path, text)]
    paths += sorted(_derived() - built.keys() - graders.keys())
    texts = {README: readme(), teaching.PAGE: teaching.page()}
    paths += [path for path, text in texts.items() if not _reads(path, text)]
    return [path.relative_to(ROOT).as_posix() for path in paths]


def _derived() -> set[Path]:
    """Return all files that stand where derived ones do."""
    folders = (NOTEBOOKS, NOTEBOOKS / "exercises", NOTEBOOKS / "solutions")
    found = {path for folder in folders for path in folder.glob("*.ipynb")}
    return found | set(GRADERS.glob("lesson_*.py"))


def _filled(text: str, path: Path) -> str:
    name, notebook = repository().removeprefix("https://github.com/"), path.name
    if path.parent != NOTEBOOKS and path.parent.parent == NOTEBOOKS:
        notebook = f"{path.parent.name}/{path.name}"
    text = text.replace("{{badge}}", BADGE.format(name=name, notebook=notebook))
    text = text.replace("# {{setup}}", SETUP.format(repository=repository()))
    return text.replace("{{map}}", course_map("")) if "{{map}}" in text else text


def _keep_outputs(notebook: NotebookNode, path: Path) -> None:
    if not path.exists():
        return
    recorded = nbformat.read(path, as_version=4)
    if recorded.metadata.get(METADATA_KEY, {}).get("code") != code_hash(notebook):
        return
    notebook.metadata[METADATA_KEY] = recorded.metadata[METADATA_KEY]
    old = [cell for cell in recorded.cells if cell.cell_type == "code"]
    new = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell, before in zip(new, old, strict=True):
        cell.outputs, cell.execution_count = before.outputs, before.execution_count


def _reads(path: Path, text: str) -> bool:
    return path.exists() and path.read_text("utf-8") == text


def _same(notebook: NotebookNode, path: Path) -> bool:
    return path.exists() and nbformat.read(path, as_version=4) == notebook


def main() -> int:
    """Build, or with --check only say what is out of date."""
    parser = argparse.ArgumentParser(description="Build the notebooks from notebooks/source.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if stale")
    if not parser.parse_args().check:
        build_all()
        return 0
    names = stale()
    if names:
        print(f"Out of date: {', '.join(names)}. Run `make build`.", file=sys.stderr)
    return 1 if names else 0


if __name__ == "__main__":
    sys.exit(main())
