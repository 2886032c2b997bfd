"""Finders for the gradient: what was added up, cut off, clipped, scaled, or computed otherwise."""

from collections import Counter

import torch

from ..layers import recomputed_otherwise
from ..pair import FIT, GROWN, Pair, relative_gap
from ..record import Step
from .finding import Diagnosis, fits, numbers, previous, shortened


def cleared_before_step(pair: Pair) -> Diagnosis | None:
    """One run sets its gradients to zero after the backward pass, before the step uses them."""
    late = [_cleared_last(step) for step in pair.steps]
    if late[0] == late[1]:
        return None
    name = pair.names[late.index(True)]
    return Diagnosis(
        "gradients cleared before the step",
        f"{name} calls `zero_grad()` between `backward()` and `step()`: the optimizer finds no "
        "gradient (None), or zeros, and does not learn.",
        "Call `zero_grad()` before `backward()`, or after `step()`.",
        [pair.say("{}", *map(_order, pair.steps))],
    )


def _cleared_last(step: Step) -> bool:
    """Return whether gradients were cleared after the last backward pass, and are gone now."""
    events = [e for e in step.events if e.startswith(("backward", "zero_grad"))]
    own = _zero(step)
    return (
        bool(events)
        and events[-1] == own
        and "backward" in " ".join(events)
        and (step.backwards == 0)
    )


def _zero(step: Step) -> str:
    return f"zero_grad {step.optimizer + 1}" if step.optimizer else "zero_grad"


def _order(step: Step) -> str:
    """Return what happened before a step, in order, repetitions counted."""
    found: list[list] = []
    for event in (*step.events, "step"):
        if event == "evaluation":
            continue
        if found and found[-1][0] == event:
            found[-1][1] += 1
        else:
            found.append([event, 1])
    return ", ".join(what if count == 1 else f"{what} ({count} times)" for what, count in found)


def cleared_within(pair: Pair) -> Diagnosis | None:
    """One run clears its gradients between the batches that it accumulates."""
    a, b = pair.steps
    if not len(a.calls) == len(b.calls) > 1 or a.backwards == b.backwards:
        return None
    if _closure(a) or _closure(b):
        return None
    few = 0 if a.backwards < b.backwards else 1
    if pair.steps[few].backwards == 0 or pair.steps[1 - few].leftover:
        return None
    return Diagnosis(
        "gradients cleared within the accumulation",
        f"{pair.names[few]} calls `zero_grad()` for each of the batches that make one step, so "
        "that only the last one's gradient is left.",
        "Call `zero_grad()` once a step, not once a batch; the Trainer's "
        "`accumulate_grad_batches` does so.",
        [
            pair.say(
                "{0[0]} of {0[1]} backward passes are in the gradient",
                (a.backwards, len(a.calls)),
                (b.backwards, len(b.calls)),
            )
        ],
    )


def _closure(step: Step) -> bool:
    """Return whether the optimizer evaluated its batch several times (LBFGS, SAM)."""
    return len(step.calls) > 1 and len({call.inputs for call in step.calls}) == 1


def cleared_once_in_closure(pair: Pair) -> Diagnosis | None:
    """An optimizer calls its closure several times, and only one run clears each time."""
    if not all(map(_closure, pair.steps)):
        return None
    cleared = [sum(e.startswith("zero_grad") for e in step.events) for step in pair.steps]
    backward = [sum(e.startswith("backward") for e in step.events) for step in pair.steps]
    if cleared[0] == cleared[1] or pair.steps[0].backwards == pair.steps[1].backwards:
        return None
    few = 0 if pair.steps[0].backwards > pair.steps[1].backwards else 1
    return Diagnosis(
        "forgotten zero_grad()",
        f"In {pair.names[few]} gradients add up within a step: {pair.steps[few].kind} evaluates "
        "its closure several times, and the gradients are not set to zero each time.",
        "Call `optimizer.zero_grad()` inside the closure, before `backward()`. Under automatic "
        "optimization Lightning does so by itself.",
        [
            pair.say(
                "{0[0]} backward passes, {0[1]} times zero_grad",
                *zip(backward, cleared, strict=True),
            )
        ],
    )


