"""Loaders and schedulers: which samples are chosen, and how learning rates are stepped."""

from torch.optim import Optimizer
from torch.utils.data import DataLoader

from .chance import random_states
from .follower import Follower, beside
from .optimizers import settings_of
from .record import Pass, Schedule, digest_of


class Feeding(Follower):
    """Follows passes over loaders, and steps of schedulers."""

    @beside
    def on_schedule(self, scheduler: object, metric: object) -> None:
        """Note a scheduler's step, and how it is set up."""
        optimizer = getattr(scheduler, "optimizer", None)
        place = self._place(optimizer) if isinstance(optimizer, Optimizer) else None
        if optimizer is not None and place is None:
            return
        if id(scheduler) not in self.schedulers:
            known = Schedule(type(scheduler).__name__, settings_of(scheduler), place)
            self.trace.schedules.append(known)
            self.schedulers[id(scheduler)] = scheduler, len(self.trace.schedules) - 1
            if getattr(scheduler, "_step_count", 2) == 1:
                return  # its constructor sets the first value by a step of its own
        number = self.schedulers[id(scheduler)][1]
        known = self.trace.schedules[number]
        known.steps += 1
        if metric is not None and len(known.metrics) < 10_000:
            known.metrics.append(float(metric))
        self.scheduled[number] += 1
        self._event("schedule")

    @beside
    def before_loader(self) -> bytes:
        """Return the state of the random generators before a pass over a loader begins."""
        return random_states()

    @beside
    def on_loader(self, loader: DataLoader, iterator: object, before: bytes) -> None:
        """Note a pass over a loader."""
        if id(loader) not in self.loaders:
            self.loaders[id(loader)] = loader, len(self.loaders)
        sampler = getattr(loader, "sampler", None)
        order = type(sampler if sampler is not None else loader.batch_sampler).__name__
        own = [getattr(loader, "generator", None), getattr(sampler, "generator", None)]
        init = getattr(loader, "worker_init_fn", None)
        init = getattr(init, "func", init)
        found = Pass(
            loader=self.loaders[id(loader)][1],
            step=len(self.trace.steps),
            samples=_length(loader.dataset),
            batch_size=loader.batch_size or 0,
            drop_last=bool(getattr(loader, "drop_last", False)),
            order=order,
            own_generator=any(one is not None for one in own),
            draws=random_states()[:8] != before[:8] if before else False,
            workers=loader.num_workers,
            worker_init=getattr(init, "__qualname__", str(init)) if init else "",
            length=_length(loader),
        )
        self.novel = True
        if len(self.trace.passes) < 10_000:
            self.trace.passes.append(found)
            self.iterators[id(iterator)] = iterator, found, len(self.trace.passes) - 1
            if len(self.iterators) > 16:  # those that were left, or are done
                self.iterators.pop(next(iter(self.iterators)))

    @beside
    def on_indices(self, iterator: object, indices: object) -> None:
        """Note which samples a loader has chosen for its next batch."""
        if id(iterator) not in self.iterators:
            return
        _, found, number = self.iterators[id(iterator)]
        if indices is None:
            found.finished = True
            self.iterators.pop(id(iterator))
            return
        found.batches += 1
        if self._rich:
            # Not `hash`: that of a text is another one in each process.
            self.loaded.append((number, digest_of([repr(indices).encode()])[:8]))


def _length(dataset: object) -> int:
    try:
        return len(dataset)
    except Exception:  # an iterable dataset has none
        return -1
