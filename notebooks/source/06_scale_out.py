# %% [markdown]
# # 6. Scale out: two processes on a laptop, 256 GPUs on a cluster
#
# {{badge}}
#
# > Several workers train one network: what they compute, proved on two processes of your own machine, what it gains, and what it takes on a cluster.
#
# With many workers, one of them dies some night. Does the run hang until morning, or go on with a hole in it, and who would know?
# You will kill one yourself, at once and without a word, as a lack of memory would:
#
# ```text
# worker 1 was ended by SIGKILL (exit code -9)
# left over: []
# ```
#
# Then you go on from the last checkpoint. And before you ask for 256 GPUs, you measure on two processes whether they would
# be worth it: for a small network, a second worker can make it slower.
#
# At the end of this lesson you will
# - know what to write today in place of the flags of old tutorials;
# - have trained with two processes, by a raw script and by Lightning, and proved both equal, bit for bit;
# - know why two workers with half a batch each make the steps of one with the whole batch, up to rounding, and when
#   they do not;
# - have measured what a second worker gains here, and where Amdahl's law says that it will end;
# - have made a script for a cluster of 256 GPUs, and checked it without one;
# - have killed a worker in the middle of its work, and gone on from the last checkpoint.
#
# **Time**: about 1 minute of computing on a laptop, with full MNIST or with the sample. Everything runs on the CPU.
#
# **Builds on**: [lesson 1](01_mlp.ipynb) (the MLP) and [lesson 4](04_one_flag_at_a_time.ipynb) (flags, resuming).

# %% tags=["setup"]
# {{setup}}

# %%
import json
import time
import warnings
from itertools import islice

import lightning as L
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

from course_utils.digits import DigitImages
from course_utils.files import runs_folder
from course_utils.models import MLP, LitMLP
from course_utils.parity import Trace, compare, join, trace
from course_utils.scale import launch, pretended, torchrun
from course_utils.session import start
from course_utils.views import plots

session = start(42)
folder = runs_folder("scale")

# %% [markdown]
# ## 1. Old flags, new flags
#
# Tutorials from before Lightning 2 use flags of which many are gone. Below, each is tried, and then what one
# writes today. But who has eight GPUs at hand? `pretended` lets Lightning *find* them, so that
# its own checks of the flags run; nothing is computed.

# %%
flags = {
    "gpus=8": (dict(gpus=8), dict(accelerator="gpu", devices=8)),
    "gpus=[1, 3, 5]": (dict(gpus=[1, 3, 5]), dict(accelerator="gpu", devices=[1, 3, 5])),
    "tpu_cores=8": (dict(tpu_cores=8), dict(accelerator="tpu", devices=8)),
    "num_processes=8": (dict(num_processes=8), dict(accelerator="cpu", devices=8)),
    "num_nodes=128": (dict(num_nodes=128), dict(accelerator="gpu", devices=8, num_nodes=128)),
    "precision=16": (dict(precision=16), dict(precision="16-mixed")),
}


# %%
def attempt(flags):
    quiet = dict(logger=False, enable_checkpointing=False)
    with warnings.catch_warnings(record=True) as warned, pretended(gpus=8, tpus=8):
        warnings.simplefilter("always")
        try:
            trainer = L.Trainer(**({"accelerator": "gpu", "devices": 1} | flags), **quiet)
        except Exception as error:
            text = " ".join(str(error).split("()")[-1].split())
            return f"{type(error).__name__}: {text}"
    said = [str(w.message) for w in warned if "discouraged" in str(w.message)]
    devices = f"{trainer.num_nodes} x {trainer.num_devices} devices, {trainer.precision}"
    return f"accepted ({devices})" + (f", but {said[0].split('but ')[-1]}" if said else "")


# %%
# NBVAL_CHECK_OUTPUT
for old, (before, after) in flags.items():
    print(f"{old:16} {attempt(before)}")
    print(f"{'':16} today: {', '.join(f'{k}={v!r}' for k, v in after.items())}: {attempt(after)}")

# %% [markdown]
# Four of the six are gone. `num_nodes` has stayed (128 machines, here with one GPU each), and `precision=16` works
# with a word of warning. `accelerator` says which hardware, `devices` how much of it on each machine, `num_nodes`
# how many machines. Would the check find a flag that is wrong? Nine GPUs of eight, seven TPU cores, a hardware
# that nobody makes:

# %%
# NBVAL_CHECK_OUTPUT
for wrong in (
    dict(accelerator="gpu", devices=9),
    dict(accelerator="tpu", devices=7),
    dict(accelerator="abacus", devices=1),
):
    answer = attempt(wrong)
    print(answer.partition(" Available")[0])
    assert "accepted" not in answer

