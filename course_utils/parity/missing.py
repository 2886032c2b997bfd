"""Finders for state that a resumed run did not bring along, each by what the traces recorded."""

from dataclasses import dataclass
from math import frexp, isclose, isfinite

import torch
from torch import Tensor

from .diagnose.finding import listed, numbers, shortened
from .fingerprint import fingerprint
from .junction import Junction, alike, training_pass
from .pair import Pair
from .record import Step, digest_of
from .trace import Trace

MATCHED = 3  # batches in a row that show where in the data a run goes on
SAVE_ALL = (
    'Save and load it with the checkpoint: raw, `{"model": model.state_dict(), "optimizer": '
    'optimizer.state_dict(), …}`; with the Trainer, `trainer.fit(…, ckpt_path="last.ckpt")`.'
)


@dataclass(frozen=True)
class Missing:
    """A state that was not brought along: its name, what that does, the mend, and what shows it."""

    what: str
    cause: str
    mend: str
    evidence: list[str]


def missing_states(junction: Junction, pair: Pair) -> list[Missing]:
    """Return all that is shown to be missing where a run was resumed."""
    finders = (weights, buffers, optimizer, scheduler, scaler, data, generators, counter)
    if junction.expected is None:
        return []
    if not pair.aspect:
        finders = (scaler,)
    found = (finder(junction, pair) for finder in finders)
    return [one for one in found if one is not None]


def weights(junction: Junction, pair: Pair) -> Missing | None:
    """The resumed run begins with other weights."""
    now, then = junction.after.start.parameters, junction.expected_weights
    if pair.aspect == "model" or alike(now, then):
        return None
    other = [name for (name, a), b in zip(now.items(), then.values(), strict=True)
             if not torch.equal(a, b)]  # fmt: skip
    evidence = [f"{len(other)} of {len(now)} tensors begin otherwise: {shortened(other)}."]
    source = _elsewhere(now, other, junction)
    step = junction.of_weights
    mend = "Load the weights of the last step, strictly: `model.load_state_dict(saved)`."
    if alike(now, junction.whole.start.parameters):
        cause = "It begins with the weights that the whole run began with: none were loaded."
    elif step != junction.begun:
        cause = f"Its weights are those after step {step:,}, the rest goes on from later: weights "
        cause += "and the other states come from different checkpoints."
    elif source:
        cause = f"Its weights are those of {source} (an average, perhaps), not the model's own."
        mend = "Save both, the model's weights and the averaged ones, and load each into its own."
    elif beside := _beside(other, junction):
        return Missing(
            f"the weights of {beside}",
            f"{beside} is trained by no optimizer, an average (EMA) perhaps, and begins otherwise: "
            "it was set up anew, not loaded.",
            f"Save and load `{beside}.state_dict()` as well, and what it counts.",
            evidence,
        )
    elif len(other) < len(now):
        cause = "Some weights were not loaded, or loaded otherwise (`strict=False`, other names)."
    else:
        cause = (
            "Its weights are not those that the first part ended with: an average (EMA), the best "
            "instead of the last checkpoint, or another run's."
        )
        mend = "Save the model's own weights after the last step, beside averaged or best ones."
    return Missing("the last weights", cause, mend, evidence)


def _beside(other: list[str], junction: Junction) -> str:
    """Return the name of the part of the model that holds all of these, if nothing trains it."""
    names = list(junction.whole.start.parameters)
    trained = {names[number] for step in junction.whole.steps for number in step.owned}
    heads = {name.partition(".")[0] for name in other}
    mine = {name for name in trained if name.partition(".")[0] in heads}
    return heads.pop() if len(heads) == 1 and not mine else ""


def _elsewhere(now: dict[str, Tensor], other: list[str], junction: Junction) -> str:
    """Return where in the part before the other weights were, if they were all in one place."""
    ends = {**junction.before.end.parameters, **junction.expected_buffers}
    known = {fingerprint(tensor): name for name, tensor in ends.items() if tensor.numel() > 1}
    places = [known.get(fingerprint(now[name]), "") for name in other if now[name].numel() > 1]
    if not places or not all(places):
        return ""
    heads = {place.partition(".")[0] for place in places}
    return heads.pop() if len(heads) == 1 else shortened(places)


