# %% [markdown]
# # 7. Ship it: from checkpoint to a file that runs anywhere
#
# {{badge}}
#
# > A trained network leaves the course: plain weights, exported programs, small files, fast answers, and a digit that you draw yourself.
#
# You download a trained network and load it. Before you have used it at all, a stranger's program has run on your machine:
#
# ```text
# This line was printed by the file, not by the notebook.
# ```
#
# It could have deleted your files. You will make such a file, load it, and see it refused by one argument. The other side matters as
# much: the network that *you* hand on should give strangers the right answers, also those who know nothing of its
# pixels. At the end it reads a digit that you draw.
#
# At the end of this lesson you will
# - have taken plain weights out of a checkpoint, and proved that nothing was lost on the way;
# - have put the preprocessing into the model, so that it travels with it;
# - have exported the model three times (TorchScript, `torch.export`, ONNX), and compared outputs, sizes and speed;
# - have made a model almost four times smaller with 8-bit weights, and know what that cost;
# - have drawn a digit, and had the exported model read it;
# - know why a file from a stranger is opened with `weights_only=True`, or not at all.
#
# **Time**: about 2 minutes of computing on a laptop with full MNIST; half a minute with the sample.
#
# **Builds on**: [lesson 1](01_mlp.ipynb) (the MLP), [lesson 2](02_autoencoder.ipynb) (checkpoints) and
# [lesson 3](03_lenet.ipynb) (LeNet).

# %% tags=["setup"]
# {{setup}}

# %%
import warnings
from functools import partial
from itertools import islice

import lightning as L
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.datasets import MNIST

from course_utils.digits import MEAN, STD, MNISTDataModule
from course_utils.files import runs_folder
from course_utils.models import LeNet, LitLeNet, LitMLP
from course_utils.parity import compare, trace
from course_utils.session import start
from course_utils.views import plots

session = start(42)
device = session.device
folder = runs_folder("ship")

# %% [markdown]
# ## 1. Something to ship
#
# LeNet again, trained for three epochs. Lesson 3 got further; this is enough to read most digits.

# %%
from course_utils.views import CourseProgress

hardware = dict(accelerator=session.accelerator, devices=1)
quiet = dict(logger=False, enable_checkpointing=False, enable_model_summary=False)
lit, datamodule = LitLeNet(lr=1e-3), MNISTDataModule(pad=2)
trainer = L.Trainer(**hardware, **quiet, max_epochs=3, callbacks=[CourseProgress()])
trainer.fit(lit, datamodule=datamodule)
trainer.save_checkpoint(folder / "lenet.ckpt")

# %% [markdown]
# ## 2. From checkpoint to plain weights
#
# A checkpoint holds all that training needs to go on. Lesson 2 looked inside one. Whoever only uses the
# network needs the weights alone, and under the names that the plain `LeNet` gives them.

# %%
checkpoint = torch.load(folder / "lenet.ckpt", weights_only=True, map_location="cpu")
print("in the checkpoint:", *checkpoint)
print("\nweights:", *list(checkpoint["state_dict"])[:3], "…")

# %% [markdown]
# The names begin with `model.`, because the module keeps the network in `self.model`. So a sub-model is
# what remains of the names behind its prefix. That works for the whole network, and for a part of it.


# %% [markdown] tags=["question"]
# How much larger is the checkpoint than the weights alone?
#
# - Hardly: counters and settings need few bytes
#   if: checkpoint < 1.3 * weights
#   Those do. But training has left something behind for each weight.
# - Twice as large
#   if: 1.8 * weights < checkpoint < 2.3 * weights
#   It would be with an optimizer that keeps one number for each weight, as SGD with momentum does.
# + Three times as large
#   if: 2.7 * weights < checkpoint < 3.3 * weights
#   Adam keeps two averages for each weight. Who only uses the network needs neither.
#
# read: lenet.ckpt +(?P<checkpoint>[\d,]+) bytes
# read: weights.pt +(?P<weights>[\d,]+) bytes


# %%
def part(state, prefix):
    return {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}


torch.save(part(checkpoint["state_dict"], "model."), folder / "weights.pt")
torch.save(part(checkpoint["state_dict"], "model.features."), folder / "features.pt")
for name in ("lenet.ckpt", "weights.pt", "features.pt"):
    print(f"{name:12}{(folder / name).stat().st_size:10,} bytes")

