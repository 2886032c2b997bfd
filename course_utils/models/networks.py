"""The models of the lessons, as the lessons define them (a test holds the two together)."""

from itertools import pairwise

import lightning as L
import torch
from torch import nn
from torch.nn import functional as F
from torchmetrics.classification import MulticlassAccuracy

from course_utils.digits.data import MEAN, STD


class MLP(nn.Module):
    """A multilayer perceptron for MNIST: 784 pixels, hidden layers with ReLU, 10 logits.

    Takes images (B, 1, 28, 28), returns logits (B, 10). `hidden` gives the width of each hidden
    layer.
    """

    def __init__(self, hidden: tuple[int, ...] = (128, 256)):
        super().__init__()
        sizes = (28 * 28, *hidden)
        layers = [nn.Flatten()]
        for n_in, n_out in pairwise(sizes):
            layers += [nn.Linear(n_in, n_out), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], 10))

    def forward(self, x):
        return self.layers(x)


class LitMLP(L.LightningModule):
    """The MLP as a LightningModule: cross-entropy, Adam, loss and accuracy of each stage.

    Batches are images (B, 1, 28, 28) and labels (B,). Logs `train_loss`, `val_loss`, `val_acc`,
    `test_loss` and `test_acc`, each as the mean over an epoch.
    """

    def __init__(self, hidden: tuple[int, ...] = (128, 256), lr: float = 1e-3):
        super().__init__()
        self.save_hyperparameters()
        self.model = MLP(hidden)
        self.val_acc = MulticlassAccuracy(10, average="micro")
        self.test_acc = MulticlassAccuracy(10, average="micro")

    def forward(self, x):
        return self.model(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        self._evaluate(batch, "val", self.val_acc)

    def test_step(self, batch, batch_idx):
        self._evaluate(batch, "test", self.test_acc)

    def predict_step(self, batch, batch_idx):
        x, _ = batch
        return self(x).argmax(1)

    def _evaluate(self, batch, stage, accuracy):
        x, y = batch
        logits = self(x)
        loss = F.cross_entropy(logits, y)
        accuracy(logits, y)
        self.log(f"{stage}_loss", loss)
        self.log(f"{stage}_acc", accuracy)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.hparams.lr)


class Autoencoder(nn.Module):
    """A small autoencoder for MNIST: 784 pixels, through a code of a few numbers, and back.

    Takes images (B, 1, 28, 28), returns reconstructions of the same shape, in the same units.
    `encoder` alone gives codes (B, code_size), `decoder` alone turns codes into images.
    """

    def __init__(self, code_size: int = 3):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Flatten(), nn.Linear(28 * 28, 64), nn.ReLU(), nn.Linear(64, code_size)
        )
        self.decoder = nn.Sequential(
            nn.Linear(code_size, 64),
            nn.ReLU(),
            nn.Linear(64, 28 * 28),
            nn.Unflatten(1, (1, 28, 28)),
        )

    def forward(self, x):
        return self.decoder(self.encoder(x))


class LitAutoEncoder(L.LightningModule):
    """The autoencoder as a LightningModule: mean squared error a pixel, Adam.

    Batches are images (B, 1, 28, 28), normalised as `DigitImages` has them, and labels (B,),
    which are not used. Training compares the images with `model(images)`. Calling the module is
    for those who use it: it returns pictures (B, 1, 28, 28) in 256 grey levels from 0 to 1. Logs
    `train_loss`, `val_loss` and `test_loss`, each as the mean over an epoch.
    """

    def __init__(self, code_size: int = 3, lr: float = 1e-3):
        super().__init__()
        self.save_hyperparameters()
        self.model = Autoencoder(code_size)

    def forward(self, x):
        pixels = self.model(x) * STD + MEAN
        return (255 * pixels.clamp(0, 1)).round() / 255

    def training_step(self, batch, batch_idx):
        loss = self._loss(batch)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self._loss(batch))

    def test_step(self, batch, batch_idx):
        self.log("test_loss", self._loss(batch))

    def predict_step(self, batch, batch_idx):
        x, _ = batch
        return self(x)

    def _loss(self, batch):
        x, _ = batch
        return F.mse_loss(self.model(x), x)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.hparams.lr)


class LeNet(nn.Module):
    """LeNet-5 with ReLU and max pooling: two convolutions, three fully connected layers.

    Takes images (B, in_channels, 32, 32), returns logits (B, num_classes); 61,706 parameters for
    MNIST. After LeCun, Bottou, Bengio and Haffner (1998), "Gradient-based learning applied to
    document recognition"; unlike there, every map of the second convolution sees all of the first.
    """

    def __init__(self, in_channels: int = 1, num_classes: int = 10):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 6, kernel_size=5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, kernel_size=5),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(16 * 5 * 5, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, num_classes),
        )
        self.features.to(memory_format=torch.channels_last)

    def forward(self, x):
        return self.classifier(self.features(x))


class LitLeNet(L.LightningModule):
    """LeNet as a LightningModule: cross-entropy, Adam, loss and accuracy of each stage.

    Batches are images (B, in_channels, 32, 32) and labels (B,): `MNISTDataModule(pad=2)` has
    them. Logs loss and accuracy as `train_…`, `val_…` and `test_…`, each as the mean over an
    epoch; predicts the most likely class of each image, (B,).
    """

    def __init__(self, in_channels: int = 1, num_classes: int = 10, lr: float = 2e-4):
        super().__init__()
        self.save_hyperparameters()
        self.example_input_array = torch.zeros(1, in_channels, 32, 32)
        self.model = LeNet(in_channels, num_classes)
        self.train_acc = MulticlassAccuracy(num_classes, average="micro")
        self.val_acc = MulticlassAccuracy(num_classes, average="micro")
        self.test_acc = MulticlassAccuracy(num_classes, average="micro")

    def forward(self, x):
        return self.model(x)

    def training_step(self, batch, batch_idx):
        return self._step(batch, "train", self.train_acc)

    def validation_step(self, batch, batch_idx):
        self._step(batch, "val", self.val_acc)

    def test_step(self, batch, batch_idx):
        self._step(batch, "test", self.test_acc)

    def predict_step(self, batch, batch_idx):
        x, _ = batch
        return self(x).argmax(1)

    def _step(self, batch, stage, accuracy):
        x, y = batch
        logits = self(x)
        loss = F.cross_entropy(logits, y)
        accuracy(logits, y)
        self.log(f"{stage}_loss", loss, on_step=False, on_epoch=True)
        self.log(f"{stage}_acc", accuracy, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.hparams.lr)
