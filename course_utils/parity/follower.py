"""What the parts of the recorder share: the followed model, and what is seen of a step."""

import threading
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from .aside import aside, plain
from .chance import random_states
from .fingerprint import (
    UnreadableError,
    dense,
    digests,
    fingerprint,
    readable,
)
from .optimizers import Groups
from .record import (
    Call,
    Clip,
    Evaluation,
    Pass,
    Snapshot,
    digest_of,
)
from .watch import Watcher

if TYPE_CHECKING:
    from .trace import Trace

# Forward passes that no backward pass has used yet, kept in case a later one does.
MOST_PENDING = 64
# So many steps are kept with what explains them; then only those where something is new.
RICH_STEPS = 100
RICH_VALUES = 50_000_000  # fewer, but these at least, for a model with which they would read more
FEWEST_RICH_STEPS = 16
RICH_BYTES = 32_000_000
# Values that layers may put out altogether, before only new steps are looked at layer by layer.
LAYER_VALUES = 60_000_000
LARGE_OUTPUT = 4_000_000  # values; the gradient of a larger output is not read
SMALL_MODEL = 500_000  # values; of a larger one only some are compared before each step
GRAPH_STEPS = 64
DRAWING_STEPS = 32  # in which it is looked whether the forward pass draws random numbers
GRAPH_NODES = 1000
MOST_EVENTS = 200

NORMS = nn.modules.batchnorm._NormBase
DROPOUTS = nn.modules.dropout._DropoutNd
# Modules without parameters that act differently in training and in evaluation.
MODE_SENSITIVE = (DROPOUTS, NORMS, nn.RReLU)


def beside(method: Callable) -> Callable:
    """Call a method only while a model is followed, and beside the program's modes."""

    @wraps(method)
    def called(self, *args):
        if self.follows is False:
            return None
        if plain():
            return method(self, *args)
        with aside():
            return method(self, *args)

    return called


class _Inside(threading.local):
    """Which modules are being called, in each thread by itself."""

    def __init__(self):
        self.stack: list[list] = []  # of calls: name, pass, layer, entry?, module
        self.entered = 0  # how many modules with parameters are being called


