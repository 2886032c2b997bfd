"""A run against itself, interrupted and resumed: each state left out is named."""

import copy
import logging
import random
from functools import cache

import lightning as L
import pytest
import torch
from parity_loops import EPOCH, FEATURES, TRAINER, data
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from course_utils.parity import Trace, compare_resumed, trace

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

EPOCHS, HALF = 4, 2


def network():
    return nn.Sequential(
        nn.Linear(FEATURES, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3)
    )


class Noisy(TensorDataset):
    """Samples that are augmented by Python's random numbers."""

    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        return x + 0.1 * random.random(), y


class Loop:
    """A loop that can save everything, and load all but what is to be left out."""

    def __init__(
        self, leave=(), momentum=None, own=False, noisy=False, per="step", scale=None, factor=1
    ):
        torch.manual_seed(1)
        random.seed(1)
        self.leave, self.per, self.own, self.factor = leave, per, own, factor
        self.model = network()
        kind = torch.optim.Adam if momentum is None else torch.optim.SGD
        settings = {} if momentum is None else {"momentum": momentum}
        self.optimizer = kind(self.model.parameters(), lr=0.01, **settings)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 5, 0.9)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=scale) if scale else None
        self.generator = torch.Generator().manual_seed(5) if own else None
        self.data = (Noisy if noisy else TensorDataset)(*data())
        self.loader = DataLoader(self.data, 8, shuffle=True, generator=self.generator)
        self.done = 0  # batches of the present epoch
        self.epoch = 0
        self.order = None

    def save(self):
        parts = {name: getattr(self, name) for name in ("model", "optimizer", "scheduler")}
        state = {name: copy.deepcopy(part.state_dict()) for name, part in parts.items()}
        if self.scaler:
            state["scaler"] = copy.deepcopy(self.scaler.state_dict())
        own = self.generator.get_state() if self.own else None
        python, numbers = random.getstate(), torch.get_rng_state()
        return state | {"python": python, "torch": numbers, "own": own, "epoch": self.epoch}

    def load(self, state):
        state = copy.deepcopy(state)  # an optimizer goes on with the very tensors it is given
        self.epoch = state["epoch"]
        if "buffers" in self.leave:
            self.model.load_state_dict(
                {n: state["model"][n] for n, _ in self.model.named_parameters()}, strict=False
            )
        elif "model" not in self.leave:
            self.model.load_state_dict(state["model"])
        for name in {"optimizer", "scheduler", "scaler"} - set(self.leave):
            if name in state:
                getattr(self, name).load_state_dict(state[name])
        if "python" not in self.leave:
            random.setstate(state["python"])
        if "torch" not in self.leave:
            torch.set_rng_state(state["torch"])
        if self.own and "own" not in self.leave:
            self.generator.set_state(state["own"])

    def train(self, epochs, steps=None):
        while self.epoch < epochs:
            for x, y in self.loader:
                self.step(x, y)
            if self.per == "epoch":
                self.scheduler.step()
            self.epoch += 1

    def step(self, x, y):
        self.optimizer.zero_grad()
        loss = self.factor * F.cross_entropy(self.model(x), y)
        if self.scaler:
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            loss.backward()
            self.optimizer.step()
        if self.per == "step":
            self.scheduler.step()


def traced(loop, epochs=EPOCHS, state=None):
    with trace(loop.model) as record:
        if state is not None:
            loop.load(state)
        loop.train(epochs)
    return record


@cache
def halves(**settings):
    """Return the traces of the whole run and of its first half, and what that saved."""
    whole = traced(Loop(**settings))
    first = Loop(**settings)
    return whole, traced(first, HALF), first.save()


def runs(leave=(), **settings):
    """Return the traces of the whole run, of its first half, and of what was resumed."""
    whole, part, state = halves(**settings)
    return whole, part, traced(Loop(leave, **settings), state=state)


@pytest.mark.parametrize("own", [False, True])
def test_a_run_that_is_resumed_with_everything_is_identical(own):
    report = compare_resumed(*runs(own=own, noisy=True))
    assert report.verdict == "identical", str(report)
    assert ("parts", "12 and 12 steps") in report.facts
    assert report.steps == (4 * EPOCH, 4 * EPOCH)


