"""Two traces side by side: where their numbers first part, and by how much."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from .layers import Parting, counterparts, part, seen
from .near import BY_OUTPUT, Near
from .record import Step, content_of
from .trace import Trace

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
    "gradient": lambda step: step.gradient,
    "learning rate": lambda step: step.learning_rates,
    "optimizer": lambda step: (
        step.optimizer,
        step.kind,
        step.warm,
        [(group.settings, group.members) for group in step.groups],
    ),
    "update": lambda step: step.weight,
    "evaluations": lambda step: step.evaluations_training,
}

# What is listed by forward pass, and says nothing where the same samples come in other parts.
BY_PASS = ("batch", "mode", "precision", "forward output")
# Causes that can act later than they differ: momentum changes nothing in the first step.
LATENT = ("learning rate", "optimizer")


@dataclass
class Pair(Near):
    """Two traces, their names, and the step (counted from 0) and aspect in which they part."""

    a: Trace
    b: Trace
    names: tuple[str, str]
    index: int | None = None
    aspect: str = ""
    noise: bool = False  # whether the very first difference is of rounding size
    rounding: bool = False  # whether all differences are
    first: tuple[int, str] | None = None  # where the runs part at all, be it by rounding
    leap: int | None = None  # the step where another loss shows behind the rounding
    _partings: dict[int, Parting | None] = field(default_factory=dict)

    @property
    def common(self) -> int:
        """How many steps both runs have."""
        return min(len(self.a.steps), len(self.b.steps))

    @property
    def traces(self) -> tuple[Trace, Trace]:
        """Both traces."""
        return self.a, self.b

    @property
    def steps(self) -> tuple[Step, Step]:
        """The two records of the step in which the runs part."""
        return self.at(self.index)

    def at(self, index: int) -> tuple[Step, Step]:
        """Return the two records of a step."""
        return self.a.steps[index], self.b.steps[index]

    @property
    def explained(self) -> bool:
        """Whether both records of the step were kept with what explains them."""
        return all(step.evidence is not None for step in self.steps)

    def say(self, template: str, a: object, b: object) -> str:
        """Fill a template twice, once for each run: `raw loop: 3 batches, Lightning: 4 batches`."""
        one, other = (template.format(value) for value in (a, b))
        return f"{self.names[0]}: {one}; {self.names[1]}: {other}"

    @cached_property
    def layer_names(self) -> dict[str, str] | None:
        """The name in the second model of each layer of the first."""
        return counterparts(self.a, self.b)

    def parting(self, index: int) -> Parting | None:
        """Return the layer in which the forward passes of a step part, if layers were seen."""
        if index not in self._partings:
            self._partings[index] = part(*self.at(index), self.layer_names)
        return self._partings[index]

    def entered_alike(self, index: int) -> bool:
        """Return whether both runs call the same modules, and not one the whole, one its parts."""
        a, b = (
            {(call.entry in self._whole(trace) or call.entry, call.parts) for call in step.calls}
            for trace, step in zip(self.traces, self.at(index), strict=True)
        )
        return a == b or not seen(*self.at(index)) or self.layer_names is None

    def _whole(self, trace: Trace) -> tuple[str, ...]:
        """Return the names of the whole network: the traced module's, or the only one's in it."""
        names = [name.split(".")[0] for name, _, _ in trace.modules]
        return ("", names[0]) if len(set(names)) == 1 and "." in trace.modules[0][0] else ("",)

    def differs(self, aspect: str, index: int) -> bool:
        """Return whether the two runs differ in an aspect of a step."""
        if aspect == "buffers":
            return self._buffers_differ(index)
        if aspect in BY_PASS and not self.entered_alike(index):
            return self._differs_by_layer(aspect, index)
        if aspect == "learning rate":
            return self._other_rates(index)
        look = ASPECTS[aspect]
        a, b = (look(step) for step in self.at(index))
        if aspect == "optimizer" and a != b and _grouped_otherwise(*self.at(index)):
            a, b = (_by_weight(step) for step in self.at(index))
        if aspect in BY_PASS and a != b and self.regrouped(index):
            return aspect in ("mode", "precision") and set(a) != set(b)
        if aspect == "batch" and a != b and self._output_first(index):
            return False
        if aspect in BY_PASS and a != b and len(a) != len(b):
            return self._differs_in_parts(aspect, a, b)
        return a != b

    def _other_rates(self, index: int) -> bool:
        """Return whether the groups have other learning rates, and the weights in them, too."""
        a, b = self.at(index)
        if a.learning_rates == b.learning_rates:
            return False
        one, other = (
            {n: group.learning_rate for group in step.groups for n in group.members}
            for step in (a, b)
        )
        return any(one[number] != other[number] for number in one.keys() & other.keys())

    def _output_first(self, index: int) -> bool:
        """Return whether the first pass of a step that differs does so in its output alone.

        What goes in later may follow from it: the state of a game, the length of an episode.
        """
        for a, b in zip(*(step.calls for step in self.at(index)), strict=False):
            if a.inputs != b.inputs or not a.inputs:
                return False
            if a.output != b.output:
                return True
        return False

    def _differs_in_parts(self, aspect: str, a: tuple, b: tuple) -> bool:
        """Compare steps of different numbers of passes: what both have, and the rest if batches."""
        return aspect == "batch" or any(one != two for one, two in zip(a, b, strict=False))

    def _differs_by_layer(self, aspect: str, index: int) -> bool:
        found = self.parting(index)
        if aspect == "batch":
            return found is not None and found.what == "input"
        if aspect == "forward output":
            return found is not None and found.what == "output"
        a, b = (
            {(c.modes, c.autocast)[aspect == "precision"] for c in s.calls} for s in self.at(index)
        )
        return a != b

    def regrouped(self, index: int) -> bool:
        """Return whether a step has the same samples in both runs, in other parts.

        So it is with a batch whose gradient is added up from smaller ones, and with workers that
        share it. Whether they mean the same, the gradients show.
        """
        a, b = (step.calls for step in self.at(index))
        totals = [(sum(c.size for c in calls), content_of(calls)) for calls in (a, b)]
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
                    self.first = self.index, self.aspect
                    self._look_past_rounding()
                    return

    def _cause(self, causes: tuple[str, ...], index: int) -> str:
        """Return the first cause that differs here and was not seen to be harmless before."""
        same_output = self.same_output(index)
        for cause in causes[:-1]:
            if not self.differs(cause, index) or (same_output and cause in BY_OUTPUT):
                continue
            if cause == "forward output" and self._moved_within(index):
                continue
            if cause in LATENT or not index or not self.differs(cause, index - 1):
                return cause
        return causes[-1]

    def same_output(self, index: int) -> bool:
        """Return whether all forward passes of a step were seen to return the same."""
        return (
            any(self.a.steps[index].outputs)
            and not self.regrouped(index)
            and len(self.a.steps[index].calls) == len(self.b.steps[index].calls)
            and not self.differs("forward output", index)
        )

    def _moved_within(self, index: int) -> bool:
        """Return whether the passes part only after weights were updated inside the step.

        LBFGS evaluates its closure several times, and moves the weights between.
        """
        a, b = (step.calls for step in self.at(index))
        repeated = all(len(calls) > 1 and calls[0].inputs == calls[1].inputs for calls in (a, b))
        return repeated and bool(a[0].output) and a[0].output == b[0].output

    def harmless(self) -> list[str]:
        """Return the aspects that differ somewhere although all numbers are equal."""
        return [
            aspect
            for aspect in ASPECTS
            if aspect not in CAUSES
            and any(self.differs(aspect, index) for index in range(self.common))
            and not (aspect == "optimizer" and self._same_settings())
        ]

    def _same_settings(self) -> bool:
        """Return whether the optimizers are set up alike, be they other objects or not."""
        return all(
            (a.kind, a.groups) == (b.kind, b.groups)
            for a, b in zip(self.a.steps, self.b.steps, strict=False)
        )

    def where(self) -> str:
        """Name the first tensor that differs, for aspects that are made of named tensors."""
        if self.aspect in ("gradient", "update") and self.explained:
            a, b = self.steps
            names = [list(self.a.start.parameters)[i] for i in a.owned]
            both = (
                (a.gradients, b.gradients) if self.aspect == "gradient" else (a.weights, b.weights)
            )
            return _first(names, *both)
        if self.aspect == "buffers":
            return next(iter(self.other_buffers(self.index)), "")
        if self.aspect in ("batch", "forward output"):
            found = self.parting(self.index)
            return found.layer if found and found.what == "output" else ""
        return ""

    # Buffers

    @cached_property
    def buffer_names(self) -> list[tuple[str, str]]:
        """The names of the buffers that both models have and a run has changed, in pairs.

        By name, or by place where both have as many. What only one of them keeps, as a running
        loss, is nothing that the other could differ in.
        """
        names = [list(trace.start.buffers) for trace in self.traces]
        if len(names[0]) == len(names[1]):
            both = list(zip(*names, strict=True))
        else:
            both = [(name, name) for name in names[0] if name in names[1]]
            if not both:
                tails = {name.partition(".")[2]: name for name in names[1]}
                both = [(name, tails[name]) for name in names[0] if name in tails]
        changed = [trace.end.buffers.keys() for trace in self.traces]
        return [(a, b) for a, b in both if a in changed[0] or b in changed[1]]

    def other_buffers(self, index: int) -> list[str]:
        """Return the buffers that differ after a step, by their names in the first model."""
        a, b = (step.evidence for step in self.at(index))
        if a is None or b is None:
            return []
        pairs = self.buffer_names
        return [one for one, two in pairs if a.buffers.get(one) != b.buffers.get(two)]

    def _buffers_differ(self, index: int) -> bool:
        a, b = self.at(index)
        if a.buffer == b.buffer or not self.buffer_names:
            return False
        if a.evidence and b.evidence:
            return bool(self.other_buffers(index))
        return len(self.a.start.buffers) == len(self.b.start.buffers)

    # The end


def _grouped_otherwise(a: Step, b: Step) -> bool:
    return [group.members for group in a.groups] != [group.members for group in b.groups]


def _by_weight(step: Step) -> object:
    """Return an optimizer's settings for each weight, whatever the groups that they are in."""
    looked = {
        number: (group.learning_rate, group.settings)
        for group in step.groups
        for number in group.members
    }
    return step.optimizer, step.kind, step.warm, looked


def _first(names: list[str], a: tuple, b: tuple) -> str:
    return next((name for name, one, other in zip(names, a, b, strict=False) if one != other), "")
