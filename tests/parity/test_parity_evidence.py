"""What an explanation says follows from what was recorded: faults that look like others."""

import logging
import random
from dataclasses import replace

import torch
from parity_loops import (
    BATCH,
    CLASSES,
    EPOCH,
    FEATURES,
    Lit,
    Plan,
    adam,
    data,
    lightning,
    mlp,
    mlp_with_dropout,
    raw,
    sgd,
)
from threads import said
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from course_utils.parity import compare, trace

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


# Loaders, and passes


def even(**settings):
    return DataLoader(TensorDataset(*data(samples=24)), BATCH, shuffle=True, **settings)


def one_batch():
    return DataLoader(TensorDataset(*data(samples=BATCH)), BATCH)


def draws(model, epoch):
    torch.rand(())


def test_a_pass_of_the_trainer_that_is_not_asked_for_its_end_is_no_look_at_a_batch():
    plan = Plan(loader=even, validation=one_batch, epochs=3, end_epoch=draws)
    report = explained(plan, end_epoch=lambda model, epoch: None)
    assert said(report) == "batch @4: extra random draw"
    assert "leaves it early" not in report.diagnosis.cause


def test_a_loader_that_only_the_port_needs_draws():
    def by_hand():
        torch.manual_seed(1)
        model = mlp_with_dropout()
        with trace(model) as record:
            optimizer = torch.optim.Adam(model.parameters(), 0.01)
            for _ in range(2):
                x, y = torch.randn(BATCH, FEATURES), torch.zeros(BATCH, dtype=torch.long)
                optimizer.zero_grad()
                F.cross_entropy(model(x), y).backward()
                optimizer.step()
        return record

    class Draws(Lit):
        def training_step(self, batch, batch_index):
            x, y = torch.randn(BATCH, FEATURES), torch.zeros(BATCH, dtype=torch.long)
            return F.cross_entropy(self.model(x), y)

    port = lightning(Plan(model=mlp_with_dropout, loader=one_batch, module=Draws))
    report = compare(by_hand(), port)
    assert said(report) == "batch @1: extra random draw"
    assert "Lightning begins more passes over loaders" in report.diagnosis.cause


def played(model, batch, place):
    """An episode whose length, and whose inputs, follow from what the model answers."""
    x, losses = batch[0][:1], []
    for _ in range(9):
        output = model(x)
        losses.append(output.square().mean())
        if output.sum() > 0.2:
            break
        x = torch.cat([output, output], 1).detach()
    return torch.stack(losses).mean()


def test_a_mode_is_not_hidden_by_the_inputs_that_follow_from_it():
    plan = Plan(model=mlp_with_dropout, objective=played, optimizer=adam(0.001))
    report = explained(plan, start_epoch=lambda model, epoch: model.eval())
    assert said(report) == "mode @1: forgotten train()"


def test_another_number_of_passes_is_no_accumulation_where_random_numbers_part_first():
    plan = Plan(model=mlp_with_dropout, objective=played, optimizer=adam(0.001))
    report = explained(plan, start_epoch=draws)
    assert said(report) == "forward output @1: other random numbers in the model"


def test_validation_in_training_mode_speaks_of_what_the_model_has():
    plan = Plan(model=mlp_with_dropout, validation=one_batch)
    report = explained(plan, eval=False)
    assert said(report) == f"forward output @{EPOCH + 1}: forgotten eval()"
    assert "batch norm" not in report.diagnosis.cause


# Groups, clipping, factors


def split(model):
    first, last = model[0].parameters(), model[2].parameters()
    return [{"params": first, "weight_decay": 0.1}, {"params": last, "weight_decay": 0.1}]


def test_one_group_instead_of_two_with_the_same_rate_is_no_other_rate():
    report = explained(Plan(parameters=split), parameters=lambda model: model.parameters())
    assert said(report) == "optimizer @1: other optimizer settings"
    assert "2 parameter groups" in report.explain()


def test_two_groups_with_other_rates_are():
    def faster(model):
        return [{**group, "lr": rate} for group, rate in zip(split(model), (1, 2), strict=True)]

    report = explained(Plan(parameters=faster), parameters=lambda model: model.parameters())
    assert said(report) == "learning rate @1: other learning rate"


def test_the_order_in_which_a_norm_is_added_up_is_a_reason_for_rounding():
    def backwards(model):
        return [{"params": layer.parameters()} for layer in (model[2], model[0])]

    plan = Plan(model=mlp, parameters=backwards, clip_norm=0.01, epochs=1)
    report = explained(plan)
    assert report.verdict in ("identical", "equal within rounding")
    if report.verdict != "identical":
        assert "in another order" in report.diagnosis.cause


def test_a_factor_is_seen_behind_clipping():
    plan = Plan(loader=even, accumulate=3, clip_norm=0.5, optimizer=sgd())
    report = compare(raw(replace(plan, divide=False)), lightning(plan))
    assert said(report) == "gradient @1: gradients a constant factor apart"
    assert "3 batches make one step" in report.diagnosis.cause
    assert "limit 0.5" in report.explain()
