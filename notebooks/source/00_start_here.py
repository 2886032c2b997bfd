# %% [markdown]
# # 0. Start here
#
# {{badge}}
#
# > How the course works, whether everything is installed, and the digits that we learn from.
#
# Somebody tidies up a training script. One line moves. No error comes, no warning, and the loss falls as
# nicely as ever. Weeks later the results are not what they were, and nobody knows since when. Looking at the
# loss would not have told. This does:
#
# ```text
# Diagnosis: forgotten train()
# Evidence: old loop: 3 of 3 layers in training mode; new loop: 0 of 3 layers in training mode
# ```
#
# You will run exactly that in a minute. Then you will learn to write such loops by hand, to hand them over
# to Lightning, and to prove that nothing got lost on the way.
#
# At the end of this lesson you will
# - have seen a mistake that no loss shows, and the tool that finds it;
# - know that everything the course needs is installed, or what to do about it;
# - have seen the digits, as pictures and as the tensors that a model gets;
# - know which data you have, and how to choose other data or another device;
# - know how a lesson is built, and which one comes next.
#
# **Time**: about 5 minutes, nearly all of it reading.
#
# **Builds on**: some Python, and a first idea of what a neural network is.

# %% tags=["setup"]
# {{setup}}

# %% [markdown]
# ## A loop that lies
#
# Here is the story from above, to run: a cell is run by Shift+Enter. (Does it end in an error? Then something is
# not installed. Go on below, at "Is everything here?", and come back.) You need not understand every line
# yet; lesson 1 takes them one by one. Some numbers to learn from, and one step of training:

# %%
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
x = torch.randn(256, 10)
y = x[:, :1] * x[:, 1:2] + x[:, 2:3]
batches = list(zip(x[:192].split(32), y[:192].split(32)))  # 6 batches; the rest is held back


def step(model, optimizer, x, y):
    loss = F.mse_loss(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


# %% [markdown]
# The network has *dropout*: while it is trained, some of its numbers are left out at random, so that it does
# not learn by heart. `model.train()` switches that on, `model.eval()` off.
#
# In the old script `model.train()` stands inside the loop over epochs. Whoever tidied up thought that once is
# enough, and moved it in front. The two differ in nothing else.


# %%
def validate(model):
    model.eval()
    with torch.no_grad():
        return F.mse_loss(model(x[192:]), y[192:]).item()


def old_loop(model, optimizer):
    for _ in range(20):  # epochs
        model.train()
        losses = [step(model, optimizer, *batch) for batch in batches]
        validate(model)
    return losses


def new_loop(model, optimizer):
    model.train()
    for _ in range(20):  # epochs
        losses = [step(model, optimizer, *batch) for batch in batches]
        validate(model)
    return losses


# %% [markdown] tags=["question"]
# Both train for 20 epochs, from the same weights, on the same batches. How do their losses at the end compare?
#
# - They are the same
#   if: abs(new - old) < 0.01
#   That is what whoever moved the line believed. But `validate` switches to `eval`, and in the new script nobody
#   switches back: from the second epoch on it trains without dropout.
# + The new one is lower
#   if: new < old - 0.01
#   From the second epoch on dropout is off, and a network with all its numbers has it easier. It looks like progress,
#   but it is another training than the one that was meant, and nobody has decided that.
# - The new one is higher, so one would see that something is wrong
#   if: new > old + 0.01
#   If only mistakes were so kind. Without dropout what it trains on gets easier, not harder.
#
# read: old loop: last loss (?P<old>[\d.]+)
# read: new loop: last loss (?P<new>[\d.]+)

# %%
from course_utils.parity import compare, trace

records = {}
for loop in (old_loop, new_loop):
    torch.manual_seed(42)
    model = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 1))
    with trace(model) as records[loop]:
        losses = loop(model, torch.optim.Adam(model.parameters(), lr=1e-2))
    print(f"{loop.__name__.replace('_', ' ')}: last loss {losses[-1]:.3f}")

