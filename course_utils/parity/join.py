"""The traces of data-parallel workers, joined to that of the one run that they make together."""

from collections.abc import Sequence
from copy import copy
from dataclasses import replace

from .fingerprint import fingerprint
from .record import Step
from .report import ParityError
from .trace import Trace


def join(traces: Sequence[Trace]) -> Trace:
    """Return one trace of a run from those of its data-parallel workers, in order of rank.

    Each step of it holds the batches and losses of all workers. What data-parallel training
    promises is checked on the way: that all workers have the same weights at the start, the same
    gradient in each step (the average over all of them), and the same weights after it; and
    that each has samples of its own.

    Raises `ParityError` where that is not so, and ValueError if a worker's trace is missing.
    """
    _check_ranks(traces)
    first = traces[0]
    for rank, other in enumerate(traces[1:], start=1):
        _check(first, other, rank)
    joined = copy(first)
    joined.steps = [_joined(steps) for steps in zip(*(t.steps for t in traces), strict=True)]
    joined.random = any(trace.random for trace in traces)
    joined.worker = None
    return joined


def _check_ranks(traces: Sequence[Trace]) -> None:
    if not traces:
        raise ValueError("join() got no traces: give it one of each worker, in order of rank.")
    known = [trace.worker for trace in traces]
    if None not in known and known != [(rank, known[0][1]) for rank in range(known[0][1])]:
        given = ", ".join(f"{rank} of {workers}" for rank, workers in known)
        raise ValueError(
            f"join() got the traces of workers {given}: give it one of each worker of a run, in "
            "order of rank."
        )


def _check(first: Trace, other: Trace, rank: int) -> None:
    if len(first.steps) != len(other.steps):
        raise ParityError(
            f"Worker 0 made {len(first.steps):,} steps, worker {rank} {len(other.steps):,}: each "
            "needs the same number of batches. Give each loader a `DistributedSampler`."
        )
    if _fingerprints(first) != _fingerprints(other):
        raise ParityError(
            f"Workers 0 and {rank} start from different weights. Wrap the model in "
            "`DistributedDataParallel`, which sends those of worker 0 to all."
        )
    for number, (a, b) in enumerate(zip(first.steps, other.steps, strict=True), start=1):
        for what, mine, theirs in (
            ("gradients", a.gradient, b.gradient),
            ("weights", a.weight, b.weight),
        ):
            if mine != theirs:
                raise ParityError(
                    f"The {what} of workers 0 and {rank} part at step {number:,}: nothing averages "
                    "the gradients. Call the model wrapped in `DistributedDataParallel`, not the "
                    "model in it, and leave `no_sync()` for accumulation."
                )
    if all(a.batch == b.batch != () for a, b in zip(first.steps, other.steps, strict=True)):
        raise ParityError(
            f"Workers 0 and {rank} were given the same samples in each step, so the second adds "
            "nothing. Give each loader a `DistributedSampler`."
        )


def _fingerprints(trace: Trace) -> list[bytes]:
    return [fingerprint(tensor) for tensor in trace.start.parameters.values()]


def _joined(steps: Sequence[Step]) -> Step:
    return replace(
        steps[0],
        calls=tuple(call for step in steps for call in step.calls),
        losses=tuple(loss for step in steps for loss in step.losses),
    )
