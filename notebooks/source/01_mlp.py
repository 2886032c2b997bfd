# %% [markdown]
# # 1. The MLP: a loop, and the same loop in Lightning
#
# {{badge}}
#
# > A first network reads digits. You train it by hand, move it to Lightning, and prove both equal.
#
# Most training loops that do the wrong thing run without an error. Forget one line, `zero_grad()`, and each step goes on with
# what all steps before it have left. The loss falls all the same, only not as it should. Who would notice? At the end of
# this lesson you run such a loop beside its port to Lightning, and are told:
#
# ```text
# Diagnosis: forgotten zero_grad()
# Evidence: The gradient of forgetful loop is that of Lightning plus the one of the step before.
# ```
#
# The same tool says "identical" of the right loop and its port: every batch, every gradient, every weight.
#
# At the end of this lesson you will
# - have trained a multilayer perceptron (MLP) with a loop that you wrote line by line;
# - know which lines of such a loop are the idea, and which are plumbing;
# - have moved it into a `LightningModule` and a `LightningDataModule`, and know where each line went;
# - have **proved** that both do the same, bit for bit, and seen how the port doctor finds a mistake;
# - know what the move gained, and what it cost.
#
# **Time**: about 2 minutes of computing on a laptop with full MNIST; half a minute with the sample.
#
# **Builds on**: [lesson 0](00_start_here.ipynb).

# %% tags=["setup"]
# {{setup}}

# %%
import lightning as L
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, random_split

from course_utils.digits import DigitImages, ShuffleSampler, keep_batch, seeded
from course_utils.session import start
from course_utils.views import plots

session = start(42)
device = session.device

# %% [markdown]
# ## 1. Look at the data
#
# Before any model, look at what it will see. Each picture is 28 x 28 pixels. Some digits are easy
# to confuse: keep an eye on the 4s and the 9s, we meet them again at the end.

# %%
digits = DigitImages(session.digits.root, train=True)
plots.digit_grid(digits.images[20:40], titles=digits.labels[20:40].tolist())

# %% [markdown]
# ## 2. Loading batches
#
# ### As every tutorial does it
#
# `torchvision.datasets.MNIST` hands out one picture at a time. The *transforms* turn it into a
# tensor and normalise it, and a `DataLoader` puts 64 of them together into a **batch**. With
# `shuffle=True` the order changes each epoch; the `generator` makes that order repeatable.

# %%
from torchvision import datasets, transforms

normalise = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
pictures = datasets.MNIST(session.digits.root, train=True, transform=normalise)
item_by_item = DataLoader(pictures, batch_size=64, shuffle=True, generator=seeded(42))

# %% [markdown]
# One batch, before we do anything with it: 64 images with 1 channel of 28 x 28 pixels, and 64
# labels.

# %%
# NBVAL_CHECK_OUTPUT
x, y = next(iter(item_by_item))
print("images:", list(x.shape), x.dtype)
print("labels:", list(y.shape), y.dtype)

# %% [markdown]
# ### The same batches, from memory
#
# MNIST is small enough to keep in memory, already normalised. `DigitImages` does that, and gives
# the loader a whole batch in one look-up, so there is nothing left to put together: `keep_batch`
# returns the batch as it is.

# %%
from_memory = DataLoader(
    digits, batch_size=64, shuffle=True, collate_fn=keep_batch, generator=seeded(42)
)

# %% [markdown]
# Is it really the same? Both loaders start afresh with the same seed. `torch.equal` is true only
# if every single value is equal.

# %% [markdown] tags=["question"]
# One loader opens picture after picture and normalises each, the other has done all of it beforehand. Of 20 batches, how many are equal to the last bit?
#
# + All 20
#   if: equal == 20
#   The same order, and for each pixel the same operations: then the same bits come out. Equal to the last bit is not a matter of luck, and this course relies on it.
# - None: floating-point numbers computed in two ways always differ a little
#   if: equal == 0
#   They may, where sums are taken in another order. Here each pixel goes through the same few operations, in whichever order the pixels come.
# - Only the first: after that the shuffling goes separate ways
#   if: equal == 1
#   Each loader has a generator of its own, and both start from seed 42. So both draw the same order.
#
# read: (?P<equal>\d+) of 20 batches

# %%
# NBVAL_CHECK_OUTPUT
item_by_item.generator.manual_seed(42)  # back to where from_memory starts
pairs = [pair for _, pair in zip(range(20), zip(item_by_item, from_memory))]
equal = [torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in pairs]
print(f"{sum(equal)} of {len(equal)} batches are equal")