# %% [markdown]
# ## 2. Data-parallel, by hand
#
# The idea: every worker has the whole network and a share of each batch. Each computes the gradient of its
# share; they average their gradients; each makes the same step. All stay equal, as they started equal.
#
# Workers are processes, and processes run scripts. So here is some data in a file, then a script, piece by
# piece. (The first line of each cell writes the rest to the file; `-a` adds to it.)

# %%
digits = DigitImages(session.digits.root)
images, labels = digits.images[:6400], digits.labels[:6400]
torch.save((images, labels), folder / "digits.pt")
print(tuple(images.shape), tuple(labels.shape))

# %%
# %%writefile {folder}/raw_ddp.py
from itertools import islice
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.nn  # before there is a group: see the end
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

from course_utils.parity import trace

EPOCHS, BATCHES, BATCH = 2, 40, 64
HERE = Path(__file__).parent  # digits.pt lies beside this script

# %% [markdown]
# **Find the others.** `torchrun` tells each process its number (the *rank*) and where to meet. `gloo` is
# what CPUs talk with; GPUs use `nccl`.

# %%
# %%writefile -a {folder}/raw_ddp.py

dist.init_process_group("gloo")
rank, workers = dist.get_rank(), dist.get_world_size()

# %% [markdown]
# **Share the data.** The sampler deals out the shuffled digits like cards: with two workers, the first takes
# numbers 0, 2, 4, …, the second 1, 3, 5, …. And each takes half a batch, so that the batch stays what it was.

# %%
# %%writefile -a {folder}/raw_ddp.py

digits = TensorDataset(*torch.load(HERE / "digits.pt", weights_only=True))
sampler = DistributedSampler(digits, seed=42)
loader = DataLoader(digits, batch_size=BATCH // workers, sampler=sampler)

# %% [markdown]
# **Wrap the model.** `DistributedDataParallel` sends the first worker's weights to all, and from then on
# averages gradients during `backward`. The optimizer stays as it is.

# %%
# %%writefile -a {folder}/raw_ddp.py

torch.manual_seed(42)
layers = nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 256), nn.ReLU(), nn.Linear(256, 10)
model = nn.Sequential(nn.Flatten(), *layers)
parallel = DistributedDataParallel(model)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

# %% [markdown]
# **Train.** It is the loop that you know, with two lines more: `set_epoch`, without which each epoch has
# the same order; and `if rank == 0`, without which each worker prints the same.

# %%
# %%writefile -a {folder}/raw_ddp.py

with trace(model) as record:
    for epoch in range(EPOCHS):
        sampler.set_epoch(epoch)
        for x, y in islice(loader, BATCHES):
            loss = F.cross_entropy(parallel(x), y)  # parallel, not model
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if rank == 0:
            print(f"epoch {epoch + 1} done, loss of my last share: {loss:.4f}")

# %% [markdown]
# **Save once.** All workers have the same weights, so one of them writes the file. Only the port doctor wants
# every worker's trace.

# %%
# %%writefile -a {folder}/raw_ddp.py

record.save(HERE / f"raw-{rank}.pt")
if rank == 0:
    torch.save(model.state_dict(), HERE / "raw_weights.pt")

# %% [markdown]
# **Leave in order.** The group has threads of its own, and they end when *nobody* holds it any more. If one still
# works while Python shuts down, the worker can abort in its last moment, after a perfect training. Two hold
# the group: the wrapper, so let go of it; and `torch.distributed.nn`, if it is first imported when there is a group
# (the wrapper does that), so import it before.

# %%
# %%writefile -a {folder}/raw_ddp.py

del parallel
dist.destroy_process_group()

# %% [markdown]
# Now start it, as one would in a terminal. (`torchrun` here is a small helper of the course: it starts the
# program of that name, shows what the workers print, and leaves no process behind.)

# %%
torchrun(folder / "raw_ddp.py", workers=2)

# %% [markdown]
# ## 3. The same in Lightning
#
# What is left of the script? The data and three flags. Lightning meets the others, puts a `DistributedSampler`
# into the loader (seeded by `seed_everything`), calls `set_epoch`, wraps the module, and saves once.

# %%
# %%writefile {folder}/lit_ddp.py
import warnings
from pathlib import Path

import lightning as L
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, TensorDataset

from course_utils.models import LitMLP
from course_utils.parity import trace
from course_utils.session import quieten

HERE = Path(__file__).parent
quieten()
warnings.simplefilter("ignore")  # advice on validation and logging, which are not the topic here
L.seed_everything(42, verbose=False)
digits = TensorDataset(*torch.load(HERE / "digits.pt", weights_only=True))
loader = DataLoader(digits, batch_size=32, shuffle=True)  # each worker's half of 64

# %%
# %%writefile -a {folder}/lit_ddp.py

