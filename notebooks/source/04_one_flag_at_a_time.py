# %% [markdown]
# # 4. One flag at a time
#
# {{badge}}
#
# > What the refactor pays back: each flag of the Trainer beside the raw lines that it replaces, and a proof that both do the same.
#
# A run that took days is killed by a power cut. Whoever resumes it gets another network, because a schedule or the order of
# the digits was forgotten in the file. No error says so. Here you pull the plug yourself, and go on:
#
# ```text
# power cut after 90 steps
# from step 80 to 160, difference from no interruption: 0.0
# ```
#
# Not nearly the same weights: the same. And a learning rate that was gone after thirty batches, because one word was wrong, gets
# its diagnosis as well.
#
# At the end of this lesson you will
# - have replaced raw lines by flags, for accumulation, clipping, schedules and precision, and proved each time that nothing else changed;
# - have killed a run, resumed it, and ended at the same weights, bit for bit; and know what one must not forget when doing that by hand;
# - know the flags that find mistakes early, and what each of them shows;
# - have overridden hooks, trained two networks by manual optimization, and met Fabric, the rung in between.
#
# **Time**: about 1 minute of computing on a laptop, with full MNIST or with the sample.
#
# **Builds on**: lessons [1](01_mlp.ipynb), [2](02_autoencoder.ipynb) and [3](03_lenet.ipynb).

# %% tags=["setup"]
# {{setup}}

# %%
import inspect
from difflib import ndiff
from itertools import islice
from pathlib import Path

import lightning as L
import torch
from torch import nn
from torch.nn import functional as F

from course_utils.digits import MNISTDataModule, ShuffleSampler, seeded
from course_utils.files import runs_folder
from course_utils.models import MLP, LitMLP
from course_utils.parity import compare, trace
from course_utils.session import start
from course_utils.views import plots

session = start(42)
device = session.device
written = runs_folder()  # where this lesson writes

# %% [markdown]
# ## 1. The loop to start from
#
# The digits and the MLP of lesson 1. Short runs are enough to prove a flag: two epochs of 40 batches each.

# %%
datamodule = MNISTDataModule()
datamodule.setup()
plots.digit_grid(datamodule.test.images[:10], titles=datamodule.test.labels[:10].tolist())

# %%
EPOCHS, BATCHES = 2, 40


def batches(loader, epochs=EPOCHS, count=BATCHES):
    for _ in range(epochs):
        for x, y in islice(loader, count):
            yield x.to(device), y.to(device)


# %%
def base(model, loader):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for x, y in batches(loader):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


# %% [markdown]
# Each flag below is tried in the same way. A raw loop and a Trainer with the flag start alike; both are
# traced; the port doctor compares them.

# %%
hardware = dict(accelerator=session.accelerator, devices=1)
quiet = dict(logger=False, enable_checkpointing=False, enable_model_summary=False)
quiet |= dict(enable_progress_bar=False)
short = dict(max_epochs=EPOCHS, limit_train_batches=BATCHES, limit_val_batches=0)


def run_raw(loop):
    L.seed_everything(42, verbose=False)
    model = MLP().to(device)
    datamodule = MNISTDataModule()
    datamodule.setup()
    with trace(model) as record:
        loop(model, datamodule.train_dataloader())
    return record


# %%
def run_port(system=LitMLP, **flags):
    L.seed_everything(42, verbose=False)
    lit = system()
    trainer = L.Trainer(**(hardware | quiet | short | flags))
    with trace(lit.model) as record:
        trainer.fit(lit, datamodule=MNISTDataModule())
    return record


# %% [markdown]
# How many lines does it take on each side? Counted, not guessed: in the raw loop the lines that are not in
# `base` (a line that is only indented further counts), in the port the flags and the lines of its class.
# `prove` keeps what it found for the table at the end.

# %%
from course_utils.views import side_by_side


def new_lines(loop, before=base):
    texts = [inspect.getsource(f).splitlines()[1:] for f in (before, loop)]
    return sum(line.startswith("+ ") and line[2:].strip() != "" for line in ndiff(*texts))


def lines_of(*parts):
    return len([line for line in side_by_side(list(parts)).raw if line.text])


# %%
table, reports = {}, {}


def prove(what, loop, system=LitMLP, **flags):
    reports[what] = compare(run_raw(loop), run_port(system, **flags))
    port = len(flags) + (lines_of(system) if system is not LitMLP else 0)
    table[what] = (new_lines(loop), port, reports[what].verdict)
    print(f"{what}: {table[what][0]} lines by hand, {port} in the port, {table[what][2]}")


# %%
# NBVAL_CHECK_OUTPUT
prove("no flag at all", base)

# %% [markdown]
# ## 2. Flags that change the step
#
# ### Accumulating gradients
#
# A batch of 256 does not fit into memory? Add up the gradients of four batches of 64, and step once. By
# hand: divide the loss, count, and clear the gradients only after a step.


# %%
def accumulate(model, loader):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for index, (x, y) in enumerate(batches(loader), start=1):
        loss = F.cross_entropy(model(x), y)
        (loss / 4).backward()
        if index % 4 == 0:
            optimizer.step()
            optimizer.zero_grad()


