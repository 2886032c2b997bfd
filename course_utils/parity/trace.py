"""The record of a training run, and the `with` block that makes it."""

import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import wraps
from pathlib import Path

from torch import nn

from . import files
from . import record as records
from .record import Pass, Schedule, Snapshot, Step
from .recorder import Recorder
from .watch import unwatch, watch
from .wishes import heeded


class Trace:
    """The record of one training run: `steps`, and the model's values at start and end.

    At the end only the buffers that the run changed are kept: a constant shows in what it does.
    """

    def __init__(self):
        self.steps: list[Step] = []
        self.start = Snapshot()
        self.end = Snapshot()
        self.device = ""
        self.random = False  # whether the forward pass draws random numbers
        self.worker: tuple[int, int] | None = None  # its rank, and how many there are
        self.idle = (0, 0)  # evaluations after the last step: all, and those in training mode
        self.environment: dict[str, str] = {}
        self.modules: list[tuple[str, str, str]] = []  # name, class, settings of each leaf module
        self.settings: list[tuple] = []  # how layers that act by mode were set, each time anew
        self.schedules: list[Schedule] = []
        self.passes: list[Pass] = []  # over loaders
        self.notes: list[str] = []  # what could not be seen
        self.initialised = False  # whether weights changed between the `with` line and step 1
        self.seed = b""  # the states of the random generators at the `with` line
        self.by_hand = 0  # how often weights changed after a backward pass without an optimizer

    def __repr__(self) -> str:
        """Say how many steps were recorded, on what."""
        values = sum(tensor.numel() for tensor in self.start.parameters.values())
        return f"<Trace of {len(self.steps):,} steps, {values:,} weights, on {self.device or '?'}>"

    @property
    def threads(self) -> int:
        """How many threads torch used on the CPU."""
        return int(self.environment.get("threads", 0))

    @property
    def losses(self) -> list[float]:
        """The loss of each step: the mean of what `backward()` was called on; NaN if unseen."""
        return [
            sum(step.losses) / len(step.losses) if step.losses else float("nan")
            for step in self.steps
        ]

    def save(self, path: str | Path) -> None:
        """Write the trace to a file, for a comparison in another process or on another machine."""
        files.write(path, {"trace": _plain(vars(self))})

    @staticmethod
    def load(path: str | Path) -> "Trace":
        """Read a trace that `save` wrote; the file can hold numbers and text only, no program.

        Raises ValueError if the file is damaged or holds something else, and OSError if it cannot
        be opened (FileNotFoundError if there is none).
        """
        found = files.read(path)
        if not isinstance(found, dict) or "trace" not in found:
            raise ValueError(
                f"{path} holds a {type(found).__name__}: `trace.save()` wrote no such."
            )
        try:
            return _rebuilt(found["trace"])
        except Exception as error:  # a damaged file can hold anything
            raise ValueError(
                f"{path} is damaged: what it holds is no whole trace ({type(error).__name__})."
            ) from None


@contextmanager
def trace(
    model: nn.Module | type[nn.Module] | Mapping[str, nn.Module],
    *more: nn.Module,
    detail: bool | range = False,
) -> Iterator[Trace]:
    """Record every optimizer step that updates `model` while the `with` block runs.

    Nothing in the loop has to change: a raw loop, Fabric and `Trainer.fit` are watched alike, on
    any device, with any number of optimizers, and forward passes a step. Give the same network
    on both sides: `model` for a raw loop, `lit.model` for a LightningModule around it. Several
    networks that are trained together, such as a GAN's two, are given one after the other,
    `trace(generator, discriminator)`, or by name in a dictionary. A script builds its model where
    nobody outside can reach it: give the class, `trace(MyNet)`, and the first `MyNet` that is
    built inside the block is watched.

    Kept for each step are fingerprints of every input batch, of the output, of the gradient as
    it was used (after clipping) and of the weights afterwards; the mode of each layer; losses,
    learning rates, the optimizer's settings, the states of the random generators, and what
    happened in which order. The first steps, and later ones where something is new, are kept with
    what explains them; `detail=True`, or a range of steps counted from 0, keeps more of others.

    The block computes what it would compute without the trace: no random number is drawn, nothing
    is attached to the model, and what cannot be read becomes a note in the report. Raises TypeError
    if `model` is not an `nn.Module` (or a class of them), and ValueError if it has no parameters,
    or if none of the class was built.
    """
    found = Trace()
    recorder = heeded(Recorder(found, detail))
    building = isinstance(model, type) and issubclass(model, nn.Module)
    if not building:
        recorder.follow(_together(model, more))
    watch(recorder)
    try:
        if building:
            with _first_built(model, recorder.follow):
                yield found
        else:
            yield found
        if building and not recorder.follows:
            raise ValueError(
                f"No {model.__name__} was built in the `with trace({model.__name__})` block. Give "
                "the very class that the program builds, and let it be built inside the block."
            )
    finally:
        unwatch(recorder)
        recorder.finish()


