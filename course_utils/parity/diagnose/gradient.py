"""Finders for the gradient: what was added up, cut off, clipped, scaled, or computed otherwise."""

from collections import Counter

from ..layers import recomputed_otherwise
from ..near import FIT, GROWN, relative_gap
from ..pair import Pair
from ..record import Step
from .accumulation import clips_line, gradient_ratio, order_of
from .finding import Diagnosis, equal_in, numbers, sentence, shortened


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
    losses = [step.losses for step in pair.steps]
    equal = ["outputs"] * pair.same_output(pair.index)
    equal += ["losses"] * (all(losses) and losses[0] == losses[1])
    return Diagnosis(
        "other random numbers in the backward pass",
        f"{pair.names[one]} computes layers again for the backward pass (activation "
        "checkpointing), and draws other random numbers in dropout than in the forward pass: the "
        "gradient belongs to another output.",
        "Leave `preserve_rng_state=True` (the default) in `torch.utils.checkpoint.checkpoint`.",
        [
            f"{layers[one]} acted otherwise when it was computed again, from the same input.",
            *([f"{' and '.join(equal).capitalize()} are equal in both runs."] if equal else []),
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
        [pair.say("{}", *map(order_of, pair.steps)), *clips_line(pair)],
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
            pair.say("{}", *map(order_of, pair.steps)),
        ],
    )


def _clips_early(step: Step) -> bool:
    events = list(step.events)
    clips = [i for i, e in enumerate(events) if e.startswith("clip")]
    backward = [i for i, e in enumerate(events) if e.startswith("backward")]
    return bool(clips and backward) and clips[-1] < backward[-1]


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
    if abs(norms[0] / norms[1] / (kept[0] / kept[1]) - 1) > FIT or gradient_ratio(pair) is None:
        return None
    return _clipping(pair.names[0 if kept[0] < kept[1] else 1], clips_line(pair))


def _kept_by_clipping(step: Step) -> float:
    """Return to which share of itself the gradient of a step was clipped by its norm."""
    share = 1.0
    for clip in step.evidence.clips:
        if clip.found > clip.limit > 0:  # not so for values, where no norm is found
            share *= clip.limit / clip.found
    return share


def clipped_norm(pair: Pair) -> Diagnosis | None:
    """One gradient is the other scaled down to a norm that this run never exceeds."""
    ratio = gradient_ratio(pair)
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


def precision_of_loss(pair: Pair) -> Diagnosis | None:
    """From equal outputs, one run computes its loss in another number format."""
    if not pair.same_output(pair.index) or not all(s.evidence for s in pair.steps):
        return None
    only = _only(pair)
    if only is None or not any(only) or not any(c.autocast for s in pair.steps for c in s.calls):
        return None
    if any(not name.startswith("a cast") for side in only for name in side):
        return None
    return Diagnosis(
        "other precision",
        "The outputs are equal, but on the way to the loss the two runs change the number format "
        "at other places: as when one leaves autocast before its loss, and the other does not.",
        'Under `precision="bf16-mixed"` the Trainer runs all of `training_step` under autocast. '
        "Put the raw loop's loss inside `torch.autocast` as well, or leave it in the port: "
        "`with torch.autocast(device, enabled=False):`, with `.float()` for what goes in.",
        [*other_operations(pair), *_loss_line(pair)],
    )


def _only(pair: Pair) -> tuple[Counter, Counter] | None:
    """Return the operations that only one run's backward pass goes through, for each run."""
    if not pair.explained:
        return None
    graphs = [list(step.evidence.graph) for step in pair.steps]
    if not all(graphs):
        return None
    if (graphs[0][0] == "Div") != (graphs[1][0] == "Div"):
        # The Trainer divides each loss by the number of batches to a step, be it one.
        graphs = [graph[1:] if graph[0] == "Div" else graph for graph in graphs]
    one, other = map(Counter, graphs)
    return one - other, other - one


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
    evidence = sentence(equal_in(pair, "batch", "mode", "forward output"))
    if not pair.explained:
        evidence.append(
            "Of this step only fingerprints were kept, so it is not known how far apart the "
            "gradients are: `diagnose` makes the runs again and looks closely."
        )
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
        "Compare what happens between the forward pass and `optimizer.step()` line by line. (Is "
        "each loop equal to itself? Run it twice and compare.)",
        evidence,
    )
