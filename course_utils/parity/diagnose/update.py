"""Finders for the update: learning rate, scheduler, optimizer, and what it updates."""

from collections import Counter
from itertools import groupby
from statistics import median

from ..pair import Pair
from ..record import Schedule
from ..trace import Trace
from .finding import Diagnosis, numbers, shortened, told_apart


def one_step_apart(pair: Pair) -> Diagnosis | None:
    """One learning rate takes the other's values, one change earlier."""
    rates = [_distinct(_rates(trace, pair.steps[0].optimizer)) for trace in pair.traces]
    for one, other in ((0, 1), (1, 0)):
        ahead, behind = rates[one], rates[other]
        common = min(len(ahead), len(behind) - 1)
        if common > 1 and ahead[:common] == behind[1 : common + 1] and ahead[0] != behind[0]:
            return Diagnosis(
                "scheduler one step apart",
                f"The learning rates of {pair.names[one]} are one value ahead: its scheduler is "
                "stepped before the first step or epoch, the other's after it.",
                "Step the scheduler after `optimizer.step()`, at the end of the batch or epoch, "
                "as the Trainer does.",
                [
                    pair.say(
                        "{}, …", *[", ".join(numbers(rate) for rate in side[:4]) for side in rates]
                    )
                ],
            )
    return None


def scheduler_rhythm(pair: Pair) -> Diagnosis | None:
    """The schedulers are stepped in different rhythms."""
    units = [_unit(trace) for trace in pair.traces]
    rates = [_rates(trace, pair.steps[0].optimizer) for trace in pair.traces]
    gaps = [_gap(each) for each in rates]
    if all(units) and units[0] == units[1]:
        return None
    if not any(units):
        return _rhythm_of_rates(pair, rates, gaps)
    if all(units) and not all(unit in RHYTHMS for unit in units):
        return _other_rhythm(pair, units)
    order = ("batch", "step", "epoch", "")
    fast = 0 if order.index(units[0]) < order.index(units[1]) else 1
    quick, rare = units[fast], units[1 - fast]
    seldom = f"per {rare} in the other" if rare else "not in the other"
    if quick == "step" or (quick == "batch" and rare == "epoch"):
        quick = "step"
    name = f"scheduler per {quick} in one, {seldom}"
    several = any(len(step.calls) > 1 for step in pair.traces[fast].steps)
    each = "optimizer step" if quick == "step" and several else quick.replace("step", "batch")
    cause = f"{pair.names[fast]} steps its scheduler after each {each}, "
    cause += f"{pair.names[1 - fast]} does not."
    if quick == "batch":
        cause = (
            f"{pair.names[fast]} steps its scheduler after each batch, {pair.names[1 - fast]} "
            "after each optimizer step: under accumulation that is not the same."
        )
    elif not rare:
        cause += (
            " Under manual optimization the Trainer steps no scheduler, and without one returned "
            "by `configure_optimizers` there is none to step."
        )
    mend = (
        "In `configure_optimizers` return "
        '`{"scheduler": scheduler, "interval": "step"}` for a scheduler that the raw loop steps '
        'after each batch, and `"epoch"` (the default) for one stepped after each epoch.'
    )
    if not rare:
        mend += " Under manual optimization call `self.lr_schedulers().step()` yourself."
    return Diagnosis(
        name,
        cause,
        mend,
        [pair.say("learning rate changes {}", *map(_rhythm, gaps)), _stepped(pair)],
    )


# How a scheduler may be stepped, and how it is said.
RHYTHMS = {"batch": "once a batch", "step": "once a step", "epoch": "once an epoch"}


def _other_rhythm(pair: Pair, units: list[str]) -> Diagnosis:
    one, other = (RHYTHMS.get(unit, unit) for unit in units)
    return Diagnosis(
        "scheduler in another rhythm",
        f"{pair.names[0]} steps its scheduler {one}, {pair.names[1]} {other}.",
        "Step it in one place: the Trainer steps each scheduler that `configure_optimizers` "
        "returns, by its `interval` and `frequency` (1 is the default), and a call of "
        "`scheduler.step()` beside it is one too many.",
        [_stepped(pair)],
    )


def _stepped(pair: Pair) -> str:
    counts = [(sum(s.steps for s in t.schedules), len(t.steps)) for t in pair.traces]
    return pair.say("{0[0]} scheduler steps in {0[1]} optimizer steps", *counts)


def _unit(trace: Trace) -> str:
    """Return in which unit a run steps its schedulers: one of RHYTHMS, another, or nothing."""
    count = sum(schedule.steps for schedule in trace.schedules)
    if not count or not trace.steps:
        return ""
    each = count / max(len(trace.schedules), 1) / len(trace.steps)
    several = max(len(step.calls) for step in trace.steps)
    if each > 1.2:
        return "batch" if several > 1 else f"{each:.2g} times a step"
    if each > 0.8:
        return "step"
    epochs = _epochs(trace)
    apart = abs(count / max(len(trace.schedules), 1) - epochs) > 1
    return f"every {1 / each:.2g} steps" if epochs and apart else "epoch"


