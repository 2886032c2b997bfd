"""What a check says: one of four outcomes, as text and as HTML."""

from dataclasses import dataclass
from html import escape
from textwrap import fill

MARKS = {"right": "✓", "wrong": "✗", "not attempted": "…", "cannot be checked": "?"}
HEADS = {
    "right": "Right.",
    "wrong": "Not yet.",
    "not attempted": "Not attempted yet.",
    "cannot be checked": "This cannot be checked.",
}
# Each stands out on white and on black; the text itself keeps the page's own colour.
COLOURS = {
    "right": "#009e73",
    "wrong": "#d55e00",
    "not attempted": "#0072b2",
    "cannot be checked": "#8a8a8a",
}


@dataclass(frozen=True, repr=False)
class Outcome:
    """One of four outcomes, with its reason; it counts as true only if the answer is right.

    `kind` is `right`, `wrong`, `not attempted` or `cannot be checked`; `place` says where in the
    lesson to look; `report` is the port doctor's, where it graded.
    """

    kind: str
    text: str
    place: str = ""
    report: object = None

    def __bool__(self) -> bool:
        """Return whether the answer is right."""
        return self.kind == "right"

    def __str__(self) -> str:
        """Return the outcome as plain text."""
        words = [fill(f"{MARKS[self.kind]} {HEADS[self.kind]} {self.text}", 92)]
        if self.report is not None:
            words.append(str(self.report))
        if self.place:
            words.append(f"Look again: {self.place}.")
        return "\n".join(words)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head = f"<b>{MARKS[self.kind]} {HEADS[self.kind]}</b> {with_code(self.text)}"
        report = "" if self.report is None else self.report._repr_html_()
        place = f"<p>Look again: {with_code(self.place)}.</p>" if self.place else ""
        return framed(f"<p>{head}</p>{report}{place}", COLOURS[self.kind])


class Found(Exception):  # noqa: N818 - no error: what a check has found
    """An outcome that ends a check at once, from wherever it is found."""

    def __init__(self, outcome: Outcome):
        super().__init__(outcome.text)
        self.outcome = outcome


@dataclass(frozen=True, repr=False)
class Note:
    """A few words for the learner (a hint, a solution), with code below them."""

    text: str
    code: str = ""

    def __str__(self) -> str:
        """Return the words, and the code, as plain text."""
        return fill(self.text, 92) + (f"\n\n{self.code}" if self.code else "")

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return framed(
            f"<p>{with_code(self.text)}</p>{listing(self.code)}", COLOURS["not attempted"]
        )


def right(text: str = "", report: object = None) -> Outcome:
    """Return that the answer is right; the question adds what to take from it."""
    return Outcome("right", text, report=report)


def wrong(text: str, place: str = "", report: object = None) -> Outcome:
    """Return that the answer is wrong, why, and where in the lesson to look again."""
    return Outcome("wrong", text, place, report)


def unattempted(text: str) -> Outcome:
    """Return that there is no answer yet, and what to fill in."""
    return Outcome("not attempted", text)


def unchecked(text: str) -> Outcome:
    """Return that the answer cannot be checked, and what to do about it."""
    return Outcome("cannot be checked", text)


def framed(html: str, colour: str) -> str:
    """Return HTML behind a bar of a colour, in the page's own ink."""
    style = f"border-left:6px solid {colour};padding:2px 12px;max-width:60em;color:inherit"
    return f"<div style='{style}'>{html}</div>"


def listing(code: str) -> str:
    """Return code for HTML, in lines as they are, or nothing for none."""
    return f"<pre style='background:none;color:inherit'>{escape(code)}</pre>" if code else ""


def with_code(text: str) -> str:
    """Return text for HTML, with what stands between backticks as code."""
    pieces = escape(text).split("`")
    style = "background:none;color:inherit"
    return "".join(
        f"<code style='{style}'>{p}</code>" if i % 2 else p for i, p in enumerate(pieces)
    )
