"""From the first difference to its usual cause, by evidence that the traces hold.

Each function looks for one fault and returns a `Diagnosis`, or None if the evidence is not there.
The functions for an aspect are asked in turn; the last one always answers.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import groupby
from statistics import median

import torch
from torch import Tensor

from course_utils.parity.pair import FIT, GROWN, Pair, relative_gap
from course_utils.parity.record import Step
from course_utils.parity.trace import Trace


@dataclass(frozen=True)
class Diagnosis:
    """One fault: its short name, what usually causes it, how to mend it, and what shows it."""

    name: str
    cause: str
    mend: str
    evidence: list[str] = field(default_factory=list)


PASSES = "{} forward passes since the step before that no backward pass used"

Finder = Callable[[Pair], Diagnosis | None]


def diagnose(pair: Pair, verdict: str) -> Diagnosis:
    """Return the diagnosis for the first difference of a pair."""
    aspect = "rounding" if verdict == "equal within rounding" else pair.aspect
    for finder in FINDERS[aspect]:
        found = finder(pair)
        if found is not None:
            return found
    raise AssertionError(f"no finder answered for {pair.aspect!r}")


# The model and its first weights


def other_model(pair: Pair) -> Diagnosis:
    """The two models have other tensors."""
    shapes = [[tuple(t.shape) for t in side.start.parameters.values()] for side in (pair.a, pair.b)]
    return Diagnosis(
        "not the same model",
        "The two traces watched models with different parameters, so no step can be compared.",
        "Trace the same network on both sides: `trace(model)` for the raw loop and "
        "`trace(lit.model)`, not `trace(lit)`, where the LightningModule holds more than it.",
        [pair.say("{0[0]} tensors {0[1]}", *[(len(s), _shortened(s)) for s in shapes])],
    )


def trained_before(pair: Pair) -> Diagnosis | None:
    """One run goes on where the other one ended."""
    for before, after in ((0, 1), (1, 0)):
        ends = (pair.a, pair.b)[before].end.parameters.values()
        starts = (pair.a, pair.b)[after].start.parameters.values()
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


def other_start(pair: Pair) -> Diagnosis:
    """The models were drawn from other random numbers."""
    starts = zip(pair.a.start.parameters.values(), pair.b.start.parameters.values(), strict=True)
    equal = [torch.equal(a, b) for a, b in starts]
    return Diagnosis(
        "other seed or build order",
        "The models started from other random numbers: another seed, or something drew from the "
        "generator between the seed and the model (a layer built earlier, a batch looked at).",
        "On both sides, call `seed_everything(seed)` right before building the model, and build "
        "its layers in the same order. Then loaders, then the optimizer.",
        [f"{sum(equal)} of {len(equal)} tensors start equal."],
    )


# The batch


def other_accumulation(pair: Pair) -> Diagnosis | None:
    """One run takes more batches to a step."""
    a, b = (len(step.calls) for step in pair.steps)
    if a == b or not _starts_alike(*pair.steps):
        return None
    return Diagnosis(
        "accumulation in one",
        "The runs take different numbers of batches to one optimizer step.",
        "Give the Trainer `accumulate_grad_batches` as many batches as the raw loop adds up before "
        "`optimizer.step()` (or 1 where it adds up none). The Trainer also steps at the end of an "
        "epoch, where fewer batches are left.",
        [pair.say("{} forward passes in this step", a, b)],
    )


def order_repeats(pair: Pair) -> Diagnosis | None:
    """One run sees the same order again in each epoch."""
    repeating = [_repeats(trace, pair.index) for trace in (pair.a, pair.b)]
    if repeating[0] == repeating[1]:
        return None
    name = pair.names[repeating.index(True)]
    return Diagnosis(
        "other batch order: one run repeats its order",
        f"{name} goes through the data in the same order again: its loader, or the loader's "
        "generator, is rebuilt with the same seed for each epoch, or it does not shuffle.",
        "Build the loader once, outside the epoch loop, with `shuffle=True`.",
        [f"{name} starts again with its first batch; the other run does not."],
    )


def validation_in_one(pair: Pair) -> Diagnosis | None:
    """One run drew random numbers for a validation pass that the other does not have."""
    counts = _evaluations(pair)
    if counts[0] == counts[1] or pair.index == 0:
        return None
    return Diagnosis(
        "other batch order: validation in one loop only",
        "Only one run went through a validation loader, or it did so more often. Each pass over a "
        "DataLoader draws from the global generator, and shifts the next shuffle.",
        "Validate at the same moments in both, or give the validation loader a generator of its "
        "own: `DataLoader(…, generator=torch.Generator().manual_seed(seed))`.",
        [pair.say(PASSES, *counts)],
    )


def full_last_batch(pair: Pair) -> Diagnosis | None:
    """Both agree until an epoch ends whose last batch is full."""
    if not pair.index or not _same_content(pair):
        return None
    sizes = {call.size for step in pair.a.steps[: pair.common] for call in step.calls}
    if len(sizes) > 1 or pair.common % pair.index:
        return None
    return Diagnosis(
        "other batch order after a full last batch",
        "At the end of an epoch a raw loop asks its loader for a batch too many, to "
        "learn that there is none; the Trainer knows the length and does not ask. If the last "
        "batch was full and the loader has a generator of its own, `RandomSampler` draws from it "
        "to answer.",
        "Leave the training loader without `generator=`: it then draws one seed for each epoch "
        "from the global generator, which both loops do alike.",
        [_agreement(pair), f"All batches are full: {sizes.pop()} samples each."],
    )


def same_data_mixed(pair: Pair) -> Diagnosis | None:
    """Both see the same samples, in another order."""
    now = [_content([step]) for step in pair.steps]
    if now[0] == now[1]:
        evidence = "The batch holds the same samples in another order within it."
    elif _same_content(pair):
        evidence = "Over the whole run both saw the same samples."
    else:
        return None
    return Diagnosis(
        "other batch order",
        "Both runs see the same data, shuffled by different random numbers: other seeds, a loader "
        "built or read at another moment, or one generator shared by several loaders.",
        "On both sides seed, then build model, loaders and optimizer in the same order, afresh for "
        "each run: a generator goes on where the last run left it.",
        [evidence, _agreement(pair)],
    )


def other_data(pair: Pair) -> Diagnosis:
    """The batches hold other numbers."""
    return Diagnosis(
        "other batches",
        "The inputs are not the same: another order, another split or subset, or another "
        "normalisation, batch size or augmentation.",
        "Print the first batch of both loaders. If the samples differ, compare split, seed and "
        "`batch_size`; if only the values do, compare the transforms.",
        [
            pair.say("batches of {}", *[[call.size for call in s.calls] for s in pair.steps]),
            _agreement(pair),
        ],
    )


# The forward pass


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
    draws = pair.a.random or pair.b.random
    if counts[0] == counts[1] or not (draws or (pair.a.end.buffers and pair.aspect != "batch")):
        return None
    name = pair.names[0 if counts[0] > counts[1] else 1]
    return Diagnosis(
        "forgotten eval()",
        f"{name} validated with the model in training mode: dropout drew random numbers that the "
        "training needed, and batch norm averaged over validation data.",
        "Call `model.eval()` before the validation loop, and `model.train()` after it. The Trainer "
        "sets both by itself.",
        [pair.say(f"{{}} forward passes in training mode, without a backward, {moment}", *counts)],
    )


def other_dropout(pair: Pair) -> Diagnosis | None:
    """The model's own random numbers differ."""
    if not (pair.a.random or pair.b.random):
        return None
    counts = _evaluations(pair)
    evidence = ["The model draws random numbers, and batch, weights and mode are equal."]
    if counts[0] != counts[1]:
        evidence.append(pair.say(PASSES, *counts))
    return Diagnosis(
        "other random numbers in the model",
        "Dropout, or noise, drew other random numbers. Something else drew from the global "
        "generator in one run only: another seed, a validation pass over a loader without a "
        "generator of its own, or a random transform.",
        "Seed right before training on both sides, validate at the same moments, and give the "
        "validation loader a generator of its own.",
        evidence,
    )


