# %% [markdown]
# # Exercises 0. Start here
#
# {{badge}}
#
# Four short exercises for [lesson 0](../00_start_here.ipynb). They also show how the exercises of all
# lessons work: a cell has gaps (`...`) for your answer; run it, then the cell below, which checks what
# you wrote and says what is wrong and why. Check as often as you like: nothing of yours is changed. Take
# the `#` from a line to get a hint, a plainer one each time, or to see a solution.

# %% tags=["setup"]
# {{setup}}

# %%
import os

import torch

from course_utils.digits import MEAN, STD, DigitImages
from course_utils.exercises import progress
from course_utils.exercises.lessons.lesson_00 import q1, q2, q3, q4
from course_utils.session import start

session = start(42)
digits = DigitImages(session.digits.root, train=True)

# %% tags=["grader"]
import os
from collections.abc import Mapping
from pathlib import Path

import torch

from course_utils.digits import MEAN, STD, DigitImages
from course_utils.digits.mnist import bundled_sample
from course_utils.exercises import Lines, Question, function, number, right, values, wrong
from course_utils.switches import SwitchError, switch

# %% [markdown]
# ## 1. Predict: shapes, and a grey pixel
#
# `digits.images` is a tensor of shape `[N, 1, 28, 28]`. Work these out before you ask Python:
#
# - `several`: the shape of `digits.images[3:10]`, as a list;
# - `one`: the shape of `digits.images[3]`, as a list;
# - `grey`: what a pixel of 128 in the file becomes in the tensor, to two decimals. The pixels are divided by
#   255, then `MEAN` (0.1307) is taken away, then they are divided by `STD` (0.3081).

# %% tags=["grader"]
SEVERAL = {
    (8, 1, 28, 28): "a slice ends before its second number, and 3 to 9 are seven",
    (10, 1, 28, 28): "the slice begins at 3, so the first three are not in it",
    (7, 28, 28): "the channel stays, even where there is only one",
    (7, 784): "a slice takes digits; nothing lays their pixels in a row",
    (7, 28, 28, 1): "the channel comes before height and width",
    (1, 28, 28): "that is one digit",
}
ONE = {
    (1, 1, 28, 28): "a single index takes its dimension away; the slice `3:4` would keep it",
    (28, 28): "only the dimension of the index goes, and the channel stays",
    (3, 1, 28, 28): "3 is the digit's place, not how many there are",
}
GREYS = {
    128 / 255: "it is divided by 255 only",
    128 / 255 - MEAN: "it is shifted, and not yet stretched: divide by STD",
    (128 - MEAN) / STD: "MEAN and STD are those of pixels from 0 to 1: divide by 255 first",
    128 / 255 / STD - MEAN: "take MEAN away first, then divide by STD",
    (128 / 255 - MEAN) * STD: "divide by STD, rather than multiply",
    128 / 255 - MEAN / STD: "the whole difference is divided by STD: it needs brackets",
}


def _other_shape(said, name, true, usual):
    """Return what is wrong with a shape, or None."""
    try:
        sizes = tuple(int(size) for size in said)
    except Exception:  # whatever objects of any class raise
        return wrong(f"`{name}` should be a list of sizes, as in `[2, 28]`.")
    if sizes == true:
        return None
    reason = usual.get(sizes, "`digits.images` has four dimensions, and an index touches the first")
    return wrong(f"`{name}` is not {list(sizes)}: {reason}.")


def _predicted(several, one, grey):
    for said, name, true, usual in (
        (several, "several", (7, 1, 28, 28), SEVERAL),
        (one, "one", (1, 28, 28), ONE),
    ):
        if (found := _other_shape(said, name, true, usual)) is not None:
            return found
    said = number(grey, "grey")
    if not abs(said - (128 / 255 - MEAN) / STD) < 0.01:
        found = [reason for usual, reason in GREYS.items() if abs(said - usual) < 0.006]
        usual = (found or ["(128 / 255 - MEAN) / STD, step by step, begins with 0.50"])[0]
        return wrong(f"{said:.4g} is not it: {usual}.", "where the digits are scaled")
    return right("[7, 1, 28, 28], [1, 28, 28] and 1.20.")


q1 = Question(
    number=1,
    kind="predict",
    title="Shapes, and a grey pixel",
    lesson="00_start_here",
    place="“The digits as tensors”",
    expects="two shapes and a number",
    hints=(
        "A slice, `3:10`, keeps the first dimension; a single index, `3`, takes it away.",
        "The slice has 10 - 3 digits. The grey pixel is 128 / 255 = 0.50 before the shift.",
        "[7, 1, 28, 28]; of one digit only [1, 28, 28] is left; (0.502 - 0.1307) / 0.3081.",
    ),
    takeaway="Half grey is far from the middle of the numbers: most pixels are black, so the mean "
    "lies near black.",
    checker=_predicted,
)