def leftovers(pair: Pair) -> Diagnosis | None:
    """One run's gradient still holds what another optimizer's loss left there."""
    left = [step.leftover for step in pair.steps]
    several = any(step.optimizer for trace in pair.traces for step in trace.steps[: pair.index + 1])
    if bool(left[0]) == bool(left[1]) or not several:
        return None
    one = 0 if left[0] else 1
    before = previous(pair.traces[one], pair.index)
    own = before is not None and _adds(pair, one)
    if own:
        return None
    return Diagnosis(
        "gradients left over from another loss",
        f"In {pair.names[one]} the loss of another optimizer has left gradients in these weights, "
        "and they are added to the step's own: they are cleared too early, before that loss's "
        "`backward()`, or not at all.",
        "Call `zero_grad()` of this optimizer right before its own `backward()` (under manual "
        "optimization: `optimizer.zero_grad()`, then `manual_backward`, then `step`), or hide the "
        "weights from the other loss with `toggle_optimizer`.",
        [
            pair.say("{} backward passes from before the last step in this gradient", *left),
            pair.say("{}", *map(_order, pair.steps)),
        ],
    )


def _adds(pair: Pair, one: int) -> bool:
    """Return whether one run's gradient is the other's plus its own of the step before."""
    before = previous(pair.traces[one], pair.index)
    mine, other = pair.steps[one].evidence, pair.steps[1 - one].evidence
    if before is None or before.evidence is None or mine is None or other is None:
        return False
    if before.evidence.gradient_sketch.shape != mine.gradient_sketch.shape:
        return False
    return fits(mine.gradient_sketch - other.gradient_sketch, before.evidence.gradient_sketch)


def forgotten_zero_grad(pair: Pair) -> Diagnosis | None:
    """One run adds each gradient to the one before."""
    one = next((one for one in (0, 1) if _adds(pair, one)), None)
    if one is None:
        return None
    return Diagnosis(
        "forgotten zero_grad()",
        f"In {pair.names[one]} gradients add up from step to step: they are not set to zero.",
        "Call `optimizer.zero_grad()` once a step, before `loss.backward()`. Under automatic "
        "optimization Lightning does so by itself.",
        [
            f"The gradient of {pair.names[one]} is that of {pair.names[1 - one]} plus the one of "
            "the step before."
        ],
    )


def cut_off(pair: Pair) -> Diagnosis | None:
    """Where the gradients differ, one run has none at all: exactly zero."""
    if not pair.explained:
        return None
    for one, other in ((0, 1), (1, 0)):
        mine, full = pair.steps[one], pair.steps[other]
        both = enumerate(zip(mine.gradients, full.gradients, strict=True))
        lost = [place for place, (a, b) in both if a != b]
        if not lost or any(mine.evidence.gradient_norms[place] != 0 for place in lost):
            continue
        frozen = sum(mine.frozen[place] for place in lost)
        names = [list(pair.traces[one].start.parameters)[mine.owned[place]] for place in lost]
        return Diagnosis(
            "gradient cut off",
            f"In {pair.names[one]} no gradient reaches {len(lost)} of {len(mine.owned)} tensors: "
            "between the loss and them stands something that passes none on (rounding, "
            "`argmax`, a comparison, `detach()`, `no_grad()`), or they are frozen.",
            "Follow the loss back to the weights: use the model's plain output in the training "
            "step, not one made for display or counting, and look for `requires_grad_(False)`.",
            [
                f"The gradient of these tensors is exactly 0 there, not so in {pair.names[other]}: "
                f"{shortened(names)}.",
                *([f"{frozen} of them do not require a gradient."] if frozen else []),
            ],
        )
    return None


