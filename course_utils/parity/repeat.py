"""Why a run is not equal to itself, when it is made twice."""

import random
import re
import sys
import warnings
from collections.abc import Callable

import torch

from .compare import located
from .diagnose.finding import Diagnosis, listed, other_random, random_parted, shortened
from .diagnose.start import trained_before
from .pair import Pair
from .trace import Trace

Run = Callable[[], Trace]

SEED = (
    "Seed at the start of the function, before anything is built: `seed_everything(seed)` does it "
    "for torch, Python and NumPy."
)
NO_FORM = re.compile(r"(\S+) does not have a deterministic implementation")


def not_repeatable(pair: Pair, run: Run) -> Diagnosis:
    """Return why two traces of one run differ; `run` makes it again, if that may tell more."""
    for finder in (_same_objects, _not_seeded, _generator_goes_on):
        found = finder(pair, run)
        if found is not None:
            return found
    if pair.aspect in ("forward output", "gradient", "update", "buffers"):
        return _operation(pair, run)
    return Diagnosis(
        "not repeatable",
        "Run twice, it is not equal to itself, although torch's, Python's and NumPy's generators "
        "were in the same states: something else differs each time, such as a generator of its "
        "own, the clock, the order of files, several workers, or what the first run left behind.",
        "Find what changes between two runs, and fix it before comparing with another loop.",
        [f"The two runs first differ in the {pair.aspect}{_step(pair)}."],
    )


def _step(pair: Pair) -> str:
    return "" if pair.index is None else f", at step {pair.index + 1:,}"


def _same_objects(pair: Pair, run: Run) -> Diagnosis | None:
    if pair.aspect != "initial weights" or trained_before(pair) is None:
        return None
    return Diagnosis(
        "not repeatable: it trains the same model again",
        "Run a second time, it goes on with the weights that the first time ended with: its model "
        "is built outside the function.",
        "Build model, loaders and optimizer inside the function, after seeding.",
        ["The first weights of the second time are the last ones of the first, bit for bit."],
    )


def _not_seeded(pair: Pair, run: Run) -> Diagnosis | None:
    """Which generators were in other states where the difference arose."""
    if pair.aspect == "initial weights":
        sources, where = _before_weights(pair), "when the trace began"
    elif pair.index is not None:
        sources, where = other_random(pair), f"before the forward pass of step {pair.index + 1:,}"
    else:
        return None
    again = ""
    if sources and pair.aspect != "initial weights":  # another state alone proves nothing
        sources, again = _tried(run, sources)
    if not sources:
        return None
    evidence = [
        f"The two runs first differ in the {pair.aspect}{_step(pair)}.",
        f"{_capital(listed(sources))} generator was in another state {where}.",
    ]
    if pair.aspect != "initial weights" and not again:
        evidence.append("With it seeded before each of two runs, they are equal.")
    evidence += [again] if again else []
    return Diagnosis(
        f"not repeatable: {listed(sources)} generator",
        "Run twice, it draws other random numbers: "
        + (
            "inside the run this generator is seeded by chance (`torch.seed()`, the clock), or "
            "drawn from a varying number of times."
            if again
            else "nothing seeds this generator at the start."
        ),
        SEED,
        evidence,
    )


def _tried(run: Run, sources: list[str]) -> tuple[list[str], str]:
    """Return which generators have to be seeded for two equal runs, one if that is enough.

    Where seeding all of them is not enough, but their states still part, these are returned, with
    a sentence that says so.
    """
    each = [[source] for source in sources] if len(sources) > 1 else []
    for trial in [*each, sources]:
        pair = located(*[_seeded(run, trial) for _ in "ab"], ("once", "again"))
        if not pair.aspect:
            return trial, ""
    still = other_random(pair) if pair.index is not None else []
    return still, "Seeded before each of two runs, it is in other states again."


def stir() -> None:
    """Draw from every global generator, so that a run that does not seed it shows."""
    torch.rand(1)
    random.random()
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].random()


def _seeded(run: Run, sources: list[str]) -> Trace:
    if "torch" in sources:
        torch.manual_seed(0)
    if "Python" in sources:
        random.seed(0)
    if "NumPy" in sources:
        sys.modules["numpy.random"].seed(0)
    return run()


def _before_weights(pair: Pair) -> list[str]:
    found = random_parted(pair)
    if found is not None and found[1] == "before the trace":
        # Weights come from torch's generator, as a rule; the others differ by the way, perhaps.
        return ["torch"] if "torch" in found[2] else found[2]
    return []


def _generator_goes_on(pair: Pair, run: Run) -> Diagnosis | None:
    """The order differs, and a loader has a generator that nobody seeds again."""
    own = [one for trace in pair.traces for one in trace.passes if one.own_generator]
    if pair.aspect != "batch" or not own:
        return None
    return Diagnosis(
        "not repeatable: a loader's generator goes on",
        "Run a second time, the batches come in another order, though torch's, Python's and "
        "NumPy's generators are in the same states: the loader has a generator of its own, which "
        "goes on where the first run left it.",
        "Build the loader and its generator inside the function: "
        "`DataLoader(…, generator=torch.Generator().manual_seed(seed))`.",
        [
            f"The two runs first differ in the batch{_step(pair)}.",
            "A loader has its own generator.",
        ],
    )


def _operation(pair: Pair, run: Run) -> Diagnosis:
    """Equal inputs, states and weights, and another result: an operation is at fault."""
    evidence = [f"The two runs first differ in the {pair.aspect}{_step(pair)}."]
    place = pair.parting(pair.index) if pair.index is not None else None
    if place is not None and place.what == "output":
        evidence.append(f"Of all layers, the first one with another output is {place.layer}.")
    other = other_random(pair) if pair.index is not None else []
    evidence.append(
        f"It is not {listed(other)} generator: with it seeded before each run, it is the same."
        if other
        else "The states of the random generators are equal before it."
    )
    operations, equal = _deterministic(run)
    if operations:
        evidence.append(f"Without a deterministic form: {shortened(operations)}.")
    if equal:
        evidence.append("With `torch.use_deterministic_algorithms(True)` two runs were equal.")
    if operations or equal:
        return Diagnosis(
            "not repeatable: an operation without a deterministic form",
            "Run twice, an operation gives other results for equal inputs: it adds up in another "
            "order each time.",
            "Call `torch.use_deterministic_algorithms(True)`"
            + ("." if equal else ", and replace the operations that it complains of."),
            evidence,
        )
    return Diagnosis(
        "not repeatable: a random source that is not seen",
        "Run twice, something in the model or the loss gives other results for equal inputs, and "
        "no operation of torch is known for it: it draws from a generator of its own, or depends "
        "on the clock, on memory that is not set (`torch.empty`), or on what the first run left.",
        "Look into what computes it, and give it a seed.",
        evidence,
    )


def _deterministic(run: Run) -> tuple[list[str], bool]:
    """Return operations that have no deterministic form, and if the run is equal to itself then."""
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            pair = located(run(), run(), ("once", "again"))
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
    said = [NO_FORM.search(str(warning.message)) for warning in caught]
    return sorted({match.group(1) for match in said if match}), not pair.aspect


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
