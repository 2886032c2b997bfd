"""The port doctor as grader: a loop and its port, traced on a few digits of the bundled sample."""

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, contextmanager
from copy import copy
from dataclasses import dataclass, field
from functools import cache, wraps

import lightning as L
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.data import DataLoader, Subset

from course_utils.digits import DigitImages, ShuffleSampler, keep_batch, seeded
from course_utils.digits.mnist import bundled_sample
from course_utils.exercises.outcomes import Found, Outcome, right, wrong
from course_utils.parity import Report, diagnose
from course_utils.session import quieten

NAMES = ("the loop", "your port")
IDLE = {  # what to ask where no step is taken: of a Trainer's port, and of a loop
    True: "Does `training_step` return the loss, `configure_optimizers` an optimizer, and is `fit` "
    "called?",
    False: "Are `backward()` and `optimizer.step()` called?",
}
SEED = 1789  # of the check's own runs: no seed of a lesson, so that no recorded result passes
# What the check's Trainers leave out: nothing is written, nothing is shown.
QUIET = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_checkpointing": False,
    "enable_model_summary": False,
    "enable_progress_bar": False,
}


@cache
def _all_digits() -> DigitImages:
    return DigitImages(bundled_sample().root, train=True)


class FewDigits(L.LightningDataModule):
    """A few digits of the bundled sample: 200 to train and 100 to validate, in batches of 64.

    Batches are (B, 1, 28, 28) float32, about 0 on average, and (B,) int64; the last one is smaller.
    Each loader has a generator of its own, started from `seed`, so two objects of one seed give the
    same batches.
    """

    def __init__(self, seed: int = SEED, train: int = 200, val: int = 100, batch_size: int = 64):
        super().__init__()
        self.seed, self.batch_size = seed, batch_size
        digits = copy(_all_digits())
        chosen = torch.randperm(len(digits), generator=seeded(seed)).tolist()
        self.train = Subset(digits, chosen[:train])
        self.val = Subset(digits, chosen[train : train + val])

    def _loader(self, digits: Subset, sampler: ShuffleSampler | None = None) -> DataLoader:
        return DataLoader(
            digits,
            self.batch_size,
            sampler=sampler,
            collate_fn=keep_batch,
            generator=seeded(self.seed),
        )

    def train_dataloader(self) -> DataLoader:
        """Return the loader of the training digits, in a new order each epoch."""
        return self._loader(self.train, ShuffleSampler(self.train, seeded(self.seed)))

    def val_dataloader(self) -> DataLoader:
        """Return the loader of the validation digits, in their own order."""
        return self._loader(self.val)


def grade_port(
    loop: Callable[[object], object],
    port: Callable[[object], object],
    model: type[nn.Module] | str | tuple,
    data: Callable[[], object] = FewDigits,
    *,
    names: tuple[str, str] = NAMES,
    seed: int = SEED,
    by_trainer: bool = True,
    places: Mapping[str, str] | None = None,
) -> Outcome:
    """Return whether a port computes what its loop computes, with the doctor's report as reason.

    `loop` and `port` each train from beginning to end on what `data()` gives them, made afresh
    for each run; all random generators are seeded before. The first network of class (or name)
    `model` that each builds is watched. With `by_trainer` the port's steps have to be the
    Trainer's. `places` says by diagnosis where in the lesson to look.
    """
    quieten()
    torch.set_num_threads(1)
    seen = Steps()

    def run_loop() -> None:
        L.seed_everything(seed, verbose=False)
        loop(data())

    def run_port() -> None:
        L.seed_everything(seed, verbose=False)
        with seen.counting():
            port(data())

    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        report = _compared(run_loop, run_port, names, model, seen, by_trainer)
    if report.verdict == "identical":
        steps = report.steps[0]
        return right(f"{names[1].capitalize()} and {names[0]} agree at all {steps} steps.", report)
    found = report.diagnosis.name
    return wrong(
        f"The port doctor watched {names[0]} and {names[1]}, from the same seed on the same "
        f"data. They are not the same: {found}.",
        (places or {}).get(found, ""),
        report,
    )


@dataclass
class Steps:
    """How many optimizer steps were taken in all, and how many of them by a Trainer."""

    taken: int = 0
    by_trainer: int = 0
    trainers: list[L.Trainer] = field(default_factory=list)  # those whose `fit` is under way

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count the steps inside the `with` block, from nothing."""
        self.taken = self.by_trainer = 0
        hook = register_optimizer_step_post_hook(self._count)
        fit = L.Trainer.fit
        L.Trainer.fit = self._watched(fit)
        try:
            yield
        finally:
            L.Trainer.fit = fit
            hook.remove()

    def _count(self, optimizer: torch.optim.Optimizer, *_) -> None:
        weights = (weight for group in optimizer.param_groups for weight in group["params"])
        if all(weight.grad is None for weight in weights):
            return  # nothing to go by: a training step that returned no loss
        self.taken += 1
        own = (known for trainer in self.trainers for known in trainer.optimizers)
        self.by_trainer += any(optimizer is known for known in own)

    def _watched(self, fit: Callable) -> Callable:
        @wraps(fit)
        def watched(trainer, *args, **kwargs):
            self.trainers.append(trainer)
            try:
                return fit(trainer, *args, **kwargs)
            finally:
                self.trainers.pop()

        return watched


def _compared(
    run_loop: Callable,
    run_port: Callable,
    names: tuple[str, str],
    model: object,
    seen: Steps,
    by_trainer: bool,
) -> Report:
    def checked_port() -> None:
        run_port()
        if not seen.taken:
            raise Found(
                wrong(
                    f"{names[1].capitalize()} runs, but no optimizer takes a step in it: nothing "
                    f"is trained. {IDLE[by_trainer]}"
                )
            )
        if by_trainer and seen.by_trainer < seen.taken:
            raise Found(
                wrong(
                    f"{seen.taken - seen.by_trainer} of the {seen.taken} steps of {names[1]} are "
                    "taken outside the Trainer's own steps, in a loop. Hand that loop over: let "
                    "`Trainer.fit` take them."
                )
            )

    try:
        return diagnose(run_loop, checked_port, names, model)
    except ValueError as error:
        named = model[-1] if isinstance(model, tuple) else model
        named = named if isinstance(named, str) else named.__name__
        if re.match(r"No \S+ (with weights )?was built", str(error)):  # a class, or a name
            reason = (
                f"builds no `{named}`: the loop trains one, so its port has to build one too, "
                "after the seed"
            )
        elif "recorded no optimizer step" in str(error):
            reason = (
                f"trains another network than the first `{named}` that it builds: build just one, "
                "and hand its parameters to the optimizer"
            )
        else:
            raise
        raise Found(wrong(f"{names[1].capitalize()} {reason}.")) from None
