"""Timing loops, and the table that training fills."""

import logging
from functools import partial

import lightning as L
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from course_utils.views.cost import Costs, cost, in_turn
from course_utils.views.progress import CourseProgress, EpochTable

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


def loader(batches=3):
    return DataLoader(TensorDataset(torch.rand(4 * batches, 2)), batch_size=4)


def train(batches, every=1):
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for index, (x,) in enumerate(batches):
        model(x).sum().backward()
        if index % every == 0:
            optimizer.step()
    print("noise that nobody should see")


class Lit(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def training_step(self, batch, batch_idx):
        loss = self.layer(batch[0]).sum()
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.layer(batch[0]).sum())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(**options):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    return L.Trainer(accelerator="cpu", **quiet, **options)


def test_every_loop_gets_the_same_number_of_batches(capsys):
    costs = cost({"one": train, "other": train}, loader(), steps=7, rounds=2)
    assert set(costs.ratios) == {"one", "other"} and costs.ratios["one"] == 1
    assert all(len(times) == 2 for times in costs.seconds.values())
    assert "noise" not in capsys.readouterr().out


def test_a_loop_with_another_number_of_steps_is_refused():
    with pytest.raises(ValueError, match="'half' took 3 optimizer steps on 6 batches"):
        cost({"all": train, "half": lambda b: train(b, every=2)}, loader(), steps=6, rounds=1)


@pytest.mark.parametrize("options", [{"steps": 0}, {"rounds": 0}])
def test_nothing_to_time_is_refused(options):
    with pytest.raises(ValueError, match="at least one"):
        cost({"one": train}, loader(), **options)
    with pytest.raises(ValueError, match="without batches"):
        cost({"one": train}, [], steps=2)


def test_ratios_are_medians_of_the_rounds():
    costs = Costs({"raw": [1.0, 2.0, 4.0], "port": [2.0, 6.0, 8.0]}, steps=1000)
    assert costs.ratios == {"raw": 1.0, "port": 2.0}
    assert costs.milliseconds == {"raw": 2.0, "port": 6.0}
    assert "2.00" in str(costs) and "<td>2.00</td>" in costs._repr_html_()
    assert costs.plot().axes[0].get_xlabel()


def test_in_turn_interleaves():
    order = []
    in_turn({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, steps=1, rounds=2)
    assert order == ["a", "b", "a", "b"]


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_a_gpu_is_waited_for_before_and_after_each_run(monkeypatch, kind):
    order = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: kind == "cuda")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: kind == "mps")
    for other in ("cuda", "mps"):
        wait = partial(order.append, f"wait for {other}")
        monkeypatch.setattr(getattr(torch, other), "synchronize", wait)
    in_turn({"a": lambda: order.append("run")}, steps=1, rounds=1)
    assert order == [f"wait for {kind}", "run", f"wait for {kind}"]


def test_a_gpu_that_nobody_uses_is_not_started(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: pytest.fail("it was started"))
    in_turn({"a": lambda: None}, steps=1, rounds=1)


@pytest.mark.parametrize("warn_only", [False, True])
def test_the_clock_runs_without_deterministic_algorithms(warn_only):
    seen = []

    def loop(batches):
        seen.append(torch.are_deterministic_algorithms_enabled())
        train(batches)

    torch.use_deterministic_algorithms(True, warn_only=warn_only)
    try:
        cost({"a": loop}, loader(), steps=1, rounds=1)
        with pytest.raises(ZeroDivisionError):
            in_turn({"fails": lambda: 1 / 0}, steps=1)
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled() == warn_only
    finally:
        torch.use_deterministic_algorithms(False)
    assert seen == [False, False]  # the warm-up, and the round


def test_a_trainer_fills_a_row_an_epoch(capsys):
    bar = CourseProgress()
    trainer(max_epochs=2, callbacks=[bar]).fit(Lit(), loader(), loader())
    rows = bar.table.rows
    assert [row["epoch"] for row in rows] == [1, 2]
    expected = ["epoch", "train_loss", "val_loss", "seconds"]
    assert list(rows[0]) == expected
    printed = capsys.readouterr().out
    assert printed.count("val_loss") == 1 and len(printed.strip().splitlines()) == 3


def test_the_bar_can_show_only_what_asked_for_it():
    class Asking(Lit):
        def validation_step(self, batch, batch_idx):
            self.log("val_loss", self.layer(batch[0]).sum(), prog_bar=True)

    bar = CourseProgress(only_prog_bar=True)
    trainer(max_epochs=1, callbacks=[bar]).fit(Asking(), loader(), loader())
    assert list(bar.table.rows[0]) == ["epoch", "val_loss", "seconds"]


def test_a_second_fit_starts_a_new_table():
    bar, lit = CourseProgress(), Lit()
    for _ in range(2):
        trainer(max_epochs=1, callbacks=[bar]).fit(lit, loader())
    assert len(bar.table.rows) == 1


def test_it_takes_the_place_of_lightnings_bar():
    bars = [c for c in trainer(callbacks=[CourseProgress()]).callbacks if "Progress" in repr(c)]
    assert len(bars) == 1


def test_a_table_for_raw_loops(capsys):
    table = EpochTable(epochs=2)
    for _ in range(2):
        table.advance(1, 10)
        table.row(loss=0.5, val_acc=0.25)
    table.close()
    lines = str(table).splitlines()
    assert lines[0].split() == ["epoch", "loss", "val_acc", "seconds"]
    assert len(lines) == 3 and capsys.readouterr().out.splitlines() == lines


def test_in_a_notebook_it_is_drawn_in_place(monkeypatch):
    from IPython import display

    from course_utils.views import progress

    drawn = []

    class Handle:
        def update(self, bundle, raw):
            drawn.append(bundle)

    monkeypatch.setattr(progress, "in_notebook", lambda: True)
    monkeypatch.setattr(display, "display", lambda bundle, **_: drawn.append(bundle) or Handle())
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_DRAWINGS", 0)
    table = EpochTable(epochs=1)
    table.advance(3, 10)
    assert "epoch 1 of 1: batch 3 of 10" in drawn[-1]["text/plain"]
    table.row(loss=0.5)
    table.close()
    assert "batch" not in drawn[-1]["text/html"]
    assert "<td>0.5</td>" in drawn[-1]["text/html"] and "loss" in drawn[-1]["text/plain"]