# %% [markdown]
# Equal: loading from memory changes no value. From here on we take it. (How much faster it is, we
# measure further down, once there is a loop to measure.)
#
# ### Three loaders
#
# One part of the training digits is kept back for **validation**: to look at while training. The
# test digits stay untouched until the end. Each loader gets a generator of its own, so that no loader
# can disturb another's order; exercise 5 shows what happens without.
#
# A *sampler* says in which order a loader takes the digits. `ShuffleSampler` shuffles as
# `shuffle=True` does, but draws exactly one order an epoch. `shuffle=True` may draw once more at the
# end of an epoch in a raw loop than under Lightning, and then the orders differ.


# %%
def make_loaders(root, batch_size=64, seed=42):
    digits = DigitImages(root, train=True)
    sizes = [len(digits) - len(digits) // 12, len(digits) // 12]
    train, val = random_split(digits, sizes, generator=seeded(seed))
    test = DigitImages(root, train=False)

    def loader(dataset, sampler=None):
        return DataLoader(
            dataset, batch_size, sampler=sampler, collate_fn=keep_batch, generator=seeded(seed)
        )

    shuffled = ShuffleSampler(train, seeded(seed))  # a new order each epoch
    return loader(train, shuffled), loader(val), loader(test)


# %% [markdown]
# How many digits, in how many batches? The last batch of an epoch holds what is left over.

# %%
train_loader, val_loader, test_loader = make_loaders(session.digits.root)
for loader in (train_loader, val_loader, test_loader):
    print(f"{len(loader.dataset):6,} digits in {len(loader):3} batches")

# %% [markdown]
# ## 3. The model
#
# A multilayer perceptron is a stack of linear layers with a bend (ReLU) after each, but none after
# the last: its ten outputs, the **logits**, must be free to be negative. `Flatten` lays the 28 x 28
# pixels out in one row of 784.

# %%
from itertools import pairwise


class MLP(nn.Module):
    def __init__(self, hidden: tuple[int, ...] = (128, 256)):
        super().__init__()
        sizes = (28 * 28, *hidden)
        layers = [nn.Flatten()]
        for n_in, n_out in pairwise(sizes):
            layers += [nn.Linear(n_in, n_out), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], 10))

    def forward(self, x):
        return self.layers(x)


# %% [markdown]
# Try it on one random image before real ones: this takes a second and finds most mistakes in the
# shapes. One image goes in, ten logits come out, one for each digit.

# %%
# NBVAL_CHECK_OUTPUT
model = MLP(hidden=(128, 256))
one_image = torch.rand(1, 1, 28, 28)
print("in: ", list(one_image.shape))
print("out:", list(model(one_image).shape))

# %% [markdown]
# Each linear layer has a weight for every pair of input and output, and a bias for every output.
# Count them by hand and let Python count too: the two must agree.

# %%
# NBVAL_CHECK_OUTPUT
by_hand = (784 * 128 + 128) + (128 * 256 + 256) + (256 * 10 + 10)
by_python = sum(parameter.numel() for parameter in model.parameters())
print(f"by hand {by_hand:,}, by Python {by_python:,}")

# %% [markdown]
# ## 4. One step by hand
#
# Training is one small step, many times over. Here it is in slow motion. First the **forward
# pass**: images in, logits out. The **loss** says how bad the logits are.

# %% [markdown] tags=["question"]
# The model has never seen a digit. How large is its first loss, about?
#
# - 0
#   if: loss < 0.5
#   Loss 0 is earned: it means to be sure of the right digit each time. This model knows nothing yet.
# + 2.3
#   if: 2.1 < loss < 2.6
#   It guesses: each of ten digits gets about a tenth, and the logarithm of ten is 2.30. A first loss far from that is a sign of a mistake, before any training.
# - 10, as there are ten digits
#   if: loss > 5
#   The cross-entropy takes the *logarithm* of the probability of the right digit. For a tenth that is ln 10.
#
# read: loss: (?P<loss>[\d.]+)

# %%
x, y = next(iter(train_loader))
logits = model(x)
loss = F.cross_entropy(logits, y)
print("logits:", list(logits.shape), " loss:", round(loss.item(), 3))

# %% [markdown]
# A model that guesses among ten digits has a loss near ln 10, about 2.30. Keep that number in mind: it is
# what knowing nothing costs.
#
# `backward()` computes the **gradient**: for each weight, how the loss would change if the weight
# grew a little. Gradients *add up* in `.grad`, so old ones must be cleared first. That is what
# `zero_grad()` is for.

