"""What convenience costs: the same steps through several loops, as ratios from one run."""

import gc
import io
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from statistics import median

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.data import DataLoader

from course_utils.parity.looks import framed, table

Loop = Callable[[DataLoader], object]


@dataclass(frozen=True)
class Costs:
    """The time of each loop: seconds for `steps` steps, one figure for each round."""

    seconds: dict[str, list[float]]
    steps: int

    @property
    def milliseconds(self) -> dict[str, float]:
        """The median time of one step of each loop, in milliseconds."""
        return {name: 1000 * median(times) / self.steps for name, times in self.seconds.items()}

    @property
    def ratios(self) -> dict[str, float]:
        """The time of each loop over that of the first one: the median of the rounds' ratios."""
        base = next(iter(self.seconds.values()))
        return {
            name: median(mine / theirs for mine, theirs in zip(times, base, strict=True))
            for name, times in self.seconds.items()
        }

    def __str__(self) -> str:
        """Return the table as plain text."""
        width = max(map(len, self.seconds))
        lines = [f"{'':{width}}  ms a step  times the first"]
        for name, ms in self.milliseconds.items():
            lines.append(f"{name:{width}}  {ms:9.2f}  {self.ratios[name]:15.2f}")
        return "\n".join(lines)

    def plot(self):
        """Draw a bar for each loop's ratio; return the figure."""
        from course_utils.views.plots import bars

        first = next(iter(self.seconds))
        return bars(self.ratios, f"time of a step ({first} = 1)")

    def _repr_html_(self) -> str:
        rows = [
            (name, f"{ms:.2f}", f"{self.ratios[name]:.2f}")
            for name, ms in self.milliseconds.items()
        ]
        rounds = len(next(iter(self.seconds.values())))
        said = f"Medians of {rounds} rounds in turn, {self.steps:,} steps each."
        head = ("loop", "ms a step", "times the first")
        return framed(f'{table(head, rows)}<p class="soft">{said}</p>')

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display({"text/html": self._repr_html_(), "text/plain": str(self)}, raw=True)
        display(self.plot())


def cost(loops: Mapping[str, Loop], loader: Iterable, steps: int = 100, rounds: int = 5) -> Costs:
    """Time several loops on the same `steps` batches, in turn, and return their costs.

    Each loop is called with a loader of ready batches, has to train a fresh model with one
    optimizer step a batch, and is compared with the first. A warm-up round checks that they all
    take the same number of steps; the rounds after it are interleaved, so that a slow moment of
    the machine hits all loops alike. Batches are taken from `loader`, again from its start if it
    is short. What the loops print or draw is not shown. Time is taken as `in_turn` takes it.

    Raises ValueError if a loop takes another number of steps than it got batches, or if there is
    nothing to compare.
    """
    if not loops or steps < 1 or rounds < 1:
        raise ValueError("cost() needs at least one loop, one step and one round.")
    batches = DataLoader(list(islice(cycle(loader), steps)), batch_size=None)
    if not len(batches):
        raise ValueError("cost() got a loader without batches: there is nothing to train on.")
    with warnings.catch_warnings(), _any_algorithm():  # the warm-up too: it warms what is timed
        # There is training here and nothing else, and barebones logs nothing, on purpose.
        warnings.filterwarnings("ignore", ".*have no `val_dataloader`.*")
        warnings.filterwarnings("ignore", ".*barebones=True.*is configured.*")
        return _compare(loops, batches, steps, rounds)


def _compare(loops: Mapping[str, Loop], batches: DataLoader, steps: int, rounds: int) -> Costs:
    for name, loop in loops.items():
        taken = _count_steps(loop, batches)
        if taken != steps:
            raise ValueError(
                f"{name!r} took {taken} optimizer steps on {steps} batches, so its time cannot be "
                "compared: each loop has to take one step a batch."
            )
    return in_turn({name: partial(loop, batches) for name, loop in loops.items()}, steps, rounds)


def in_turn(runs: Mapping[str, Callable[[], object]], steps: int, rounds: int = 5) -> Costs:
    """Time several functions in interleaved rounds, and return their costs for `steps` steps.

    A slow moment of the machine hits all of them alike; quote the ratios. A GPU is waited for,
    before each run and after it. Deterministic algorithms, which the proofs need and which can be
    slow on a GPU, are off while the clock runs: what is measured is everyday use.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    gc.collect()
    gc.freeze()  # what is here already need not be searched again before every run
    try:
        with _any_algorithm():
            for _ in range(rounds):
                for name, run in runs.items():
                    seconds[name].append(_time(run))
    finally:
        gc.unfreeze()
    return Costs(seconds, steps)


@contextmanager
def _any_algorithm():
    """Let torch take whatever algorithm is fastest; what was chosen before comes back."""
    chosen = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(chosen, warn_only=warn_only)


def _unseen() -> AbstractContextManager:
    """Return a context that swallows what the loops show, in a notebook and elsewhere."""
    if "IPython" in sys.modules:
        from IPython.utils.capture import capture_output

        return capture_output()
    return redirect_stdout(io.StringIO())


def _count_steps(loop: Loop, batches: DataLoader) -> int:
    count = 0

    def counted(*_) -> None:
        nonlocal count
        count += 1

    handle = register_optimizer_step_post_hook(counted)
    try:
        with _unseen():
            loop(batches)
    finally:
        handle.remove()
    return count


def _time(run: Callable[[], object]) -> float:
    gc.collect()
    _wait_for_gpu()
    start = time.perf_counter()
    with _unseen():
        run()
    _wait_for_gpu()
    return time.perf_counter() - start


def _wait_for_gpu() -> None:
    """Return when a GPU has done what it was asked for: Python only puts its work in a queue."""
    if torch.cuda.is_initialized():  # to ask a GPU that nobody uses would start it
        torch.cuda.synchronize()
    if torch.backends.mps.is_available():
        torch.mps.synchronize()
