"""What an explanation says follows from what was recorded: faults that look like others."""

import logging
import random
from dataclasses import replace

import torch
from parity_loops import CLASSES, EPOCH, FEATURES, Plan, lightning, mlp_with_dropout, raw
from threads import said
from torch import nn

from course_utils.parity import compare

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


def explained(plan, **changes):
    """Return the report on a raw loop, and a port with these changes."""
    return compare(raw(plan), lightning(replace(plan, **changes)))


def draw(model, epoch):
    """Draw from a generator that no test here seeds, and no model draws from."""
    random.random()


# Random numbers


def leaky(slope=0.01):
    return nn.Sequential(
        nn.Linear(FEATURES, 16), nn.LeakyReLU(slope), nn.Dropout(0.3), nn.Linear(16, CLASSES)
    )


def test_a_generator_that_the_model_does_not_draw_from_is_not_blamed():
    report = explained(Plan(model=leaky), model=lambda: leaky(0.2), start_epoch=draw)
    assert said(report) == "forward output @1: other forward pass"
    assert "1 is LeakyReLU(negative_slope=0.01)" in report.explain().replace("\n    ", " ")


def test_a_layer_that_never_draws_is_not_blamed_on_chance():
    def draws(model, epoch):
        torch.rand(())

    report = explained(Plan(model=leaky), model=lambda: leaky(0.2), start_epoch=draws)
    assert said(report) == "forward output @1: other forward pass"


def test_the_moment_is_when_the_blamed_generator_parts():
    def peek(model, epoch):
        torch.rand(())

    # Python's generator is in another state all along.
    report = explained(Plan(model=mlp_with_dropout), start_epoch=draw, end_epoch=peek)
    assert said(report) == f"forward output @{EPOCH + 1}: other random numbers in the model"
    text = " ".join(report.explain().split())
    assert "torch's generator is in another state" in text and "Python" not in text
    assert f"The states part by step {EPOCH + 1}." in text


# Learning rates


def warmup(first):
    return lambda optimizer: torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + first) / 16)
    )


def test_a_schedule_that_begins_otherwise_is_no_other_argument_of_the_optimizer():
    report = explained(Plan(scheduler=warmup(1)), scheduler=warmup(2.5))
    assert said(report) == "learning rate @1: other learning rate"
    assert "The optimizers were given different learning rates." not in report.diagnosis.cause