# %%
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
optimizer.zero_grad()
loss.backward()
first_layer = model.layers[1]
print("weight:", list(first_layer.weight.shape), " gradient:", list(first_layer.weight.grad.shape))

# %% [markdown]
# `optimizer.step()` moves every weight a little against its gradient. After one step the loss *on
# the same batch* should be lower; look at both numbers.

# %%
optimizer.step()
after = F.cross_entropy(model(x), y)
print(f"loss before the step {loss.item():.3f}, after it {after.item():.3f}")

# %% [markdown]
# ### Why cross-entropy takes logits
#
# Older code ends the model with `log_softmax` and uses `nll_loss`. Newer code leaves the logits as
# they are and uses `cross_entropy`. It is the same number: `cross_entropy` does both in one.

# %%
with torch.no_grad():
    logits = model(x)
    old = F.nll_loss(F.log_softmax(logits, dim=1), y)
    new = F.cross_entropy(logits, y)
print(f"log_softmax + nll_loss {old.item():.6f}, cross_entropy {new.item():.6f}")

# %% [markdown]
# We use `cross_entropy` because it leaves one thing fewer to forget. Without `log_softmax`,
# `nll_loss` raises no error: it gives a number that can fall below zero and means nothing. And
# taking softmax and logarithm apart fails for large logits:

# %% [markdown] tags=["question"]
# The logits are 200 and 0, and the second is right. By hand: softmax, then the logarithm, then the sign. What comes out?
#
# + Infinity
#   if: apart > 1e300
#   The second probability is e to the power of -200. That is too small for a float of 32 bits and becomes 0, and minus the logarithm of 0 is infinity.
# - 200, as `cross_entropy` gives
#   if: apart == 200
#   On paper, yes. `cross_entropy` gets it right because it never computes the probability, only its logarithm.
# - An error, as 0 has no logarithm
#   if: "Error" in text
#   Python's `math.log` raises one. Tensors go on with infinity, and the NaN turns up somewhere else.
#
# read: softmax, log, then pick: +(?P<apart>\S+)

# %%
# NBVAL_CHECK_OUTPUT
large, target = torch.tensor([[200.0, 0.0]]), torch.tensor([1])
print("nll_loss on logits:       ", F.nll_loss(torch.tensor([[2.0, 3.0]]), target).item())
print("softmax, log, then pick:  ", -large.softmax(1).log()[0, 1].item())
print("cross_entropy:            ", F.cross_entropy(large, target).item())

# %% [markdown]
# ## 5. The loop
#
# One epoch is one walk through all training batches. The function does for each batch what we just
# did by hand. It also carries the batch to the device and keeps the average loss; the last batch
# may be smaller, so each batch counts by its size.


# %%
def train_epoch(model, loader, optimizer, device):
    model.train()
    total, count = 0.0, 0
    for x, y in loader:
        x, y = x.to(device), y.to(device)
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(y)
        count += len(y)
    return total / count


# %% [markdown]
# Evaluation needs no gradients (`no_grad`) and puts the model into evaluation mode (`eval`). An MLP
# without dropout does not care about the mode. Other models do, and a loop that you copy should be
# right for them too.


# %%
@torch.no_grad()
def evaluate(model, loader, device):
    model.eval()
    total, correct, count = 0.0, 0, 0
    for x, y in loader:
        x, y = x.to(device), y.to(device)
        logits = model(x)
        loss = F.cross_entropy(logits, y)
        total += loss.item() * len(y)
        correct += (logits.argmax(1) == y).sum().item()
        count += len(y)
    return total / count, correct / count


# %% [markdown]
# The last piece walks through the epochs: train, validate, write down, print. It keeps a history
# for the curves.


# %%
def fit(model, optimizer, train_loader, val_loader, epochs, device):
    history = {"train_loss": [], "val_loss": [], "val_acc": []}
    for epoch in range(epochs):
        train_loss = train_epoch(model, train_loader, optimizer, device)
        val_loss, val_acc = evaluate(model, val_loader, device)
        for name, value in zip(history, (train_loss, val_loss, val_acc)):
            history[name].append(value)
        losses = f"train loss {train_loss:.4f}, val loss {val_loss:.4f}"
        print(f"epoch {epoch + 1}: {losses}, val acc {val_acc:.2%}")
    return history