# %% [markdown]
# The checkpoint is about three times as large: beside each weight it keeps Adam's two averages. Plain
# PyTorch reads the small files, without Lightning and without this course's module.

# %%
# NBVAL_CHECK_OUTPUT
model = LeNet().eval()
print(model.load_state_dict(torch.load(folder / "weights.pt", weights_only=True)))

features = LeNet().features.eval()  # the convolutions alone
features.load_state_dict(torch.load(folder / "features.pt", weights_only=True))
print(tuple(features(torch.zeros(1, 1, 32, 32)).shape))

# %% [markdown]
# ### Was anything lost?
#
# Equal outputs are a good sign. A stronger one: train on from both, and let the port doctor look. The plain
# network goes on in a raw loop, the checkpoint's module in the Trainer, for 20 steps with a fresh Adam.


# %%
def go_on(model, loader):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for x, y in islice(loader, 20):
        loss = F.cross_entropy(model(x.to(device)), y.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


# %%
plain = LeNet().to(device)
plain.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
with trace(plain) as raw:
    go_on(plain, datamodule.train_dataloader())

again = LitLeNet.load_from_checkpoint(folder / "lenet.ckpt", weights_only=True)
with trace(again.model) as port:
    short = dict(max_steps=20, limit_val_batches=0, enable_progress_bar=False)
    L.Trainer(**hardware, **quiet, **short).fit(again, datamodule=datamodule)

# %% tags=["verdict"]
# NBVAL_CHECK_OUTPUT
report = compare(raw, port)
report.assert_identical()
print(report.verdict)

# %% [markdown]
# ## 3. Preprocessing travels with the model
#
# Who gets `weights.pt` has to know one thing more: pixels come from 0 to 1, then normalised by 0.1307 and
# 0.3081, with two pixels of margin. Nothing in the file says so. Who forgets a part gets answers all the
# same. To see how good they are takes an accuracy, and its **standard error**: by about so much it would move if
# one took other test digits of the same kind.


# %%
def accuracy(scores):
    return (scores.argmax(1) == labels).float().mean().item()


def standard_error(share):
    return (share * (1 - share) / len(labels)) ** 0.5


test = MNIST(session.digits.root, train=False)
pictures, labels = test.data, test.targets
print("pictures:", tuple(pictures.shape), pictures.dtype)

# %% [markdown] tags=["question"]
# Somebody sends black ink on white paper, where training had white on black. What does the network do?
#
# + It answers as always, and most of it is wrong
#   if: swapped < 60
#   It has never seen such pictures, and has no way to say so. That is why the preprocessing should travel with the model.
# - It raises an error
#   if: "Error" in text
#   Shape and type are right. More than that no network checks.
# - It reads as well as before: the shapes of the digits are the same
#   if: swapped > right - 5
#   To us they are. It has learned where *large numbers* are, and now they are everywhere else.
#
# read: as in training +accuracy (?P<right>[\d.]+)%
# read: ink and paper exchanged +accuracy (?P<swapped>[\d.]+)%

# %%
padded = F.pad(pictures, (2, 2, 2, 2)).unsqueeze(1).float()
mistakes = {
    "as in training": (padded / 255 - MEAN) / STD,
    "not normalised": padded / 255,
    "ink and paper exchanged": (1 - padded / 255 - MEAN) / STD,
}
with torch.no_grad():
    for name, x in mistakes.items():
        right = accuracy(model(x))
        print(f"{name:24} accuracy {right:.2%} ± {standard_error(right):.2%}")

# %% [markdown]
# Two accuracies less than about three such errors apart may differ by chance. That holds for the second line: the digits
# are read as well as before, as far as these can tell. With ink and paper exchanged, there is no doubt. And no line
# raised an error: that is what makes such mistakes costly. The remedy is to ship the preprocessing
# too. A module around the network takes pictures as everyone has them, whole numbers from 0 to 255,
# and gives what everyone wants: ten probabilities.


# %%
class Reader(nn.Module):
    def __init__(self, model, margin):
        super().__init__()
        self.model, self.margin = model, (margin,) * 4

    def forward(self, pictures):  # uint8 (B, 28, 28)
        pixels = F.pad(pictures.unsqueeze(1), self.margin).float() / 255
        return self.model((pixels - MEAN) / STD).softmax(1)


# %% tags=["result"]
reader = Reader(model, margin=2).eval()
with torch.no_grad():
    expected = reader(pictures)
print(f"accuracy on {len(pictures):,} test digits: {accuracy(expected):.2%}")

# %% [markdown]
# Are those the numbers that the datamodule's way gives? Bit for bit:

# %%
# NBVAL_CHECK_OUTPUT
with torch.no_grad():
    same = torch.equal(expected, model(datamodule.test.images.cpu()).softmax(1))
print("the same probabilities:", same)
assert same

# %% [markdown]
# From here on everything runs on the CPU, where most shipped models of this size run.
#
# ## 4. Three ways out of the class
#
# So far, whoever uses the model needs the class `LeNet`. An **export** writes down the computation itself:
# which operation follows which. There are three forms of it; all three take one example input.
#
# ### TorchScript
#
# The oldest one. You will still meet it in the wild, so see it once, together with what torch says about it
# (*deprecated*: it still works, and will be taken out one day):

# %%
example = pictures[:2].clone()  # a mere view would put all the test pictures into the file
with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    torch.jit.trace(reader, example).save(folder / "reader.ts")
    script = torch.jit.load(folder / "reader.ts")
for message in dict.fromkeys(str(w.message).splitlines()[0] for w in warned):
    print(message)

# %% [markdown]
# ### torch.export
#
# Its successor. The example has 2 pictures, but the program should take any number: so the first dimension
# is declared as dynamic. What comes out is a graph of plain tensor operations.

# %%
batch = torch.export.Dim("batch")
program = torch.export.export(reader, (example,), dynamic_shapes=({0: batch},))
with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "No complete tensor")  # how LeNet's weights lie in memory
    torch.export.save(program, folder / "reader.pt2")