lit = LitMLP()
short = dict(max_epochs=2, limit_train_batches=40, limit_val_batches=0)
quiet = dict(logger=False, enable_checkpointing=False, enable_model_summary=False)
quiet |= dict(enable_progress_bar=False)
trainer = L.Trainer(accelerator="cpu", devices=2, strategy="ddp", **short, **quiet)
with trace(lit.model) as record:
    trainer.fit(lit, loader)
record.save(HERE / f"lit-{trainer.global_rank}.pt")
if trainer.is_global_zero:
    print(f"{trainer.world_size} workers, {trainer.global_step} steps each")
dist.destroy_process_group()

# %% [markdown]
# The last line is the same again. Lightning lets go of its wrapper when `fit` ends, but keeps the group, for a `test`
# that might follow; and only with `nccl` does it end the group by itself.

# %%
torchrun(folder / "lit_ddp.py", workers=2)

# %% [markdown]
# How much of each script is about there being several workers? Count the lines with one of these words:

# %%
# NBVAL_CHECK_OUTPUT
words = "dist", "Dist", "rank", "worker", "sampler", "parallel", "strategy", "global", "world"
for name in ("raw_ddp.py", "lit_ddp.py"):
    lines = [line for line in (folder / name).read_text().splitlines() if line.strip()]
    about = sum(any(word in line for word in words) for line in lines)
    print(f"{name}: {len(lines)} lines, {about} of them about workers")

# %% [markdown]
# In the second, three of them serve the proof and the printing, and two the end in order. What is left is the size of
# each worker's half, and `devices=2, strategy="ddp"`.

# %% [markdown]
# ## 4. The proof
#
# Four traces lie in files, two of each script. `join` makes one run of the workers' traces. On the way it
# checks what data-parallel training promises: that each worker has digits of its own, and all have the same
# gradient in each step, and the same weights after it.

# %%
raw = join([Trace.load(folder / f"raw-{rank}.pt") for rank in (0, 1)])
lit = join([Trace.load(folder / f"lit-{rank}.pt") for rank in (0, 1)])
print("each step has half batches of", [call.size for call in raw.steps[0].calls])

# %% tags=["verdict"]
# NBVAL_CHECK_OUTPUT
report = compare(raw, lit, names=("raw DDP", "Lightning DDP"))
report.assert_identical()
print(report.verdict)

# %%
report

# %% [markdown]
# ## 5. What do two workers compute?
#
# The claim: the same as one process with the whole batch. Here is that process, in a plain loop, with the same
# 64 digits in each step. Its sampler deals to a single worker.


# %%
def batches(epochs=2, count=40, size=64):
    dataset = TensorDataset(images, labels)
    sampler = DistributedSampler(dataset, num_replicas=1, rank=0, seed=42)
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        yield from islice(DataLoader(dataset, batch_size=size, sampler=sampler), count)


# %%
def whole(model):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for x, y in batches():
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


# %% [markdown] tags=["question"]
# Two workers with 32 digits each, or one process with the same 64. How equal are the weights after 80 steps?
#
# - To the last bit: the mean of two means is the mean
#   if: "✓ identical" in verdict
#   For real numbers it is. Floats round after each addition, and here they are added in another order.
# + Equal but for rounding
#   if: "≈ equal" in verdict
#   The same digits, the same formula, another order of adding. The doctor tells that from a mistake, and says so.
# - Clearly different: each worker has seen only half of the digits
#   if: "✗ different" in verdict
#   Each has, but after every `backward` both have the mean of both gradients. So they never part.
#
# read: (?P<verdict>✓ identical|≈ equal|✗ different)


# %%
def traced(loop):
    torch.manual_seed(42)
    model = MLP()
    with trace(model) as record:
        loop(model)
    return record


one = traced(whole)
print(compare(one, raw, names=("one process", "two workers")))

# %% [markdown]
# Equal within rounding, and the doctor says why: the same samples, added up in another order. You can see it in
# a single batch. Both gradients are right; they round at other places:


# %%
def gradient(model, *parts):
    for x, y in parts:
        (F.cross_entropy(model(x), y) / len(parts)).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


x, y = next(batches())
torch.manual_seed(42)
model = MLP()
of_whole = gradient(model, (x, y))
model.zero_grad()
of_halves = gradient(model, (x[0::2], y[0::2]), (x[1::2], y[1::2]))
differ = (of_whole != of_halves).sum()
apart = (of_whole - of_halves).abs().max()
print(f"{differ:,} of {len(of_whole):,} values differ, by {apart:.1e} at most;", end=" ")
print(f"the largest value is {of_whole.abs().max():.1e}")

# %% [markdown]
# If that is the whole reason, then a single process that takes the two halves as they were dealt must agree
# *bit for bit*: each half's loss is divided by 2, and the gradients add up. (With two workers it must: halving is
# exact, and one sum has one order. Of three or more parts, the order can differ again.)


