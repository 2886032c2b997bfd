# %% [markdown]
# # Exercises 7. Ship it
#
# {{badge}}
#
# Six exercises for [lesson 7](../07_ship_it.ipynb), from easy to hard. Each one has a cell with gaps
# (`...`) for your answer, and a cell that checks it, as often as you like. `q1.hint()` gives a hint, a
# plainer one each time; `q1.solution()` shows an answer. The port has no gaps any more: all of it is yours.

# %% tags=["setup"]
# {{setup}}

# %%
import logging
import warnings
from contextlib import redirect_stderr
from io import StringIO

import lightning as L
import torch
from torch import nn
from torch.nn import functional as F

from course_utils.digits import MEAN, STD
from course_utils.exercises import QUIET, progress
from course_utils.exercises.lessons.lesson_07 import q1, q2, q3, q4, q5, q6
from course_utils.models import MLP, Autoencoder
from course_utils.session import start

session = start(42)

# %% tags=["grader"]
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cache

import torch
from torch import nn
from torch.nn import functional as F

from course_utils.digits import MEAN, STD
from course_utils.exercises import (
    FewDigits,
    Lines,
    Question,
    a_class,
    function,
    grade_port,
    number,
    right,
    values,
    wrong,
)
from course_utils.models import MLP, Autoencoder

# %% [markdown]
# ## 1. Predict: how many bytes?
#
# A network `MLP(hidden=(100,))` has 784 · 100 + 100 + 100 · 10 + 10 = 79,510 parameters. Count the
# bytes of the numbers alone, without what a format says about them. Work it out before you let Python
# count.
#
# - `plain`: its plain weights, as floats of 32 bits;
# - `adam`: weights and optimizer in a checkpoint, after training with Adam;
# - `eight_bits`: plain weights, its two matrices in 8 bits and its biases left as they are.

# %% tags=["grader"]


TRUE_BYTES = {"plain": 4 * 79_510, "adam": 3 * 4 * 79_510, "eight_bits": 79_400 + 4 * 110}
USUAL_BYTES = {
    "plain": {
        79_510: "that is how many numbers there are, and each takes 32 bits, 4 bytes",
        2_544_320: "those are bits, and a byte has eight",
        317_600: "the biases are floats of 4 bytes, too",
    },
    "adam": {
        318_040: "those are the weights alone; to go on, Adam needs its averages",
        636_080: "for each weight Adam keeps two averages, of the gradient and of its square; with "
        "the weight itself that makes three numbers",
        1_272_160: "gradients are made anew in each step, and no checkpoint keeps them",
    },
    "eight_bits": {
        79_510: "only the matrices are in 8 bits, the 110 biases keep their 4 bytes each",
        636_080: "8 bits are one byte, not eight",
        79_400: "the 110 biases are shipped as well",
        318_040: "that is what it was before",
    },
}
BYTES_PLACES = {
    "plain": "section 6, where the files are compared",
    "adam": "section 2, on what else a checkpoint holds",
    "eight_bits": "section 7",
}


def _bytes(plain, adam, eight_bits):
    said = {"plain": plain, "adam": adam, "eight_bits": eight_bits}
    for name, true in TRUE_BYTES.items():
        count = number(said[name], name)
        if count != true:
            side = "small" if count < true else "large"
            reason = USUAL_BYTES[name].get(count, "count the numbers, and the bytes of each")
            return wrong(f"{count:,} is too {side} for `{name}`: {reason}.", BYTES_PLACES[name])
    return right("318,040 bytes, three times as many with Adam, 79,840 in 8 bits.")


q1 = Question(
    number=1,
    kind="predict",
    title="How many bytes?",
    lesson="07_ship_it",
    place="section 6",
    expects="three numbers of bytes",
    hints=(
        "Ask of each: how many numbers are there, and how many bytes does each take?",
        "A float of 32 bits has 4 bytes. Adam keeps two averages for each weight.",
        "The matrices have 78,400 + 1,000 numbers, one byte each in 8 bits; the biases are "
        "100 + 10 floats.",
    ),
    takeaway="What training needs to go on is two thirds of a checkpoint; of what is left, nearly "
    "all sits in the matrices, and so 8 bits for these are enough.",
    checker=_bytes,
)

