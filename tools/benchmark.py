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
from course_utils.parity.follower import FEWEST_RICH_STEPS
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


# Width, hidden layers, steps: those of 0.12 to 54 million weights, past where a trace keeps less.
SIZES = {"0.12M": (128, 1, 300), "1.2M": (768, 1, 120), "10M": (2048, 2, 40), "54M": (4096, 3, 24)}
ROUNDS = 3


def step_times(model: nn.Module, steps: int, watch=None) -> list[float]:
    """Return the milliseconds that each of so many steps takes."""
    batch = torch.randn(64, 784), torch.randint(10, (64,))
    optimizer, times = torch.optim.Adam(model.parameters(), lr=1e-4), []
    with watch(model) if watch else nullcontext():
        for _ in range(steps):
            begun = time.perf_counter()
            optimizer.zero_grad()
            F.cross_entropy(model(batch[0]), batch[1]).backward()
            optimizer.step()
            times.append(1000 * (time.perf_counter() - begun))
    return times


def trace_curve() -> str:
    """Return what watching costs networks of several sizes, as a table of ratios."""
    lines = ["weights    raw ms a step    traced: first steps    later steps"]
    for name, (width, depth, steps) in SIZES.items():
        hidden = [layer for _ in range(depth) for layer in (nn.Linear(width, width), nn.ReLU())]
        model = nn.Sequential(nn.Linear(784, width), nn.ReLU(), *hidden, nn.Linear(width, 10))
        step_times(model, 3)
        raw, first, later = [], [], []
        for _ in range(ROUNDS):
            raw += step_times(model, steps)
            traced = step_times(model, steps, trace)
            first += traced[1:FEWEST_RICH_STEPS]
            later += traced[-steps // 3 :]
        usual = median(raw)
        ratios = f"{median(first) / usual:19.2f}{median(later) / usual:15.2f}"
        lines.append(f"{name:>7}{usual:16.2f}{ratios:>38}")
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
