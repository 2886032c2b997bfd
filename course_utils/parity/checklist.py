"""What has to be true before two runs can be equal: looked at in their first steps."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from .chance import parted
from .compare import NO_STEPS
from .looks import facts, framed
from .record import Call
from .rerun import Run
from .trace import Trace

MARKS = {True: "✓", False: "✗", None: "–"}


@dataclass(frozen=True)
class Item:
    """One thing to be true: whether it is (None where code cannot tell), and what was found."""

    name: str
    true: bool | None
    found: str


@dataclass(frozen=True, repr=False)
class Checklist:
    """What was looked at, item by item; `ready` says whether two equal runs are possible."""

    items: tuple[Item, ...]

    @property
    def ready(self) -> bool:
        """Whether nothing was found that makes the runs differ, whatever the port does."""
        return all(item.true is not False for item in self.items)

    def __str__(self) -> str:
        """Return the list as plain text, a line for each item."""
        width = max(len(item.name) for item in self.items)
        rows = [f"{MARKS[item.true]} {item.name:<{width}}  {item.found}" for item in self.items]
        return "\n".join([*rows, self._last()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = [(f"{MARKS[item.true]} {item.name}", item.found) for item in self.items]
        return framed(f"{facts(rows)}<p><b>{escape(self._last())}</b></p>", "")

    def _last(self) -> str:
        wrong = [item.name for item in self.items if item.true is False]
        if not wrong:
            return "Ready: nothing here keeps the two runs from being equal."
        return f"Not ready, mend first: {', '.join(wrong)}."


def checklist(
    run_raw: Callable[[], object],
    run_port: Callable[[], object],
    model: type[nn.Module] | str | tuple | None = None,
    names: tuple[str, str] = ("raw loop", "Lightning"),
    steps: int = 3,
) -> Checklist:
    """Return what has to be true before two runs can be equal, and whether it is.

    The runs are functions without arguments that seed, build and train, and `model` says which
    network to watch, as for `diagnose`. Each is begun twice, from other states of the random
    generators, and ended after `steps` steps of an optimizer. Raises TypeError if a run is no
    function, and ValueError if it takes no step or builds no such network.
    """
    models = model if isinstance(model, tuple) else (model, model)
    pairs, compiled = [], []
    for function, name, kind in zip((run_raw, run_port), names, models, strict=True):
        Run(function, name, kind)  # which raises TypeError for what is no function
        with _compiling() as calls:
            run = Run(_short(function, steps), name, kind)
            pairs.append((run(), run(stirred=True)))
        compiled.append(len(calls))
        if not pairs[-1][0].steps:
            raise ValueError(NO_STEPS.format(name=name))
    first, second = (pair[0] for pair in pairs)
    return Checklist(
        (
            _seeds(pairs, names),
            _order(first, second),
            _batches(first, second),
            _random(first, second),
            _same(
                "threads", first, second, "torch counts them by itself: set as many on both sides"
            ),
            _same("device", first, second, "it rounds otherwise: prove it on one device"),
            _deterministic(first, second),
            _compiled(compiled, names),
        )
    )


class _Enough(BaseException):
    """The steps that were wanted are done; no program's own `except Exception` stops it."""


def _short(function: Callable[[], object], steps: int) -> Callable[[], object]:
    def short() -> object:
        taken = []

        def count(*_) -> None:
            taken.append(1)
            if len(taken) >= steps:
                raise _Enough

        hook = register_optimizer_step_post_hook(count)
        try:
            return function()
        except _Enough:
            return None
        finally:
            hook.remove()

    return short


@contextmanager
def _compiling() -> Iterator[list]:
    """Count the calls of `torch.compile` in the block, `module.compile()` included."""
    original, calls = torch.compile, []

    def counted(*args, **kwargs):
        calls.append(1)
        return original(*args, **kwargs)

    torch.compile = counted
    try:
        yield calls
    finally:
        torch.compile = original


def _weights(run: Trace) -> list[torch.Tensor]:
    return list(run.start.parameters.values())


def _equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


def _fed(run: Trace) -> list[tuple]:
    return [step.batch for step in run.steps]


def _seeds(pairs: list[tuple[Trace, Trace]], names: tuple[str, str]) -> Item:
    for (run, again), name in zip(pairs, names, strict=True):
        for what, same in (
            ("other weights", _equal(_weights(run), _weights(again))),
            ("other batches", _fed(run) == _fed(again)),
        ):
            if not same:
                found = f"{name}, begun twice, has {what}: seed inside the function, build there"
                return Item("seeds", False, found)
    return Item("seeds", True, "each run, begun twice, begins alike")


def _order(first: Trace, second: Trace) -> Item:
    weights, others = _weights(first), _weights(second)
    if [w.shape for w in weights] != [w.shape for w in others]:
        return Item("order of building", False, "the networks have other shapes")
    if not _equal(weights, others):
        found = "the first weights differ: same seed, then model, loaders, optimizer on both sides"
        return Item("order of building", False, found)
    return Item("order of building", True, "the first weights are equal")


def _batches(first: Trace, second: Trace) -> Item:
    """Compare the batches one by one, however many of them make a step on either side."""
    one, other = ([batch for step in run.steps for batch in step.batch] for run in (first, second))
    for number, (a, b) in enumerate(zip(one, other, strict=False), start=1):
        if a != b:
            found = f"batch {number} differs: a generator for each loader, the same transforms"
            return Item("batches", False, found)
    return Item("batches", True, f"the first {min(len(one), len(other))} are equal")


def _random(first: Trace, second: Trace) -> Item:
    name, sides = "dropout", [[c for s in run.steps for c in s.calls] for run in (first, second)]
    drawing = [any(any(call.drew) for call in side) for side in sides]
    if not any(drawing):
        return Item(name, True, "no random number is drawn in the forward pass")
    if drawing[0] != drawing[1]:
        return Item(name, False, "random numbers are drawn in the forward pass of one run only")
    if any(map(_from_other_states, *sides)):
        found = "random numbers are drawn from other states: something else draws on one side"
        return Item(name, False, found)
    return Item(name, True, "random numbers are drawn from the same states")


def _from_other_states(one: Call, other: Call) -> bool:
    """Return whether a generator that the forward pass draws from was in another state before."""
    differ = parted(one.random, other.random)
    return any(apart and drew for apart, drew in zip(differ, one.drew, strict=False))


def _same(name: str, first: Trace, second: Trace, advice: str) -> Item:
    one, other = first.environment[name], second.environment[name]
    if one == other:
        return Item(name, True, f"{one} on both sides")
    return Item(name, False, f"{one} and {other}: {advice}")


def _deterministic(first: Trace, second: Trace) -> Item:
    name = "deterministic algorithms"
    if {first.device, second.device} == {"cpu"}:
        return Item(name, None, "not asked of a CPU")
    if all(run.environment[name] == "on" for run in (first, second)):
        return Item(name, True, "on")
    return Item(name, False, "off: `torch.use_deterministic_algorithms(True)` before both")


def _compiled(calls: list[int], names: tuple[str, str]) -> Item:
    name = "torch.compile"
    if not any(calls):
        return Item(name, True, "called in neither run")
    if all(calls):
        return Item(name, None, "called in both: prove it without first, then with it")
    found = f"called in {names[0 if calls[0] else 1]} only: compiled code rounds otherwise"
    return Item(name, False, found)
