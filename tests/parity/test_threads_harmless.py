"""Harmless ports after public threads: identical, or rounded, and without a confusing remark."""

import copy
import logging
import warnings
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import StochasticWeightAveraging
from parity_loops import (
    BATCH,
    CLASSES,
    FEATURES,
    Lit,
    Place,
    Plan,
    adam,
    data,
    fit,
    lightning,
    loader,
    mlp,
    mlp_with_dropout,
    mlp_with_norm,
    raw,
    sgd,
)
from threads import Manual, Thread, by_hand, check
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

from course_utils.parity import Trace, compare, trace

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

held_out = partial(loader, 9, shuffle=False, samples=data(samples=16))


class Averages:
    """A moving average of the model, which is a deep copy of it."""

    def begin(self, model, epoch):
        if epoch == 0:
            self.average = AveragedModel(model, avg_fn=get_ema_avg_fn(0.9))

    def update(self, model):
        self.average.update_parameters(model)

    @torch.no_grad()
    def validate(self, model, epoch):
        self.average(torch.zeros(BATCH, FEATURES))


class Swa(Lit):
    def configure_callbacks(self):
        return [StochasticWeightAveraging(1e-2, swa_epoch_start=1)]


def copied(model, epoch):
    model.eval()
    with torch.no_grad():
        model(torch.zeros(2, FEATURES))  # makes the normed weights leaves, so that it may be copied
    model.train()
    copy.deepcopy(model)


def weight_normed():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        norm = nn.utils.weight_norm
        return nn.Sequential(norm(nn.Linear(FEATURES, 16)), nn.Tanh(), nn.Linear(16, CLASSES))


def exported(model, epoch):
    torch.export.export(copy.deepcopy(model).eval(), (torch.zeros(2, FEATURES),))


AVERAGE = Averages()
COPIES = {
    "a moving average": Thread(
        "timm's ModelEma, AveragedModel, EMAWeightAveraging",
        "identical",
        Plan(start_epoch=AVERAGE.begin, after_step=AVERAGE.update, end_epoch=AVERAGE.validate),
        {"after_step": lambda model: None, "end_epoch": lambda model, epoch: None},
    ),
    "stochastic weight averaging": Thread(
        "Lightning's StochasticWeightAveraging",
        "identical",
        Plan(model=mlp_with_norm, module=Swa, epochs=3),
        raw=lightning,
    ),
    "the old weight_norm, copied": Thread(
        "pytorch/pytorch #28594, #102981, fourierflow #8",
        "identical",
        Plan(model=weight_normed),
        {"start_epoch": copied},
    ),
    "exported after each epoch": Thread(
        "torch.export of the best model",
        "identical",
        port={"end_epoch": exported},
    ),
}


# Models, and how they are called


class Fourier(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, dtype=torch.cfloat))
        self.head = nn.Linear(FEATURES, CLASSES)

    def forward(self, x):
        return self.head(torch.fft.irfft(torch.fft.rfft(x) * self.weight, n=FEATURES))


class TokensAndPlaces(nn.Module):
    def __init__(self):
        super().__init__()
        self.token, self.place = nn.Linear(FEATURES, 8), nn.Embedding(FEATURES, 8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x):
        return self.head(self.token(x) + self.place(torch.arange(FEATURES)).mean(0))


def by_forward(model, batch, place):
    return F.cross_entropy(model.forward(batch[0]), batch[1])


def in_data_parallel(model, batch, place):
    return F.cross_entropy(nn.DataParallel(model)(batch[0]), batch[1])


def spectral():
    return nn.Sequential(spectral_norm(nn.Linear(FEATURES, 16)), nn.ReLU(), nn.Linear(16, CLASSES))


class Checkpointed(nn.Module):
    def __init__(self, saves=False):
        super().__init__()
        self.saves, self.head = saves, nn.Linear(16, CLASSES)
        self.block = nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU(), nn.Dropout(0.3))

    def forward(self, x):
        hidden = checkpoint(self.block, x, use_reentrant=False) if self.saves else self.block(x)
        return self.head(hidden)


class Tied(nn.Module):
    """A language model that shares a weight, in one direction or the other."""

    def __init__(self, forwards=True):
        super().__init__()
        self.embed, self.mix, self.norm = nn.Embedding(11, 8), nn.Linear(8, 8), nn.LayerNorm(8)
        self.head = nn.Linear(8, 11, bias=False)
        if forwards:
            self.embed.weight = self.head.weight
        else:
            self.head.weight = self.embed.weight
        self.apply(self.fill)
        torch.manual_seed(2)

    def fill(self, module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.2)

    def forward(self, x):
        return self.head(self.norm(self.mix(self.embed(x)).tanh()))


