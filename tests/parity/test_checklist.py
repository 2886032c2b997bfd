"""The checklist: each thing that keeps two runs from being equal is found, and nothing else."""

import lightning as L
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_utils.parity import checklist


class Net(nn.Sequential):
    def __init__(self, dropout=0.0):
        super().__init__(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 3))


def run(seed=1, before=0, shift=0, dropout=0.0, draws=False, compiled=False, threads=1, steps=9):
    """Train for `steps` steps; each other argument plants a fault."""
    if seed is not None:
        torch.manual_seed(seed)
    torch.rand(before)
    torch.set_num_threads(threads)
    net = Net(dropout)
    model = torch.compile(net, backend="eager") if compiled else net
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    batches = torch.Generator().manual_seed(shift)
    for _ in range(steps):
        if draws:
            torch.rand(1)
        optimizer.zero_grad()
        F.cross_entropy(model(torch.randn(4, 6, generator=batches)), torch.arange(4) % 3).backward()
        optimizer.step()


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def crosses(one, other):
    found = checklist(one, other, model=Net)
    return [item.name for item in found.items if item.true is False], found


def test_two_equal_runs_are_ready():
    wrong, found = crosses(run, run)
    assert wrong == [] and found.ready
    assert str(found).endswith("Ready: nothing here keeps the two runs from being equal.")
    assert [item.name for item in found.items if item.true is None] == ["deterministic algorithms"]
    assert "<table" in found._repr_html_()


@pytest.mark.parametrize(
    ("fault", "named", "words"),
    [
        ({"seed": None}, "seeds", "Lightning, begun twice, has other weights"),
        ({"before": 3}, "order of building", "the first weights differ"),
        ({"seed": 2}, "order of building", "the first weights differ"),
        ({"shift": 1}, "batches", "batch 1 differs"),
        ({"threads": 2}, "threads", "1 and 2"),
        ({"compiled": True}, "torch.compile", "called in Lightning only"),
        ({"dropout": 0.5}, "dropout", "of one run only"),
    ],
)
def test_each_planted_fault_gets_its_cross(fault, named, words):
    wrong, found = crosses(lambda: run(threads=1), lambda: run(**fault))
    assert named in wrong and not found.ready
    assert words in str(found)
    assert f"mend first: {', '.join(wrong)}." in str(found)


def test_dropout_from_other_states_is_found():
    wrong, found = crosses(lambda: run(dropout=0.5), lambda: run(dropout=0.5, draws=True))
    assert wrong == ["dropout"]
    assert "from other states" in str(found)
    assert crosses(lambda: run(dropout=0.5), lambda: run(dropout=0.5))[1].ready


def test_other_numbers_of_batches_a_step_are_the_ports_own_choice():
    def halves():
        torch.manual_seed(1)
        net, batches = Net(), torch.Generator().manual_seed(0)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for index in range(8):
            net(torch.randn(4, 6, generator=batches)).square().mean().backward()
            if index % 2:
                optimizer.step()

    assert crosses(run, halves)[0] == []


def test_it_ends_each_run_after_a_few_steps_a_trainers_too():
    taken = []

    class Lit(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = Net()

        def training_step(self, batch, batch_idx):
            taken.append(1)
            return self.net(batch).square().mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    def fit():
        torch.manual_seed(1)
        quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False)
        trainer = L.Trainer(accelerator="cpu", max_epochs=50, enable_model_summary=False, **quiet)
        trainer.fit(Lit(), torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(0)))

    assert checklist(fit, fit, model=Net, steps=2).ready
    assert len(taken) == 8  # two runs, each begun twice
    before = torch.compile
    with pytest.raises(ValueError, match="recorded no optimizer step"):
        checklist(fit, Net, model=Net)
    with pytest.raises(TypeError, match="two functions"):
        checklist(Net(), fit, model=Net)
    assert torch.compile is before
