"""Finders for what a gradient is added up from: cleared at the wrong moment, left over, weighed."""

import torch

from ..near import FIT
from ..pair import Pair
from ..record import Step
from .finding import Diagnosis, fits, previous

DRIFTED = 0.1  # a factor as near to 1 may be rounding that grew, where the runs were apart before


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
        [pair.say("{}", *map(order_of, pair.steps))],
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


def order_of(step: Step) -> str:
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
    backward = [sum(e.startswith("backward") for e in step.events) for step in pair.steps]
    # Backward passes from before the last step are another fault.
    if pair.steps[0].backwards == pair.steps[1].backwards or any(s.leftover for s in pair.steps):
        return None
    few = 0 if pair.steps[0].backwards > pair.steps[1].backwards else 1
    return Diagnosis(
        "forgotten zero_grad()",
        f"In {pair.names[few]} gradients add up within a step: a batch goes through the model "
        "several times, as when an optimizer calls its closure again, and the gradients are not "
        "set to zero each time.",
        "Call `optimizer.zero_grad()` before each `backward()`, in a closure too. Under automatic "
        "optimization Lightning does so by itself.",
        [
            pair.say(
                "{0[0]} of {0[1]} backward passes are in the gradient",
                *[(s.backwards, n) for s, n in zip(pair.steps, backward, strict=True)],
            ),
            pair.say("{}", *map(order_of, pair.steps)),
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
            pair.say("{}", *map(order_of, pair.steps)),
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


def weighed_otherwise(pair: Pair) -> Diagnosis | None:
    """The batches of one step count by other shares."""
    a, b = (step.calls for step in pair.steps)
    if not len(a) == len(b) > 1 or not pair.same_output(pair.index):
        return None
    factors = [
        factor_between(x.gradient_sample, y.gradient_sample) for x, y in zip(a, b, strict=True)
    ]
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


def factor_between(a: torch.Tensor | None, b: torch.Tensor | None) -> float | None:
    """Return how many times the second sample the first one is, if it is a multiple at all."""
    if a is None or b is None or a.shape != b.shape or float(b.norm()) == 0:
        return None
    factor = float(a @ b / (b @ b))
    return factor if factor > 0 and fits(factor * b, a) else None


def gradient_ratio(pair: Pair) -> float | None:
    """Return how many times the second gradient the first one is, if it is a multiple at all."""
    if not pair.explained:
        return None
    factor = factor_between(*[step.evidence.gradient_sketch for step in pair.steps])
    return None if factor is None or abs(factor - 1) < FIT else factor


def _is_ratio(factor: float, a: int, b: int) -> bool:
    """Return whether a factor is that of two different numbers."""
    return min(a, b) > 0 and a != b and abs(factor - max(a, b) / min(a, b)) <= FIT * factor


def _ratio_unclipped(pair: Pair) -> float | None:
    """Return how many times the second norm the first one was, before both were clipped alike."""
    clips = [step.evidence.clips if step.evidence else () for step in pair.steps]
    if not all(clips) or clips[0][-1].limit != clips[1][-1].limit:
        return None
    a, b = (side[-1].found for side in clips)
    return a / b if a > 0 and b > 0 and a / b != 1 else None


def _drifted(pair: Pair) -> bool:
    """Return whether the runs were apart before this step, by rounding that may have grown."""
    return pair.first is not None and pair.first[0] < pair.index


def constant_factor(pair: Pair) -> Diagnosis | None:
    """The gradients point the same way, with other lengths."""
    ratio, unclipped = gradient_ratio(pair), _ratio_unclipped(pair)
    if ratio is None or (_drifted(pair) and abs(ratio - 1) < DRIFTED):
        return None
    found = f"{max(ratio, 1 / ratio):.6g} times that of"
    larger, smaller = pair.names if ratio > 1 else pair.names[::-1]
    evidence = [f"The gradient of {larger} is {found} {smaller}, in every value."]
    if unclipped is not None:  # clipping has hidden the factor
        ratio = unclipped
        evidence += clips_line(pair)
    factor = max(ratio, 1 / ratio)
    calls = max((step.calls for step in pair.steps), key=len)
    sizes = {call.size for call in calls}
    passes = [(len(step.calls), step.backwards) for step in pair.steps]
    before = previous(pair.a, pair.index)
    usual = {call.size for call in before.calls} if before else set()
    if passes[0][0] == passes[1][0] and _is_ratio(factor, passes[0][1], passes[1][1]):
        cause = f"{larger} calls `backward()` more often for the same forward passes."
        mend = "Call it once for each loss."
        evidence.append(pair.say("{0[1]} backward passes for {0[0]} forward passes", *passes))
    elif before and len(before.calls) > len(calls):
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
        evidence,
    )


def clips_line(pair: Pair) -> list[str]:
    """Say what each run clipped, where that was seen."""
    found = [step.evidence.clips if step.evidence else () for step in pair.steps]
    said = [f"limit {c[0].limit:.4g}, norm found {c[0].found:.4g}" if c else "none" for c in found]
    return [pair.say("clipping: {}", *said)] if any(found) else []
