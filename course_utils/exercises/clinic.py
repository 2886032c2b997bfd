"""Patients: a raw loop, its port that went wrong, and what tells whether a mended one is well."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from html import escape

import lightning as L
import torch
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import nn

from course_utils.exercises import guard
from course_utils.exercises.asking import a_class
from course_utils.exercises.outcomes import COLOURS, Note, Outcome, framed, right, wrong
from course_utils.exercises.port import QUIET, SEED, FewDigits, grade_port
from course_utils.exercises.progress import keep, solved
from course_utils.exercises.question import Question
from course_utils.parity import Report, Trace
from course_utils.parity.named import trace_named

SEEDS = (SEED, 2718)  # of the runs that are compared: weights, digits and their order are others
NAMES = ("the loop", "the port")
FEW = 2  # epochs, where a port's flags forget to say how many: Lightning's own are a thousand
ASKED = "doctor"  # kept with a patient whose doctor, or solution, was asked


def fit(port: type[L.LightningModule], data: L.LightningDataModule) -> float | None:
    """Train a port by a Trainer with the port's own `flags`; return the `val_acc` that it logged.

    A port that logs none gives None.
    """
    lit, trainer = port(), L.Trainer(**{**QUIET, "max_epochs": FEW, **port.flags})
    looks = is_overridden("validation_step", lit)
    trainer.fit(lit, data.train_dataloader(), data.val_dataloader() if looks else None)
    said = trainer.callback_metrics.get("val_acc")
    return None if said is None else float(said)


@torch.no_grad()
def accuracy(model: nn.Module, loader: Iterable) -> float:
    """Return the share of digits that a model, in evaluation mode, gets right; the mode stays."""
    training = model.training
    model.eval()
    hits = torch.cat([model(x).argmax(1) == y for x, y in loader])
    model.train(training)
    return float(hits.float().mean())


def first_steps(first: Trace, second: Trace, names: tuple[str, str] = NAMES, count: int = 3) -> str:
    """Return a table of what costs nothing to look at: losses, rates, modes, batches, by step.

    A batch is shown by the first digits of its fingerprint: equal ones are the same batch.
    """
    rows = [f"{'step':<6}{'':<10} {'loss':>8}  {'rate':<10} {'mode':<9} batch"]
    for number in range(count):
        for run, name in zip((first, second), names, strict=True):
            if number < len(run.steps):
                rows.append(f"{number + 1:<6}{name:<10} {_looks(run, number)}")
    return "\n".join(rows)


def _looks(run: Trace, number: int) -> str:
    step, loss = run.steps[number], run.losses[number]
    rates = ", ".join(f"{rate:.4g}" for rate in step.learning_rates)
    modes = {mode for call in step.calls for mode in call.modes}
    mode = "mixed" if len(modes) > 1 else "training" if modes == {True} else "eval"
    batch = " ".join(call.inputs[0].hex()[:4] for call in step.calls)
    return f"{loss:>8.4f}  {rates:<10} {mode:<9} {batch}"


@dataclass(repr=False, kw_only=True)
class Patient(Question):
    """A port that runs, raises nothing, and does not do what its loop does.

    `loop` takes data and trains, and returns the number that it reports, or None. `port` is the
    sick LightningModule; `run(port, data)` trains one and returns what it reports. The answer is
    a mended class. Nothing that is said before `doctor` was asked names the fault.
    """

    loop: Callable[[L.LightningDataModule], float | None]
    port: type[L.LightningModule]
    run: Callable[[type, L.LightningDataModule], float | None] = fit
    model: str = "Net"  # by name: a notebook has classes of its own
    batch_size: int = 64
    kind: str = "break and mend"
    lesson: str = "09_clinic"
    expects: str = "the mended class"
    checker: Callable[..., Outcome] = None
    _kept: set[str] = field(default_factory=set, init=False)

    def __post_init__(self):
        super().__post_init__()
        self.checker = self._well

    def first_steps(self, count: int = 3) -> Note:
        """Return the first steps of the loop and of the sick port, side by side."""
        traces = []
        with guard.undisturbed():
            for train in (self.loop, lambda data: self.run(self.port, data)):
                L.seed_everything(SEEDS[0], verbose=False)
                with trace_named(self.model) as record:
                    train(self._data(SEEDS[0]))
                traces.append(record)
        return Note(f"Patient {self.number}: the first steps.", first_steps(*traces, count=count))

    def doctor(self, port: type[L.LightningModule] | None = None) -> Report | Outcome:
        """Ask the port doctor about the sick port, or about a mended one; return its report.

        Where a port cannot be run there is no report, and an outcome says why.
        """
        self._keep(ASKED)
        port = self.port if port is None else port
        outcome = guard.guarded(lambda: self._graded(port, SEEDS[0])[0], self.expects)
        return outcome.report or outcome

    def solution(self) -> Note:
        """Return the solution; the first call only asks whether it is wanted."""
        if self._asked:
            self._keep(ASKED)
        return super().solution()

    def check(self, *answers: object) -> Outcome:
        """Return whether the answer is right, and why not; how it was found is kept too."""
        outcome = super().check(*answers)
        if outcome:
            self._kept.add("mended")
        return outcome

    @property
    def mended(self) -> bool:
        """Whether a right answer was given."""
        return "mended" in self._kept or self.key in solved()

    @property
    def by_eye(self) -> bool:
        """Whether neither the doctor nor the solution was asked so far."""
        return ASKED not in self._kept and f"{self.key}.{ASKED}" not in solved()

    def _keep(self, what: str) -> None:
        self._kept.add(what)
        keep(f"{self.key}.{what}")

    def _data(self, seed: int) -> FewDigits:
        return FewDigits(seed=seed, batch_size=self.batch_size)

    def _well(self, mended: object) -> Outcome:
        port = a_class(mended, "mended", L.LightningModule)
        for seed in SEEDS:
            outcome, said = self._graded(port, seed)
            if outcome.report is None:  # no step at all, or steps in a loop of its own
                return outcome
            if not outcome:
                return self._still_sick(outcome.report)
            if not _alike(*said):
                return self._reported_otherwise(*said)
        steps, reports = outcome.report.steps[0], "" if said[0] is None else ", report included"
        return right(
            f"The loop and your port agree at all {steps} steps, from {len(SEEDS)} seeds{reports}."
        )

    def _graded(self, port: type, seed: int) -> tuple[Outcome, tuple]:
        """Return how a port compares with the loop, and what each of the two reports."""
        said = {}

        def by_hand(data: L.LightningDataModule) -> None:
            said["loop"] = self.loop(data)

        def ported(data: L.LightningDataModule) -> None:
            said["port"] = self.run(port, data)

        outcome = grade_port(
            by_hand, ported, self.model, lambda: self._data(seed), names=NAMES, seed=seed
        )
        return outcome, (said.get("loop"), said.get("port"))

    def _still_sick(self, report: Report) -> Outcome:
        first = report.first_difference
        when = "before the first step" if first.step is None else f"at step {first.step}"
        if first.what == "length":
            when = f"in their length: {report.steps[0]} steps and {report.steps[1]}"
        text = f"The loop and your port still part {when}."
        if self.by_eye:
            return wrong(f"{text} Look at it yourself, or ask `q{self.number}.doctor(Mended…)`.")
        return wrong(text, report=report)

    def _reported_otherwise(self, loop: float | None, port: float | None) -> Outcome:
        told = "nothing" if port is None else f"{port:.4f}"
        return wrong(
            "Every weight is the same at every step, and still the loop reports "
            f"{loop:.4f}, your port {told}."
        )


def _alike(one: float | None, other: float | None) -> bool:
    """Return whether two reports are the same, in whichever order they were added up."""
    return one is other if None in (one, other) else abs(one - other) < 1e-6


@dataclass(frozen=True, repr=False)
class Scoreboard:
    """Who is mended, and whether the fault was found by eye or with the doctor."""

    patients: list[Patient]

    def __str__(self) -> str:
        """Return the scoreboard as plain text, a line for each patient."""
        rows = [f"{p.number:>2}  {p.title:<34} {self._state(p)}" for p in self.patients]
        return "\n".join([*rows, self._total()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{p.number}</td><td style='text-align:left'>{escape(p.title)}</td>"
            f"<td style='text-align:left'>{self._state(p)}</td></tr>"
            for p in self.patients
        )
        return framed(f"<table>{rows}</table><p>{self._total()}</p>", COLOURS["right"])

    def _state(self, patient: Patient) -> str:
        found = "found by eye" if patient.by_eye else "found with the doctor"
        return f"mended, {found}" if patient.mended else "waiting"

    def _total(self) -> str:
        mended = [patient for patient in self.patients if patient.mended]
        by_eye = sum(patient.by_eye for patient in mended)
        return (
            f"{len(mended)} of {len(self.patients)} mended: {by_eye} found by eye, "
            f"{len(mended) - by_eye} with the doctor"
        )


def scoreboard(*patients: Patient) -> Scoreboard:
    """Return the scoreboard of some patients, as it stands now."""
    return Scoreboard(list(patients))