# %%
plain = ...
adam = ...
eight_bits = ...
### BEGIN SOLUTION
plain = 4 * 79_510
adam = 3 * plain  # each weight, and Adam's two averages of it
eight_bits = 1 * (784 * 100 + 100 * 10) + 4 * (100 + 10)
### END SOLUTION

# %%
q1.check(plain, adam, eight_bits)
# q1.hint()
# q1.solution()

# %% [markdown]
# ## 2. Fill in: preprocessing that costs nothing
#
# `Reader` normalises each picture before the network sees it. Where the network begins with a linear
# layer, the normalisation can move into that layer's numbers. Fill the gap: the new layer takes pixels from 0 to
# 1 and gives just what `layer((pixels - mean) / std)` gave. `layer` itself stays as it is.

# %% tags=["grader"]


def _folded(folded):
    fold = function(folded, "folded")
    for shift, spread, seed in ((0.1307, 0.3081, 7), (0.5, 0.25, 8), (0.0, 2.0, 9)):
        torch.manual_seed(seed)
        layer, pixels = nn.Linear(12, 5), torch.rand(6, 12)
        before = deepcopy(layer.state_dict())
        new = fold(layer, shift, spread)
        if any(not torch.equal(before[name], now) for name, now in layer.state_dict().items()):
            return wrong(
                "`folded` changed the layer that it was given, and whoever still normalises by "
                "hand has that one: write into a new layer."
            )
        if not isinstance(new, nn.Linear):
            return wrong(
                f"`folded` should give a linear layer, and gives {type(new).__name__}: the "
                "normalisation itself should be gone."
            )
        if (found := _fold_error(layer, new, pixels, shift, spread)) is not None:
            return found
    return right("The new layer gives the same from plain pixels.")


def _fold_error(layer, new, pixels, mean, std):
    """Return what is wrong with a layer that should take plain pixels, or None."""
    with torch.no_grad():
        w, b = layer.weight, layer.bias
        true, said = layer((pixels - mean) / std), values(new(pixels), "the new layer", (6, 5))
        if torch.allclose(true.double(), said, atol=1e-5):
            return None
        usual = {
            "the mean is still to be taken off, in the bias": (w / std, b),
            "the mean is added where it should be taken off": (w / std, b + w.sum(1) * mean / std),
            "each pixel is divided by `std`, not multiplied": (w * std, b - w.sum(1) * mean * std),
            "the old bias is added after the normalisation, which does not divide it": (
                w / std,
                (b - w.sum(1) * mean) / std,
            ),
            "the mean is divided by `std`, too": (w / std, b - w.sum(1) * mean),
            "the mean goes through all weights of an output, the sum of its row": (
                w / std,
                b - mean / std,
            ),
            "each output has a row of its own to sum": (w / std, b - w.sum() * mean / std),
            "this is the layer as it was": (w, b),
        }
        reasons = [
            reason
            for reason, (weight, bias) in usual.items()
            if torch.allclose(F.linear(pixels, weight, bias).double(), said, atol=1e-5)
        ]
    reasons += ["write out `weight @ ((x - mean) / std) + bias`, and sort by what x is in"]
    numbers = f"should be {true[0, 0]:.3f}, and is {said[0, 0]:.3f}"
    return wrong(f"With mean {mean} and std {std}, the first output {numbers}: {reasons[0]}.")


q2 = Question(
    number=2,
    kind="fill in",
    title="Preprocessing that costs nothing",
    lesson="07_ship_it",
    place="section 3, the line of `Reader` that normalises",
    expects="the function `folded`",
    hints=(
        "Write `weight @ ((x - mean) / std) + bias` as `… @ x + …`. What multiplies x "
        "is `weight / std`. All the rest is the same for every x.",
        "The new bias is the old one less `mean / std` times the sum of each row of the weights.",
    ),
    takeaway="Two linear steps in a row are one; and what is in the weights nobody can forget.",
    checker=_folded,
)


# %%
def folded(layer, mean, std):
    new = nn.Linear(layer.in_features, layer.out_features)
    with torch.no_grad():
        ...  # copy into new.weight and new.bias what they should be
        ### BEGIN SOLUTION
        new.weight.copy_(layer.weight / std)
        new.bias.copy_(layer.bias - layer.weight.sum(1) * mean / std)
        ### END SOLUTION
    return new


# %%
q2.check(folded)
# q2.hint()
# q2.solution()

