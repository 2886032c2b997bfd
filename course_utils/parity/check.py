"""Parity as a check in tests: of two runs, and of a run against one that was saved."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from .compare import compare
from .report import ParityError, Report
from .rerun import Run, diagnose
from .trace import Trace

UPDATE = "PARITY_UPDATE"  # set to anything but 0, golden traces are written anew


def assert_parity(
    raw: Trace | Callable[[], object],
    port: Trace | Callable[[], object],
    allow_rounding: bool = False,
    names: tuple[str, str] = ("raw loop", "Lightning"),
    model: object = None,
) -> Report:
    """Raise `ParityError` unless two runs are identical; return the report if they are.

    Each run is a trace, or a function as `diagnose` takes it (with `model`). With
    `allow_rounding`, the verdict `equal within rounding` is enough. The error's message is the
    report's explanation, its `report` the report.
    """
    __tracebackhide__ = True
    if isinstance(raw, Trace) and isinstance(port, Trace):
        report = compare(raw, port, names)
    elif isinstance(raw, Trace) or isinstance(port, Trace):
        sides = zip((raw, port), names, _pair(model), strict=True)
        report = compare(*(_traced(run, name, kind) for run, name, kind in sides), names)
    else:
        report = diagnose(raw, port, names, model)
    return _passed(report, allow_rounding)


def assert_golden(
    run: Trace | Callable[[], object],
    path: str | Path,
    allow_rounding: bool = False,
    names: tuple[str, str] = ("golden trace", "this run"),
    model: object = None,
    update: bool | None = None,
) -> Report:
    """Raise `ParityError` unless a run is identical to the one whose trace is saved at `path`.

    With `update`, or the environment variable PARITY_UPDATE=1, the run's trace is written there
    first. Where the surroundings differ from those of the saved run (torch, processor, threads, …),
    the message says that before anything else. Raises FileNotFoundError if there is no such file,
    and ValueError if it is damaged.
    """
    __tracebackhide__ = True
    record = _traced(run, names[1], model)
    path = Path(path)
    if updating() if update is None else update:
        path.parent.mkdir(parents=True, exist_ok=True)
        record.save(path)
    if not path.exists():
        raise FileNotFoundError(
            f"There is no golden trace {path}: run once with {UPDATE}=1 to write it, look at what "
            "the run did, and keep the file with the tests."
        )
    golden = Trace.load(path)
    report = compare(golden, record, names)
    other = other_surroundings(golden, record, names)
    return _passed(replace(report, notes=other + report.notes), allow_rounding, other)


def updating() -> bool:
    """Return whether golden traces are to be written anew."""
    return os.environ.get(UPDATE, "0") not in ("", "0")


def other_surroundings(a: Trace, b: Trace, names: tuple[str, str]) -> list[str]:
    """Say in what the surroundings of two runs differ, as one sentence or none."""
    differing = [
        f"{key} {a.environment.get(key, 'unknown')} and {b.environment.get(key, 'unknown')}"
        for key in sorted(a.environment.keys() | b.environment.keys())
        if a.environment.get(key) != b.environment.get(key)
    ]
    if not differing:
        return []
    return [f"{names[0]} and {names[1]} ran in other surroundings: {', '.join(differing)}."]


def _traced(run: object, name: str, model: object) -> Trace:
    return run if isinstance(run, Trace) else Run(run, name, model)()


def _pair(model: object) -> tuple:
    return model if isinstance(model, tuple) else (model, model)


def _passed(report: Report, allow_rounding: bool, first: list[str] | None = None) -> Report:
    __tracebackhide__ = True
    enough = ("identical", "equal within rounding") if allow_rounding else ("identical",)
    if report.verdict not in enough:
        raise ParityError("\n" + "\n".join([*(first or []), report.explain()]), report)
    return report