# %%
# NBVAL_CHECK_OUTPUT
prove("accumulate_grad_batches=4", accumulate, accumulate_grad_batches=4)

# %% [markdown]
# Which part is easy to forget? The division. Without it the gradient is four times as large, and the
# doctor says so:


# %%
def undivided(model, loader):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for index, (x, y) in enumerate(batches(loader, epochs=1), start=1):
        F.cross_entropy(model(x), y).backward()
        if index % 4 == 0:
            optimizer.step()
            optimizer.zero_grad()


# %%
accumulating = run_port(accumulate_grad_batches=4, max_epochs=1)
print(compare(run_raw(undivided), accumulating))

# %% [markdown]
# Are four batches of 64 the same as one of 256, then? We compare the gradient of one large batch with that of its
# four quarters, for two networks. One of them has **batch norm** (lesson 5 takes it apart), which brings each feature
# to mean 0 over the batch *at hand*.

# %%
large = MNISTDataModule(batch_size=256)
large.setup()
images, labels = next(iter(large.train_dataloader()))


def gradient_of(network, parts):
    network.zero_grad()
    for x, y in zip(images.chunk(parts), labels.chunk(parts)):
        (F.cross_entropy(network(x), y) / parts).backward()
    return torch.cat([parameter.grad.flatten() for parameter in network.parameters()])


# %% [markdown] tags=["question"]
# How far is the gradient of four quarters from that of the whole batch, if the network has batch norm?
#
# - As far as without it: rounding
#   if: norm < 1e-4
#   That is so where each digit counts by itself. Batch norm looks at the digits around it.
# + A good part of its own length
#   if: 0.01 < norm < 1
#   Four quarters have four means and four spreads. The loss is divided right, and still the network was another one.
# - So far that the two have nothing in common
#   if: norm >= 1
#   The means of 64 digits are not that far from those of 256. Trainings like this work. They are just not the same.
#
# read: (?:^|\n)with batch norm +the gradients are (?P<norm>\S+) of

# %%
norms = {"without batch norm": nn.Identity(), "with batch norm": nn.BatchNorm1d(32)}
for name, norm in norms.items():
    L.seed_everything(42, verbose=False)
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 32), norm, nn.ReLU(), nn.Linear(32, 10))
    whole, quarters = gradient_of(network, 1), gradient_of(network, 4)
    apart = (quarters - whole).norm() / whole.norm()
    print(f"{name:19} the gradients are {apart:.0e} of their length apart")

# %% [markdown]
# Without batch norm the difference is rounding. With it, it is far more: the *loss* is divided right, but each mean and
# spread still comes from 64 digits. Layer norm and instance norm take theirs from each example alone, so that
# accumulation does not touch them.
#
# ### Clipping
#
# One bad batch can throw the weights far away. Clipping limits the length of the gradient. By hand it is
# one line, which has to stand between `backward` and `step`.


# %%
def clip(model, loader):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for x, y in batches(loader):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()


# %%
# NBVAL_CHECK_OUTPUT
prove("gradient_clip_val=0.5", clip, gradient_clip_val=0.5)

# %% [markdown]
# In the wrong place it does nothing, and says nothing: before `backward`, there is no gradient to clip. The
# doctor sees which side clips. (`gradient_clip_algorithm="value"` clips single values, not the length.)


# %%
def clip_too_early(model, loader):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for x, y in batches(loader, epochs=1):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        loss.backward()
        optimizer.step()


# %%
clipped = run_port(gradient_clip_val=0.5, max_epochs=1)
print(compare(run_raw(clip_too_early), clipped))

# %% [markdown]
# ### A schedule, step by step
#
# Some schedules move after every batch, such as the one-cycle schedule of lesson 3. In Lightning the
# schedule belongs to the optimizer, in `configure_optimizers`, with the interval beside it.


# %%
def cycle(model, loader):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, EPOCHS * BATCHES)
    for x, y in batches(loader):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


# %%
class Cycle(LitMLP):
    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, EPOCHS * BATCHES)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


# %%
# NBVAL_CHECK_OUTPUT
prove("schedule, interval step", cycle, Cycle)

# %% [markdown]
# ### A schedule, epoch by epoch
#
# Others move once an epoch. Here the rate halves after each. `"interval": "epoch"` is what you get when
# you say nothing.


# %%
def halve(model, loader):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    for step, (x, y) in enumerate(batches(loader), start=1):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % BATCHES == 0:  # an epoch is over
            schedule.step()


# %%
class Halve(LitMLP):
    interval = "epoch"

    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
        choices = {"scheduler": schedule, "interval": self.interval}
        return {"optimizer": optimizer, "lr_scheduler": choices}


# %%
# NBVAL_CHECK_OUTPUT
prove("schedule, interval epoch", halve, Halve)

# %% [markdown]
# The famous mistake is to take the one for the other. Nothing fails: the rate halves after every *batch*
# and is as good as zero after thirty of them. See the doctor, and the two rates:


# %%
class HalveTooOften(Halve):
    interval = "step"


right, wrong = run_raw(halve), run_port(HalveTooOften)
print(compare(right, wrong))

