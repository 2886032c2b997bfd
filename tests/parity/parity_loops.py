"""The loops that the port doctor is tested on: one plan, run by hand and by Lightning.

A plan says everything about a training run. `raw(plan)` and `lightning(plan)` carry it out and
return the trace, so that two runs of one plan are correct ports of each other, and a fault is
one changed field of the plan of one of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from course_utils.parity import Trace, trace

# The last batch of an epoch is not full.
SAMPLES, FEATURES, CLASSES, BATCH = 44, 6, 3, 8
EPOCH = 6  # steps in one
TRAINER = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "accelerator": "cpu",
}


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU(), nn.Linear(16, CLASSES))


def mlp_with_dropout() -> nn.Module:
    return nn.Sequential(
        nn.Linear(FEATURES, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, CLASSES)
    )


def mlp_with_norm() -> nn.Module:
    return nn.Sequential(
        nn.Linear(FEATURES, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, CLASSES)
    )


class FunctionalDropout(nn.Module):
    """Dropout without a Dropout layer, as many tutorials write it."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(FEATURES, 16), nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.dropout(self.first(x).relu(), 0.3, training=self.training)
        return self.last(hidden)


def mlp_built_backwards() -> nn.Module:
    last = nn.Linear(16, CLASSES)
    return nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU(), last)


def sgd(rate: float = 0.1, **settings) -> Callable:
    return partial(torch.optim.SGD, lr=rate, **settings)


def adam(rate: float = 0.01, **settings) -> Callable:
    return partial(torch.optim.Adam, lr=rate, **settings)


def data(seed: int = 3, samples: int = SAMPLES) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, FEATURES, generator=generator)
    y = torch.randint(0, CLASSES, (samples,), generator=generator)
    return x, y


def loader(seed: int | None = 5, size: int = BATCH, shuffle: bool = True, samples=None):
    """Return a loader with a generator of its own, or with the global one if seed is None."""
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    dataset = TensorDataset(*(samples or data()))
    return DataLoader(dataset, size, shuffle=shuffle, generator=generator)


def repeating_loader() -> DataLoader:
    """Return a loader that starts like `loader()` and has that order in every epoch."""
    generator = torch.Generator().manual_seed(5)
    torch.empty((), dtype=torch.int64).random_(generator=generator)  # what a new iterator draws
    order = torch.randperm(SAMPLES, generator=generator).tolist()
    return DataLoader(TensorDataset(*data()), BATCH, sampler=order)


@dataclass(frozen=True)
class Place:
    """Where a run is: its epoch, and which batch of it."""

    epoch: int
    batch: int


def nothing(*_) -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Plan:
    """What a run does. The last block of fields is only there to be done wrong."""

    model: Callable[[], nn.Module] = mlp
    seed: int = 1
    epochs: int = 2
    loader: Callable[[], DataLoader] = loader
    optimizer: Callable = adam()
    parameters: Callable = nn.Module.parameters
    scheduler: Callable | None = None
    interval: str = "epoch"  # or "step" (of the optimizer), "batch"
    accumulate: int = 1
    clip_norm: float | None = None
    clip_value: float | None = None
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy
    prepare: Callable[[Tensor], Tensor] = lambda x: x
    objective: Callable | None = None  # (model, batch, place) -> loss: replaces these two
    validation: Callable[[], DataLoader] | None = None
    autocast: bool = False
    start_epoch: Callable[[nn.Module, int], None] = nothing
    after_step: Callable[[nn.Module], None] = nothing
    end_epoch: Callable[[nn.Module, int], None] = nothing
    module: type | None = None  # the LightningModule, if not `Lit`
    trainer: tuple = ()  # more arguments for the Trainer, as pairs
    no_grad: bool = True  # whether the raw loop validates without gradients

    zero_grad: str = "before"  # or "after", "zeros", "never", "each epoch"
    train: bool = True
    eval: bool = True
    divide: bool = True  # whether the raw loop divides its loss when it accumulates
    rebuild_loader: bool = False
    rebuild_optimizer: bool = False
    finish: Callable[[nn.Module], None] = lambda model: None

    def compute(self, model: nn.Module, batch: tuple, place: Place) -> Tensor:
        """Return the loss of a batch."""
        if self.objective:
            return self.objective(model, batch, place)
        x, y = batch
        return self.loss(model(self.prepare(x)), y)


def raw(plan: Plan, fabric: bool = False, model: nn.Module | None = None) -> Trace:
    """Train by hand, with Fabric's part in it if asked, and return the trace."""
    torch.manual_seed(plan.seed)
    model = model or plan.model()
    with trace(model) as record:
        _loop(plan, model, L.Fabric(accelerator="cpu", devices=1) if fabric else None)
        plan.finish(model)
    return record