# %% [markdown]
# ## 3. Lines in order: the decoder alone
#
# Lesson 2's autoencoder is to be shipped as a painter: three numbers in, a picture of whole numbers
# from 0 to 255 out. Here is the lesson's function that takes a part out of a checkpoint:

# %% tags=["given"]


def part(state, prefix):
    return {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}


# %% [markdown]
# And here are all lines, shuffled. `ship` gets the checkpoint of a `LitAutoEncoder`, and returns an
# exported program for any number of codes. Place each line, in the order in which they run; what only training
# needs goes to `training`.

# %% tags=["grader"]
HOMES = {
    "a": ("forward", "what the user gets leaves at the end of `forward`"),
    "b": ("ship", "weights come out of the checkpoint, and only `ship` has it"),
    "c": ("__init__", "`super().__init__()` prepares the module, before anything is put on it"),
    "d": ("training", "whoever uses the painter has no true picture, and needs no loss"),
    "e": ("forward", "the normalisation is undone for each picture, where the decoder is called"),
    "f": ("ship", "the checkpoint reaches you as the argument of `ship`"),
    "g": ("ship", "the program is what `ship` has to return"),
    "h": ("__init__", "the module keeps its network from the beginning: `forward` only uses it"),
    "i": ("training", "codes come from the user now, and the encoder is not shipped"),
    "j": ("ship", "the painter is built once, by who ships it"),
    "k": ("ship", "a decoder is built once, to get the weights"),
    "l": ("ship", "which sizes may vary is said once, to the export"),
}
NEEDS = {  # of two lines, the one that has to come first and the other: why
    "ch": "a module can hold nothing before `super().__init__()`",
    "bg": "nothing below a `return` is run, and the program would have untrained weights",
    **dict.fromkeys(("ea", "fb", "kb", "kj", "jg", "lg"), "it needs what that line makes"),
}
TEMPLATE = """\
class Painter(nn.Module):
    def __init__(self, decoder):
        {__init__}

    def forward(self, codes):
        {forward}


def ship(checkpoint):
    {ship}
"""
LINES = Lines(
    shown=(
        "return (255 * pixels.clamp(0, 1)).round().to(torch.uint8)",
        "decoder.load_state_dict(weights)",
        "super().__init__()",
        "loss = F.mse_loss(self.decoder(codes), x)",
        "pixels = self.decoder(codes) * STD + MEAN",
        'weights = part(checkpoint["state_dict"], "model.decoder.")',
        "return torch.export.export(painter, (torch.zeros(2, 3),), dynamic_shapes=sizes)",
        "self.decoder = decoder",
        "codes = self.encoder(x)",
        "painter = Painter(decoder).eval()",
        "decoder = Autoencoder(code_size=3).decoder",
        'sizes = ({0: torch.export.Dim("batch")},)',
    ),
    template=TEMPLATE,
    beside=("training",),
)
KNOWN = {"torch": torch, "nn": nn, "F": F, "MEAN": MEAN, "STD": STD, "Autoencoder": Autoencoder}


def _in_order(placed):
    placed = LINES.read(placed)
    found = _out_of_place(placed)
    torch.manual_seed(11)
    trained, codes = Autoencoder(), 4 * torch.randn(7, 3)
    state = {f"model.{name}": weight for name, weight in trained.state_dict().items()}
    true = trained.decoder(codes) * STD + MEAN
    true = (255 * true.clamp(0, 1)).round().to(torch.uint8)
    try:
        names = LINES.run(placed, {**KNOWN, "part": part})
        with _quiet_export():
            said = names["ship"]({"state_dict": state, "epoch": 3}).module()(codes)
        if torch.equal(said, true):
            return right("From 7 codes, seven pictures, as the checkpoint's own decoder has them.")
    except Exception:
        if found is None:
            raise
    return wrong(found or "The program runs, and paints other pictures than the decoder.")


def _out_of_place(placed):
    """Return what to say of a line that is in a wrong place or too early, or None."""
    strays = [a for a, (home, _) in HOMES.items() if a not in placed[home]]
    if strays:
        first = strays[0]
        place = next(place for place, letters in placed.items() if first in letters)
        more = f" ({len(strays)} lines are not in their place yet.)" if len(strays) > 1 else ""
        reason = HOMES[first][1]
        return f"`{first}`, `{LINES.rows[first]}`, is not for `{place}`: {reason}.{more}"
    order = "".join(placed.values())
    for (first, then), reason in NEEDS.items():
        if order.index(first) > order.index(then):
            return f"`{then}`, `{LINES.rows[then]}`, stands before `{first}`: {reason}."
    return None


