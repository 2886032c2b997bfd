# %% [markdown]
# # 2. The autoencoder: a system, its logs and its checkpoints
#
# {{badge}}
#
# > A network squeezes each digit into three numbers and draws it again. You log what it does, look inside, and take it apart.
#
# Swap two methods that look alike, and Lightning trains for two hundred steps, writes its logs, ends without an
# error, and has learned nothing at all:
#
# ```text
# MixedUp          0% of the pixels have changed
#   Diagnosis: gradient cut off
# ```
#
# You will build that mistake, and know how it came about. And the right way leads to a machine that invents
# digits from three numbers, which you can move by sliders.
#
# At the end of this lesson you will
# - have trained an autoencoder by hand and in Lightning, and proved both equal;
# - know what `forward` is for and what `training_step` is for, and have seen what happens when they are mixed up;
# - know what four flags of `self.log` do, and have read the logs back from CSV and TensorBoard files;
# - have seen inside: codes in space, walks between digits, pictures decoded from nothing but three numbers;
# - know what is in a checkpoint, three ways to use a trained model, and why files from strangers are dangerous.
#
# **Time**: about 3 minutes of computing on a laptop with full MNIST; half a minute with the sample.
#
# **Builds on**: [lesson 1](01_mlp.ipynb).

# %% tags=["setup"]
# {{setup}}

# %%
import lightning as L
import torch
from torch import nn
from torch.nn import functional as F

from course_utils.digits import MEAN, STD, MNISTDataModule
from course_utils.files import runs_folder
from course_utils.parity import compare, trace
from course_utils.session import start
from course_utils.views import plots

session = start(42)
device = session.device
written = runs_folder()  # where this lesson writes

# %% [markdown]
# ## 1. The data: each picture is its own answer
#
# The same digits as in lesson 1, but the labels are not used for training. The task is to draw the
# picture again after it has gone through a bottleneck of three numbers. `MNISTDataModule` is the one
# that you wrote in lesson 1.

# %%
# NBVAL_CHECK_OUTPUT
datamodule = MNISTDataModule()
datamodule.setup()
images, labels = next(iter(datamodule.train_dataloader()))
print("images:", list(images.shape))
print("labels:", list(labels.shape), "(we only look at them)")

# %%
shown = datamodule.test.images[:8]
plots.digit_grid(shown)

# %% [markdown]
# The pixels are normalised, as (pixel - MEAN) / STD, to mean 0 and standard deviation 1 over all training
# digits.

# %% [markdown] tags=["question"]
# A model answers 0 for every pixel. What is its mean squared error (MSE)?
#
# - 0, for 0 is the mean
#   if: error < 0.05
#   Right on average is not right: each pixel is off by as much as it lies away from the mean.
# - About 0.1
#   if: 0.05 <= error < 0.5
#   With pixels from 0 to 1 that would be the size of it. These are normalised.
# + About 1
#   if: 0.9 < error < 1.1
#   Who always answers the mean has the variance as error, and the pixels were scaled to standard deviation 1.
#
# read: MSE of answering 0 everywhere: (?P<error>[\d.]+)

# %%
print(f"MEAN {MEAN}, STD {STD}")
print(f"MSE of answering 0 everywhere: {(datamodule.test.images**2).mean():.3f}")

# %% [markdown]
# An MSE of 1 is the error of knowing nothing: keep that number in mind.
#
# ## 2. The model, by hand
#
# An **encoder** turns 784 pixels into a **code** of three numbers, a **decoder** turns three numbers
# into 784 pixels. `Unflatten` is `Flatten` backwards: it folds the row of 784 into a picture again.


# %%
class Autoencoder(nn.Module):
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


# %% [markdown]
# Before any training, send one batch through and look at the shape after each half. The code has no
# ReLU at its end: its numbers must be free to be negative.

# %%
# NBVAL_CHECK_OUTPUT
model = Autoencoder()
code = model.encoder(images)
print("pictures:       ", list(images.shape))
print("codes:          ", list(code.shape))
print("reconstructions:", list(model.decoder(code).shape))

# %% [markdown]
# The loss compares the reconstruction with the picture itself, pixel by pixel. Untrained, it is near
# 1, the error of knowing nothing. One step of Adam on this batch, and it is a little lower.

# %%
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
before = F.mse_loss(model(images), images)
optimizer.zero_grad()
before.backward()
optimizer.step()
after = F.mse_loss(model(images), images)
print(f"loss before the step {before.item():.4f}, after it {after.item():.4f}")

# %% [markdown]
# ## 3. The loop
#
# You know this loop from lesson 1. Two things are new: the picture is both input and target, and
# after each epoch we keep the reconstructions of eight test digits, to watch them grow.