def not_differentiable(pair: Pair) -> Diagnosis | None:
    """A gradient inside the loss was taken without a graph of its own."""
    asked = [[e for e in step.events if e.startswith("grad")] for step in pair.steps]
    graphs = [sum("create_graph" in e for e in events) for events in asked]
    if not all(asked) or len(asked[0]) != len(asked[1]) or graphs[0] == graphs[1]:
        return None
    name = pair.names[0 if graphs[0] < graphs[1] else 1]
    return Diagnosis(
        "create_graph",
        f"{name} takes a gradient inside its loss without `create_graph=True`: the penalty has the "
        "right value, but passes no gradient on to the weights.",
        "Write `torch.autograd.grad(…, create_graph=True)` where its result is part of a loss.",
        [pair.say("{0[0]} of {0[1]} such gradients with create_graph",
                  *[(g, len(e)) for g, e in zip(graphs, asked, strict=True)])],
    )  # fmt: skip


def recomputed(pair: Pair) -> Diagnosis | None:
    """Activation checkpointing computed a layer again with other random numbers."""
    layers = [recomputed_otherwise(step) for step in pair.steps]
    if bool(layers[0]) == bool(layers[1]):
        return None
    one = 0 if layers[0] else 1
    return Diagnosis(
        "other random numbers in the backward pass",
        f"{pair.names[one]} computes layers again for the backward pass (activation "
        "checkpointing), and draws other random numbers in dropout than in the forward pass: the "
        "gradient belongs to another output.",
        "Leave `preserve_rng_state=True` (the default) in `torch.utils.checkpoint.checkpoint`.",
        [
            f"{layers[one]} returned something else when it was computed again, from the same "
            "input.",
            "Outputs and losses are equal in both runs.",
        ],
    )


def unscaled_late(pair: Pair) -> Diagnosis | None:
    """One run clips gradients that a gradient scaler has still multiplied."""
    scaled = [_clips_scaled(step) for step in pair.steps]
    if scaled[0] == scaled[1]:
        return None
    one = scaled.index(True)
    return Diagnosis(
        "unscale",
        f"{pair.names[one]} clips while its gradients are still multiplied by the gradient "
        "scaler's factor, so the limit means something else: they are cut to almost nothing.",
        'Call `scaler.unscale_(optimizer)` before `clip_grad_norm_`. With `precision="16-mixed"` '
        "and `gradient_clip_val` the Trainer does it in this order.",
        [pair.say("{}", *map(_order, pair.steps)), *_clips(pair)],
    )


def _clips_scaled(step: Step) -> bool:
    events = list(step.events)
    clip = next((i for i, e in enumerate(events) if e.startswith("clip")), None)
    return clip is not None and "scale" in events[:clip] and "unscale" not in events[:clip]


def clipped_early(pair: Pair) -> Diagnosis | None:
    """One run clips before the backward pass, when there is nothing to clip."""
    early = [_clips_early(step) for step in pair.steps]
    if early[0] == early[1]:
        return None
    one = early.index(True)
    return _clipping(
        pair.names[1 - one],
        [
            f"{pair.names[one]} clips before `backward()`, where the gradients of this step are "
            "not there yet, so that it has no effect.",
            pair.say("{}", *map(_order, pair.steps)),
        ],
    )


def _clips_early(step: Step) -> bool:
    events = list(step.events)
    clips = [i for i, e in enumerate(events) if e.startswith("clip")]
    backward = [i for i, e in enumerate(events) if e.startswith("backward")]
    return bool(clips and backward) and clips[-1] < backward[-1]


def _clips(pair: Pair) -> list[str]:
    found = [step.evidence.clips if step.evidence else () for step in pair.steps]
    said = [f"limit {c[0].limit:.4g}, norm found {c[0].found:.4g}" if c else "none" for c in found]
    return [pair.say("clipping: {}", *said)] if any(found) else []