LEFT_OUT = [
    ("optimizer", {}, "the optimizer's state", "Adam held no state before its first resumed step"),
    ("optimizer", {"momentum": 0.9}, "the optimizer's state", "SGD held no state"),
    ("optimizer", {}, "the optimizer's state", "It is kept in the optimizer's state"),
    ("scheduler", {}, "the scheduler's state", "not from the right place in its course"),
    ("buffers", {}, "the buffers", "those of a new model"),
    ("model", {}, "the last weights", "the weights that the whole run began with"),
    ("torch", {}, "the state of torch's generator", "that of its first epoch again"),
    ("own", {"own": True}, "the state of the loader's own generator", "first epoch again"),
    ("python", {"noisy": True}, "the state of Python's generator", "The loaders chose the same"),
]


@pytest.mark.parametrize(("left", "settings", "name", "says"), LEFT_OUT)
def test_what_was_left_out_is_named(left, settings, name, says):
    report = compare_resumed(*runs({left}, **settings))
    assert report.verdict == "different"
    assert name in report.diagnosis.name, str(report)
    assert says in report.explain().replace("\n    ", " "), str(report)
    others = {n for _, _, n, _ in LEFT_OUT} - {name}
    if left != "model":  # without its weights a model has new buffers as well
        assert not [n for n in others if n in report.diagnosis.name], str(report)
    step = report.first_difference.step
    assert step is None or step > HALF * EPOCH


def test_all_that_is_missing_is_named_at_once():
    report = compare_resumed(*runs({"optimizer", "buffers", "torch"}))
    for name in ("the optimizer's state", "the buffers", "torch's generator"):
        assert name in report.diagnosis.name, str(report)


def test_a_state_without_effect_is_not_named():
    """Plain SGD keeps nothing, and a scheduler that is not stepped any more steers nothing."""
    report = compare_resumed(*runs({"python"}))
    assert report.verdict == "identical", str(report)


def shifted(loop, state):
    """Build the scheduler after loading, and set its counter by hand, as yolov5's issue 292."""
    loop.load(state)
    loop.scheduler = torch.optim.lr_scheduler.LambdaLR(loop.optimizer, lambda step: 0.9**step)
    loop.scheduler.last_epoch = loop.epoch


def test_a_scheduler_built_after_loading():
    def build():
        loop = Loop(per="epoch")
        loop.scheduler = torch.optim.lr_scheduler.LambdaLR(loop.optimizer, lambda step: 0.9**step)
        return loop

    whole, first = traced(build()), build()
    part = traced(first, HALF)
    state, resumed = first.save(), build()
    with trace(resumed.model) as record:
        shifted(resumed, state)
        resumed.train(EPOCHS)
    report = compare_resumed(whole, part, record)
    assert report.diagnosis.name == "resumed without the scheduler's state", str(report)
    assert "begins with its first value, and only later" in report.diagnosis.cause
    assert "building a scheduler sets the learning rate" in report.diagnosis.mend


@pytest.mark.parametrize(("by", "says"), [(-1, "lags one step behind"), (1, "is one step ahead")])
def test_a_scheduler_that_is_a_step_off(by, says):
    """As in Lightning's issue 4655."""

    def build():
        loop = Loop()
        loop.scheduler = torch.optim.lr_scheduler.LambdaLR(loop.optimizer, lambda step: 0.9**step)
        return loop

    whole, first = traced(build()), build()
    part = traced(first, HALF)
    state = first.save()
    state["scheduler"]["last_epoch"] += by
    state["optimizer"]["param_groups"][0]["lr"] *= 0.9**by
    report = compare_resumed(whole, part, traced(build(), state=state))
    assert report.diagnosis.name == "resumed without the scheduler's state", str(report)
    assert says in report.diagnosis.cause


