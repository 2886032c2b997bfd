"""Ports whose schedulers, optimizers or parameter groups went wrong in public."""

import copy
import logging
from dataclasses import replace
from functools import partial

import pytest
import torch
from lightning.pytorch.callbacks import BackboneFinetuning
from parity_loops import CLASSES, EPOCH, FEATURES, Lit, Plan, adam, data, fit, loader, sgd
from threads import Manual, Thread, check
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR, ReduceLROnPlateau, StepLR

from course_utils.parity import trace

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


# Schedulers


def warmup(optimizer):
    return LambdaLR(optimizer, lambda step: min(1, (step + 1) / 16))


def one_cycle(steps):
    return lambda optimizer: OneCycleLR(optimizer, 0.1, total_steps=steps)


def table(optimizer):
    return LambdaLR(optimizer, lambda epoch: [1, 0.5, 0.3, 0.2, 0.1, 0.05][epoch])


def a_step_ahead(optimizer):
    scheduler = table(optimizer)
    scheduler.step()
    return scheduler


def halved(optimizer):
    return StepLR(optimizer, 1, 0.5)


def plateau(optimizer):
    return ReduceLROnPlateau(optimizer, patience=0, factor=0.5)


class NeverSteps(Manual):
    steps = False

    def on_train_epoch_end(self):
        if self.steps:
            self.lr_schedulers().step()


class StepsByItself(NeverSteps):
    steps = True


X, Y = data()
# Other labels for the same samples: this loss rises while that of the training falls.
held_out = partial(loader, 9, shuffle=False, samples=(X, (Y + 1) % CLASSES))


def watched_validation(plan):
    """Step the scheduler on the validation loss."""
    torch.manual_seed(plan.seed)
    model = plan.model()
    with trace(model) as record:
        optimizer, batches, validation = (
            plan.optimizer(model.parameters()),
            plan.loader(),
            held_out(),
        )
        scheduler = plateau(optimizer)
        for _ in range(plan.epochs):
            for x, y in batches:
                optimizer.zero_grad()
                plan.loss(model(x), y).backward()
                optimizer.step()
            model.eval()
            with torch.no_grad():
                scheduler.step(sum(plan.loss(model(x), y) for x, y in validation))
            model.train()
    return record


class WatchesTraining(Lit):
    def training_step(self, batch, batch_index):
        loss = self.loss_of(batch, batch_index)
        self.log("train_loss", loss, on_epoch=True, on_step=False)
        return loss

    def configure_optimizers(self):
        optimizer = self.plan.optimizer(self.model.parameters())
        scheduler = {"scheduler": plateau(optimizer), "monitor": "train_loss"}
        return {"optimizer": optimizer, "lr_scheduler": scheduler}


SCHEDULERS = {
    "stepped per batch or per step under accumulation": Thread(
        "pytorch-lightning #1476, #12894, #21491",
        "learning rate @1: scheduler per batch in one, per step in the other",
        Plan(accumulate=3, scheduler=warmup, interval="batch"),
        {"interval": "step"},
        says=("raw loop steps its scheduler after each batch", "Lightning after each optimizer"),
    ),
    "total_steps counted in batches": Thread(
        "pytorch-lightning #12894",
        "learning rate @2: other learning rate",
        Plan(accumulate=3, scheduler=one_cycle(5), interval="step", optimizer=adam(1e-3)),
        {"scheduler": one_cycle(13)},
        says=("raw loop: OneCycleLR with total_steps = 5; Lightning: OneCycleLR with total",),
    ),
    "never stepped under manual optimization": Thread(
        "pytorch-lightning #6567",
        f"learning rate @{EPOCH + 1}: scheduler per epoch in one, not in the other",
        Plan(scheduler=halved, epochs=3),
        {"module": NeverSteps},
        {"module": StepsByItself},
        ("raw loop steps its scheduler after each epoch, Lightning does not", "3 scheduler steps"),
    ),
    "stepped before the epoch": Thread(
        "zju3dv/NeuralRecon #51, ildoonet/pytorch-gradual-warmup-lr PR #11",
        "learning rate @1: scheduler one step apart",
        Plan(scheduler=a_step_ahead, epochs=4),
        {"scheduler": table},
        says=("The learning rates of raw loop are one value ahead",),
    ),
    "another quantity watched": Thread(
        "pytorch-lightning #298, #673, #1156",
        f"learning rate @{2 * EPOCH + 1}: monitor",
        Plan(epochs=4),
        {"module": WatchesTraining, "validation": held_out},
        None,
        ("are shown different quantities", "shown at its step 1"),
        raw=watched_validation,
    ),
}


# Groups, and what is in them


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone, self.head = nn.Linear(FEATURES, 16), nn.Linear(16, CLASSES)

    def forward(self, x):
        return self.head(self.backbone(x).relu())


class NewHead(nn.Sequential):
    def __init__(self, classes=10):
        super().__init__(nn.Linear(FEATURES, 16), nn.ReLU(), nn.Linear(16, classes))

    def replace(self):
        with torch.random.fork_rng():
            torch.manual_seed(7)
            self[2] = nn.Linear(16, CLASSES)
        return self


class ReplacesHead(Lit):
    def on_fit_start(self):
        self.model.replace()


def by_name(module):
    named = list(module.named_parameters())
    head = [p for name, p in named if name.startswith("head")]
    rest = [p for name, p in named if not name.startswith("head")]
    return [{"params": rest, "lr": 1e-3}, {"params": head, "lr": 1e-2}]