# %% [markdown]
# No error, no warning, a lower loss. `trace` has watched both, step by step, and `compare` says where they part
# and why. This is the *port doctor*:

# %% [markdown] tags=["question"]
# An epoch has six batches. At which step do the two loops part?
#
# - Step 1
#   if: step == 1
#   Before the first batch both have called `train()`. All of the first epoch is the same.
# - Step 6, the last of the first epoch
#   if: step == 6
#   `validate` comes after it, and does what it should. The fault is in what does not follow.
# + Step 7, the first of the second epoch
#   if: step == 7
#   `validate` has switched to `eval`, and this is the first step that should have been taken in `train` again.
#
# read: first differ in the mode, at step (?P<step>\d+)

# %%
print(compare(*records.values(), names=("old loop", "new loop")))

# %% [markdown]
# It names the step, the cause, and what to do. That is how this course works: nothing is
# believed, everything is compared.

# %% [markdown]
# ## How the course works
#
# Each lesson builds a model with a loop in plain PyTorch, where you can see every line at work.
# Then it moves the same code into Lightning, a library that runs such loops for you. And then it
# **proves** that nothing has changed: the same batches, the same gradients and the same weights
# after every step, down to the last bit.
#
# The proof is the port doctor's. Once you know it from the lessons, point it at loops of your own.
#
# Now and then a question comes before a cell, as above. Decide first, then run the cell, then open the
# options: each one says what speaks for it or against it. Nothing is counted. A prediction that turned out
# wrong is what one remembers best.

# %% [markdown]
# ## Is everything here?
#
# The next cell looks at Python, at each package that the course needs, and at how they fit
# together. A line that starts with `OK` is fine. A line that starts with `FAIL` says what to do;
# do it, restart the kernel, and run the cell again.

# %% tags=["installation"]
from course_utils.installation import check_installation

everything_ok = check_installation()

# %% [markdown]
# Every lesson starts with the same line. `start(42)` seeds all random numbers with 42, so that
# your run can be repeated. It also chooses the device, and it finds the digits. What it chose
# stands in the line that it prints.

# %%
from course_utils.session import start

session = start(42)

# %% [markdown]
# ## Which digits do you have?
#
# MNIST is a set of 70,000 handwritten digits. The course looks for it on your disk first, and
# downloads it if it is not there (11 MB, once). Without a network it takes a sample of 5,000 real
# MNIST digits that comes with the course. All lessons run on either; the sample is faster and
# its accuracies are lower.

# %%
print(session.digits)

# %% [markdown]
# Is that another set of the same form, such as Fashion-MNIST with its shirts and shoes? Then all
# lessons run and all proofs hold. But their text speaks of MNIST: its numbers, and what it says
# about single digits such as 4s and 9s, are not those of your pictures.
#
# ### Other data, another device
#
# Environment variables change what `start` chooses, and where lessons write. Set them before the
# kernel starts, or in a first cell with `os.environ[...] = ...`:
#
# | variable | values | what it does |
# |---|---|---|
# | `COURSE_DATA` | `auto`, `sample` | `sample` takes the bundled digits, and asks no network |
# | `COURSE_DATA_DIR` | a folder | takes MNIST from this folder (it has `MNIST/raw` in it) |
# | `COURSE_ACCELERATOR` | `auto`, `cpu`, `gpu` | where the models are trained |
# | `COURSE_RUNS` | a folder | where lessons write; without it, `runs` beside the notebook |
#
# A value that the course does not know is an error that lists the known ones. Let us see one:

# %%
import os

before = os.environ.get("COURSE_DATA")
os.environ["COURSE_DATA"] = "smaple"
try:
    start(42)
except ValueError as error:
    print(error)
os.environ["COURSE_DATA"] = before or "auto"  # auto is the same as not set

# %% [markdown]
# ## The digits as pictures
#
# `DigitImages` reads the files into memory. Here are the first 20 training digits, each with its
# label: the digit that the writer meant.

