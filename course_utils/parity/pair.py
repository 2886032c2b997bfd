"""Two traces side by side: where their numbers first part, and by how much."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor

from course_utils.parity.record import Step
from course_utils.parity.trace import Trace

# What a step is made of, cause before effect. Each numeric result (left) is explained by the
# first of its causes (right) that differs; the last of them is the result itself.
CAUSES = {
    "gradient": ("parameters", "batch", "mode", "precision", "forward output", "gradient"),
    "update": ("learning rate", "optimizer", "update"),
    "buffers": ("mode", "buffers"),
}

ASPECTS: dict[str, Callable[[Step], object]] = {
    "parameters": lambda step: step.owned,
    "batch": lambda step: step.batch,
    "mode": lambda step: tuple(call.modes for call in step.calls),
    "precision": lambda step: tuple((call.autocast, call.dtype) for call in step.calls),
    "forward output": lambda step: step.outputs,
    "gradient": lambda step: step.gradients,
    "learning rate": lambda step: step.learning_rates,
    "optimizer": lambda step: (
        step.optimizer,
        step.kind,
        step.warm,
        [(group.settings, group.members) for group in step.groups],
    ),
    "update": lambda step: step.weights,
    "evaluations": lambda step: step.evaluations_training,
}

# Causes that reach the gradient only through the output: where that is equal, they are not it.
BY_OUTPUT = ("batch", "mode", "precision")
# What is listed by forward pass, and says nothing where the same samples come in other parts.
BY_PASS = ("batch", "mode", "precision", "forward output")
# Causes that can act later than they differ: momentum changes nothing in the first step.
LATENT = ("learning rate", "optimizer")

# In which aspects rounding can show first, and which ones it leaves equal throughout.
ROUNDED = ("forward output", "gradient", "update")
EXACT = ("parameters", "batch", "mode", "precision", "learning rate", "optimizer")

# A difference is of rounding size if it is under 128 units in the last place (relative, over the
# whole gradient) where it first shows, and rounding may grow to a hundredth of the gradient, and
# of the distance that the weights travelled, before a longer run no longer proves anything.
ROUNDING_ULPS = 128
GROWN = 1e-2
# How exactly two numbers must agree that a fault makes equal, and not the chance of rounding.
FIT = 1e-3


@dataclass
class Pair:
    """Two traces, their names, and the step (counted from 0) and aspect in which they part."""

    a: Trace
    b: Trace
    names: tuple[str, str]
    index: int | None = None
    aspect: str = ""
    noise: bool = False  # whether the very first difference is of rounding size
    rounding: bool = False  # whether all differences are

    @property
    def common(self) -> int:
        """How many steps both runs have."""
        return min(len(self.a.steps), len(self.b.steps))

    @property
    def steps(self) -> tuple[Step, Step]:
        """The two records of the step in which the runs part."""
        return self.a.steps[self.index], self.b.steps[self.index]

    def say(self, template: str, a: object, b: object) -> str:
        """Fill a template twice, once for each run: `raw loop: 3 batches, Lightning: 4 batches`."""
        one, other = (template.format(value) for value in (a, b))
        return f"{self.names[0]}: {one}; {self.names[1]}: {other}"

    def differs(self, aspect: str, index: int) -> bool:
        """Return whether the two runs differ in an aspect of a step."""
        if aspect == "buffers":
            return self._buffers(self.a, index) != self._buffers(self.b, index)
        look = ASPECTS[aspect]
        a, b = look(self.a.steps[index]), look(self.b.steps[index])
        if aspect in BY_PASS and a != b and self.regrouped(index):
            return aspect in ("mode", "precision") and set(a) != set(b)
        return a != b

    def regrouped(self, index: int) -> bool:
        """Return whether a step has the same samples in both runs, in other parts.

        So it is with a batch whose gradient is added up from smaller ones, and with workers that
        share it. Whether they mean the same, the gradients show.
        """
        a, b = self.a.steps[index].calls, self.b.steps[index].calls
        totals = [(sum(c.size for c in calls), sum(c.content for c in calls)) for calls in (a, b)]
        parts = [sorted(call.inputs for call in calls) for calls in (a, b)]
        several = min(len(a), len(b)) > 0 and max(len(a), len(b)) > 1
        return several and totals[0] == totals[1] and parts[0] != parts[1]

    def locate(self) -> None:
        """Find the first step with different numbers, and the earliest cause in it.

        Where it is of rounding size, what follows may differ in its last bits and is searched
        for the first difference that rounding does not explain.
        """
        for index in range(self.common):
            for result, causes in CAUSES.items():
                if self.differs(result, index):
                    self.index, self.aspect = index, self._cause(causes, index)
                    self._look_past_rounding()
                    return

    def _cause(self, causes: tuple[str, ...], index: int) -> str:
        """Return the first cause that differs here and was not seen to be harmless before."""
        same_output = (
            any(self.a.steps[index].outputs)
            and not self.regrouped(index)
            and not self.differs("forward output", index)
        )
        for cause in causes[:-1]:
            if not self.differs(cause, index) or (same_output and cause in BY_OUTPUT):
                continue
            if cause in LATENT or not index or not self.differs(cause, index - 1):
                return cause
        return causes[-1]

    def _look_past_rounding(self) -> None:
        gradient, weights = self._gaps(self.index)
        # Adam enlarges the rounding of tiny gradients, so weights count only if they part first.
        first = weights if self.aspect == "update" else gradient
        self.noise = self.aspect in ROUNDED and first <= self._small()
        if not self.noise:
            return
        clipped = self._clipped_at()
        for index in range(self.index, self.common):
            found = "gradient" if index == clipped else self._beyond_rounding(index)
            if found:
                self.index, self.aspect = index, found
                return
        if len(self.a.steps) != len(self.b.steps):
            self.index, self.aspect = None, "length"
        elif self.a.idle[1] != self.b.idle[1] and self.a.end.buffers:
            self.index, self.aspect = None, "final buffers"
        elif self._drift() <= GROWN:
            self.rounding = True
        else:
            self.index, self.aspect = None, "final weights"

    def _beyond_rounding(self, index: int) -> str:
        """Return the aspect in which a step differs by more than rounding, if there is one."""
        for aspect in EXACT:
            if self.differs(aspect, index):
                return aspect
        if self.differs("evaluations", index) and self.a.end.buffers:
            return "buffers"
        if self.differs("evaluations", index) and self.a.random:
            return "forward output"
        return "gradient" if self._gaps(index)[0] > GROWN else ""

    def _gaps(self, index: int) -> tuple[float, float]:
        """Return how far apart the gradients of a step are, and the weights after it."""
        a, b = self.a.steps[index], self.b.steps[index]
        return (
            relative_gap(a.gradient_projection, b.gradient_projection),
            relative_gap(a.weight_projection, b.weight_projection),
        )

    def _clipped_at(self) -> int | None:
        """Return the first step in which one run exceeds a value that the other is clipped to.

        The largest gradient value of two steps is never exactly the same but by a limit.
        """
        tops = [
            [step.gradient_max for step in trace.steps[: self.common]] for trace in (self.a, self.b)
        ]
        for clipped, free in (tops, tops[::-1]):
            limit = max(clipped)
            if clipped.count(limit) > 1 and max(free) > limit * (1 + FIT):
                return next(index for index, top in enumerate(free) if top > limit)
        return None

    def harmless(self) -> list[str]:
        """Return the aspects that differ somewhere although all numbers are equal."""
        return [
            aspect
            for aspect in ASPECTS
            if aspect not in CAUSES
            and any(self.differs(aspect, index) for index in range(self.common))
        ]

    def where(self) -> str:
        """Name the first tensor that differs, for aspects that are made of named tensors."""
        a, b = self.steps
        if self.aspect in ("gradient", "update"):
            names = [list(self.a.start.parameters)[i] for i in a.owned]
            return _first(names, ASPECTS[self.aspect](a), ASPECTS[self.aspect](b))
        if self.aspect == "buffers":
            both = (self._buffers(trace, self.index) for trace in (self.a, self.b))
            return _first(list(self.a.end.buffers), *both)
        return ""

    def _buffers(self, trace: Trace, index: int) -> tuple[bytes | None, ...]:
        return tuple(trace.steps[index].buffers.get(name) for name in trace.end.buffers)

    def largest_difference(self) -> float:
        """Return the largest difference of any weight at the end, over all weights."""
        ends = (trace.end.parameters.values() for trace in (self.a, self.b))
        pairs = [(a.double(), b.double()) for a, b in zip(*ends, strict=True) if a.numel()]
        return max((float((a - b).abs().max()) for a, b in pairs), default=0.0)

    def _drift(self) -> float:
        """Return how far apart the final weights are, in units of the distance travelled.

        Left out are weights whose gradients are zero but for rounding, as those of a bias before
        batch norm are: Adam makes full steps of them, which have no effect.
        """
        small, shares = self._small(), {}
        for step in (*self.a.steps, *self.b.steps):
            for number, norm in zip(step.owned, step.gradient_norms, strict=True):
                share = norm / step.gradient_norm if norm else 0.0
                shares[number] = max(share, shares.get(number, 0.0))
        idle = {number for number, share in shares.items() if 0 < share <= small}
        snapshots = (s.parameters.values() for s in (self.a.start, self.a.end, self.b.end))
        start, a, b = (
            torch.cat([t.double().flatten() for i, t in enumerate(ts) if i not in idle])
            for ts in snapshots
        )
        return relative_gap(a, b, scale=a - start)

    def _small(self) -> float:
        """Return what counts as rounding, by the coarsest number format that took part."""
        dtypes = {tensor.dtype for tensor in self.a.start.parameters.values()}
        dtypes |= {getattr(torch, call.dtype, None) for call in self.steps[0].calls}
        formats = [d for d in dtypes if isinstance(d, torch.dtype) and d.is_floating_point]
        return min(GROWN, ROUNDING_ULPS * max(torch.finfo(d).eps for d in formats))


def relative_gap(a: Tensor, b: Tensor, scale: Tensor | None = None) -> float:
    """Return the norm of `a - b` over the norm of `scale` (of `a`, unless given).

    It is infinite where it cannot be told: other shapes, or values that are not finite.
    """
    if a.shape != b.shape:
        return float("inf")
    gap = float((a - b).norm())
    size = float((a if scale is None else scale).norm())
    if gap == 0:
        return 0.0
    return gap / size if size > 0 and isfinite(gap) else float("inf")


def _first(names: list[str], a: tuple, b: tuple) -> str:
    return next((name for name, one, other in zip(names, a, b, strict=False) if one != other), "")
