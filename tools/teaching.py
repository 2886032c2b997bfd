"""The parts of `docs/teaching.md` that follow from the sources: minutes, plans, where one stumbles.

Computing is measured; reading and exercises are estimates by a rule that the page tells. What
learners answer wrongly comes from the tables that the tests of the exercises use.
"""

import re
import runpy
from math import ceil

import jupytext
from nbformat import NotebookNode

from tools.project import ROOT, exercise_sources, sources

PAGE = ROOT / "docs" / "teaching.md"
WRONG = ROOT / "tests" / "exercises"
# Seconds that each lesson ran while its outputs were recorded: two cores, full MNIST.
MEASURED = {0: 13, 1: 225, 2: 217, 3: 460, 4: 48, 5: 205, 6: 67, 7: 60, 9: 59}
WORDS_A_MINUTE = 180  # of a text that is new, in a language that may not be one's own
SECONDS_A_CELL, SECONDS_A_LINE = 15, 3  # to run code and look at what it shows; to read it
MINUTES = {  # an exercise of this kind, with a wrong answer or two on the way
    "predict": 5,
    "fill in": 8,
    "lines in order": 6,
    "port": 15,
    "break and mend": 12,
    "explore": 20,
}
PLANS = {
    "One day": [
        ("morning, first half", (0, 1), False),
        ("morning, second half", (1,), True),
        ("afternoon, first half", (4,), False),
        ("afternoon, second half", (7,), False),
    ],
    "Six sessions": [
        ("1", (0, 1), False),
        ("2", (2,), False),
        ("3", (3,), False),
        ("4", (4,), False),
        ("5", (5,), False),
        ("6", (6, 7), False),
    ],
}
BLOCK = re.compile(r"(<!-- (minutes|plans|stumbles) -->\n).*?(<!-- /\2 -->)", re.DOTALL)


class TeachingError(ValueError):
    """The page for teachers cannot be brought up to date; the message says what is missing."""


def page() -> str:
    """Return the page for teachers with its derived parts brought up to date.

    Raises TeachingError if the page has no place for one of them, or a lesson no measured time.
    """
    parts = {"minutes": _minutes(), "plans": _plans(), "stumbles": _stumbles()}
    text = PAGE.read_text("utf-8")
    if missing := parts.keys() - {found[2] for found in BLOCK.finditer(text)}:
        raise TeachingError(f"{PAGE.name} has no place for {', '.join(sorted(missing))}.")
    return BLOCK.sub(lambda found: f"{found[1]}{parts[found[2]]}\n{found[3]}", text)


def reading(cells: list[NotebookNode]) -> float:
    """Return the minutes that it takes to read a lesson and run its cells, by the page's rule."""
    prose = " ".join(cell.source for cell in cells if cell.cell_type == "markdown")
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    looking = sum(SECONDS_A_CELL + SECONDS_A_LINE * (one.count("\n") + 1) for one in code)
    return len(re.findall(r"\w[\w'’-]*", prose)) / WORDS_A_MINUTE + looking / 60


def computing(number: int) -> float:
    """Return the minutes that a lesson computed when it was recorded.

    Raises TeachingError for a lesson whose time is not known.
    """
    if number not in MEASURED:
        raise TeachingError(
            f"Lesson {number} has no time in MEASURED: see what `make record` says."
        )
    return MEASURED[number] / 60


def exercises() -> dict[int, list[tuple[str, str]]]:
    """Return kind and title of each exercise, by the number of its lesson."""
    found = {}
    for source in exercise_sources():
        text = source.read_text("utf-8")
        told = re.findall(r'^    kind="(.+?)",\n    title="(.+?)",$', text, re.MULTILINE)
        found[int(source.stem[:2])] = told
    return found


def _lessons() -> dict[int, tuple[str, list[NotebookNode]]]:
    cells = {s: jupytext.reads(s.read_text("utf-8"), fmt="py:percent").cells for s in sources()}
    return {
        int(source.stem[:2]): (re.search(r"^# \d+\. (.+?)(?::.*)?$", own[0].source, re.M), own)
        for source, own in cells.items()
    }


def _three(number: int, cells: list[NotebookNode]) -> tuple[int, int, int]:
    """Return the minutes of a lesson: computed, read, and for its exercises."""
    own = sum(MINUTES[kind] for kind, _ in exercises().get(number, []))
    return ceil(computing(number)), round(reading(cells)), own


def _minutes() -> str:
    rows = [
        "| lesson | computing, measured | reading and running, estimated | exercises, estimated |",
        "|---|---|---|---|",
    ]
    total = [0, 0, 0]
    for number, (title, cells) in _lessons().items():
        three = _three(number, cells)
        total = [a + b for a, b in zip(total, three, strict=True)]
        name = title[1] if title else cells[0].source.splitlines()[0].lstrip("# ")
        told = f"{three[2]} min" if three[2] else "-"
        rows.append(f"| {number}. {name} | {MEASURED[number]} s | {three[1]} min | {told} |")
    rows.append(f"| all | {total[0]} min | {total[1]} min | {total[2]} min |")
    return "\n".join(rows)


def _plans() -> str:
    lessons, lines = _lessons(), []
    for plan, parts in PLANS.items():
        lines += [f"### {plan}", "", "| part | what | minutes |", "|---|---|---|"]
        whole = 0
        for part, numbers, only_exercises in parts:
            minutes = 0
            for number in numbers:
                _, read, own = _three(number, lessons[number][1])
                minutes += own if only_exercises else read + (0 if plan == "One day" else own)
            what = "exercises of lesson" if only_exercises else "lesson"
            listed = " and ".join(str(number) for number in numbers)
            plural = "s" if len(numbers) > 1 else ""
            with_own = "" if only_exercises or plan == "One day" else ", with exercises"
            lines.append(f"| {part} | {what}{plural} {listed}{with_own} | {minutes} |")
            whole += minutes
        lines += [f"| all | | {whole} |", ""]
    return "\n".join(lines).rstrip("\n")


def _stumbles() -> str:
    lines = []
    for number, told in exercises().items():
        table = runpy.run_path(str(WRONG / f"wrong_{number:02}.py"))["WRONG"]
        lines += [f"### Lesson {number}", ""]
        for index, (kind, title) in enumerate(told, 1):
            mistakes = "; ".join(_plain(name) for name in table.get(index, {}))
            lines.append(f"- **{index}. {title}** ({kind}): {mistakes}.")
        lines.append("")
    return "\n".join(lines).rstrip("\n")


def _plain(text: str) -> str:
    """Return a name as Markdown shows it as it is."""
    return re.sub(r"(\w*_\w[\w.]*)", r"`\1`", text)