def _loop(plan: Plan, model: nn.Module, fabric: L.Fabric | None) -> None:
    original = model
    optimizer = plan.optimizer(plan.parameters(model))
    if fabric:
        model, optimizer = fabric.setup(model, optimizer)
    scheduler = plan.scheduler(optimizer) if plan.scheduler else None
    batches = plan.loader()
    validation = plan.validation() if plan.validation else ()
    for epoch in range(plan.epochs):
        if epoch and plan.rebuild_loader:
            batches = plan.loader()
        if epoch and plan.rebuild_optimizer:
            optimizer = plan.optimizer(plan.parameters(original))
        if plan.train:
            model.train()
        plan.start_epoch(original, epoch)
        if plan.zero_grad == "each epoch":
            optimizer.zero_grad()
        for index, batch in enumerate(batches):
            if index % plan.accumulate == 0 and plan.zero_grad in ("before", "zeros"):
                optimizer.zero_grad(set_to_none=plan.zero_grad == "before")
            with torch.autocast("cpu", torch.bfloat16, enabled=plan.autocast):
                loss = plan.compute(model, batch, Place(epoch, index))
            loss = loss / plan.accumulate if plan.divide else loss
            fabric.backward(loss) if fabric else loss.backward()
            if (index + 1) % plan.accumulate == 0 or index + 1 == len(batches):
                _update(plan, model, optimizer)
                if scheduler and plan.interval == "step":
                    scheduler.step()
            if scheduler and plan.interval == "batch":
                scheduler.step()
        if plan.validation:
            if plan.eval:
                model.eval()
            with torch.set_grad_enabled(not plan.no_grad):
                for x, y in validation:
                    plan.loss(model(plan.prepare(x)), y)
        plan.end_epoch(original, epoch)
        if scheduler and plan.interval == "epoch":
            scheduler.step()


def _update(plan: Plan, model: nn.Module, optimizer) -> None:
    """Clip and make a step."""
    if plan.clip_norm:
        nn.utils.clip_grad_norm_(model.parameters(), plan.clip_norm)
    if plan.clip_value:
        nn.utils.clip_grad_value_(model.parameters(), plan.clip_value)
    optimizer.step()
    plan.after_step(model)
    if plan.zero_grad == "after":
        optimizer.zero_grad()


class Lit(L.LightningModule):
    def __init__(self, plan: Plan, model: nn.Module):
        super().__init__()
        self.plan, self.model = plan, model

    def training_step(self, batch, batch_index):
        return self.loss_of(batch, batch_index)

    def loss_of(self, batch, batch_index):
        return self.plan.compute(self.model, batch, Place(self.current_epoch, batch_index))

    def validation_step(self, batch, batch_index):
        x, y = batch
        self.plan.loss(self.model(self.plan.prepare(x)), y)

    def configure_optimizers(self):
        optimizer = self.plan.optimizer(self.plan.parameters(self.model))
        if not self.plan.scheduler:
            return optimizer
        self.scheduler = self.plan.scheduler(optimizer)
        if self.plan.interval == "batch":
            return optimizer
        scheduler = {"scheduler": self.scheduler, "interval": self.plan.interval}
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    def on_train_batch_end(self, *_):
        if self.plan.interval == "batch":
            self.scheduler.step()
        self.plan.after_step(self.model)

    def on_train_epoch_end(self):
        self.plan.end_epoch(self.model, self.current_epoch)

    # The faults

    def on_train_epoch_start(self):
        self.plan.start_epoch(self.model, self.current_epoch)
        if not self.plan.train and self.current_epoch:
            self.model.eval()
        if self.plan.rebuild_optimizer and self.current_epoch:
            self.trainer.optimizers = [self.configure_optimizers()]

    def on_validation_model_eval(self):
        if self.plan.eval:
            super().on_validation_model_eval()

    def optimizer_zero_grad(self, epoch, batch_index, optimizer):
        if self.plan.zero_grad == "zeros":
            optimizer.zero_grad(set_to_none=False)
        elif self.plan.zero_grad in ("before", "after") or (
            self.plan.zero_grad == "each epoch" and batch_index == 0
        ):
            super().optimizer_zero_grad(epoch, batch_index, optimizer)

    def train_dataloader(self):
        return self.plan.loader()


def lightning(plan: Plan, model: nn.Module | None = None) -> Trace:
    """Train with the Trainer, and return the trace."""
    torch.manual_seed(plan.seed)
    model = model or plan.model()
    with trace(model) as record:
        fit((plan.module or Lit)(plan, model), plan)
        plan.finish(model)
    return record


def fit(module: L.LightningModule, plan: Plan, **loaders) -> None:
    clip = {"gradient_clip_val": plan.clip_norm}
    if plan.clip_value:
        clip = {"gradient_clip_val": plan.clip_value, "gradient_clip_algorithm": "value"}
    arguments = {
        "max_epochs": plan.epochs,
        "accumulate_grad_batches": plan.accumulate,
        "precision": "bf16-mixed" if plan.autocast else "32-true",
        "reload_dataloaders_every_n_epochs": int(plan.rebuild_loader),
        **clip,
        **dict(plan.trainer),
    }
    if plan.validation:
        loaders["val_dataloaders"] = plan.validation()
    L.Trainer(**TRAINER, **arguments).fit(module, **loaders)
