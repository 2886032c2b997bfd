"""Ports whose forward pass went wrong in public: modes, weights, networks, buffers."""

import logging
from functools import partial

import pytest
import torch
from lightning.pytorch.callbacks import BackboneFinetuning
from parity_loops import (
    BATCH,
    CLASSES,
    EPOCH,
    FEATURES,
    Lit,
    Plan,
    data,
    loader,
    mlp,
    mlp_with_dropout,
    mlp_with_norm,
)
from threads import Thread, check
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset, random_split

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

held_out = partial(loader, 9, shuffle=False, samples=data(samples=16))


# Modes


def freeze_norm(model, epoch):
    model[1].eval()


def norm_with(momentum):
    model = mlp_with_norm()
    model[1].momentum = momentum
    return model


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(FEATURES, 16), nn.BatchNorm1d(16), nn.ReLU())
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x):
        return self.head(self.backbone(x))


def with_frozen_weights():
    model = Backbone()
    model.backbone.requires_grad_(False)
    return model


def trainable(model):
    return [p for p in model.parameters() if p.requires_grad]


class Freezes(BackboneFinetuning):
    """Freezes by the callback's own method, which also stops the running averages."""

    def freeze_before_training(self, module):
        self.freeze(module.backbone, train_bn=False)


class FreezesByCallback(Lit):
    @property
    def backbone(self):
        return self.model.backbone

    def configure_callbacks(self):
        return [Freezes(unfreeze_backbone_at_epoch=9)]


def teacher(mode):
    with torch.random.fork_rng():
        return mlp_with_dropout().requires_grad_(False).train(mode)


class Distilled:
    """A loss with a teacher in it, in training mode or not."""

    def __init__(self, mode):
        self.teacher = teacher(mode)

    def __call__(self, model, batch, place):
        with torch.no_grad():
            soft = self.teacher(batch[0]).softmax(1)
        hard = model(batch[0])
        return F.cross_entropy(hard, batch[1]) + F.kl_div(
            hard.log_softmax(1), soft, reduction="batchmean"
        )


MODES = {
    "a model that comes in evaluation mode": Thread(
        "pytorch-lightning #20105, #20986",
        "mode @1: forgotten train()",
        Plan(model=mlp_with_dropout),
        {"model": lambda: mlp_with_dropout().eval()},
        says=("Lightning took this step with layers still in evaluation mode",),
    ),
    "batch norm that is frozen on purpose": Thread(
        "pytorch-lightning #15062, frozen batch norm in detection",
        "mode @1: frozen batch norm",
        Plan(model=mlp_with_norm, start_epoch=freeze_norm),
        {"start_epoch": lambda model, epoch: None},
        says=("raw loop keeps its batch norm in evaluation mode", "as one does on purpose"),
    ),
    "running averages stopped by a callback": Thread(
        "pytorch-lightning #15062, #13902",
        "buffers @1: track_running_stats",
        Plan(model=with_frozen_weights, parameters=trainable),
        {"module": FreezesByCallback},
        says=("In Lightning batch norm does not keep its running averages",),
    ),
    "batch norm's momentum the other way round": Thread(
        "pytorch/vision #8250, ludwig-ai PR #2100, tacotron_pytorch #19",
        "buffers @1: batch norm momentum",
        Plan(model=mlp_with_norm, validation=held_out),
        {"model": partial(norm_with, 0.9)},
        says=("raw loop: momentum 0.1; Lightning: momentum 0.9",),
    ),
    "a teacher in training mode": Thread(
        "vrvlive/knowlege-distillation #2, tianweiy/DMD2 #21",
        "forward output @1: another network in training mode",
        Plan(model=mlp_with_dropout, objective=Distilled(False)),
        {"objective": Distilled(True)},
        says=("Lightning has batch norm or dropout of another network",),
    ),
}


# Weights


def clamp(model):
    for p in model.parameters():
        p.data.clamp_(-0.05, 0.05)


class Averages:
    """An average of the weights that is swapped in for validation, and perhaps not out again."""

    def __init__(self, swaps_back=True):
        self.swaps_back = swaps_back

    def begin(self, model, epoch):
        if epoch == 0:
            self.average = [p.detach().clone() for p in model.parameters()]

    @torch.no_grad()
    def update(self, model):
        for kept, p in zip(self.average, model.parameters(), strict=True):
            kept.lerp_(p, 0.2)

    @torch.no_grad()
    def validate(self, model, epoch):
        own = [p.clone() for p in model.parameters()]
        self.put(model, self.average)
        model(torch.zeros(BATCH, FEATURES))
        if self.swaps_back:
            self.put(model, own)

    def put(self, model, values):
        for p, value in zip(model.parameters(), values, strict=True):
            p.copy_(value)


def averaged(average):
    return {
        "start_epoch": average.begin,
        "after_step": average.update,
        "end_epoch": average.validate,
    }


def xavier(model, epoch):
    for p in model.parameters():
        if epoch == 0 and p.dim() > 1:
            nn.init.xavier_uniform_(p)


class Tied(nn.Module):
    def __init__(self, tied=True):
        super().__init__()
        self.embed, self.mix = nn.Embedding(11, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 11, bias=False)
        weight = self.embed.weight
        self.head.weight = weight if tied else nn.Parameter(weight.detach().clone())

    def forward(self, x):
        return self.head(self.mix(self.embed(x)).tanh())


def words():
    x = torch.randint(0, 11, (48, 7), generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x), BATCH, shuffle=True)


def next_word(model, batch, place):
    (x,) = batch
    return F.cross_entropy(model(x)[:, :-1].flatten(0, 1), x[:, 1:].flatten())


def split_then_built():
    random_split(range(44), [36, 8])
    return mlp()


def built_then_split():
    model = mlp()
    random_split(range(44), [36, 8])
    return model


WEIGHTS = {
    "weights that are not clamped": Thread(
        "WGAN ports",
        "forward output @2: weights changed between steps",
        Plan(after_step=clamp),
        {"after_step": lambda model: None},
        says=("The weights of raw loop were others before this step's forward pass",),
    ),
    "averaged weights swapped in and not out": Thread(
        "Open-Sora-Plan #186, fadel/pytorch_ema #12",
        f"forward output @{EPOCH + 1}: weights changed between steps",
        Plan(**averaged(Averages())),
        averaged(Averages(swaps_back=False)),
        says=("The weights of Lightning were others before this step's forward pass",),
    ),
    "another initialisation": Thread(
        "forum: weights initialised in on_fit_start",
        "initial weights: other initialisation",
        Plan(start_epoch=xavier),
        {"start_epoch": lambda model, epoch: None},
        says=("raw loop changed the weights between the `with` line and its first step",),
    ),
    "data split before or after the model is built": Thread(
        "a datamodule's setup()",
        "initial weights: other seed or build order",
        Plan(model=split_then_built),
        {"model": built_then_split},
        says=("0 of 4 tensors start equal",),
    ),
    "tied weights that come apart": Thread(
        "huggingface/transformers #14035",
        "model: tied weights",
        Plan(model=Tied, loader=words, objective=next_word),
        {"model": partial(Tied, tied=False)},
        says=("raw loop shares a weight between layers", "head.weight"),
    ),
}

THREADS = MODES | WEIGHTS


@pytest.mark.parametrize("name", THREADS)
def test_the_forward_pass_of_a_public_port(name):
    check(THREADS[name])
