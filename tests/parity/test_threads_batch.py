"""Ports that saw other data than their raw loop, or drew other random numbers for it."""

import logging
import random
from collections import UserDict
from functools import partial

import lightning as L
import numpy as np
import pytest
import torch
from parity_loops import (
    BATCH,
    CLASSES,
    EPOCH,
    FEATURES,
    SAMPLES,
    Lit,
    Place,
    Plan,
    data,
    lightning,
    loader,
    raw,
)
from threads import Thread, by_hand, check
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

even = partial(loader, None, samples=data(samples=48))
validation = partial(loader, 9, shuffle=False, samples=data(samples=16))


def normalised(x):
    return (x - 0.1) / 0.3


def noisy(x):
    return x + 0.1 * torch.randn_like(x)


class AugmentsTraining(Lit):
    everywhere = False

    def on_after_batch_transfer(self, batch, dataloader_index):
        x, y = batch
        return (noisy(x), y) if self.everywhere or self.trainer.training else batch


class AugmentsEverything(AugmentsTraining):
    everywhere = True


class Whole(nn.Module):
    """Takes a batch as a tokenizer gives it."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU(), nn.Linear(16, CLASSES))

    def forward(self, batch):
        return self.net(batch["x"])


def encoded(prepare, model, batch, place):
    return F.cross_entropy(model(UserDict(x=prepare(batch[0]))), batch[1])


def same(x):
    return x


def carries_leftovers(plan, model, optimizer, batch, place):
    """Accumulate four batches to a step, counted over the epochs."""
    (F.cross_entropy(model(batch[0]), batch[1]) / 4).backward()
    if (place.epoch * EPOCH + place.batch) % 4 == 3:
        optimizer.step()
        optimizer.zero_grad()


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.GRU(1, 8, batch_first=True), nn.Linear(8, CLASSES)

    def forward(self, x, state):
        output, state = self.rnn(x[..., None], state)
        return self.head(output[:, -1]), state


class Carried:
    """A loss that hands the state on from batch to batch, or does not."""

    def __init__(self, carries=True):
        self.carries = carries

    def __call__(self, model, batch, place):
        if place.batch == 0 or not self.carries:
            self.state = torch.zeros(1, BATCH, 8)
        output, state = model(batch[0], self.state)
        self.state = state.detach()
        return F.cross_entropy(output, batch[1])


def compiled(prepare, plan):
    """Compile and run the model before the trace begins."""
    torch._dynamo.reset()
    torch.manual_seed(1)
    model = plan.model()
    fast = torch.compile(model, backend="eager")
    fast(torch.zeros(BATCH, FEATURES)).sum().backward()
    model.zero_grad()

    def step(model, batch, place):
        return F.cross_entropy(fast(prepare(batch[0])), batch[1])

    torch.manual_seed(2)
    run = lightning if plan.module is Lit else raw
    return run(Plan(loader=even, objective=step), model=model)


BATCHES = {
    "normalised twice": Thread(
        "forum: a transform in the dataset and again in training_step",
        "batch @1: other batches",
        Plan(prepare=normalised),
        {"prepare": lambda x: normalised(normalised(x))},
        says=("The loaders chose the same indices, in the same order", "one applied twice"),
    ),
    "normalised twice, in a UserDict": Thread(
        "transformers: BatchEncoding is a UserDict",
        "batch @1: other batches",
        Plan(model=Whole, objective=partial(encoded, same)),
        {"objective": partial(encoded, normalised)},
        says=("The loaders chose the same indices, in the same order",),
    ),
    "normalised twice, in a compiled model": Thread(
        "torch.compile before the trace",
        "batch @1: other batches",
        port={"module": Lit, "prepare": normalised},
        mended={"module": Lit},
        says=("The loaders chose the same indices, in the same order",),
        raw=partial(compiled, same),
        lightning=lambda plan: compiled(plan.prepare, plan),
    ),
    "the last batch dropped": Thread(
        "drop_last in one loader",
        f"batch @{EPOCH}: drop_last",
        Plan(loader=partial(loader, None)),
        {"loader": lambda: DataLoader(TensorDataset(*data()), BATCH, True, drop_last=True)},
        says=("Lightning leaves out the last batch",),
    ),
    "batches carried over into the next epoch": Thread(
        "accumulation by a global counter",
        "batch @2: accumulation in one",
        Plan(loader=partial(loader, None)),
        {"accumulate": 4},
        None,
        ("raw loop: 4 forward passes in this step; Lightning: 2",),
        raw=partial(by_hand, carries_leftovers),
    ),
    "a hidden state that is not handed on": Thread(
        "pytorch-lightning #655, #5372",
        "batch @2: hidden state",
        Plan(model=Recurrent, loader=partial(even, shuffle=False), objective=Carried()),
        {"objective": Carried(carries=False)},
        says=("raw loop hands what the model returned", "Lightning gives it something else"),
    ),
}


# Random numbers


class Augmented(Dataset):
    """Adds noise to each sample when it is read."""

    def __init__(self, draw):
        self.x, self.y = data()
        self.draw = draw

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index] + 0.1 * self.draw(FEATURES), self.y[index]


def numpy_noise(count):
    return torch.tensor(np.random.normal(size=count), dtype=torch.float32)


def numpy_loader(looks=False):
    np.random.seed(1)
    found = DataLoader(Augmented(numpy_noise), BATCH, shuffle=True)
    if looks:
        found.dataset[0]
    return found


def worker_loader():
    return DataLoader(Augmented(torch.randn), BATCH, shuffle=True, num_workers=1)


class SeedsWorkers(Lit):
    """Lets the Trainer give the loader its own worker_init_fn."""

    def train_dataloader(self):
        found = super().train_dataloader()
        found.worker_init_fn = partial(L.fabric.utilities.seed.pl_worker_init_function, rank=0)
        return found


def looks_at_a_batch(batches, model, epoch):
    next(iter(batches))


PEEKED = even()


class Peeks(Lit):
    """Shows the first batch after each epoch."""

    def on_train_epoch_end(self):
        self.shown = next(iter(self.trainer.train_dataloader))


class PeeksAside(Lit):
    def on_train_epoch_end(self):
        with torch.random.fork_rng():
            self.shown = next(iter(self.trainer.train_dataloader))


class Forcing(nn.Module):
    """Decides by Python's generator whether it is given the truth or its own last answer."""

    def __init__(self):
        super().__init__()
        self.embed, self.cell, self.head = nn.Embedding(9, 8), nn.GRUCell(8, 8), nn.Linear(8, 9)

    def forward(self, y):
        state, token, outputs = torch.zeros(len(y), 8), y[:, 0], []
        for place in range(1, y.shape[1]):
            state = self.cell(self.embed(token), state)
            outputs.append(self.head(state))
            token = y[:, place] if random.random() < 0.5 else outputs[-1].argmax(1)
        return torch.stack(outputs, 1)


