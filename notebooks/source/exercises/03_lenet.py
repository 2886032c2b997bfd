# %% [markdown]
# # Exercises 3. LeNet
#
# {{badge}}
#
# Five exercises for [lesson 3](../03_lenet.ipynb), from easy to hard. Each one has a cell with gaps
# (`...`) for your answer, and a cell that checks it. A check says what is wrong and why; it changes
# nothing of yours, and you can run it as often as you like. `q1.hint()` gives a hint, a plainer one
# each time; `q1.solution()` shows an answer.

# %% tags=["setup"]
# {{setup}}

# %%
import warnings
from copy import deepcopy
from math import inf

import lightning as L
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import nn
from torch.nn import functional as F
from torchmetrics.classification import MulticlassAccuracy

from course_utils.exercises import QUIET, FewDigits, progress
from course_utils.exercises.lessons.lesson_03 import q1, q2, q3, q4, q5
from course_utils.models import MLP, LeNet
from course_utils.session import start

session = start(42)

# %% tags=["grader"]
from copy import deepcopy
from math import inf

import lightning as L
import torch
from lightning.pytorch.callbacks import EarlyStopping
from torch import nn
from torch.nn import functional as F
from torchmetrics.classification import MulticlassAccuracy

from course_utils.exercises import (
    QUIET,
    FewDigits,
    Lines,
    Question,
    a_class,
    function,
    grade_port,
    number,
    right,
    wrong,
)
from course_utils.models import MLP, LeNet, LitMLP

# %% [markdown]
# ## 1. Predict: a side, a field, a swap
#
# A picture of 32 x 32 pixels goes through these layers:
#
# ```
# nn.Conv2d(1, 8, kernel_size=5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
# nn.Conv2d(8, 16, kernel_size=5, stride=2), nn.ReLU()
# ```
#
# - `side`: how many units wide is a map that comes out?
# - `field`: how many pixels wide is what one of these units sees?
# - `same`: let ReLU and pooling change places, so that the pooling comes first, and train both
#   networks from the same weights. Are all losses, gradients and weights the same, to the last bit?
#   Say `True` or `False`, for max pooling and for average pooling.

# %% tags=["grader"]
SIDES = {
    6.5: "torch rounds down, as a window that does not fit is left out",
    7: "torch rounds down, as a window that does not fit is left out",
    5: "the first convolution has a padding of 2, which keeps its side at 32",
    12: "the second convolution has a stride of 2",
}
FIELDS = {
    9: "the pooling lies between the convolutions: it adds a pixel, and doubles the steps after it",
    10: "after the pooling, neighbours are 2 pixels apart: the second kernel adds 4 · 2, not 4",
    13: "the pooling itself adds a pixel too: of two values it sees both",
    22: "a layer's own stride does not widen its field, only that of layers after it",
}


class Swapping(nn.Sequential):
    """A small network with its pooling before ReLU, or after it."""

    def __init__(self, pool, first):
        pair = [pool(2), nn.ReLU()] if first else [nn.ReLU(), pool(2)]
        super().__init__(nn.Conv2d(1, 4, 5), *pair, nn.Flatten(), nn.Linear(576, 10))


def _swapped(pool):
    """Return what the doctor finds where pooling and ReLU have changed places."""

    def train(data, first):
        model = Swapping(pool, first)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for x, y in data.train_dataloader():
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()

    loops = [lambda data, first=first: train(data, first) for first in (False, True)]
    return grade_port(*loops, Swapping, names=("ReLU first", "pooling first"), by_trainer=False)


SWAPS = {
    ("max", False): "The largest value of a window stays the largest through ReLU, and where it is "
    "negative both orders give 0. So the gradient takes the same way back, too",
    ("average", True): "ReLU changes what a mean is taken of: the mean of -1 and 3 is 1, and that "
    "of 0 and 3 is 1.5",
}