# %%
def in_halves(model):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for x, y in batches():
        optimizer.zero_grad()
        for rank in (0, 1):
            (F.cross_entropy(model(x[rank::2]), y[rank::2]) / 2).backward()
        optimizer.step()


# %% tags=["verdict", "result"]
# NBVAL_CHECK_OUTPUT
halves = compare(traced(in_halves), raw, names=("one process, two halves", "two workers"))
halves.assert_identical()
print(halves.verdict)

# %% [markdown]
# So that is data-parallel training: gradient accumulation, in which the parts are computed at the same time.
#
# ### When it does not hold
#
# Two things went without saying. The halves were equal: the mean of means is the mean of all only where the parts
# are of one size. And no digit's answer depended on the others of its batch, as it does with *batch norm*, which takes
# mean and variance from the digits that it sees. Try both, with the same 64 digits:

# %%
torch.manual_seed(42)
normed = nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.BatchNorm1d(128), nn.ReLU())
normed.append(nn.Linear(128, 10))
halves, uneven = ([range(32), range(32, 64)], [range(48), range(48, 64)])
for name, net, shares in (
    ("equal halves", MLP(), halves),
    ("48 and 16 digits", MLP(), uneven),
    ("batch norm, equal halves", normed, halves),
):
    of_whole = gradient(net, (x, y))
    net.zero_grad()
    of_parts = gradient(net, *((x[share], y[share]) for share in shares))
    apart = (of_whole - of_parts).abs().max() / of_whole.abs().max()
    print(f"{name:25} apart by {apart:.0e} of the largest value")

# %% [markdown]
# Only the first is rounding. With uneven shares or with batch norm, two workers take other steps than one. For batch
# norm there is a remedy, at the price of more talking: workers share mean and variance, in a script by
# `nn.SyncBatchNorm.convert_sync_batchnorm(model)` (on GPUs only), in Lightning by `Trainer(sync_batchnorm=True)`.
#
# ### The batch that nobody divided
#
# Forget the `// workers` of the script, and start it with eight: a step now sees 512 digits, and an epoch has an
# eighth of the steps. What you have proved for two holds for eight: up to rounding, one process with a batch of
# 512 does the same. What becomes of the training?