def other_forward(pair: Pair) -> Diagnosis:
    """The output differs for no reason that a trace can see."""
    return Diagnosis(
        "other forward pass",
        "Same weights before, same batch, same mode, other output: the two `forward` methods "
        "compute different things, or weights or buffers were changed between two steps (a "
        "checkpoint loaded, weights averaged).",
        "Call both models on one batch in evaluation mode and compare layer by layer.",
    )


# The gradient


def forgotten_zero_grad(pair: Pair) -> Diagnosis | None:
    """One run adds each gradient to the one before."""
    before = [_previous(trace, pair.index) for trace in (pair.a, pair.b)]
    if None in before:
        return None
    now = [step.gradient_projection for step in pair.steps]
    for one, other in ((0, 1), (1, 0)):
        if _fits(now[one] - now[other], before[one].gradient_projection):
            break
    else:
        return None
    return Diagnosis(
        "forgotten zero_grad()",
        f"In {pair.names[one]} gradients add up from step to step: they are not set to zero.",
        "Call `optimizer.zero_grad()` once a step, before `loss.backward()`. Under automatic "
        "optimization Lightning does so by itself.",
        [
            f"The gradient of {pair.names[one]} is that of {pair.names[other]} plus the one of "
            "the step before."
        ],
    )


def cut_off(pair: Pair) -> Diagnosis | None:
    """Where the gradients differ, one run has none at all: exactly zero."""
    for one, other in ((0, 1), (1, 0)):
        mine, full = pair.steps[one], pair.steps[other]
        both = enumerate(zip(mine.gradients, full.gradients, strict=True))
        lost = [place for place, (a, b) in both if a != b]
        if not lost or any(mine.gradient_norms[place] != 0 for place in lost):
            continue
        return Diagnosis(
            "gradient cut off",
            f"In {pair.names[one]} no gradient reaches {len(lost)} of {len(mine.owned)} tensors: "
            "between the loss and them stands something that passes none on (rounding, "
            "`argmax`, a comparison, `detach()`, `no_grad()`), or they are frozen.",
            "Follow the loss back to the weights: use the model's plain output in the training "
            "step, not one made for display or counting, and look for `requires_grad_(False)`.",
            [f"The gradient of these tensors is exactly 0 there, not so in {pair.names[other]}."],
        )
    return None