names = [str(n.target).split(".")[1] for n in program.graph.nodes if n.op == "call_function"]
print(*[name for name in names if not name.startswith("_")])  # without torch's own checks

# %% [markdown]
# You can read the whole model in that line: a dimension more, a margin, float, the normalisation; two
# convolutions, each with ReLU and pooling; three linear layers; and softmax. No class is left. It is a
# description, from which compilers make programs for servers and phones. Here, Python still runs it:

# %%
exported = torch.export.load(folder / "reader.pt2").module()
with torch.no_grad():
    print(tuple(exported(pictures[:7]).shape), "for 7 pictures; the example had 2")

# %% [markdown]
# ### ONNX
#
# A format that does not belong to PyTorch. Its runtimes exist for phones, browsers, C++, Java and more. Here,
# **onnxruntime** runs it: numpy arrays in, numpy arrays out, without torch. It gets one thread, as torch has
# here; else the comparison of speed below would not be fair.

# %%
import onnxruntime

named = dict(input_names=["pictures"], output_names=["probabilities"], verbose=False)
shapes = dict(dynamo=True, dynamic_shapes=({0: batch},))
shapes["optimize"] = True  # the default since torch 2.7
torch.onnx.export(reader, (example,), **shapes, **named).save(folder / "reader.onnx")


# %%
def onnx_session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run_onnx(runtime, pictures):
    return torch.from_numpy(runtime.run(None, {"pictures": pictures.numpy()})[0])


onnx_model = onnx_session(folder / "reader.onnx")
print("takes", onnx_model.get_inputs()[0].shape, "gives", onnx_model.get_outputs()[0].shape)

# %% [markdown]
# ## 5. Is it still the same model?
#
# An export is a port, too; so it is checked like one. All test digits through all four, and the largest
# difference of any probability:

# %%
forms = {
    "PyTorch": reader,
    "TorchScript": script,
    "torch.export": exported,
    "onnxruntime": partial(run_onnx, onnx_model),
}


def in_batches(run, size=500):
    with torch.no_grad():
        return torch.cat([run(chunk) for chunk in pictures.split(size)])


# %% [markdown] tags=["question"]
# All test digits go through onnxruntime. How far are its probabilities from PyTorch's?
#
# - Not at all: it is the same network with the same weights
#   if: apart == 0
#   The same formula, but kernels of its own, which add in another order.
# + About a millionth, and no digit is read differently
#   if: 0 < apart < 1e-5 and changed == 0
#   Rounding. That is why a comparison of exports needs a bound, and why the bound can be a tight one.
# - So far that a few digits are read differently
#   if: changed > 0
#   Then something would be wrong with the export. Rounding could do that only to a digit whose two best answers are all but equal.
#
# read: onnxruntime +difference (?P<apart>\S+), read differently (?P<changed>\d+)

