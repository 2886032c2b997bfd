"""Correct ports are never called different."""

import logging
from dataclasses import replace
from functools import partial

import lightning as L
import pytest
import torch
from parity_loops import (
    CLASSES,
    EPOCH,
    FEATURES,
    FunctionalDropout,
    Lit,
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
from torch import nn
from torch.nn import functional as F
from torchmetrics.classification import MulticlassAccuracy

from course_utils.parity import compare, trace

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

own = partial(loader, 9, shuffle=False)
shared = partial(loader, None)
full = partial(loader, None, samples=data(samples=48))


def two_groups(model):
    layers = [module for module in model if isinstance(module, nn.Linear)]
    return [{"params": layers[0].parameters()}, {"params": layers[1].parameters(), "lr": 0.03}]


def one_cycle(optimizer):
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=2 * EPOCH + 1)


def halving(optimizer):
    return torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)


def by_group(optimizer):
    decays = [lambda epoch: 0.5**epoch, lambda epoch: 0.9**epoch]
    return torch.optim.lr_scheduler.LambdaLR(optimizer, decays)


CORRECT = {
    "plain": Plan(),
    "three epochs": Plan(epochs=3),
    "dropout": Plan(model=mlp_with_dropout),
    "functional dropout": Plan(model=FunctionalDropout),
    "batch norm": Plan(model=mlp_with_norm),
    "loader on the global generator": Plan(loader=shared, model=mlp_with_dropout),
    "full last batch": Plan(loader=full),
    "momentum": Plan(optimizer=sgd(momentum=0.9, nesterov=True)),
    "weight decay": Plan(optimizer=adam(weight_decay=0.1, amsgrad=True)),
    "validation": Plan(validation=own),
    "validation, all on the global generator": Plan(validation=shared, loader=shared),
    "validation with dropout": Plan(validation=own, model=mlp_with_dropout),
    "validation with batch norm": Plan(validation=own, model=mlp_with_norm),
    "validation with gradients": Plan(validation=own, model=mlp_with_norm, no_grad=False),
    "no sanity check": Plan(validation=shared, trainer=(("num_sanity_val_steps", 0),)),
    "whole sanity check": Plan(validation=shared, trainer=(("num_sanity_val_steps", -1),)),
    "accumulation": Plan(accumulate=3),
    "accumulation with batches left over": Plan(accumulate=4),
    "clipping by norm": Plan(clip_norm=0.3),
    "clipping by value": Plan(clip_value=0.03),
    "scheduler per step": Plan(scheduler=one_cycle, interval="step"),
    "scheduler per epoch": Plan(scheduler=halving, epochs=3),
    "two groups": Plan(parameters=two_groups, scheduler=by_group),
    "bf16 autocast": Plan(autocast=True),
}


@pytest.mark.parametrize("name", CORRECT)
def test_raw_fabric_and_trainer_agree(name):
    plan = CORRECT[name]
    port = lightning(plan)
    report = compare(raw(plan), port)
    assert report.verdict == "identical", report.explain()
    assert not report.notes, report.explain()
    if not plan.autocast:
        report = compare(raw(plan, fabric=True), port)
        assert report.verdict == "identical", report.explain()


@pytest.mark.parametrize("zero_grad", ["after", "zeros"])
def test_the_place_and_the_way_of_zeroing_do_not_matter(zero_grad):
    compare(raw(Plan(zero_grad=zero_grad)), lightning(Plan())).assert_identical()


def test_validation_in_one_loop_only_with_generators_of_their_own():
    compare(raw(Plan()), lightning(Plan(validation=own))).assert_identical()
    compare(raw(Plan(validation=own)), lightning(Plan())).assert_identical()


def test_dropout_is_random_however_it_is_written():
    assert raw(Plan(model=FunctionalDropout)).random
    assert raw(Plan(model=mlp_with_dropout)).random
    assert not raw(Plan()).random


def test_log_softmax_and_nll_are_cross_entropy():
    plan = Plan(loss=lambda logits, y: F.nll_loss(F.log_softmax(logits, 1), y))
    assert compare(raw(plan), lightning(Plan())).verdict != "different"


def test_another_formula_is_equal_within_rounding():
    def by_hand(logits, y):
        return (logits.exp().sum(1).log() - logits[torch.arange(len(y)), y]).sum() / len(y)

    for first, second in ((by_hand, F.cross_entropy), (F.cross_entropy, by_hand)):
        report = compare(raw(Plan(loss=first)), lightning(Plan(loss=second)))
        assert report.verdict == "equal within rounding", report.explain()
        assert report.diagnosis.name == "rounding"
        assert 0 < report.largest_difference < 1e-4


