"""What a trace keeps: a few kilobytes a step."""

from dataclasses import dataclass, field
from math import hypot

from torch import Tensor


@dataclass
class Call:
    """One forward pass with gradients enabled, seen at the outermost module called."""

    inputs: tuple[bytes, ...]
    content: int
    size: int
    modes: tuple[bool, ...]
    autocast: bool
    output: tuple[bytes, ...] = ()
    dtype: str = ""
    used: bool = False  # whether a backward pass went through it
    counted: bool = False  # whether it counts as an evaluation: a step came and had not used it


@dataclass(frozen=True)
class Group:
    """One parameter group of an optimizer: its learning rate and its other settings."""

    learning_rate: float
    settings: dict[str, object]
    members: tuple[int, ...]  # which of the model's parameters are in it


@dataclass(frozen=True)
class Step:
    """One optimizer step: what went in, the gradient that was used, and what came out."""

    optimizer: int  # 0 for the first optimizer object seen, 1 for the second, …
    kind: str  # the optimizer's class
    warm: bool  # whether it held state from before the trace
    calls: tuple[Call, ...]
    losses: tuple[float, ...]
    owned: tuple[int, ...]  # which of the model's parameters this optimizer updates
    foreign: int  # how many tensors beside the model it updates
    beside: tuple[bool, ...]  # for layers of other networks that took part: in training mode?
    gradients: tuple[bytes, ...]
    gradient_norms: tuple[float, ...]  # of each of these parameters
    gradient_max: float  # the largest absolute value in it
    gradient_projection: Tensor
    gradient_sample: Tensor
    groups: tuple[Group, ...]
    weights: tuple[bytes, ...]
    weight_projection: Tensor
    buffers: dict[str, bytes]
    evaluations: int  # forward passes since the step before that no backward pass used
    evaluations_training: int  # those of them with layers in training mode

    @property
    def batch(self) -> tuple[tuple[bytes, ...], ...]:
        """The fingerprints of all input batches of the step."""
        return tuple(call.inputs for call in self.calls)

    @property
    def gradient_norm(self) -> float:
        """The norm of the whole gradient."""
        return hypot(*self.gradient_norms)

    @property
    def outputs(self) -> tuple[tuple[bytes, ...], ...]:
        """The fingerprints of what each forward pass of the step returned."""
        return tuple(call.output for call in self.calls)

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """The learning rate of each parameter group."""
        return tuple(group.learning_rate for group in self.groups)


@dataclass
class Snapshot:
    """Full copies of a model's parameters and buffers, on the CPU."""

    parameters: dict[str, Tensor] = field(default_factory=dict)
    buffers: dict[str, Tensor] = field(default_factory=dict)