# %%
results = {name: in_batches(run) for name, run in forms.items()}
answer = results["PyTorch"].argmax(1)
for name, values in results.items():
    difference = (values - results["PyTorch"]).abs().max().item()
    changed = (values.argmax(1) != answer).sum().item()
    print(f"{name:13} difference {difference:.1e}, read differently {changed}, ", end="")
    print(f"accuracy {accuracy(values):.2%}")
    assert difference < 1e-5 and changed == 0

# %% [markdown]
# The first three call the same kernels of torch. onnxruntime has kernels of its own: they add up in another
# order, and so the last bits differ. `1e-5` is a bound for such rounding, and no digit is read differently.
#
# ## 6. Size and speed
#
# First the files. They hold the same weights, four bytes each, and what each format says about them:

# %%
files = {"plain weights": "weights.pt", "TorchScript": "reader.ts"}
files |= {"torch.export": "reader.pt2", "ONNX": "reader.onnx"}
for name, file in files.items():
    print(f"{name:14}{(folder / file).stat().st_size:10,} bytes")
print(f"{'weights alone':14}{4 * sum(p.numel() for p in model.parameters()):10,} bytes")

# %% [markdown]
# Then the speed, and there are two: **latency**, how long one picture takes, and **throughput**, how many
# pictures a second come out when 256 go in together. The four take turns, so that a slow moment of the machine
# hits all alike.

# %%
from course_utils.views import in_turn


def repeat(run, count, pictures):
    with torch.no_grad():
        for _ in range(count):
            run(pictures)


def timed(forms, count, size):
    runs = {name: partial(repeat, run, count, pictures[:size]) for name, run in forms.items()}
    in_turn(runs, count, rounds=1)  # warms up
    return in_turn(runs, count, rounds=7).milliseconds


# %%
def speed_table(forms):
    latency = {name: 1000 * ms for name, ms in timed(forms, count=100, size=1).items()}
    rate = {name: 256 / ms for name, ms in timed(forms, count=8, size=256).items()}
    print(f"{'':14}{'one picture':>14}{'in batches of 256':>28}")
    for name in forms:
        print(f"{name:14}{latency[name]:11,.0f} µs{1000 * rate[name]:17,.0f} pictures/s")
    panels = {"one picture (µs)": latency, "in batches of 256 (thousand pictures/s)": rate}
    return plots.bars_side_by_side(panels, form="{:,.0f}")


speed_table(forms)

# %% [markdown]
# Left, short bars are good; right, long ones. For one picture, most of the time goes into calling operations,
# not into arithmetic. onnxruntime was made for this: it merges operations when it loads the file. The loaded
# `torch.export` program is slower than the class that it came from: Python runs its graph, and checks the
# input at each call. For 256 pictures the arithmetic counts, and the three that share torch's kernels are
# close together.
#
# ## 7. Eight bits
#
# A weight is a float of 32 bits. **Dynamic quantization** keeps each as a whole number from -127 to 127, and
# one scale for each matrix; what flows through the network is turned into 8 bits on the fly. It pays
# where matrices are large, so let us take the MLP of lesson 1.

# %%
lit_mlp = LitMLP()
trainer = L.Trainer(**hardware, **quiet, max_epochs=3, enable_progress_bar=False)
trainer.fit(lit_mlp, datamodule=MNISTDataModule())
mlp = Reader(lit_mlp.model.cpu(), margin=0).eval()
torch.onnx.export(mlp, (example,), **shapes, **named).save(folder / "mlp.onnx")

# %%
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process

quant_pre_process(folder / "mlp.onnx", folder / "prepared.onnx")
quantize_dynamic(folder / "prepared.onnx", folder / "mlp8.onnx", weight_type=QuantType.QInt8)