# %%
from course_utils.digits import DigitImages
from course_utils.views import digit_grid

digits = DigitImages(session.digits.root, train=True)
digit_grid(digits.images[:20], titles=digits.labels[:20].tolist())

# %% [markdown]
# ## The digits as tensors
#
# A model does not see pictures. It sees a **tensor**: a block of numbers with a shape. Images come
# as `[N, C, H, W]`: the number of images, the channels (1 for grey, 3 for colour), the height and
# the width in pixels. Here are four digits:

# %% [markdown] tags=["question"]
# What is the shape of four grey digits?
#
# - `[4, 28, 28]`
#   if: shape == "4, 28, 28"
#   The files keep them so. But networks want to know how many channels there are, and grey is one channel, not none.
# + `[4, 1, 28, 28]`
#   if: shape == "4, 1, 28, 28"
#   Four pictures, one channel, 28 rows, 28 columns.
# - `[28, 28, 4]`
#   if: shape == "28, 28, 4"
#   Some picture libraries put channels last, and none put the number of pictures there. In PyTorch the batch comes first.
#
# read: shape: \[(?P<shape>[\d, ]+)\]

# %%
# NBVAL_CHECK_OUTPUT
four = digits.images[:4]
print("shape:", list(four.shape))
print("dtype:", four.dtype)

# %% [markdown]
# The files hold whole numbers from 0 (black) to 255 (white). For training they are scaled: divided
# by 255, then shifted and stretched so that all pixels together have a mean near 0 and a standard
# deviation near 1. Models learn faster from numbers of this size.

# %% [markdown] tags=["question"]
# In the files, the background of a digit is 0. Which number does the model get for it?
#
# - 0
#   if: lowest == 0
#   Dividing leaves 0 at 0, but then all pixels are shifted, so that their *mean* is 0. The background lies below the mean.
# - -1
#   if: lowest == -1
#   That would be a scale from -1 to 1. Here the scale is chosen by mean and standard deviation, so it ends where it ends.
# + About -0.4
#   if: -0.5 < lowest < -0.3
#   Most of a picture is background, so the mean lies near it: the background comes out a little below 0, and ink far above.
#
# read: lowest (?P<lowest>-?[\d.]+)

# %%
print(f"lowest {digits.images.min():.3f}, highest {digits.images.max():.3f}")
print(f"mean {digits.images.mean().abs():.2f}, standard deviation {digits.images.std():.2f}")

# %% [markdown]
# To see both at once, here is the middle of the first digit: eight rows and eight columns of what
# the model gets. Compare the numbers with the strokes in its picture above: bright ink is about
# 2.8, the background about -0.4.

# %%
for row in digits.images[0, 0, 10:18, 10:18]:
    print(" ".join(f"{value:5.1f}" for value in row))

# %% [markdown]
# Labels are whole numbers from 0 to 9, one for each image. No digit is much rarer than another,
# which matters: a model that always said "1" would be right about one time in ten.

# %%
counts = digits.labels.bincount()
print({digit: int(count) for digit, count in enumerate(counts)})

# %% [markdown]
# ## How a lesson is built
#
# 1. The model and its loop **by hand**, one step at a time, shapes printed before they are used.
# 2. Each line of the loop with its job: how much of it is the idea, how much is plumbing?
# 3. The **refactor** to Lightning, one move at a time.
# 4. The **proof** that both compute the same thing, and a mistake that the port doctor finds.
# 5. What you gained, what it cost, and the results as pictures.
# 6. A recap, common mistakes, and exercises.
#
# Run the cells from top to bottom with Shift+Enter. Change things: the lessons are made for it, and
# "Restart kernel and run all cells" always brings you back.

# %% [markdown]
# ## Exercises
#
# Each lesson has exercises that check themselves. The first four are short, and show how it works:
# [exercises for lesson 0](exercises/00_start_here.ipynb).

# %% [markdown]
# ## The course map
#
# {{map}}
#
# Go on with lesson 1, where a first network learns to read the digits that you have just seen.
