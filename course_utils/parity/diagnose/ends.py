"""Finders for buffers, for the end of a run, and for differences of rounding size."""

from ..pair import Pair
from .finding import Diagnosis, shortened
from .gradient import other_operations


def norm_settings(pair: Pair) -> Diagnosis | None:
    """Batch norm keeps its running averages in another way, or not at all."""
    if pair.index is None:
        return None
    sides = []
    for trace, step in zip(pair.traces, pair.steps, strict=True):
        if not step.calls or not trace.settings:
            return None
        number = min(step.calls[-1].settings, len(trace.settings) - 1)
        sides.append([s for s in trace.settings[number] if s[0] == "norm"])
    if len(sides[0]) != len(sides[1]):
        return None
    tracks, momentum = ([[s[place] for s in side] for side in sides] for place in (2, 3))
    if tracks[0] != tracks[1]:
        one = pair.names[0 if sum(tracks[0]) < sum(tracks[1]) else 1]
        return Diagnosis(
            "track_running_stats",
            f"In {one} batch norm does not keep its running averages "
            "(`track_running_stats=False`); in the other run it does. Lightning's "
            "`BaseFinetuning.freeze(…, train_bn=False)` switches that off.",
            "Freeze batch norm alike on both sides: set `track_running_stats`, or call `.eval()` "
            "on these layers, in both.",
            [pair.say("{} norm layers keep averages", *map(sum, tracks))],
        )
    if momentum[0] != momentum[1]:
        values = [shortened(sorted(set(map(str, side)))) for side in momentum]
        return Diagnosis(
            "batch norm momentum",
            "The running averages of batch norm move with another momentum: gradients and weights "
            "are equal, but what the model answers in evaluation mode is not. (PyTorch's momentum "
            "is the share of the new batch, 0.1; other libraries give the share of the old, 0.9.)",
            "Give the norm layers the same `momentum` on both sides.",
            [pair.say("momentum {}", *values)],
        )
    return None


def other_buffers(pair: Pair) -> Diagnosis:
    """The buffers differ although gradients and weights are equal."""
    evidence = []
    cause = (
        "Gradients and weights are equal, but the model's buffers (such as the running averages of "
        "batch norm) are not."
    )
    if pair.index is not None:
        names = pair.other_buffers(pair.index)
        evidence += [f"These differ: {shortened(names)}."] if names else []
        a, b = (step.evaluations_training for step in pair.steps)
        if a != b:
            cause += " Extra forward passes in training mode changed them."
            evidence.append(
                pair.say("{} forward passes in training mode, without a backward", a, b)
            )
    return Diagnosis(
        "other buffers",
        cause,
        "Look for what changes them: forward passes in training mode that are not for training, "
        "layers with other settings, or code that sets them.",
        evidence,
    )


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


def rounding(pair: Pair) -> Diagnosis:
    """All differences are of rounding size: with a reason that was recorded, or without one."""
    step, aspect = pair.first
    evidence = [
        f"They first differ in the {aspect}, at step {step + 1:,}, by {_size(pair)} of it.",
        f"The final weights differ by at most {pair.largest_difference():.2g}, which is "
        f"{pair.drift():.1e} of the way that training moved them.",
    ]
    for reason in (_environment, _parts, _kernels, _clipped_in_order, _formula):
        found = reason(pair)
        if found:
            cause, mend, lines = found
            return Diagnosis("rounding", cause, mend, [*evidence, *lines])
    return Diagnosis(
        "rounding, for a reason that was not recorded",
        "The differences are as small as rounding makes them, but what rounds otherwise was not "
        "seen: device, threads, settings, parts of batches and operations are equal. It may be a "
        "kernel that is not deterministic, the order in which workers' gradients are added, or a "
        "fault that is as small.",
        "Run the same side twice and compare: `compare(raw, raw_again)`. If that is identical, "
        "look for what differs between the loops, line by line; if not, use "
        "`torch.use_deterministic_algorithms(True)`.",
        evidence,
    )