def clipped_values(pair: Pair) -> Diagnosis | None:
    """One gradient is the other with its values cut off."""
    if not pair.explained:
        return None
    for one, other in ((0, 1), (1, 0)):
        trace, (mine, full) = pair.traces[one], (pair.steps[one], pair.steps[other])
        limit = mine.gradient_max
        cut = full.evidence.gradient_sample.clamp(-limit, limit)
        sample = mine.evidence.gradient_sample
        if full.gradient_max <= limit or relative_gap(cut, sample) > FIT:
            continue
        tops = [step.gradient_max for step in trace.steps if step.evidence]
        at_limit = tops.count(limit)
        if max(tops) <= limit and at_limit > 1:
            return _clipping(
                pair.names[one],
                [
                    f"The largest gradient value of {pair.names[one]} is {limit:.4g} in {at_limit} "
                    f"of {len(tops)} steps, never more."
                ],
            )
    return None


def clipped_by_call(pair: Pair) -> Diagnosis | None:
    """A call that clips was seen in one run, and it makes just this difference."""
    if not pair.explained:
        return None
    kept = [_kept_by_clipping(step) for step in pair.steps]
    norms = [_norm(step) for step in pair.steps]
    if kept[0] == kept[1] or not all(norms):
        return None
    if abs(norms[0] / norms[1] / (kept[0] / kept[1]) - 1) > FIT or _ratio(pair) is None:
        return None
    return _clipping(pair.names[0 if kept[0] < kept[1] else 1], _clips(pair))


def _kept_by_clipping(step: Step) -> float:
    """Return to which share of itself the gradient of a step was clipped by its norm."""
    share = 1.0
    for clip in step.evidence.clips:
        if clip.found > clip.limit > 0:  # not so for values, where no norm is found
            share *= clip.limit / clip.found
    return share


def clipped_norm(pair: Pair) -> Diagnosis | None:
    """One gradient is the other scaled down to a norm that this run never exceeds."""
    ratio = _ratio(pair)
    if ratio is None:
        return None
    shorter, name = (pair.a, pair.names[0]) if ratio < 1 else (pair.b, pair.names[1])
    norms = [_norm(step) for step in shorter.steps if step.evidence]
    limit = _norm(shorter.steps[pair.index])
    at_limit = sum(abs(norm - limit) <= FIT * limit for norm in norms)
    below_before = all(norm <= limit * (1 + FIT) for norm in norms[: pair.index])
    if max(norms) > limit * (1 + FIT) or not below_before or (at_limit < 2 and not pair.index):
        return None
    return _clipping(
        name,
        [
            f"The gradient norm of {name} is {limit:.4g} in {at_limit} of {len(norms)} steps, "
            "never more."
        ],
    )


def _norm(step: Step) -> float:
    return sum(norm**2 for norm in step.evidence.gradient_norms) ** 0.5


def _clipping(name: str, evidence: list[str]) -> Diagnosis:
    return Diagnosis(
        "clipping in one",
        f"{name} clips its gradients, the other run does not, or less.",
        "`Trainer(gradient_clip_val=v)` is `torch.nn.utils.clip_grad_norm_(parameters, v)` between "
        '`backward()` and `step()`; with `gradient_clip_algorithm="value"` it is '
        "`clip_grad_value_`. Use it on both sides or on neither.",
        evidence,
    )


def weighed_otherwise(pair: Pair) -> Diagnosis | None:
    """The batches of one step count by other shares."""
    a, b = (step.calls for step in pair.steps)
    if not len(a) == len(b) > 1 or not pair.same_output(pair.index):
        return None
    factors = [_factor(x.gradient_sample, y.gradient_sample) for x, y in zip(a, b, strict=True)]
    if None in factors or max(factors) - min(factors) <= FIT * max(factors):
        return None
    return Diagnosis(
        "token means under accumulation",
        "The batches that make one step weigh otherwise: one run takes the mean of each batch, "
        "whatever it holds, the other divides by the number of tokens or samples of the whole "
        "step. A mean of means is not the mean where the batches hold different numbers.",
        "Add up sums, and divide by the number of tokens of all batches of the step; or let each "
        "batch weigh the same on both sides.",
        [
            f"The batches' gradients in {pair.names[0]} are "
            f"{', '.join(f'{factor:.4g}' for factor in factors)} times those in {pair.names[1]}."
        ],
    )