# %%
rates = {
    name: [step.learning_rates[0] for step in record.steps]
    for name, record in {"once an epoch": right, "once a batch": wrong}.items()
}
plots.lines(range(1, 1 + EPOCHS * BATCHES), rates, x="optimizer step", y="learning rate")

# %% [markdown]
# ### Half the bits
#
# `bfloat16` numbers take half the memory, and some hardware is much faster with them. **Mixed** precision
# keeps the weights in 32 bits and computes the costly operations in 16. In PyTorch that is `autocast`
# around forward pass and loss. (NVIDIA's tensor cores know a step in between, TF32: `start()` says how to switch it on where
# there are some.)


# %%
def half_the_bits(model, loader):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for x, y in batches(loader):
        with torch.autocast(device.type, dtype=torch.bfloat16):
            loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


# %%
# NBVAL_CHECK_OUTPUT
prove('precision="bf16-mixed"', half_the_bits, precision="bf16-mixed")
with torch.autocast(device.type, dtype=torch.bfloat16):
    model = MLP().to(device)
    print("logits:", model(datamodule.test.images[:1].to(device)).dtype)
print("weights:", next(model.parameters()).dtype)

# %% [markdown]
# ## 3. Keep, stop, resume
#
# ### What to keep
#
# `ModelCheckpoint` keeps the best file, or the best few (`save_top_k`), and the last one if you ask for it.
# The file names can hold what was logged. `EarlyStopping` you know from lesson 3. And loggers can work side by
# side: a list of two writes to both.

# %%
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

keep = ModelCheckpoint(
    monitor="val_loss", save_top_k=2, save_last=True, filename="{epoch}-{val_loss:.3f}"
)
trainer = L.Trainer(
    **hardware,
    max_epochs=5,
    limit_train_batches=BATCHES,
    logger=[CSVLogger(written, name="keep_csv"), TensorBoardLogger(written, name="keep_board")],
    callbacks=[keep, EarlyStopping("val_loss", patience=2)],
    log_every_n_steps=10,
    enable_model_summary=False,
    enable_progress_bar=False,
)
trainer.fit(LitMLP(), datamodule=MNISTDataModule())

# %%
for file in sorted(Path(keep.dirpath).iterdir()):
    print(file.name)
print("best:", Path(keep.best_model_path).name)
for logger in trainer.loggers:
    print(
        type(logger).__name__, "wrote", sorted(f.name[:20] for f in Path(logger.log_dir).iterdir())
    )

# %% [markdown]
# ### A power cut, by hand
#
# A run is killed after its second epoch, and goes on from a file. It should end where it would have
# ended without the power cut, bit for bit. To make that hard, the network has dropout, which draws random
# numbers at every step, and the learning rate falls to a half, a third, a quarter after each epoch.


# %%
def falling(optimizer):
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1 / (1 + epoch))


class Dropping(LitMLP):
    def __init__(self, lr: float = 1e-3):
        super().__init__(lr=lr)
        self.model.layers.insert(3, nn.Dropout(0.2))

    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        return [optimizer], [falling(optimizer)]


# %% [markdown]
# The order of the digits comes from a generator. Ours is hidden in a loader, so we take it out, where it can
# be saved. `state_dict` and `load_state_dict` are the names under which Lightning asks data modules (and
# callbacks) for what should go into a checkpoint.


# %%
class ResumableMNIST(MNISTDataModule):
    def __init__(self, batch_size: int = 64, seed: int = 42, pad: int = 0):
        super().__init__(batch_size, seed, pad)
        self.order = seeded(seed)

    def train_dataloader(self):
        return self.loader(self.train, ShuffleSampler(self.train, self.order))

    def state_dict(self):
        return {"order": self.order.get_state()}

    def load_state_dict(self, state_dict):
        self.order.set_state(state_dict["order"])


# %% [markdown]
# Five things make up the state of a run: weights, optimizer (Adam's averages), schedule, the order of the
# data, and the random numbers that dropout draws, from the generator of the device it runs on. (And the
# number of epochs done, which we know here. A project that draws with NumPy has to save that, too.)

# %%
chance = torch if device.type == "cpu" else torch.get_device_module(device)


class RandomState:
    def state_dict(self):
        return {"state": chance.get_rng_state()}

    def load_state_dict(self, state_dict):
        chance.set_rng_state(state_dict["state"].cpu())


# %%
def new_run():
    L.seed_everything(42, verbose=False)
    model = Dropping().model.to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    data = ResumableMNIST()
    data.setup()
    parts = dict(model=model, optimizer=optimizer, schedule=falling(optimizer), data=data)
    return parts | dict(random=RandomState())


