"""Finders for the forward pass: mode, number format, random numbers, and what it computes."""

from torch import nn

from ..layers import Parting
from ..pair import Pair
from ..record import Step
from .finding import (
    PASSES,
    Diagnosis,
    equal_in,
    evaluations,
    listed,
    other_drawn,
    random_parted,
    sentence,
)


def frozen_norm(pair: Pair) -> Diagnosis | None:
    """One run keeps only its batch norm in evaluation mode, on purpose perhaps."""
    modes = [_acting(pair, side) for side in (0, 1)]
    for one, other in ((0, 1), (1, 0)):
        frozen, active = modes[one], modes[other]
        norms = [kind == "norm" for kind, _ in frozen]
        if not frozen or len(frozen) != len(active):
            continue
        off = [not training for _, training in frozen]
        on = all(training for _, training in active)
        kept = any(_trains(call.modes) for call in pair.steps[one].calls)
        if (
            on
            and any(off)
            and all(norm for norm, is_off in zip(norms, off, strict=True) if is_off)
            and kept
        ):
            return Diagnosis(
                "frozen batch norm",
                f"{pair.names[one]} keeps its batch norm in evaluation mode while the rest trains, "
                f"as one does on purpose to freeze it in fine-tuning; {pair.names[other]} lets it "
                "train. If that is meant, the other side lacks it; if not, "
                f"`model.train()` is missing in {pair.names[one]}.",
                "Freeze it alike on both sides: in a LightningModule call `.eval()` on these "
                "layers in `on_train_epoch_start`, as the Trainer may have set them to training "
                "mode.",
                [
                    pair.say(
                        "{} norm layers in training mode",
                        *[sum(k == "norm" and t for k, t in side) for side in modes],
                    )
                ],
            )
    return None


def _acting(pair: Pair, side: int) -> list[tuple[str, bool]]:
    """Return kind and mode of the layers that act by mode, in the step's first pass."""
    trace, step = pair.traces[side], pair.steps[side]
    if not step.calls or not trace.settings:
        return []
    settings = trace.settings[min(step.calls[0].settings, len(trace.settings) - 1)]
    return [(setting[0], setting[1]) for setting in settings]


def _trains(modes: tuple[bool, ...]) -> bool:
    return any(modes)


def forgotten_mode(pair: Pair) -> Diagnosis:
    """One run trained with the model in evaluation mode."""
    layers = [[flag for call in step.calls for flag in call.modes] for step in pair.steps]
    shares = [f"{sum(flags)} of {len(flags)} layers in training mode" for flags in layers]
    behind = pair.names[0 if sum(layers[0]) < sum(layers[1]) else 1]
    return Diagnosis(
        "forgotten train()",
        f"{behind} took this step with layers still in evaluation mode, so dropout was off or "
        "batch norm used its running averages. Usually `model.eval()` for validation was not "
        "followed by `model.train()`.",
        "Call `model.train()` at the start of each training epoch. The Trainer gives each layer "
        "back its mode after validation, but it trains a model as it gets it: one in evaluation "
        "mode stays there.",
        [pair.say("{}", *shares)],
    )


def other_precision(pair: Pair) -> Diagnosis:
    """One run computes in another number format."""
    formats = [
        sorted({f"{c.dtype}{' under autocast' if c.autocast else ''}" for c in step.calls})
        for step in pair.steps
    ]
    return Diagnosis(
        "other precision",
        "The forward pass computes in different number formats.",
        "Match `Trainer(precision=…)` and the raw loop: `bf16-mixed` is "
        "`torch.autocast(device, dtype=torch.bfloat16)` around forward pass and loss.",
        [pair.say("output is {0}", *[" and ".join(f) for f in formats])],
    )


def forgotten_eval(pair: Pair) -> Diagnosis | None:
    """One run validated in training mode."""
    if pair.index is None:
        counts, moment = (pair.a.idle[1], pair.b.idle[1]), "after the last step"
    else:
        counts = tuple(step.evaluations_training for step in pair.steps)
        moment = "since the step before"
    draws = (pair.a.random or pair.b.random) and _random_differs(pair)
    if counts[0] == counts[1] or not (draws or (pair.a.end.buffers and pair.aspect != "batch")):
        return None
    one = 0 if counts[0] > counts[1] else 1
    effects = ["random numbers were drawn that the training needed"] * bool(draws)
    if any(kind == "norm" for settings in pair.traces[one].settings for kind, *_ in settings):
        effects.append("batch norm averaged over validation data")
    return Diagnosis(
        "forgotten eval()",
        f"{pair.names[one]} validated with the model in training mode, or ran other passes in it "
        f"that are not for training: {', and '.join(effects) or 'they changed its buffers'}.",
        "Call `model.eval()` before the validation loop, and `model.train()` after it. The Trainer "
        "sets both by itself.",
        [pair.say(f"{{}} forward passes in training mode, without a backward, {moment}", *counts)],
    )


