"""MNIST as a dataset in memory, and as a LightningDataModule."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import lightning as L
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate, random_split
from torchvision import datasets

from course_utils.digits.mnist import find_mnist

__all__ = [
    "MEAN",
    "STD",
    "Batch",
    "DigitImages",
    "MNISTDataModule",
    "ResumableMNIST",
    "ShuffleSampler",
    "find_mnist",
    "keep_batch",
    "seeded",
]

# Mean and standard deviation of the pixels of MNIST's training set, with pixels from 0 to 1.
MEAN, STD = 0.1307, 0.3081


class DigitImages(Dataset):
    """MNIST digits held in memory, normalised once instead of at every access.

    `images` is float32 of shape (N, 1, 28, 28), or (N, 1, 32, 32) with `pad=2`, with mean about 0
    and standard deviation about 1; `labels` is int64 of shape (N,). The values are those of
    torchvision's `ToTensor` and `Normalize((0.1307,), (0.3081,))`, bit for bit.

    A DataLoader asks `__getitems__` for a whole batch at once, so give it
    `collate_fn=keep_batch`: the batch is already put together. Without it, the batches are the
    same, but each is taken apart and put together again, which takes many times longer.
    """

    def __init__(self, root: str | Path, train: bool = True, pad: int = 0):
        """Read the digits from `root`, a folder as torchvision's MNIST takes it.

        Raises RuntimeError if the files are not there: `find_mnist().root` is where they are.
        """
        raw = datasets.MNIST(root, train=train, download=False)
        images = F.pad(raw.data, (pad, pad, pad, pad)).unsqueeze(1)
        self.images = images.float().div_(255).sub_(MEAN).div_(STD)
        self.labels = raw.targets

    def __len__(self) -> int:
        """Return the number of digits."""
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return one image, (1, H, W), and its label, a tensor without dimensions."""
        return self.images[index], self.labels[index]

    def __getitems__(self, indices: list[int]) -> "Batch":
        """Return a batch of B images, (B, 1, H, W), and their labels, (B,), in one look-up."""
        chosen = torch.as_tensor(indices, device=self.labels.device)
        return Batch(self.images[chosen], self.labels[chosen])

    def to(self, device: torch.device | str) -> "DigitImages":
        """Move images and labels to a device, for a loader that yields batches there."""
        self.images, self.labels = self.images.to(device), self.labels.to(device)
        return self


class Batch(Sequence):
    """A batch that is put together already, and reads as the list of pairs that torch expects.

    `images` is (B, 1, H, W), `labels` is (B,); `batch[i]` is the i-th image and its label. So
    whoever knows nothing of `keep_batch` gets right batches too, if more slowly.
    """

    def __init__(self, images: torch.Tensor, labels: torch.Tensor):
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        """Return the number of digits in the batch."""
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return one image, (1, H, W), and its label, a tensor without dimensions."""
        return self.images[index], self.labels[index]


def keep_batch(batch: Batch | list | tuple) -> tuple | list:
    """Return images (B, 1, H, W) and labels (B,) as they are: the `collate_fn` for `DigitImages`.

    A list of single digits, as torch's ConcatDataset gives, is put together the usual way.
    """
    if isinstance(batch, Batch):
        return batch.images, batch.labels
    return default_collate(batch) if isinstance(batch, list) else batch


def seeded(seed: int) -> torch.Generator:
    """Return a random generator of its own, so that nothing else can shift what it draws."""
    return torch.Generator().manual_seed(seed)


class ShuffleSampler(Sampler[int]):
    """A new order of a dataset's N indices for each epoch, drawn from a generator of its own.

    `DataLoader(shuffle=True, generator=…)` draws once more when a loop asks for a batch after the
    last one. A raw loop asks, the Trainer, which knows the number of batches, does not: with a
    full last batch their orders part after the first epoch. This sampler draws once an epoch.
    """

    def __init__(self, dataset: Dataset, generator: torch.Generator):
        self.size, self.generator = len(dataset), generator

    def __len__(self) -> int:
        """Return the number of indices in an epoch."""
        return self.size

    def __iter__(self) -> Iterator[int]:
        """Yield the indices 0 to N - 1, each once, in this epoch's order."""
        return iter(torch.randperm(self.size, generator=self.generator).tolist())


class MNISTDataModule(L.LightningDataModule):
    """MNIST split into 55,000 digits to train, 5,000 to validate and 10,000 to test.

    On the bundled sample the split has the same proportions: 3,667, 333 and 1,000. Batches are
    (B, 1, 28, 28) float32 and (B,) int64; `pad=2` gives 32 x 32 pixels. Each loader has its own
    generator, started from `seed`, so that one loader's shuffling never depends on another's.
    """

    def __init__(self, batch_size: int = 64, seed: int = 42, pad: int = 0):
        super().__init__()
        self.batch_size, self.seed, self.pad = batch_size, seed, pad

    def prepare_data(self):  # runs once per machine: fetch, and set nothing on self
        find_mnist()

    def setup(self, stage=None):  # runs in every process: build the datasets
        root = find_mnist().root
        digits = DigitImages(root, train=True, pad=self.pad)
        sizes = [len(digits) - len(digits) // 12, len(digits) // 12]
        self.train, self.val = random_split(digits, sizes, generator=seeded(self.seed))
        self.test = DigitImages(root, train=False, pad=self.pad)

    def loader(self, dataset, sampler=None):
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            collate_fn=keep_batch,
            generator=seeded(self.seed),
        )

    def train_dataloader(self):
        return self.loader(self.train, ShuffleSampler(self.train, seeded(self.seed)))

    def val_dataloader(self):
        return self.loader(self.val)

    def test_dataloader(self):
        return self.loader(self.test)

    def predict_dataloader(self):
        return self.loader(self.test)


class ResumableMNIST(MNISTDataModule):
    """MNIST whose order of training digits goes into checkpoints, and comes back from them.

    A run that resumes from a checkpoint of its last whole epoch then sees the batches that it
    would have seen without the interruption.
    """

    def __init__(self, batch_size: int = 64, seed: int = 42, pad: int = 0):
        super().__init__(batch_size, seed, pad)
        self.order = seeded(seed)

    def train_dataloader(self):
        return self.loader(self.train, ShuffleSampler(self.train, self.order))

    def state_dict(self):
        return {"order": self.order.get_state()}

    def load_state_dict(self, state_dict):
        self.order.set_state(state_dict["order"])
