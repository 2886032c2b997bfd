# %% [markdown]
# # 0. Start here
#
# {{badge}}
#
# > How the course works, whether everything is installed, and the digits that we learn from.
#
# At the end of this lesson you will
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
# ## How the course works
#
# Each lesson builds a model with a loop in plain PyTorch, where you can see every line at work.
# Then it moves the same code into Lightning, a library that runs such loops for you. And then it
# **proves** that nothing has changed: the same batches, the same gradients and the same weights
# after every step, down to the last bit.
#
# That proof is a tool, the *port doctor*. Once you know it from the lessons, point it at loops of
# your own.

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

# %%
# NBVAL_CHECK_OUTPUT
four = digits.images[:4]
print("shape:", list(four.shape))
print("dtype:", four.dtype)

# %% [markdown]
# The files hold whole numbers from 0 (black) to 255 (white). For training they are scaled: divided
# by 255, then shifted and stretched so that all pixels together have a mean near 0 and a standard
# deviation near 1. Models learn faster from numbers of this size.

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
