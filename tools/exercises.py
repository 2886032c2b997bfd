"""What is built from a source in `notebooks/source/exercises`.

Of its cells, one tagged `grader` goes into the module that checks the answers, and into no
notebook; one tagged `given` into both (a loop that is shown, and that the check runs too); one
tagged `learner` only into the notebook with the gaps, one tagged `worked` only into the other. A
cell with marks is an answer: it belongs to the next `qN.check(…)`.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import jupytext
from nbformat import NotebookNode

from tools.marks import MarkError, has_answer, stub, worked

CHECK = re.compile(r"^q(\d+)\.check\(", re.MULTILINE)
HEAD = '''\
"""The questions of lesson {number}. Built from exercises/{name}: never edit."""

'''
SCHEMA = 3  # of nbgrader's metadata


class SourceError(ValueError):
    """A source of exercises is not of the form that CONTRIBUTING.md tells."""


def read(source: Path) -> list[NotebookNode]:
    """Return the cells of a source, without the empty lines that its formatter wants around."""
    cells = jupytext.reads(source.read_text("utf-8"), fmt="py:percent").cells
    for cell in cells:
        cell.source = cell.source.strip("\n")
    return cells


def stub_cells(source: Path) -> list[NotebookNode]:
    """Return the cells of the notebook with gaps, marked for nbgrader.

    Raises SourceError where the source is not of the form that it should be.
    """
    return list(_for_nbgrader(source, without=("grader", "worked"), change=stub))


def classroom_cells(source: Path) -> list[NotebookNode]:
    """Return the cells from which nbgrader makes a learner's notebook, and by which it grades.

    Answers are there, between their marks. A check's cell shows what the check says; only when it
    is graded it fails, too, unless the answer is right, and asks the question anew, whatever the
    learner has called by its name.
    """
    cells = list(_for_nbgrader(source, without=("grader", "worked"), change=_with_marks))
    module = f"course_utils.exercises.lessons.lesson_{source.stem[:2]}"
    for cell in cells:
        if (number := _checked(cell)) is not None:
            call, *rest = cell.source.splitlines()
            hints = [line for line in rest if line.startswith("#")]
            again = f"from {module} import q{number}"
            shown = [f"outcome = {call}", "display(outcome)"]
            graded = "assert outcome.kind == 'right', outcome.kind"
            cell.source = "\n".join([*_hidden(again), *shown, *hints, *_hidden(graded)])
    return cells


def _for_nbgrader(source: Path, without: tuple[str, ...], change) -> Iterator[NotebookNode]:
    number, answers = 1, 0
    for cell in _shown(source, without):
        if has_answer(cell.source):
            cell.source, answers = _marked(source, change, cell.source), answers + 1
            name = f"q{number}-answer" + (f"-{answers}" if answers > 1 else "")
            _mark(cell, name, solution=True)
        elif (found := _checked(cell)) is not None:
            _mark(cell, f"q{found}-check", grade=True, locked=True, points=1)
            number, answers = found + 1, 0
        yield cell


def _with_marks(code: str) -> str:
    stub(code)  # raises where the marks make no stub
    return code


def _hidden(line: str) -> list[str]:
    """Return a line that nbgrader takes out of the learner's version, and puts back to grade."""
    return ["### BEGIN HIDDEN TESTS", line, "### END HIDDEN TESTS"]


def solution_cells(source: Path) -> list[NotebookNode]:
    """Return the cells of the worked notebook; what its checks say is compared in the tests."""
    cells = []
    for cell in _shown(source, without=("grader", "learner")):
        if has_answer(cell.source):
            cell.source = _marked(source, worked, cell.source)
        elif _checked(cell) is not None:
            lines = [line for line in cell.source.splitlines() if not re.match(r"# q\d+\.", line)]
            cell.source = "\n".join(["# NBVAL_CHECK_OUTPUT", *lines])
        cells.append(cell)
    return cells


def grader(source: Path) -> str:
    """Return the text of the module that checks a source's answers.

    Raises SourceError if a cell but the first one imports, or if a question has no worked answer.
    """
    parts = [c.source for c in read(source) if _tags(c) & {"grader", "given"}]
    for part in parts[1:]:
        if any(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.parse(part).body):
            raise SourceError(
                f"{source.name}: imports of graders stand in the first cell tagged `grader`, and "
                f"this one has some too:\n{part[:200]}"
            )
    numbers = _numbers(parts)
    answers = answers_of(source)
    if sorted(answers) != numbers or numbers != list(range(1, len(numbers) + 1)):
        raise SourceError(
            f"{source.name}: it has questions {numbers}, and worked answers with a check for "
            f"{sorted(answers)}. Each question, from 1 on, has both."
        )
    tail = "\n".join(f"q{n}.answer = {_quoted(source, answers[n])}" for n in numbers)
    listed = ", ".join(f"q{n}" for n in numbers)
    head = HEAD.format(number=int(source.stem[:2]), name=source.name)
    comment = "# What q.solution() shows: the answer cells, worked out."
    imports, *rest = [*parts, f"{comment}\n{tail}\nQUESTIONS = [{listed}]"]
    below = "\n\n\n" if rest[0].startswith(("def ", "class ", "@")) else "\n\n"
    return head + imports + below + "\n\n\n".join(rest) + "\n"


def answers_of(source: Path) -> dict[int, str]:
    """Return the worked answer of each question, by its number."""
    answers, waiting = {}, []
    for cell in _shown(source, without=("grader",)):
        if has_answer(cell.source):
            waiting.append(_marked(source, worked, cell.source))
        elif (number := _checked(cell)) is not None and waiting:
            answers[number], waiting = "\n\n".join(waiting), []
    return answers


def _shown(source: Path, without: tuple[str, ...]) -> Iterator[NotebookNode]:
    for cell in read(source):
        if not _tags(cell) & set(without):
            yield cell


def _tags(cell: NotebookNode) -> set[str]:
    return set(cell.metadata.get("tags", []))


def _checked(cell: NotebookNode) -> int | None:
    found = CHECK.search(cell.source) if cell.cell_type == "code" else None
    return int(found[1]) if found else None


def _numbers(parts: list[str]) -> list[int]:
    found = re.findall(r"^q(\d+) = (?:Question|Patient)\(", "\n".join(parts), re.MULTILINE)
    return [int(number) for number in found]


def _marked(source: Path, change, code: str) -> str:
    try:
        return change(code)
    except MarkError as error:
        raise SourceError(f"{source.name}: {error}") from None


def _quoted(source: Path, answer: str) -> str:
    if '"""' in answer:
        raise SourceError(f"{source.name}: an answer with three double quotes cannot be kept.")
    return '"""\\\n' + answer.replace("\\", "\\\\") + '\n"""'


def _mark(cell: NotebookNode, name: str, **values: object) -> None:
    cell.metadata["nbgrader"] = {
        "grade": False,
        "grade_id": name,
        "locked": False,
        "schema_version": SCHEMA,
        "solution": False,
        "task": False,
        **values,
    }