def _random_differs(pair: Pair) -> bool:
    """Return whether a generator that the model draws from is in another state, or may be."""
    if pair.index is None or not all(step.calls for step in pair.steps):
        return True
    return bool(other_drawn(pair))


def changed_weights(pair: Pair) -> Diagnosis | None:
    """One run changed its weights between two steps, by other means than its optimizer."""
    changed = [step.changed for step in pair.steps]
    if changed[0] == changed[1]:
        return None
    one = changed.index(True)
    trace, step = pair.traces[one], pair.steps[one]
    evidence = [
        f"The weights of {pair.names[one]} were others before this step's forward pass than after "
        f"the step before; those of {pair.names[1 - one]} were the same."
    ]
    again = next(
        (
            i
            for i, old in enumerate(trace.steps[: pair.index])
            if _after(old) == step.calls[0].weights
        ),
        None,
    )
    if again is not None:
        evidence.append(f"They are those after step {again + 1:,} again, bit for bit.")
    before = trace.steps[pair.index - 1].evidence if pair.index else None
    if step.evidence and before and step.evidence.weight_top < 0.9 * before.weight_top:
        evidence.append(
            f"Their largest value fell from {before.weight_top:.3g} to "
            f"{step.evidence.weight_top:.3g}."
        )
    return Diagnosis(
        "weights changed between steps",
        f"{pair.names[one]} changes its weights between two optimizer steps, as a program does "
        "that clamps them, swaps averaged weights in (and not out again), loads a checkpoint, or "
        "initialises a layer again.",
        "Do the same on both sides, at the same moment: after each batch that is "
        "`on_train_batch_end` in a LightningModule; weights that were swapped in for validation "
        "have to be swapped out before training goes on.",
        evidence,
    )


def _after(step: Step) -> bytes:
    return step.weight


def norm_in_parts(pair: Pair) -> Diagnosis | None:
    """Batch norm normalises each part of a divided batch by itself."""
    if not pair.regrouped(pair.index) or not any(
        kind == "norm" and training for side in (0, 1) for kind, training in _acting(pair, side)
    ):
        return None
    parts = [" + ".join(str(call.size) for call in step.calls) for step in pair.steps]
    return Diagnosis(
        "batch norm in parts",
        "The same samples go through in other parts, and batch norm normalises each part by its "
        "own mean and variance: accumulated (or shared) batches are not one large batch then.",
        "Divide the batch alike on both sides, or use a norm that looks at one sample only (group "
        "norm, layer norm); among several workers, `Trainer(sync_batchnorm=True)`.",
        [pair.say("batches of {}", *parts), "Batch norm is in training mode."],
    )


def helper_draws(pair: Pair) -> Diagnosis | None:
    """Another network's dropout draws before the model's does."""
    a, b = (step.beside for step in pair.steps)
    if not a or not b or any(a) == any(b) or not _random_differs(pair):
        return None
    if random_parted(pair) is None or random_parted(pair)[0] != pair.index:
        return None
    return _helper_mode(pair)


def helper_in_training(pair: Pair) -> Diagnosis | None:
    """Another network, between the model and the loss, is in training mode in one run only."""
    a, b = (step.beside for step in pair.steps)
    if not a or not b or any(a) == any(b):  # without such layers there is no mode to compare
        return None
    return _helper_mode(pair)


def _helper_mode(pair: Pair) -> Diagnosis:
    a, b = (step.beside for step in pair.steps)
    shares = [f"{sum(flags)} of {len(flags)} such layers in training mode" for flags in (a, b)]
    return Diagnosis(
        "another network in training mode",
        f"{pair.names[0 if any(a) else 1]} has batch norm or dropout of another network (a loss "
        "network, a teacher) in training mode: it then answers for each batch in another way, and "
        "its running averages change.",
        "Call `network.eval()` where the network is built. The Trainer keeps the mode in which it "
        "finds each layer, but `module.train()` on all of a LightningModule switches it back.",
        [pair.say("{}", *shares)],
    )