# %%
several = ...
one = ...
grey = ...
### BEGIN SOLUTION
several = [7, 1, 28, 28]
one = [1, 28, 28]
grey = (128 / 255 - 0.1307) / 0.3081
### END SOLUTION

# %%
q1.check(several, one, grey)
# q1.hint()
# q1.solution()

# %% [markdown]
# ## 2. Fill in: there and back
#
# Two functions, each a line or two. `normalised` gets pixels as the files have them, whole numbers from 0 to
# 255 (uint8), and returns what a model gets. `grey_levels` goes back: from such a tensor to whole numbers
# from 0 to 255. `MEAN` and `STD` are imported above. Back and forth, each pixel has to arrive as it was.

# %% tags=["grader"]
NORMALISED = (
    (lambda p: p / 255, "they are divided by 255 only: shift them, then stretch them"),
    (lambda p: p / 255 - MEAN, "they are shifted but not stretched: divide by STD, too"),
    (lambda p: (p - MEAN) / STD, "MEAN and STD are those of pixels from 0 to 1: first divide by "
     "255"),
    (lambda p: p / 255 / STD - MEAN, "take MEAN away first, then divide by STD"),
    (lambda p: (p / 255 - MEAN) * STD, "divide by STD, rather than multiply"),
    (lambda p: (p / 255 - STD) / MEAN, "MEAN and STD have changed places"),
    (lambda p: p / 255 - MEAN / STD, "the whole difference is divided: put it in brackets"),
)  # fmt: skip
BACK = (
    (lambda x: x * STD + MEAN, "they go from 0 to 1: multiply by 255, too"),
    (lambda x: x * 255, "shift and stretch have to be undone first: times STD, plus MEAN"),
    (lambda x: (x + MEAN) * STD * 255, "undo in reverse: what came last goes first, so times STD, "
     "then plus MEAN"),
    (lambda x: (x * STD + MEAN) * 255, "they are not whole yet: round them"),
)  # fmt: skip


def _usual(said, given, usual):
    """Return the sentence of the first usual mistake that gives what was said, or nothing."""
    gives = ((reason, mistake(given)) for mistake, reason in usual)
    found = [reason for reason, wrongly in gives if torch.allclose(said, wrongly, atol=1e-3)]
    return found[0] if found else ""


def _there_and_back(normalised, grey_levels):
    forth, back = function(normalised, "normalised"), function(grey_levels, "grey_levels")
    pixels = torch.cat([torch.arange(256), torch.randint(256, (528,))]).reshape(1, 1, 28, 28)
    there = (pixels / 255 - MEAN) / STD
    said = values(forth(pixels.to(torch.uint8)), "normalised", (1, 1, 28, 28))
    some = [0, 128, 255]
    if not torch.allclose(said, there.double(), atol=1e-4):
        made = ", ".join(f"{value:.4g}" for value in said.flatten()[some])
        reason = _usual(said, pixels.double(), NORMALISED) or "divide by 255, shift, stretch"
        return wrong(f"Of the pixels 0, 128 and 255 you make {made}: {reason}.")
    said = values(back(there), "grey_levels", (1, 1, 28, 28))
    if (reason := _usual(said, there.double(), BACK)) and not torch.equal(said, said.round()):
        some = [int((said != said.round()).flatten().nonzero()[0]), 128, 255]
        came = ", ".join(f"{pixels.flatten()[i]} as {said.flatten()[i]:.7g}" for i in some)
        return wrong(f"Pixels come back as others, {came}: {reason}.")
    off = said.flatten()[:256] - torch.arange(256)
    if (off == 0).all():
        return right()
    first = int(off.nonzero()[0])
    made = f"{int((off != 0).sum())} of the 256 values come back as others, the first, {first}, as "
    made += f"{said.flatten()[first]:.6g}"
    if off.abs().max() == 1 and off.max() <= 0:
        return wrong(f"{made}: what was 2.9999 is cut to 2. Round first (`.round()`).")
    return wrong(f"{made}: undo the steps in reverse, then round.")