def clipped_values(pair: Pair) -> Diagnosis | None:
    """One gradient is the other with its values cut off."""
    for one, other in ((0, 1), (1, 0)):
        trace, (mine, full) = (pair.a, pair.b)[one], (pair.steps[one], pair.steps[other])
        limit = mine.gradient_max
        cut = full.gradient_sample.clamp(-limit, limit)
        if full.gradient_max <= limit or relative_gap(cut, mine.gradient_sample) > FIT:
            continue
        tops = [step.gradient_max for step in trace.steps]
        at_limit = tops.count(limit)
        if max(tops) <= limit and at_limit > 1:
            return _clipping(
                pair.names[one],
                f"The largest gradient value of {pair.names[one]} is {limit:.4g} in {at_limit} of "
                f"{len(tops)} steps, never more.",
            )
    return None


def clipped_norm(pair: Pair) -> Diagnosis | None:
    """One gradient is the other scaled down to a norm that this run never exceeds."""
    ratio = _ratio(pair)
    if ratio is None:
        return None
    shorter, name = (pair.a, pair.names[0]) if ratio < 1 else (pair.b, pair.names[1])
    norms = [step.gradient_norm for step in shorter.steps]
    limit = norms[pair.index]
    at_limit = sum(abs(norm - limit) <= FIT * limit for norm in norms)
    below_before = all(norm <= limit * (1 + FIT) for norm in norms[: pair.index])
    if max(norms) > limit * (1 + FIT) or not below_before or (at_limit < 2 and not pair.index):
        return None
    return _clipping(
        name,
        f"The gradient norm of {name} is {limit:.4g} in {at_limit} of {len(norms)} steps, never "
        "more.",
    )