@contextmanager
def _quiet_export() -> Iterator[None]:
    """Keep torch's own log of a failing export out of the learner's notebook."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


q3 = Question(
    number=3,
    kind="lines in order",
    title="The decoder alone",
    lesson="07_ship_it",
    place="sections 2 to 4: `part`, `Reader`, `torch.export`",
    expects="a dictionary from place to letters",
    hints=(
        "`forward` is what the user's numbers go through, `ship` what is done once before.",
        "`d` and `i` are training's. `forward` has two lines, and ends with `a`.",
        "`ship`: the weights out of the checkpoint, a decoder that loads them, the painter around "
        "it, the sizes, and the export.",
    ),
    takeaway="A part of a model ships like the whole: its weights by their prefix, what stands "
    "between it and the user inside of it, and nothing that only training needs.",
    checker=_in_order,
    ordered=LINES,
)

# %%
lines = q3.lines()
lines

# %%
placed = {"__init__": ..., "forward": ..., "ship": ..., "training": ...}
### BEGIN SOLUTION
placed = {"__init__": "ch", "forward": "ea", "ship": "fkbjlg", "training": "id"}
### END SOLUTION

# %%
q3.check(placed)
# q3.hint()
# q3.solution()

# %% [markdown]
# ## 4. Port: going on from shipped weights
#
# Somebody shipped the weights of an `MLP(hidden=(64, 32))`: `weights` is what `torch.load` gave. This loop
# makes of it a network that tells odd digits from even ones. The new last layer learns fast, the layers before it
# slowly, the first one not at all; and two batches make a step.

# %% tags=["given"]


def go_on(weights, data):
    model = MLP(hidden=(64, 32))
    model.load_state_dict(weights)
    model.layers[1].requires_grad_(False)
    model.layers[5] = nn.Linear(32, 2)
    slow, fast = model.layers[:5].parameters(), model.layers[5].parameters()
    optimizer = torch.optim.Adam([{"params": slow, "lr": 1e-4}, {"params": fast, "lr": 1e-3}])
    loader = data.train_dataloader()
    for _ in range(2):
        for count, (x, y) in enumerate(loader, start=1):
            loss = F.cross_entropy(model(x), y % 2)
            (loss / 2).backward()
            if count % 2 == 0:
                optimizer.step()
                optimizer.zero_grad()


# %% [markdown]
# Port it, all of it: `port(weights, data)` builds a LightningModule of yours and has a `Trainer` fit it.
# `data` is a datamodule with 200 digits in batches of 64. `L.Trainer(**QUIET, …)` runs on the CPU, and writes
# nothing. The port doctor grades.

# %% tags=["grader"]
PLACES = {
    "other learning rate": "section 2, where `go_on` builds its Adam; here it has two groups",
    "one run is shorter": "section 2, and lesson 1, section 7, move 4: `max_epochs`",
    "accumulation in one": "section 2, and lesson 4 on `accumulate_grad_batches`",
    "gradients a constant factor apart": "section 2, and lesson 4: with `accumulate_grad_batches` "
    "the Trainer divides each loss by itself",
    "gradient cut off": "section 2; the loop freezes one layer by `requires_grad_(False)`",
    "not the same model": "section 2; which layers has the loop's network in the end?",
    "other seed or build order": "section 2: network, its weights from the file, then a new layer",
}


def _ported(port):
    ported = function(port, "port")
    torch.manual_seed(5)
    weights = MLP(hidden=(64, 32)).state_dict()
    return grade_port(
        lambda data: go_on(deepcopy(weights), data),
        lambda data: ported(deepcopy(weights), data),
        MLP,
        places=PLACES,
    )


q4 = Question(
    number=4,
    kind="port",
    title="Going on from shipped weights",
    lesson="07_ship_it",
    place="section 2, where plain weights train on",
    expects="the function `port`",
    hints=(
        "What happens once, before the loop, goes into `__init__`, in the loop's order; hand the "
        "weights to it.",
        "`configure_optimizers` returns the loop's Adam with its two groups. The half and the "
        "`if` are one flag of the Trainer.",
        "`accumulate_grad_batches=2` divides each loss by 2 and steps after two batches, so "
        "`training_step` returns the loss as it is; `max_epochs=2`.",
    ),
    takeaway="Shipped weights are a beginning, too: load, freeze, put on a new layer, and give "
    "each part its pace. The loop around it is the Trainer's, as ever.",
    checker=_ported,
)


# %%
### BEGIN SOLUTION
class LitOdd(L.LightningModule):
    def __init__(self, weights):
        super().__init__()
        self.model = MLP(hidden=(64, 32))
        self.model.load_state_dict(weights)
        self.model.layers[1].requires_grad_(False)
        self.model.layers[5] = nn.Linear(32, 2)

    def training_step(self, batch, batch_idx):
        x, y = batch
        return F.cross_entropy(self.model(x), y % 2)

    def configure_optimizers(self):
        slow, fast = self.model.layers[:5].parameters(), self.model.layers[5].parameters()
        return torch.optim.Adam([{"params": slow, "lr": 1e-4}, {"params": fast, "lr": 1e-3}])


### END SOLUTION
def port(weights, data):
    ...  # the module, the optimizer and the Trainer: a class of yours may stand above
    ### BEGIN SOLUTION
    trainer = L.Trainer(**QUIET, max_epochs=2, accumulate_grad_batches=2)
    trainer.fit(LitOdd(weights), datamodule=data)
    ### END SOLUTION


# %%
q4.check(port)
# q4.hint()
# q4.solution()

# %% [markdown]
# ## 5. Break and mend: light paper, dark paper
#
# The lesson's digits are white on black. This reader is to take black on white as well:


# %%
class Inverting(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pictures):  # uint8 (B, 28, 28)
        pixels = pictures.float()
        if pixels.mean() > 127:  # light paper
            pixels = 255 - pixels
        return self.model((pixels / 255 - MEAN) / STD).softmax(1)


# %% [markdown]
# In Python it works, or seems to. What do the two exports say?


# %% tags=["shows"]
def first_words(way):
    logging.disable(logging.ERROR)  # torch says much of a failing export
    with warnings.catch_warnings(), redirect_stderr(StringIO()):
        warnings.simplefilter("ignore")
        try:
            return type(way()).__name__
        except Exception as error:
            return f"{type(error).__name__}: {str(error)[:44]} …"
        finally:
            logging.disable(logging.NOTSET)


dark, light = torch.zeros(2, 28, 28).byte(), torch.full((2, 28, 28), 255).byte()
reader = Inverting(MLP()).eval()
print("torch.export:   ", first_words(lambda: torch.export.export(reader, (dark,))))
print("torch.jit.trace:", first_words(lambda: torch.jit.trace(reader, dark)))

# %% [markdown]
# torch.export refuses: a graph has no `if` that asks the pixels. torch.jit.trace, with its warnings
# silenced, says nothing, and that is worse: it wrote down the branch that its dark example took.
#
# There is another fault, and Python has it too: one mean for the whole batch. Mend both in `forward`:
# each picture is inverted if its own mean is above 127, and torch.export takes it, for any number of
# pictures.

# %% tags=["grader"]


def _photographed():
    """Return eight pictures (8, 28, 28) uint8, every third light, and a network to read them."""
    x, _ = next(iter(FewDigits(seed=3, batch_size=8).val_dataloader()))
    pictures = ((x[:, 0] * STD + MEAN) * 255).round().clamp(0, 255).byte()
    pictures[::3] = 255 - pictures[::3]
    torch.manual_seed(3)
    model = MLP(hidden=(32,))
    with torch.no_grad():
        model.layers[-1].weight *= 20  # so that probabilities are far apart
    return pictures, model.eval()


@torch.no_grad()
def _by_mean(batches, model, choose):
    """Return the probabilities of pictures of which those chosen are inverted, batch by batch."""
    pixels = [batch.float() for batch in batches]
    pixels = torch.cat([torch.where(choose(p), 255 - p, p) for p in pixels])
    return model((pixels / 255 - MEAN) / STD).softmax(1)


def _mean(pixels, *sides):
    return pixels.mean(sides, keepdim=True)


CHOICES = {
    "One mean for the whole batch decides for all pictures in it.": lambda p: p.mean() > 127,
    "No picture is inverted. Is the mean taken of pixels from 0 to 255?": lambda p: p.mean() > 999,
    "Every picture is inverted.": lambda p: p.mean() > -1,
    "The dark ones are inverted in place of the light ones.": lambda p: _mean(p, 1, 2) <= 127,
    "Each pixel is chosen by itself; the question is the mean of its picture.": lambda p: p > 127,
    "The means are of rows of pixels; a picture should have one.": lambda p: _mean(p, 2) > 127,
}


def _mended(forgiving):
    kind = a_class(forgiving, "Forgiving", nn.Module)
    pictures, model = _photographed()
    made = kind(model).eval()
    batches = pictures, pictures[::3]
    true = _by_mean(batches, model, lambda p: _mean(p, 1, 2) > 127)
    said = torch.cat([values(made(p), "forward", (len(p), 10)) for p in batches]).float()
    if not torch.allclose(said, true, atol=1e-5):
        return wrong(_misread(batches, model, true, said))
    sizes = ({0: torch.export.Dim("batch")},)
    try:
        with _quiet_export():
            program = torch.export.export(made, (pictures[1:3],), dynamic_shapes=sizes).module()
    except Exception as error:
        words = " ".join(str(error).split())[:54]
        return wrong(
            f"All pictures are read as they should be, but torch.export cannot write it down: "
            f"`{type(error).__name__}: {words} …`. What still asks the numbers, or their count, "
            "in Python: an `if`, a loop over the pictures, `.item()`?",
            "section 4, torch.export",
        )
    for chosen in (*batches, pictures[:1], pictures[1:3]):
        again = program(chosen)
        if not torch.allclose(again, made(chosen), atol=1e-5):
            return wrong(f"The exported program reads {len(chosen)} pictures unlike the class.")
    return right("Mixed, alone, light and dark: class and exported program say the same.")


def _misread(batches, model, true, said):
    """Return why probabilities are not those that they should be, by the usual mistakes."""
    off = sum(not torch.allclose(a, b, atol=1e-5) for a, b in zip(said, true, strict=True))
    numbers = (
        "Eight pictures in a batch, three of them light, and then the three by themselves: "
        f"{off} of 11 answers {'is' if off == 1 else 'are'} not what they should be. "
    )
    for reason, choose in CHOICES.items():
        if torch.allclose(said, _by_mean(batches, model, choose), atol=1e-5):
            return numbers + reason
    return (
        f"{numbers}Is the rest as before: divided by 255, MEAN off, divided by STD, and at the end "
        "the `softmax`?"
    )


q5 = Question(
    number=5,
    kind="break and mend",
    title="Light paper, dark paper",
    lesson="07_ship_it",
    place="section 3, the class `Reader`",
    expects="the class `Forgiving`",
    hints=(
        "A graph can compute both, the picture and its inverse, and choose between them.",
        "`torch.where(condition, a, b)` chooses. The condition needs one value for each picture, "
        "of shape (B, 1, 1).",
        "`light = pixels.mean((1, 2), keepdim=True) > 127`, then `torch.where(light, 255 - pixels, "
        "pixels)`.",
    ),
    takeaway="An exported program is a list of operations: choices on numbers are operations, too "
    "(`where`), or they are not in it.",
    checker=_mended,
)


# %%
class Forgiving(Inverting):
    def forward(self, pictures):
        ...  # forward: each picture by its own mean
        ### BEGIN SOLUTION
        pixels = pictures.float()
        light = pixels.mean((1, 2), keepdim=True) > 127
        pixels = torch.where(light, 255 - pixels, pixels)
        return self.model((pixels / 255 - MEAN) / STD).softmax(1)
        ### END SOLUTION


# %%
q5.check(Forgiving)
# q5.hint()
# q5.solution()

# %% [markdown]
# ## 6. Explore: four bits
#
# Eight bits cost next to nothing. How about four? Here is the lesson's way with 4 bits: whole numbers from -7
# to 7, and one scale for the matrix.

# %% tags=["given"]


def one_scale(weight):
    scale = weight.abs().max() / 7
    return (weight / scale).round() * scale


# %% [markdown]
# Find a better one. `four_bits(weight)` takes a matrix and returns one of the same shape, in which no row
# has more than 16 different values: 4 bits tell which, and a short table for each row tells what they are. The
# check trains a small network and puts your matrices in. **Target**: logits that are off by at most two
# thirds of what they are off with `one_scale`.

# %% tags=["grader"]
TARGET = 2 / 3


@cache
def _reader():
    """Return a small trained network, and digits that it was not trained on."""
    torch.manual_seed(1)
    data, model = FewDigits(seed=1, train=600, val=200), MLP(hidden=(64,))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(5):
        for x, y in data.train_dataloader():
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    return model, torch.cat([x for x, _ in data.val_dataloader()])


@torch.no_grad()
def _off(matrices):
    """Return by how much logits change with other matrices, relative to their spread."""
    model, x = _reader()
    short = deepcopy(model)
    for weight, shortened in zip(_matrices(short), matrices, strict=True):
        weight.copy_(shortened)
    return ((short(x) - model(x)).square().mean().sqrt() / model(x).std()).item()


def _matrices(model):
    return [weight.detach() for weight in model.parameters() if weight.ndim == 2]


def _four_bits(four_bits):
    ask, originals = function(four_bits, "four_bits"), _matrices(_reader()[0])
    short = [values(ask(w.clone()), "four_bits", tuple(w.shape)).float() for w in originals]
    for matrix in short:
        if (fault := _too_many(matrix)) is not None:
            return wrong(fault)
    theirs, usual = _off(short), _off([one_scale(w) for w in originals])
    if theirs <= TARGET * usual:
        return right()
    return wrong(
        f"Your logits are off by {theirs:.3g} of their spread, those of `one_scale` by "
        f"{usual:.3g}; the target is {TARGET * usual:.3g}. {_advice(theirs / usual)}"
    )


def _advice(share):
    """Return what may be the matter with an error of so much of `one_scale`'s."""
    if share > 10:
        return "Are the values in the units of the weights again, times the scale?"
    if share > 1.3:
        return (
            "That is worse. Has each weight the nearest of its values, not the next smaller one, "
            "and are the largest of a row within reach?"
        )
    if share > 0.97:
        return "That is about the same: has each row a scale, or values, of its own?"
    return "Better. Values need not be equally far apart: put more of them where most weights are."


