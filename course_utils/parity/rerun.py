"""Two runs that can be made again: traced, compared, and run once more where that tells more."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace

from torch import nn

from .compare import located, report_of
from .layers import seen
from .named import trace_named
from .pair import Pair
from .record import Step
from .repeat import not_repeatable, stir
from .report import Report
from .rounding import Nudge, by_rounding, last_place, weighed
from .trace import Trace, trace
from .watch import unwatch, watch
from .wishes import Wish, wishing

MOST_RERUNS = 3
# Where layers tell more, if they were looked at.
LAYERED = ("batch", "forward output", "gradient")


def diagnose(
    run_raw: Callable[[], object],
    run_port: Callable[[], object],
    names: tuple[str, str] = ("raw loop", "Lightning"),
    model: type[nn.Module] | str | tuple | None = None,
    twice: bool = True,
) -> Report:
    """Make two runs, compare them, and make them again where that tells more.

    Each run is a function without arguments that seeds, builds and trains. Which network to watch
    is said by its class, or the class's name: `diagnose(by_hand, with_lightning, model=MyNet)` (a
    pair of two if they differ); the first one that is built is watched. Or the functions say it
    themselves by a `with trace(model)` block; of several, return the one that counts.

    Runs that are identical at once are not made again. Else each is made a second time, with
    details around the first difference, and it is looked whether it is equal to itself: a run
    that is not is diagnosed first. (`twice=False` makes it again only where details are missing.)
    Where the difference is of rounding size, the first run is made once more from weights that are
    changed in the last place, which shows how far rounding carries in this training; that decides
    between the verdicts `equal within rounding` and `different`.

    Raises TypeError if a run is no function, and ValueError if no trace of it was made.
    """
    models = model if isinstance(model, tuple) else (model, model)
    runs = [
        Run(function, name, kind)
        for function, name, kind in zip((run_raw, run_port), names, models, strict=True)
    ]
    traces, looked_at, notes = [run() for run in runs], set(), []
    for _ in range(MOST_RERUNS):
        pair = located(*traces, names)
        focus = _focus(pair)
        missing = focus and not looked_at.issuperset(focus)
        if pair.aspect in ("", "model") or not (missing or (twice and not notes)):
            break
        looked_at.update(focus or ())
        repeats = [
            located(first, run(focus, stirred=True), (run.name, f"{run.name}, run again"))
            for run, first in zip(runs, traces, strict=True)
        ]
        parted = _parted_first(pair, repeats)
        if parted is not None:
            return _unequal_to_itself(pair, parted, repeats, runs)
        traces = [_enriched(repeat.a, repeat.b) for repeat in repeats]
        notes = ["Each run was made twice, and is equal to itself."]
    report = report_of(pair)
    if notes and by_rounding(report) and len(traces[0].steps) == len(traces[1].steps):
        report = weighed(report, pair, runs[0](nudged=last_place(pair)))
    return replace(report, notes=report.notes + notes)


@dataclass
class Run:
    """A function that trains, made into one that returns the trace."""

    function: Callable[[], object]
    name: str
    model: type[nn.Module] | str | None = None

    def __post_init__(self):
        if not callable(self.function) or isinstance(self.function, nn.Module):
            kind = type(self.function).__name__
            raise TypeError(
                f"diagnose() takes two functions that train, but {self.name} is a {kind}: give a "
                "function without arguments. Two traces are for `compare()`."
            )

    def __call__(
        self, detail: range | None = None, nudged: float | None = None, stirred: bool = False
    ) -> Trace:
        """Make the run, with details of some steps.

        With `nudged` its weights begin off by that share, or by their own last place if that is
        more. With `stirred` the random generators are in other states before it than they were.
        """
        if stirred:
            stir()
        wish = Wish(detail)
        nudge = None if nudged is None else Nudge(wish, nudged)
        if nudge:
            watch(nudge)  # before the trace's own: it is to see the weights as they are then
        try:
            with wishing(wish), self._watching() as record:
                returned = self.function()
        finally:
            if nudge:
                unwatch(nudge)
        if record is not None:
            return record
        return self._chosen(returned, wish.traces)

    def _watching(self):
        if self.model is None:
            return nullcontext()
        return trace_named(self.model) if isinstance(self.model, str) else trace(self.model)

    def _chosen(self, returned: object, made: list[Trace]) -> Trace:
        if isinstance(returned, Trace):
            return returned
        made = [record for record in made if record.steps] or made
        if len(made) == 1:
            return made[0]
        if made:
            raise ValueError(
                f"{self.name} made {len(made)} traces: let its function return the one to compare."
            )
        raise ValueError(
            f"{self.name} made no trace. Say which network to watch, `diagnose(…, model=MyNet)`, "
            "or put `with trace(model):` around its training."
        )


def _focus(pair: Pair) -> range | None:
    """Return the steps of which more should be known, if there are any."""
    for index in (pair.first[0] if pair.first else None, pair.index):
        if index is None:
            continue
        around = range(max(0, index - 1), index + 1)
        bare = any(step.evidence is None for i in around for step in pair.at(i))
        if bare or (pair.aspect in LAYERED and not seen(*pair.at(index))):
            return around
    return None


def _parted_first(pair: Pair, repeats: list[Pair]) -> Pair | None:
    """Return the repetition that parts from its run, if one does, and not after the two runs."""
    parted = [repeat for repeat in repeats if repeat.aspect and not repeat.rounding]
    earliest = min(parted, key=_moment, default=None)
    if earliest is None:
        # One that only rounds otherwise each time explains a pair that differs by rounding.
        rounded = [repeat for repeat in repeats if repeat.aspect]
        return min(rounded, key=_moment, default=None)
    return earliest


def _moment(pair: Pair) -> tuple[int, int]:
    """Return when a pair parts, as something that can be compared: step, place in the order."""
    if pair.aspect in ("model", "initial weights", "precision"):
        return -1, 0
    return (pair.first[0] if pair.first else pair.common), 0


def _unequal_to_itself(pair: Pair, repeat: Pair, repeats: list[Pair], runs: list[Run]) -> Report:
    """Return the report of a run that is not equal to itself, or of what comes before that."""
    names = " and ".join(r.names[0] for r in repeats if r.aspect)
    verb = "are" if sum(bool(r.aspect) for r in repeats) > 1 else "is"
    if _moment(pair) < _moment(repeat):
        note = f"Run again, {names} {verb} not equal to {_itself(verb)}, from a later step on."
        report = report_of(pair)
    elif repeat.rounding and not pair.rounding:
        note = f"Run again, {names} {verb} equal to {_itself(verb)} only within rounding."
        report = report_of(pair)
    elif repeat.rounding:
        return _rounding_of_itself(pair, repeat, names, verb)
    else:
        run = next(run for run in runs if run.name == repeat.names[0])
        report = report_of(repeat, not_repeatable(repeat, run))
        note = f"{' and '.join(pair.names)} were not compared: {names} {verb} not repeatable."
    return replace(report, notes=[*report.notes, note])


def _itself(verb: str) -> str:
    return "itself" if verb == "is" else "themselves"


def _rounding_of_itself(pair: Pair, repeat: Pair, names: str, verb: str) -> Report:
    report = report_of(pair)
    found = replace(
        report.diagnosis,
        name="rounding",
        cause=f"{names} {verb} not equal to {_itself(verb)} either, when run again: an operation "
        "adds up in another order each time (several threads, atomic additions on a GPU).",
        mend="Nothing is wrong, as far as rounding shows it. For the same bits in each run, "
        "use `torch.use_deterministic_algorithms(True)`.",
        evidence=[
            *report.diagnosis.evidence,
            f"Two runs of {repeat.names[0]} differ by up to {repeat.largest_difference():.2g} in "
            "the final weights.",
        ],
    )
    return replace(report, diagnosis=found)


def _enriched(first: Trace, again: Trace) -> Trace:
    """Return the first trace with the steps of an equal one that were looked at more closely."""
    first.steps = [
        two if _known(two) > _known(one) else one
        for one, two in zip(first.steps, again.steps, strict=True)
    ]
    return first


def _known(step: Step) -> tuple[bool, int]:
    return step.evidence is not None, sum(len(call.layers) for call in step.calls)