def _epochs(trace: Trace) -> int:
    """Return how many passes were made over the loader that gave the most batches; 0: unseen."""
    batches = Counter()
    for one in trace.passes:
        batches[one.loader] += one.batches
    if not batches:
        return 0
    training = batches.most_common(1)[0][0]
    return sum(one.loader == training and one.batches > 0 for one in trace.passes)


def _rhythm_of_rates(pair: Pair, rates: list, gaps: list[float]) -> Diagnosis | None:
    """Judge by the learning rates alone: they may be changed without a scheduler."""
    order = (0, 1) if gaps[1] == 0 or 0 < gaps[0] < gaps[1] else (1, 0)
    quick, rare = (gaps[i] for i in order)
    values = [_distinct(rates[i])[: len(_distinct(rates[order[1]]))] for i in order]
    if quick == rare or not (quick == 1 or (rare > 0 and values[0] == values[1])):
        return None
    fast, slow = (pair.names[i] for i in order)
    seldom = "per epoch in the other" if rare > 1 else "not in the other"
    return Diagnosis(
        f"scheduler per step in one, {seldom}",
        f"{fast} changes its learning rate after each batch, {slow} does not.",
        "Change it at the same moments on both sides.",
        [pair.say("learning rate changes {}", *map(_rhythm, gaps))],
    )


def other_metric(pair: Pair) -> Diagnosis | None:
    """A scheduler that watches a metric is shown another one."""
    shown = [
        next((s for s in t.schedules if s.metrics and "Plateau" in s.kind), None)
        for t in pair.traces
    ]
    if None in shown:
        return None
    both = list(zip(shown[0].metrics, shown[1].metrics, strict=False))
    apart = next(
        (i for i, (a, b) in enumerate(both) if abs(a - b) > 1e-4 * max(abs(a), abs(b))), None
    )
    if apart is None:
        return None
    return Diagnosis(
        "monitor",
        f"The two {shown[0].kind} schedulers are shown different quantities: one the validation "
        "loss, say, the other the training loss. So one lowers the rate where the other does not.",
        'Return `{"scheduler": scheduler, "monitor": "val_loss"}` with the name under which the '
        "module logs what the raw loop hands to `scheduler.step(…)`.",
        [pair.say(f"shown at its step {apart + 1}: {{:.6g}}", *both[apart])],
    )


def other_schedule(pair: Pair) -> Diagnosis | None:
    """The schedulers have other settings, or are of another kind."""
    sides = [[s for s in trace.schedules if s.steps] for trace in pair.traces]
    if not all(sides):
        return None
    one, other = sides[0][0], sides[1][0]
    evidence = _schedule_settings(pair, one, other)
    if not evidence:
        return None
    counts = any(name in line for line in evidence for name in COUNTING)
    cause = " `T_max`, `total_steps`, `step_size` and `steps_per_epoch` count calls of "
    cause += "`scheduler.step()`: optimizer steps (not batches, under accumulation) or epochs, as "
    cause += "the scheduler is stepped."
    return Diagnosis(
        "other learning rate",
        f"The schedulers are not set up alike.{cause if counts else ''}",
        "Give both schedulers the same settings, in the unit in which they are stepped "
        "(`trainer.estimated_stepping_batches` is the number of optimizer steps).",
        [*evidence, pair.say("{}", *told_apart(*[s.learning_rates for s in pair.steps]))],
    )


# Settings of schedulers that count their steps.
COUNTING = ("T_max", "T_0", "total_", "step_size", "milestones", "steps_per_epoch")


def _schedule_settings(pair: Pair, one: Schedule, other: Schedule) -> list[str]:
    if one.kind != other.kind:
        return [pair.say("{}", one.kind, other.kind)]
    keys = sorted(one.settings.keys() | other.settings.keys())
    pairs = [
        (key, one.settings.get(key, "not there"), other.settings.get(key, "not there"))
        for key in keys
    ]
    return [pair.say(f"{one.kind} with {key} = {{}}", a, b) for key, a, b in pairs if a != b][:4]


def other_learning_rate(pair: Pair) -> Diagnosis:
    """The learning rates differ."""
    sides = [step.learning_rates for step in pair.steps]
    evidence = [pair.say("{}", *told_apart(*sides))]
    if len(sides[0]) == len(sides[1]) > 1:
        apart = [i for i, (a, b) in enumerate(zip(*sides, strict=True)) if a != b]
        evidence += [
            f"Group {i + 1} of {len(sides[0])} holds {_members(pair, i)}." for i in apart[:3]
        ]
    if pair.index == 0 and any(trace.schedules for trace in pair.traces):
        cause = (
            "The learning rates of the first step differ: the optimizers were given different "
            "ones, or the schedulers begin otherwise, or were stepped before it in one run."
        )
    elif pair.index == 0:
        cause = "The optimizers were given different learning rates."
    elif not any(schedule.steps for trace in pair.traces for schedule in trace.schedules):
        cause = (
            "The learning rates differ from this step on, and no scheduler was stepped in either "
            "run: something else sets them, such as a callback or a group added later."
        )
    else:
        cause = (
            "The learning rates differ later on: one run has no scheduler, another one, or "
            "one with other settings (`T_max`, `total_steps` and `steps_per_epoch` count steps or "
            "epochs, as the scheduler is stepped), or something else sets them, too."
        )
    return Diagnosis(
        "other learning rate",
        cause,
        "Compare optimizer and scheduler with what `configure_optimizers` returns.",
        evidence,
    )


