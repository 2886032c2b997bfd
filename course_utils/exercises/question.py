"""One exercise: its question, its check, its hints and its solution."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from course_utils.exercises import guard
from course_utils.exercises.attempted import missing
from course_utils.exercises.copies import copied
from course_utils.exercises.lines import Lines
from course_utils.exercises.outcomes import Note, Outcome, unchecked
from course_utils.exercises.progress import keep

KINDS = ("predict", "fill in", "lines in order", "port", "break and mend", "explore")


@dataclass(repr=False)
class Question:
    """An exercise of a lesson, as its notebook uses it.

    `checker` takes the answers, one parameter each, and returns an outcome; its parameters' names
    are those that the learner reads. `expects` says in a few words what it takes. `place` is where
    the lesson tells of it, the place that is shown with a wrong answer which names no other.
    """

    number: int
    kind: str
    title: str
    lesson: str
    place: str
    expects: str
    hints: tuple[str, ...]
    takeaway: str
    checker: Callable[..., Outcome]
    ordered: Lines | None = None
    answer: str = ""  # the solution's text: set by the builder, from the worked answer
    _hinted: int = field(default=0, init=False)
    _asked: bool = field(default=False, init=False)
    _placing: object = field(default=None, init=False)  # the widget: its state outlives its cell

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"{self.kind!r} is no kind of exercise: {', '.join(KINDS)}.")

    @property
    def key(self) -> str:
        """The name under which progress is kept, as in `01_mlp.2`."""
        return f"{self.lesson}.{self.number}"

    def __repr__(self) -> str:
        """Say which exercise it is, and what can be done with it."""
        me = f"q{self.number}"
        return (
            f"Exercise {self.number}, {self.kind}: {self.title}. "
            f"{me}.check(…), {me}.hint(), {me}.solution()"
        )

    def check(self, *answers: object) -> Outcome:
        """Return whether the answers are right, and why not; what is right is kept as solved."""
        outcome = guard.guarded(lambda: self._outcome(answers), self.expects)
        if outcome.kind == "wrong":
            lesson = f"lesson {int(self.lesson[:2])}"
            outcome = replace(outcome, place=f"{lesson}, {outcome.place or self.place}")
        if outcome:
            text = f"{outcome.text} {self.takeaway}".strip()
            outcome = replace(outcome, text=text)
            keep(self.key)
        return outcome

    def _outcome(self, answers: tuple[object, ...]) -> Outcome:
        names = tuple(inspect.signature(self.checker).parameters)
        if len(answers) != len(names):
            call = f"q{self.number}.check({', '.join(names)})"
            return unchecked(f"The check takes {self.expects}: `{call}`.")
        copies = [copied(answer) for answer in answers]
        gaps = missing(dict(zip(names, copies, strict=True)))
        return self.checker(*copies) if gaps is None else gaps

    def lines(self) -> object:
        """Return the lines to be put in order, with their letters.

        In a notebook that runs it is a widget, in which they can be moved to their places; called
        again it is the same one, with what was placed. Elsewhere it is a `Lines`. Both can be
        given to the check. Raises ValueError where the exercise has none.
        """
        if self.ordered is None:
            raise ValueError(f"Exercise {self.number} has no lines to put in order.")
        if self._placing is None or self._placing.comm is None:  # none yet, or closed
            self._placing = self.ordered.widget()
        return self._placing or replace(self.ordered, placed={})

    def hint(self) -> Note:
        """Return one hint more each time, from gentle to plain."""
        self._hinted += 1
        told, all_ = min(self._hinted, len(self.hints)), len(self.hints)
        last = f" There is no hint after this one; `q{self.number}.solution()` shows an answer."
        text = f"Hint {told} of {all_}: {self.hints[told - 1]}"
        return Note(text + (last if self._hinted >= all_ else ""))

    def solution(self) -> Note:
        """Return the solution; the first call only asks whether it is wanted."""
        if not self._asked:
            self._asked = True
            return Note(
                f"Sure? A hint may be enough: `q{self.number}.hint()`. To see the solution, call "
                f"`q{self.number}.solution()` again."
            )
        return Note("One solution; others are as good if the check passes them.", self.answer)