# %% [markdown]
# ### Run it
#
# Seed, model, loaders, optimizer, in this order; we will keep to it in everything that follows.
# Each line shows the training loss, then loss and accuracy on the validation digits.

# %%
EPOCHS = 5

L.seed_everything(42, verbose=False)
model = MLP().to(device)
train_loader, val_loader, test_loader = make_loaders(session.digits.root)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
history = fit(model, optimizer, train_loader, val_loader, EPOCHS, device)

# %% [markdown]
# And now the test digits, which neither the training nor any decision of ours has seen:

# %% tags=["result"]
raw_loss, raw_accuracy = evaluate(model, test_loader, device)
print(f"test accuracy: {raw_accuracy:.2%}")

# %% [markdown]
# Two curves tell how it went. The training loss keeps falling, because the model sees those digits
# again and again. The validation loss is the one to trust. Small ups and downs in it are chance; if
# it rises for good while the training loss falls, more epochs only memorise.

# %%
plots.curves({"training": history["train_loss"], "validation": history["val_loss"]}, y="loss")

# %% [markdown]
# ### Where does the time go?
#
# The same number of training steps on batches of the same size, fed in three ways: batches that lie
# ready (pure arithmetic), from memory, and item by item. They run in turn, and each is compared with
# the first: so the ratios hold even where the clock does not.

# %%
from itertools import islice

from course_utils.views import in_turn

STEPS = 50
ready = list(islice(train_loader, STEPS))


def train_on(loader):
    model = MLP().to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    train_epoch(model, islice(loader, STEPS), optimizer, device)


in_turn(
    {
        "batches lie ready": lambda: train_on(ready),
        "from memory": lambda: train_on(train_loader),
        "item by item": lambda: train_on(item_by_item),
    },
    steps=STEPS,
    rounds=5,
)

# %% [markdown]
# Item by item, most of the time goes into opening pictures, not into learning. From memory, loading
# hardly shows. And the batches can be equal, as section 2 showed: only the waiting differs.

# %% [markdown]
# ### A variant that learns slowly
#
# Two hidden layers of 128, and plain SGD instead of Adam, with the same learning rate of 0.001.
# The functions stay as they are: model and optimizer are arguments. To see which of the two changes
# matters, the same model is trained with Adam as well.

# %% [markdown] tags=["question"]
# The same learning rate, 0.001, for SGD and for Adam. Where do they stand after five epochs?
#
# - Close together: the same rate makes steps of the same size
#   if: 0.7 * adam < sgd < 1.4 * adam
#   The rate is only a factor. SGD multiplies it by the gradient, Adam by something near 1.
# + The loss of SGD is still several times as high
#   if: sgd > 3 * adam
#   A rate that suits one optimizer says nothing about another one. The cell after next measures the reason.
# - SGD is a little ahead, as it is the simpler one
#   if: sgd < 0.7 * adam
#   With a rate that suits it, SGD can catch up with Adam. This rate does not suit it.
#
# read: SGD(?:.|\n)*?epoch 5: train loss [\d.]+, val loss (?P<sgd>[\d.]+)
# read: Adam, 128-128(?:.|\n)*epoch 5: train loss [\d.]+, val loss (?P<adam>[\d.]+)

# %%
val_losses = {"Adam, 128-256": history["val_loss"]}
for optimizer_class in (torch.optim.SGD, torch.optim.Adam):
    name = f"{optimizer_class.__name__}, 128-128"
    print(name)
    L.seed_everything(42, verbose=False)
    variant = MLP(hidden=(128, 128)).to(device)
    train_loader, val_loader, _ = make_loaders(session.digits.root)
    optimizer = optimizer_class(variant.parameters(), lr=1e-3)
    val_losses[name] = fit(variant, optimizer, train_loader, val_loader, EPOCHS, device)["val_loss"]

# %% [markdown]
# Compare the three curves: the two with Adam lie close together, whatever the width. SGD is far
# above them, still falling at the end.

# %%
plots.curves(val_losses, y="validation loss")

# %% [markdown]
# Why so slow? SGD moves a weight by learning rate times gradient, and gradients are small numbers.
# Adam divides by the gradient's usual size first, so that a step is about as large as the learning
# rate. Let us measure one step of each on the same batch:


# %% [markdown] tags=["question"]
# How much further than SGD does Adam move a weight in its first step?
#
# - Twice as far
#   if: adam < 5 * sgd
#   Then SGD would have needed two epochs where Adam needs one. The curves are much further apart.
# - Ten times as far
#   if: 5 * sgd <= adam < 50 * sgd
#   Nearer, but gradients of single weights are smaller than one thinks.
# + Hundreds of times as far
#   if: adam > 100 * sgd
#   Most gradients here are near a thousandth or less. SGD takes them as they are; Adam divides by their own size, and moves every weight by about the learning rate.
#
# read: SGD +moves a weight by (?P<sgd>\S+)
# read: Adam +moves a weight by (?P<adam>\S+)


# %%
def mean_step(optimizer_class):
    L.seed_everything(42, verbose=False)
    model = MLP(hidden=(128, 128)).to(device)
    optimizer = optimizer_class(model.parameters(), lr=1e-3)
    before = model.layers[1].weight.detach().clone()
    train_epoch(model, ready[:1], optimizer, device)
    return (model.layers[1].weight - before).abs().mean().item()


for optimizer_class in (torch.optim.SGD, torch.optim.Adam):
    print(f"{optimizer_class.__name__:4} moves a weight by {mean_step(optimizer_class):.1e}")

# %% [markdown]
# ## 6. Which lines are the idea?
#
# Here are the lines that train our model, each with its job. `IDEA` is the model and the loss: what
# a paper would print. All the rest is plumbing. It has to be right, it is nearly the same in every
# project, and nobody reads your code for it.

# %%
from course_utils.views import side_by_side

