"""The models of the lessons: shapes, sizes, and what their LightningModules promise."""

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from course_utils.models import Autoencoder, LeNet, LitAutoEncoder, LitLeNet, LitMLP

SYSTEMS = [(LitMLP, 28), (LitAutoEncoder, 28), (LitLeNet, 32)]


def batches(side, count=2):
    torch.manual_seed(0)
    data = TensorDataset(torch.randn(4 * count, 1, side, side), torch.arange(4 * count) % 10)
    return DataLoader(data, batch_size=4)


def trainer(folder=None, **options):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    quiet["enable_checkpointing"] = folder is not None
    return L.Trainer(accelerator="cpu", max_epochs=1, default_root_dir=folder, **(quiet | options))


def size(model):
    return sum(parameter.numel() for parameter in model.parameters())


def test_lenet_has_the_published_size_and_takes_other_pictures():
    assert size(LeNet()) == 61_706
    assert LeNet()(torch.zeros(2, 1, 32, 32)).shape == (2, 10)
    assert LeNet(in_channels=3, num_classes=4)(torch.zeros(2, 3, 32, 32)).shape == (2, 4)


def test_the_autoencoder_gives_back_the_shape_of_the_picture():
    model, x = Autoencoder(code_size=5), torch.randn(3, 1, 28, 28)
    assert model.encoder(x).shape == (3, 5)
    assert model(x).shape == x.shape
    assert torch.equal(model(x), model.decoder(model.encoder(x)))


def test_calling_the_autoencoder_gives_pictures_in_grey_levels():
    lit = LitAutoEncoder()
    lit.model.decoder[2].weight.data.mul_(50)  # far out of range on both sides
    levels = 255 * lit(torch.randn(3, 1, 28, 28)).detach()
    assert levels.min() == 0 and levels.max() == 255
    assert torch.allclose(levels, levels.round(), atol=1e-4)


@pytest.mark.parametrize(("system", "side"), SYSTEMS)
def test_a_checkpoint_brings_the_same_module_back(system, side, tmp_path):
    L.seed_everything(1, verbose=False)
    lit = system(lr=0.01)
    taught = trainer(tmp_path)
    taught.fit(lit, batches(side), batches(side))
    again = system.load_from_checkpoint(
        taught.checkpoint_callback.best_model_path, weights_only=True
    )
    assert again.hparams == lit.hparams and again.hparams.lr == 0.01
    pairs = zip(again.parameters(), lit.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(("system", "side"), SYSTEMS)
def test_each_stage_logs_its_loss(system, side):
    lit, data = system(), batches(side)
    runner = trainer()
    runner.fit(lit, data, data)
    assert {"train_loss", "val_loss"} <= set(runner.callback_metrics)
    assert "test_loss" in runner.test(lit, data, verbose=False)[0]


@pytest.mark.parametrize(
    ("system", "side", "shape"), [(*SYSTEMS[1], (8, 1, 28, 28)), (*SYSTEMS[2], (8,))]
)
def test_predictions_come_for_every_picture(system, side, shape):
    found = torch.cat(trainer().predict(system(), batches(side)))
    assert found.shape == shape