q2 = Question(
    number=2,
    kind="fill in",
    title="There and back",
    lesson="00_start_here",
    place="“The digits as tensors”, where they are scaled",
    expects="the functions `normalised` and `grey_levels`",
    hints=(
        "Exercise 1 did the first one for a single pixel; tensors compute the same way.",
        "Back means in reverse: times STD, plus MEAN, times 255.",
        "`(pixels / 255 - MEAN) / STD`, and `((images * STD + MEAN) * 255).round()`.",
    ),
    takeaway="Undo steps in reverse order, and round before you cut off decimals: floats land "
    "beside whole numbers, not on them.",
    checker=_there_and_back,
)


# %%
def normalised(pixels):
    return ...  # what a model gets
    ### BEGIN SOLUTION
    return (pixels / 255 - MEAN) / STD
    ### END SOLUTION


def grey_levels(images):
    return ...  # whole numbers from 0 to 255
    ### BEGIN SOLUTION
    return ((images * STD + MEAN) * 255).round()
    ### END SOLUTION


# %%
q2.check(normalised, grey_levels)
# q2.hint()
# q2.solution()

# %% [markdown]
# ## 3. Lines in order: a digit in letters
#
# A function draws a digit as text, with a `#` for ink and a `.` for paper:
#
# ```
# def drawing(image):          # one digit, [1, 28, 28]
#     …                        # before
#     for row in pixels:
#         …                    # each_row
#     …                        # after
# ```
#
# Below are its lines, shuffled. Place each, in the order in which they run. A pixel counts as ink where it is
# brighter than half grey, so the normalisation has to be undone first.

# %% tags=["grader"]
HOMES = {
    "a": ("each_row", "a row's text is kept when it is made, or only the last is left"),
    "b": ("before", "the rows are those of `pixels`, so it has to be there before the loop"),
    "c": ("after", "`return` ends the function, so it comes when all rows are there"),
    "d": ("each_row", "it asks one row, and a row is there in the loop only"),
    "e": ("before", "the list begins empty, once, or it forgets the rows before"),
    "f": ("each_row", "it makes the text of one row, from the row's ink"),
    "g": ("before", "the normalisation is undone for all pixels, once"),
}
TEMPLATE = """\
def drawing(image):
    {before}
    for row in pixels:
        {each_row}
    {after}
"""
LINES = Lines(
    shown=(
        "lines.append(text)",
        "pixels = image[0]",
        'return "\\n".join(lines)',
        "inked = row > 0.5",
        "lines = []",
        'text = "".join("#" if ink else "." for ink in inked)',
        "pixels = pixels * STD + MEAN",
    ),
    template=TEMPLATE,
)


def _drawn(image):
    rows = (image[0] * STD + MEAN > 0.5).tolist()
    return "\n".join("".join("#" if ink else "." for ink in row) for row in rows)


def _in_order(placed):
    placed = LINES.read(placed)
    strays = [letter for letter, (home, _) in HOMES.items() if letter not in placed[home]]
    images = DigitImages(bundled_sample().root, train=False).images[[7, 300, 800]]
    try:
        drawing = LINES.run(placed, {"STD": STD, "MEAN": MEAN})["drawing"]
        said = [drawing(image) for image in images]
    except Exception:
        if not strays:
            raise
        said = [""]
    if said == [_drawn(image) for image in images]:
        return right("Three digits are drawn as they are.")
    text = said[0] if isinstance(said[0], str) else ""
    rows = len(text.splitlines())
    seen = f"It draws {rows} of 28 rows. " if 0 < rows < 28 else ""
    if not strays:
        return wrong(f"{seen}All lines are in their places, but in another order than they run.")
    letter = strays[0]
    place = next(place for place, letters in placed.items() if letter in letters)
    why = HOMES[letter][1]
    return wrong(f"{seen}`{letter}`, `{LINES.rows[letter]}`, is not for `{place}`: {why}.")


q3 = Question(
    number=3,
    kind="lines in order",
    title="A digit in letters",
    lesson="00_start_here",
    place="“The digits as tensors”, where the middle of a digit is printed row by row",
    expects="a dictionary from place to letters",
    hints=(
        "What is needed once, what for each row, and what when all rows are done?",
        "Three lines come before the loop, three belong into it, and one comes after it.",
        "Before: `b`, `g`, `e`. For each row: `d`, `f`, `a`. After: `c`.",
    ),
    takeaway="Before, for each, after: every loop of this course has these three places.",
    checker=_in_order,
    ordered=LINES,
)

# %%
lines = q3.lines()
lines

# %% [markdown]
# Each place gets the letters of its lines, as in `"ab"`.

# %%
placed = {"before": ..., "each_row": ..., "after": ...}
### BEGIN SOLUTION
placed = {"before": "bge", "each_row": "dfa", "after": "c"}
### END SOLUTION

