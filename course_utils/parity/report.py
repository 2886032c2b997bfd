"""What the port doctor says: in text, in a notebook, and as an assertion."""

import json
from dataclasses import asdict, dataclass, field
from html import escape
from math import isfinite, isnan
from textwrap import fill

from .diagnose import Diagnosis
from .looks import facts, framed

COLOURS = {"identical": "good", "equal within rounding": "close", "different": "bad"}
MARKS = {"identical": "✓", "equal within rounding": "≈", "different": "✗"}

STYLE = "".join(
    f"div.shown .{name}{{margin:0 0 6px;padding-left:10px;border-left:6px solid;"
    f"color:var(--{name})}}\n"
    for name in COLOURS.values()
)


class ParityError(AssertionError):
    """Two training runs are not identical; the message is the report's explanation.

    `report` is that report, where there is one.
    """

    def __init__(self, message: str, report: "Report | None" = None):
        super().__init__(message)
        self.report = report


@dataclass(frozen=True)
class Difference:
    """Where two runs first differ: the step (from 1; None before the first), in what, and where.

    `what` is one of: model, initial weights, parameters, batch, mode, precision, forward output,
    gradient, learning rate, optimizer, update, buffers, length, final weights, final buffers.
    `where` names the first tensor that differs, if there is one.
    """

    step: int | None
    what: str
    where: str = ""

    def __str__(self) -> str:
        """Say it as a phrase: `in the batch, at step 59`."""
        place = f" ({self.where})" if self.where else ""
        moment = "" if self.step is None else f", at step {self.step:,}"
        return f"in the {self.what}{place}{moment}"


@dataclass(frozen=True, eq=False)
class Report:
    """The comparison of two traced runs.

    `verdict` is `identical`, `equal within rounding` or `different`. `first_difference` and
    `diagnosis` are None for identical runs. `largest_difference` is the largest absolute
    difference between two final weights (None if the models cannot be compared). Two reports are
    equal if they say the same; the losses are only there to be drawn.
    """

    verdict: str
    names: tuple[str, str]
    steps: tuple[int, int]
    facts: list[tuple[str, str]]
    first_difference: Difference | None
    diagnosis: Diagnosis | None
    notes: list[str]
    largest_difference: float | None
    losses: tuple[list[float], list[float]] = field(repr=False)

    def __str__(self) -> str:
        """Return the explanation as plain text."""
        return self.explain()

    def explain(self) -> str:
        """Return the verdict, the first difference, its evidence, its usual cause and its cure."""
        lines = [f"{MARKS[self.verdict]} {self._headline()}"]
        if self.diagnosis is None:
            width = max(len(what) for what, _ in self.facts)
            lines += [f"  {what:<{width}}   equal: {extent}" for what, extent in self.facts]
        else:
            lines += [_paragraph(title, text) for title, text in self._findings()]
        return "\n".join(lines + [_paragraph("Noted", note) for note in self.notes])

    def assert_identical(self) -> None:
        """Raise `ParityError`, with the explanation, unless the verdict is `identical`."""
        if self.verdict != "identical":
            raise ParityError("\n" + self.explain(), self)

    def to_dict(self) -> dict:
        """Return what the report says as plain values, for a program.

        The keys are `verdict`, `names`, `steps` (one number for each run), `facts` (lists of two
        texts), `first_difference` (None, or `step`, `what` and `where`), `diagnosis` (None, or
        `name`, `cause`, `mend` and `evidence`), `notes`, and `largest_difference` (None where it
        is not known or not finite). Keys may be added in later versions; these stay.
        """
        return {
            "verdict": self.verdict,
            "names": list(self.names),
            "steps": list(self.steps),
            "facts": [list(fact) for fact in self.facts],
            "first_difference": self.first_difference and asdict(self.first_difference),
            "diagnosis": self.diagnosis and asdict(self.diagnosis),
            "notes": list(self.notes),
            "largest_difference": _finite(self.largest_difference),
        }

    def to_json(self) -> str:
        """Return `to_dict()` as JSON text."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)

    def __eq__(self, other: object) -> bool:
        """Return whether the other one is a report that says the same."""
        return self.to_dict() == other.to_dict() if isinstance(other, Report) else NotImplemented

    __hash__ = None

    def plot(self):
        """Draw both loss curves and the step where the runs part; return the figure."""
        from course_utils.views.plots import paired_losses

        step = self.first_difference.step if self.first_difference else None
        return paired_losses(self.losses, self.names, step)

    def _headline(self) -> str:
        who = " and ".join(self.names)
        if self.verdict == "identical":
            return f"identical: {who} agree at all {self.steps[0]:,} steps, bit for bit"
        if self.verdict == "different":
            return f"different: {who} first differ {self.first_difference}"
        return (
            f"equal within rounding: {who} agree, but for differences of up to "
            f"{self.largest_difference:.2g} in the final weights"
        )

    def _findings(self) -> list[tuple[str, str]]:
        found = self.diagnosis
        return [
            ("Diagnosis", found.name),
            *(("Evidence", line) for line in found.evidence),
            ("Usual cause", found.cause),
            ("How to mend it", found.mend),
        ]

    def _repr_html_(self) -> str:
        if self.diagnosis is None:
            rows = [(what, f"equal: {extent}") for what, extent in self.facts]
        else:
            rows = self._findings()
        rows += [("Noted", note) for note in self.notes]
        headline = f"{MARKS[self.verdict]} {escape(self._headline())}"
        said = f'<p class="{COLOURS[self.verdict]}"><b>{headline}</b></p>'
        return framed(said + facts(rows), STYLE)

    def _ipython_display_(self) -> None:
        from IPython.display import display

        bundle = {"text/html": self._repr_html_(), "text/plain": self.explain()}
        display(bundle, raw=True)
        if not any(isnan(loss) for losses in self.losses for loss in losses[:1]):
            display(self.plot())


def _finite(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None


def _paragraph(title: str, text: str) -> str:
    return fill(f"{title}: {text}", 92, initial_indent="  ", subsequent_indent="    ")
