"""The traces of data-parallel workers, joined to that of the one run that they make together."""

from collections.abc import Sequence
from dataclasses import replace

from course_utils.parity.record import Step
from course_utils.parity.report import ParityError
from course_utils.parity.trace import Trace


def join(traces: Sequence[Trace]) -> Trace:
    """Return one trace of a run from those of its data-parallel workers, in order of rank.

    Each step of it holds the batches and losses of all workers. What data-parallel training
    promises is checked on the way: that all workers have the same weights at the start, the same
    gradient in each step (the average over all of them), and the same weights after it.

    Raises `ParityError` where they part, and ValueError if there is no trace.
    """
    if not traces:
        raise ValueError("join() got no traces: give it one of each worker, in order of rank.")
    first = traces[0]
    for rank, other in enumerate(traces[1:], start=1):
        _check(first, other, rank)
    joined = Trace.__new__(Trace)
    joined.__dict__.update(first.__getstate__())
    joined.steps = [_joined(steps) for steps in zip(*(t.steps for t in traces), strict=True)]
    joined.random = any(trace.random for trace in traces)
    return joined


def _check(first: Trace, other: Trace, rank: int) -> None:
    if len(first.steps) != len(other.steps):
        raise ParityError(
            f"Worker 0 made {len(first.steps):,} steps, worker {rank} {len(other.steps):,}: each "
            "needs the same number of batches. Give each loader a `DistributedSampler`."
        )
    starts = [{k: v.tolist() for k, v in t.start.parameters.items()} for t in (first, other)]
    if starts[0] != starts[1]:
        raise ParityError(
            f"Workers 0 and {rank} start from different weights. Wrap the model in "
            "`DistributedDataParallel`, which sends those of worker 0 to all."
        )
    for number, (a, b) in enumerate(zip(first.steps, other.steps, strict=True), start=1):
        for what, mine, theirs in (
            ("gradients", a.gradients, b.gradients),
            ("weights", a.weights, b.weights),
        ):
            if mine != theirs:
                raise ParityError(
                    f"The {what} of workers 0 and {rank} part at step {number:,}: nothing averages "
                    "the gradients. Call the model wrapped in `DistributedDataParallel`, not the "
                    "model in it, and leave `no_sync()` for accumulation."
                )


def _joined(steps: Sequence[Step]) -> Step:
    return replace(
        steps[0],
        calls=tuple(call for step in steps for call in step.calls),
        losses=tuple(loss for step in steps for loss in step.losses),
    )