def _members(pair: Pair, group: int) -> str:
    names = list(pair.a.start.parameters)
    return shortened([names[i] for i in pair.steps[0].groups[group].members])


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
        "one that has trained before brings its own. So it is with a run that resumes without its "
        "optimizer's state.",
        "Build the optimizer once for each run, right after the model; to resume, load its state "
        "as well (`optimizer.load_state_dict`, or `trainer.fit(ckpt_path=…)`).",
        [evidence],
    )


def other_settings(pair: Pair) -> Diagnosis | None:
    """The optimizers are set up differently."""
    a, b = pair.steps
    evidence = [pair.say("{}", a.kind, b.kind)] if a.kind != b.kind else []
    names = [list(trace.start.parameters) for trace in pair.traces]
    for place, (one, other) in enumerate(zip(a.groups, b.groups, strict=False)):
        for key in sorted(set(one.settings) | set(other.settings)):
            values = one.settings.get(key, "not there"), other.settings.get(key, "not there")
            if values[0] != values[1]:
                evidence.append(pair.say(f"{key} = {{}}", *values))
        if one.members != other.members:
            sizes = len(one.members), len(other.members)
            evidence.append(pair.say("{} tensors in a group, but not the same ones", *sizes))
            for number, side in enumerate((one, other)):
                only = sorted(set(side.members) - set((other, one)[number].members))
                if only:
                    inside = shortened([names[number][i] for i in only])
                    evidence.append(
                        f"Group {place + 1} holds {inside} only in {pair.names[number]}."
                    )
    if len(a.groups) != len(b.groups):
        evidence.append(pair.say("{} parameter groups", len(a.groups), len(b.groups)))
    if not evidence:
        return None
    evidence = list(dict.fromkeys(evidence))  # the same in several groups
    return Diagnosis(
        "other optimizer settings",
        "The two optimizers are not set up alike.",
        "Give `configure_optimizers` the raw loop's optimizer with all its arguments. (In a "
        "LightningModule the names of `self.named_parameters()` begin with the network's own, "
        "`model.`: groups that are chosen by name may miss theirs.)",
        evidence,
    )


def zero_or_none(pair: Pair) -> Diagnosis | None:
    """Unused weights have a gradient of zero in one run, and none in the other."""
    a, b = (step.without for step in pair.steps)
    if len(a) != len(b) or a == b:
        return None
    places = [i for i, (one, two) in enumerate(zip(a, b, strict=True)) if one != two]
    one = 0 if not a[places[0]] else 1
    names = list(pair.traces[one].start.parameters)
    return Diagnosis(
        "zero instead of none",
        f"Weights that this step does not use have gradients of zero in {pair.names[one]}, and "
        f"none (None) in {pair.names[1 - one]}. The optimizer passes over weights without a "
        "gradient, but moves those with zeros by momentum and weight decay.",
        "Clear gradients alike on both sides: `optimizer.zero_grad(set_to_none=…)` (True is the "
        "default, in Lightning as well; override `optimizer_zero_grad` to change it).",
        [f"{shortened([names[pair.steps[one].owned[i]] for i in places])}: zero against None."],
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
    evidence = [pair.say("{} tensors of the model", len(a.owned), len(b.owned))]
    names = list(pair.a.start.parameters)
    for one, side, other in ((0, a, b), (1, b, a)):
        only = sorted(set(side.owned) - set(other.owned))
        if only:
            evidence.append(f"Only in {pair.names[one]}: {shortened([names[i] for i in only])}.")
    return Diagnosis(
        "other parameters handed to the optimizer",
        "The optimizers do not update the same tensors: part of the model is frozen, left out, or "
        "was replaced after the optimizer was built on one side, or two optimizers step in "
        "another order.",
        "Hand both optimizers the same parameters, in the same order, and build them after the "
        "last layer is in its place.",
        evidence,
    )


def _rates(trace: Trace, optimizer: int) -> list[tuple]:
    return [step.learning_rates for step in trace.steps if step.optimizer == optimizer]


def _distinct(rates: list[tuple]) -> list[tuple]:
    """Return the learning rates without the repetitions of one that stays."""
    return [rate for rate, _ in groupby(rates)]


def _gap(rates: list[tuple]) -> float:
    """Return the usual number of steps between two changes of the learning rate (0: none)."""
    changes = [i for i in range(1, len(rates)) if rates[i] != rates[i - 1]]
    if not changes:
        return 0
    return median(b - a for a, b in zip([0, *changes], changes, strict=False))


def _rhythm(gap: float) -> str:
    if not gap:
        return "never"
    return "every step" if gap == 1 else f"about every {gap:.0f} steps"