def forced(model, batch, place):
    (y,) = batch
    return F.cross_entropy(model(y).flatten(0, 1), y[:, 1:].flatten())


def phrases():
    random.seed(1)
    words = torch.randint(0, 9, (SAMPLES, 6), generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(words), BATCH, shuffle=True)


CHANCE = {
    "validation batches augmented as well": Thread(
        "forum: on_after_batch_transfer",
        f"batch @{EPOCH + 1}: validation draws",
        Plan(prepare=same, validation=validation, module=AugmentsTraining),
        {"module": AugmentsEverything, "trainer": (("num_sanity_val_steps", 0),)},
        None,
        ("While validating, one run draws random numbers",),
        raw=lambda plan: raw(Plan(objective=augmented_in_training, validation=validation)),
    ),
    "a look at a sample drew from NumPy": Thread(
        "pytorch-forecasting #340, PR #2148, pytorch/pytorch #5059",
        "batch @1: other random numbers in the data",
        Plan(loader=numpy_loader),
        {"loader": partial(numpy_loader, looks=True)},
        says=("NumPy's", "The loaders chose the same indices, in the same order"),
    ),
    "a callback looks at a batch": Thread(
        "fastai/fastai PR #3512, pytorch/pytorch #36998",
        f"batch @{EPOCH + 1}: extra random draw",
        Plan(loader=even),
        {"module": Peeks},
        {"module": PeeksAside},
        ("Lightning begins a pass over a loader and leaves it early",),
    ),
    "workers seeded by Lightning": Thread(
        "pytorch-lightning #20412",
        "batch @1: other random numbers in the data",
        Plan(loader=worker_loader, epochs=1),
        {"module": SeedsWorkers},
        says=("worker_init_fn none", "pl_worker_init_function"),
    ),
    "teacher forcing by Python's generator": Thread(
        "bentrevett/pytorch-seq2seq #56",
        f"forward output @{EPOCH + 1}: other random numbers in the model",
        Plan(model=Forcing, loader=phrases, objective=forced),
        {"end_epoch": lambda model, epoch: random.choice("abc")},
        says=("Python's generator is in another state", f"by step {EPOCH + 1}"),
    ),
}


def augmented_in_training(model, batch, place: Place):
    return F.cross_entropy(model(noisy(batch[0])), batch[1])


@pytest.mark.parametrize("name", BATCHES)
def test_the_batches_of_a_public_port(name):
    check(BATCHES[name])


@pytest.mark.parametrize("name", CHANCE)
def test_the_random_numbers_of_a_public_port(name):
    check(CHANCE[name])