def decayed(model, backwards=False):
    params = list(model.parameters())[:: -1 if backwards else 1]
    return [
        {"params": [p for p in params if p.dim() > 1], "weight_decay": 0.1},
        {"params": [p for p in params if p.dim() < 2], "weight_decay": 0.0},
    ]


def words(count=7):
    x = torch.randint(0, 11, (48, count), generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x), BATCH, shuffle=True)


def next_word(model, batch, place):
    (x,) = batch
    return F.cross_entropy(model(x)[:, :-1].flatten(0, 1), x[:, 1:].flatten())


class Attention(nn.Module):
    def __init__(self, fused=False):
        super().__init__()
        self.fused, self.embed = fused, nn.Embedding(11, 16)
        self.qkv, self.out, self.head = nn.Linear(16, 48), nn.Linear(16, 16), nn.Linear(16, 11)

    def forward(self, x):
        hidden = self.embed(x)
        n, length, width = hidden.shape
        parts = self.qkv(hidden).split(16, 2)
        q, k, v = (part.view(n, length, 2, 8).transpose(1, 2) for part in parts)
        if self.fused:
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            later = torch.ones(length, length).triu(1).bool()
            scores = (q @ k.transpose(-2, -1) / 8**0.5).masked_fill(later, float("-inf"))
            mixed = scores.softmax(-1) @ v
        return self.head(hidden + self.out(mixed.transpose(1, 2).reshape(n, length, width)))


MODELS = {
    "complex weights": Thread("neuraloperator", "identical", Plan(model=Fourier)),
    "forward called directly": Thread(
        "loops that call model.forward(x)",
        "identical",
        Plan(model=TokensAndPlaces, objective=by_forward),
        {"objective": None},
    ),
    "data parallel": Thread(
        "nn.DataParallel without a GPU",
        "identical",
        Plan(model=mlp_with_dropout, objective=in_data_parallel),
        {"objective": None},
    ),
    "spectral norm": Thread(
        "parametrizations that keep buffers",
        "identical",
        Plan(model=spectral, validation=held_out),
    ),
    "checkpointing in the port": Thread(
        "pytorch/pytorch PR #14253",
        "identical",
        Plan(model=Checkpointed),
        {"model": partial(Checkpointed, saves=True)},
    ),
    "tied the other way round, and groups in another order": Thread(
        "karpathy/build-nanogpt #89, nanoGPT PR #21",
        "identical",
        Plan(model=Tied, loader=words, objective=next_word, parameters=decayed),
        {"model": partial(Tied, False), "parameters": partial(decayed, backwards=True)},
    ),
    "attention by hand or fused": Thread(
        "karpathy/build-nanogpt #50, nanoGPT #478",
        "equal within rounding: rounding",
        Plan(model=Attention, loader=words, objective=next_word, optimizer=adam(3e-3)),
        {"model": partial(Attention, fused=True)},
        says=("ScaledDotProduct",),
    ),
}


# Batches