def _too_many(matrix):
    """Return what is wrong with the values of a shortened matrix, or None."""
    if matrix.isnan().any():
        return "Some of your weights are `nan`, as 0 divided by 0: has a row the scale 0?"
    row, column = (max(len(line.unique()) for line in lines) for lines in (matrix, matrix.T))
    if row <= 16:
        return None
    if column <= 16:
        return (
            f"A row of yours has {row} values, a column {column} at most: the scale is taken along "
            "the other dimension. A row is `weight[i]`."
        )
    more = ", as whole numbers from -8 to 8 are" if row == 17 else ""
    return f"A row of yours has {row} different values{more}; 4 bits tell 16 apart."


q6 = Question(
    number=6,
    kind="explore",
    title="Four bits",
    lesson="07_ship_it",
    place="section 7",
    expects="the function `four_bits`",
    hints=(
        "Look at a histogram of a row: most weights are near 0, few are large. Whole numbers times "
        "a scale spend most of their values on the few.",
        "Begin with 16 values for each row, such as its quantiles. Then take in turn: each weight "
        "to its nearest value; each value to the mean of the weights that it got.",
        "That is k-means in one dimension: `(weight[:, :, None] - table[:, None]).abs().argmin(2)` "
        "says which value is nearest; `table.gather(1, nearest)` looks them up.",
    ),
    takeaway="Bits say how many values there may be, not which. Formats for large language models "
    "choose theirs as you did: close together where most of the weights are.",
    checker=_four_bits,
)


# %%
def four_bits(weight):
    ...  # for each row, at most 16 values
    ### BEGIN SOLUTION
    table = torch.quantile(weight, torch.linspace(0.01, 0.99, 16), dim=1).T
    for _ in range(10):
        nearest = (weight[:, :, None] - table[:, None]).abs().argmin(2)
        theirs = F.one_hot(nearest, 16).float()  # (rows, columns, 16)
        table = (weight[:, None] @ theirs)[:, 0] / theirs.sum(1).clamp(min=1)
    return table.gather(1, nearest)
    ### END SOLUTION


# %%
q6.check(four_bits)
# q6.hint()
# q6.solution()

# %% [markdown]
# ## What is solved
#
# Kept in `progress.json` beside the notebooks; deleting it harms nothing.

# %% tags=["learner"]
progress()