def buffers(junction: Junction, pair: Pair) -> Missing | None:
    """The resumed run begins with other buffers."""
    if not junction.expected.calls or not junction.actual.calls or not junction.expected_buffers:
        return None
    now = junction.actual.calls[0].buffers
    then = junction.expected.calls[0].buffers
    if not then and junction.at_end:
        then = digest_of(fingerprint(buffer) for buffer in junction.expected_buffers.values())
    if not now or not then or now == then:
        return None
    first = junction.whole.steps[0].calls
    new = bool(first) and first[0].buffers == now
    return Missing(
        "the buffers",
        "The model's buffers, such as the running averages of batch norm, are "
        + ("those of a new model." if new else "others than at the end of the first part."),
        "Save `model.state_dict()`, which holds them, and not only `model.parameters()`.",
        ["The buffers before the first forward pass are others than in the whole run."],
    )


def optimizer(junction: Junction, pair: Pair) -> Missing | None:
    """An optimizer that keeps averages begins without any."""
    cold = _cold(junction)
    if cold:
        kinds = shortened(sorted({step.kind for step in cold}))
        evidence = [f"{kinds} held no state before its first resumed step."]
        if _base_rate_only(junction):
            evidence.append(f"{_rates_apart(junction, 0)} It is kept in the optimizer's state.")
        return Missing(
            "the optimizer's state",
            f"{kinds} begins again without its averages and counters.",
            SAVE_ALL,
            evidence,
        )
    if pair.aspect == "update" and pair.index == 0 and _keeps_state(junction.actual):
        return Missing(
            "the optimizer's state",
            f"{junction.actual.kind} has state, but other than at the end of the first part: "
            "from another step, or loaded for parameters in another order.",
            "Save the optimizer's state at the same moment as the weights, and build it with the "
            "same parameters in the same order before loading.",
            ["From the same gradient, learning rate and settings the first update is another."],
        )
    return None


def _cold(junction: Junction) -> list[Step]:
    """Return the first resumed step of each optimizer that had trained and has no state now."""
    trained = {step.optimizer for step in junction.whole.steps[: junction.begun]}
    firsts: dict[int, Step] = {}
    for step in junction.after.steps:
        firsts.setdefault(step.optimizer, step)
    return [
        step
        for number, step in firsts.items()
        if number in trained and not step.warm and _keeps_state(step)
    ]


def _keeps_state(step: Step) -> bool:
    return step.kind != "SGD" or any(group.settings.get("momentum") for group in step.groups)


def scheduler(junction: Junction, pair: Pair) -> Missing | None:
    """The learning rates are others than in the whole run."""
    then, now = _rates(junction.whole), _rates(junction.after)
    rest = then[junction.begun :]
    apart = next((i for i, (a, b) in enumerate(zip(rest, now, strict=False)) if a != b), None)
    if apart is None or (_cold(junction) and _base_rate_only(junction)):
        return None
    step = junction.begun + apart
    stepped = any(one.steps for one in junction.whole.schedules)
    one = "The scheduler" if stepped else "The learning rate"
    later = zip(rest[apart:], now[apart:], strict=False)
    if apart == 0 and now[0] == then[0] and any(a == b for a, b in later):
        cause = f"{one} begins with its first value, and only later goes on where it should."
    elif apart == 0 and now[0] == then[0]:
        cause = f"{one} begins again with its first value."
    elif _near(now[apart:], then[step - 1 :]):
        cause = f"{one} lags one step behind."
    elif _near(now[apart:], then[step + 1 :]):
        cause = f"{one} is one step ahead."
    elif apart:
        cause = f"{one} goes on from the right value, but not from the right place in its course."
    else:
        cause = f"{one} does not go on where the first part ended."
    return Missing(
        "the scheduler's state" if stepped else "the learning rate",
        cause,
        "Save `scheduler.state_dict()`. When resuming, first build optimizer and scheduler "
        "(building a scheduler sets the learning rate to its first value), then load both states."
        if stepped
        else SAVE_ALL,
        [_rates_apart(junction, apart)],
    )