# %%
def train_epoch(model, loader, optimizer, device):
    model.train()
    total, count = 0.0, 0
    for x, _ in loader:
        x = x.to(device)
        loss = F.mse_loss(model(x), x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(x)
        count += len(x)
    return total / count


# %%
@torch.no_grad()
def evaluate(model, loader, device):
    model.eval()
    total, count = 0.0, 0
    for x, _ in loader:
        x = x.to(device)
        loss = F.mse_loss(model(x), x)
        total += loss.item() * len(x)
        count += len(x)
    return total / count


# %%
def fit(model, optimizer, train_loader, val_loader, epochs, shown, device):
    history = {"train_loss": [], "val_loss": []}
    pictures = []
    for epoch in range(epochs):
        train_loss = train_epoch(model, train_loader, optimizer, device)
        val_loss = evaluate(model, val_loader, device)
        history["train_loss"].append(train_loss)
        history["val_loss"].append(val_loss)
        with torch.no_grad():
            pictures.append(model(shown.to(device)).cpu())
        print(f"epoch {epoch + 1:2}: train loss {train_loss:.4f}, val loss {val_loss:.4f}")
    return history, pictures


# %% [markdown]
# Lesson 1 showed that `trace` changes nothing in a loop. So this time we put it around the first run
# already, and need no second one for the proof.

# %%
EPOCHS = 10

L.seed_everything(42, verbose=False)
model = Autoencoder().to(device)
datamodule = MNISTDataModule()
datamodule.setup()
loaders = datamodule.train_dataloader(), datamodule.val_dataloader()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
with trace(model) as raw:
    history, pictures = fit(model, optimizer, *loaders, EPOCHS, shown, device)

# %% [markdown]
# Look at how the pictures come into being, from top to bottom. Which digits are there first? Which stay
# another digit to the end? Fine strokes never come back: three numbers are not enough for them.

# %%
epochs_shown = (1, 2, 5, EPOCHS)
rows = {"original": shown} | {f"epoch {e}": pictures[e - 1] for e in epochs_shown}
plots.image_rows(rows)

# %%
plots.curves({"training": history["train_loss"], "validation": history["val_loss"]}, y="MSE")

# %% [markdown]
# ## 4. Which lines are the idea?
#
# Look for `IDEA`: the loss, once for training and once for validation. The rest is nearly word for
# word what stood in lesson 1: another model, the same plumbing.

# %%
from course_utils.views import side_by_side

run = """
model = Autoencoder().to(device)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
loop = [train_epoch, evaluate, fit, run]
side_by_side(loop)

# %% [markdown]
# ## 5. The refactor: a system, not a model
#
# A `LightningModule` holds more than a network: the loss, the optimizer, what is logged, and what
# the finished thing does for those who use it. That is why Lightning calls it a **system**. Ours
# has a model inside and two doors:
#
# - `training_step` is the door for the Trainer. It works with what the model gives, as it is.
# - `forward` is the door for users, the one behind `lit(x)`. A user wants pictures to look at or to
#   save: values from 0 to 1, in the 256 grey levels that a picture file has.


# %%
class LitAutoEncoder(L.LightningModule):
    def __init__(self, code_size: int = 3, lr: float = 1e-3):
        super().__init__()
        self.save_hyperparameters()  # keeps code_size and lr, also in checkpoints
        self.model = Autoencoder(code_size)

    def forward(self, x):  # for users: pictures that can be shown or saved
        pixels = self.model(x) * STD + MEAN  # undo the normalisation
        return (255 * pixels.clamp(0, 1)).round() / 255

    def training_step(self, batch, batch_idx):  # was: the body of train_epoch's loop
        loss = self._loss(batch)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):  # was: evaluate(model, val_loader)
        self.log("val_loss", self._loss(batch))

    def test_step(self, batch, batch_idx):
        self.log("test_loss", self._loss(batch))

    def predict_step(self, batch, batch_idx):  # what trainer.predict collects
        x, _ = batch
        return self(x)

    def _loss(self, batch):
        x, _ = batch
        return F.mse_loss(self.model(x), x)

    def configure_optimizers(self):  # was: optimizer = torch.optim.Adam(…)
        return torch.optim.Adam(self.parameters(), lr=self.hparams.lr)


# %% [markdown]
# ### When the doors are mixed up
#
# What if `training_step` takes the users' door, and compares `self(x)` with the picture? Nothing
# looks wrong, and no error comes. Train both for 200 steps:


# %%
class MixedUp(LitAutoEncoder):
    def _loss(self, batch):
        x, _ = batch
        return F.mse_loss(self(x), x * STD + MEAN)  # self(x): rounded to grey levels


hardware = dict(accelerator=session.accelerator, devices=1)
quiet = dict(logger=False, enable_checkpointing=False, enable_model_summary=False)

# %% [markdown] tags=["question"]
# The mixed-up one trains on pictures rounded to 256 grey levels. What has it learned after 200 steps?
#
# + Nothing: not one pixel has changed
#   if: mixed == 0
#   Rounding has slope zero, so all gradients behind it are zero, and Adam does not move. No error, no warning.
# - Nearly the same: a 256th more or less does not matter
#   if: mixed > 50
#   For the picture it does not. But training needs to know where it would get better, and a staircase is flat wherever one stands.
# - A little less, as rounding adds some noise to the gradient
#   if: 0 < mixed <= 50
#   Noise would be random. What rounding does to the gradient is not random at all.
#
# read: MixedUp +(?P<mixed>\d+)% of the pixels

# %%
after_200_steps, traces = {}, {}
for system in (LitAutoEncoder, MixedUp):
    L.seed_everything(42, verbose=False)
    lit = system()
    untrained = lit(shown)
    trainer = L.Trainer(**hardware, **quiet, max_steps=200, enable_progress_bar=False)
    name = system.__name__
    with trace(lit.model) as traces[name]:
        trainer.fit(lit, MNISTDataModule())
    after_200_steps[name] = lit.cpu()(shown).detach()
    changed = (after_200_steps[name] != untrained).float().mean()
    print(f"{name:14} {changed:4.0%} of the pixels have changed")

# %%
plots.image_rows(after_200_steps)

# %% [markdown]
# The mixed-up system still gives what it gave untrained. The gradient of rounding is zero everywhere, and so
# every gradient behind it is zero too. The port doctor compares it with our loop, and sees it at the
# first step:

# %%
print(compare(raw, traces["MixedUp"], names=("raw loop", "mixed-up port")))

# %% [markdown]
# The rule: `forward` may do for users whatever they need; `training_step` uses the model. They may
# share code where both need the same thing, as in lesson 1, where `forward` just returned the logits.

# %% [markdown]
# ## 6. Logging
#
# ### What the flags of `self.log` do
#
# One number, the training loss, logged four times under four names, each time with other flags. Two
# epochs of four batches; with `log_every_n_steps=2` the `CSVLogger` is asked at every second step.

# %%
from lightning.pytorch.loggers import CSVLogger

from course_utils.views import CourseProgress


class FourFlags(LitAutoEncoder):
    def training_step(self, batch, batch_idx):
        loss = self._loss(batch)
        self.log("by_step", loss, on_step=True, on_epoch=False)  # the default in training_step
        self.log("by_epoch", loss, on_step=False, on_epoch=True)
        self.log("both", loss, on_step=True, on_epoch=True, prog_bar=True)
        self.log("only_bar", loss, prog_bar=True, logger=False)
        return loss


# %%
csv_logger = CSVLogger(written, name="four_flags")
trainer = L.Trainer(
    **hardware,
    max_epochs=2,
    limit_train_batches=4,
    limit_val_batches=0,
    log_every_n_steps=2,
    logger=csv_logger,
    callbacks=[CourseProgress(only_prog_bar=True)],
    enable_checkpointing=False,
    enable_model_summary=False,
)
L.seed_everything(42, verbose=False)
trainer.fit(FourFlags(), MNISTDataModule())

# %% [markdown]
# Above, the progress table: it shows what asked for `prog_bar=True`. `both` is the mean over the epoch;
# `only_bar` was logged by step only, and so it is the loss of the epoch's last batch.
#
# Below, the table that the logger wrote, read back with Python's `csv`:

# %%
import csv
from pathlib import Path


def read_metrics(logger):
    with open(Path(logger.log_dir) / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def show(rows, columns):
    print("".join(f"{name:>12}" for name in columns))
    for row in rows:
        print("".join(f"{row[name][:7]:>12}" for name in columns))


# %% [markdown] tags=["question"]
# Two epochs of four batches, and the logger is asked at every second step. How many rows has its table?
#
# - Four: two steps in each of the two epochs
#   if: len(text.strip().splitlines()) == 5
#   Those are the rows by step. A mean over the epoch is known only when the epoch is over, and needs a place.
# + Six
#   if: len(text.strip().splitlines()) == 7
#   Four rows for steps, and one for the means of each epoch: so cells stay empty, and who plots the file has to skip them.
# - Eight: one for each batch
#   if: len(text.strip().splitlines()) == 9
#   `self.log` is called eight times, but `log_every_n_steps=2` lets every second call through.
#
# read: by_step +by_epoch

# %%
rows = read_metrics(csv_logger)
show(rows, ["epoch", "step", "by_step", "by_epoch", "both_step", "both_epoch"])

# %% [markdown]
# Read it column by column. `by_step` has the loss of single batches, every second step. `by_epoch`
# has one number an epoch, the mean over it. `both` became two columns, `both_step` and `both_epoch`.
# And `only_bar` is missing: `logger=False`. A cell stays empty where nothing was logged. (Lightning counts
# epochs and steps from 0: `step` 1 is the second. The mean of an epoch gets a row of its own.)
#
# | flag | what it does | default in `training_step` | in `validation_step`, `test_step` |
# |---|---|---|---|
# | `on_step` | the value of this batch, every `log_every_n_steps` | `True` | `False` |
# | `on_epoch` | the mean over the epoch, each batch weighed by its size | `False` | `True` |
# | `prog_bar` | shows it in the progress bar | `False` | `False` |
# | `logger` | sends it to the logger | `True` | `True` |

# %% [markdown]
# ### Pictures in the log
#
# `self.log` takes numbers. For anything else, `self.logger.experiment` is the logger's own object;
# with the `TensorBoardLogger` it is TensorBoard's writer, which knows `add_images`. This hook runs
# after each validation, and is the port of `pictures.append(…)` in our loop.

# %%
from lightning.pytorch.loggers import TensorBoardLogger


class WithPictures(LitAutoEncoder):
    def on_validation_epoch_end(self):  # was: pictures.append(…)
        if self.trainer.sanity_checking:  # two batches before training starts: no pictures yet
            return
        pictures = self(shown.to(self.device))
        epoch = self.current_epoch + 1
        self.logger.experiment.add_images("reconstructions", pictures, epoch)


# %% [markdown]
# Several loggers work side by side: the first in the list is `self.logger`. `ModelCheckpoint` saves
# the model; we open its file in section 12.

# %%
from lightning.pytorch.callbacks import ModelCheckpoint


def make_loggers(folder):
    tensorboard = TensorBoardLogger(
        folder,
        name="tensorboard",
        default_hp_metric=False,  # else there is an empty curve, hp_metric
    )
    return [tensorboard, CSVLogger(folder, name="csv")]


def fit_with_lightning(lit, datamodule, epochs):
    trainer = L.Trainer(
        accelerator=session.accelerator,  # was: device, and every .to(device)
        devices=1,
        max_epochs=epochs,  # was: for epoch in range(epochs)
        logger=make_loggers(written),  # was: history
        callbacks=[CourseProgress(), ModelCheckpoint(monitor="val_loss")],  # was: print
        enable_model_summary=False,
    )
    trainer.fit(lit, datamodule=datamodule)
    return trainer


# %%
L.seed_everything(42, verbose=False)
lit = WithPictures()
with trace(lit.model) as port:
    trainer = fit_with_lightning(lit, MNISTDataModule(), EPOCHS)

# %% [markdown]
# The seconds in this table include the trace, which reads every gradient and every weight after each step. Section 8
# measures the same steps without it.
#
# ### Read back
#
# The CSV file has one row for each epoch's validation and one for its training. Plotted, it is the
# same curve as our loop's history:

# %%
tensorboard, csv_logger = trainer.loggers
rows = read_metrics(csv_logger)
logged = {
    name: [float(row[name]) for row in rows if row[name]] for name in ("train_loss", "val_loss")
}
plots.curves({"training": logged["train_loss"], "validation": logged["val_loss"]}, y="MSE")

# %% [markdown]
# TensorBoard's files are not text, but TensorBoard has a reader. Are the pictures in there? There
# should be one image for each epoch, under the name that we gave. (By default the reader keeps only
# four images of each name; 0 means all. The curve `epoch` is Lightning's own addition.)

# %%
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

events = EventAccumulator(tensorboard.log_dir, size_guidance={"images": 0}).Reload()
print("numbers:", events.Tags()["scalars"])
print("images: ", events.Tags()["images"])
print("epochs: ", [event.step for event in events.Images("reconstructions")])

# %% [markdown]
# An image is stored as the bytes of a PNG file. We open the last one, and compare it with what
# `lit(shown)` gives: `forward` rounds to 256 grey levels, so nothing was lost on the way. (Levels are compared as whole
# numbers: divided by 255 again, they can differ in the last bit between a GPU and the PNG reader.)

# %%
import io

import matplotlib.pyplot as plt

last = events.Images("reconstructions")[-1]
stored = torch.tensor(plt.imread(io.BytesIO(last.encoded_image_string)))
lit = lit.to(device).eval()
with torch.no_grad():
    now = lit(shown.to(device)).cpu()
read_back = stored[..., 0].reshape(28, 8, 28).permute(1, 0, 2)  # eight digits side by side
levels, levels_now = (255 * read_back).round(), (255 * now[:, 0]).round()
print("largest difference:", (levels - levels_now).abs().max().item(), "grey levels")
plots.image_rows({"lit(shown)": now, "read back": read_back})

# %% [markdown]
# To see it all in TensorBoard itself, put these two lines into a cell of their own, in Jupyter and in
# Colab alike. It opens below the cell, with the curves under *Scalars* and the pictures under
# *Images*, where a slider goes through the epochs.
#
# ```
# %load_ext tensorboard
# %tensorboard --logdir runs
# ```
#
# From a terminal, `python -m tensorboard.main --logdir runs` prints an address for your browser (with the
# Python that the course is installed in, and in the folder of this notebook). Each run of this
# notebook adds a folder `version_…` to `runs`; delete `runs` whenever you like.

# %% [markdown]
# ## 7. The proof
#
# Both runs are recorded already: our loop in section 3, Lightning in section 6, with two loggers,
# pictures and checkpoints. Does any of that change what is computed?

# %% [markdown] tags=["question"]
# One run was a bare loop. The other wrote two logs, decoded pictures after each epoch and saved checkpoints. At which step do they part?
#
# + Never
#   if: "identical" in verdict
#   Logs, pictures and files only look. That can be said here with confidence because it was compared.
# - After the first epoch: decoding pictures in between disturbs the random numbers
#   if: "different" in verdict and 'at step 1' not in text
#   It would, if it drew any. The decoder draws none, and each loader shuffles by a generator of its own.
# - At the first step, as Lightning first runs two batches of validation as a check
#   if: "different" in verdict and 'at step 1' in text
#   It does, but in evaluation mode and without gradients. What it has drawn, it puts back.
#
# read: (?P<verdict>. (identical|different))

# %%
report = compare(raw, port)
report

# %% tags=["verdict"]
# NBVAL_CHECK_OUTPUT
report.assert_identical()
print(report.verdict)

# %% [markdown]
# Equal weights must give equal errors. Three times the MSE on the test digits: our model with our
# `evaluate`, the ported model with our `evaluate`, and `trainer.test`, which averages by itself.

# %% tags=["result"]
test_loader = datamodule.test_dataloader()
raw_mse = evaluate(model.to(device), test_loader, device)
port_mse = evaluate(lit.model.to(device), test_loader, device)
by_trainer = trainer.test(lit, datamodule=MNISTDataModule(), verbose=False)[0]["test_loss"]
print(f"test MSE per pixel: {raw_mse:.4f}")
print(f"ported model:       {port_mse:.4f}, equal: {raw_mse == port_mse}")
print(f"trainer.test:       {by_trainer:.4f}")
model, lit = model.cpu().eval(), lit.cpu().eval()

# %% [markdown]
# ## 8. What you gained, and what it cost
#
# Left our loop, right the port. The pictures moved into a hook, the history into loggers. The port
# has more lines, and does more with them: it tests, predicts, gives pictures to its users, writes two logs
# that outlive the notebook, and keeps the best epoch in a file.

# %%
side_by_side(loop, [LitAutoEncoder, WithPictures, make_loggers, fit_with_lightning])

# %% [markdown]
# The cost, measured as in lesson 1: the same steps in turn. What do the loggers add?

# %%
import tempfile

from course_utils.views import cost


def raw_loop(batches):
    model = Autoencoder().to(device)
    train_epoch(model, batches, torch.optim.Adam(model.parameters(), lr=1e-3), device)


def trainer_alone(batches):
    trainer = L.Trainer(**hardware, **quiet, max_epochs=1, enable_progress_bar=False)
    trainer.fit(LitAutoEncoder(), batches)


def with_loggers(batches):
    with tempfile.TemporaryDirectory() as folder:
        choices = quiet | dict(logger=make_loggers(folder), callbacks=[CourseProgress()])
        L.Trainer(**hardware, **choices, max_epochs=1).fit(LitAutoEncoder(), batches)


# %%
cost(
    {"raw loop": raw_loop, "Trainer": trainer_alone, "with loggers and table": with_loggers},
    loader=datamodule.train_dataloader(),
)

# %% [markdown]
# The step of this model is about as short as the MLP's in lesson 1, so the Trainer's price shows
# again. The last row adds all that loggers and table do in a run of 100 steps: they make their files and
# write one row. In between the loggers are not asked, as all that we log is by epoch. Values logged by step
# would reach them every `log_every_n_steps` (50, unless you say otherwise).

# %% [markdown]
# ## 9. Is it any good?
#
# A number alone says little. The classical way to squeeze pictures into three numbers is principal
# component analysis (**PCA**): the three directions in which the training digits vary most. It is the
# best that any *linear* encoder and decoder can do on the training digits.
#
# `random_split` gave us a `Subset`: the whole `dataset`, and the `indices` of its part. `eigh` sorts the
# directions by how much the digits vary in them, the least first. Multiplying by `directions` encodes,
# multiplying by their transpose decodes.

# %%
digits, chosen = datamodule.train.dataset, datamodule.train.indices
train_images = digits.images[chosen].flatten(1)
test_images = datamodule.test.images.flatten(1)

mean = train_images.mean(0)
covariance = (train_images - mean).T @ (train_images - mean) / len(train_images)
directions = torch.linalg.eigh(covariance).eigenvectors[:, -3:]
pca_codes = (test_images - mean) @ directions
pca = mean + pca_codes @ directions.T

# %%
errors = {
    "the mean picture": F.mse_loss(mean.expand_as(test_images), test_images).item(),
    "PCA, 3 components": F.mse_loss(pca, test_images).item(),
    "autoencoder, 3 numbers": raw_mse,
}
gain = 1 - errors["autoencoder, 3 numbers"] / errors["PCA, 3 components"]
print(f"The autoencoder's error is {gain:.1%} below that of PCA.")
plots.bars(errors, x="test MSE per pixel", form="{:.3f}")

# %% [markdown]
# What those numbers mean to the eye: PCA can only add three fixed pictures to the mean, and so it
# smears. The ReLUs between the autoencoder's layers let it bend.

# %%
with torch.no_grad():
    rows = {
        "original": shown,
        "autoencoder": model(shown),
        "PCA": pca[:8].reshape(8, 1, 28, 28),
    }
plots.image_rows(rows)

# %% [markdown]
# ## 10. Looking inside
#
# From here on the decoder is asked for pictures again and again. This small function does it, with grey
# levels from 0 to 1 (and, unlike `forward`, without rounding).


# %%
@torch.no_grad()
def decode(codes):
    return (model.decoder(codes) * STD + MEAN).clamp(0, 1)


# %% [markdown]
# ### The codes in space
#
# Three numbers are a point in space. Here are 700 test digits, each drawn as its digit at the place
# of its code, seen from two sides. Nobody told the model what a label is. Still, equal digits tend to lie
# together: it helps to keep digits apart when one has to draw them from three numbers. Which ones stand off
# clearly, and which ones mix?

# %%
with torch.no_grad():
    codes = model.encoder(datamodule.test.images)
labels = datamodule.test.labels
plots.codes_3d(codes[:700], labels[:700])

# %% [markdown]
# ### A walk between two digits
#
# Take a 3 and a 0, those that the model draws best (the smallest error for their contrast), and walk from one
# code to the other in a straight line. Decode what lies on the way. Compare with mixing the two pictures
# themselves: there, both show through as ghosts.

# %%
with torch.no_grad():
    rest = model(datamodule.test.images) - datamodule.test.images
error = rest.var((1, 2, 3)) / datamodule.test.images.var((1, 2, 3))


def best_drawn(digit):
    return torch.where(labels == digit, error, torch.inf).argmin()


start, end = best_drawn(3), best_drawn(0)
share = torch.linspace(0, 1, 10).reshape(-1, 1)
walk = (1 - share) * codes[start] + share * codes[end]
pixels = datamodule.test.images * STD + MEAN
mixed = torch.lerp(pixels[start], pixels[end], share.reshape(-1, 1, 1, 1))
plots.image_rows({"codes mixed": decode(walk), "pixels mixed": mixed})

# %% [markdown]
# ### A slice through the space
#
# Hold the third number at its median, move the first two over the range where nine of ten codes lie, and
# decode each point. No picture of the data set was used for this: all of it comes out of the decoder.

# %%
low, high = codes.quantile(0.05, dim=0), codes.quantile(0.95, dim=0)
first, second = (torch.linspace(low[i], high[i], 11) for i in range(2))
grid = torch.cartesian_prod(second, first).flip(1)  # rows by code[1], columns by code[0]
third = codes[:, 2].median().expand(len(grid), 1)
decoded = decode(torch.cat([grid, third], dim=1))
plots.mosaic(decoded, first.tolist(), second.tolist(), x="code[0]", y="code[1]")

# %% [markdown]
# You see regions for some digits, and smooth change between them. In between lie pictures that are
# no digit at all: nothing in the loss asks the space between two digits to make sense.
#
# ### One number at a time
#
# In each row one number of the code moves from low to high while the other two stay at their
# medians.

# %%
middle = codes.median(dim=0).values
rows = {}
for number in range(3):
    moved = middle.repeat(10, 1)
    moved[:, number] = torch.linspace(low[number], high[number], 10)
    rows[f"code[{number}]"] = decode(moved)
plots.image_rows(rows)

# %% [markdown]
# In a running notebook you can do that by hand: three sliders, and the picture follows. (Where you
# read this without a kernel, the picture above has to do.)

# %%
from course_utils.views import code_sliders

code_sliders(decode, low, high, start=middle)

# %% [markdown]
# ## 11. Three ways to use it
#
# ### Its parts
#
# The encoder alone turns a picture into a code. Such a code is called an **embedding**, and it can be
# compared, searched and sorted. Here are five test digits and, in each row, the five *training*
# digits whose codes lie nearest.

# %%
encoder = lit.model.encoder
asked, library = datamodule.test.images[:500], digits.images[chosen]
with torch.no_grad():
    library_codes = encoder(library)
    nearest = torch.cdist(encoder(asked), library_codes).topk(5, largest=False).indices
rows = {f"test digit {i}": torch.cat([asked[i : i + 1], library[nearest[i]]]) for i in range(5)}
plots.image_rows(rows, titles=["asked", *(f"nearest {n}" for n in range(1, 6))])

# %% [markdown]
# How often is the neighbour the same digit? A yardstick is needed: the same search by PCA's three numbers,
# and by all 784 pixels.


# %% [markdown] tags=["question"]
# In which space are the five nearest neighbours most often the same digit?
#
# - The autoencoder's three numbers: it has learned what matters
#   if: learned > pixels
#   It has learned what matters for *drawing* again. Some of what tells a 4 from a 9 was too fine to keep.
# + All 784 pixels
#   if: pixels > learned > pca
#   Squeezing loses something. Codes are for when 784 numbers are too many; of those who have only three, the trained ones tell digits apart better.
# - PCA's three numbers: they are the best that three numbers can be
#   if: pca > learned
#   The best that three numbers can be by a *linear* map, for the squared error.
#
# read: autoencoder, 3 numbers +(?P<learned>\d+)%
# read: PCA, 3 numbers +(?P<pca>\d+)%
# read: 784 pixels +(?P<pixels>\d+)%


# %%
def same_digit(asked, library):
    nearest = torch.cdist(asked, library).topk(5, largest=False).indices
    return (digits.labels[chosen][nearest] == labels[: len(asked), None]).float().mean()


spaces = {
    "autoencoder, 3 numbers": (codes[:500], library_codes),
    "PCA, 3 numbers": (pca_codes[:500], (train_images - mean) @ directions),
    "784 pixels": (test_images[:500], train_images),
}
for name, (some, many) in spaces.items():
    print(f"{name:24}{same_digit(some, many):.0%} of the neighbours are the same digit")

# %% [markdown]
# All pixels tell digits apart better. But of those who have only three numbers, the autoencoder keeps
# more of what makes digits alike, and it has never seen a label.
#
# The decoder alone is the opposite: an image generator. Give it three numbers from the range of the
# codes. Some of the pictures are digits, some are not: random points also fall where no digit has its
# code, and nothing in the loss says what to draw there.

# %%
generator = torch.Generator().manual_seed(7)
invented = low + (high - low) * torch.rand(10, 3, generator=generator)
plots.digit_grid(decode(invented))

# %% [markdown]
# ### The whole, by `forward`
#
# `lit(x)` is the users' door: normalised digits in, pictures with values from 0 to 1 out. And
# `trainer.predict` calls `predict_step` on all batches of a loader, on whatever device there is.

# %%
# NBVAL_CHECK_OUTPUT
predictions = torch.cat(trainer.predict(lit, datamodule.val_dataloader()))
levels = 255 * predictions
print("between 0 and 1:  ", 0 <= predictions.min().item() <= predictions.max().item() <= 1)
print("whole grey levels:", torch.allclose(levels, levels.round(), atol=1e-4))

# %% [markdown]
# ### Exported
#
# The third way leaves Python classes behind: `torch.export` writes down what the decoder computes, as
# a graph, which can be saved and run where your code is not. A later lesson does that in full; here is
# a first taste. It is shown two codes, and told that their number may change.

# %%
# NBVAL_CHECK_OUTPUT
decoder = lit.model.decoder
any_number = ({0: torch.export.Dim("batch")},)
program = torch.export.export(decoder, (torch.zeros(2, 3),), dynamic_shapes=any_number)
with torch.no_grad():
    equal = torch.allclose(program.module()(invented), decoder(invented), atol=1e-6)
print(f"exported program and decoder agree on {len(invented)} codes:", equal)

# %% [markdown]
# ## 12. What is in a checkpoint?
#
# `ModelCheckpoint` kept the epoch with the lowest validation loss, in one file (`lit`, which we have used so
# far, has the weights of the *last* epoch). The file holds a dictionary; let us look into it.

# %% [markdown] tags=["question"]
# A checkpoint is for going on after a break. What does it *not* hold?
#
# - Adam's averages
#   if: "optimizer_states" not in text
#   They are in it. With new ones Adam's first steps would be others: to go on is more than to have the weights.
# + The state of the random generators
#   if: "rng" not in text and "random" not in text
#   So after a break the digits come in another order, unless somebody saves it. Lesson 4 does.
# - The numbers with which the module was built
#   if: "hyper_parameters" not in text
#   `save_hyperparameters` has put them there, so that the module can be built again without being told how.
#
# read: state_dict +OrderedDict

# %%
path = trainer.checkpoint_callback.best_model_path
print(Path(path).name, f"({Path(path).stat().st_size:,} bytes)")
checkpoint = torch.load(path, weights_only=True)
for key, value in checkpoint.items():
    print(f"{key:32}{type(value).__name__:14}", end="")
    print(value if isinstance(value, (int, str)) else f"{len(value)} entries")
print(f"best epoch: {checkpoint['epoch'] + 1}, as Lightning counts from 0")

# %% [markdown]
# What the Trainer needs to go on, by `trainer.fit(lit, datamodule, ckpt_path=path)`: weights, the
# optimizer's averages (`optimizer_states`), epoch and step, the callbacks' own memory. Not in there is the
# state of the random generators, so the order of the digits would begin anew. And there are
# `hyper_parameters`, put there by `save_hyperparameters`: with them the module can be built again without
# being told how.

# %%
# NBVAL_CHECK_OUTPUT
print(checkpoint["hyper_parameters"])
for name, tensor in checkpoint["state_dict"].items():
    print(f"{name:24}{list(tensor.shape)}")

# %% [markdown]
# ### Two ways to load it
#
# `load_from_checkpoint` builds the module from its hyperparameters and fills in the weights. Plain
# PyTorch can do the same: build, `torch.load`, `load_state_dict`. Here it goes right into the network
# without Lightning; the names lose the `model.` that the system put in front.

# %%
by_lightning = LitAutoEncoder.load_from_checkpoint(
    path, map_location="cpu", weights_only=True
).eval()

by_torch = Autoencoder(checkpoint["hyper_parameters"]["code_size"]).eval()
state = {name.removeprefix("model."): t.cpu() for name, t in checkpoint["state_dict"].items()}
_ = by_torch.load_state_dict(state)

# %%
# NBVAL_CHECK_OUTPUT
pairs = zip(by_lightning.model.parameters(), by_torch.parameters(), strict=True)
print("equal weights:", all(torch.equal(a, b) for a, b in pairs))
with torch.no_grad():
    print("equal outputs:", torch.equal(by_lightning.model(shown), by_torch(shown)))

# %% [markdown]
# ### Why `weights_only=True` matters
#
# A checkpoint is a *pickle*, and a pickle can hold more than data: it can ask for any function to be
# called while it is read. Here is a file that asks for `print`. It could have asked to delete your
# files.


# %%
class Trojan:
    def __reduce__(self):  # what pickle should call to build this object again
        return print, ("This line was printed by the file itself, while it was being read.",)


torch.save({"state_dict": {}, "surprise": Trojan()}, written / "from_a_stranger.ckpt")
_ = torch.load(written / "from_a_stranger.ckpt", weights_only=False)

# %% [markdown]
# With `weights_only=True`, which has been the default since PyTorch 2.6, only tensors and plain data are
# read. Anything else is refused before it can run:

# %%
# NBVAL_CHECK_OUTPUT
try:
    torch.load(written / "from_a_stranger.ckpt", weights_only=True)
except Exception as error:
    print(f"refused: {type(error).__name__}")

# %% [markdown]
# `load_from_checkpoint` takes the same argument. Say it there too: for files at web addresses, Lightning
# does not make it the default.
#
# This is also why hyperparameters should be numbers, strings and tuples. If you pass whole networks to a
# module, write `save_hyperparameters(ignore=["encoder"])`, or its checkpoint will be refused as well; and
# give the network again when you load it: `load_from_checkpoint(path, encoder=…)`.

# %% [markdown]
# ## Recap
#
# 1. An autoencoder is its own teacher: input and target are the same picture, and the bottleneck in
#    between has to learn what matters.
# 2. A `LightningModule` is a system: `training_step` is the Trainer's door, `forward` the users'.
# 3. `self.log` needs to know when (`on_step`, `on_epoch`) and where to (`prog_bar`, `logger`); what
#    is no number goes through `self.logger.experiment`.
# 4. Encoder, decoder, `forward`, exported program: a trained system is used in parts or whole.
# 5. A checkpoint is a dictionary of weights, states and hyperparameters. Load with
#    `weights_only=True`.
#
# ## Common mistakes
#
# - **Training through `forward`** when it rounds, clamps or detaches: the gradient is cut, and no
#   error is raised. Section 5 showed it.
# - **Printing a training loss logged by step** as if it were the epoch's: it is the loss of one
#   batch. Ask for `on_epoch=True`.
# - **Looking for `train_loss` in the log** after logging it both ways: there it is called
#   `train_loss_step` and `train_loss_epoch`.
# - **A ReLU at the end of the encoder or the decoder**: codes, and normalised pixels, must be
#   free to be negative.
# - **Networks as hyperparameters**: the checkpoint then names your classes, and `weights_only=True`
#   refuses it.
#
# ## Exercises
#
# Six exercises that check themselves, up to a denoiser to port and half a digit to guess:
# [exercises for lesson 2](exercises/02_autoencoder.ipynb).
#
# ## Read on
#
# - [Logging](https://lightning.ai/docs/pytorch/stable/extensions/logging.html) and
#   [checkpointing](https://lightning.ai/docs/pytorch/stable/common/checkpointing_basic.html) in
#   Lightning's documentation.
# - [TensorBoard in notebooks](https://www.tensorflow.org/tensorboard/tensorboard_in_notebooks).
# - Hinton and Salakhutdinov (2006), [Reducing the dimensionality of data with neural
#   networks](https://www.cs.toronto.edu/~hinton/science.pdf): autoencoders against PCA, on these digits.