# %% [markdown] tags=["question"]
# Every weight now has 8 bits in place of 32. How many digits does the MLP read differently?
#
# - About one in four: a quarter of the bits is left
#   if: changed > 0.15 * digits
#   Bits are not votes. 255 steps are fine enough for a weight, as hundreds of them are added up.
# - About one in ten
#   if: 0.05 * digits < changed < 0.15 * digits
#   So much would be known. It is why one counts and does not guess.
# + Fewer than one in fifty
#   if: changed < 0.02 * digits
#   And of those some get better. What it costs can be counted, so count it for your own network as well.
#
# read: read differently: (?P<changed>[\d,]+) of (?P<digits>[\d,]+) digits

# %%
bits = {"32 bits": "mlp.onnx", "8 bits": "mlp8.onnx"}
mlps = {name: partial(run_onnx, onnx_session(folder / file)) for name, file in bits.items()}
mlp_results = {name: in_batches(run) for name, run in mlps.items()}
for name, file in bits.items():
    size = (folder / file).stat().st_size
    print(f"{name:8}{size:9,} bytes   accuracy {accuracy(mlp_results[name]):.2%}")
before, after = (mlp_results[name].argmax(1) for name in bits)
print(f"read differently: {(before != after).sum()} of {len(labels):,} digits,", end=" ")
lost = ((before == labels) & (after != labels)).sum()
won = ((before != labels) & (after == labels)).sum()
print(f"{lost} for the worse, {won} for the better")

# %%
speed_table(mlps)

# %% [markdown]
# A little more than a quarter of the size. What it costs stands beside it: some digits are read differently.
# What it gains in time depends on the processor: those with instructions for 8-bit arithmetic gain most. So
# measure where it will run.
#
# ## 8. A digit of your own
#
# Test digits were made like the training digits. Yours are not. MNIST's digits were fitted into a box of 20
# pixels, with their centre of mass in the middle of 28; a drawing has to be treated alike. Here are ten that were
# written down stroke by stroke, as a canvas gives them, and what the ONNX model reads:


# %%
from course_utils.digits import RECORDED, from_picture, from_strokes


def read(picture):
    return run_onnx(onnx_model, picture[None])[0]


drawn = torch.stack([from_strokes(strokes) for strokes in RECORDED.values()])
readings = [read(picture) for picture in drawn]
right = [reading.argmax().item() == digit for digit, reading in zip(RECORDED, readings)]
print(f"{sum(right)} of {len(right)} read right")
plots.digit_grid(drawn, [f"{r.argmax()}\n{r.max():.0%}" for r in readings], right=right)

# %% [markdown]
# Blue is read right; a digit read wrong would have an orange title. Each title is the digit read, and how sure the model is of it. Now you:
# draw one on the black square, as large as you like. (It needs a running kernel: on a page that is only
# displayed, no square is to be seen.)

# %%
from course_utils.views import digit_canvas

digit_canvas(read)

# %% [markdown]
# ### From paper
#
# A photograph works too: `from_picture` takes a path, dark on light or light on dark, of any size. This
# "photograph" is made here: grey paper in uneven light, and a small digit in a corner.

# %%
import numpy as np
from PIL import Image

noise = np.random.default_rng(0).normal(0, 6, (240, 320))
ink = np.kron(drawn[4].numpy(), np.ones((4, 4)))  # 112 x 112 pixels
paper = 190 + noise - np.linspace(0, 60, 320)  # darker to the right
paper[110:222, 190:302] -= 0.5 * ink
Image.fromarray(paper.clip(0, 255).astype(np.uint8)).save(folder / "photo.png")

# %%
photo = folder / "photo.png"  # or your own: photo = "my_digit.jpg"
grey = Image.open(photo).convert("L")
squeezed = torch.from_numpy(np.array(grey.resize((28, 28))))
prepared = from_picture(photo)
for name, picture in {"only made smaller": squeezed, "like MNIST": prepared}.items():
    answer = read(picture)
    print(f"{name:20} read as {answer.argmax()}, {answer.max():.0%} sure")
plots.pictures(
    {
        "photo": torch.from_numpy(np.array(grey)),
        "only made smaller": squeezed,
        "like MNIST": prepared,
    }
)

# %% [markdown]
# How sure is it of pictures such as it has never seen? Black on white, for example:

# %% [markdown] tags=["question"]
# Black on white, which it has never seen: how sure of its answers is it, on average?
#
# - About 10%, as for a guess among ten
#   if: sure < 15
#   It would be good if it said "I do not know". Nothing in its training has taught it that.
# + Several times as sure as that
#   if: 25 <= sure < 90
#   Softmax makes probabilities of whatever logits there are. A probability is not a warning.
# - As sure as of the test digits, nearly 100%
#   if: sure >= 90
#   Some of its wrong answers are that sure, as the second line counts. Not all.
#
# read: read right, (?P<sure>\d+)% sure on average

# %%
with torch.no_grad():
    inverted = reader(255 - pictures)
sure = inverted.max(1).values
print(f"black on white: {accuracy(inverted):.1%} read right, {sure.mean():.0%} sure on average;")
print(
    f"wrong, and more than 90% sure of it: {((inverted.argmax(1) != labels) & (sure > 0.9)).sum()}"
)

# %% [markdown]
# The network answers whatever it is shown, and now and then it is sure of nonsense. The part of the preprocessing
# that is not in the exported file is a part that someone can forget.
#
# ## 9. Files from strangers
#
# A checkpoint is a pickle, and a pickle can name functions to be called while it is being loaded. Here is a
# harmless one: it only prints.


# %%
class Payload:
    def __reduce__(self):
        return print, ("This line was printed by the file, not by the notebook.",)


stranger = dict(checkpoint, hyper_parameters={"lr": Payload()})
torch.save(stranger, folder / "stranger.ckpt")

# %% [markdown]
# Loaded without protection, it runs. It could have deleted your files just as well:

# %%
# NBVAL_CHECK_OUTPUT
loaded = torch.load(folder / "stranger.ckpt", weights_only=False)

# %% [markdown]
# With `weights_only=True`, only tensors and plain values are built. Anything else is refused *before* it is
# called, by torch and by Lightning alike:

# %%
# NBVAL_CHECK_OUTPUT
import pickle

for load in (torch.load, LitLeNet.load_from_checkpoint):
    try:
        load(folder / "stranger.ckpt", weights_only=True)
        raise AssertionError("the payload was loaded")
    except pickle.UnpicklingError as error:
        print(type(error).__name__, "that names the function:", "print" in str(error))

# %% [markdown]
# The whole message goes on to offer ways of allowing the function. Use them for functions that you know. For
# files on disk, `weights_only=True` is the default, in torch and in the Lightning that this course asks for. For
# a checkpoint from a *web address*, Lightning's default is still `False`: pass `True`. And `torch.jit.load` and
# `torch.export.load` have no such protection: open their files only if you know who made them. An ONNX file
# holds no pickle.
#
# ## Recap
#
# 1. A checkpoint is for going on; plain weights are for use. A prefix and a dictionary lead from one to the
#    other.
# 2. Whatever stands between the user's data and the network belongs into the shipped model.
# 3. `torch.export` and ONNX write down the computation; TorchScript is on its way out. An export is a port:
#    compare its outputs.
# 4. Latency and throughput are two different things. Measure both, where the model will run.
# 5. Eight bits make the MLP almost four times smaller. What is lost can be counted.
# 6. Loading a pickle can run code. `weights_only=True` refuses.
#
# ## Common mistakes
#
# - **Exporting in training mode**: dropout and batch norm of training go into the file. Call `eval()` first.
# - **A fixed batch size**: without a dynamic dimension the program takes batches of the example's size only.
# - **Comparing accuracy only**: an export that is wrong in one layer can still be right on most digits. Compare
#   the outputs.
# - **Timing the first call**: it pays for what is prepared once. Warm up, then take a median.
# - **Different preprocessing in training and in use**: no error, only wrong answers. Ship it.
#
# ## Exercises
#
# Six exercises that check themselves, from counting bytes to four bits, with a decoder shipped alone and a port
# that is all yours: [exercises 7](exercises/07_ship_it.ipynb).
#
# ## Read on
#
# - [torch.export](https://docs.pytorch.org/docs/stable/export.html) and
#   [torch.onnx](https://docs.pytorch.org/docs/stable/onnx.html), in PyTorch's documentation.
# - [Quantize ONNX models](https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html), in
#   onnxruntime's documentation.
# - [Saving and loading models](https://docs.pytorch.org/docs/stable/notes/serialization.html): what
#   `weights_only` allows.
# - Jacob et al. (2018), [Quantization and training of neural networks for efficient integer-arithmetic-only
#   inference](https://arxiv.org/abs/1712.05877).