def test_averaged_weights_loaded_as_the_models_own():
    """As in YOLOX's issue 1318 and Latte's 55."""

    def run(loop, epochs, average, state=None):
        with trace({"model": loop.model, "average": average.module}) as record:
            if state:
                loop.load(state)
            while loop.epoch < epochs:
                loop.train(loop.epoch + 1)
                average.update_parameters(loop.model)
        return record

    def averaged(loop):
        decay = torch.optim.swa_utils.get_ema_multi_avg_fn(0.5)
        return torch.optim.swa_utils.AveragedModel(loop.model, multi_avg_fn=decay)

    loop = Loop()
    whole = run(loop, EPOCHS, averaged(loop))
    first = Loop()
    ema = averaged(first)
    part = run(first, HALF, ema)
    state = first.save()
    resumed = Loop()
    good = averaged(resumed)
    good.load_state_dict(ema.state_dict())
    report = compare_resumed(whole, part, run(resumed, EPOCHS, good, state))
    assert report.verdict == "identical", str(report)

    names = [name for name, _ in first.model.named_parameters()]
    state["model"] |= {name: ema.module.state_dict()[name] for name in names}
    resumed = Loop()
    good = averaged(resumed)
    good.load_state_dict(ema.state_dict())
    report = compare_resumed(whole, part, run(resumed, EPOCHS, good, state))
    assert report.diagnosis.name == "resumed without the last weights", str(report)
    assert "Its weights are those of average" in report.diagnosis.cause

    resumed = Loop()  # and the average itself is not brought along
    state["model"] = first.model.state_dict()
    record = run(resumed, EPOCHS, averaged(resumed), state)
    report = compare_resumed(whole, part, record)
    assert report.diagnosis.name == "resumed without the weights of average and the buffers"
    assert "average.0.weight" in report.diagnosis.evidence[0]


def test_a_scaler_that_begins_anew():
    whole, part, resumed = runs(scale=2.0**10, factor=100)
    assert compare_resumed(whole, part, resumed).verdict == "identical"
    state = halves(scale=2.0**10, factor=100)[2]
    again = Loop({"scaler"}, scale=2.0**127, factor=100)  # as large as overflows
    report = compare_resumed(whole, part, traced(again, state=state))
    assert "the gradient scaler's state" in report.diagnosis.name, str(report)
    assert "skipped" in report.explain()
    again = Loop({"scaler"}, scale=2.0**12, factor=100)
    report = compare_resumed(whole, part, traced(again, state=state))
    assert report.verdict == "identical", str(report)
    assert "4 times that of the whole run. It had no effect" in report.notes[0]


class Middle(Loop):
    """Saves within an epoch; the rest of it comes first when resumed, if it is known."""

    def __init__(self, stop=None, skip=True, fixed=True, **settings):
        super().__init__(**settings)
        self.stop, self.skip, self.fixed = stop, skip, fixed

    def train(self, epochs, steps=None):
        while self.epoch < epochs:
            order = torch.Generator().manual_seed(self.epoch)
            loader = DataLoader(self.data, 8, shuffle=True, generator=order)
            for index, (x, y) in enumerate(loader):
                if self.skip and index < self.done:
                    continue
                if (self.epoch, index) == self.stop:
                    self.done = index
                    return
                self.step(x, y)
            self.done = 0
            self.epoch += 1


def test_the_position_within_an_epoch():
    """As in virtex's issue 18 and Lightning's 1182: the epoch begins anew."""
    whole, first = traced(Middle()), Middle(stop=(2, 3))
    part = traced(first)
    state = first.save()
    for done, verdict in ((3, "identical"), (0, "different")):
        resumed = Middle()
        resumed.done = done
        report = compare_resumed(whole, part, traced(resumed, state=state))
        assert report.verdict == verdict
    assert report.diagnosis.name == "resumed without the position in the data", str(report)
    assert f"the batch of step {2 * EPOCH + 1}, where an epoch begins" in report.diagnosis.cause
    assert "batches come twice" in report.diagnosis.cause
    assert report.first_difference.step == 2 * EPOCH + 4
    resumed = Middle()
    resumed.done = 4
    report = compare_resumed(whole, part, traced(resumed, state=state))
    assert "batches are left out" in report.diagnosis.cause