# %%
def train(batch_size, lr):
    torch.manual_seed(42)
    model, losses = MLP(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for x, y in batches(epochs=4, count=None, size=batch_size):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses += [loss.item()] * len(y)
    return losses


# %%
runs = {
    "one worker: batch 64, rate 0.01": train(64, 0.01),
    "eight workers: batch 512, rate 0.01": train(512, 0.01),
    "eight workers: batch 512, rate 0.08": train(512, 0.08),
}
seen = range(0, 4 * len(labels), 64)
smooth = {name: plots.running_mean(losses, 2048)[::64] for name, losses in runs.items()}
plots.lines(seen, smooth, x="digits seen", y="training loss (mean over 2,048 digits)")

# %% [markdown]
# With the old learning rate, eight workers learn less from the same digits: they make an eighth of the steps,
# and no step goes further than before. The **linear scaling rule** multiplies the rate by the number of workers:
# the third curve comes back to the first, or nearly. It is a rule of thumb for plain SGD, and it has limits: at the start a
# large rate can be too large (so people warm up), and for very large batches it fails.
#
# ## 6. What does a second worker gain?
#
# Two workers share the arithmetic, and pay for averaging their gradients. Let us measure both, for the
# networks of lessons 1 and 3 and batches of 256 and 512. This script needs no data: noise is as much work as digits.

# %%
# %%writefile {folder}/speed.py
import json
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.nn
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
rank, SIZES, ROUNDS = dist.get_rank(), (256, 512), 11


def step(model, x, y):
    model.zero_grad()
    F.cross_entropy(model(x), y).backward()


# %%
# %%writefile -a {folder}/speed.py


def timed(run):
    dist.barrier()
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


# %% [markdown]
# Three things take turns: the whole batch in one worker, while the other waits; half a batch in each, without
# a word; and half a batch in each with DDP. The last two differ by the **talking**, and by
# waiting for each other. Of each, the quickest round counts: whatever else a machine does can only slow one down.

# %%
# %%writefile -a {folder}/speed.py


def measure(model, parallel, x):
    y, half = torch.arange(len(x)) % 10, len(x) // 2
    runs = {
        "one": lambda: step(model, x, y) if rank == 0 else None,
        "silent": lambda: step(model, x[:half], y[:half]),
        "two": lambda: step(parallel, x[:half], y[:half]),
    }
    rounds = [{name: timed(run) for name, run in runs.items()} for _ in range(ROUNDS)]
    times = {name: min(one[name] for one in rounds) for name in runs}
    return times | {"talk": max(0, times["two"] - times["silent"])}


# %%
# %%writefile -a {folder}/speed.py

relu, flat, pool = nn.ReLU(), nn.Flatten(), nn.MaxPool2d(2)
mlp = [flat, nn.Linear(784, 128), relu, nn.Linear(128, 256), relu, nn.Linear(256, 10)]
convolutions = [nn.Conv2d(1, 6, 5), relu, pool, nn.Conv2d(6, 16, 5), relu, pool]
linear = [nn.Linear(400, 120), relu, nn.Linear(120, 84), relu, nn.Linear(84, 10)]
inputs = {"MLP": (mlp, 28), "LeNet": ([*convolutions, flat, *linear], 32)}

# %%
# %%writefile -a {folder}/speed.py

results = {}
for name, (layers, side) in inputs.items():
    model = nn.Sequential(*layers)
    parallel = DistributedDataParallel(model)
    for size in SIZES:
        results[f"{name}, {size}"] = measure(model, parallel, torch.randn(size, 1, side, side))
if rank == 0:
    Path(__file__).with_name("speed.json").write_text(json.dumps(results))
del parallel
dist.destroy_process_group()

# %% [markdown] tags=["question"]
# How many times as fast do two workers train the MLP, with a batch of 256?
#
# - Twice
#   if: gain >= 1.9
#   The arithmetic is shared. The talking is not: it was not there before.
# - Nearly twice: talking is a matter of microseconds
#   if: 1.75 <= gain < 1.9
#   For a few numbers perhaps. Here 136,074 gradients have to go to the other worker at each step, and back.
# + Clearly less than twice
#   if: gain < 1.75
#   A step of the MLP is so short that talking takes a large share of it. It may well be *slower* with two: look whether the gain is above 1.
#
# read: MLP, 256 .+samples/s +(?P<gain>[\d.]+)

# %%
torchrun(folder / "speed.py", workers=2)
speed = json.loads((folder / "speed.json").read_text())
print(f"{'':10}{'one worker':>20}{'two workers':>20}{'gain':>8}{'one step':>12}{'talking':>10}")
for name, s in speed.items():
    rates = [int(name.split()[1]) / s[who] for who in ("one", "two")]
    print(f"{name:10}{rates[0]:10,.0f} samples/s{rates[1]:10,.0f} samples/s", end="")
    print(f"{s['one'] / s['two']:8.2f}{1000 * s['one']:9.1f} ms{1000 * s['talk']:7.1f} ms")

# %% [markdown]
# LeNet sends fewer gradients (lesson 3 counted 61,706 weights, the report above 136,074 for the MLP), and has far
# more arithmetic between two talks. What counts is the ratio: so a larger batch should gain more. (Talking includes
# waiting: two halves are never done at quite the same moment, least of all on a laptop whose second core has other work.)
#
# ### Amdahl's law
#
# What cannot be shared sets the limit, said Amdahl. With n workers the arithmetic takes the n-th part of its
# time, and the talking does not shrink. So a step takes one / n + talk, and however many workers there are, they
# are never more than one / talk times as fast.


# %%
def times_as_fast(one, talk, workers):
    return one / (one / workers + talk)


counts = [2**power for power in range(1, 9)]
fitted = {name.split(",")[0]: s for name, s in speed.items() if "256" in name}
predicted = {
    f"{name} (predicted)": [times_as_fast(s["one"], s["talk"], n) for n in counts]
    for name, s in fitted.items()
}
plots.lines(
    counts,
    {"no talking at all": counts, **predicted, "one worker": [1] * len(counts)},
    x="workers",
    y="times as fast as one worker",
    title="A prediction from a batch of 256 and two workers",
    scale="log",
    y_scale="log",
)

# %% [markdown]
# Is the formula any good? That it fits where its numbers come from would prove nothing. So let it foretell what it
# has not seen, two workers with a batch of 512: from the time of one worker, and the talking that was measured at
# 256, for as many gradients are sent.

# %%
for name, s in fitted.items():
    new = speed[f"{name}, 512"]
    foretold = times_as_fast(new["one"], s["talk"], 2)
    print(
        f"{name:6} batch 512: foretold {foretold:.2f}, measured {new['one'] / new['two']:.2f};",
        end=" ",
    )
    limits = [times_as_fast(s["one"], s["talk"], n) for n in (256, 10**9)]
    print(f"batch 256, 256 workers: {limits[0]:.1f}; more than any number: {limits[1]:.1f}")

# %% [markdown]
# How near it comes, the two numbers say. It can be no better than its assumptions: that half a batch takes half the
# time, and that all runs wait for each other alike. Beyond two workers it is a prediction, not a measurement. It
# knows nothing of the network between machines, nor of GPUs, which talk and compute much faster; and talking to more
# takes longer. But its message holds: a network with much arithmetic for each gradient that is sent scales far, and
# so does a larger batch for each worker.
#
# ## 7. A cluster
#
# On a cluster, SLURM starts the processes: as many on each machine as there are devices. The Trainer's settings
# and the script have to say the same, or nothing starts. So the script is made from the settings.

# %%
from course_utils.scale import SlurmError, check_slurm_script, slurm_script

cluster = dict(accelerator="gpu", devices=8, num_nodes=32, strategy="ddp")
script = slurm_script(cluster, "python train.py", time="24:00:00")
print(script)

# %% [markdown]
# Nobody here has 256 GPUs, and still it can be checked: bash reads it; SLURM's variables are made from its
# header; and Lightning's own `SLURMEnvironment` reads them, for the last of the 256 tasks.

# %%
# NBVAL_CHECK_OUTPUT
print(check_slurm_script(script, cluster))
with pretended(gpus=8):
    trainer = L.Trainer(**cluster, logger=False, enable_checkpointing=False)
print(f"the Trainer expects {trainer.world_size} workers")

# %% [markdown]
# And if settings and script disagree? That is the mistake that one makes at midnight. Some of its forms:

# %%
# NBVAL_CHECK_OUTPUT
for right, wrong in (("nodes=32", "nodes=16"), ("SIGUSR1", "SIGTERM"), ("srun ", "")):
    try:
        check_slurm_script(script.replace(right, wrong), cluster)
        raise AssertionError("a wrong script passed")
    except SlurmError as error:
        print("-", error)

# %% [markdown]
# ### When the time is up
#
# Clusters stop jobs after a limit. The line `--signal=SIGUSR1@90` asks for a signal 90 seconds before. Let us be a
# job of one task, and send ourselves that signal at step 30. (`pretended_job` sets SLURM's variables, and notes
# what SLURM's program `scontrol` is asked to do.)

# %%
import os
import shutil
import signal

from course_utils.scale import pretended_job


class TimeIsUp(L.Callback):
    def on_train_start(self, trainer, module):
        print("starts at step", trainer.global_step)

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == 30 and hasattr(signal, "SIGUSR1"):  # Windows has none
            os.kill(os.getpid(), signal.SIGUSR1)


# %%
quiet = dict(logger=False, enable_checkpointing=False, enable_model_summary=False)
quiet |= dict(enable_progress_bar=False, limit_val_batches=0, accelerator="cpu", devices=1)


def start_job(max_steps):
    root = dict(default_root_dir=folder / "job", callbacks=[TimeIsUp()])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no validation here, and a start in the middle of an epoch
        trainer = L.Trainer(max_steps=max_steps, **root, **quiet)
        trainer.fit(LitMLP(), DataLoader(TensorDataset(images, labels), batch_size=64))


# %% [markdown] tags=["question"]
# A job gets the signal at step 30 and is over at step 35. Where does its second start begin?
#
# - At step 0
#   if: again == 0
#   So it would in a plain script. Lightning has caught the signal.
# + At step 30
#   if: again == 30
#   When the signal came, it saved. The five steps after it are lost, and made again.
# - At step 35
#   if: again == 35
#   Nobody saved there: when the time is really up, nobody is asked any more.
#
# read: saved: .+\nstarts at step (?P<again>\d+)

# %%
# NBVAL_CHECK_OUTPUT
shutil.rmtree(folder / "job", ignore_errors=True)
with pretended_job(folder / "job") as asked:
    start_job(max_steps=35)  # at step 35 the time is really up
    print("asked:", asked.read_text().strip())
    print("saved:", *[path.name for path in (folder / "job").glob("*.ckpt")])
    start_job(max_steps=50)

# %% [markdown]
# Lightning caught the signal, saved a checkpoint, and asked SLURM to put the job into the queue again (`--requeue`
# allows that). The second start found the checkpoint by itself, in the Trainer's `default_root_dir`: on a cluster
# that has to be a folder that all machines see.
#
# ### When the network is too large
#
# DDP keeps the whole of everything on each GPU. How much is that? Weights, gradients, Adam's two averages, and what
# one easily forgets: the *buckets*, in which DDP gathers gradients before it sends them. A communication hook
# gets to see them:

# %%
# %%writefile {folder}/memory.py
import torch
import torch.distributed as dist
import torch.distributed.nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from course_utils.models import MLP


def remember(buckets, bucket):
    buckets.append(bucket.buffer())
    return allreduce_hook(None, bucket)


# %% [markdown]
# Make one step, then count the bytes: each part by itself, and all together.

# %%
# %%writefile -a {folder}/memory.py


def count(**options):
    model, buckets = MLP(), []
    parallel = DistributedDataParallel(model, **options)
    parallel.register_comm_hook(buckets, remember)
    optimizer = torch.optim.Adam(model.parameters())
    parallel(torch.rand(8, 1, 28, 28)).sum().backward()
    optimizer.step()
    weights = list(model.parameters())
    state = [t for s in optimizer.state.values() for t in s.values() if t.dim() > 0]
    parts = dict(weights=weights, gradients=[p.grad for p in weights], Adam=state, buckets=buckets)
    parts["all"] = sum(parts.values(), [])
    return {name: size(part) / size(weights) * 4 for name, part in parts.items()}


# %% [markdown]
# The gradients may lie *in* the buckets. So what lies in one place counts once:

# %%
# %%writefile -a {folder}/memory.py


def size(tensors):
    places = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(places.values())


dist.init_process_group("gloo")
for name, options in (("DDP", {}), ("DDP with views", dict(gradient_as_bucket_view=True))):
    counted = ", ".join(f"{part} {number:.0f}" for part, number in count(**options).items())
    print(f"{name:15} {counted} bytes a weight")
dist.destroy_process_group()

# %% [markdown] tags=["question"]
# A weight is a float of 4 bytes. How many bytes does training need for each weight, by DDP and with Adam?
#
# - 4
#   if: bytes == 4
#   That is for using the network. Training keeps more than the weights.
# - 8: the weight and its gradient
#   if: bytes == 8
#   And Adam, which remembers two averages for each weight.
# - 16: the weight, its gradient, and Adam's two averages
#   if: bytes == 16
#   Nearly. What one forgets are the buckets, in which DDP gathers gradients to send them.
# + 20
#   if: bytes == 20
#   Weight, gradient, two averages, and a place in a bucket: five times what the file of weights has.
#
# read: DDP +weights .+ all (?P<bytes>\d+) bytes a weight

# %%
# NBVAL_CHECK_OUTPUT
torchrun(folder / "memory.py", workers=1)

# %% [markdown]
# 20 bytes a weight, and 16 with `gradient_as_bucket_view=True` (in Lightning an argument of `DDPStrategy`): then the
# gradients lie in the buckets, and each is there once. For an MLP all that is nothing. For a language model? This one is
# built on the device `meta`, where tensors have a shape and no memory.

# %%
# NBVAL_CHECK_OUTPUT
with torch.device("meta"):
    layers = [nn.TransformerEncoderLayer(4096, 32, dim_feedforward=16384) for _ in range(32)]
billions = sum(p.numel() for layer in layers for p in layer.parameters()) / 1e9
print(f"{billions:.2f} billion weights")
for name, size in (("DDP", 20), ("DDP with views", 16)):
    print(f"{name}: {size * billions:.0f} GB on each GPU;", end=" ")
    print(f"a GPU of 80 GB holds {80 / size:.0f} billion weights")
for gpus in (8, 256):
    print(f"shared among {gpus:3} GPUs: {16 * billions / gpus:6.1f} GB on each")

# %% [markdown]
# A GPU of 80 GB cannot hold that; eight of them can share it. This is **FSDP** (*fully sharded data
# parallel*): each GPU keeps a part of weights, gradients and Adam's averages, and fetches the weights of one layer
# when it is that layer's turn (and has room for them). You say which layers are such units. It begins to matter where
# DDP's memory ends; earlier in truth, as activations need room too.

# %%
# NBVAL_CHECK_OUTPUT
from lightning.pytorch.strategies import FSDPStrategy

fsdp = FSDPStrategy(auto_wrap_policy={nn.TransformerEncoderLayer})
print(attempt(dict(accelerator="gpu", devices=8, strategy=fsdp)))

# %% [markdown]
# ## 8. A worker dies
#
# With many workers, one of them will fail one day. What happens then? A longer run, with a checkpoint after every
# fourth epoch:

# %%
# %%writefile {folder}/long.py
import tempfile
from pathlib import Path

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset

from course_utils.models import LitMLP
from course_utils.session import quieten

HERE = Path(__file__).parent
tempfile.tempdir = str(HERE)  # a checkpoint is written here first, then moved in one piece
quieten()
L.seed_everything(42, verbose=False)
digits = TensorDataset(*torch.load(HERE / "digits.pt", weights_only=True))
loader = DataLoader(digits, batch_size=32, shuffle=True)
rhythm = dict(every_n_epochs=4, save_last=True, enable_version_counter=False)
keep = ModelCheckpoint(HERE / "long", **rhythm)
quiet = dict(logger=False, enable_model_summary=False, enable_progress_bar=False)
devices = dict(accelerator="cpu", devices=2, strategy="ddp")
long = dict(max_epochs=2000, max_time="00:00:03:00", limit_val_batches=0)  # 3 minutes
trainer = L.Trainer(callbacks=[keep], **long, **devices, **quiet)
trainer.fit(LitMLP(), loader)
dist.destroy_process_group()

# %% [markdown]
# Start it, wait for a checkpoint, and kill the second worker, as a lack of memory would: at once, without a
# word. Then wait, but not for ever: if the launcher did not end, `run.wait` would stop everything
# after 60 seconds, with an error. (And a save that is cut off? Lightning writes to the folder for temporary files
# and moves it. That is done in one piece only within one disk, so the script keeps both together.)

# %% [markdown] tags=["question"]
# One of two workers is killed in the middle of its work. What becomes of the run?
#
# + All of it ends, with an error
#   if: code != 0
#   The launcher notices and ends the other worker too. Better a loud end and a checkpoint than a silence that nobody hears.
# - The other worker goes on alone
#   if: code == 0
#   It cannot: at the next step it has to average with somebody who is not there any more.
# - The other one waits for ever
#   if: "Timeout" in text
#   People have lost nights to that. Here `run.wait` would stop it after a minute; see whether it had to.
#
# read: after the kill, with exit code (?P<code>-?\d+)

# %%
last = folder / "long" / "last.ckpt"
shutil.rmtree(last.parent, ignore_errors=True)
with launch(folder / "long.py", workers=2) as run:
    run.until(last.exists, timeout=150)
    run.workers()[1].kill()
    killed = time.monotonic()
    code = run.wait(timeout=60)
print(f"the launcher ended {time.monotonic() - killed:.1f} s after the kill, with exit code {code}")
assert code != 0

# %%
print(*run.failures(), sep="\n")
print("left over:", run.workers())

# %% [markdown]
# -9 is the kill. The launcher noticed, the other worker ended too, and so did the launcher, with an error: nothing
# hangs, and nobody takes the run for a finished one. And the checkpoint?

# %%
checkpoint = torch.load(last, weights_only=True)
print("whole; epochs done:", checkpoint["epoch"] + 1, "steps:", checkpoint["global_step"])

# %% [markdown]
# It resumes: with the same two workers, or with what is left. Here, one process goes on for two epochs, with
# whole batches:

# %%
trainer = L.Trainer(max_epochs=checkpoint["epoch"] + 3, **quiet)
loader = DataLoader(TensorDataset(images, labels), batch_size=64, shuffle=True)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # no validation here, and one callback less
    trainer.fit(LitMLP(), loader, ckpt_path=last, weights_only=True)
steps = trainer.global_step - checkpoint["global_step"]
print(f"went on from step {checkpoint['global_step']} for {steps} steps of {len(loader)} an epoch")
assert steps == 2 * len(loader)

# %% [markdown]
# ## Recap
#
# 1. `accelerator`, `devices`, `num_nodes`: which hardware, how much of it on a machine, how many machines.
# 2. Data-parallel training is gradient accumulation whose parts are computed at the same time. Two workers with
#    half a batch each make the steps of one with the whole batch, up to rounding, if the shares are equal and there is
#    no batch norm.
# 3. Raw DDP takes a process group, a sampler, `set_epoch`, a wrapper, care about who prints and saves, and an end in
#    order. The Trainer takes a flag, and does the same, bit for bit; the group is yours to end.
# 4. An undivided batch is a larger batch: fewer steps, and another learning rate.
# 5. The share of talking decides how far it scales. Measure it before you ask for 256 GPUs.
# 6. A worker that dies ends the run. What was saved, can go on.
#
# ## Common mistakes
#
# - **Calling `model` in place of the wrapped model**: gradients are not averaged, the workers drift apart, and
#   nothing fails. `join` finds it.
# - **No sampler**: all workers get the same digits, and the second adds nothing. `join` finds that, too.
# - **Forgetting `set_epoch`**: every epoch has the same order.
# - **A number of samples that cannot be divided**: the sampler gives some digits to two workers, so that all have
#   the same number of batches. In an evaluation they would count twice: evaluate with one device.
# - **Logging without `sync_dist=True`**: what you see is the first worker's share.
# - **Printing or saving in every worker**: two processes write the same file at the same time.
#
# ## Exercises
#
# Five exercises that check themselves, from the cards of a sampler to a run that hangs:
# [exercises for lesson 6](exercises/06_scale_out.ipynb).
#
# ## Read on
#
# - [GPU training](https://lightning.ai/docs/pytorch/stable/accelerators/gpu_intermediate.html) and
#   [clusters](https://lightning.ai/docs/pytorch/stable/clouds/cluster_advanced.html), in Lightning's documentation.
# - [DistributedDataParallel](https://docs.pytorch.org/docs/stable/notes/ddp.html): how it talks while it computes.
# - Goyal et al. (2017), [Accurate, large minibatch SGD](https://arxiv.org/abs/1706.02677): the linear scaling rule.
# - Rajbhandari et al. (2020), [ZeRO](https://arxiv.org/abs/1910.02054): the idea behind FSDP, and the bytes.