def with_layer_norm():
    return nn.Sequential(
        nn.Linear(FEATURES, 64), nn.LayerNorm(64), nn.ReLU(), nn.Linear(64, CLASSES)
    )


def convolutional():
    return nn.Sequential(
        nn.Linear(FEATURES, 256),
        nn.Unflatten(1, (1, 16, 16)),
        nn.Conv2d(1, 8, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 14 * 14, CLASSES),
    )


def with_batch_norm():
    """The bias before batch norm has no effect, and a gradient of rounding errors only."""
    layers = list(convolutional())
    return nn.Sequential(*layers[:3], nn.BatchNorm2d(8), *layers[3:])


@pytest.mark.parametrize("model", [with_layer_norm, convolutional, with_batch_norm])
def test_another_number_of_threads_is_rounding(model):
    """Both models sum over the batch in as many parts as there are threads."""
    batches = partial(loader, None, size=256, samples=data(samples=512))
    plan = Plan(model=model, loader=batches)
    one = raw(plan)
    torch.set_num_threads(2)
    two = lightning(plan)
    report = compare(one, two)
    assert report.verdict != "different", report.explain()
    if report.verdict == "equal within rounding":
        assert "1 threads" in report.explain()
        assert "2 threads" in report.explain()


def test_a_harmless_mode_is_noted():
    report = compare(raw(Plan(train=False, validation=own)), lightning(Plan(validation=own)))
    assert report.verdict == "identical"
    assert report.notes == ["The mode differed without any effect."]


class Autoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(FEATURES, 4), nn.ReLU())
        self.decoder = nn.Linear(4, FEATURES)

    def forward(self, x):
        return self.decoder(self.encoder(x))


def train_autoencoder(model, zero_grad=True, factor=1.0):
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    batches = loader()
    for _ in range(2):
        for x, _y in batches:
            if zero_grad:
                optimizer.zero_grad()
            (factor * F.mse_loss(model(x), x)).backward()
            optimizer.step()


