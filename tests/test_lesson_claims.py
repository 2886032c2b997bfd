"""What lesson 4 says about two devices and shows on one: tried with two workers."""

import ast
import os
import warnings

import jupytext
import lightning as L
import pytest
import torch
from lightning.fabric import Fabric
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from tools.project import sources

NAMES = ("make_pair", "make_optimizers", "judge", "LitPair")
CAN_FORK = hasattr(os, "fork")


@pytest.fixture
def pair():
    """Return lesson 4's pair of networks with its manual optimization, as the lesson defines it."""
    (source,) = (path for path in sources() if path.name.startswith("04_"))
    found = {}
    for cell in jupytext.read(source).cells:
        if cell.cell_type == "code":
            for node in ast.parse(cell.source).body:
                if getattr(node, "name", "") in NAMES:
                    found[node.name] = ast.get_source_segment(cell.source, node)
    assert set(found) == set(NAMES)
    names = {"L": L, "torch": torch, "nn": nn, "F": F}
    exec("\n\n".join(found.values()), names)
    return names["LitPair"]()


def train(pair, folder, strategy):
    batches = DataLoader(TensorDataset(torch.rand(8, 1, 28, 28), torch.zeros(8)), batch_size=2)
    trainer = L.Trainer(
        accelerator="cpu",
        devices=2,
        strategy=strategy,
        max_steps=4,  # of both optimizers together: two batches
        logger=False,
        enable_progress_bar=False,
        callbacks=[L.pytorch.callbacks.ModelCheckpoint(folder, filename="end", save_last=True)],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(pair, batches)


@pytest.mark.skipif(not CAN_FORK, reason="workers are copies of this process")
def test_the_pair_trains_on_two_devices_with_the_strategy_that_the_lesson_names(pair, tmp_path):
    train(pair, tmp_path, "ddp_fork_find_unused_parameters_true")
    kept = torch.load(tmp_path / "end.ckpt", weights_only=True)
    assert kept["global_step"] == 4
    assert kept["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["completed"] == 2


@pytest.mark.skipif(not CAN_FORK, reason="workers are copies of this process")
def test_without_it_lightning_stops(pair, tmp_path):
    with pytest.raises(Exception, match="not used in producing the loss"):
        train(pair, tmp_path, "ddp_fork")


@pytest.mark.skipif(not CAN_FORK, reason="workers are copies of this process")
def test_fabric_on_two_devices_asks_for_launch():
    layer = nn.Linear(2, 1)
    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp_fork")
    with pytest.raises(RuntimeError, match="launch"):
        fabric.setup(layer, torch.optim.Adam(layer.parameters()))
