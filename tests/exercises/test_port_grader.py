"""The port doctor as grader: a port passes if it computes what its loop computes."""

import lightning as L
import pytest
import torch
from torch import nn

from course_utils.exercises import QUIET, FewDigits, grade_port
from course_utils.exercises.guard import guarded
from course_utils.models import MLP


def loop(data):
    model = MLP(hidden=(8,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, y in data.train_dataloader():
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()


class Lit(L.LightningModule):
    lr = 0.1

    def __init__(self):
        super().__init__()
        self.model = MLP(hidden=(8,))

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self.model(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)


def fit(lit, data):
    L.Trainer(max_epochs=1, **QUIET).fit(lit, train_dataloaders=data.train_dataloader())


def graded(port, **values):
    return guarded(lambda: grade_port(loop, port, MLP, **values), "a port")


def test_a_port_passes():
    outcome = graded(lambda data: fit(Lit(), data))
    assert outcome and outcome.report.verdict == "identical"
    assert "agree at all 4 steps" in outcome.text


def test_a_difference_is_the_doctors_and_shown_by_its_report():
    lit = type("Slow", (Lit,), {"lr": 0.01})
    outcome = graded(lambda data: fit(lit(), data), places={"other learning rate": "section 7"})
    assert outcome.kind == "wrong" and outcome.place == "section 7"
    assert "the loop: 0.1; your port: 0.01" in str(outcome)
    assert "0.01" in outcome._repr_html_()


def test_a_loop_without_steps_is_not_asked_for_hooks():
    said = graded(lambda data: MLP(hidden=(8,)), by_trainer=False).text
    assert "no optimizer takes a step" in said and "`optimizer.step()`" in said
    assert "training_step" not in said


def test_the_loop_itself_is_no_port():
    assert "4 of the 4 steps" in graded(loop).text
    assert graded(loop, by_trainer=False)


def test_the_loop_inside_a_hook_is_no_port():
    class Hidden(Lit):
        def on_fit_start(self):
            loop(FewDigits())

    outcome = graded(lambda data: fit(Hidden(), data))
    assert "outside the Trainer's own steps" in outcome.text


@pytest.mark.parametrize(
    "port",
    [
        lambda data: None,
        lambda data: MLP(hidden=(8,)),
        lambda data: fit(type("No", (Lit,), {"configure_optimizers": lambda self: None})(), data),
    ],
)
def test_without_training_there_is_no_port(port):
    assert "no optimizer takes a step" in graded(port).text


def test_another_network_is_named():
    def port(data):
        model = nn.Linear(2, 2)
        model(torch.ones(1, 2)).sum().backward()
        torch.optim.SGD(model.parameters(), lr=0.1).step()

    assert "builds no `MLP`" in graded(port, by_trainer=False).text


def test_a_port_without_the_network_that_is_named_by_its_name_says_so():
    def port(data):
        model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model(torch.zeros(1, 784)).sum().backward()
        optimizer.step()

    outcome = guarded(lambda: grade_port(loop, port, "MLP", by_trainer=False), "a port")
    assert outcome.kind == "wrong" and "builds no `MLP`" in outcome.text


def test_a_grade_leaves_nothing_behind(own_progress, monkeypatch):
    before = L.Trainer.fit

    def port(data):
        trainer = L.Trainer(max_epochs=1, accelerator="cpu", enable_progress_bar=False)
        trainer.fit(Lit(), train_dataloaders=data.train_dataloader())

    assert graded(port)
    assert list(own_progress.iterdir()) == []
    assert L.Trainer.fit is before


def test_few_digits_are_the_same_from_one_seed_and_a_new_order_each_epoch():
    one, two = FewDigits(seed=3).train_dataloader(), FewDigits(seed=3).train_dataloader()
    epochs = [[torch.cat([y for _, y in loader]) for _ in range(2)] for loader in (one, two)]
    assert torch.equal(epochs[0][0], epochs[1][0]) and torch.equal(epochs[0][1], epochs[1][1])
    assert not torch.equal(epochs[0][0], epochs[0][1])
    assert [len(y) for _, y in one] == [64, 64, 64, 8]