# %%
def train(parts, epochs):
    loader = parts["data"].train_dataloader()
    model, optimizer = parts["model"].train(), parts["optimizer"]
    for _ in range(epochs):
        for x, y in islice(loader, BATCHES):
            loss = F.cross_entropy(model(x.to(device)), y.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        parts["schedule"].step()


# %%
uninterrupted = new_run()
train(uninterrupted, epochs=4)

# %% [markdown]
# Now two epochs, then everything into a file.


# %%
def save(parts, path):
    torch.save({name: part.state_dict() for name, part in parts.items()}, path)


def load(parts, path, forgotten=None):
    saved = torch.load(path, weights_only=True)
    for name, part in parts.items():
        if name != forgotten:
            part.load_state_dict(saved[name])


# %%
parts = new_run()
train(parts, epochs=2)
save(parts, written / "power_cut.pt")

# %% [markdown]
# And on from the file, in a new run. To see what each part is worth, we also forget each of them once.


# %%
def resume(forgotten=None):
    parts = new_run()
    load(parts, written / "power_cut.pt", forgotten)
    train(parts, epochs=2)
    return parts["model"]


def largest_difference(model, other):
    pairs = zip(model.parameters(), other.parameters(), strict=True)
    return max((a - b).abs().max().item() for a, b in pairs)


# %% [markdown] tags=["question"]
# Whoever resumes forgets to restore the random numbers from which dropout draws. What happens?
#
# + Training goes on, to other weights
#   if: random > 1e-4
#   Both runs are sound ones, but it is not the same run any more. Whoever looks for the cause of a difference later has one cause too many.
# - Nothing: dropout is random anyway
#   if: random == 0
#   It is, and still a run can be repeated exactly, if the numbers begin at the same place. Here they begin anew.
# - Training stops with an error
#   if: "Error" in text
#   Nothing is missing that the code would need. That is why such runs are so rarely noticed.
#
# read: forgotten: random +largest difference: (?P<random>\S+)

# %%
for forgotten in (None, "model", "optimizer", "schedule", "data", "random"):
    difference = largest_difference(resume(forgotten), uninterrupted["model"])
    print(f"forgotten: {forgotten or 'nothing':10} largest difference: {difference:.2g}")
assert largest_difference(resume(), uninterrupted["model"]) == 0

# %% [markdown]
# With nothing forgotten the difference is zero: the same weights, as if nothing had happened. Forget one
# part, and training goes on without an error, to other weights.
#
# ### The same with Lightning
#
# Lightning saves weights, optimizer, schedules, counters, hyperparameters and the state of callbacks by
# itself. The order is saved by our data module. The random numbers are left; a callback can save them.


# %%
class KeepRandom(L.Callback):
    def state_dict(self):
        return RandomState().state_dict()

    def load_state_dict(self, state_dict):
        self.saved = state_dict

    def on_train_start(self, trainer, pl_module):  # the last moment before the first batch
        if hasattr(self, "saved"):
            RandomState().load_state_dict(self.saved)


# %%
class PowerCut(L.Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.current_epoch == 2 and batch_idx == 10:
            raise RuntimeError("power cut")


# %%
import shutil
import warnings

# The folder of a resumed run holds files: that is the point of it.
warnings.filterwarnings("ignore", ".*exists and is not empty.*")


def four_epochs(*callbacks):
    L.seed_everything(42, verbose=False)
    options = short | quiet | dict(max_epochs=4, enable_checkpointing=True)
    keep = ModelCheckpoint(written / "resume", filename="last", enable_version_counter=False)
    trainer = L.Trainer(**hardware, **options, callbacks=[keep, KeepRandom(), *callbacks])
    return trainer, Dropping()


# %%
trainer, lit = four_epochs(PowerCut())
try:
    trainer.fit(lit, datamodule=ResumableMNIST())
except RuntimeError as error:
    print(f"{error} after {trainer.global_step} steps")
last = trainer.checkpoint_callback.best_model_path
print("kept:", Path(last).name)
last = shutil.copy(last, written / "killed.ckpt")  # the next run will write over the original

# %% [markdown]
# The file of the second epoch, after 80 steps, is there; the ten steps after it are lost and have to be done
# again. `ckpt_path` is all that it takes. We end where the loop by hand ends that was never interrupted. (This
# holds for files of whole epochs: in the middle of one, the sampler's order alone is not enough.)

# %%
# NBVAL_CHECK_OUTPUT
trainer, lit = four_epochs()
begin = torch.load(last, weights_only=True)["global_step"]
trainer.fit(lit, datamodule=ResumableMNIST(), ckpt_path=last, weights_only=True)
difference = largest_difference(lit.model.to(device), uninterrupted["model"])
print(f"from step {begin} to {trainer.global_step}, difference from no interruption: {difference}")
verdict = "identical" if difference == 0 else "different"
table["ckpt_path"] = (lines_of(save, load, RandomState), 1 + lines_of(KeepRandom), verdict)

# %% [markdown]
# ### Stopped by hand
#
# The stop button of a notebook raises `KeyboardInterrupt` in the cell that runs. The Trainer tidies up first, so that
# callbacks and loggers can close their files. Weights, trainer and kernel stay. A callback can press the button:


# %%
class StopButton(L.Callback):
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == 10:
            raise KeyboardInterrupt


# %%
# NBVAL_CHECK_OUTPUT
trainer = L.Trainer(**hardware, **(quiet | short), callbacks=[StopButton()])
try:
    trainer.fit(LitMLP(), datamodule=MNISTDataModule())
except KeyboardInterrupt:
    print(f"after {trainer.global_step} steps, interrupted: {trainer.interrupted}")

# %% [markdown]
# By itself Lightning would go on from here to `sys.exit(1)`, as suits a script. A notebook shows that as `SystemExit: 1`,
# with advice on how to exit, although its kernel lives. So in notebooks `start()` lets the interrupt through. Where you meet
# that message in a notebook of your own: run the next cell.
#
# ## 4. Flags that find mistakes early
#
# ### Less data
#
# `limit_train_batches` takes a number of batches, or a share of the epoch.


# %%
def half_an_epoch(model, loader):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for x, y in batches(loader, count=len(loader) // 2):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


# %%
# NBVAL_CHECK_OUTPUT
prove("limit_train_batches=0.5", half_an_epoch, limit_train_batches=0.5)

# %% [markdown]
# `fast_dev_run=True` is the shortest run of all: one batch through training and validation, no files. Use it
# first, always. `max_time` ends a run by the clock, and `val_check_interval=0.25` validates four times an
# epoch. A small callback notes when:


# %%
class WhenValidated(L.Callback):
    def __init__(self):
        self.steps = []

    def on_validation_end(self, trainer, pl_module):
        self.steps.append(trainer.global_step)


# %%
def steps_of(**flags):
    when = WhenValidated()
    options = quiet | dict(limit_train_batches=BATCHES, limit_val_batches=2, num_sanity_val_steps=0)
    trainer = L.Trainer(**hardware, **(options | flags), callbacks=[when])
    trainer.fit(LitMLP(), datamodule=MNISTDataModule())
    return trainer, when.steps


# %%
# NBVAL_CHECK_OUTPUT
trainer, validated = steps_of(fast_dev_run=True)
print(f"fast_dev_run: {trainer.global_step} step, validated after {validated}")
trainer, validated = steps_of(max_epochs=1, val_check_interval=0.25)
print(f"val_check_interval: {trainer.global_step} steps, validated after {validated}")
trainer, validated = steps_of(max_epochs=100_000, max_time={"seconds": 1})
print(f"max_time: stopped early: {trainer.global_step < 100_000 * BATCHES}")

# %% [markdown]
# ### Can it learn at all?
#
# A network that cannot learn one batch by heart will not learn sixty thousand digits. `overfit_batches=1`
# takes the same batch again and again. The second model has a typical mistake, a softmax before
# `cross_entropy`, which takes one by itself:


# %%
class SoftmaxTwice(LitMLP):
    def forward(self, x):
        return super().forward(x).softmax(1)


# %%
class InOrder(MNISTDataModule):
    def train_dataloader(self):
        return self.loader(self.train)  # Lightning would stop the shuffling by itself, and warn


# %% [markdown] tags=["question"]
# The same batch, sixty times over. How far does the loss of `SoftmaxTwice` fall?
#
# - To nearly 0, a little later than the other one
#   if: loss < 0.3
#   One might think that softmax of softmax is only a detour. It is a wall: see how high the loss stays.
# + Not below 1.46
#   if: 1.46 <= loss < 2.31
#   The first softmax gives numbers from 0 to 1. To the second one these are logits that hardly differ, so that it can never be sure.
# - It becomes NaN
#   if: loss != loss
#   All numbers stay small and tame. This mistake makes no noise at all.
#
# read: SoftmaxTwice +loss after 60 steps: (?P<loss>[\d.]+|nan)

# %%
for system in (LitMLP, SoftmaxTwice):
    L.seed_everything(42, verbose=False)
    trainer = L.Trainer(**hardware, **quiet, max_epochs=60, overfit_batches=1, limit_val_batches=0)
    trainer.fit(system(), datamodule=InOrder())
    print(f"{system.__name__:13} loss after 60 steps: {trainer.callback_metrics['train_loss']:.3f}")

# %% [markdown]
# The first knows its batch by heart. The second cannot: its "logits" lie between 0 and 1, and so the loss never
# falls below ln(e + 9) - 1, about 1.46.

# %% [markdown]
# ### Where does the NaN come from?
#
# This loss adds a distance, and the distance is zero: there the slope of the square root is infinite. The
# loss itself is a plain number, but its gradient is NaN. Without help, the weights are NaN one step later
# and nobody knows why. `detect_anomaly=True` stops at the operation whose gradient was NaN first:


# %%
class NaNLoss(LitMLP):
    def training_step(self, batch, batch_idx):
        x, y = batch
        logits = self(x)
        distance = (logits - logits.detach()).pow(2).sum().sqrt()
        return F.cross_entropy(logits, y) + distance


# %%
# NBVAL_CHECK_OUTPUT
for anomaly in (False, True):
    trainer = L.Trainer(**hardware, **quiet, max_steps=1, detect_anomaly=anomaly)
    nan = NaNLoss()
    with warnings.catch_warnings(record=True) as warned:
        try:
            trainer.fit(nan, datamodule=MNISTDataModule())
            print(
                "no error; NaN among the weights:", nan.model.layers[1].weight.isnan().any().item()
            )
        except RuntimeError as error:
            print(error)
            trace_back = str(warned[-1].message).splitlines()
            print(next(line.strip() for line in trace_back[::-1] if "distance" in line))

# %% [markdown]
# It names the line of the forward pass, too. Why `Pow`, and not the root? The root passes on an infinite
# gradient; the slope of the square at zero is zero; and infinity times zero is NaN.

# %% [markdown]
# ### Where does the time go?
#
# A profiler measures the Trainer's actions and writes a table. It is long; here are its first lines.

# %%
from lightning.pytorch.profilers import SimpleProfiler

(written / "fit-profile.txt").unlink(missing_ok=True)  # the profiler adds to what is there
profiler = SimpleProfiler(dirpath=written, filename="profile")
trainer = L.Trainer(**hardware, **(quiet | short), profiler=profiler)
trainer.fit(LitMLP(), datamodule=MNISTDataModule())
rows = [line.split("|") for line in (written / "fit-profile.txt").read_text().splitlines()]
for _, action, mean, calls, total, *_ in [row for row in rows if len(row) > 5][:10]:
    print(f"{action.strip()[:45]:46}{mean.strip():>18}{calls.strip():>10}{total.strip():>18}")

# %% [markdown]
# (`profiler="simple"` prints it at the end.) The total is in the first row; the rest are parts of it, some
# inside others. These times end when Python goes on. A GPU may still be at work then, and the seconds turn up in whatever
# waits for it next; `profiler="pytorch"` asks the GPU itself.
#
# ### Which learning rate?
#
# The learning-rate finder trains a few steps with a rate that grows, watches the loss, and puts the weights
# back. Its suggestion is where the loss falls most steeply (per unit of the rate), before it rises. It sets
# the hyperparameter `lr`, which `configure_optimizers` reads.

# %%
import io
from contextlib import redirect_stderr

from lightning.pytorch.tuner import Tuner

L.seed_everything(42, verbose=False)
lit = LitMLP()
trainer = L.Trainer(**hardware, **quiet, max_epochs=2, default_root_dir=written)
with redirect_stderr(io.StringIO()):  # its progress bar
    finder = Tuner(trainer).lr_find(
        lit, datamodule=MNISTDataModule(), min_lr=1e-5, num_training=110
    )
print(f"suggested: {finder.suggestion():.4f}, now in lit.hparams.lr: {lit.hparams.lr:.4f}")

# %%
plots.lines(
    finder.results["lr"][20:],  # at the beginning, the smoothed loss has too few values to be right
    {"loss": finder.results["loss"][20:]},
    x="learning rate",
    y="loss (smoothed)",
    scale="log",
)

# %% [markdown]
# ## 5. Hooks of your own
#
# What has no flag has a hook. Three examples, each beside its raw loop. First `on_before_optimizer_step`: the
# gradient is complete by then, and not yet clipped. Each neuron's is shifted to mean zero (*gradient centralisation*).


# %%
def centre(gradient):
    if gradient.ndim > 1:
        gradient -= gradient.mean(dim=1, keepdim=True)


# %%
def centred(model, loader):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for x, y in batches(loader):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        for parameter in model.parameters():
            centre(parameter.grad)
        optimizer.step()


# %%
class Centred(LitMLP):
    def on_before_optimizer_step(self, optimizer):
        for parameter in self.parameters():
            centre(parameter.grad)


# %%
# NBVAL_CHECK_OUTPUT
prove("own gradient", centred, Centred)

# %% [markdown]
# Why not in `backward`, which can be overridden as well? Because the gradient is not always what it seems there. With
# `precision="16-mixed"` the loss is multiplied by a large *scale*, so that small gradients do not vanish in 16 bits;
# only before the step are the gradients divided by it. Clip to a length of 0.5 in both places:


# %%
class InBackward(LitMLP):
    def backward(self, loss, *args, **kwargs):
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters(), 0.5)


class BeforeStep(LitMLP):
    def on_before_optimizer_step(self, optimizer):
        nn.utils.clip_grad_norm_(self.parameters(), 0.5)


# %% [markdown] tags=["question"]
# How long is the gradient that Adam gets, if `backward` clips to 0.5?
#
# - 0.5
#   if: 0.4 < length < 0.6
#   So long it was right after clipping. But afterwards the Trainer divides by the scale.
# + Next to nothing
#   if: length < 1e-3
#   What was clipped to 0.5 was the *scaled* gradient; then it was divided by 65,536. Clipping by hand in `backward` has undone what the scale was for.
# - 65,536 times 0.5
#   if: length > 1000
#   Scaled it was before clipping. From there it can only get shorter.
#
# read: InBackward scale [\d,]+, length used by Adam (?P<length>\S+)

# %%
from lightning.pytorch.plugins import MixedPrecision

for system in (InBackward, BeforeStep):
    scaler = torch.amp.GradScaler("cpu")
    plugin = MixedPrecision("16-mixed", "cpu", scaler)  # by the flag, a CPU would get bf16-mixed
    record = run_port(system, accelerator="cpu", plugins=[plugin], limit_train_batches=1)
    length = record.steps[0].gradient_norm
    print(f"{system.__name__:10} scale {scaler.get_scale():,.0f}, length used by Adam {length:.1e}")

# %% [markdown]
# In `backward`, the *scaled* gradient was clipped to 0.5, and then divided. Override `backward` to compute gradients in
# another way, `on_before_optimizer_step` to change them.
#
# Then `optimizer_step`: the learning rate warms up over the first 20 steps. The hook gets the optimizer
# and a *closure*, which computes loss and gradient; whoever overrides it calls
# `optimizer.step(closure=…)`.


# %%
def warm_up(model, loader):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for step, (x, y) in enumerate(batches(loader), start=1):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1, step / 20)
        optimizer.step()


# %%
class WarmUp(LitMLP):
    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure):
        for group in optimizer.param_groups:
            group["lr"] = self.hparams.lr * min(1, (self.global_step + 1) / 20)
        optimizer.step(closure=optimizer_closure)