class LitAutoencoder(L.LightningModule):
    """The layers inside the module, the parts called one by one, and a metric with a buffer."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(FEATURES, 4), nn.ReLU())
        self.decoder = nn.Linear(4, FEATURES)
        self.loss = nn.CrossEntropyLoss(weight=torch.ones(CLASSES))
        self.accuracy = MulticlassAccuracy(CLASSES)

    def training_step(self, batch, batch_index):
        x, y = batch
        self.accuracy(x[:, :CLASSES].softmax(1), y)
        self.log("accuracy", self.accuracy, on_step=False, on_epoch=True)
        return F.mse_loss(self.decoder(self.encoder(x)), x)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 0.01)


@pytest.fixture
def parts():
    torch.manual_seed(1)
    lit = LitAutoencoder()
    with trace(lit) as port:
        fit(lit, Plan(), train_dataloaders=loader())
    return port


def traced_autoencoder(**faults):
    torch.manual_seed(1)
    model = Autoencoder()
    with trace(model) as record:
        train_autoencoder(model, **faults)
    return record


def test_a_model_called_in_parts_agrees_with_one_called_whole(parts):
    report = compare(traced_autoencoder(), parts)
    assert report.verdict == "identical", report.explain()
    assert not report.notes


def test_calling_a_model_in_parts_hides_no_fault(parts):
    """The parts take another number of forward passes, which explains nothing."""
    report = compare(traced_autoencoder(factor=2.0), parts)
    assert report.diagnosis.name == "gradients a constant factor apart"
    assert "raw loop is 2 times" in report.explain()
    report = compare(traced_autoencoder(zero_grad=False), parts)
    assert (report.first_difference.step, report.diagnosis.name) == (2, "forgotten zero_grad()")


class Pair(nn.Module):
    """A generator and a discriminator."""

    def __init__(self):
        super().__init__()
        self.make, self.judge = nn.Linear(4, FEATURES), nn.Linear(FEATURES, 1)

    def judge_loss(self, x, noise):
        fake = self.make(noise).detach()
        return F.softplus(-self.judge(x)).mean() + F.softplus(self.judge(fake)).mean()

    def make_loss(self, noise):
        return F.softplus(-self.judge(self.make(noise))).mean()


def optimizers(pair):
    return [torch.optim.Adam(part.parameters(), 0.01) for part in (pair.make, pair.judge)]


class LitPair(L.LightningModule):
    def __init__(self, pair):
        super().__init__()
        self.pair, self.automatic_optimization = pair, False

    def training_step(self, batch, batch_index):
        x, _ = batch
        noise = torch.randn(len(x), 4)
        make, judge = self.optimizers()
        judge.zero_grad()
        self.manual_backward(self.pair.judge_loss(x, noise))
        judge.step()
        make.zero_grad()
        self.manual_backward(self.pair.make_loss(noise))
        make.step()

    def configure_optimizers(self):
        return optimizers(self.pair)


def train_pair(pair, zero_grad=True):
    make, judge = optimizers(pair)
    batches = loader()
    for _ in range(2):
        for x, _y in batches:
            noise = torch.randn(len(x), 4)
            for optimizer, loss in (
                (judge, lambda x=x, z=noise: pair.judge_loss(x, z)),
                (make, lambda z=noise: pair.make_loss(z)),
            ):
                if zero_grad:
                    optimizer.zero_grad()
                loss().backward()
                optimizer.step()


def test_two_optimizers_by_hand():
    torch.manual_seed(2)
    pair = Pair()
    with trace(pair) as first:
        train_pair(pair)
    torch.manual_seed(2)
    lit = LitPair(Pair())
    with trace(lit.pair) as second:
        fit(lit, Plan(), train_dataloaders=loader())
    assert {step.optimizer for step in first.steps} == {0, 1}
    compare(first, second).assert_identical()

    torch.manual_seed(2)
    pair = Pair()
    with trace(pair) as faulty:
        train_pair(pair, zero_grad=False)
    report = compare(faulty, second)
    assert report.verdict == "different"
    assert (report.first_difference.step, report.first_difference.what) == (3, "gradient")


def test_several_forward_passes_a_step():
    class Twice(Lit):
        def training_step(self, batch, batch_index):
            x, y = batch
            return F.cross_entropy(self.model(x), y) + F.cross_entropy(self.model(-x), y)

    plan = Plan(model=mlp_with_dropout)
    torch.manual_seed(1)
    model = mlp_with_dropout()
    with trace(model) as first:
        optimizer, batches = plan.optimizer(model.parameters()), loader()
        for _ in range(2):
            for x, y in batches:
                optimizer.zero_grad()
                (F.cross_entropy(model(x), y) + F.cross_entropy(model(-x), y)).backward()
                optimizer.step()
    torch.manual_seed(1)
    lit = Twice(plan, mlp_with_dropout())
    with trace(lit.model) as second:
        fit(lit, plan)
    assert len(first.steps[0].calls) == 2
    compare(first, second).assert_identical()


def test_metrics_in_the_module():
    class Measured(Lit):
        def __init__(self, plan, model):
            super().__init__(plan, model)
            self.accuracy = MulticlassAccuracy(CLASSES)

        def validation_step(self, batch, batch_index):
            x, y = batch
            self.accuracy(self.model(x), y)
            self.log("accuracy", self.accuracy)

    plan = Plan(validation=own, model=mlp_with_norm)
    torch.manual_seed(1)
    lit = Measured(plan, mlp_with_norm())
    with trace(lit) as whole:
        fit(lit, plan)
    compare(raw(plan), whole).assert_identical()


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_sparse_gradients_and_lazy_layers():
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.last = nn.Embedding(5, 4, sparse=True), nn.LazyLinear(CLASSES)

        def forward(self, x):
            return self.last(self.words((x > 0).long()).flatten(1))

    def prepared():
        model = Words()
        model(torch.zeros(1, FEATURES))
        return model

    plan = Plan(model=prepared, optimizer=sgd())
    compare(raw(plan), lightning(plan)).assert_identical()
    plan = Plan(model=lambda: nn.Sequential(nn.LazyLinear(CLASSES)), optimizer=sgd(), epochs=1)
    assert len(raw(plan).steps) == EPOCH


def test_a_second_training_with_the_same_optimizer_inside_one_block():
    def twice():
        torch.manual_seed(1)
        model, batches = mlp(), loader()
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        with trace(model) as record:
            for _ in range(2):
                for x, y in batches:
                    optimizer.zero_grad()
                    F.cross_entropy(model(x), y).backward()
                    optimizer.step()
        return record

    compare(twice(), raw(replace(Plan(), epochs=2))).assert_identical()


def test_double_precision():
    plan = Plan(model=lambda: mlp().double(), prepare=torch.Tensor.double)
    compare(raw(plan), lightning(plan)).assert_identical()


def test_both_runs_diverging_alike_are_identical():
    plan = Plan(optimizer=sgd(1e20))
    record = raw(plan)
    assert record.losses[-1] != record.losses[-1]
    compare(record, lightning(plan)).assert_identical()