# %%
q3.check(placed)
# q3.hint()
# q3.solution()

# %% [markdown]
# ## 4. Explore: a room without a network
#
# You are to give the course in a room without a network and without GPUs. `settings` is a dictionary of
# environment variables, with which `start` takes the bundled sample and the CPU wherever it runs, and
# lessons write into a folder called `my_runs`. `train`: how many training digits does a lesson have then?
# Set them, call `start(42)`, and look at `.digits`: that is how to try it.


# %% tags=["shows"]
def tried(settings):
    before = dict(os.environ)
    os.environ.update(settings)
    try:
        return start(42)
    finally:
        os.environ.clear()
        os.environ.update(before)


tried({}).digits.train  # nothing changed yet

# %% tags=["grader"]
KNOWN = ("COURSE_DATA", "COURSE_DATA_DIR", "COURSE_ACCELERATOR", "COURSE_RUNS")
TRAINING = {
    5000: "those are all digits of the sample, and a fifth of them is kept for testing",
    1000: "those are the digits to test",
    60000: "that is full MNIST",
    70000: "that is full MNIST, training and test together",
    3667: "that is what lesson 1 leaves after it has set some aside to validate",
}


def _of_other_form(settings):
    """Return what is wrong with the form of the settings, or None."""
    if not isinstance(settings, Mapping):
        return wrong('`settings` should be a dictionary, as in `{"COURSE_DATA": "auto"}`.')
    for name, value in settings.items():
        if name not in KNOWN:
            return wrong(f"Lessons read no variable `{name}`. They read {', '.join(KNOWN)}.")
        if not isinstance(value, str):
            given = type(value).__name__
            return wrong(f"Environment variables hold text only, and `{name}` is a {given}.")
    return None


def _room(settings, train):
    if (found := _of_other_form(settings)) is not None:
        return found
    for name in KNOWN:
        os.environ.pop(name, None)
    os.environ.update(settings)
    try:
        data, accelerator = switch("COURSE_DATA"), switch("COURSE_ACCELERATOR")
    except SwitchError as error:
        return wrong(f"`start` says: {error}")
    if data != "sample":
        folder = " A folder with MNIST in it need not be there." * ("COURSE_DATA_DIR" in settings)
        unset = "" if "COURSE_DATA" in settings else "not set, so it is "
        return wrong(f"COURSE_DATA is {unset}{data!r}, which may ask the network.{folder}")
    if accelerator != "cpu":
        also = "takes a GPU where there is one" if accelerator == "auto" else "stops without a GPU"
        unset = "" if "COURSE_ACCELERATOR" in settings else "not set, so it is "
        return wrong(f"COURSE_ACCELERATOR is {unset}{accelerator!r}, which {also}.")
    runs = settings.get("COURSE_RUNS", "").strip()
    if Path(runs).name != "my_runs":
        return wrong(f"Lessons write into {runs or 'runs'!r}, not into `my_runs`.")
    if (said := number(train, "train")) != bundled_sample().train:
        usual = TRAINING.get(said, "try the settings, and look at `.digits.train`")
        return wrong(f"{said:,} is not it: {usual}.", "the section on which digits you have")
    return right("The sample, the CPU, the folder my_runs; 4,000 digits to train.")


q4 = Question(
    number=4,
    kind="explore",
    title="A room without a network",
    lesson="00_start_here",
    place="the table of variables below “Other data, another device”",
    expects="a dictionary of environment variables and a number",
    hints=(
        "The table in the lesson has three variables that you need, each with its values.",
        "They are COURSE_DATA, COURSE_ACCELERATOR and COURSE_RUNS. `tried(settings).digits` tells "
        "what `start` found.",
        '`{"COURSE_DATA": "sample", "COURSE_ACCELERATOR": "cpu", "COURSE_RUNS": "my_runs"}`; then '
        "look at `.digits.train`.",
    ),
    takeaway="Say what a run depends on, and it is the same run in another room.",
    checker=_room,
)

# %%
settings = ...
train = ...
### BEGIN SOLUTION
settings = {"COURSE_DATA": "sample", "COURSE_ACCELERATOR": "cpu", "COURSE_RUNS": "my_runs"}
train = 4_000
### END SOLUTION

# %%
q4.check(settings, train)
# q4.hint()
# q4.solution()

# %% [markdown]
# ## What is solved
#
# Kept in `progress.json` beside the notebooks; deleting it harms nothing.

# %% tags=["learner"]
progress()