def constant_factor(pair: Pair) -> Diagnosis | None:
    """The gradients point the same way, with other lengths."""
    ratio = _ratio(pair)
    if ratio is None:
        return None
    factor = max(ratio, 1 / ratio)
    larger, smaller = pair.names if ratio > 1 else pair.names[::-1]
    calls = max((step.calls for step in pair.steps), key=len)
    sizes = {call.size for call in calls}
    before = _previous(pair.a, pair.index)
    if before and len(before.calls) > len(calls):
        cause = (
            f"This step has {len(calls)} batches, those before it {len(before.calls)}: at the end "
            "of an epoch the Trainer still divides the loss by `accumulate_grad_batches`."
        )
        mend = "Divide the raw loss by the same number in each step, also where batches are left."
    elif len(sizes) == 1 and abs(factor - (size := sizes.pop())) <= FIT * factor and size > 1:
        cause = f"{size} is the batch size: one loss is summed over the batch, the other averaged."
        mend = "Use the same `reduction` in both losses (`mean` is the default)."
    elif len(calls) > 1 and abs(factor - len(calls)) <= FIT * factor:
        cause = (
            f"{len(calls)} batches make one step: one run divides its loss by their number, as "
            "the Trainer does, and the other does not."
        )
        mend = "Divide the raw loss by the number of accumulated batches before `backward()`."
    else:
        cause = "One loss is multiplied or divided by a constant before `backward()`."
        mend = "Compare the two losses of the first step, and what is done to them."
    return Diagnosis(
        "gradients a constant factor apart",
        cause,
        mend,
        [f"The gradient of {larger} is {factor:.6g} times that of {smaller}, in every value."],
    )


def other_loss(pair: Pair) -> Diagnosis:
    """The gradient differs in a way that has no simple name."""
    evidence = ["Batch, mode and forward output are equal."]
    losses = [step.losses for step in pair.steps]
    if all(losses) and losses[0] == losses[1]:
        cause = (
            "The losses are equal, so something changed the gradients between `backward()` and "
            "`step()` on one side: clipping, noise, a frozen layer, a second `backward()`, or "
            "gradients left over from before the first step."
        )
        evidence.append(f"Loss in both: {_numbers(losses[0])}.")
    else:
        cause = "The losses differ: another loss function, other targets, or an extra term."
        if all(losses):
            evidence.append(pair.say("loss {}", *[_numbers(loss) for loss in losses]))
    return Diagnosis(
        "other loss or gradient",
        cause,
        "Compare what happens between the forward pass and `optimizer.step()` line by line.",
        evidence,
    )


# The update


def scheduler_rhythm(pair: Pair) -> Diagnosis | None:
    """One learning rate changes with each step, the other now and then."""
    rates = [_rates(trace, pair.steps[0].optimizer) for trace in (pair.a, pair.b)]
    gaps = [_gap(each) for each in rates]
    order = (0, 1) if gaps[1] == 0 or 0 < gaps[0] < gaps[1] else (1, 0)
    quick, rare = (gaps[i] for i in order)
    values = [_distinct(rates[i])[: len(_distinct(rates[order[1]]))] for i in order]
    same_schedule = rare > 0 and values[0] == values[1]
    if quick == rare or not (quick == 1 or same_schedule):
        return None
    fast, slow = (pair.names[i] for i in order)
    said = ["every step" if gap == 1 else _rhythm(gap) for gap in gaps]
    seldom = "per epoch in the other" if rare > 1 else "not in the other"
    return Diagnosis(
        f"scheduler per step in one, {seldom}",
        f"{fast} steps its scheduler after each batch, {slow} does not.",
        "In `configure_optimizers` return "
        '`{"scheduler": scheduler, "interval": "step"}` for a scheduler that the raw loop steps '
        'after each batch, and `"epoch"` (the default) for one stepped after each epoch.',
        [pair.say("learning rate changes {}", *said)],
    )


def other_learning_rate(pair: Pair) -> Diagnosis:
    """The learning rates differ."""
    rates = [_numbers(step.learning_rates) for step in pair.steps]
    cause = (
        "The optimizers were given different learning rates."
        if pair.index == 0
        else "The learning rates differ later on: one run has no scheduler, another one, or "
        "one with other settings (`T_max`, `total_steps` and `steps_per_epoch` count steps or "
        "epochs, as the scheduler is stepped)."
    )
    return Diagnosis(
        "other learning rate",
        cause,
        "Compare optimizer and scheduler with what `configure_optimizers` returns.",
        [pair.say("{}", *rates)],
    )


