"""Two functions that train, compared; and runs that are not equal to themselves."""

import logging
import os
import random
from dataclasses import replace
from math import isnan

import numpy as np
import pytest
import torch
from parity_loops import (
    EPOCH,
    FEATURES,
    Plan,
    _loop,
    adam,
    loader,
    mlp,
    mlp_with_dropout,
    mlp_with_norm,
    raw,
    sgd,
)
from torch import nn
from torch.nn import functional as F

from course_utils.parity import compare, diagnose, trace
from course_utils.parity.rerun import Run
from course_utils.parity.watch import WATCHERS

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

LONG = 25  # epochs: more steps than are kept with evidence


class Small(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(FEATURES, 8), nn.ReLU(), nn.Linear(8, 3))


def run(change=None, **plan):
    """Return a function that trains, and seeds torch only."""
    return lambda: raw(replace(Plan(**plan), **(change or {})))


def counted(function, counts):
    def counting():
        counts.append(1)
        return function()

    return counting


def test_equal_runs_are_made_once():
    counts = []
    report = diagnose(counted(run(), counts), counted(run(), counts))
    assert (report.verdict, len(counts)) == ("identical", 2)
    assert not WATCHERS


def test_different_runs_are_made_twice_and_equal_to_themselves():
    counts = []
    report = diagnose(counted(run(), counts), counted(run(zero_grad="never"), counts))
    assert report.diagnosis.name == "forgotten zero_grad()"
    assert report.first_difference.step == 2
    assert "Each run was made twice, and is equal to itself." in report.notes
    assert len(counts) == 4
    counts.clear()
    report = diagnose(counted(run(), counts), counted(run(zero_grad="never"), counts), twice=False)
    assert (report.diagnosis.name, len(counts)) == ("forgotten zero_grad()", 2)


def plain(kind=Small, seed=1, factor=1.0):
    torch.manual_seed(seed)
    model = kind()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, y in loader():
        optimizer.zero_grad()
        (factor * F.cross_entropy(model(x), y)).backward()
        optimizer.step()


def test_the_model_is_named_by_its_class_or_its_name():
    for model in (Small, "Small", (Small, "test_parity_rerun.Small")):
        assert diagnose(plain, plain, model=model).verdict == "identical"
    report = diagnose(plain, lambda: plain(factor=2.0), model=Small)
    assert report.diagnosis.name == "gradients a constant factor apart"
    with pytest.raises(ValueError, match="No Smal with weights was built. Is it Small"):
        diagnose(plain, plain, model="Smal")


def test_a_trace_inside_need_not_be_returned():
    def without():
        torch.manual_seed(1)
        model = mlp()
        with trace(model):
            _loop(Plan(), model, None)

    assert diagnose(without, run()).verdict == "identical"


def test_functions_that_say_nothing_of_a_trace():
    with pytest.raises(ValueError, match="raw loop made no trace. Say which network to watch"):
        diagnose(plain, plain)
    with pytest.raises(ValueError, match="port made 2 traces"):
        diagnose(run(), lambda: list(map(raw, [Plan(), Plan()])), names=("raw", "port"))
    with pytest.raises(TypeError, match="Lightning is a Trace"):
        diagnose(run(), run()())
    with pytest.raises(TypeError, match="raw loop is a Small"):
        diagnose(Small(), run())
    assert not WATCHERS


def late(model_step, factor=1.5):
    """Return a loss that is another one from a late step on, and nothing else tells of it."""
    calls = iter(range(10**6))

    def loss(logits, y):
        return F.cross_entropy(logits, y) * (factor if next(calls) >= model_step else 1)

    return loss


def test_a_late_difference_is_looked_at_in_detail():
    step = LONG * EPOCH - 10

    def faulty():
        return raw(Plan(epochs=LONG, loss=late(step)))

    light = compare(run(epochs=LONG)(), faulty())
    assert light.diagnosis is None or "constant factor" not in light.diagnosis.name
    report = diagnose(run(epochs=LONG), faulty, twice=False)
    assert report.first_difference.step == step + 1
    assert report.diagnosis.name == "gradients a constant factor apart", str(report)
    assert "1.5 times" in report.explain()


# Runs that are not equal to themselves


def noisy(draw, part="prepare"):
    def function():
        torch.manual_seed(1)
        model = mlp()
        plan = {
            "prepare": {"prepare": lambda x: x + draw()},
            "loss": {"loss": lambda z, y: F.cross_entropy(z, y) * (1 + draw())},
        }[part]
        with trace(model):
            _loop(Plan(**plan), model, None)

    return function


def unseeded():
    model = mlp()
    with trace(model):
        _loop(Plan(), model, None)


def unseeded_dropout():
    torch.manual_seed(1)
    model = mlp_with_dropout()
    torch.seed()
    with trace(model):
        _loop(Plan(), model, None)


def of_the_system():
    return os.urandom(1)[0] / 256


