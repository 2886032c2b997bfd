"""What a finder returns, and what several finders measure."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from ..chance import parted
from ..near import FIT, relative_gap
from ..pair import Pair
from ..record import SOURCES, Step
from ..trace import Trace


@dataclass(frozen=True)
class Diagnosis:
    """One fault: its short name, what usually causes it, how to mend it, and what shows it."""

    name: str
    cause: str
    mend: str
    evidence: list[str] = field(default_factory=list)


Finder = Callable[[Pair], Diagnosis | None]

PASSES = "{} forward passes since the step before that no backward pass used"


def fits(found: Tensor, expected: Tensor) -> bool:
    """Return whether a sketch or sample is what was expected, as exactly as a fault makes it."""
    return float(expected.norm()) > 0 and relative_gap(expected, found) < FIT


def previous(trace: Trace, index: int) -> Step | None:
    """Return the step before `index` that the same optimizer took."""
    number = trace.steps[index].optimizer
    earlier = (step for step in reversed(trace.steps[:index]) if step.optimizer == number)
    return next(earlier, None)


def evaluations(pair: Pair) -> tuple[int, int]:
    """Return how many forward passes of the step no backward pass used, in each run."""
    a, b = (step.evaluations for step in pair.steps)
    return a, b


def agreement(pair: Pair) -> str:
    """Say how many batches were equal before the one that differs."""
    if pair.index == 0:
        return "The very first batch differs."
    return f"The first {pair.index:,} batches are equal."


def numbers(values: tuple) -> str:
    """Return learning rates or losses as text."""
    return ", ".join(_number(value, 6) for value in values)


def told_apart(a: tuple, b: tuple) -> tuple[str, str]:
    """Return two lists of learning rates as text, with as many digits as tell them apart."""
    for digits in (6, 9, 17):
        shown = [", ".join(_number(value, digits) for value in side) for side in (a, b)]
        if shown[0] != shown[1]:
            break
    return tuple(shown)


def _number(value: object, digits: int) -> str:
    return f"{value:.{digits}g}" if isinstance(value, (int, float)) else str(value)


def random_before(step: Step) -> bytes:
    """Return the states of the random generators before the step's first pass."""
    return step.calls[0].random if step.calls else step.random


def equal_in(pair: Pair, *aspects: str) -> list[str]:
    """Return those aspects of the step that were seen in both runs, and are equal.

    `weights` are those before the step.
    """
    return [aspect for aspect in aspects if _equal(pair, aspect)]


def _equal(pair: Pair, aspect: str) -> bool:
    if aspect == "weights":
        changed = any(step.changed for step in pair.steps)
        return not changed and (not pair.index or not pair.differs("update", pair.index - 1))
    calls = [step.calls for step in pair.steps]
    if not all(calls) or pair.differs(aspect, pair.index):
        return False
    if aspect == "forward output":
        return pair.same_output(pair.index)
    return aspect != "batch" or all(call.inputs for side in calls for call in side)


def sentence(equal: list[str], rest: str = "") -> list[str]:
    """Say that these are equal, in a sentence, if there are any."""
    if not equal:
        return []
    text = ", ".join(equal[:-1]) + " and " + equal[-1] if len(equal) > 1 else equal[0]
    return [f"{text.capitalize()} {'are' if len(equal) > 1 else 'is'} equal{rest}."]


def other_drawn(pair: Pair) -> list[str]:
    """Return the generators from which the model draws, and whose states differ in the step."""
    calls = [call for trace in pair.traces for step in trace.steps for call in step.calls]
    drawn = {name for call in calls for name, drew in zip(SOURCES, call.drew, strict=False) if drew}
    return [name for name in other_random(pair) if name in drawn]


def other_random(pair: Pair) -> list[str]:
    """Return the generators whose states differ before the step's first forward pass."""
    a, b = map(random_before, pair.steps)
    return [name for name, differ in zip(SOURCES, parted(a, b), strict=True) if differ]


def random_parted(pair: Pair) -> tuple[int, str, list[str]] | None:
    """Return where the random generators part that are in other states at the end.

    That is the step before whose update the runs part, or the last one. Of several generators the
    one is named that parts last: one that was in another state all along has done no harm until
    then. Returned are step, moment and generators; the moment is `before the trace`, `validation`
    (before or during the passes that no backward pass used), `forward` (before the step's first
    pass), `backward` (between that and the update). None if the states are equal at the end.
    """
    found = _moments(pair)
    now = _different(*found[-1][2:])
    starts = {}
    for source in now:
        ago = (source not in _different(*moment[2:]) for moment in reversed(found))
        starts[source] = len(found) - next((back for back, equal in enumerate(ago) if equal),
                                           len(found))  # fmt: skip
    if not starts:
        return None
    start = max(starts.values())
    index, moment, *_ = found[start]
    return index, moment, [source for source in now if starts[source] == start]


def _moments(pair: Pair) -> list[tuple[int, str, bytes, bytes]]:
    """Return the states of both runs at each moment up to the step at which they part."""
    found = [(0, "before the trace", pair.a.seed, pair.b.seed)]
    last = pair.common - 1 if pair.index is None else pair.index
    for index in range(last + 1):
        a, b = pair.at(index)
        if a.evidence and b.evidence:
            both = zip(a.evidence.evaluations, b.evidence.evaluations, strict=False)
            found += [(index, "validation", one.random, other.random) for one, other in both]
        found.append((index, "forward", random_before(a), random_before(b)))
        if index < last:
            found.append((index, "backward", a.random, b.random))
    return [moment for moment in found if moment[2] and moment[3]]


def _different(a: bytes, b: bytes) -> list[str]:
    return [name for name, differ in zip(SOURCES, parted(a, b), strict=True) if differ]


def listed(names: list[str]) -> str:
    """Return names as a phrase: `torch's and NumPy's`."""
    owned = [f"{name}'s" for name in names]
    return " and ".join([", ".join(owned[:-1]), owned[-1]] if len(owned) > 1 else owned)


def shortened(items: list, most: int = 4) -> str:
    """Return a list as text, cut off after a few items."""
    return ", ".join(map(str, items[:most])) + (", …" if len(items) > most else "")