# %%
# NBVAL_CHECK_OUTPUT
prove("own optimizer_step", warm_up, WarmUp)

# %% [markdown]
# And `configure_gradient_clipping`: only the last layer is clipped. The value still comes from the flag.


# %%
def clip_last(model, loader):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for x, y in batches(loader):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.layers[-1].parameters(), 0.1)
        optimizer.step()


# %%
class ClipLast(LitMLP):
    def configure_gradient_clipping(
        self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None
    ):
        nn.utils.clip_grad_norm_(self.model.layers[-1].parameters(), gradient_clip_val)


# %%
# NBVAL_CHECK_OUTPUT
prove("own clipping", clip_last, ClipLast, gradient_clip_val=0.1)

# %% [markdown]
# ## 6. Two networks, two optimizers
#
# A generator makes pictures from noise, a discriminator tells them from real ones; each has an optimizer of
# its own. There is no one loss to return, so Lightning hands over the steering wheel: **manual
# optimization**. First the pair, and its raw loop.


# %%
def make_pair():
    generator = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 784))
    discriminator = nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 1))
    return nn.ModuleDict(dict(generator=generator, discriminator=discriminator))


# %%
def make_optimizers(pair):
    return [torch.optim.Adam(network.parameters(), lr=2e-4) for network in pair.values()]


