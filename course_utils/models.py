"""The models of the lessons, as the lessons define them (a test holds the two together)."""

from itertools import pairwise

import lightning as L
import torch
from torch import nn
from torch.nn import functional as F
from torchmetrics.classification import MulticlassAccuracy


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

    def _evaluate(self, batch, stage, accuracy):
        x, y = batch
        logits = self(x)
        loss = F.cross_entropy(logits, y)
        accuracy(logits, y)
        self.log(f"{stage}_loss", loss)
        self.log(f"{stage}_acc", accuracy)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.hparams.lr)