def rebuilt_optimizer(pair: Pair) -> Diagnosis | None:
    """One run has a new optimizer, or one with a past."""
    a, b = pair.steps
    if (a.optimizer, a.warm) == (b.optimizer, b.warm):
        return None
    if a.warm != b.warm:
        name = pair.names[0 if a.warm else 1]
        evidence = f"The optimizer of {name} held state from before the trace."
    else:
        name = pair.names[0 if a.optimizer > b.optimizer else 1]
        evidence = f"{name} steps with optimizer number {max(a.optimizer, b.optimizer) + 1}."
    return Diagnosis(
        "optimizer rebuilt or used before",
        "Momentum and Adam's averages live in the optimizer: a new one starts without them, and "
        "one that has trained before brings its own.",
        "Build the optimizer once for each run, right after the model.",
        [evidence],
    )


def other_settings(pair: Pair) -> Diagnosis | None:
    """The optimizers are set up differently."""
    a, b = pair.steps
    evidence = [pair.say("{}", a.kind, b.kind)] if a.kind != b.kind else []
    for one, other in zip(a.groups, b.groups, strict=False):
        for key in sorted(set(one.settings) | set(other.settings)):
            values = one.settings.get(key, "not there"), other.settings.get(key, "not there")
            if values[0] != values[1]:
                evidence.append(pair.say(f"{key} = {{}}", *values))
        if one.members != other.members:
            sizes = len(one.members), len(other.members)
            evidence.append(pair.say("{} tensors in a group, but not the same ones", *sizes))
    if len(a.groups) != len(b.groups):
        evidence.append(pair.say("{} parameter groups", len(a.groups), len(b.groups)))
    if not evidence:
        return None
    return Diagnosis(
        "other optimizer settings",
        "The two optimizers are not set up alike.",
        "Give `configure_optimizers` the raw loop's optimizer with all its arguments.",
        evidence,
    )


def other_update(pair: Pair) -> Diagnosis:
    """The update differs for no reason that a trace can see."""
    return Diagnosis(
        "other update",
        "Same gradient, learning rate and settings, other weights afterwards: the weights or the "
        "optimizer's state were changed between two steps, or the optimizer counts its steps "
        "differently.",
        "Look for what touches weights or optimizer between the steps: a checkpoint loaded, "
        "weights averaged, an optimizer hook.",
    )


def other_parameters(pair: Pair) -> Diagnosis:
    """The optimizers update other tensors."""
    a, b = pair.steps
    return Diagnosis(
        "other parameters handed to the optimizer",
        "The optimizers do not update the same tensors: part of the model is frozen or left out "
        "on one side, or two optimizers step in another order.",
        "Hand both optimizers the same parameters, in the same order.",
        [pair.say("{} tensors of the model", len(a.owned), len(b.owned))],
    )


def other_buffers(pair: Pair) -> Diagnosis:
    """The buffers differ although gradients and weights are equal."""
    return Diagnosis(
        "other buffers",
        "Gradients and weights are equal, but the model's buffers (such as the running averages "
        "of batch norm) are not: extra forward passes in training mode changed them.",
        "Run every forward pass that is not for training in evaluation mode.",
    )


# The end


def shorter_run(pair: Pair) -> Diagnosis:
    """One run stopped earlier."""
    lengths = len(pair.a.steps), len(pair.b.steps)
    return Diagnosis(
        "one run is shorter",
        f"All {pair.common:,} steps that both runs have are "
        f"{'equal within rounding' if pair.noise else 'identical'}, then one of them stops.",
        "Compare `max_epochs` with the raw loop's epochs, and look for `limit_train_batches`, "
        "`drop_last`, `max_steps` or early stopping on one side.",
        [pair.say("{:,} steps", *lengths)],
    )


def changed_after(pair: Pair) -> Diagnosis:
    """The weights were touched after the last step."""
    return Diagnosis(
        "weights changed after the last step",
        "All steps are identical, but not the weights at the end of the `with` block: one run "
        "loaded the best checkpoint, or averaged its weights, after training.",
        "End the `with` block where training ends, or do the same on both sides.",
    )