def _together(model: object, more: tuple[object, ...]) -> nn.Module:
    """Return the model; of several, a module that only holds them."""
    if isinstance(model, Mapping):
        parts = dict(model)
    elif more:
        parts = {str(number): part for number, part in enumerate((model, *more))}
    else:
        return _checked(model)
    for part in parts.values():
        _checked(part)
    return nn.ModuleDict(parts)


def _checked(model: object) -> nn.Module:
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"trace() watches a model: expected an nn.Module, got {type(model).__name__}. "
            "Write `with trace(model) as record:` around the loop that trains it."
        )
    if next(model.parameters(), None) is None:
        raise ValueError(f"{type(model).__name__} has no parameters, so no step could be recorded.")
    return model


@contextmanager
def _first_built(kind: type[nn.Module], found: Callable[[nn.Module], None]) -> Iterator[None]:
    """Show the callback the first object of exactly this class, once it is built."""
    own, original, waiting = vars(kind).get("__init__"), kind.__init__, [True]

    @wraps(original)
    def init(self: nn.Module, *args, **kwargs) -> None:
        original(self, *args, **kwargs)
        if waiting and type(self) is kind:
            waiting.clear()
            found(_checked(self))

    kind.__init__ = init
    try:
        yield
    finally:
        if own is None:
            del kind.__init__  # the class had inherited it
        else:
            kind.__init__ = own


# Saved traces hold no classes: records are written as their class's name and their values.
KINDS = {
    kind.__name__: kind
    for kind in vars(records).values()
    if isinstance(kind, type) and is_dataclass(kind)
}
MARK = "record:"
BYTES = "\0"  # what a text in a trace never begins with


def _plain(value: object, known: dict | None = None) -> object:
    """Return a value with each record in it as a list: its class's name, then its fields."""
    known = {} if known is None else known
    if is_dataclass(value):
        parts = (_plain(getattr(value, field.name), known) for field in fields(value))
        return [MARK + type(value).__name__, *parts]
    if isinstance(value, dict):
        return {key: _plain(item, known) for key, item in value.items()}
    if isinstance(value, bytes):
        return BYTES + value.hex()
    if isinstance(value, list):
        return [_plain(item, known) for item in value]
    if isinstance(value, tuple):
        if id(value) not in known:  # what many steps share is written once
            known[id(value)] = tuple(_plain(item, known) for item in value)
        return known[id(value)]
    return value


def _read(value: object) -> object:
    if isinstance(value, list) and value and str(value[0]).startswith(MARK):
        kind = KINDS[value[0].removeprefix(MARK)]
        return kind(*map(_read, value[1:]))
    if isinstance(value, str) and value.startswith(BYTES):
        return bytes.fromhex(value.removeprefix(BYTES))
    if isinstance(value, dict):
        return {key: _read(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_read, value))
    return value


def _rebuilt(values: dict) -> Trace:
    found = Trace()
    missing = vars(found).keys() - values.keys()
    if missing or not isinstance(values["steps"], list):
        raise pickle.UnpicklingError(f"without {missing}")
    vars(found).update({name: _read(values[name]) for name in vars(found)})
    if not all(isinstance(step, Step) for step in found.steps):
        raise pickle.UnpicklingError("steps that are none")
    return found
