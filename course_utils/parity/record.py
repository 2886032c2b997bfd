"""What a trace keeps: of most steps under a kilobyte, of the first ones what explains them."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import hypot

from torch import Tensor

from .fingerprint import combined

# Where random numbers come from, in the order in which their states are kept.
SOURCES = ("torch", "Python", "NumPy")


@dataclass(slots=True)
class Layer:
    """One module's part of a forward pass: what went in, what came out, and its gradient."""

    name: str
    inputs: bytes
    output: bytes
    again: bool = False  # whether it ran during the backward pass (activation checkpointing)
    random: bytes = b""  # torch's random state before it, of dropout alone


@dataclass(slots=True)
class Call:
    """One forward pass with gradients enabled, seen at the outermost module called."""

    entry: str  # the module that was called: "" for the whole model
    inputs: tuple[bytes, ...]
    content: int
    size: int
    modes: tuple[bool, ...]
    autocast: bool
    output: tuple[bytes, ...] = ()
    dtype: str = ""
    used: bool = False  # whether a backward pass went through it
    counted: bool = False  # whether it counts as an evaluation: a step came and had not used it
    parts: int = 1  # how many modules were called one by one for it
    random: bytes = b""  # the states of the random generators before it
    drew: tuple[bool, ...] = ()  # whether it drew from each source of random numbers
    weights: bytes = b""  # the weights before it, where they were looked at
    buffers: bytes = b""  # the buffers before it
    layers: list[Layer] = field(default_factory=list)
    settings: int = 0  # which of the trace's settings of layers it ran with
    gradient: tuple[bytes, ...] = ()  # of its outputs
    gradient_sample: Tensor | None = None


@dataclass(slots=True, frozen=True)
class Evaluation:
    """One forward pass that no backward pass used: its input, and the random states before it."""

    inputs: bytes
    random: bytes
    training: bool


@dataclass(slots=True, frozen=True)
class Group:
    """One parameter group of an optimizer: its learning rate and its other settings."""

    learning_rate: float | str | None
    settings: dict[str, object]
    members: tuple[int, ...]  # which of the model's parameters are in it
    kernel: str = ""  # how the arithmetic is carried out: fused, foreach


@dataclass(slots=True, frozen=True)
class Clip:
    """One call of `clip_grad_norm_`: its limit, and the norm that it found."""

    limit: float
    found: float
    members: tuple[int, ...] = ()  # whose gradients, in the order in which they were added up


@dataclass(slots=True, frozen=True)
class Evidence:
    """What explains a step, kept for the first steps and around the others where something is new.

    Sketches are linear maps of all values (see `fingerprint.measures`).
    """

    gradient_norms: tuple[float, ...]  # of each of the optimizer's parameters
    gradient_top: float  # the largest absolute value
    gradient_sketch: Tensor
    gradient_sample: Tensor
    weight_norms: tuple[float, ...]
    weight_sketch: Tensor
    weight_sample: Tensor
    weight_top: float
    gradients: tuple[bytes, ...]
    weights: tuple[bytes, ...]
    buffers: dict[str, bytes]
    graph: tuple[str, ...]  # the operations that the backward pass went through
    evaluations: tuple[Evaluation, ...]
    clips: tuple[Clip, ...]


@dataclass(slots=True, frozen=True)
class Step:
    """One optimizer step: what went in, the gradient that was used, and what came out."""

    optimizer: int  # 0 for the first optimizer object seen, 1 for the second, …
    kind: str  # the optimizer's class
    warm: bool  # whether it held state from before the trace
    calls: tuple[Call, ...]
    losses: tuple[float, ...]
    loss_dtype: str
    owned: tuple[int, ...]  # which of the model's parameters this optimizer updates
    foreign: int  # how many tensors beside the model it updates
    beside: tuple[bool, ...]  # for layers of other networks that took part: in training mode?
    without: tuple[bool, ...]  # for each of its parameters: no gradient at all (None)?
    frozen: tuple[bool, ...]  # for each of its parameters: does it require no gradient?
    gradient: bytes  # one fingerprint of the whole gradient
    weight: bytes
    buffer: bytes
    groups: tuple[Group, ...]
    events: tuple[str, ...]  # what happened since the step before, in order
    backwards: int  # how many backward passes added to the gradient since it was set to zero
    leftover: int  # those of them that came before the optimizer step before
    random: bytes  # the states of the random generators after the step
    loaded: tuple[tuple[int, bytes], ...]  # batches taken: from which pass over a loader, of what
    schedules: tuple[tuple[int, int], ...]  # scheduler steps since the step before: which, how many
    evaluations: int  # forward passes since the step before that no backward pass used
    evaluations_training: int  # those of them with layers in training mode
    changed: bool  # whether the weights were changed between the step before and its first pass
    evidence: Evidence | None

    @property
    def batch(self) -> tuple[tuple[bytes, ...], ...]:
        """The fingerprints of all input batches of the step."""
        return tuple(call.inputs for call in self.calls)

    @property
    def outputs(self) -> tuple[tuple[bytes, ...], ...]:
        """The fingerprints of what each forward pass of the step returned."""
        return tuple(call.output for call in self.calls)

    @property
    def learning_rates(self) -> tuple[float | str | None, ...]:
        """The learning rate of each parameter group."""
        return tuple(group.learning_rate for group in self.groups)

    @property
    def gradients(self) -> tuple[bytes, ...]:
        """The fingerprint of each gradient, or of all together where no more was kept."""
        return self.evidence.gradients if self.evidence else (self.gradient,)

    @property
    def weights(self) -> tuple[bytes, ...]:
        """The fingerprint of each weight, or of all together where no more was kept."""
        return self.evidence.weights if self.evidence else (self.weight,)

    @property
    def gradient_norm(self) -> float:
        """The norm of the whole gradient; NaN where it was not kept."""
        return hypot(*self.evidence.gradient_norms) if self.evidence else float("nan")

    @property
    def gradient_max(self) -> float:
        """The largest absolute value of the gradient; NaN where it was not kept."""
        return self.evidence.gradient_top if self.evidence else float("nan")


@dataclass(slots=True)
class Pass:
    """One pass over a DataLoader, from its start to its end or to where it was left."""

    loader: int  # 0 for the first loader object seen, …
    step: int  # how many optimizer steps were done when it began
    samples: int  # in the loader's dataset; -1 if it does not say
    batch_size: int
    drop_last: bool
    order: str  # the class of its sampler
    own_generator: bool
    draws: bool  # whether starting it drew from torch's global generator
    workers: int
    worker_init: str
    length: int = -1  # how many batches there are to come; -1 if it does not say
    batches: int = 0
    finished: bool = False


@dataclass(slots=True)
class Schedule:
    """One learning-rate scheduler: its class, its settings, and what it was given."""

    kind: str
    settings: dict[str, object]
    optimizer: int | None
    steps: int = 0
    metrics: list[float] = field(default_factory=list)  # what ReduceLROnPlateau was shown


@dataclass(slots=True)
class Snapshot:
    """Full copies of a model's parameters and buffers, on the CPU."""

    parameters: dict[str, Tensor] = field(default_factory=dict)
    buffers: dict[str, Tensor] = field(default_factory=dict)


def content_of(calls: Iterable[Call]) -> int:
    """Return the content of several batches together, whichever parts they came in."""
    return sum(call.content for call in calls) % 2**32  # as wide as each was summed


def digest_of(digests) -> bytes:
    """Return one fingerprint of several, or nothing of none."""
    digests = tuple(digests)
    return combined(digests) if digests else b""