def helper_in_training(pair: Pair) -> Diagnosis | None:
    """Another network, between the model and the loss, is in training mode in one run only."""
    a, b = (step.beside for step in pair.steps)
    if not a or not b or any(a) == any(b):  # without such layers there is no mode to compare
        return None
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


def helper_trained(pair: Pair) -> Diagnosis | None:
    """The optimizer of one run has trained another network as well, in the steps before."""
    counts = [[step.foreign for step in trace.steps[: pair.index]] for trace in (pair.a, pair.b)]
    step = next((i for i, (a, b) in enumerate(zip(*counts, strict=True)) if a != b), None)
    if step is None:
        return None
    a, b = (column[step] for column in counts)
    return Diagnosis(
        "another network handed to the optimizer",
        f"The optimizer of {pair.names[0 if a > b else 1]} also trains tensors beside the model. A "
        "network that should stay fixed, such as a loss network or a teacher, then learns to make "
        "the loss small, in place of the model.",
        "Give the optimizer the model's parameters alone (`self.model.parameters()`, not "
        "`self.parameters()`), and freeze the other network: `network.requires_grad_(False)`.",
        [pair.say(f"{{}} tensors beside the model are trained, at step {step + 1}", a, b)],
    )


def grown_rounding(pair: Pair) -> Diagnosis | None:
    """What began as rounding is too large by now to prove anything."""
    if not pair.noise:
        return None
    where = {"gradient": "In this step the gradients", "update": "After this step the weights"}
    return Diagnosis(
        "more than rounding",
        "The runs part by rounding at first (another device or number of threads, another order "
        "of operations), and later by more. Either rounding grew, as it does in a long training, "
        "or a small fault acts from here on.",
        "Make the first steps agree bit for bit, with the same device, `torch.set_num_threads` "
        "and formulas, or compare fewer steps.",
        [f"{where.get(pair.aspect, 'At the end the weights')} are more than {GROWN:.0%} apart."],
    )


def rounding(pair: Pair) -> Diagnosis:
    """All differences are of rounding size."""
    evidence = [f"The final weights differ by at most {pair.largest_difference():.2g}."]
    if pair.a.device != pair.b.device:
        cause = "The runs used different devices, which add up numbers in different orders."
        mend = "Nothing is wrong. For the same bits, run both on one device."
        evidence.append(pair.say("{}", pair.a.device, pair.b.device))
    elif pair.a.threads != pair.b.threads:
        cause = "The runs used different numbers of threads, which split sums differently."
        mend = "Nothing is wrong. For the same bits, call `torch.set_num_threads` alike in both."
        evidence.append(pair.say("{} threads", pair.a.threads, pair.b.threads))
    elif pair.regrouped(0):
        cause = (
            "The same samples went through in other parts (accumulated, or shared by several "
            "workers), so their gradients were added up in another order."
        )
        mend = "Nothing is wrong. For the same bits, divide the batches alike on both sides."
        parts = (
            " + ".join(str(c.size) for c in trace.steps[0].calls) for trace in (pair.a, pair.b)
        )
        evidence.append(pair.say("batches of {}", *parts))
    else:
        cause = (
            "Both compute the same thing in another order of operations: another formula for the "
            "same loss, gradients of several workers added up in another order, fused kernels, or "
            "kernels that are not deterministic on a GPU."
        )
        mend = (
            "Nothing is wrong. For the same bits, use the same formulas on both sides, and on a "
            "GPU `torch.use_deterministic_algorithms(True)` or `Trainer(deterministic=True)`."
        )
    return Diagnosis("rounding", cause, mend, evidence)


