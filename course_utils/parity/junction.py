"""Where a run was interrupted and resumed, beside the same run in one piece."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .chance import parted
from .record import SOURCES, Pass, Step
from .trace import Trace


@dataclass
class Junction:
    """Where a run was resumed: after so many steps of the whole one."""

    whole: Trace
    before: Trace
    after: Trace
    begun: int
    of_weights: int  # after so many steps the whole run had the weights that it begins with
    at_end: bool  # whether that is where the part before ended

    @property
    def expected(self) -> Step | None:
        """The whole run's next step."""
        return self.whole.steps[self.begun] if self.begun < len(self.whole.steps) else None

    @property
    def actual(self) -> Step:
        """The resumed run's first step."""
        return self.after.steps[0]

    @property
    def expected_weights(self) -> dict[str, Tensor]:
        """The weights that the resumed run should begin with, as far as they are known."""
        return self.before.end.parameters if self.at_end else self.after.start.parameters

    @cached_property
    def expected_buffers(self) -> dict[str, Tensor]:
        """The buffers at the end of the part before."""
        return {**self.before.start.buffers, **self.before.end.buffers}

    @property
    def other_generators(self) -> list[str]:
        """The random generators whose states differ before the first forward pass."""
        if not (self.expected and self.expected.calls and self.actual.calls):
            return []
        states = self.expected.calls[0].random, self.actual.calls[0].random
        return [name for name, differ in zip(SOURCES, parted(*states), strict=True) if differ]

    @property
    def at_epoch(self) -> bool:
        """Whether the whole run began a pass over its training loader here."""
        one = training_pass(self.whole, self.begun)
        return one is not None and one.step == self.begun

    @cached_property
    def same_start(self) -> bool:
        """Whether weights and first batch are as in the whole run."""
        return (
            self.expected is not None
            and alike(self.after.start.parameters, self.expected_weights)
            and self.actual.batch == self.expected.batch
        )


def training_pass(record: Trace, step: int) -> Pass | None:
    """Return the last pass over a loader begun at or before a step that batches came from."""
    taken = {number for one in record.steps for number, _ in one.loaded}
    loaders = [record.passes[number].loader for number in taken if number < len(record.passes)]
    usual = max(set(loaders), key=loaders.count, default=None)
    begun = [one for one in record.passes if one.step <= step and one.loader == usual]
    return begun[-1] if begun else None


def alike(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Return whether two snapshots hold the same tensors, in order."""
    return len(a) == len(b) and all(
        one.shape == two.shape and torch.equal(one, two)
        for one, two in zip(a.values(), b.values(), strict=True)
    )