def _factor(a: torch.Tensor | None, b: torch.Tensor | None) -> float | None:
    """Return how many times the second sample the first one is, if it is a multiple at all."""
    if a is None or b is None or a.shape != b.shape or float(b.norm()) == 0:
        return None
    factor = float(a @ b / (b @ b))
    return factor if factor > 0 and fits(factor * b, a) else None


def _ratio(pair: Pair) -> float | None:
    """Return how many times the second gradient the first one is, if it is a multiple at all."""
    if not pair.explained:
        return None
    factor = _factor(*[step.evidence.gradient_sketch for step in pair.steps])
    return None if factor is None or abs(factor - 1) < FIT else factor


def constant_factor(pair: Pair) -> Diagnosis | None:
    """The gradients point the same way, with other lengths."""
    ratio = _ratio(pair)
    if ratio is None:
        return None
    factor = max(ratio, 1 / ratio)
    larger, smaller = pair.names if ratio > 1 else pair.names[::-1]
    calls = max((step.calls for step in pair.steps), key=len)
    sizes = {call.size for call in calls}
    before = previous(pair.a, pair.index)
    usual = {call.size for call in before.calls} if before else set()
    if before and len(before.calls) > len(calls):
        cause = (
            f"This step has {len(calls)} batches, those before it {len(before.calls)}: at the end "
            "of an epoch the Trainer still divides the loss by `accumulate_grad_batches`."
        )
        mend = "Divide the raw loss by the same number in each step, also where batches are left."
    elif len(sizes) == 1 and abs(factor - (size := next(iter(sizes)))) <= FIT * factor and size > 1:
        cause = f"{size} is the batch size: one loss is summed over the batch, the other averaged."
        mend = "Use the same `reduction` in both losses (`mean` is the default)."
    elif len(calls) > 1 and abs(factor - len(calls)) <= FIT * factor:
        cause = (
            f"{len(calls)} batches make one step: one run divides its loss by their number, as "
            "the Trainer does, and the other does not."
        )
        mend = "Divide the raw loss by the number of accumulated batches before `backward()`."
    elif (
        len(usual) == len(sizes) == 1
        and usual != sizes
        and abs(factor - max(*usual, *sizes) / min(*usual, *sizes)) <= FIT * factor
    ):
        cause = (
            f"This batch has {sizes.pop()} samples, those before it {usual.pop()}: one loss is "
            "divided by a fixed batch size, the other by the number of samples."
        )
        mend = "Divide by the number of samples in the batch (`mean`), on both sides."
    else:
        cause = "One loss is multiplied or divided by a constant before `backward()`."
        mend = "Compare the two losses of the first step, and what is done to them."
    return Diagnosis(
        "gradients a constant factor apart",
        cause,
        mend,
        [f"The gradient of {larger} is {factor:.6g} times that of {smaller}, in every value."],
    )


def precision_of_loss(pair: Pair) -> Diagnosis | None:
    """From equal outputs, one run computes its loss in another number format."""
    if not pair.same_output(pair.index) or not all(s.evidence for s in pair.steps):
        return None
    only = _only(pair)
    if only is None or not any(only) or not any(c.autocast for s in pair.steps for c in s.calls):
        return None
    casts = ("ToCopy", "Mm", "Addmm", "Bmm")
    extra = [sum(count for name, count in side.items() if name == "ToCopy") for side in only]
    if not any(extra) or any(name not in casts for side in only for name in side):
        return None
    return Diagnosis(
        "other precision",
        "The outputs are equal, but one run leaves autocast before its loss and computes it in "
        "float32, while the other computes parts of it in 16 bits.",
        "Under `precision=\"bf16-mixed\"` the Trainer runs all of `training_step` under autocast. "
        "Put the raw loop's loss inside `torch.autocast` as well, or leave it in the port: "
        "`with torch.autocast(device, enabled=False):`, with `.float()` for what goes in.",
        [pair.say("{} conversions of number formats on the way to the loss that the other has not",
                  *extra), *_loss_line(pair)],
    )  # fmt: skip