FINDERS: dict[str, tuple[Finder, ...]] = {
    "model": (other_model,),
    "initial weights": (trained_before, other_start),
    "parameters": (rebuilt_optimizer, other_parameters),
    "batch": (
        other_accumulation,
        order_repeats,
        forgotten_eval,
        validation_in_one,
        full_last_batch,
        same_data_mixed,
        other_data,
    ),
    "mode": (forgotten_mode,),
    "precision": (other_precision,),
    "forward output": (forgotten_eval, other_dropout, other_forward),
    "gradient": (
        forgotten_zero_grad,
        cut_off,
        clipped_values,
        clipped_norm,
        constant_factor,
        helper_in_training,
        helper_trained,
        grown_rounding,
        other_loss,
    ),
    "learning rate": (scheduler_rhythm, other_learning_rate),
    "optimizer": (rebuilt_optimizer, other_settings, other_update),
    "update": (grown_rounding, other_update),
    "buffers": (forgotten_eval, other_buffers),
    "length": (shorter_run,),
    "final weights": (grown_rounding, changed_after),
    "final buffers": (forgotten_eval, other_buffers),
    "rounding": (rounding,),
}


# What the finders measure


def _fits(found: Tensor, expected: Tensor) -> bool:
    return float(expected.norm()) > 0 and relative_gap(expected, found) < FIT


def _ratio(pair: Pair) -> float | None:
    """Return how many times the second gradient the first one is, if it is a multiple at all."""
    a, b = (step.gradient_projection for step in pair.steps)
    if not a.numel() or float(a.norm()) == 0 or float(b.norm()) == 0:
        return None
    ratio = float(a @ b / (b @ b))
    if ratio <= 0 or not _fits(ratio * b, a) or abs(ratio - 1) < FIT:
        return None
    return ratio


def _previous(trace: Trace, index: int) -> Step | None:
    """Return the step before `index` that the same optimizer took."""
    number = trace.steps[index].optimizer
    earlier = (step for step in reversed(trace.steps[:index]) if step.optimizer == number)
    return next(earlier, None)


def _starts_alike(a: Step, b: Step) -> bool:
    return bool(a.batch and b.batch) and a.batch[0] == b.batch[0]


def _repeats(trace: Trace, index: int) -> bool:
    """Return whether a step at or before `index` begins with the first batch again."""
    first = trace.steps[0].batch
    later = trace.steps[1:] if index == 0 else trace.steps[1 : index + 1]
    return any(step.batch == first for step in later)


def _evaluations(pair: Pair) -> tuple[int, int]:
    a, b = (step.evaluations for step in pair.steps)
    return a, b


def _content(steps: list[Step]) -> int:
    return sum(call.content for step in steps for call in step.calls)


def _same_content(pair: Pair) -> bool:
    """Return whether both runs saw the same samples, in whatever order, over their common steps."""
    a, b = (_content(trace.steps[: pair.common]) for trace in (pair.a, pair.b))
    return a == b


def _agreement(pair: Pair) -> str:
    if pair.index == 0:
        return "The very first batch differs."
    return f"The first {pair.index:,} batches are equal."


def _rates(trace: Trace, optimizer: int) -> list[tuple[float, ...]]:
    return [step.learning_rates for step in trace.steps if step.optimizer == optimizer]


def _distinct(rates: list[tuple[float, ...]]) -> list[tuple[float, ...]]:
    """Return the learning rates without the repetitions of one that stays."""
    return [rate for rate, _ in groupby(rates)]


def _gap(rates: list[tuple[float, ...]]) -> float:
    """Return the usual number of steps between two changes of the learning rate (0: none)."""
    changes = [i for i in range(1, len(rates)) if rates[i] != rates[i - 1]]
    if not changes:
        return 0
    return median(b - a for a, b in zip([0, *changes], changes, strict=False))


def _rhythm(gap: float) -> str:
    return f"about every {gap:.0f} steps" if gap else "never"


def _clipping(name: str, evidence: str) -> Diagnosis:
    return Diagnosis(
        "clipping in one",
        f"{name} clips its gradients, the other run does not, or less.",
        "`Trainer(gradient_clip_val=v)` is `torch.nn.utils.clip_grad_norm_(parameters, v)` between "
        '`backward()` and `step()`; with `gradient_clip_algorithm="value"` it is '
        "`clip_grad_value_`. Use it on both sides or on neither.",
        [evidence],
    )


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.6g}" for value in values)


def _shortened(shapes: list[tuple[int, ...]]) -> str:
    return ", ".join(map(str, shapes[:4])) + (", …" if len(shapes) > 4 else "")
