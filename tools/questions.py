r"""Questions to answer before a cell is run: written in a plain form, shown folded, and proved.

A Markdown cell with the tag `question` stands before the code cell whose output answers it:

    How large is the loss of an untrained network?

    - 0
      if: loss < 0.1
      What somebody who chooses this has not seen yet.
    + About 2.3
      if: 2 < loss < 2.6
      Why it is so.

    read: loss: (?P<loss>[\d.]+)

`+` marks the right option. Each `read:` is a regular expression that must be found in the output;
its named groups (numbers where they look like numbers) and `text`, the whole output, are what the
`if:` of each option is evaluated with. Exactly the option with `+` must come out true: on the
recorded outputs as on those of a run, `came_out` says which do. Plain `<details>` show it, which
need neither kernel nor script: notebooks, pages and GitHub fold them alike.
"""

import html
import re
from dataclasses import dataclass

from nbformat import NotebookNode

TAG = "question"
LETTERS = "ABCDEFG"
OPTION = re.compile(r"^([-+]) ", re.MULTILINE)


@dataclass(frozen=True)
class Option:
    """One answer to choose: its words, when it would be right, and what to learn from it."""

    letter: str
    words: str
    condition: str
    lesson: str
    right: bool


@dataclass(frozen=True)
class Question:
    """A question, its options, and how the answer is read off the output of the next cell."""

    asked: str
    options: tuple[Option, ...]
    patterns: tuple[str, ...]

    @property
    def right(self) -> str:
        """The letter of the option that is marked right."""
        return next(option.letter for option in self.options if option.right)


def parse(text: str) -> Question:
    """Read a question in its plain form; raise ValueError that says what it lacks."""
    body = "\n".join(line for line in text.splitlines() if not line.startswith("read:"))
    patterns = tuple(re.findall(r"^read: (.+)$", text, re.MULTILINE))
    asked, *pieces = OPTION.split(body)
    found = zip(LETTERS, pieces[::2], pieces[1::2], strict=False)
    options = tuple(_option(*parts) for parts in found)
    question = Question(" ".join(asked.split()), options, patterns)
    for lacks, what in (
        (not question.asked, "words before its first option"),
        (
            not 2 <= len(pieces) // 2 <= len(LETTERS),
            f"2 to {len(LETTERS)} options, - or + before each",
        ),
        (sum(option.right for option in options) != 1, "one option marked right, by +"),
        (not patterns, "a line `read: pattern` for the output of the next cell"),
    ):
        if lacks:
            raise ValueError(f"The question {question.asked[:60]!r} needs {what}.")
    return question


def _option(letter: str, mark: str, piece: str) -> Option:
    lines = [line.strip() for line in piece.strip().splitlines()]
    if len(lines) < 3 or not lines[1].startswith("if: "):
        raise ValueError(f"The option {lines[0]!r} needs a line `if: condition`, then its answer.")
    condition, lesson = lines[1].removeprefix("if: "), " ".join(lines[2:])
    return Option(letter, lines[0], condition, lesson, right=mark == "+")


def shown(cell: NotebookNode, text: str) -> str:
    """Return what a notebook shows for a cell with this text: a question is folded."""
    return folded(text) if TAG in cell.metadata.get("tags", []) else text


def folded(text: str) -> str:
    """Return a question in plain form as HTML: options to open, and behind each its answer."""
    question = parse(text)
    parts = [f"<blockquote>\n<p><b>Predict, then run.</b> {_inline(question.asked)}</p>"]
    for option in question.options:
        verdict = "✓ <b>Yes.</b>" if option.right else "✗ <b>No.</b>"
        parts.append(
            f"<details>\n<summary><b>{option.letter}</b>&ensp;{_inline(option.words)}</summary>\n"
            f"<p>{verdict} {_inline(option.lesson)}</p>\n</details>"
        )
    return "\n".join([*parts, "</blockquote>"])  # no blank line: Markdown would end the HTML there


def _inline(text: str) -> str:
    """Return a line of Markdown with `code`, **bold** and *italics* as HTML."""
    pieces = re.split(r"`([^`]+)`", html.escape(text, quote=False))
    for number, piece in enumerate(pieces):
        if number % 2:
            pieces[number] = f"<code>{piece}</code>"
        else:
            bold = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", piece)
            pieces[number] = re.sub(r"\*(.+?)\*", r"<i>\1</i>", bold)
    return "".join(pieces)


def questions_of(source: NotebookNode) -> list[tuple[Question, str]]:
    """Return the questions of a lesson's source, each with the code of the cell that answers it."""
    found, waiting = [], []
    for cell in source.cells:
        if TAG in cell.metadata.get("tags", []):
            waiting.append(parse(cell.source))
        elif cell.cell_type == "code":
            found += [(question, cell.source) for question in waiting]
            waiting = []
    if waiting:
        raise ValueError(f"No cell answers the question {waiting[0].asked[:60]!r}.")
    return found


def came_out(question: Question, text: str) -> list[str]:
    """Return the letters of the options that an output says are right.

    Raises ValueError if a pattern of the question is not found in it.
    """
    values = {"text": text}
    for pattern in question.patterns:
        match = re.search(pattern, text)
        if match is None:
            raise ValueError(f"{pattern!r} is not in the output: {text[:500]!r}")
        values |= {name: _number(value) for name, value in match.groupdict().items()}
    return [
        option.letter
        for option in question.options
        if eval(option.condition, {"__builtins__": {"abs": abs, "len": len}}, dict(values))
    ]


def _number(value: str) -> float | str:
    try:
        return float(value.replace(",", ""))
    except ValueError:
        return value