def other_dropout(pair: Pair) -> Diagnosis | None:
    """The model's own random numbers differ."""
    sources = other_drawn(pair)
    if not sources or _parts_in_fixed_layer(pair):
        return None
    counts = evaluations(pair)
    evidence = [
        "The model draws random numbers.",
        *sentence(equal_in(pair, "batch", "weights", "mode")),
        f"Before this pass, {listed(sources)} generator is in another state.",
    ]
    found = random_parted(pair)
    if found and set(found[2]) & set(sources):
        where = (
            "before the traces began"
            if found[1] == "before the trace"
            else f"by step {found[0] + 1:,}"
        )
        evidence.append(f"The states part {where}.")
    if counts[0] != counts[1]:
        evidence.append(pair.say(PASSES, *counts))
    return Diagnosis(
        "other random numbers in the model",
        "Dropout, noise, or a choice by chance drew other random numbers. Something else drew from "
        "the generator in one run only: another seed, a validation pass over a loader without a "
        "generator of its own, or a random transform.",
        "Seed right before training on both sides, validate at the same moments, and give the "
        "validation loader a generator of its own.",
        evidence,
    )


# Parts of the names of PyTorch's layers that draw random numbers, or may.
DRAWING = ("Dropout", "RReLU", "Fractional", "RNN", "LSTM", "GRU", "Attention", "Transformer")


def _parts_in_fixed_layer(pair: Pair) -> bool:
    """Return whether the first layer that differs from equal inputs is one that never draws."""
    place = pair.parting(pair.index)
    if place is None or place.what != "output":
        return False
    kinds = {name: kind for name, kind, _ in pair.a.modules}
    kind = kinds.get(place.layer, "")
    return hasattr(nn, kind) and not any(word in kind for word in DRAWING)


def other_layer_settings(pair: Pair) -> Diagnosis | None:
    """A layer is of another kind, or set up in another way."""
    place = pair.parting(pair.index) if pair.index is not None else None
    other = _other_modules(pair)
    if not other:
        return None
    name, one, two = other[0]
    if place and place.what == "output" and place.layer not in [o[0] for o in other]:
        return None
    return Diagnosis(
        "other forward pass",
        "The two networks are not built alike: a layer is of another kind, or has other settings.",
        "Build both from the same class, with the same arguments.",
        [
            *_place(place, pair),
            pair.say(f"{name} is {{}}", one, two),
            *([f"So are {len(other) - 1} more."] if len(other) > 1 else []),
        ],
    )


def _other_modules(pair: Pair) -> list[tuple[str, str, str]]:
    """Return the leaf modules that are of another kind or settings: name, and both."""
    a, b = (trace.modules for trace in pair.traces)
    if len(a) != len(b):
        return []
    return [
        (one[0], f"{one[1]}({one[2]})", f"{two[1]}({two[2]})")
        for one, two in zip(a, b, strict=True)
        if one[1:] != two[1:]
    ]


def changed_buffers(pair: Pair) -> Diagnosis | None:
    """The model's buffers were others before the pass, though weights and batch are equal."""
    calls = [step.calls[0] for step in pair.steps if step.calls]
    if len(calls) < 2 or not pair.buffer_names or pair.regrouped(pair.index):
        return None
    if not calls[0].buffers or calls[0].buffers == calls[1].buffers:
        return None
    if len(pair.a.start.buffers) != len(pair.b.start.buffers):
        return None
    return Diagnosis(
        "other buffers",
        "The model's buffers (such as the running averages of batch norm) are others before this "
        "pass: something changed them, or other passes in training mode went through the model.",
        "Load the same buffers on both sides, and run every pass that is not for training in "
        "evaluation mode.",
        sentence(
            equal_in(pair, "weights", "batch", "mode"), "; the buffers before the pass are not"
        ),
    )


def other_forward(pair: Pair) -> Diagnosis:
    """The output differs for no reason that a trace can see."""
    place = pair.parting(pair.index) if pair.index is not None else None
    evidence = _place(place, pair)
    evidence += _operations(pair)
    if not any(call.inputs for step in pair.steps for call in step.calls):
        evidence.append("The inputs of the forward pass were not seen.")
    evidence += sentence(equal_in(pair, "batch", "weights", "mode"), "; the output is not")
    return Diagnosis(
        "other forward pass",
        "The forward passes return different values: the two `forward` methods compute different "
        "things, or get something that the trace does not see.",
        "See first whether each loop is equal to itself: run it twice and compare. Then call both "
        "models on one batch in evaluation mode, layer by layer.",
        evidence,
    )


def _place(place: Parting | None, pair: Pair) -> list[str]:
    if place is None:
        return []
    if place.what == "output":
        return [f"The first layer whose output differs while its input is equal: {place.layer}."]
    return [
        f"The first layer whose input differs: {place.layer}. What comes before it is no layer."
    ]


def _operations(pair: Pair) -> list[str]:
    from .gradient import other_operations

    return other_operations(pair)