class HuggingFaceStyle(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = mlp_with_dropout()

    def forward(self, x, labels=None, names=None):
        logits = self.net(x)
        return OrderedDict(loss=F.cross_entropy(logits, labels), logits=logits)


def collated(rows):
    x, y = (torch.stack(part) for part in zip(*rows, strict=True))
    return {"x": x, "labels": y, "names": ["id"] * len(rows)}


def dictionaries():
    return DataLoader(TensorDataset(*data()), BATCH, shuffle=True, collate_fn=collated)


Halves = namedtuple("Halves", "left right")


@dataclass
class Batch:
    halves: Halves
    more: dict
    y: torch.Tensor
    name: str = "train"


def records():
    def collate(rows):
        x, y = (torch.stack(part) for part in zip(*rows, strict=True))
        return Batch(Halves(x[:, :3], x[:, 3:]), {"weights": [torch.ones(len(x))]}, y)

    return DataLoader(TensorDataset(*data()), BATCH, shuffle=True, collate_fn=collate)


class TakesBatches(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = mlp_with_dropout()

    def forward(self, batch):
        return self.net(torch.cat(batch.halves, 1)) * batch.more["weights"][0][:, None]


class Ragged(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(2, 8), nn.Linear(8, CLASSES)

    def forward(self, x):
        return self.head(torch.stack([row.mean(0) for row in self.layer(x).unbind()]))


def nested(model, batch, place):
    rows = [row[: 2 * (1 + i % 3)].view(-1, 2) for i, row in enumerate(batch[0])]
    inputs = torch.nested.nested_tensor(rows, layout=torch.jagged)
    return F.cross_entropy(model(inputs), batch[1])


class Sums(nn.Module):
    """Takes the loss itself, by another formula if it is told the number of samples."""

    def __init__(self):
        super().__init__()
        self.net = mlp()

    def forward(self, x, labels, count=None):
        output = self.net(x)
        if count is None:
            return F.cross_entropy(output, labels)
        own = output[torch.arange(len(output)), labels]
        return (output.exp().sum(1).log() - own).sum() / count


def by_mean(model, batch, place):
    return model(*batch)


def by_count(model, batch, place):
    return model(*batch, count=torch.tensor(len(batch[1])))


BATCHES = {
    "a dictionary with names in it": Thread(
        "transformers: model(**batch)",
        "identical",
        Plan(
            model=HuggingFaceStyle,
            loader=dictionaries,
            objective=lambda model, batch, place: model(**batch)["loss"],
        ),
    ),
    "a dataclass with a named tuple in it": Thread(
        "pytorch-lightning #2465, #888, #1467",
        "identical",
        Plan(
            model=TakesBatches,
            loader=records,
            objective=lambda model, batch, place: F.cross_entropy(model(batch), batch.y),
        ),
    ),
    "nested tensors": Thread("torch.nested", "identical", Plan(model=Ragged, objective=nested)),
    "one more input, and another formula": Thread(
        "transformers' Trainer: num_items_in_batch",
        "equal within rounding: rounding",
        Plan(model=Sums, loader=partial(loader, size=7), objective=by_mean),
        {"objective": by_count},
    ),
}


# Optimizers and gradients


def per_sample(model, x, y):
    """Set the mean of the gradients of single samples, by torch.func."""
    params = {name: p.detach() for name, p in model.named_parameters()}

    def loss(params, x, y):
        return F.cross_entropy(functional_call(model, params, (x[None],)), y[None])

    gradients = vmap(grad(loss), in_dims=(None, 0, 0))(params, x, y)
    for name, p in model.named_parameters():
        p.grad = gradients[name].mean(0)


def per_sample_step(plan, model, optimizer, batch, place):
    per_sample(model, *batch)
    optimizer.step()


class PerSample(Manual):
    def training_step(self, batch, batch_index):
        per_sample(self.model, *batch)
        self.optimizers().step()


def adapted(model, batch, place):
    """MAML: a step by hand on one half of the batch, and the loss of the other half after it."""
    (x, y), params = batch, dict(model.named_parameters())
    half = len(x) // 2
    first = F.cross_entropy(functional_call(model, params, (x[:half],)), y[:half])
    slopes = torch.autograd.grad(first, list(params.values()), create_graph=True)
    fast = {name: p - 0.1 * g for (name, p), g in zip(params.items(), slopes, strict=True)}
    return F.cross_entropy(functional_call(model, fast, (x[half:],)), y[half:])


class Relative(torch.optim.Optimizer):
    """Has no learning rate of its own, as Adafactor with relative steps."""

    def __init__(self, params):
        super().__init__(params, {"lr": None})
        self.steps = 0

    @torch.no_grad()
    def step(self, closure=None):
        loss = torch.enable_grad()(closure)() if closure else None
        self.steps += 1
        for group in self.param_groups:
            for p in group["params"]:
                p.add_(p.grad, alpha=-0.1 / self.steps**0.5)
        return loss


class Sparse(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(11, 8, sparse=True), nn.Linear(8, 11)

    def forward(self, x):
        return self.head(self.embed(x))

    def optimizers(self):
        embed, head = self.embed.parameters(), self.head.parameters()
        return [torch.optim.SparseAdam(embed, 1e-2), torch.optim.Adam(head, 1e-2)]


def sparse(plan):
    torch.manual_seed(plan.seed)
    model = plan.model()
    with trace(model) as record:
        optimizers, batches = model.optimizers(), plan.loader()
        for _ in range(plan.epochs):
            for batch in batches:
                for optimizer in optimizers:
                    optimizer.zero_grad()
                plan.compute(model, batch, Place(0, 0)).backward()
                for optimizer in optimizers:
                    optimizer.step()
    return record


class TwoOptimizers(Manual):
    def configure_optimizers(self):
        return self.model.optimizers()

    def training_step(self, batch, batch_index):
        for optimizer in self.optimizers():
            optimizer.zero_grad()
        self.manual_backward(self.loss_of(batch, batch_index))
        for optimizer in self.optimizers():
            optimizer.step()


class Scores(Lit):
    """Scores each batch with a frozen network, and with the model in evaluation mode."""

    def __init__(self, plan, model):
        super().__init__(plan, model)
        with torch.random.fork_rng():
            scorer = nn.Sequential(nn.Linear(CLASSES, 4), nn.BatchNorm1d(4))
        self.scorer = scorer.eval().requires_grad_(False)

    def on_train_batch_end(self, outputs, batch, batch_index):
        self.model.eval()
        with torch.no_grad():
            self.scorer(self.model(batch[0]))
        self.model.train()


OPTIMIZERS = {
    "gradients of single samples": Thread(
        "DP-SGD by torch.func",
        "identical",
        port={"module": PerSample},
        raw=partial(by_hand, per_sample_step),
        noted="were not seen: it is inside torch.func",
    ),
    "MAML": Thread(
        "pytorch-lightning #20181, dragen1860/MAML-Pytorch #63",
        "identical",
        Plan(objective=adapted),
        {"module": Manual},
    ),
    "no learning rate": Thread("transformers' Adafactor", "identical", Plan(optimizer=Relative)),
    "fused kernels": Thread(
        "AdamW(fused=True)",
        "equal within rounding: rounding",
        Plan(optimizer=partial(torch.optim.AdamW, lr=0.01), epochs=5),
        {"optimizer": partial(torch.optim.AdamW, lr=0.01, fused=True)},
        says=("different kernels",),
    ),
    "sparse gradients": Thread(
        "pytorch/pytorch #18404, #4682",
        "identical",
        Plan(model=Sparse, loader=words, objective=next_word),
        {"module": TwoOptimizers},
        raw=sparse,
    ),
    "a metric network": Thread(
        "icevision PR #1100, pytorch-lightning #6959",
        "identical",
        Plan(model=mlp_with_dropout),
        {"module": Scores},
    ),
}

THREADS = COPIES | MODELS | BATCHES | OPTIMIZERS


@pytest.mark.parametrize("name", THREADS)
def test_a_harmless_public_port(name):
    check(THREADS[name])


# Ports that are traced in another way


class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Linear(FEATURES, 16), nn.BatchNorm1d(16)
        self.last = nn.Linear(16, CLASSES)

    def forward(self, x):
        return self.last(self.norm(self.first(x)).relu())


class Port(Lit):
    """Holds the layers itself, and a running loss in a buffer."""

    def __init__(self):
        super().__init__(Plan(), None)
        self.first, self.norm = nn.Linear(FEATURES, 16), nn.BatchNorm1d(16)
        self.last = nn.Linear(16, CLASSES)
        self.register_buffer("running", torch.zeros(()))

    forward = Layers.forward

    def training_step(self, batch, batch_index):
        loss = F.cross_entropy(self(batch[0]), batch[1])
        self.running.lerp_(loss.detach(), 0.1)
        return loss

    def on_train_epoch_start(self):
        pass

    def configure_optimizers(self):
        return adam()(self.parameters())


def test_layers_in_the_module_and_a_buffer_of_its_own():
    torch.manual_seed(1)
    module = Port()
    with trace(module) as record:
        fit(module, Plan())
    report = compare(raw(Plan(model=Layers)), record)
    report.assert_identical()
    assert not report.notes


def test_a_group_with_odd_labels_is_saved(tmp_path):
    def labelled(model):
        return [{"params": list(model.parameters()), "lr_scale": np.float64(0.65) ** 2}]

    plan = Plan(parameters=labelled)
    for name, run in (("raw", raw), ("port", lightning)):
        run(plan).save(tmp_path / name)
    saved = [Trace.load(tmp_path / name) for name in ("raw", "port")]
    compare(*saved).assert_identical()


def test_updates_by_hand_are_refused_with_what_to_do():
    model = mlp()
    with trace(model) as record:
        for x, y in loader():
            model.zero_grad()
            F.cross_entropy(model(x), y).backward()
            with torch.no_grad():
                for p in model.parameters():
                    p.sub_(0.1 * p.grad)
    with pytest.raises(ValueError, match="by hand"):
        compare(record, lightning(Plan(optimizer=sgd())))