def _rates(record: Trace) -> list[tuple]:
    return [step.learning_rates for step in record.steps]


def _near(a: list[tuple], b: list[tuple]) -> bool:
    """Return whether learning rates are the same as far as both go, but for their last bits."""
    flat = [pair for one, two in zip(a, b, strict=False) for pair in zip(one, two, strict=False)]
    known = all(isinstance(rate, (int, float)) for pair in flat for rate in pair)
    return bool(flat) and known and all(isclose(x, y, rel_tol=1e-9) for x, y in flat)


def _rates_apart(junction: Junction, place: int) -> str:
    step = junction.begun + place
    now, then = junction.after.steps[place], junction.whole.steps[step]
    return (
        f"At step {step + 1:,} the learning rate is {numbers(now.learning_rates)}; in the whole "
        f"run it is {numbers(then.learning_rates)}."
    )


def _base_rate_only(junction: Junction) -> bool:
    """Return whether the learning rates begin with another value, but take the same course."""
    then, now = _rates(junction.whole)[junction.begun :], _rates(junction.after)
    pairs = list(zip(then, now, strict=False))
    if not pairs or pairs[0][0] == pairs[0][1]:
        return False
    return all(
        isinstance(rate, (int, float)) and rate for both in pairs for side in both for rate in side
    ) and all(
        isclose(b / a, pairs[0][1][group] / pairs[0][0][group], rel_tol=1e-6)
        for one, two in pairs
        for group, (a, b) in enumerate(zip(one, two, strict=True))
    )


def scaler(junction: Junction, pair: Pair) -> Missing | None:
    """The gradient scaler begins with another factor."""
    then, now = junction.expected, junction.actual
    if "scale" not in then.events or "scale" not in now.events:
        return None
    skipped = now.events.count("scale") - then.events.count("scale")
    if skipped > 0:
        evidence = f"The scaler skipped {skipped} steps after resuming, and none in the whole run."
    else:
        factor = _power_of_two(then, now)
        if factor is None:
            return None
        evidence = f"The first scaled loss is {factor:g} times that of the whole run."
    return Missing(
        "the gradient scaler's state",
        "The scaler begins again with its first factor, and may skip steps until it fits.",
        "Save and load `scaler.state_dict()`.",
        [evidence],
    )


def _power_of_two(then: Step, now: Step) -> float | None:
    """Return how many times the loss of a step another one is, if that is another power of two."""
    if len(then.losses) != len(now.losses) or not then.losses or then.outputs != now.outputs:
        return None
    if not all(map(isfinite, (*then.losses, *now.losses))) or not all(then.losses):
        return None
    factors = {b / a for a, b in zip(then.losses, now.losses, strict=True)}
    factor = factors.pop()
    other = not factors and factor > 0 and factor != 1
    return factor if other and frexp(factor)[0] == 0.5 else None


def data(junction: Junction, pair: Pair) -> Missing | None:
    """The batches are others than in the whole run."""
    then = [step.batch for step in junction.whole.steps]
    now = [step.batch for step in junction.after.steps]
    pairs = enumerate(zip(then[junction.begun :], now, strict=False))
    apart = next((i for i, (a, b) in pairs if a != b), None)
    if apart is None or not any(now[apart]) or scaler(junction, pair):
        return None
    step = junction.begun + apart
    place = None if apart else _place(then, now)
    if apart == 0 and _same_samples(junction):
        return _other_values(junction)
    if place is not None and not (place == 0 and junction.at_epoch):
        return _other_position(junction, place)
    return _other_order(junction, step, repeated=place == 0)


def _place(then: list, now: list) -> int | None:
    """Return at which step the whole run had the batches that the resumed one begins with."""
    wanted = now[:MATCHED]
    for number in range(len(then)):
        if then[number : number + len(wanted)] == wanted:
            return number
    return None


