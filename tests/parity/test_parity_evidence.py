"""What an explanation says follows from what was recorded: faults that look like others."""

import logging
import random
from dataclasses import replace
from functools import partial

import pytest
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
    loader,
    mlp,
    mlp_with_dropout,
    raw,
    sgd,
)
from threads import Manual, said
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import ExponentialLR, StepLR
from torch.utils.data import DataLoader, TensorDataset

from course_utils.parity import compare, trace
from course_utils.parity.diagnose.finding import told_apart

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


# Steps and schedulers


class StepsTwice(Manual):
    def training_step(self, batch, batch_index):
        super().training_step(batch, batch_index)
        self.optimizers().step()


class GoesBackTwice(Manual):
    def training_step(self, batch, batch_index):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        loss = self.loss_of(batch, batch_index)
        self.manual_backward(loss, retain_graph=True)
        self.manual_backward(loss)
        optimizer.step()


class StepsItsSchedulerToo(Lit):
    def on_train_batch_end(self, *_):
        self.scheduler.step()


class EverySecond(Lit):
    def configure_optimizers(self):
        found = super().configure_optimizers()
        found["lr_scheduler"]["frequency"] = 2
        return found


def test_a_step_without_a_new_gradient_is_no_other_batch():
    report = explained(Plan(), module=StepsTwice)
    assert said(report) == "batch @2: a step without a backward pass"
    assert "Lightning makes this optimizer step with the gradient" in report.diagnosis.cause


def test_two_backward_passes_are_no_multiplied_loss():
    report = explained(Plan(), module=GoesBackTwice)
    assert said(report) == "gradient @1: gradients a constant factor apart"
    assert "Lightning calls `backward()` more often" in report.diagnosis.cause


@pytest.mark.parametrize(
    ("module", "words"),
    [(StepsItsSchedulerToo, "2 times a step"), (EverySecond, "every 2 steps")],
)
def test_the_rhythm_of_a_scheduler_is_said_as_it_was_counted(module, words):
    plan = Plan(scheduler=lambda o: ExponentialLR(o, 0.9), interval="step")
    report = explained(plan, module=module)
    assert said(report) == "learning rate @2: scheduler in another rhythm"
    assert f"raw loop steps its scheduler once a step, Lightning {words}." in report.diagnosis.cause


def test_only_settings_that_count_steps_bring_up_their_unit():
    plan = Plan(scheduler=lambda o: StepLR(o, 1, 0.5), epochs=3)
    report = explained(plan, scheduler=lambda o: StepLR(o, 1, 0.1))
    assert "gamma = 0.1" in report.explain() and "T_max" not in report.explain()
    report = explained(plan, scheduler=lambda o: StepLR(o, 2, 0.5))
    assert "step_size = 2" in report.explain() and "T_max" in report.explain()


# Data


def slices():
    """Return a loader of batches that are views of its data."""
    x, y = data()
    return DataLoader([(x[i : i + 8], y[i : i + 8]) for i in range(0, 44, 8)], batch_size=None)


def spoils(model, batch, place):
    loss = F.cross_entropy(model(1.0 * batch[0]), batch[1])
    batch[0].mul_(0.99)
    return loss


def test_data_changed_in_place_are_no_repeated_order():
    report = explained(Plan(loader=slices), objective=spoils)
    assert said(report) == f"batch @{EPOCH + 1}: other batches"
    assert "changes a batch in place" in report.diagnosis.cause


def test_an_epoch_that_ends_earlier():
    report = explained(Plan(), trainer=(("limit_train_batches", 4),))
    assert said(report) == "batch @5: an epoch ends earlier in one run"
    assert "Lightning begins its next pass over the data at this step" in report.diagnosis.cause


def test_the_sanity_check_is_no_look_at_a_batch():
    plain = partial(loader, None, shuffle=False)
    plan = Plan(loader=partial(loader, None), validation=plain)
    report = explained(plan, validation=partial(loader, None))
    assert said(report) == f"batch @{EPOCH + 1}: validation draws"
    assert "a shuffled validation loader" in " ".join(report.explain().split())


def test_a_validation_more_is_a_pass_more():
    plan = Plan(loader=partial(loader, None), validation=partial(loader, None, shuffle=False))
    report = explained(plan, trainer=(("val_check_interval", 3), ("num_sanity_val_steps", 0)))
    assert said(report) == f"batch @{EPOCH + 1}: extra random draw"
    assert "Lightning begins more passes over loaders" in report.diagnosis.cause


LATE = 130  # a step that is kept as fingerprints only


def long_run(fault=0.0, at=LATE, loss=F.cross_entropy):
    """Train for 160 steps; in one of them the loss is another one."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    drawn = torch.Generator().manual_seed(1)
    with trace(model) as record:
        for step in range(160):
            x, y = torch.randn(8, 6, generator=drawn), torch.randint(3, (8,), generator=drawn)
            optimizer.zero_grad()
            logits = model(x)
            value = loss(logits, y)
            if step == at and fault:
                value = value + fault * logits.square().mean()
            value.backward()
            optimizer.step()
    return record


def of_logits(logits, y):
    """Cross-entropy with other rounding."""
    return (logits.exp().sum(1).log() - logits[torch.arange(len(y)), y]).mean()


@pytest.mark.parametrize("fault", [0.05, 1e-3])
def test_a_late_fault_is_never_called_rounding(fault):
    record = long_run()
    assert record.steps[LATE].evidence is None  # or this test would show nothing
    report = compare(record, long_run(fault))
    assert (report.verdict, report.first_difference.step) == ("different", LATE + 1)
    assert report.diagnosis.name == "other loss or gradient"
    assert "only fingerprints were kept" in " ".join(report.explain().split())


def test_a_late_fault_is_found_behind_rounding():
    assert compare(long_run(), long_run(loss=of_logits)).verdict == "equal within rounding"
    report = compare(long_run(), long_run(0.05, loss=of_logits))
    assert (report.verdict, report.first_difference.step) == ("different", LATE + 1)


@pytest.mark.parametrize(
    ("rates", "shown"),
    [
        (((0.1,), (0.2,)), ("0.1", "0.2")),
        (((0.1, 0.003), (0.1, 0.0030000001)), ("0.1, 0.003", "0.1, 0.0030000001")),
        (((0.3,), (0.1 * 3,)), ("0.29999999999999999", "0.30000000000000004")),
        (((None,), (0.1,)), ("None", "0.1")),
    ],
)
def test_learning_rates_that_differ_do_not_look_equal(rates, shown):
    assert told_apart(*rates) == shown


@pytest.mark.parametrize(
    ("factor", "named"),
    [(1.01, False), (2.0, True)],
)
def test_a_factor_near_one_may_be_rounding_that_grew(factor, named):
    """Runs that were apart before, by rounding, may be so by 1% later; not by a factor of two."""
    steps = iter(range(10**6))

    def weighed(logits, y):
        return F.cross_entropy(logits, y) * (1 + 1e-7 if next(steps) < 6 else factor)

    report = compare(raw(Plan()), raw(Plan(loss=weighed)))
    assert (report.diagnosis.name == "gradients a constant factor apart") == named, str(report)
