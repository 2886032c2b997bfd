"""Whether two runs are apart by rounding, or by more than that."""

from math import isfinite

import torch
from torch import Tensor

# Causes that reach the gradient only through the output: where that is equal, they are not it.
BY_OUTPUT = ("batch", "mode", "precision")
# In which aspects rounding can show first, and which ones it leaves equal throughout.
ROUNDED = ("batch", "forward output", "gradient", "update")
EXACT = ("parameters", "batch", "mode", "precision", "learning rate", "optimizer")

# A difference is of rounding size if it is under 128 units in the last place (relative, over the
# whole gradient) where it first shows, and rounding may grow to a hundredth of the gradient, and
# of the distance that the weights travelled, before a longer run no longer proves anything.
ROUNDING_ULPS = 128
GROWN = 1e-2
# A loss that is suddenly so many times further from its twin than ever before was not rounded.
LEAP = 50
# What rounding makes of a gradient in single precision.
SINGLE = ROUNDING_ULPS * torch.finfo(torch.float32).eps
# How exactly two numbers must agree that a fault makes equal, and not the chance of rounding.
FIT = 1e-3


class Near:
    """How far apart two traced runs are, and whether rounding explains it: a part of `Pair`."""

    def _look_past_rounding(self) -> None:
        self.noise = self.aspect in ROUNDED and self._rounded(self.index)
        if not self.noise:
            return
        clipped = self._clipped_at()
        leap = self.leap = self._leap()
        for index in range(self.index, self.common):
            found = self._beyond_rounding(index) or ("gradient" if index in (clipped, leap) else "")
            if found:
                self.index, self.aspect = index, found
                return
        if len(self.a.steps) != len(self.b.steps):
            self.index, self.aspect = None, "length"
        elif self.a.idle[1] != self.b.idle[1] and self.a.end.buffers:
            self.index, self.aspect = None, "final buffers"
        elif self.drift() <= GROWN:
            self.rounding = True
        else:
            self.index, self.aspect = None, "final weights"

    def _rounded(self, index: int) -> bool:
        """Return whether the first difference of all is no larger than rounding makes it.

        Of a step that was kept as fingerprints only that cannot be told, and so is not said.
        """
        if any(step.evidence is None for step in self.at(index)):
            return False
        gradient, weights = self.gaps(index)
        # Adam enlarges the rounding of tiny gradients, so weights count only if they part first.
        first = weights if self.aspect == "update" else gradient
        if first > self.small():
            return False
        # From the same outputs, a loss can only round in the format in which it is computed. What
        # is in it beside, and passes the model no gradient, as the loss of a probe, does not count.
        other_loss = self.same_output(index) and self.loss_gap(index) > self.small_loss(index)
        return not (other_loss and gradient > SINGLE) and self.structure(index) is None

    def loss_gap(self, index: int) -> float:
        """Return the largest difference of the losses of a step, relative to them; 0 if unseen."""
        a, b = (step.losses for step in self.at(index))
        if len(a) != len(b) or not a or self.regrouped(index):
            return 0.0
        gaps = [abs(x - y) / max(abs(x), abs(y), 0.1) for x, y in zip(a, b, strict=True)]
        return max(gaps) if all(map(isfinite, gaps)) else float("inf")

    def small_loss(self, index: int) -> float:
        """Return what counts as rounding of a loss, in the number format that it has."""
        kinds = [getattr(torch, step.loss_dtype or "float32", None) for step in self.at(index)]
        formats = [kind for kind in kinds if kind is not None and kind.is_floating_point]
        return ROUNDING_ULPS * max(torch.finfo(kind).eps for kind in formats)

    def _leap(self) -> int | None:
        """Return the first step where loss and gradient part far more than they ever did before.

        Weights that are a little off move a loss a little. What makes its difference leap, while
        the weights are as close as before, is another loss. (The gradient alone may leap by
        rounding, where a ReLU falls on the other side of zero.)
        """
        losses = gradients = 0.0
        for index in range(self.index, self.common):
            loss, near = self.loss_gap(index), self.small_loss(index)
            gradient, _ = self.gaps(index)
            weights = self.gaps(index - 1)[1] if index else 0.0
            if not isfinite(loss) or not isfinite(weights):
                return None
            leapt = loss > LEAP * max(losses, near / LEAP, weights)
            # Of a step that was kept as fingerprints only, the loss alone tells.
            seen = all(step.evidence is not None for step in self.at(index))
            if leapt and (not seen or gradient > max(LEAP * gradients, SINGLE)):
                return index
            losses, gradients = max(losses, loss), max(gradients, gradient)
        return None

    def structure(self, index: int) -> tuple[str, float] | None:
        """Return what the difference of two gradients is made of, if that is no rounding.

        `weights` with a factor: the one gradient is the other plus so many times the weights, as
        a penalty on their squares adds it; `signs`: plus so many times their signs.
        """
        if index is None or any(step.evidence is None for step in self.at(index)):
            return None
        a, b = (step.evidence for step in self.at(index))
        moved = index > 0 and self.differs("update", index - 1)
        if moved or a.gradient_sample.shape != b.gradient_sample.shape:
            return None
        gap = a.gradient_sample.double() - b.gradient_sample.double()
        if not isfinite(float(gap.norm())) or float(gap.norm()) == 0:
            return None
        weights = (a.weight_sample.double() + b.weight_sample.double()) / 2
        for what, direction in (("weights", weights), ("signs", weights.sign())):
            if float(direction.norm()) == 0:
                continue
            factor = float(gap @ direction / (direction @ direction))
            if float((gap - factor * direction).norm()) < 0.2 * float(gap.norm()):
                return what, factor
        return None

    def _beyond_rounding(self, index: int) -> str:
        """Return the aspect in which a step differs by more than rounding, if there is one."""
        apart, start = self.gaps(index)[0] > self.small(), self.first[0]
        for aspect in EXACT:
            if not self.differs(aspect, index):
                continue
            # What differed in the first step as well, and did no more than round, does no more now.
            if aspect not in BY_OUTPUT or (apart and not self.differs(aspect, start)):
                return aspect
        if self.differs("evaluations", index) and self.a.end.buffers:
            return "buffers"
        if self.differs("evaluations", index) and self.a.random:
            return "forward output"
        return "gradient" if self.gaps(index)[0] > GROWN else ""

    def gaps(self, index: int) -> tuple[float, float]:
        """Return how far apart the gradients of a step are, and the weights after it.

        Zero where they are equal, and where a step was kept without what tells it.
        """
        a, b = self.at(index)
        if a.evidence is None or b.evidence is None:
            return 0.0, 0.0
        a, b = a.evidence, b.evidence
        return (
            relative_gap(a.gradient_sketch, b.gradient_sketch),
            relative_gap(a.weight_sketch, b.weight_sketch),
        )

    def _clipped_at(self) -> int | None:
        """Return the first step in which one run exceeds a value that the other is clipped to.

        The largest gradient value of two steps is never exactly the same but by a limit.
        """
        tops = [
            [step.gradient_max for step in trace.steps[: self.common] if step.evidence]
            for trace in self.traces
        ]
        if not all(tops) or len(tops[0]) != len(tops[1]):
            return None
        for clipped, free in (tops, tops[::-1]):
            limit = max(clipped)
            if clipped.count(limit) > 1 and max(free) > limit * (1 + FIT):
                return next(index for index, top in enumerate(free) if top > limit)
        return None

    def largest_difference(self) -> float:
        """Return the largest difference of any weight at the end, over all weights."""
        ends = (trace.end.parameters.values() for trace in self.traces)
        pairs = [(_wide(a), _wide(b)) for a, b in zip(*ends, strict=True) if a.numel()]
        return max((float((a - b).abs().max()) for a, b in pairs), default=0.0)

    def drift(self) -> float:
        """Return how far apart the final weights are, in units of the distance travelled.

        Left out are weights whose gradients are zero but for rounding, as those of a bias before
        batch norm are: Adam makes full steps of them, which have no effect.
        """
        small, shares = self.small(), {}
        for step in (*self.a.steps, *self.b.steps):
            if step.evidence is None:
                continue
            total = sum(norm**2 for norm in step.evidence.gradient_norms) ** 0.5
            for number, norm in zip(step.owned, step.evidence.gradient_norms, strict=True):
                share = norm / total if norm else 0.0
                shares[number] = max(share, shares.get(number, 0.0))
        idle = {number for number, share in shares.items() if 0 < share <= small}
        snapshots = (s.parameters.values() for s in (self.a.start, self.a.end, self.b.end))
        start, a, b = (
            torch.cat([_wide(t).flatten() for i, t in enumerate(ts) if i not in idle])
            for ts in snapshots
        )
        return relative_gap(a, b, scale=a - start)

    def small(self) -> float:
        """Return what counts as rounding, by the coarsest number format that took part."""
        dtypes = {tensor.dtype for tensor in self.a.start.parameters.values()}
        index = self.first[0] if self.first else self.index
        dtypes |= {
            getattr(torch, c.dtype, None) for s in self.at(index) for c in s.calls if c.dtype
        }
        formats = [d for d in dtypes if isinstance(d, torch.dtype) and d.is_floating_point]
        return min(GROWN, ROUNDING_ULPS * max((torch.finfo(d).eps for d in formats), default=1e-7))


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


def _wide(tensor: Tensor) -> Tensor:
    """Return values in double precision, complex ones as two each."""
    return (torch.view_as_real(tensor) if tensor.is_complex() else tensor).double()