class Follower(Watcher):
    """Follows one model through a run: knows its parts, and collects what is seen."""

    def __init__(self, trace: "Trace", detail: bool | range):
        self.trace = trace
        self.detail = detail
        self.model: nn.Module | None = None
        self.follows = False
        self.names: dict[int, str] = {}  # of the model's own modules, by identity
        self.acting: list[nn.Module] = []  # those whose mode can matter
        self.parameters: list[nn.Parameter] = []
        self.numbers: dict[int, int] = {}
        self.values = 0  # in all parameters
        self.inside = _Inside()
        self.layered = False  # whether the layers of the present pass are looked at
        self.pending: list[Call] = []
        self.open: Call | None = None  # a pass to which parts called one by one may belong
        self.parts: set[str] = set()
        self.beside: dict[int, tuple[nn.Module, bool]] = {}
        self.handles: deque = deque(maxlen=8 * MOST_PENDING)
        self.optimizers: dict[int, tuple[Optimizer, int | None]] = {}
        self.warm: dict[int, bool] = {}
        self.groups = Groups()
        self.owned: tuple = (None, ())  # groups, and the parameters of ours that they hold
        self.loaders: dict[int, tuple[DataLoader, int]] = {}
        self.iterators: dict[int, tuple[object, Pass, int]] = {}
        self.schedulers: dict[int, tuple[object, int]] = {}
        self.digests: dict = {}  # of tensors that were read in this pass
        self.shared: dict = {}  # equal tuples are kept once
        self.rich_bytes = 0
        self.layer_values = 0
        self.novel = True  # whether something is new since the step before
        self.unchanged = b""  # the weights after the step before, as far as they are looked at
        self.had_backward = False
        self.other_groups = False
        self.counts: dict[int, int] = {}  # by parameter: backward passes in its gradient
        self.old: dict[int, int] = {}  # those of them before the step before
        self.versions: list[tuple[int, int]] = []
        self._clear()

    def _clear(self) -> None:
        """Begin to collect for the next step."""
        self.losses: list[float] = []
        self.loss_dtype = ""
        self.events: list[str] = []
        self.clips: list[Clip] = []
        self.evaluations = [0, 0]
        self.evaluated: list[Evaluation] = []
        self.graph: tuple[str, ...] = ()
        self.loaded: list[tuple[int, bytes]] = []
        self.scheduled: Counter = Counter()
        self.beside = {}
        self.first = True  # whether no pass was seen yet
        self.changed = False

    def on_failure(self, event: str, error: Exception) -> None:
        """Turn what goes wrong in the doctor's own work into a note: the program goes on."""
        where = event.removeprefix("on_").replace("_", " ")
        self.note(f"The doctor could not follow a {where} ({type(error).__name__}: {error}).")

    def note(self, text: str) -> None:
        """Keep a remark for the report, once, and a few at most."""
        text = " ".join(text.split())[:300]
        if text not in self.trace.notes and len(self.trace.notes) < 8:
            self.trace.notes.append(text)

    def follow(self, model: nn.Module) -> None:
        """Begin to watch a model."""
        self.model = model
        self.follows = True
        try:
            self.trace.seed = random_states()
            self._learn_names()
            self._keep_start()
        except Exception as error:
            self.on_failure("start", error)

    def _learn_names(self) -> None:
        self.names = {id(module): name for name, module in self.model.named_modules()}
        self.acting = [m for m in self.model.modules() if _can_matter(m)]
        before, self.parameters = self.parameters, list(self.model.parameters())
        self.numbers = {id(p): number for number, p in enumerate(self.parameters)}
        self.counts, self.old = (
            {self.numbers[id(before[n])]: count for n, count in counts.items()
             if id(before[n]) in self.numbers}
            for counts in (self.counts, self.old)
        )  # fmt: skip
        self.values = sum(p.numel() for p in self.parameters if not is_lazy(p))
        self.trace.modules = [
            (name, type(module).__name__, _described(module))
            for name, module in self.model.named_modules()
            if next(module.children(), None) is None
        ]

    def _keep_start(self) -> None:
        self.trace.start = Snapshot(
            self._copies(self.model.named_parameters()), self._copies(self.model.named_buffers())
        )

    def _copies(self, named) -> dict[str, Tensor]:
        """Return copies on the CPU of all tensors that have values."""
        found = {}
        for name, tensor in named:
            try:
                if not is_lazy(tensor):
                    found[name] = next(iter(readable(dense(tensor)))).clone()
            except UnreadableError as error:
                self.note(f"The values of {name} were not seen: {error}.")
        return found

    def _buffers(self) -> dict[str, bytes]:
        """Return the fingerprints of all buffers that have values."""
        found = {}
        for name, buffer in self.model.named_buffers():
            with suppress(UnreadableError):  # it was noted at the start
                found[name] = fingerprint(buffer)
        return found

    @property
    def _rich(self) -> bool:
        """Whether the present step is kept with what explains it."""
        number = len(self.trace.steps)
        if self.detail is True or (isinstance(self.detail, range) and number in self.detail):
            return True
        if self.rich_bytes > RICH_BYTES:
            return False
        return number < self._rich_steps or self.novel

    @property
    def _rich_steps(self) -> int:
        affordable = RICH_VALUES // max(self.values, 1)
        return min(RICH_STEPS, max(FEWEST_RICH_STEPS, affordable))

    @property
    def _layered(self) -> bool:
        """Whether the present step is looked at layer by layer."""
        number = len(self.trace.steps)
        if self.detail is True or (isinstance(self.detail, range) and number in self.detail):
            return True
        return self._rich and (self.layer_values < LAYER_VALUES or (self.novel and number > 0))

    def _weights_now(self) -> bytes:
        """Return a fingerprint of the weights: of all in a small model, else of some of each."""
        found = [dense(p).reshape(-1) for p in self.parameters if not is_lazy(p)]
        if self.values <= SMALL_MODEL:
            return digest_of(digests(found))
        return digest_of(digests([_scattered(flat) for flat in found]))

    def _place(self, optimizer: Optimizer) -> int | None:
        """Return the optimizer's number, or None if it updates nothing of this model."""
        optimizer = _unwrapped(optimizer)
        if id(optimizer) not in self.optimizers:
            ours = {id(p) for p in self.model.parameters()}
            params = (p for group in optimizer.param_groups for p in group["params"])
            seen = sum(place is not None for _, place in self.optimizers.values())
            place = seen if any(id(p) in ours for p in params) else None
            self.optimizers[id(optimizer)] = optimizer, place
        return self.optimizers[id(optimizer)][1]

    def _count_evaluation(self, modes: tuple[bool, ...]) -> None:
        self.evaluations[0] += 1
        self.evaluations[1] += any(modes)

    def _event(self, what: str) -> None:
        if len(self.events) < MOST_EVENTS:
            self.events.append(what)

    def _shared(self, value: tuple) -> tuple:
        """Return the same object for equal tuples, so that many steps keep one."""
        try:
            if len(self.shared) > 4096:
                self.shared.clear()
            return self.shared.setdefault(value, value)
        except TypeError:  # what is in it cannot be looked up
            return value


def _can_matter(module: nn.Module) -> bool:
    """Return whether a module's mode can matter: if it holds parameters, or is dropout."""
    return bool(module._parameters) or isinstance(module, MODE_SENSITIVE)


def _described(module: nn.Module) -> str:
    try:
        return module.extra_repr()[:200]
    except Exception:  # somebody else's extra_repr
        return ""


def _scattered(flat: Tensor) -> Tensor:
    """Return every so-manieth value, a few hundred in all."""
    return flat[:: max(1, flat.numel() // 256)]


def _unwrapped(optimizer: Optimizer) -> Optimizer:
    """Return the optimizer inside those that Lightning, Fabric or Accelerate put around it."""
    for name in ("_optimizer", "optimizer"):
        inner = vars(optimizer).get(name)
        if isinstance(inner, Optimizer):
            return _unwrapped(inner)
    return optimizer
