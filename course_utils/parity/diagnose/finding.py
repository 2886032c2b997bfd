"""What a finder returns, and what several finders measure."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from ..chance import parted
from ..pair import FIT, Pair, relative_gap
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
    return ", ".join(f"{v:.6g}" if isinstance(v, (int, float)) else str(v) for v in values)


def random_before(step: Step) -> bytes:
    """Return the states of the random generators before the step's first pass."""
    return step.calls[0].random if step.calls else step.random


def other_random(pair: Pair) -> list[str]:
    """Return the generators whose states differ before the step's first forward pass."""
    a, b = map(random_before, pair.steps)
    return [name for name, differ in zip(SOURCES, parted(a, b), strict=True) if differ]


def random_parted(pair: Pair) -> tuple[int, str, list[str]] | None:
    """Return where the states of random generators first differ: step, moment, generators.

    The moment is `before the trace`, `validation` (before or during the passes that no backward
    pass used), `forward` (before the step's first pass), `backward` (between that and the update).
    """
    if parted(pair.a.seed, pair.b.seed) != (False,) * 3:
        return 0, "before the trace", _different(pair.a.seed, pair.b.seed)
    last = pair.common - 1 if pair.index is None else pair.index
    for index in range(last + 1):
        a, b = pair.at(index)
        if a.evidence and b.evidence:
            for one, other in zip(a.evidence.evaluations, b.evidence.evaluations, strict=False):
                if one.random != other.random:
                    return index, "validation", _different(one.random, other.random)
        one, other = random_before(a), random_before(b)
        if one != other:
            return index, "forward", _different(one, other)
        if a.random != b.random and index < last:
            return index, "backward", _different(a.random, b.random)
    return None


def _different(a: bytes, b: bytes) -> list[str]:
    return [name for name, differ in zip(SOURCES, parted(a, b), strict=True) if differ]


def listed(names: list[str]) -> str:
    """Return names as a phrase: `torch's and NumPy's`."""
    owned = [f"{name}'s" for name in names]
    return " and ".join([", ".join(owned[:-1]), owned[-1]] if len(owned) > 1 else owned)


def shortened(items: list, most: int = 4) -> str:
    """Return a list as text, cut off after a few items."""
    return ", ".join(map(str, items[:most])) + (", …" if len(items) > most else "")
