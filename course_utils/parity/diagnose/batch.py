"""Finders for the batch: other samples, another order, other values."""

from ..pair import Pair
from ..record import Pass, Step, content_of
from ..trace import Trace
from .finding import (
    Diagnosis,
    agreement,
)


def other_accumulation(pair: Pair) -> Diagnosis | None:
    """One run takes more batches to a step."""
    a, b = (step.calls for step in pair.steps)
    if len(a) == len(b) or not a or not b or a[0].inputs != b[0].inputs or not a[0].inputs:
        return None
    repeated = any(len({call.inputs for call in calls}) < len(calls) for calls in (a, b))
    if repeated:  # a batch that is looked at twice is no second batch
        return None
    return Diagnosis(
        "accumulation in one",
        "The runs take different numbers of batches to one optimizer step.",
        "Give the Trainer `accumulate_grad_batches` as many batches as the raw loop adds up before "
        "`optimizer.step()` (or 1 where it adds up none). The Trainer also steps at the end of an "
        "epoch, where fewer batches are left.",
        [pair.say("{} forward passes in this step", len(a), len(b))],
    )


def stepped_again(pair: Pair) -> Diagnosis | None:
    """One run makes a step without a pass since the one before."""
    idle = [not step.calls and "backward" not in " ".join(step.events) for step in pair.steps]
    if idle[0] == idle[1] or not pair.index:
        return None
    name = pair.names[idle.index(True)]
    return Diagnosis(
        "a step without a backward pass",
        f"{name} makes this optimizer step with the gradient that the step before has used: since "
        "then there was neither a forward nor a backward pass.",
        "Call `optimizer.step()` once for each batch (or for each group of accumulated batches). "
        "Under automatic optimization the Trainer calls it; a call of one's own is one too many.",
        [pair.say("{} forward passes since the step before", *[len(s.calls) for s in pair.steps])],
    )


def shorter_epoch(pair: Pair) -> Diagnosis | None:
    """One run begins another pass over its data where the other one goes on."""
    passes = [training_pass(trace, pair.index) for trace in pair.traces]
    if not pair.index or None in passes or any(one.loader != passes[0].loader for one in passes):
        return None
    begins = [one.step == pair.index for one in passes]
    lengths = [_lengths(trace, passes[0].loader, pair.index) for trace in pair.traces]
    if begins[0] == begins[1] or all(a == b for a, b in zip(*lengths, strict=False)):
        return None
    name = pair.names[begins.index(True)]
    return Diagnosis(
        "an epoch ends earlier in one run",
        f"{name} begins its next pass over the data at this step, the other run goes on with the "
        "one before: it sees fewer batches, or fewer samples, in an epoch.",
        "Compare `limit_train_batches`, a `break` in the raw loop, the sampler, and the subset "
        "that each loader is given.",
        [
            pair.say("a pass begun {}", *_begun(begins, pair.index)),
            pair.say("{} batches in the pass before", *[(side or [0])[-1] for side in lengths]),
            agreement(pair),
        ],
    )


def _lengths(trace: Trace, loader: int, index: int) -> list[int]:
    """Return how many batches each pass over a loader has given that began before a step."""
    return [p.batches for p in trace.passes if p.loader == loader and p.step < index]


def _begun(begins: list[bool], index: int) -> list[str]:
    return [f"at step {index + 1:,}" if begin else "earlier" for begin in begins]


def dropped_last(pair: Pair) -> Diagnosis | None:
    """One run leaves out the last batch of an epoch, which is not full."""
    passes = [training_pass(trace, pair.index) for trace in pair.traces]
    if None in passes or passes[0].drop_last == passes[1].drop_last:
        return None
    sizes = [[call.size for call in step.calls] for step in pair.steps]
    if sizes[0] == sizes[1]:
        return None
    name = pair.names[0 if passes[0].drop_last else 1]
    return Diagnosis(
        "drop_last",
        f"{name} leaves out the last batch of each epoch, which is not full (`drop_last=True`); "
        "the other run takes it.",
        "Give both loaders the same `drop_last` (False is the default).",
        [pair.say("batches of {}", *sizes), agreement(pair)],
    )


def hidden_state(pair: Pair) -> Diagnosis | None:
    """One run hands on what the model returned the time before, the other does not."""
    if not pair.index:
        return None
    carried = [_carried(trace, pair.index) for trace in pair.traces]
    if bool(carried[0]) == bool(carried[1]):
        return None
    one = 0 if carried[0] else 1
    return Diagnosis(
        "hidden state",
        f"{pair.names[one]} hands what the model returned in the step before on to the next one "
        f"(the state of a recurrent network); {pair.names[1 - one]} gives it something else, such "
        "as zeros.",
        "Keep the state on the LightningModule and hand it on, detached: `self.hidden = "
        "hidden.detach()`. Set it back at the same moments on both sides.",
        [
            f"An input of {pair.names[one]} is an output of its step before, bit for bit; not so "
            f"in {pair.names[1 - one]}."
        ],
    )