def _other_position(junction: Junction, place: int) -> Missing:
    begins = [one for one in junction.whole.passes if one.step == place]
    where = "the first batch of all" if place == 0 else f"the batch of step {place + 1:,}"
    if place and begins:
        where += ", where an epoch begins"
    left_out = place > junction.begun
    return Missing(
        "the position in the data",
        f"It goes on with {where}, not with that of step {junction.begun + 1:,}: "
        + ("batches are left out." if left_out else "batches come twice."),
        "Save checkpoints at the end of an epoch; or save how many batches of the epoch are done "
        "and skip them, in the same order (Lightning: a loader with `state_dict`, such as "
        "torchdata's `StatefulDataLoader`).",
        [f"Its first batches are those of the steps from {place + 1:,} on, bit for bit."],
    )


def _other_order(junction: Junction, step: int, repeated: bool) -> Missing:
    one = training_pass(junction.whole, step)
    own = one is not None and one.own_generator
    evidence = [f"At step {step + 1:,} the batch is another."]
    if repeated:
        evidence = ["Its first batches are those that the whole run began with, bit for bit."]
    other = junction.other_generators
    if one is not None and one.order == "DistributedSampler":
        source, mend = "the sampler's epoch", "Call `sampler.set_epoch(epoch)` with the epoch that "
        mend += "is resumed, before each epoch."
    elif own:
        source = "the state of the loader's own generator"
        mend = "Save `generator.get_state()` at the beginning of the epoch, and set it again."
    elif "torch" in other:
        source = "the state of torch's generator"
        mend = (
            "Save `torch.get_rng_state()` before the epoch begins and set it when resuming, or "
            "shuffle by `seed + epoch` (a sampler with `set_epoch`)."
        )
        evidence.append("torch's generator is in another state before the first forward pass.")
    else:
        return Missing(
            "the position or order of the data",
            "The batches are others than in the whole run; which state orders them was not seen.",
            "Save what orders the data: the sampler's state, its generator, the epoch's number.",
            evidence,
        )
    cause = "The data comes in another order than in the whole run"
    cause += ": that of its first epoch again." if repeated else "."
    return Missing(source, cause, mend, evidence)


def _same_samples(junction: Junction) -> bool:
    """Return whether the loaders chose the same samples for the first step."""
    chosen = [[seen for _, seen in step.loaded] for step in (junction.expected, junction.actual)]
    return bool(chosen[0]) and chosen[0] == chosen[1]


def _other_values(junction: Junction) -> Missing | None:
    other = junction.other_generators
    if not other:
        return None
    return Missing(
        f"the state of {listed(other)} generator",
        "The same samples come with other values: transforms draw other random numbers.",
        _generator_mend(other),
        [f"Before the first forward pass {listed(other)} generator is in another state.",
         "The loaders chose the same samples."],
    )  # fmt: skip


def generators(junction: Junction, pair: Pair) -> Missing | None:
    """The model draws, and its generator is in another state."""
    other = junction.other_generators
    draws = any(c.drew for s in (junction.expected, junction.actual) for c in s.calls)
    if not other or not junction.same_start or not (draws or junction.whole.random):
        return None
    if junction.actual.outputs == junction.expected.outputs:
        return None
    source = ["torch"] if "torch" in other else other  # dropout and noise draw from torch's
    return Missing(
        f"the state of {listed(source)} generator",
        "The model draws other random numbers (dropout, noise) from the same weights and batch.",
        _generator_mend(source),
        [f"Before the first forward pass {listed(source)} generator is in another state."],
    )


def _generator_mend(names: list[str]) -> str:
    calls = {"torch": "`torch.get_rng_state()` (and `torch.cuda.get_rng_state_all()`)",
             "Python": "`random.getstate()`", "NumPy": "`numpy.random.get_state()`"}  # fmt: skip
    return f"Save {', '.join(calls[name] for name in names)} with the checkpoint, and set it again."


def counter(junction: Junction, pair: Pair) -> Missing | None:
    """The resumed run makes all epochs again."""
    if pair.aspect != "length" or len(junction.after.steps) != len(junction.whole.steps):
        return None
    return Missing(
        "the number of epochs done",
        "It makes as many steps as the whole run, on top of those before: its counter begins anew.",
        SAVE_ALL,
        [f"The resumed part has {len(junction.after.steps):,} steps, as the whole run has."],
    )
