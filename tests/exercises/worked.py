"""The exercises of a lesson as a learner has them: with gaps, worked out, or worked out wrongly."""

import ast
import contextlib
import functools
import importlib
import io
import itertools
import linecache

from course_utils.exercises.attempted import missing
from tools.exercises import read
from tools.marks import has_answer, stub, worked
from tools.project import exercise_sources

NUMBERS = itertools.count()
SOURCES = {source.stem[:2]: source for source in exercise_sources()}


def questions(lesson):
    return importlib.import_module(f"course_utils.exercises.lessons.lesson_{lesson}").QUESTIONS


ALL = [(lesson, question.number) for lesson in SOURCES for question in questions(lesson)]
WRONG = {lesson: importlib.import_module(f"wrong_{lesson}").WRONG for lesson in SOURCES}
ALSO_RIGHT = {
    lesson: getattr(importlib.import_module(f"wrong_{lesson}"), "ALSO_RIGHT", {})
    for lesson in SOURCES
}


def question(lesson, number):
    return questions(lesson)[number - 1]


def run(code, names):
    """Run code as a cell: Python can show its lines afterwards."""
    file = f"<cell {next(NUMBERS)}>"
    linecache.cache[file] = (len(code), None, code.splitlines(keepends=True), file)
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(code, file, "exec"), names)


@functools.cache
def _names(lesson, change):
    """Return the names of a notebook after all its cells but checks and what only shows."""
    names = {"__name__": "a_notebook"}
    for cell in read(SOURCES[lesson]):
        tags = set(cell.metadata.get("tags", []))
        if cell.cell_type != "code" or tags & {"setup", "grader", "shows", "learner", "worked"}:
            continue
        if ".check(" in cell.source:
            continue
        run(change(cell.source) if has_answer(cell.source) else cell.source, names)
    return names


def with_gaps(lesson):
    return dict(_names(lesson, stub))


def solved(lesson):
    return dict(_names(lesson, worked))


def checked(lesson, number, names):
    """Return what the notebook's own check of an exercise says of these names."""
    return eval(_call(lesson, number), names)


def arguments(lesson, number):
    """Return the names that a check is given."""
    return [ast.unparse(a) for a in ast.parse(_call(lesson, number), mode="eval").body.args]


def _call(lesson, number):
    for cell in read(SOURCES[lesson]):
        for line in cell.source.splitlines():
            if cell.cell_type == "code" and line.startswith(f"q{number}.check("):
                return line
    raise AssertionError(f"lesson {lesson} checks no exercise {number}")


def edited(lesson, number, edit):
    """Return the notebook's names after an answer was changed.

    `edit` is a cell's code, or pairs of texts: what is exchanged in the worked answer.
    """
    names = solved(lesson)
    if not isinstance(edit, str):
        code = question(lesson, number).answer
        pairs = [edit] if isinstance(edit[0], str) else edit
        for old, new in pairs:
            assert old in code, f"{old!r} is not in the answer"
            code = code.replace(old, new)
        edit = code
    run(edit, names)
    return names


def untouched(lesson, number, names):
    return missing({name: names[name] for name in arguments(lesson, number)})