def _only(pair: Pair) -> tuple[Counter, Counter] | None:
    """Return the operations that only one run's backward pass goes through, for each run."""
    if not pair.explained:
        return None
    graphs = [Counter(step.evidence.graph) for step in pair.steps]
    if not all(graphs):
        return None
    return graphs[0] - graphs[1], graphs[1] - graphs[0]


def other_operations(pair: Pair) -> list[str]:
    """Say which operations only one run's backward pass goes through."""
    only = _only(pair) if pair.index is not None else None
    if only is None or not any(only):
        return []
    said = [shortened([n if c == 1 else f"{n} ({c} times)" for n, c in side.items()], 6) or "none"
            for side in only]  # fmt: skip
    return [pair.say("operations that the other has not: {}", *said)]


def _loss_line(pair: Pair) -> list[str]:
    losses = [step.losses for step in pair.steps]
    return [pair.say("loss {}", *map(numbers, losses))] if all(losses) else []


def helper_trained(pair: Pair) -> Diagnosis | None:
    """The optimizer of one run has trained another network as well, in the steps before."""
    counts = [[step.foreign for step in trace.steps[: pair.index]] for trace in pair.traces]
    step = next((i for i, (a, b) in enumerate(zip(*counts, strict=True)) if a != b), None)
    # Training it acts from the step after that on. If it does not, it is a probe that looks on.
    if step is None or pair.index != step + 1:
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
    if not pair.noise or (pair.leap is not None and pair.index == pair.leap):
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


def other_loss(pair: Pair) -> Diagnosis:
    """The gradient differs in a way that has no simple name."""
    evidence = []
    same = [name for name in ("batch", "mode", "forward output") if _same(pair, name)]
    if same:
        text = ", ".join(same[:-1]) + " and " + same[-1] if len(same) > 1 else same[0]
        evidence.append(f"{text.capitalize()} {'are' if len(same) > 1 else 'is'} equal.")
    losses = [step.losses for step in pair.steps]
    made = pair.structure(pair.index)
    if made:
        what, factor = made
        kind = "the weights themselves (a penalty on their squares, weight decay in the loss)"
        kind = kind if what == "weights" else "the weights' signs (a penalty on their sizes)"
        evidence.append(f"The gradients differ by {abs(factor):.3g} times {kind}.")
    evidence += other_operations(pair)
    if all(losses) and losses[0] == losses[1]:
        cause = (
            "The losses are equal and the gradients are not: something changed them between "
            "`backward()` and `step()` on one side (clipping, noise, a second `backward()`), a "
            "part of the loss passes no gradient on (`detach()`, `no_grad()`), or gradients "
            "were there from before."
        )
        evidence.append(f"Loss in both: {numbers(losses[0])}.")
    elif all(losses):
        cause = "The losses differ: another loss function, other targets, or an extra term."
        evidence.append(pair.say("loss {}", *map(numbers, losses)))
    else:
        cause = (
            "Another loss function, other targets, an extra term, or something that changed the "
            "gradients before the step."
        )
    return Diagnosis(
        "other loss or gradient",
        cause,
        "Compare what happens between the forward pass and `optimizer.step()` line by line.",
        evidence,
    )


def _same(pair: Pair, aspect: str) -> bool:
    """Return whether an aspect was seen in both runs, and is equal."""
    calls = [step.calls for step in pair.steps]
    if not all(calls) or pair.differs(aspect, pair.index):
        return False
    if aspect == "forward output":
        return pair.same_output(pair.index)
    return aspect != "batch" or all(call.inputs for side in calls for call in side)
