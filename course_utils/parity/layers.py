"""Two forward passes layer by layer: the first one whose input is equal and whose output is not."""

from collections import Counter, defaultdict
from dataclasses import dataclass

from .record import Layer, Step
from .trace import Trace


@dataclass(frozen=True)
class Parting:
    """Where two forward passes part: in a layer's `output`, or already in its `input`."""

    what: str
    layer: str  # its name in the first run's model


def counterparts(a: Trace, b: Trace) -> dict[str, str] | None:
    """Return the name in the second model of each layer of the first one.

    Layers of the same name belong together; else those of the same place, if both models are made
    of the same kinds of layers in the same order. None if neither holds.
    """
    names = [[name for name, _, _ in trace.modules] for trace in (a, b)]
    if set(names[0]) == set(names[1]):
        return {name: name for name in names[0]}
    kinds = [[kind for _, kind, _ in trace.modules] for trace in (a, b)]
    if kinds[0] == kinds[1]:
        return dict(zip(*names, strict=True))
    with_settings = [[m for m in trace.modules if m[2]] for trace in (a, b)]
    if [m[1:] for m in with_settings[0]] == [m[1:] for m in with_settings[1]]:
        return {one[0]: two[0] for one, two in zip(*with_settings, strict=True)}
    return None


def part(a: Step, b: Step, names: dict[str, str] | None) -> Parting | None:
    """Return where the forward passes of two steps part, or None if their layers agree.

    Compared is what each layer was given and returned, at its first call, its second, …; in
    which order the layers were called does not matter.
    """
    if names is None:
        return None
    theirs = _by_name(b)
    seen: Counter = Counter()
    for layer in _layers(a):
        other = names.get(layer.name)
        number = seen[layer.name]
        seen[layer.name] += 1
        if other is None or number >= len(theirs[other]):
            continue
        twin = theirs[other][number]
        if layer.inputs != twin.inputs:
            return Parting("input", layer.name)
        if layer.output != twin.output:
            return Parting("output", layer.name)
    return None


def seen(a: Step, b: Step) -> bool:
    """Return whether both steps were looked at layer by layer."""
    return bool(_layers(a)) and bool(_layers(b))


def recomputed_otherwise(step: Step) -> str:
    """Return the first layer that acted otherwise when it ran again for the backward pass.

    From the same input it gave another output; or, as the last of a checkpointed block is stopped
    before it returns, it began with another state of the random generator.
    """
    before: dict[str, list[Layer]] = defaultdict(list)
    for call in step.calls:
        for layer in call.layers:
            if not layer.again:
                before[layer.name].append(layer)
                continue
            twins = [known for known in before[layer.name] if known.inputs == layer.inputs]
            if layer.output and twins and layer.output not in {twin.output for twin in twins}:
                return layer.name
            if layer.random and twins and layer.random not in {twin.random for twin in twins}:
                return layer.name
    return ""


def _layers(step: Step) -> list[Layer]:
    return [layer for call in step.calls for layer in call.layers if not layer.again]


def _by_name(step: Step) -> dict[str, list[Layer]]:
    found = defaultdict(list)
    for layer in _layers(step):
        found[layer.name].append(layer)
    return found
