"""What lessons claim about their own outputs: the answers of questions, and what they quote.

A lesson's first cell may quote outputs of its own in a block that begins with "```text". Lines of
it end where the output's lines end or in "…"; spaces count as one.
"""

import re
from functools import cache
from pathlib import Path

import jupytext
from nbformat import NotebookNode

from tools.questions import Question, came_out, questions_of

QUOTED = re.compile(r"^```text\n(.*?)^```", re.MULTILINE | re.DOTALL)


@cache
def lesson(source: Path) -> NotebookNode:
    """Return a lesson's source as a notebook; it is read once."""
    return jupytext.read(source)


def output_text(outputs: list[NotebookNode]) -> str:
    """Return what a cell put out, as text: what it printed, and the plain form of the rest."""
    return "".join(
        output.get("text", "") or output.get("data", {}).get("text/plain", "") + "\n"
        for output in outputs
    )


def contradiction(question: Question, text: str) -> str:
    """Return how an output contradicts the option that is marked right; "" if it does not."""
    try:
        letters = came_out(question, text)
    except ValueError as error:
        return f"{question.asked!r}: {error}"
    if letters == [question.right]:
        return ""
    marked, out = question.right, ", ".join(letters) or "none"
    said = f"{marked} is marked right; by the output it is {out}: {text[:500]!r}"
    return f"{question.asked!r}: {said}"


def broken(source: Path, code: str, text: str) -> list[str]:
    """Return, a line each, which questions an output of the cell with this code contradicts."""
    asked = (question for question, cell in questions_of(lesson(source)) if cell == code)
    return list(filter(None, (contradiction(question, text) for question in asked)))


def quotations(source: Path) -> list[str]:
    """Return the lines that a lesson's first cell quotes."""
    blocks = QUOTED.findall(lesson(source).cells[0].source)
    lines = [line.strip(" …") for block in blocks for line in block.splitlines()]
    return [" ".join(line.split()) for line in lines if line]


def missing_quotations(source: Path, text: str) -> list[str]:
    """Return, a line each, what a lesson quotes and its outputs do not have."""
    flat = " ".join(text.split())
    return [f"quoted, but not put out: {q!r}" for q in quotations(source) if q not in flat]
