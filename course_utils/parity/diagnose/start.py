"""Finders for the model and its first weights."""

import torch

from ..chance import parted
from ..pair import Pair
from .finding import Diagnosis, shortened


def tied(pair: Pair) -> Diagnosis | None:
    """A weight that one model shares between two layers is twice in the other."""
    counts = [len(side.start.parameters) for side in pair.traces]
    for many, few in ((0, 1), (1, 0)):
        more, fewer = (list(pair.traces[i].start.parameters.items()) for i in (many, few))
        if len(more) <= len(fewer):
            continue
        known = {name for name, _ in fewer}
        extra = [(name, tensor) for name, tensor in more if name not in known]
        shapes = [tuple(tensor.shape) for _, tensor in fewer]
        if known < {name for name, _ in more} and all(tuple(t.shape) in shapes for _, t in extra):
            names = shortened([name for name, _ in extra])
            return Diagnosis(
                "tied weights",
                f"{pair.names[few]} shares a weight between layers, {pair.names[many]} has a copy "
                f"of its own of {names}: sharing ends when a layer is copied, rebuilt, or given "
                "new weights after it was tied.",
                "Tie the weights again after the model is built, moved or loaded: "
                "`head.weight = embedding.weight`.",
                [pair.say("{} tensors", *counts), f"Only in {pair.names[many]}: {names}."],
            )
    return None


def other_model(pair: Pair) -> Diagnosis:
    """The two models have other tensors."""
    shapes = [[tuple(t.shape) for t in side.start.parameters.values()] for side in pair.traces]
    return Diagnosis(
        "not the same model",
        "The two traces watched models with different parameters, so no step can be compared.",
        "Trace the same network on both sides: `trace(model)` for the raw loop and "
        "`trace(lit.model)`, not `trace(lit)`, where the LightningModule holds more than it.",
        [pair.say("{0[0]} tensors {0[1]}", *[(len(s), shortened(s)) for s in shapes])],
    )


def trained_before(pair: Pair) -> Diagnosis | None:
    """One run goes on where the other one ended."""
    for before, after in ((0, 1), (1, 0)):
        ends = pair.traces[before].end.parameters.values()
        starts = pair.traces[after].start.parameters.values()
        if all(torch.equal(end, start) for end, start in zip(ends, starts, strict=True)):
            break
    else:
        return None
    return Diagnosis(
        "same model trained twice",
        f"{pair.names[after]} began with the weights that {pair.names[before]} ended with: both "
        "trained the same model object, one after the other.",
        "Build a fresh model for each run, after seeding again.",
        ["The first weights of the one are the last weights of the other, bit for bit."],
    )


def other_initialisation(pair: Pair) -> Diagnosis | None:
    """One run gives the weights new first values, or values of another size."""
    changed = [trace.initialised for trace in pair.traces]
    spread = _other_spread(pair)
    if changed[0] == changed[1] and not spread:
        return None
    evidence = []
    if changed[0] != changed[1]:
        name = pair.names[changed.index(True)]
        evidence.append(f"{name} changed the weights between the `with` line and its first step.")
    if spread:
        evidence.append(spread)
    return Diagnosis(
        "other initialisation",
        "The weights are initialised in another way: one run gives them first values of its own "
        "(`nn.init`, loaded weights), the other does not, or later than its first step.",
        "Initialise in the model's constructor, or before the training on both sides, by the same "
        "function and after the same seed.",
        evidence,
    )


def _other_spread(pair: Pair) -> str:
    """Say where the values of a tensor are spread otherwise, by more than chance."""
    for (name, a), b in _pairs(pair):
        if a.numel() < 30 or not (a.is_floating_point() and b.is_floating_point()):
            continue
        one, other = float(a.float().std()), float(b.float().std())
        # The spread of n values is known to 1 / sqrt(2 n); ten times that is no chance.
        chance = 10 / (2 * a.numel()) ** 0.5
        if abs(one - other) > chance * max(one, other):
            return pair.say(f"{name} spreads by {{:.3g}}", one, other)
    return ""


def _pairs(pair: Pair) -> list:
    a, b = (trace.start.parameters for trace in pair.traces)
    return list(zip(a.items(), b.values(), strict=True))


def other_start(pair: Pair) -> Diagnosis:
    """The models were drawn from other random numbers."""
    equal = [torch.equal(a, b) for (_, a), b in _pairs(pair)]
    evidence = [f"{sum(equal)} of {len(equal)} tensors start equal."]
    if any(parted(pair.a.seed, pair.b.seed)):
        evidence.append("The random generators were in other states when the traces began.")
    return Diagnosis(
        "other seed or build order",
        "The models started from other random numbers: another seed, or something drew from the "
        "generator between the seed and the model (a layer built earlier, a batch looked at, data "
        "split).",
        "On both sides, call `seed_everything(seed)` right before building the model, and build "
        "its layers in the same order. Then loaders, then the optimizer.",
        evidence,
    )
