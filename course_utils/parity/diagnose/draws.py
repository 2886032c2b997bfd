"""Finders for random numbers that were drawn in one run and not in the other, and shift batches."""

from ..pair import Pair
from ..trace import Trace
from .batch import left_early, same_content, same_samples, training_pass
from .finding import (
    PASSES,
    Diagnosis,
    agreement,
    evaluations,
    listed,
    other_random,
    random_parted,
)


def validation_in_one(pair: Pair) -> Diagnosis | None:
    """One run drew random numbers for a validation pass that the other does not have."""
    counts = evaluations(pair)
    if counts[0] == counts[1] or pair.index == 0 or same_samples(pair):
        return None
    drawing = _drawing(pair)
    if drawing[0] == drawing[1] and all(trace.passes for trace in pair.traces):
        return None  # whatever was validated, no pass over a loader drew for it
    return Diagnosis(
        "other batch order: validation in one loop only",
        "Only one run went through a validation loader, or it did so more often. Each pass over a "
        "DataLoader draws from the global generator, and shifts the next shuffle.",
        "Validate at the same moments in both, or give the validation loader a generator of its "
        "own: `DataLoader(…, generator=torch.Generator().manual_seed(seed))`.",
        [pair.say(PASSES, *counts)],
    )


def validation_draws(pair: Pair) -> Diagnosis | None:
    """Random numbers were drawn while validating, in one run or more of them there."""
    found = random_parted(pair)
    counts = evaluations(pair)
    if found is None or found[1] != "validation" or not all(counts) or counts[0] != counts[1]:
        return None
    index, _, sources = found
    if not index or _drawing(pair)[0] != _drawing(pair)[1]:
        return None  # a loader's pass drew
    return Diagnosis(
        "validation draws",
        "While validating, one run draws random numbers that the other does not draw: an "
        "augmentation that is applied to validation batches as well, dropout, or a shuffled "
        "validation loader. The training batches after it get other random numbers.",
        "Augment in training only (`if self.trainer.training` in `on_after_batch_transfer`, a "
        "transform of the training set alone), or give what validates a generator of its own.",
        [
            f"Before step {index + 1:,}, {listed(sources)} generator is in the same state after "
            "the step before in both runs, and in another one when a validation batch comes.",
            agreement(pair),
        ],
    )


# Where the states of a generator part, in words.
MOMENTS = {
    "validation": "before or during what comes before it without a backward pass",
    "forward": "before its forward pass",
    "backward": "after its forward pass began",
}


def extra_draw(pair: Pair) -> Diagnosis | None:
    """A loader was looked into in one run only, or something else drew random numbers."""
    found = random_parted(pair)
    if found is None or found[2] != ["torch"] or found[1] == "before the trace":
        return None
    index, moment, _ = found
    peeks = [_peeks(trace, index) for trace in pair.traces]
    evidence = [
        f"torch's generator is in another state from step {index + 1:,} on, {MOMENTS[moment]}.",
        agreement(pair),
    ]
    if peeks[0] != peeks[1]:
        one = 0 if peeks[0] > peeks[1] else 1
        cause = (
            f"{pair.names[one]} begins a pass over a loader and leaves it early, as "
            "`next(iter(loader))` does for a look at one batch. The beginning draws from torch's "
            "global generator, and shifts what is drawn after it."
        )
        mend = (
            "Look at a batch inside `with torch.random.fork_rng():`, or take it from a loader of "
            "its own with `generator=`."
        )
        evidence.insert(0, f"A loader was begun and left early before step {index + 1:,}.")
    elif _drawing(pair)[0] != _drawing(pair)[1]:
        one = 0 if _drawing(pair)[0] > _drawing(pair)[1] else 1
        cause = (
            f"{pair.names[one]} begins more passes over loaders without a generator of their own: "
            "each draws a seed from torch's global generator, and shifts what is drawn after it. "
            "(The Trainer needs a loader where a raw loop may have none.)"
        )
        mend = (
            "Begin the same passes at the same moments, or give the loader a generator of its own: "
            "`DataLoader(…, generator=torch.Generator().manual_seed(seed))`."
        )
        evidence.insert(0, pair.say("{} passes over loaders that drew", *_drawing(pair)))
    else:
        cause = (
            "In one run something draws from torch's global generator, or seeds it again, and not "
            "in the other: a batch looked at, a layer built, a random transform, a metric that "
            "samples."
        )
        if evaluations(pair)[0] != evaluations(pair)[1]:
            evidence.append(pair.say(PASSES, *evaluations(pair)))
        mend = (
            "Find what runs at that moment in one loop only, and put it inside "
            "`with torch.random.fork_rng():`, or seed both runs again right after it."
        )
    return Diagnosis("extra random draw", cause, mend, evidence)


def other_random_data(pair: Pair) -> Diagnosis | None:
    """The same samples in the same order have other values, which are drawn by chance."""
    if not same_samples(pair):
        return None
    passes = [training_pass(trace, pair.index) for trace in pair.traces]
    sources = other_random(pair)
    evidence = ["The loaders chose the same indices, in the same order; the values differ."]
    if None not in passes and max(p.workers for p in passes):
        inits = [p.worker_init or "none" for p in passes]
        said = [(p.workers, init) for p, init in zip(passes, inits, strict=True)]
        evidence.append(pair.say("{0[0]} workers, worker_init_fn {0[1]}", *said))
        if passes[0].workers == passes[1].workers and inits[0] == inits[1]:
            return None
        cause = (
            "The loaders' worker processes draw with other seeds: another number of workers, or "
            "another `worker_init_fn` (`seed_everything(workers=True)` makes the Trainer add one)."
        )
        mend = "Use the same `num_workers` and the same `worker_init_fn` on both sides."
    elif sources:
        cause = (
            f"{listed(sources).capitalize() if sources == ['torch'] else listed(sources)} random "
            "numbers, which transforms or the dataset draw from, were drawn from once more in one "
            "run: by a look at a sample, a validation pass, or another seed."
        )
        mend = (
            "Seed all three generators right before training (`seed_everything` does), and look at "
            "no random sample in between."
        )
        evidence.append(f"Before this batch, {listed(sources)} generator is in another state.")
    else:
        return None
    return Diagnosis("other random numbers in the data", cause, mend, [*evidence, agreement(pair)])


def full_last_batch(pair: Pair) -> Diagnosis | None:
    """Both agree until an epoch ends whose last batch is full."""
    if not pair.index or not same_content(pair):
        return None
    passes = [training_pass(trace, pair.index) for trace in pair.traces]
    if any(one is not None and not one.own_generator for one in passes) or "torch" in other_random(
        pair
    ):
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
        [agreement(pair), f"All batches are full: {sizes.pop()} samples each."],
    )


def _drawing(pair: Pair) -> tuple[int, int]:
    """Return how many passes over loaders drew where the states of torch's generator part.

    That is between the last moment at which they are equal and the step in which they are not.
    """
    found = random_parted(pair)
    first = found[0] if found and "torch" in found[2] else 0
    a, b = (
        sum(one.draws for one in trace.passes if first <= one.step <= pair.index)
        for trace in pair.traces
    )
    return a, b


def _peeks(trace: Trace, index: int) -> int:
    """Return how many drawing passes over loaders were begun before a step, and left early."""
    return sum(p.draws and left_early(p) for p in trace.passes if p.step == index)