def _seen(side, field, same):
    for said, name, true, usual, rule in (
        (side, "side", 6, SIDES, "a side of W becomes (W - F + 2P) / S + 1, rounded down"),
        (field, "field", 14, FIELDS, "each layer adds (F - 1) times the strides before it"),
    ):
        if (given := number(said, name)) != true:
            place = "section 2, stride and padding" if name == "side" else ""
            return wrong(f"A {name} of {given:g} is not it: {usual.get(given, rule)}.", place)
    if not isinstance(same, dict) or not all(same.get(k) in (True, False) for k in POOLS):
        return wrong('`same` should say `True` or `False` for "max" and for "average".')
    for name, pool in POOLS.items():
        found = _swapped(pool)
        if bool(same[name]) != bool(found):
            return wrong(
                f"The port doctor has trained both, with {name} pooling: they are "
                f"{'identical' if found else 'different'}. {SWAPS[name, bool(same[name])]}.",
                "section 2, where max pooling and ReLU commute",
                found.report,
            )
    return right("6 units wide, 14 pixels seen; only with max pooling the order does not matter.")


POOLS = {"max": nn.MaxPool2d, "average": nn.AvgPool2d}
q1 = Question(
    number=1,
    kind="predict",
    title="A side, a field, a swap",
    lesson="03_lenet",
    place="section 2, how far a unit sees",
    expects="two numbers and a dictionary",
    hints=(
        "Go layer by layer. The sides are 32, 32, 16 and what the last formula gives; the field "
        "is 5 after the first convolution, and 6 after the pooling.",
        "(16 - 5) / 2 + 1, rounded down; 6 + 4 · 2. For the swap: does ReLU change which value is "
        "the largest? Does it change a mean?",
    ),
    takeaway="Stride and pooling shrink the maps and widen what each unit sees, and what does not "
    "fit is cut off silently.",
    checker=_seen,
)

# %%
side = ...
field = ...
same = {"max": ..., "average": ...}
### BEGIN SOLUTION
side = 6  # 32 → 32 → 16 → (16 - 5) / 2 + 1 = 6.5, rounded down
field = 14  # 1 + 4, then + 1 for the pooling, then + 4 · 2
same = {"max": True, "average": False}
### END SOLUTION

# %%
q1.check(side, field, same)
# q1.hint()
# q1.solution()

# %% [markdown]
# ## 2. Lines in order: the best epoch, in memory
#
# `ModelCheckpoint` keeps the best epoch in a file. This callback is to keep it in memory, as the
# lesson's loop did, and to put it back when training is over. Which line belongs into which hook,
# and in which order? Indented lines belong under an `if`. Some line belongs nowhere.

# %% tags=["grader"]
HOMES = {
    "b": ("nowhere", "`state_dict()` without a copy holds weights that go on changing: at the end "
    "it is the last epoch's"),
    "a": ("on_validation_end", "the best weights are copied when a validation loss is the lowest"),
    "c": ("on_validation_end", "the loss of an epoch is there when its validation ends"),
    "d": ("on_train_end", "the best weights are put back once, when training is over"),
    "e": ("__init__", "it is set once, before anything runs"),
    "f": ("on_validation_end", "each validation asks whether it is the best so far"),
    "g": ("on_validation_end", "the lowest loss so far is noted when it is found"),
    "h": ("on_validation_end", "the sanity check is a validation, too, of a network that is not "
    "trained yet and on two batches only: it is no epoch"),
    "i": ("on_validation_end", "it stands under the `if` of the sanity check"),
}  # fmt: skip
LINES = Lines(
    shown=(
        "    self.best_weights = deepcopy(pl_module.state_dict())",
        "    self.best_weights = pl_module.state_dict()",
        'val_loss = trainer.callback_metrics["val_loss"].item()',
        "pl_module.load_state_dict(self.best_weights)",
        "self.best_loss = inf",
        "if val_loss < self.best_loss:",
        "    self.best_loss = val_loss",
        "if trainer.sanity_checking:",
        "    return",
    ),
    template="""\
class KeepBest(L.Callback):
    def __init__(self):
        {__init__}

    def on_train_epoch_start(self, trainer, pl_module):
        {on_train_epoch_start}

    def on_validation_end(self, trainer, pl_module):
        {on_validation_end}

    def on_train_end(self, trainer, pl_module):
        {on_train_end}
""",
    beside=("nowhere",),
)