def test_an_older_checkpoint():
    """The first part went on for a while after the checkpoint."""
    whole, first = halves()[0], Loop()
    with trace(first.model) as part:
        first.train(HALF)
        state = first.save()
        first.train(HALF + 1)
    report = compare_resumed(whole, part, traced(Loop(), state=state))
    assert report.verdict == "identical", str(report)
    assert "resumed after step 12, 6 before the end" in report.notes[0]


def test_an_older_checkpoint_of_the_weights_only():
    """As in pytorch-tutorial's issue 130: the weights are those of an earlier step."""
    whole, part, state = halves()
    early = Loop()
    early.train(1)
    state = state | {"model": early.model.state_dict()}
    report = compare_resumed(whole, part, traced(Loop(), state=state))
    assert "the last weights" in report.diagnosis.name, str(report)
    assert "those after step 6, the rest goes on from later" in report.diagnosis.cause


def test_parts_that_were_resumed_twice():
    first = Loop()
    parts, state = [traced(first, 1)], first.save()
    second = Loop()
    parts.append(traced(second, 3, state=state))
    state = second.save()
    parts.append(traced(Loop(), state=state))
    whole = halves()[0]
    assert compare_resumed(whole, *parts).verdict == "identical"
    parts[-1] = traced(Loop({"optimizer"}), state=state)
    report = compare_resumed(whole, *parts)
    assert report.diagnosis.name == "resumed without the optimizer's state"
    assert report.first_difference.step > 3 * EPOCH


def test_a_first_part_that_is_another_run():
    whole, resumed = halves()[:2]
    other = Loop()
    other.optimizer.param_groups[0]["lr"] = 0.02
    report = compare_resumed(whole, traced(other, HALF), resumed)
    assert report.diagnosis.name == "other learning rate"
    assert "before the interruption" in report.notes[-1]


def test_the_number_of_epochs_is_counted_anew():
    whole, part, state = halves()
    longer = traced(Loop(), EPOCHS + HALF, state=state)
    report = compare_resumed(whole, part, longer)
    assert report.diagnosis.name == "resumed without the number of epochs done"


def test_what_cannot_be_compared():
    whole, part, _ = halves()
    with pytest.raises(ValueError, match="It got 1"):
        compare_resumed(whole, part)
    with pytest.raises(TypeError, match="resumed run is a str"):
        compare_resumed(whole, part, "last.ckpt")
    with pytest.raises(ValueError, match="recorded no optimizer step"):
        compare_resumed(whole, part, Trace())


# Lightning


class Lit(L.LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.model = network()
        self.model[3] = nn.Identity()  # the Trainer saves no random states

    def training_step(self, batch, batch_index):
        x, y = batch
        return F.cross_entropy(self.model(x), y)

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=0.01)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        return [optimizer], [scheduler]

    def train_dataloader(self):
        samples = TensorDataset(*data())
        sampler = DistributedSampler(samples, num_replicas=1, rank=0)
        return DataLoader(samples, 8, sampler=sampler)


def lightning(epochs, path=None, weights=None, save=None):
    lit = Lit()
    if weights:
        lit.load_state_dict(torch.load(weights, weights_only=True)["state_dict"])
    trainer = L.Trainer(**TRAINER, max_epochs=epochs)
    with trace(lit.model) as record:
        trainer.fit(lit, ckpt_path=path)
    if save:
        trainer.save_checkpoint(save)
    return record


def test_the_trainer_with_a_checkpoint_and_with_weights_only(tmp_path):
    path = tmp_path / "last.ckpt"
    whole, part = lightning(EPOCHS), lightning(HALF, save=path)
    report = compare_resumed(whole, part, lightning(EPOCHS, path=path))
    assert report.verdict == "identical", str(report)
    report = compare_resumed(whole, part, lightning(HALF, weights=path))
    assert report.diagnosis.name == (
        "resumed without the optimizer's state and the sampler's epoch"
    ), str(report)
    assert "Its first batches are those that the whole run began with" in report.explain()