def judge(pair, pictures, real):
    logits = pair["discriminator"](pictures)
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, real))


# %%
def raw_pair(pair, loader):
    for_generator, for_discriminator = make_optimizers(pair)
    for x, _ in islice(loader, BATCHES):
        x = x.to(device).flatten(1)
        fake = pair["generator"](torch.randn(len(x), 16, device=device))
        for_discriminator.zero_grad()
        (judge(pair, x, 1.0) + judge(pair, fake.detach(), 0.0)).backward()
        for_discriminator.step()
        for_generator.zero_grad()
        judge(pair, fake, 1.0).backward()
        for_generator.step()


# %% [markdown]
# The port is the body of the loop: `self.optimizers()` gives the optimizers, and `self.manual_backward` takes
# the place of `backward`, so that flags for precision and devices still reach it. The price of the steering wheel:
# flags for clipping and accumulation are refused here, and schedules are stepped by hand.


# %%
class LitPair(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.pair = make_pair()

    def configure_optimizers(self):
        return make_optimizers(self.pair)

    def training_step(self, batch, batch_idx):
        for_generator, for_discriminator = self.optimizers()
        x = batch[0].flatten(1)
        fake = self.pair["generator"](torch.randn(len(x), 16, device=self.device))
        for_discriminator.zero_grad()
        self.manual_backward(judge(self.pair, x, 1.0) + judge(self.pair, fake.detach(), 0.0))
        for_discriminator.step()
        for_generator.zero_grad()
        self.manual_backward(judge(self.pair, fake, 1.0))
        for_generator.step()


# %% [markdown] tags=["question"]
# In the Trainer, 40 batches go through, and each of two optimizers makes a step for each. What is `global_step` at the end?
#
# - 40: a step is a batch
#   if: steps == 40
#   In a training with one optimizer it comes to the same, and so one never learns the difference.
# + 80: a step is an optimizer's step
#   if: steps == 80
#   So `max_steps=100` ends this training after 50 batches, and checkpoints are named by these numbers.
# - 0: with manual optimization Lightning does not count
#   if: steps == 0
#   The optimizers that `self.optimizers()` hands out are wrapped, and count.
#
# read: batches: 40, global_step: (?P<steps>\d+)

# %%
# NBVAL_CHECK_OUTPUT
L.seed_everything(42, verbose=False)
pair = make_pair().to(device)
with trace(pair) as raw:
    raw_pair(pair, datamodule.train_dataloader())

L.seed_everything(42, verbose=False)
lit = LitPair()
with trace(lit.pair) as port:
    trainer = L.Trainer(**hardware, **(quiet | short | dict(max_epochs=1)))
    trainer.fit(lit, datamodule.train_dataloader())
reports["manual optimization"] = compare(raw, port)
verdict = reports["manual optimization"].verdict
table["manual optimization"] = (lines_of(raw_pair), lines_of(LitPair), verdict)
print(reports["manual optimization"].verdict, "in", len(raw.steps), "steps of two optimizers")
print(f"batches: {BATCHES}, global_step: {trainer.global_step}")

# %% [markdown]
# `global_step` counts the steps of *both* optimizers, two for each batch: so `max_steps=100` would end this training after
# 50 batches, and the names of checkpoints count in the same way.
#
# On several devices (lesson 6) this pair needs `strategy="ddp_find_unused_parameters_true"`. After each `backward`, DDP waits for
# the gradient of *every* parameter, and in the discriminator's turn the generator gets none. Without that strategy
# Lightning stops with an error about parameters that were not used.

# %% [markdown]
# ## 7. The rung in between: Fabric
#
# Between the raw loop and the Trainer there is a rung: `Fabric` leaves the loop to you and brings devices,
# precision and several processes. You have timed it in lesson 1. It takes the lines marked below. The second one
# matters on several devices only, where Fabric refuses to go on without it. (From a notebook, `launch` is then given the
# loop, as a function.)

# %%
from lightning.fabric import Fabric


def with_fabric(model, loader):
    fabric = Fabric(**hardware)  # 1
    fabric.launch()  # 2: starts the other processes, where there are several devices
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    model, optimizer = fabric.setup(model, optimizer)  # 3
    loader = fabric.setup_dataloaders(loader)  # 4
    for x, y in batches(loader):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        fabric.backward(loss)  # 5
        optimizer.step()


# %%
# NBVAL_CHECK_OUTPUT
reports["Fabric"] = compare(run_raw(base), run_raw(with_fabric), names=("raw loop", "Fabric"))
table["Fabric"] = (0, new_lines(with_fabric), reports["Fabric"].verdict)
print(f"{new_lines(with_fabric)} lines changed: {reports['Fabric'].verdict}")

# %% [markdown]
# ## 8. All of them
#
# Lines by hand, lines in the port, and what the port doctor said:

# %% tags=["result"]
# NBVAL_CHECK_OUTPUT
identical = sum(verdict == "identical" for *_, verdict in table.values())
print(f"{identical} of {len(table)} ports identical")
for what, (by_hand, in_port, verdict) in table.items():
    print(f"{what:26}{by_hand:4} by hand {in_port:4} in the port   {verdict}")

# %% [markdown]
# A flag is one line, whether the loop needs one for it or five. Schedules and hooks take more lines than the
# loop: they gain nothing in length. What they gain is a place with a name, which the Trainer calls at the
# right moment.

# %% tags=["verdict"]
# NBVAL_CHECK_OUTPUT
for report in reports.values():
    report.assert_identical()
assert identical == len(table)
print(report.verdict)

# %% [markdown]
# What do flags cost? The same steps in turn, with the plain Trainer first:


# %%
def with_flags(**flags):
    def fit(batches):
        L.Trainer(**hardware, **quiet, max_epochs=1, **flags).fit(LitMLP(), batches)

    return fit


# %%
from course_utils.views import cost

cost(
    {
        "Trainer": with_flags(),
        "gradient_clip_val": with_flags(gradient_clip_val=0.5),
        "bf16-mixed": with_flags(precision="bf16-mixed"),
        "detect_anomaly": with_flags(detect_anomaly=True),
    },
    loader=datamodule.train_dataloader(),
    steps=30,
    rounds=5,
)

# %% [markdown]
# `detect_anomaly` checks every gradient of every operation: switch it on for the search, and off again. And
# `bf16` is for large networks on hardware that is made for it; in a network as small as this one, converting
# the numbers back and forth can cost more than it saves.
#
# ## Recap
#
# 1. A flag is one line for several, and for the mistakes that they invite.
# 2. Accumulation, clipping, schedules and precision change the step. Each was proved equal to its raw loop.
# 3. To resume is to restore everything: weights, optimizer, schedule, counters, order of the data, random
#    numbers.
# 4. `fast_dev_run`, `overfit_batches` and `detect_anomaly` find mistakes in seconds.
# 5. What has no flag has a hook, and what fits no hook can be optimized manually. Fabric is for those who
#    want to keep their loop.
#
# ## Common mistakes
#
# - **A schedule with the wrong interval**: no error, and a learning rate that is gone. The doctor names it.
# - **Accumulating without dividing the loss**: gradients are larger by the number of batches.
# - **Clipping before `backward`, or after `step`**: no error, and no clipping.
# - **Changing gradients in an overridden `backward`**: with `16-mixed` they are scaled there. `on_before_optimizer_step`
#   is the place.
# - **Taking accumulation for a large batch** in a network with batch norm.
# - **Resuming with `load_from_checkpoint`** in place of `ckpt_path`: only the weights come back, and Adam
#   begins anew.
# - **Overriding `optimizer_step` without handing on the closure**: nothing computes the gradient. Lightning
#   stops with an error; a raw loop would not.
#
# ## Exercises
#
# Five exercises that check themselves, up to a port from nothing and a callback that forgets:
# [exercises for lesson 4](exercises/04_one_flag_at_a_time.ipynb).
#
# ## Read on
#
# - [Trainer](https://lightning.ai/docs/pytorch/stable/common/trainer.html): all flags, in Lightning's
#   documentation.
# - [Manual optimization](https://lightning.ai/docs/pytorch/stable/model/manual_optimization.html) and
#   [Fabric](https://lightning.ai/docs/fabric/stable/).
# - Smith (2017), [Cyclical learning rates for training neural networks](https://arxiv.org/abs/1506.01186): the
#   test behind the learning-rate finder.
# - Yong et al. (2020), [Gradient centralization](https://arxiv.org/abs/2004.01461).
