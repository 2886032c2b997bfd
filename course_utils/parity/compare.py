"""From two traces to a report."""

import torch

from .diagnose import diagnose, surroundings
from .pair import Pair
from .report import Diagnosis, Difference, Report
from .trace import Trace

NO_STEPS = (
    "{name} recorded no optimizer step, so there is nothing to compare. Put the training inside "
    "the `with trace(model)` block, and trace the very model whose parameters the optimizer has."
)

BY_HAND = (
    "{name} recorded no optimizer step, but its weights change after `backward()`: the loop "
    "updates them by hand (as `p -= lr * p.grad`), and such steps cannot be seen. Let "
    "`torch.optim.SGD(model.parameters(), lr)` make the same update, and trace that."
)


def compare(
    first: Trace,
    second: Trace,
    names: tuple[str, str] = ("raw loop", "Lightning"),
    losses: tuple[list[float], list[float]] | None = None,
) -> Report:
    """Return the report of where two traced runs first differ, in what, and why.

    The verdict is `identical` (the same gradients, weights and buffers at every step, bit for
    bit), `equal within rounding`, or `different`. `names` says what the report calls the two
    runs. `losses`, one list for each run, replaces the losses that the traces saw in the plot.
    Raises TypeError for anything but two traces and ValueError for a trace without steps.
    """
    return report_of(located(first, second, names), losses=losses)


def located(first: Trace, second: Trace, names: tuple[str, str]) -> Pair:
    """Return two traces side by side, with the place where they part.

    Raises TypeError for anything but two traces and ValueError for a trace without steps.
    """
    for trace, name in zip((first, second), names, strict=True):
        _check(trace, name)
    pair = Pair(first, second, names)
    _find(pair)
    return pair


def report_of(
    pair: Pair,
    diagnosis: Diagnosis | None = None,
    losses: tuple[list[float], list[float]] | None = None,
) -> Report:
    """Return the report of a located pair, with a diagnosis of one's own if one is given."""
    verdict = _verdict(pair)
    if verdict != "identical":
        diagnosis = diagnosis or diagnose(pair, verdict)
    return Report(
        verdict=verdict,
        names=pair.names,
        steps=(len(pair.a.steps), len(pair.b.steps)),
        facts=_facts(pair) if verdict == "identical" else [],
        first_difference=_difference(pair),
        diagnosis=diagnosis if verdict != "identical" else None,
        notes=_notes(pair),
        largest_difference=None if pair.aspect == "model" else pair.largest_difference(),
        losses=losses or (pair.a.losses, pair.b.losses),
    )


def _check(trace: object, name: str) -> None:
    """Raise TypeError for what is no trace, and ValueError for one without steps."""
    if not isinstance(trace, Trace):
        raise TypeError(
            f"compare() takes two traces, but {name} is a {type(trace).__name__}: "
            "use the name after `as` in `with trace(model) as name:`."
        )
    if not trace.steps and trace.by_hand:
        raise ValueError(BY_HAND.format(name=name))
    if not trace.steps:
        raise ValueError(NO_STEPS.format(name=name))


def _find(pair: Pair) -> None:
    """Set where the two runs part: before, during or after their common steps."""
    starts = [trace.start.parameters.values() for trace in (pair.a, pair.b)]
    shapes = [[tensor.shape for tensor in start] for start in starts]
    dtypes = [[tensor.dtype for tensor in start] for start in starts]
    if shapes[0] != shapes[1]:
        pair.aspect = "model"
    elif dtypes[0] != dtypes[1]:
        pair.index, pair.aspect = 0, "precision"
    elif not _equal(pair.a.start.parameters, pair.b.start.parameters):
        pair.aspect = "initial weights"
    else:
        pair.locate()
    if pair.aspect:
        return
    if len(pair.a.steps) != len(pair.b.steps):
        pair.aspect = "length"
    elif not _equal(pair.a.end.parameters, pair.b.end.parameters):
        pair.aspect = "final weights"
    elif not _equal(*_final_buffers(pair)):
        pair.aspect = "final buffers"


def _final_buffers(pair: Pair) -> tuple[dict, dict]:
    """Return the buffers at the end that both models have, whichever of the runs changed them."""
    found = ({}, {})
    for names in pair.buffer_names:
        for side, trace, name in zip(found, pair.traces, names, strict=True):
            side[names[0]] = trace.end.buffers.get(name, trace.start.buffers[name])
    return found


def _equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Return whether all tensors are equal in order; a NaN equals a NaN, as its bits do."""
    return len(a) == len(b) and all(
        (one.shape, one.dtype) == (other.shape, other.dtype)
        and torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)
        for one, other in zip(a.values(), b.values(), strict=True)
    )


def _verdict(pair: Pair) -> str:
    if not pair.aspect:
        return "identical"
    return "equal within rounding" if pair.rounding else "different"


def _difference(pair: Pair) -> Difference | None:
    if not pair.aspect:
        return None
    if pair.aspect == "length":
        return Difference(pair.common + 1, "length")
    step = None if pair.index is None else pair.index + 1
    return Difference(step, pair.aspect, pair.where() if step else "")


def _facts(pair: Pair) -> list[tuple[str, str]]:
    """Return what was compared and found equal, with the numbers of it."""
    steps = pair.a.steps
    tensors = pair.a.start.parameters
    values = sum(tensor.numel() for tensor in tensors.values())
    batches = sum(len(step.calls) for step in steps)
    facts = [
        ("initial weights", f"{len(tensors)} tensors, {values:,} values"),
        ("batches", f"{batches:,}, in the same order"),
        ("gradients", f"{len(steps):,} steps, every value"),
        ("learning rates", f"{len(steps):,} steps"),
        ("weights after each step", f"{len(steps):,} steps, every value"),
    ]
    if pair.buffer_names:
        facts.append(("buffers after each step", f"{len(pair.buffer_names)} tensors"))
    if not batches:
        facts = [fact for fact in facts if fact[0] != "batches"]
    differing = pair.harmless()
    renamed = {"batches": "batch", "learning rates": "learning rate"}
    return [fact for fact in facts if renamed.get(fact[0]) not in differing]


def _notes(pair: Pair) -> list[str]:
    notes = []
    if not pair.aspect:
        notes += [f"The {aspect} differed without any effect." for aspect in pair.harmless()]
    elif pair.aspect != "length" and len(pair.a.steps) != len(pair.b.steps):
        lengths = pair.say("{:,} steps", len(pair.a.steps), len(pair.b.steps))
        notes.append(f"The runs also have different lengths ({lengths}).")
    if pair.aspect and not pair.rounding:
        notes += surroundings(pair)
    for trace, name in zip(pair.traces, pair.names, strict=True):
        notes += [f"{name}: {note}" for note in trace.notes]
    return notes