run = """
model = MLP().to(device)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
loop = [make_loaders, train_epoch, evaluate, fit, run]
side_by_side(loop)

# %% [markdown]
# ## 7. The refactor, one move at a time
#
# ### Move 1: the model gets a training step
#
# A `LightningModule` is an `nn.Module` that also knows how it is trained. The smallest one has two
# methods: `training_step` returns the loss of a batch, `configure_optimizers` returns the optimizer.
# The loop around them is the `Trainer`'s.


# %%
class SmallestMLP(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(  # the layers may live right here …
            nn.Flatten(),
            nn.Linear(784, 128),
            nn.ReLU(),
            nn.Linear(128, 256),
            nn.ReLU(),
            nn.Linear(256, 10),
        )

    def training_step(self, batch, batch_idx):  # was: the body of the loop in train_epoch
        x, y = batch  # already on the device
        return F.cross_entropy(self.layers(x), y)  # zero_grad, backward, step: the Trainer's

    def configure_optimizers(self):  # was: the line before fit(…)
        return torch.optim.Adam(self.parameters(), lr=1e-3)


# %% [markdown]
# Five batches are enough to see that it runs. No `.to(device)`, no `zero_grad`, no `backward`, no
# `step`: they still happen, in the order in which we wrote them. The proof below will check just
# that.

# %%
quiet = dict(logger=False, enable_checkpointing=False, enable_model_summary=False)
hardware = dict(accelerator=session.accelerator, devices=1)

trainer = L.Trainer(**hardware, **quiet, max_steps=5, enable_progress_bar=False)
trainer.fit(SmallestMLP(), train_loader)
print("steps taken:", trainer.global_step)

# %% [markdown]
# ### Move 2: around a model that exists
#
# For the port we keep our `MLP` as it is and put a LightningModule *around* it: then both sides of
# the proof train the very same class. `validation_step` and `test_step` take over `evaluate`,
# `self.log` the averages and the printing, `torchmetrics` the counting of right answers. In a
# training step, `on_epoch=True` asks for the mean over the epoch; elsewhere that is the default.

# %%
from torchmetrics.classification import MulticlassAccuracy

# %%


class LitMLP(L.LightningModule):
    def __init__(self, hidden: tuple[int, ...] = (128, 256), lr: float = 1e-3):
        super().__init__()
        self.save_hyperparameters()  # keeps hidden and lr in self.hparams
        self.model = MLP(hidden)
        # "micro": right answers over all digits (the default averages over the ten classes)
        self.val_acc = MulticlassAccuracy(10, average="micro")  # was: correct, count
        self.test_acc = MulticlassAccuracy(10, average="micro")

    def forward(self, x):
        return self.model(x)

    def training_step(self, batch, batch_idx):  # was: the body of train_epoch's loop
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.log("train_loss", loss, on_step=False, on_epoch=True)  # mean of the epoch
        return loss

    def validation_step(self, batch, batch_idx):  # was: evaluate(model, val_loader)
        self._evaluate(batch, "val", self.val_acc)

    def test_step(self, batch, batch_idx):  # was: evaluate(model, test_loader)
        self._evaluate(batch, "test", self.test_acc)

    def predict_step(self, batch, batch_idx):  # what trainer.predict collects
        x, _ = batch
        return self(x).argmax(1)

    def _evaluate(self, batch, stage, accuracy):
        x, y = batch
        logits = self(x)
        loss = F.cross_entropy(logits, y)
        accuracy(logits, y)
        self.log(f"{stage}_loss", loss)
        self.log(f"{stage}_acc", accuracy)

    def configure_optimizers(self):  # was: optimizer = torch.optim.Adam(…)
        return torch.optim.Adam(self.parameters(), lr=self.hparams.lr)


# %% [markdown]
# ### Move 3: the data gets a home
#
# `make_loaders` becomes a `LightningDataModule`. `prepare_data` runs once on each machine, so it
# may download, but must set nothing. `setup` runs in every process (one for each GPU) and builds the
# datasets. One method for each loader follows. `pad` adds empty pixels around a digit, for models
# that want other sizes; here it stays 0.

# %%
from course_utils.digits import find_mnist


class MNISTDataModule(L.LightningDataModule):
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


# %% [markdown]
# ### Move 4: the Trainer takes the loop
#
# What is left of `fit` are choices: which hardware, how many epochs, what to show. They are
# arguments now. `CourseProgress` is the course's own progress bar; it ends as a table that can be
# read later.

# %%
from course_utils.views import CourseProgress


def fit_with_lightning(lit, datamodule, epochs):
    trainer = L.Trainer(
        accelerator=session.accelerator,  # was: device, and every .to(device)
        devices=1,
        max_epochs=epochs,  # was: for epoch in range(epochs)
        callbacks=[CourseProgress()],  # was: print
        **quiet,
    )
    trainer.fit(lit, datamodule=datamodule)
    return trainer


# %%
L.seed_everything(42, verbose=False)
lit = LitMLP()
datamodule = MNISTDataModule()
trainer = fit_with_lightning(lit, datamodule, EPOCHS)

# %% [markdown]
# Compare the table with what our loop printed above: the same losses and the same accuracies, epoch
# by epoch. (Lightning counts and averages for us, and rounds differently when it prints.)
#
# `trainer.test` runs `test_step`. We call it on the training digits and on the test digits:

# %%
on_train = trainer.test(lit, dataloaders=datamodule.loader(datamodule.train), verbose=False)
on_test = trainer.test(lit, datamodule=datamodule, verbose=False)
print(f"training digits: {on_train[0]['test_acc']:.2%}, loss {on_train[0]['test_loss']:.4f}")
print(f"test digits:     {on_test[0]['test_acc']:.2%}, loss {on_test[0]['test_loss']:.4f}")

# %% [markdown]
# The model is better on digits that it has trained on. A large gap between the two lines is the sign
# of **overfitting**: part of what it learned holds only for the training digits.
#
# ### Old tutorials, today's flags
#
# Much that you find on the web was written for older versions. These names are gone. Lightning only
# answers that it does not know them; the table below says what they are called today.


# %%
# NBVAL_CHECK_OUTPUT
def refused(call, **flags):
    try:
        call(**flags)
    except TypeError as error:
        print(str(error).split(". Did you mean")[0])  # Python 3.13 and newer guess a name


refused(L.Trainer, gpus=1)
refused(L.Trainer, progress_bar_refresh_rate=20)
refused(L.Trainer, checkpoint_callback=False)
refused(trainer.test, model=lit, test_dataloaders=test_loader)

# %% [markdown]
# | old | today |
# |---|---|
# | `Trainer(gpus=1)` | `Trainer(accelerator="gpu", devices=1)` |
# | `Trainer(progress_bar_refresh_rate=20)` | `Trainer(callbacks=[TQDMProgressBar(refresh_rate=20)])`, from `lightning.pytorch.callbacks` |
# | `Trainer(checkpoint_callback=False)` | `Trainer(enable_checkpointing=False)` |
# | `trainer.test(test_dataloaders=…)` | `trainer.test(dataloaders=…)` |

# %% [markdown]
# ## 8. The proof
#
# Equal tables are a good sign, but they are rounded. Now the real test. `trace(model)` watches a
# training run without changing it: for every step it records the batch, the gradient and the
# weights. First our loop, from the same start as before:

# %%
from course_utils.parity import compare, trace

L.seed_everything(42, verbose=False)
model = MLP().to(device)
train_loader, val_loader, test_loader = make_loaders(session.digits.root)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
with trace(model) as raw:
    fit(model, optimizer, train_loader, val_loader, EPOCHS, device)

# %% [markdown]
# Then Lightning. The model inside it is `lit.model`, the same class, built after the same seed.

# %%
L.seed_everything(42, verbose=False)
lit = LitMLP()
with trace(lit.model) as port:
    fit_with_lightning(lit, MNISTDataModule(), EPOCHS)

# %% [markdown]
# `compare` goes through both records step by step. The picture shows the two losses on top of each
# other, one line drawn thick so that you can see both. (The seconds above are longer than in the first table, because the
# trace reads every gradient and every weight after each step.)

# %%
report = compare(raw, port)
report

# %% [markdown]
# And the same as a check, for a test of your own: it stops here unless the two are identical.

# %% tags=["verdict"]
# NBVAL_CHECK_OUTPUT
report.assert_identical()
print(report.verdict)

# %% [markdown]
# **Identical** means: not nearly, not rounded. Every batch, every gradient and every weight after
# every step is the same number in both. So the refactor changed who does the work, and nothing of
# what is computed.
#
# ### What the doctor says to a mistake
#
# A proof that cannot fail proves nothing. So let us break the loop as people do: forget
# `zero_grad()`. It runs through one epoch and raises no error.


# %%
def forgetful_epoch(model, loader, optimizer):
    for x, y in loader:
        loss = F.cross_entropy(model(x.to(device)), y.to(device))
        loss.backward()
        optimizer.step()


L.seed_everything(42, verbose=False)
broken = MLP().to(device)
train_loader, _, _ = make_loaders(session.digits.root)
with trace(broken) as forgetful:
    forgetful_epoch(broken, train_loader, torch.optim.Adam(broken.parameters(), lr=1e-3))

# %% [markdown] tags=["question"]
# The loop never calls `zero_grad()`. At which step do its gradients first differ from Lightning's?
#
# - Step 1
#   if: step == 1
#   At step 1 there is no old gradient yet that could be left over. The first step is right.
# + Step 2
#   if: step == 2
#   Step 2 adds its gradient to that of step 1, and so on. One good step is also why a quick look at a single batch does not find this mistake.
# - Only after some hundred steps, when enough has piled up
#   if: step > 2
#   It takes long to *see* it in the loss. In the gradient it is there at once.
#
# read: in the gradient \(layers.1.weight\), at step (?P<step>\d+)

# %%
print(compare(forgetful, port, names=("forgetful loop", "Lightning")))

# %% [markdown]
# The doctor names the first step that differs, what differs in it, and the usual cause. (It also notes
# that this loop ran for one epoch only.) It works the same way on loops of your own: put
# `with trace(model)` around each of the two runs, and `compare` them.

# %% [markdown]
# ## 9. What you gained, and what it cost
#
# Left our loop, right its port. Each line on the left says what took it over; "by itself" means
# that you cannot forget it any more. Count the lines of plumbing on both sides below.

# %%
side_by_side(loop, [MNISTDataModule, LitMLP, fit_with_lightning])

# %% [markdown]
# The port is not shorter: see the last line of the table. The data part even grew, it is a class
# now. That is not the gain. Look at what went to zero: mode switching and gradient, the lines that
# are easy to forget. What is left is *declared*, in places with names.
#
# ### One flag
#
# And what is not there yet is often one argument away. Gradient clipping, for example, limits the
# length of the gradient; in our loop it would be a new line in the right place. Here it is a flag, and
# the doctor sees it work:

# %%
L.seed_everything(42, verbose=False)
clipped = LitMLP()
trainer = L.Trainer(
    **hardware, **quiet, enable_progress_bar=False, max_steps=100, gradient_clip_val=1.0
)
with trace(clipped.model) as clipped_port:
    trainer.fit(clipped, datamodule=MNISTDataModule())
print(compare(raw, clipped_port, names=("raw loop", "clipped port")))

# %% [markdown]
# ### The price: time
#
# The Trainer does more at each step than our loop: it calls hooks, logs, watches. For a model as
# small as this one that shows. We time the same steps through four loops. `Fabric` is Lightning's
# middle way: your own loop, with its devices and precisions. First our loop:


# %%
def raw_loop(batches):
    model = MLP().to(device)
    train_epoch(model, batches, torch.optim.Adam(model.parameters(), lr=1e-3), device)


# %% [markdown]
# Fabric keeps the loop and changes five lines: `setup` for model and optimizer, the same for the
# loader, `fabric.backward`, and no `.to(device)`. (On several devices `fabric.launch()` comes first.)

# %%
from lightning.fabric import Fabric


def fabric_loop(batches):
    fabric = Fabric(**hardware)
    model = MLP()
    model, optimizer = fabric.setup(model, torch.optim.Adam(model.parameters(), lr=1e-3))
    total = 0.0
    for x, y in fabric.setup_dataloaders(batches):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        fabric.backward(loss)
        optimizer.step()
        total += loss.item() * len(y)


# %% [markdown]
# And two Trainers: one stripped of all that it can do without (`barebones` logs nothing and shows
# nothing), and the one that this lesson uses.


# %%
def barebones(batches):
    L.Trainer(**hardware, max_epochs=1, barebones=True).fit(LitMLP(), batches)


def lesson_trainer(batches):
    trainer = L.Trainer(**hardware, **quiet, max_epochs=1, callbacks=[CourseProgress()])
    trainer.fit(LitMLP(), batches)


# %%
from course_utils.views import cost

cost(
    {
        "raw loop": raw_loop,
        "Fabric": fabric_loop,
        "Trainer(barebones=True)": barebones,
        "this lesson's Trainer": lesson_trainer,
    },
    loader=train_loader,
)

# %% [markdown]
# Read the ratios, not the milliseconds: those differ from machine to machine. The price is paid per
# step: take the raw loop's milliseconds from the Trainer's. The hooks do not know how large the
# model is, so the longer a step of your own model takes, the smaller that part of it.

# %% [markdown]
# ## 10. The results as pictures
#
# What does the model say about ten test digits? Blue titles are right; an orange one would be wrong.

# %%
test_digits = datamodule.test
lit = lit.to("cpu").eval()
with torch.no_grad():
    logits = lit(test_digits.images)
guesses = logits.argmax(1)
plots.digit_grid(
    test_digits.images[:10],
    titles=[f"says {guess}" for guess in guesses[:10].tolist()],
    right=(guesses == test_digits.labels)[:10].tolist(),
)

# %% [markdown]
# The **confusion matrix** counts what is taken for what. The right answers stand on the diagonal,
# uncoloured. Each other number is a kind of mistake; the darker, the more of it. Can you find the
# 4s and the 9s?

# %%
from torchmetrics.functional.classification import multiclass_confusion_matrix

matrix = multiclass_confusion_matrix(guesses, test_digits.labels, num_classes=10)
plots.confusion_matrix(matrix)

# %% [markdown]
# Last, the mistakes that the model was surest of. Some of these digits would fool you too; others
# are plain, and the model should have known.

# %%
plots.confident_mistakes(test_digits.images, test_digits.labels, logits)

# %% [markdown]
# ## Recap
#
# 1. A training step is forward, loss, `zero_grad`, `backward`, `step`; an epoch is one walk through
#    all batches.
# 2. Most lines of a loop are plumbing: the same in every project, and easy to get wrong.
# 3. `LightningModule` holds the idea, `LightningDataModule` the data, `Trainer` the loop.
# 4. `trace` and `compare` prove that the port computes the same, bit for bit; if it does not, they
#    say where it differs and why.
# 5. The price is time per step. It was measured here, on a small model, where it shows most.
#
# ## Common mistakes
#
# - **Softmax or ReLU on the logits** before `cross_entropy`, which takes the softmax by itself: no
#   error is raised, and the gradient is another one.
# - **Forgetting `zero_grad()`** in a raw loop: gradients add up. The doctor showed it.
# - **Averaging over batches** of unequal size: weigh each by its number of digits, as
#   `train_epoch` does and `self.log` does by itself.
# - **Building a model before seeding**: its first weights are then never the same twice.
# - **Setting attributes in `prepare_data`**: other processes never see them. That is `setup`'s job.
#
# ## Exercises
#
# Five exercises that check themselves, up to a port and a fault to mend:
# [exercises for lesson 1](exercises/01_mlp.ipynb).
#
# ## Read on
#
# - [LightningModule](https://lightning.ai/docs/pytorch/stable/common/lightning_module.html) and
#   [LightningDataModule](https://lightning.ai/docs/pytorch/stable/data/datamodule.html) in
#   Lightning's documentation.
# - [Reproducibility](https://pytorch.org/docs/stable/notes/randomness.html) in PyTorch's notes: what
#   makes two runs differ.
# - Kingma and Ba (2015), [Adam: a method for stochastic optimization](https://arxiv.org/abs/1412.6980).
