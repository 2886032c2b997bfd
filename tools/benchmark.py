"""Measure what the course promises about speed: `python -m tools.benchmark`.

Every figure is a ratio of medians from interleaved rounds in one run, as times alone mean little
from machine to machine.
"""

import io
import time
from contextlib import nullcontext, redirect_stdout
from itertools import islice
from statistics import median

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from course_utils.digits.data import MEAN, STD, MNISTDataModule, seeded
from course_utils.models import LitMLP
from course_utils.parity import trace
from course_utils.session import start
from course_utils.views.cost import Costs, in_turn
from course_utils.views.progress import CourseProgress

STEPS = 200
QUIET = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_checkpointing": False,
    "enable_model_summary": False,
}


def train(batches, watch=None) -> None:
    """Train a fresh MLP with a raw loop on up to 200 batches."""
    lit = LitMLP()
    optimizer = lit.configure_optimizers()
    with watch(lit.model) if watch else nullcontext():
        for x, y in islice(batches, STEPS):
            loss = F.cross_entropy(lit.model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def loaders(datamodule: MNISTDataModule, root) -> Costs:
    """Compare ready batches, the course's loader, and torchvision's item by item."""
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((MEAN,), (STD,))])
    pictures = datasets.MNIST(root, train=True, transform=transform)
    item_by_item = DataLoader(pictures, 64, shuffle=True, generator=seeded(42))
    from_memory = datamodule.train_dataloader()
    ready = list(islice(from_memory, STEPS))
    runs = {
        "batches lie ready": lambda: train(ready),
        "from memory": lambda: train(from_memory),
        "item by item": lambda: train(item_by_item),
    }
    return in_turn(runs, min(STEPS, len(ready)))


def tracing(datamodule: MNISTDataModule) -> Costs:
    """Compare a raw loop without and with the port doctor watching."""
    ready = list(islice(datamodule.train_dataloader(), STEPS))
    runs = {"raw loop": lambda: train(ready), "raw loop, traced": lambda: train(ready, trace)}
    return in_turn(runs, len(ready))


# Width and number of hidden layers, and how many steps are timed: from 0.1 to 50 million weights.
SIZES = {"0.12M": (128, 1, 60), "1.2M": (768, 1, 30), "10M": (2048, 2, 6), "54M": (4096, 3, 3)}


def trace_curve() -> str:
    """Return what watching costs networks of several sizes, as a table of ratios."""
    lines = ["weights    raw ms a step    times as long, traced"]
    for name, (width, depth, steps) in SIZES.items():
        batch = torch.randn(64, 784), torch.randint(10, (64,))
        hidden = [layer for _ in range(depth) for layer in (nn.Linear(width, width), nn.ReLU())]
        model = nn.Sequential(nn.Linear(784, width), nn.ReLU(), *hidden, nn.Linear(width, 10))
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

        def run(watch, model=model, optimizer=optimizer, batch=batch, steps=steps) -> None:
            with watch(model):
                for _ in range(steps):
                    optimizer.zero_grad()
                    F.cross_entropy(model(batch[0]), batch[1]).backward()
                    optimizer.step()

        run(nullcontext)
        costs = in_turn({"raw": lambda: run(nullcontext), "traced": lambda: run(trace)}, steps, 3)
        lines.append(f"{name:>7}{costs.milliseconds['raw']:16.2f}{costs.ratios['traced']:23.2f}")
    return "\n".join(lines)


class Alternating(LitMLP):
    """An MLP that takes a callback out of its Trainer for every other step, and times each step.

    Two whole epochs differ by more than a progress bar costs; steps in turn do not.
    """

    def __init__(self, callback: Callback):
        super().__init__()
        self.callback, self.present, self.last = callback, True, None
        self.seconds: dict[bool, list[float]] = {False: [], True: []}

    def on_train_batch_start(self, batch, batch_idx) -> None:
        """Note the time since the last batch, and put the callback in or take it out."""
        if self.last is not None:
            self.seconds[self.present].append(time.perf_counter() - self.last)
        self.present = not self.present
        others = [known for known in self.trainer.callbacks if known is not self.callback]
        self.trainer.callbacks = [*others, self.callback] if self.present else others
        self.last = time.perf_counter()


def progress(datamodule: MNISTDataModule) -> Costs:
    """Compare steps with the course's progress bar and steps without any."""
    bar = CourseProgress()
    lit = Alternating(bar)
    trainer = L.Trainer(**QUIET, max_epochs=5, callbacks=[bar], limit_val_batches=0)
    with redirect_stdout(io.StringIO()):
        trainer.fit(lit, datamodule=datamodule)
    medians = {present: [median(times)] for present, times in lit.seconds.items()}
    return Costs({"no bar": medians[False], "CourseProgress": medians[True]}, steps=1)


def main() -> None:
    """Print the tables."""
    session = start(42, threads=1)
    datamodule = MNISTDataModule()
    datamodule.setup()
    tables = {
        "Loading the digits": loaders(datamodule, session.digits.root),
        "Watching a loop": tracing(datamodule),
        "Showing progress": progress(datamodule),
    }
    for title, costs in tables.items():
        print(f"\n{title} (medians)\n{costs}")
    print(f"\nWatching networks of several sizes (medians)\n{trace_curve()}")


if __name__ == "__main__":
    main()