class Watching(L.Callback):
    """Note the validation loss and a copy of the weights of each epoch, from 0: the start."""

    def on_fit_start(self, trainer, pl_module):
        self.losses, self.weights = [inf], [deepcopy(pl_module.state_dict())]

    def on_validation_end(self, trainer, pl_module):
        if not trainer.sanity_checking:
            self.losses.append(trainer.callback_metrics["val_loss"].item())
            self.weights.append(deepcopy(pl_module.state_dict()))


def _equal(weights, others):
    return all(torch.equal(a, b) for a, b in zip(weights, others, strict=True))


def _kept(callback, lr):
    """Return what is wrong with the weights that are left after training, or nothing."""
    L.seed_everything(1789, verbose=False)
    data, lit, watching = FewDigits(), LitMLP(hidden=(16,), lr=lr), Watching()
    trainer = L.Trainer(max_epochs=5, callbacks=[watching, callback], **QUIET)
    trainer.fit(lit, data.train_dataloader(), data.val_dataloader())
    best = min(range(6), key=watching.losses.__getitem__)
    last = list(lit.state_dict().values())
    left = [n for n, seen in enumerate(watching.weights) if _equal(last, list(seen.values()))]
    if best in left:
        return ""
    whose = f"epoch {left[-1]}" if left else "no epoch"
    whose = "the beginning" if left == [0] else whose
    lowest = f"{best}, with a loss of {watching.losses[best]:.3f}"
    return f"Of 5 epochs the best is {lowest}; after them the weights are those of {whose}"


def _in_order(placed):
    placed = LINES.read(placed)
    strays = [x for x, (home, _) in HOMES.items() if x not in placed[home]]
    try:
        names = {"L": L, "inf": inf, "deepcopy": deepcopy}
        kind = LINES.run(placed, names)["KeepBest"]
        # In the second run the network only gets worse than it was at the sanity check.
        found = next(filter(None, (_kept(kind(), lr) for lr in (0.05, 3.0))), "")
    except Exception:
        if not strays:
            raise
        found = "Your callback stops with an error"
    if not found:
        return right("After training, the weights are those of the best epoch.")
    if not strays:
        return wrong(f"{found}. Each line is in its hook: look at their order in it.")
    home, reason = HOMES[strays[0]]
    letters = next(place for place, letters in placed.items() if strays[0] in letters)
    line = LINES.rows[strays[0]].strip()
    return wrong(f"{found}. `{strays[0]}`, `{line}`, is not for `{letters}`: {reason}.")


q2 = Question(
    number=2,
    kind="lines in order",
    title="The best epoch, in memory",
    lesson="03_lenet",
    place="section 4, where the loop keeps a copy, and section 6, who is called when",
    expects="a dictionary from place to letters",
    hints=(
        "Find the lines of `fit` in section 4 that keep the best weights: these are the same, in "
        "other places.",
        "`__init__` and `on_train_end` have one line each, `on_validation_end` six.",
        "`on_validation_end` begins with `h`, `i` and `c`; `b` belongs nowhere.",
    ),
    takeaway="A callback is the bookkeeping of a loop, cut along the moments when it runs: with a "
    "copy, and without the sanity check.",
    checker=_in_order,
    ordered=LINES,
)

# %%
lines = q2.lines()
lines

# %%
placed = {
    "__init__": ...,
    "on_train_epoch_start": ...,
    "on_validation_end": ...,
    "on_train_end": ...,
    "nowhere": ...,
}
### BEGIN SOLUTION
placed = {
    "__init__": "e",
    "on_train_epoch_start": "",
    "on_validation_end": "hicfga",
    "on_train_end": "d",
    "nowhere": "b",
}
### END SOLUTION

# %%
q2.check(placed)
# q2.hint()
# q2.solution()

