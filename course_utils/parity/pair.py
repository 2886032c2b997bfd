"""Two traces side by side: where their numbers first part, and by how much."""

from collections.abc import Callable
from dataclasses import dataclass

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
    "parameters": lambda step: (step.owned, step.foreign),
    "batch": lambda step: step.batch,
    "mode": lambda step: tuple(call.modes for call in step.calls),
    "precision": lambda step: tuple((call.autocast, call.dtype) for call in step.calls),
    "forward output": lambda step: tuple(call.output for call in step.calls),
    "gradient": lambda step: step.gradients,
    "learning rate": lambda step: step.learning_rates,
    "optimizer": lambda step: (
        step.optimizer,
        step.kind,
        step.warm,
        [group.settings for group in step.groups],
    ),
    "update": lambda step: step.weights,
    "buffers": lambda step: step.buffers,
    "evaluations": lambda step: step.evaluations_training,
}

# In which aspects rounding can show first, and which ones it leaves equal throughout.
ROUNDED = ("forward output", "gradient", "update")
EXACT = ("parameters", "batch", "mode", "precision", "learning rate", "optimizer", "evaluations")

# A difference is of rounding size if it is under 128 units in the last place (relative, over the
# whole gradient) where it first shows, and rounding may grow to a hundredth of the gradient, and
# of the distance that the weights travelled, before a longer run no longer proves anything.
ROUNDING_ULPS = 128
GROWN = 1e-2


@dataclass
class Pair:
    """Two traces, their names, and the step (counted from 0) and aspect in which they part."""

    a: Trace
    b: Trace
    names: tuple[str, str]
    index: int | None = None
    aspect: str = ""

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
        look = ASPECTS[aspect]
        return look(self.a.steps[index]) != look(self.b.steps[index])

    def locate(self) -> None:
        """Find the first step with different numbers, and the earliest cause in it."""
        for index in range(self.common):
            for result, causes in CAUSES.items():
                if self.differs(result, index):
                    self.index, self.aspect = index, self._cause(causes, index)
                    return

    def _cause(self, causes: tuple[str, ...], index: int) -> str:
        """Return the first cause that differs here and was not seen to be harmless before."""
        for cause in causes[:-1]:
            if self.differs(cause, index) and not (index and self.differs(cause, index - 1)):
                return cause
        return causes[-1]

    def harmless(self) -> list[str]:
        """Return the aspects that differ somewhere although all numbers are equal."""
        results = set(CAUSES)
        return [
            aspect
            for aspect in ASPECTS
            if aspect not in results
            and any(self.differs(aspect, index) for index in range(self.common))
        ]

    def where(self) -> str:
        """Name the first tensor that differs, for aspects that are made of named tensors."""
        a, b = self.steps
        if self.aspect in ("gradient", "update"):
            names = [list(self.a.start.parameters)[i] for i in a.owned]
            return _first(names, ASPECTS[self.aspect](a), ASPECTS[self.aspect](b))
        if self.aspect == "buffers":
            return _first(list(self.a.start.buffers), a.buffers, b.buffers)
        return ""

    def is_rounding(self) -> bool:
        """Return whether all that differs, in the whole of both runs, is of rounding size."""
        if self.aspect not in ROUNDED or len(self.a.steps) != len(self.b.steps):
            return False
        if any(self.differs(cause, index) for cause in EXACT for index in range(self.common)):
            return False
        gaps = [
            max(
                relative_gap(a.gradient_projection, b.gradient_projection),
                relative_gap(a.weight_projection, b.weight_projection),
            )
            for a, b in zip(self.a.steps, self.b.steps, strict=True)
        ]
        first = ROUNDING_ULPS * self._epsilon()
        return gaps[self.index] <= first and max(gaps) <= GROWN and self._drift() <= GROWN

    def largest_difference(self) -> float:
        """Return the largest difference of any weight at the end, over all weights."""
        gaps = [
            float((a.double() - b.double()).abs().max())
            for a, b in zip(self.a.end.parameters.values(), self.b.end.parameters.values(), strict=True)
            if a.numel()
        ]
        return max(gaps, default=0.0)

    def _drift(self) -> float:
        """Return how far apart the final weights are, in units of the distance travelled."""
        start, a, b = (_flat(s.parameters) for s in (self.a.start, self.a.end, self.b.end))
        return relative_gap(a, b, scale=a - start)

    def _epsilon(self) -> float:
        """Return the rounding unit of the coarsest number format that took part."""
        dtypes = {tensor.dtype for tensor in self.a.start.parameters.values()}
        dtypes |= {getattr(torch, call.dtype, None) for call in self.steps[0].calls}
        return max(
            torch.finfo(d).eps for d in dtypes if isinstance(d, torch.dtype) and d.is_floating_point
        )


def relative_gap(a: Tensor, b: Tensor, scale: Tensor | None = None) -> float:
    """Return the norm of `a - b` over the norm of `scale` (of `a`, unless given)."""
    if a.shape != b.shape:
        return float("inf")
    gap = float((a - b).norm())
    size = float((a if scale is None else scale).norm())
    if gap == 0:
        return 0.0
    return gap / size if size > 0 else float("inf")


def _first(names: list[str], a: tuple, b: tuple) -> str:
    return next(
        (name for name, one, other in zip(names, a, b, strict=False) if one != other), ""
    )


def _flat(tensors: dict[str, Tensor]) -> Tensor:
    return torch.cat([tensor.double().flatten() for tensor in tensors.values()])
