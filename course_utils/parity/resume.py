"""A run against the same run, interrupted and resumed: which state was not brought along."""

from collections.abc import Sequence
from copy import copy
from dataclasses import replace

from torch import Tensor

from .compare import _check, located, report_of
from .diagnose.finding import Diagnosis
from .fingerprint import digests
from .junction import Junction, alike
from .missing import Missing, missing_states
from .record import Snapshot, digest_of
from .report import Report
from .trace import Trace


def compare_resumed(
    whole: Trace, *parts: Trace, names: tuple[str, str] = ("whole run", "resumed run")
) -> Report:
    """Compare an uninterrupted run with the same run in parts, and name the state that is missing.

    `parts` are the traces of the first part and of what was resumed after it, in order. The first
    part may have gone on for some steps after the checkpoint that the next one begins with. The
    verdict is that of `compare`; steps are counted as in the whole run. Named are: weights,
    buffers, the optimizer's state, the scheduler, the gradient scaler, the position in the data,
    the order in which it is shuffled, and the random generators.

    Raises TypeError for anything but traces, and ValueError for fewer than two parts or a trace
    without steps.
    """
    if len(parts) < 2:
        raise ValueError(
            "compare_resumed() takes the trace of the whole run, then those of its parts: the "
            f"first part, and what was resumed after it. It got {len(parts)}."
        )
    _check(whole, names[0])
    for part in parts:
        _check(part, names[1])
    report, done, notes = _first_part(whole, parts[0], names), len(parts[0].steps), []
    if report is not None:
        return report
    for before, after, last in zip(parts, parts[1:], [*parts[2:], None], strict=False):
        of_weights = _weights_of(whole, before, after, done)
        begun = done if _rest_is_later(whole, after, of_weights, done) else of_weights
        if begun != done:
            early = f"{done - begun:,} before the end of the part before"
            notes.append(f"The run was resumed after step {begun:,}, {early}.")
        junction = Junction(whole, before, after, begun, of_weights, at_end=begun == done)
        report = _resumed(junction, names, last is None)
        report = replace(report, notes=report.notes + notes)
        if report.verdict != "identical":
            return report
        done = begun + len(after.steps)
    parted = " and ".join(f"{len(part.steps):,}" for part in parts)
    return replace(
        report,
        steps=(len(whole.steps), len(whole.steps)),
        facts=[*report.facts, ("parts", f"{parted} steps")],
    )


def _first_part(whole: Trace, part: Trace, names: tuple[str, str]) -> Report | None:
    """Return a report if the runs part before the interruption."""
    length = len(part.steps)
    expected = section(whole, 0, length, whole.start, part.end)
    pair = located(expected, part, (names[0], "first part"))
    if not pair.aspect:
        return None
    note = "They part before the interruption: that is no matter of resuming."
    report = report_of(pair)
    return replace(report, notes=[*report.notes, note])


def _resumed(junction: Junction, names: tuple[str, str], last: bool) -> Report:
    whole, after, begun = junction.whole, junction.after, junction.begun
    length = len(whole.steps) - begun if last else len(after.steps)
    start = Snapshot(junction.expected_weights, junction.expected_buffers)
    end = whole.end if last else after.end
    expected = section(whole, begun, length, start, end)
    pair = located(_cold(expected, after), _cold(after, after), names)
    found = missing_states(junction, pair)
    if not pair.aspect:
        silent = [f"{one.evidence[0]} It had no effect in these steps." for one in found]
        report = report_of(pair)
        return replace(report, notes=report.notes + silent)
    if not found:
        return _moved(report_of(pair), begun, "Evidence counts steps from the resumption on.")
    return _moved(report_of(pair, _diagnosis(found)), begun)


def _moved(report: Report, begun: int, note: str = "") -> Report:
    """Return the report with steps counted as in the whole run."""
    first = report.first_difference
    if first.step is not None:
        first = replace(first, step=first.step + begun)
    notes = [*report.notes, note] if note else report.notes
    return replace(report, first_difference=first, notes=notes)


def _diagnosis(found: Sequence[Missing]) -> Diagnosis:
    parts = [one.what for one in found]
    listed = " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
    return Diagnosis(
        f"resumed without {listed}",
        " ".join(one.cause for one in found),
        " ".join(dict.fromkeys(one.mend for one in found)),
        [line for one in found for line in one.evidence],
    )


def section(whole: Trace, begin: int, length: int, start: Snapshot, end: Snapshot) -> Trace:
    """Return a trace of some steps of another one, as if the run had begun with them."""
    part = copy(whole)
    part.steps = whole.steps[begin : begin + length]
    part.start, part.end, part.initialised = start, end, False
    part.passes = [replace(one, step=max(0, one.step - begin)) for one in whole.passes]
    stepped = [number for step in part.steps for number, n in step.schedules for _ in range(n)]
    part.schedules = [
        replace(one, steps=stepped.count(number)) for number, one in enumerate(whole.schedules)
    ]
    return part


def _cold(record: Trace, like: Trace) -> Trace:
    """Return the trace as if its optimizers and generators had no past: that is judged apart."""
    record = copy(record)
    record.steps = [replace(step, warm=False) for step in record.steps]
    record.seed, record.initialised = like.seed, False
    return record


def _weights_of(whole: Trace, before: Trace, after: Trace, done: int) -> int:
    """Return after how many steps the whole run had a part's first weights; else `done`."""
    weights = after.start.parameters
    if alike(weights, before.end.parameters):
        return done
    for number in range(min(done, len(whole.steps)), 0, -1):
        step = whole.steps[number - 1]
        if len(step.owned) == len(weights) and _digest(weights, step.owned) == step.weight:
            return number
    return done


def _rest_is_later(whole: Trace, after: Trace, of_weights: int, done: int) -> bool:
    """Return whether batch or learning rate go on from the end, though the weights are older."""
    if of_weights == done or done >= len(whole.steps):
        return False
    now, older, last = after.steps[0], whole.steps[of_weights], whole.steps[done]
    return any(
        a == c and a != b and any(a)
        for a, b, c in (
            (now.batch, older.batch, last.batch),
            (now.learning_rates, older.learning_rates, last.learning_rates),
        )
    )


def _digest(weights: dict[str, Tensor], owned: tuple[int, ...]) -> bytes:
    tensors = list(weights.values())
    return digest_of(digests([tensors[number] for number in owned]))