# %% [markdown]
# ## 3. Port: a patient plateau
#
# This loop takes an epoch for better only if the loss fell by more than 0.1; but it keeps the
# weights of the lowest loss, however little it fell. So keeping and stopping each have a best loss
# of their own.

# %% tags=["given"]


def padded(x):
    return F.pad(x, (2, 2, 2, 2))  # 28 x 28 pixels → 32 x 32


@torch.no_grad()
def mean_loss(model, loader):
    model.eval()
    losses = [F.cross_entropy(model(padded(x)), y, reduction="none") for x, y in loader]
    model.train()
    return torch.cat(losses).mean().item()


# %% tags=["given"]
def train_patiently(data):
    model = LeNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=8e-3)
    loader = data.train_dataloader()
    best_loss, mark, waited = inf, inf, 0
    for _ in range(12):
        for x, y in loader:
            loss = F.cross_entropy(model(padded(x)), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        val_loss = mean_loss(model, data.val_dataloader())
        if val_loss < best_loss:
            best_loss, best_weights = val_loss, deepcopy(model.state_dict())
        if val_loss < mark - 0.1:
            mark, waited = val_loss, 0
        else:
            waited += 1
            if waited >= 3:
                break
    return best_weights


# %% [markdown]
# Port it. The hooks are named, and empty; `flags` holds the arguments of the `Trainer`, callbacks
# included. The check calls `fit` with the two loaders of `data`. Then it compares all steps, the
# epoch of the stop, and the weights in the file that was kept with those that the loop returns.

# %% tags=["grader"]
PATIENT = {
    "other learning rate": "section 6, move 1: `configure_optimizers`",
    "one run is shorter": "section 6, move 2: `EarlyStopping`, with its `patience` and `min_delta`",
}


def _fit_and_keep(kind, flags, data):
    """Fit, and return the weights in the file that was kept, or None where there is none."""
    flags = {**QUIET, "enable_checkpointing": True, **deepcopy(flags)}
    trainer = L.Trainer(**flags)
    trainer.fit(kind(), data.train_dataloader(), data.val_dataloader())
    path = getattr(trainer.checkpoint_callback, "best_model_path", "")
    return torch.load(path, weights_only=True) if path else None


def _patient(port, flags):
    lit = a_class(port, "LitPatient", L.LightningModule)
    if not isinstance(flags, dict) or "max_epochs" not in flags:
        return wrong('`flags` should be a dictionary with "max_epochs": the loop makes 12 at most.')
    kept = {}
    outcome = grade_port(
        lambda data: kept.update(loop=train_patiently(data)),
        lambda data: kept.update(port=_fit_and_keep(lit, flags, data)),
        LeNet,
        lambda: FewDigits(train=60, val=40, batch_size=32),
        places=PATIENT,
    )
    if not outcome:
        return outcome
    if kept["port"] is None:
        return wrong(
            "The steps are the same, but no file is kept: that is `ModelCheckpoint`.", KEEP
        )
    theirs = kept["port"]["state_dict"]
    pairs = [(v, theirs[k]) for n, v in kept["loop"].items() for k in theirs if k.endswith(n)]
    if pairs and all(torch.equal(*pair) for pair in pairs):
        return outcome
    return wrong(
        "All steps are the same, and both stop at the same epoch. But the file holds the weights "
        f"after epoch {kept['port']['epoch'] + 1}, and the loop keeps others: those of the lowest "
        "validation loss. What does your `ModelCheckpoint` go by? (Without one, the last epoch is "
        "kept.)",
        KEEP,
    )


KEEP = "section 6, move 2: `ModelCheckpoint` and its `monitor`"
q3 = Question(
    number=3,
    kind="port",
    title="A patient plateau",
    lesson="03_lenet",
    place="section 6",
    expects="the class `LitPatient` and a dictionary of flags",
    hints=(
        "`mean_loss` is the job of `validation_step`: it logs the loss of its batch.",
        "Callbacks look for the log's name. A list of the two is one flag, `callbacks`.",
        '`EarlyStopping("val_loss", patience=3, min_delta=0.1)` stops, '
        '`ModelCheckpoint(monitor="val_loss")` keeps.',
    ),
    takeaway="Two decisions that share a loop by hand are two callbacks, each with a best loss of "
    "its own.",
    checker=_patient,
)


# %%
class LitPatient(L.LightningModule):
    def __init__(self):
        ...  # __init__
        ### BEGIN SOLUTION
        super().__init__()
        self.model = LeNet()
        ### END SOLUTION

    def training_step(self, batch, batch_idx):
        ...  # training_step
        ### BEGIN SOLUTION
        x, y = batch
        return F.cross_entropy(self.model(padded(x)), y)
        ### END SOLUTION

    def validation_step(self, batch, batch_idx):
        ...  # validation_step
        ### BEGIN SOLUTION
        x, y = batch
        self.log("val_loss", F.cross_entropy(self.model(padded(x)), y))
        ### END SOLUTION

    def configure_optimizers(self):
        ...  # configure_optimizers
        ### BEGIN SOLUTION
        return torch.optim.Adam(self.parameters(), lr=8e-3)
        ### END SOLUTION


# %%
flags = ...  # Trainer: a dictionary of its arguments
### BEGIN SOLUTION
flags = {
    "max_epochs": 12,
    "callbacks": [
        EarlyStopping("val_loss", patience=3, min_delta=0.1),
        ModelCheckpoint(monitor="val_loss"),
    ],
}
### END SOLUTION

# %%
q3.check(LitPatient, flags)
# q3.hint()
# q3.solution()

# %% [markdown]
# ## 4. Break and mend: too good, and too early
#
# This module measures accuracies, and its training should stop when the validation accuracy has not
# risen for two epochs. No error is raised.

# %% tags=["given"]


class Broken(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = MLP(hidden=(32,))
        self.accuracy = MulticlassAccuracy(10, average="micro")

    def training_step(self, batch, batch_idx):
        return self.step(batch, "train")

    def validation_step(self, batch, batch_idx):
        self.step(batch, "val")

    def step(self, batch, stage):
        x, y = batch
        logits = self.model(x)
        self.accuracy(logits, y)
        self.log(f"{stage}_acc", self.accuracy, on_step=False, on_epoch=True)
        return F.cross_entropy(logits, y)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


# %% tags=["given"]
def stopping():
    return EarlyStopping("val_acc", patience=2)


# %% [markdown]
# What does its log say at the end, and what does counting say?


# %% tags=["shows"]
L.seed_everything(1, verbose=False)
data, lit = FewDigits(), Broken()
trainer = L.Trainer(max_epochs=12, callbacks=[stopping()], **QUIET)
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    trainer.fit(lit, data.train_dataloader(), data.val_dataloader())
x, y = (torch.cat(parts) for parts in zip(*data.val_dataloader()))
print(*{str(one.message).strip() for one in told if "compute" in str(one.message)}, sep="\n")
print("stopped after epoch", trainer.current_epoch)
print({name: round(value.item(), 3) for name, value in trainer.callback_metrics.items()})
print(f"validation accuracy, counted: {(lit.model(x).argmax(1) == y).float().mean():.3f}")

# %% [markdown]
# Two faults, one in the module and one in `stopping`. Mend both: `Mended` has what you change of
# `Broken`, and `mended_stopping` returns a callback.

# %% tags=["grader"]


class Counting(L.Callback):
    """Count the shares of right answers by stage, of epoch after epoch."""

    def __init__(self):
        self.hits, self.shares = [], {"val": [], "train": []}

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.hits.append(self._right(pl_module, batch))

    def on_validation_end(self, trainer, pl_module):
        if not trainer.sanity_checking:
            hits = [self._right(pl_module, batch) for batch in trainer.val_dataloaders]
            for stage, found in (("val", hits), ("train", self.hits)):
                self.shares[stage].append(torch.cat(found).float().mean().item())
            self.hits.clear()

    @torch.no_grad()
    def _right(self, lit, batch):
        return lit.model(batch[0]).argmax(1) == batch[1]


def _mended(mended, mended_stopping):
    kind = a_class(mended, "Mended", L.LightningModule)
    callback = function(mended_stopping, "mended_stopping")()
    if not isinstance(callback, L.Callback):
        return wrong(f"`mended_stopping` should return a callback; see {type(callback).__name__}.")
    L.seed_everything(1789, verbose=False)
    data, counted = FewDigits(), Counting()
    trainer = L.Trainer(max_epochs=20, callbacks=[counted, callback], **QUIET)
    trainer.fit(kind(), data.train_dataloader(), data.val_dataloader())
    val, train = (shares[-1] for shares in counted.shares.values())
    for stage, share in (("val", val), ("train", train)):
        if f"{stage}_acc" not in trainer.callback_metrics:
            return wrong(f"Nothing is logged as `{stage}_acc`.", METRICS)
        logged = trainer.callback_metrics[f"{stage}_acc"].item()
        if abs(logged - share) > 1e-3:
            why = "Which answers does your metric hold when it is asked?"
            if abs(logged - (200 * train + 100 * val) / 300) < 1e-3:
                why = "That is the share of 200 training and 100 validation digits together."
            return wrong(
                f"After epoch {trainer.current_epoch} the log says {logged:.3f} for `{stage}_acc`, "
                f"and counted it is {share:.3f}. {why}",
                METRICS,
            )
    return _stopped_right(trainer.current_epoch, counted.shares["val"])


def _stopped_right(stopped, shares):
    best, waited = 0, 0
    listed = ", ".join(f"{share:.2f}" for share in shares)
    for epoch, share in enumerate(shares, start=1):
        best, waited = (share, 0) if share > best else (best, waited + 1)
        if waited == 2 and epoch == stopped:
            return right("The log says what is counted, and training stops after the best epochs.")
        if waited == 2:
            return wrong(f"With accuracies of {listed} it should stop after epoch {epoch}, and "
                         f"goes on to epoch {stopped}. How long is its patience?")  # fmt: skip
    return wrong(
        f"The accuracies are {listed}: they were still rising, or had waited for one epoch only, "
        f"when training stopped after epoch {stopped}. What is better, a larger value or a smaller?"
    )


METRICS = "section 6, move 1: each stage has its own torchmetrics accuracy"
q4 = Question(
    number=4,
    kind="break and mend",
    title="Too good, and too early",
    lesson="03_lenet",
    place="section 6, move 2, on `mode`",
    expects="the class `Mended` and the function `mended_stopping`",
    hints=(
        "Validation runs before the training epoch ends. What does the one metric hold then?",
        "Give each stage a metric of its own, as in the lesson. And `EarlyStopping` has a `mode`.",
        'A second metric in `__init__`; in `step`, the stage says which counts. And `mode="max"`.',
    ),
    takeaway="Metrics have a memory and callbacks a direction. No error tells of a mistake in "
    "either: count once by hand what a log says.",
    checker=_mended,
)


# %%
class Mended(Broken):
    def __init__(self):
        ...  # __init__
        ### BEGIN SOLUTION
        super().__init__()
        self.train_accuracy = MulticlassAccuracy(10, average="micro")
        ### END SOLUTION

    def step(self, batch, stage):
        ...  # step
        ### BEGIN SOLUTION
        x, y = batch
        logits = self.model(x)
        accuracy = self.train_accuracy if stage == "train" else self.accuracy
        accuracy(logits, y)
        self.log(f"{stage}_acc", accuracy, on_step=False, on_epoch=True)
        return F.cross_entropy(logits, y)
        ### END SOLUTION


def mended_stopping():
    ...  # mended_stopping
    ### BEGIN SOLUTION
    return EarlyStopping("val_acc", patience=2, mode="max")
    ### END SOLUTION


# %%
q4.check(Mended, mended_stopping)
# q4.hint()
# q4.solution()

# %% [markdown]
# ## 5. Explore: a network that takes any size
#
# LeNet has 61,706 parameters, most of them in its first fully connected layer, and takes 32 x 32
# pixels only. Build one that
#
# - has at most 12,000 parameters,
# - gives ten logits for pictures of 32 x 32 *and* of 64 x 64 pixels,
# - and is right for at least 80% of 500 validation digits, after the check has trained it on 1,500
#   digits for four epochs (Adam, one cycle up to a rate of 0.01).
#
# Global average pooling is the way. How many convolutions does it take?

# %% tags=["grader"]


def _train_briefly(network, data):
    loader = data.train_dataloader()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, 4 * len(loader))
    network.train()
    for _ in range(4):
        for x, y in loader:
            loss = F.cross_entropy(network(padded(x)), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def _takes(network, side):
    """Return what a network gives for two pictures of a side, in a few words."""
    try:
        with torch.no_grad():
            return f"two of them give {list(network(torch.zeros(2, 1, side, side)).shape)}"
    except RuntimeError as error:
        return f"it stops with `{str(error).splitlines()[0]}`"


def _explored(make_network):
    make = function(make_network, "make_network")
    L.seed_everything(1789, verbose=False)
    network = make()
    if not isinstance(network, nn.Module):
        return wrong(
            f"`make_network` should return a network, and returns {type(network).__name__}."
        )
    for side in (32, 64):
        if (given := _takes(network.eval(), side)) != "two of them give [2, 10]":
            return wrong(
                f"It does not give ten logits for pictures of {side} x {side}: {given}. A layer "
                "with inputs counted in pixels fits one size: take the mean of each map first.",
                "section 3, where the means of maps reach a small layer",
            )
    count = sum(weight.numel() for weight in network.parameters())
    if not count:
        return wrong("It has no parameters: there is nothing to train.")
    if count > 12_000:
        name, weight = max(network.named_parameters(), key=lambda pair: pair[1].numel())
        return wrong(
            f"{count:,} parameters are too many; the most, {weight.numel():,}, are in `{name}`.",
            "section 3, what fully connected layers cost",
        )
    data = FewDigits(train=1500, val=500)
    _train_briefly(network, data)
    with torch.no_grad():
        hits = [network.eval()(padded(x)).argmax(1) == y for x, y in data.val_dataloader()]
    share = torch.cat(hits).float().mean().item()
    convolutions = sum(isinstance(module, nn.Conv2d) for module in network.modules())
    if share >= 0.8:
        return right(f"{count:,} parameters, and {share:.0%} of 500 digits are right.")
    return wrong(
        f"With {count:,} parameters it is right for {share:.0%} of 500 digits, and 80% is the aim. "
        f"It has {convolutions} convolutions. A mean says how much of something there is, and not "
        "where: so the units of the last maps should see most of the digit, and there should be "
        "many maps.",
        "section 2, how far a unit sees, and the pattern",
    )


q5 = Question(
    number=5,
    kind="explore",
    title="A network that takes any size",
    lesson="03_lenet",
    place="section 3",
    expects="the function `make_network`",
    hints=(
        "Take LeNet's two convolutions with ReLU and pooling, and replace what comes after.",
        "`nn.AdaptiveAvgPool2d(1)` takes the mean of each map, whatever its size; `nn.Flatten()` "
        "and one linear layer follow.",
        "With two convolutions a unit sees 16 pixels of 32. A third one, `nn.Conv2d(16, 32, 3)` "
        "with ReLU, sees more; it costs 4,640 parameters.",
    ),
    takeaway="Means of maps in place of pixels: few weights, any size. What was saved in the fully "
    "connected layers pays for a convolution that sees the whole digit.",
    checker=_explored,
)


# %%
def make_network():
    ...  # make_network: an nn.Module
    ### BEGIN SOLUTION
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 40, 3), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(40, 10)),
    )
    ### END SOLUTION


# %%
q5.check(make_network)
# q5.hint()
# q5.solution()

# %% [markdown]
# ## What is solved
#
# Kept in `progress.json` beside the notebooks; deleting it harms nothing.

# %% tags=["learner"]
progress()