UNEQUAL = [
    (unseeded, "torch's generator", "initial weights"),
    (unseeded_dropout, "torch's generator", "forward output"),
    (noisy(random.random), "Python's generator", "batch"),
    (noisy(np.random.random), "NumPy's generator", "batch"),
    (noisy(random.random, "loss"), "Python's generator", "gradient"),
    (noisy(of_the_system, "loss"), "a random source that is not seen", "gradient"),
]


@pytest.mark.parametrize(("function", "source", "aspect"), UNEQUAL)
def test_a_run_that_is_not_repeatable_is_diagnosed_first(function, source, aspect):
    report = diagnose(run(), function, names=("good", "other"))
    assert report.names == ("other", "other, run again"), str(report)
    assert report.diagnosis.name == f"not repeatable: {source}", str(report)
    assert report.first_difference.what == aspect
    assert "good and other were not compared" in report.notes[-1]


def test_a_model_that_is_built_outside():
    model, own = mlp(), loader()

    def same_model():
        with trace(model):
            _loop(Plan(), model, None)

    report = diagnose(same_model, run())
    assert report.diagnosis.name == "not repeatable: it trains the same model again"
    list(own)
    report = diagnose(run(change={"loader": lambda: own}), run())
    assert report.diagnosis.name == "not repeatable: a loader's generator goes on", str(report)


class Unset(nn.Module):
    """A layer whose operation has no deterministic form, and that is not repeatable."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(FEATURES, 8), nn.Linear(8, 3)

    def forward(self, x):
        hidden = self.first(x)
        noise = torch.zeros_like(hidden).put_(torch.tensor([0]), torch.tensor([of_the_system()]))
        return self.last(hidden + noise)


def test_operations_without_a_deterministic_form_are_named():
    report = diagnose(run(model=Unset), run(model=Unset))
    assert report.diagnosis.name == "not repeatable: an operation without a deterministic form"
    assert "put_" in report.explain()
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_difference_before_the_one_with_itself_counts_first():
    report = diagnose(noisy_from(8), run(zero_grad="never"))
    assert report.names == ("raw loop", "Lightning")
    assert report.diagnosis.name == "forgotten zero_grad()"
    assert "raw loop is not equal to itself, from a later step on" in report.notes[-1]


def noisy_from(step):
    def function():
        calls = iter(range(10**6))
        torch.manual_seed(1)
        model = mlp()

        def loss(logits, y):
            noise = of_the_system() if next(calls) >= step else 0
            return F.cross_entropy(logits, y) * (1 + noise)

        with trace(model):
            _loop(Plan(loss=loss), model, None)

    return function


# How far rounding carries


def formula(logits, y):
    return (logits.exp().sum(1).log() - logits[torch.arange(len(y)), y]).mean()


def penalised(weight):
    return lambda logits, y: F.cross_entropy(logits, y) + weight * logits.square().sum()


@pytest.mark.parametrize("model", [mlp, mlp_with_norm])
@pytest.mark.parametrize("optimizer", [sgd(), adam()])
def test_another_formula_carries_no_further_than_rounding(model, optimizer):
    plan = {"model": model, "optimizer": optimizer, "epochs": 5}
    report = diagnose(run(**plan), run(**plan, loss=formula))
    assert report.verdict == "equal within rounding", str(report)
    assert any("one unit in the last place off" in line for line in report.diagnosis.evidence)


@pytest.mark.parametrize(
    ("model", "optimizer", "epochs"),
    [(mlp, adam(), 5), (mlp_with_norm, adam(), 5), (mlp, sgd(), 12)],
)
def test_a_penalty_as_small_as_rounding_is_found(model, optimizer, epochs):
    plan = {"model": model, "optimizer": optimizer, "epochs": epochs}
    faulty = run(**plan, loss=penalised(2e-7))
    assert compare(run(**plan)(), faulty()).verdict == "equal within rounding"
    report = diagnose(run(**plan), faulty)
    assert report.verdict == "different", str(report)
    assert report.diagnosis.name == "more than rounding"


def test_a_nudge_changes_every_weight_in_its_last_place():
    once, nudged = Run(run(), "a")(), Run(run(), "a")(nudged=0.0)
    for one, other in zip(
        once.start.parameters.values(), nudged.start.parameters.values(), strict=True
    ):
        assert not (one == other).any()
        assert torch.allclose(one, other, rtol=3e-7, atol=0)


def squared(logits, y):
    return F.cross_entropy(logits.square(), y)


def squared_by_hand(logits, y):
    return formula(logits.square(), y)


def test_where_a_run_ends_in_nan_nothing_is_called_rounding():
    plan = {"optimizer": sgd(3.0), "epochs": 8}
    report = diagnose(run(**plan, loss=squared), run(**plan, loss=squared_by_hand))
    assert isnan(report.largest_difference)
    assert report.verdict == "different", str(report)