def _carried(trace: Trace, index: int) -> bool:
    before = {output for call in trace.steps[index - 1].calls for output in call.output}
    return any(seen in before for call in trace.steps[index].calls for seen in call.inputs)


def order_repeats(pair: Pair) -> Diagnosis | None:
    """One run sees the same order again in each epoch."""
    repeating = [_repeats(trace, pair.index) for trace in pair.traces]
    if repeating[0] == repeating[1] or same_samples(pair):
        return None
    orders = [one.order for one in (training_pass(t, pair.index) for t in pair.traces) if one]
    said = [pair.say("order by {}", *orders)] if len(set(orders)) == 2 else []
    name = pair.names[repeating.index(True)]
    return Diagnosis(
        "other batch order: one run repeats its order",
        f"{name} goes through the data in the same order again: its loader, or the loader's "
        "generator, is rebuilt with the same seed for each epoch, or it does not shuffle.",
        "Build the loader once, outside the epoch loop, with `shuffle=True`.",
        [f"{name} starts again with its first batch; the other run does not.", *said],
    )


def same_data_mixed(pair: Pair) -> Diagnosis | None:
    """Both see the same samples, in another order."""
    now = [_content([step]) for step in pair.steps]
    if now[0] == now[1]:
        evidence = "The batch holds the same samples in another order within it."
    elif same_content(pair):
        evidence = "Over the whole run both saw the same samples."
    else:
        return None
    return Diagnosis(
        "other batch order",
        "Both runs see the same data, shuffled by different random numbers: other seeds, a loader "
        "built or read at another moment, or one generator shared by several loaders.",
        "On both sides seed, then build model, loaders and optimizer in the same order, afresh for "
        "each run: a generator goes on where the last run left it.",
        [evidence, agreement(pair)],
    )


def other_data(pair: Pair) -> Diagnosis:
    """The batches hold other numbers."""
    evidence = [
        pair.say("batches of {}", *[[call.size for call in s.calls] for s in pair.steps]),
        agreement(pair),
    ]
    cause = (
        "The inputs are not the same: another order, another split or subset, or another "
        "normalisation, batch size or augmentation."
    )
    if same_samples(pair):
        evidence.insert(0, "The loaders chose the same indices, in the same order.")
        cause = (
            "The same indices give the model other values: another normalisation or transform, "
            "one applied twice or left out, another augmentation, or another dataset."
        )
        if pair.index:
            cause += " What changes a batch in place may change its dataset, for the next epoch."
    return Diagnosis(
        "other batches",
        cause,
        "Print the first batch of both loaders. If the samples differ, compare split, seed and "
        "`batch_size`; if only the values do, compare the transforms.",
        evidence,
    )


def _repeats(trace: Trace, index: int) -> bool:
    """Return whether a step at or before `index` begins with the first batch again."""
    first = trace.steps[0].batch
    later = trace.steps[1:] if index == 0 else trace.steps[1 : index + 1]
    return bool(first) and any(step.batch == first for step in later)


def _content(steps: list[Step]) -> int:
    return content_of(call for step in steps for call in step.calls)


def same_content(pair: Pair) -> bool:
    """Return whether both runs saw the same samples, in whatever order, over their common steps."""
    a, b = (_content(trace.steps[: pair.common]) for trace in pair.traces)
    return a == b


def same_samples(pair: Pair) -> bool:
    """Return whether the loaders chose the same samples for all batches up to this one."""
    chosen = [_chosen(trace, pair.index) for trace in pair.traces]
    return bool(chosen[0]) and chosen[0] == chosen[1]


def _chosen(trace: Trace, index: int) -> list[bytes]:
    """Return what the training loader chose up to a step, as far as it was seen."""
    now = training_pass(trace, index)
    if now is None:
        return []
    left = [one for one in trace.passes if one is not now and left_early(one)]
    mine = {i for i, one in enumerate(trace.passes) if one.loader == now.loader and one not in left}
    taken = [
        seen for step in trace.steps[: index + 1] for number, seen in step.loaded if number in mine
    ]
    # A loader with workers chooses ahead; what both have chosen by now is compared.
    return taken[: sum(len(step.calls) for step in trace.steps[: index + 1])]


def training_pass(trace: Trace, index: int) -> Pass | None:
    """Return the pass over a loader from which a step's batch came, if one was seen."""
    numbers = [number for step in trace.steps[: index + 1] for number, _ in step.loaded]
    begun = [one for one in trace.passes if one.step <= index]
    if numbers:
        counts = {n: numbers.count(n) for n in set(numbers)}
        busiest = {trace.passes[n].loader for n in counts if counts[n] == max(counts.values())}
        begun = [one for one in begun if one.loader in busiest] or begun
    return begun[-1] if begun else None


def left_early(one: Pass) -> bool:
    """Return whether a pass over a loader was left after a batch or two, though there are more."""
    return not one.finished and one.batches < 3 and one.batches < one.length