class GroupsItsOwnNames(Lit):
    def configure_optimizers(self):
        return self.plan.optimizer(by_name(self))


def frozen():
    model = Net()
    model.backbone.requires_grad_(False)
    return model


def thaw(model, epoch):
    if epoch == 1:
        model.backbone.requires_grad_(True)


def trainable(model):
    return [p for p in model.parameters() if p.requires_grad]


def backbone_added_later(plan):
    torch.manual_seed(plan.seed)
    model = plan.model()
    with trace(model) as record:
        optimizer, batches = plan.optimizer(model.head.parameters()), plan.loader()
        for epoch in range(plan.epochs):
            if epoch == 1:
                model.backbone.requires_grad_(True)
                optimizer.add_param_group({"params": model.backbone.parameters(), "lr": 1e-3})
            for x, y in batches:
                optimizer.zero_grad()
                plan.loss(model(x), y).backward()
                optimizer.step()
    return record


class FineTunes(Lit):
    """Unfreezes the backbone by Lightning's callback, whose rate doubles in each epoch."""

    settings: dict = {}

    @property
    def backbone(self):
        return self.model.backbone

    def configure_callbacks(self):
        rest = {"backbone_initial_lr": 1e-3, "should_align": False, **self.settings}
        return [BackboneFinetuning(1, **rest)]


class FineTunesSteadily(FineTunes):
    settings = {"lambda_func": lambda epoch: 1}


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(FEATURES, 16), nn.Linear(FEATURES, 16)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x, which):
        return self.head((self.a if which else self.b)(x).relu())


def in_turn(model, batch, place):
    return F.cross_entropy(model(batch[0], place.batch % 2), batch[1])


class Resumes(Lit):
    """Trains one epoch of a run, with a loader and an optimizer's state that are given to it."""

    keeps, state, batches = False, None, None

    def train_dataloader(self):
        return self.batches

    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        if self.keeps and self.state:
            optimizer.load_state_dict(self.state)
        return optimizer


class ResumesWithState(Resumes):
    keeps = True


def resumed(plan):
    """Train two epochs as two fits: the second one starts from what the first has left."""
    torch.manual_seed(plan.seed)
    model, half = plan.model(), replace(plan, epochs=1)
    with trace(model) as record:
        first, second = plan.module(half, model), plan.module(half, model)
        first.batches = second.batches = plan.loader()
        fit(first, half)
        second.state = copy.deepcopy(first.optimizers(use_pl_optimizer=False).state_dict())
        fit(second, half)
    return record


GROUPS = {
    "betas": Thread(
        "GPT's betas",
        "optimizer @1: other optimizer settings",
        Plan(optimizer=adam(betas=(0.9, 0.95))),
        {"optimizer": adam()},
        says=("betas = (0.9, 0.95)", "betas = (0.9, 0.999)"),
    ),
    "groups chosen by names that have a prefix": Thread(
        "CVI-SZU/CCAM #27, huggingface/transformers #915",
        "optimizer @1: other optimizer settings",
        Plan(model=Net, parameters=by_name),
        {"module": GroupsItsOwnNames},
        says=("Group 2 holds head.weight, head.bias only in raw loop", "`model.`"),
    ),
    "the head replaced after the optimizer was built": Thread(
        "pytorch-lightning #16170",
        "parameters @1: other parameters handed to the optimizer",
        Plan(model=lambda: NewHead().replace()),
        {"model": NewHead, "module": ReplacesHead},
        says=("Only in raw loop: 2.weight, 2.bias",),
    ),
    "unfrozen, but not in the optimizer": Thread(
        "fastai/fastai #2133, skorch #261, pytorch-lightning #450",
        "parameters @1: other parameters handed to the optimizer",
        Plan(model=frozen, start_epoch=thaw),
        {"parameters": trainable},
        says=("Only in raw loop: backbone.weight, backbone.bias",),
    ),
    "a backbone whose rate doubles": Thread(
        "BackboneFinetuning's default",
        f"learning rate @{2 * EPOCH + 1}: other learning rate",
        Plan(model=frozen, parameters=trainable, epochs=4),
        {"module": FineTunes},
        {"module": FineTunesSteadily},
        ("Group 2 of 2 holds backbone.weight, backbone.bias", "no scheduler was stepped"),
        raw=backbone_added_later,
    ),
    "zeros instead of None": Thread(
        "pytorch/pytorch #83769, DetNAS #3, ultralytics #22351",
        "update @2: zero instead of none",
        Plan(model=Branches, objective=in_turn, zero_grad="zeros",
             optimizer=sgd(momentum=0.9, weight_decay=1e-3)),
        {"zero_grad": "before"},
        says=("b.weight, b.bias: zero against None",),
    ),
    "resumed without the optimizer's state": Thread(
        "pytorch-lightning #2613, #12280",
        f"optimizer @{EPOCH + 1}: optimizer rebuilt or used before",
        says=("Lightning steps with optimizer number 2",),
        lightning=resumed,
        port={"module": Resumes},
        mended={"module": ResumesWithState},
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_scheduler_of_a_public_port(name):
    check(SCHEDULERS[name])


@pytest.mark.parametrize("name", GROUPS)
def test_the_optimizer_of_a_public_port(name):
    check(GROUPS[name])