def _size(pair: Pair) -> str:
    gradient, weights = pair.gaps(pair.first[0])
    return f"{weights if pair.first[1] == 'update' else gradient:.1e}"


def surroundings(pair: Pair) -> list[str]:
    """Say in what the runs' surroundings differ, as numbers may round otherwise by it."""
    other = _other_environment(pair)
    if not other:
        return []
    said = [
        pair.say(f"{key} {{}}", *(trace.environment.get(key) for trace in pair.traces))
        for key in other
    ]
    return [f"The surroundings differ, by which numbers may round otherwise. {'. '.join(said)}."]


def _other_environment(pair: Pair) -> list[str]:
    a, b = (trace.environment for trace in pair.traces)
    return sorted(key for key in a.keys() | b.keys() if a.get(key) != b.get(key))


def _environment(pair: Pair):
    a, b = (trace.environment for trace in pair.traces)
    other = _other_environment(pair)
    if not other:
        return None
    lines = [
        pair.say("{} threads" if key == "threads" else f"{key} {{}}", a.get(key), b.get(key))
        for key in other
    ]
    if "device" in other:
        cause = "The runs used different devices, which add up numbers in different orders."
        mend = "Nothing is wrong. For the same bits, run both on one device."
        lines = [pair.say("{}", a.get("device"), b.get("device")), *lines]
    elif "threads" in other:
        cause = "The runs used different numbers of threads, which split sums differently."
        mend = "Nothing is wrong. For the same bits, call `torch.set_num_threads` alike in both."
    else:
        cause = "The runs used different software, hardware or settings of the arithmetic."
        mend = "Nothing is wrong. For the same bits, run both in the same surroundings."
    return cause, mend, lines


def _parts(pair: Pair):
    if not pair.regrouped(pair.first[0]):
        return None
    sizes = (" + ".join(str(c.size) for c in step.calls) for step in pair.at(pair.first[0]))
    return (
        "The same samples went through in other parts (accumulated, or shared by several "
        "workers), so their gradients were added up in another order.",
        "Nothing is wrong. For the same bits, divide the batches alike on both sides.",
        [pair.say("batches of {}", *sizes)],
    )


def _kernels(pair: Pair):
    kernels = [
        {group.kernel or "the default" for group in step.groups} for step in pair.at(pair.first[0])
    ]
    if kernels[0] == kernels[1] or pair.first[1] != "update":
        return None
    return (
        "The optimizers carry out the same update by different kernels (`fused`, `foreach`), which "
        "round otherwise.",
        "Nothing is wrong. For the same bits, give both optimizers the same arguments.",
        [pair.say("{}", *[", ".join(sorted(side)) for side in kernels])],
    )


def _clipped_in_order(pair: Pair):
    evidence = [step.evidence for step in pair.at(pair.first[0])]
    if pair.first[1] != "gradient" or None in evidence or not all(e.clips for e in evidence):
        return None
    a, b = (e.clips[-1] for e in evidence)
    if a.limit != b.limit or a.members == b.members or set(a.members) != set(b.members):
        return None
    return (
        "Both clip the same weights' gradients to the same norm, but add it up in another order: "
        "Lightning goes by the optimizer's groups, `model.parameters()` by the layers.",
        "Nothing is wrong. For the same bits, override `configure_gradient_clipping` and clip "
        "`self.model.parameters()`.",
        [pair.say("norm found {:.9g}", a.found, b.found)],
    )


def _formula(pair: Pair):
    index = pair.index
    pair.index = pair.first[0]
    lines = other_operations(pair)
    pair.index = index
    if not lines:
        return None
    return (
        "Both compute the same values in other operations: another formula for the same loss, or "
        "for a layer. In every step that was kept, losses and gradients agree as far as rounding "
        "lets them.",
        "Nothing is wrong, as far as rounding shows it. For the same bits, use the same formulas "
        "on both sides.",
        lines,
    )
