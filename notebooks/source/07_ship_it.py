# %% [markdown]
# # 7. Ship it: from checkpoint to a file that runs anywhere
#
# {{badge}}
#
# > A trained network leaves the course: plain weights, exported programs, small files, fast answers, and a digit that you draw yourself.
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
from pathlib import Path

import lightning as L
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.datasets import MNIST

from course_utils import plots
from course_utils.data import MEAN, STD, MNISTDataModule
from course_utils.models import LeNet, LitLeNet, LitMLP
from course_utils.parity import compare, trace
from course_utils.session import start

session = start(42)
device = session.device
folder = Path("runs/ship")
folder.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# ## 1. Something to ship
#
# LeNet again, trained for three epochs. Lesson 3 got further; this is enough to read most digits.

# %%
from course_utils.progress import CourseProgress

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
# same, only worse ones:


# %%
def accuracy(logits):
    return (logits.argmax(1) == labels).float().mean().item()


test = MNIST(session.digits.root, train=False)
pictures, labels = test.data, test.targets
print("pictures:", tuple(pictures.shape), pictures.dtype)

# %%
padded = F.pad(pictures, (2, 2, 2, 2)).unsqueeze(1).float()
mistakes = {
    "as in training": (padded / 255 - MEAN) / STD,
    "not normalised": padded / 255,
    "ink and paper exchanged": (1 - padded / 255 - MEAN) / STD,
}
with torch.no_grad():
    for name, x in mistakes.items():
        print(f"{name:24} accuracy {accuracy(model(x)):.2%}")

# %% [markdown]
# No error in any line: that is what makes such mistakes costly. The remedy is to ship the preprocessing
# too. A module around the network takes pictures as everyone has them, whole numbers from 0 to 255.


# %%
class Reader(nn.Module):
    def __init__(self, model, margin):
        super().__init__()
        self.model, self.margin = model, (margin,) * 4

    def forward(self, pictures):  # uint8 (B, 28, 28)
        pixels = F.pad(pictures.unsqueeze(1), self.margin).float() / 255
        return self.model((pixels - MEAN) / STD)


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
    same = torch.equal(expected, model(datamodule.test.images.cpu()))
print("the same logits:", same)
assert same

# %% [markdown]
# From here on everything runs on the CPU, where most shipped models of this size run.
#
# ## 4. Three ways out of Python
#
# So far, whoever uses the model needs the class `LeNet`. An **export** writes down the computation itself:
# which operation follows which. There are three forms of it about; all three take one example input.
#
# ### TorchScript
#
# The oldest one. You will still meet it in the wild, so see it once, together with what torch says about it:

# %%
example = pictures[:2].clone()  # a mere view would put all the test pictures into the file
with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    torch.jit.trace(reader, example).save(folder / "reader.ts")
    script = torch.jit.load(folder / "reader.ts")
print("\n".join({str(w.message).splitlines()[0] for w in warned if "deprecated" in str(w.message)}))

# %% [markdown]
# ### torch.export
#
# Its successor. The example has 2 pictures, but the program should take any number: so the first dimension
# is declared as dynamic. What comes out is a graph of plain tensor operations.

# %%
batch = torch.export.Dim("batch")
program = torch.export.export(reader, (example,), dynamic_shapes=({0: batch},))
with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "No complete tensor")  # the channels-last weights are whole
    torch.export.save(program, folder / "reader.pt2")
operations = [node.target for node in program.graph.nodes if node.op == "call_function"]
print(len(operations), "operations:", *(str(o).split(".")[1] for o in operations))

# %% [markdown]
# You can read the whole model in that line: pad, divide, subtract, divide, then the two convolutions, each
# with ReLU and pooling, and three linear layers. No Python class is left, and no comment either.

# %%
exported = torch.export.load(folder / "reader.pt2").module()
with torch.no_grad():
    print(tuple(exported(pictures[:7]).shape), "for 7 pictures; the example had 2")

# %% [markdown]
# ### ONNX
#
# A format that does not belong to PyTorch. Its runtimes exist for phones, browsers, C++, Java and more. Here,
# **onnxruntime** runs it: numpy arrays in, numpy arrays out, and torch is not needed at all. One thread, as
# torch has here; else the comparison of speed below would not be fair.

# %%
import onnxruntime

names = dict(input_names=["pictures"], output_names=["logits"], verbose=False)
shapes = dict(dynamo=True, dynamic_shapes=({0: batch},))
torch.onnx.export(reader, (example,), **shapes, **names).save(folder / "reader.onnx")


# %%
def onnx_session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run_onnx(session, pictures):
    return torch.from_numpy(session.run(None, {"pictures": pictures.numpy()})[0])


onnx = onnx_session(folder / "reader.onnx")
print("takes", onnx.get_inputs()[0].shape, "gives", onnx.get_outputs()[0].shape)

# %% [markdown]
# ## 5. Is it still the same model?
#
# An export is a port, too; so it is checked like one. All test digits through all four, and the largest
# difference of any logit:

# %%
forms = {
    "PyTorch": reader,
    "TorchScript": script,
    "torch.export": exported,
    "onnxruntime": partial(run_onnx, onnx),
}


def in_batches(run, size=500):
    with torch.no_grad():
        return torch.cat([run(chunk) for chunk in pictures.split(size)])


# %%
logits = {name: in_batches(run) for name, run in forms.items()}
for name, values in logits.items():
    difference = (values - logits["PyTorch"]).abs().max().item()
    print(f"{name:14} largest difference {difference:.1e}   accuracy {accuracy(values):.2%}")
    assert difference < 1e-5
    assert accuracy(values) == accuracy(logits["PyTorch"])

# %% [markdown]
# The first three call the same kernels of torch, onnxruntime has kernels of its own: they add up in another
# order, and so the last bits of a float32 differ. `1e-5` is a bound for such rounding; no digit is read
# differently.
#
# ## 6. Size and speed
#
# First the files. They hold the same 61,706 weights, four bytes each, and what each format says about them:

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
from course_utils.cost import in_turn


def repeat(run, count, pictures):
    with torch.no_grad():
        for _ in range(count):
            run(pictures)


def timed(forms, count, size):
    runs = {name: partial(repeat, run, count, pictures[:size]) for name, run in forms.items()}
    in_turn(runs, count, rounds=1)  # to warm up
    return in_turn(runs, count, rounds=7).milliseconds


# %%
def speed_table(forms):
    latency = timed(forms, count=100, size=1)
    rate = {name: 256_000 / ms for name, ms in timed(forms, count=4, size=256).items()}
    print(f"{'':14}{'one picture':>14}{'in batches of 256':>26}")
    for name in forms:
        print(f"{name:14}{1000 * latency[name]:11,.0f} µs{rate[name]:15,.0f} pictures/s")
    return plots.bars_side_by_side(
        {
            "latency, batch 1 (ms)": latency,
            "throughput, batch 256 (thousand pictures/s)": {n: r / 1000 for n, r in rate.items()},
        }
    )


speed_table(forms)

# %% [markdown]
# Left, short bars are good; right, long ones. For one picture, most of the time goes into calling the
# operations one by one, and a runtime that calls them without Python is far ahead. For 256 pictures, the
# arithmetic itself counts, and the differences shrink.
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
torch.onnx.export(mlp, (example,), **shapes, **names).save(folder / "mlp.onnx")

# %%
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process

quant_pre_process(folder / "mlp.onnx", folder / "prepared.onnx")
quantize_dynamic(folder / "prepared.onnx", folder / "mlp8.onnx", weight_type=QuantType.QInt8)

# %%
bits = {"32 bits": "mlp.onnx", "8 bits": "mlp8.onnx"}
sessions = {name: partial(run_onnx, onnx_session(folder / file)) for name, file in bits.items()}
answers = {name: in_batches(run) for name, run in sessions.items()}
for name, file in bits.items():
    size = (folder / file).stat().st_size
    print(f"{name:8}{size:9,} bytes   accuracy {accuracy(answers[name]):.2%}")
changed = (answers["32 bits"].argmax(1) != answers["8 bits"].argmax(1)).sum().item()
print(f"read differently: {changed} of {len(labels):,} digits")

# %%
speed_table(sessions)

# %% [markdown]
# Nearly a quarter of the size. What it costs stands in the other two lines: digits that the two read
# differently, and not each of them for the worse. What it gains in time depends on the
# processor: those with instructions for 8-bit arithmetic gain most. So measure where it will run.
#
# ## 8. A digit of your own
#
# Test digits were made like the training digits. Yours are not. MNIST's digits were fitted into a box of 20
# pixels, with their centre of mass in the middle of 28; a drawing has to be treated alike. Here are ten that were
# written down stroke by stroke, as a canvas gives them, and what the ONNX model reads:


# %%
from course_utils.drawing import RECORDED, from_picture, from_strokes


def read(picture):
    return run_onnx(onnx, picture[None])[0].softmax(0)


drawn = torch.stack([from_strokes(strokes) for strokes in RECORDED.values()])
answers = [read(picture) for picture in drawn]
right = [answer.argmax().item() == digit for digit, answer in zip(RECORDED, answers)]
plots.digit_grid(drawn, [f"{a.argmax()}\n{a.max():.0%}" for a in answers], right=right)

# %% [markdown]
# Blue is read right, orange wrong. Each title is the digit read, and how sure the model is of it. Now you:
# draw one on the black square, as large as you like. (It needs a running kernel: on a page that is only
# displayed, no square is to be seen.)

# %%
from course_utils.canvas import digit_canvas

digit_canvas(read)

# %% [markdown]
# ### From paper
#
# A photograph works too: `from_picture` takes a path, dark on light or light on dark, of any size. This
# "photograph" is made here: grey paper with noise, and a small digit in a corner. Put your own path in its place.

# %%
import numpy as np
from PIL import Image

noise = np.random.default_rng(0).normal(0, 6, (240, 320))
ink = np.kron(drawn[4].numpy(), np.ones((4, 4)))  # 112 x 112 pixels
paper = 190 + noise
paper[110:222, 190:302] -= 0.6 * ink
photo = folder / "photo.png"  # your own: photo = "my_digit.jpg"
Image.fromarray(paper.clip(0, 255).astype(np.uint8)).save(photo)

# %%
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
# The network saw centred white digits on black and nothing else. It answers whatever it is shown, and it can be
# sure of nonsense. The part of the preprocessing that is not in the exported file is a part that someone
# can forget.
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


def refused(load):
    try:
        load(folder / "stranger.ckpt", weights_only=True)
        return "loaded!"
    except pickle.UnpicklingError as error:
        return next(line for line in str(error).splitlines() if "Unsupported" in line).strip()


for load in (torch.load, LitLeNet.load_from_checkpoint):
    print(refused(load))

# %%
assert "Unsupported" in refused(torch.load) and "Unsupported" in refused(
    LitLeNet.load_from_checkpoint
)

# %% [markdown]
# `torch.load` does so by default, and Lightning's Trainer too, from the versions that this course asks for.
# When a file does not load, an answer in a forum may say "set `weights_only=False`": do that for files of your
# own, never for others'. ONNX files hold no Python at all.
#
# ## Recap
#
# 1. A checkpoint is for going on; plain weights are for use. A prefix and a dictionary lead from one to the
#    other.
# 2. Whatever stands between the user's data and the network belongs into the shipped model.
# 3. `torch.export` and ONNX write down the computation; TorchScript is on its way out. An export is a port:
#    compare its outputs.
# 4. Latency and throughput are two different things. Measure both, where the model will run.
# 5. Eight bits make a model nearly four times smaller. What is lost can be counted.
# 6. Loading a pickle can run code. `weights_only=True` refuses.
#
# ## Common mistakes
#
# - **Exporting in training mode**: dropout and batch norm of training go into the file. Call `eval()` first.
# - **A fixed batch size**: without a dynamic dimension the program takes batches of the example's size only.
# - **Comparing accuracy only**: an export that is wrong in one layer can still be right on most digits. Compare
#   the logits.
# - **Timing the first call**: it pays for what is prepared once. Warm up, then take a median.
# - **Different preprocessing in training and in use**: no error, only wrong answers. Ship it.
#
# ## Exercises
#
# 1. **The decoder alone.** Train `LitAutoEncoder` for an epoch, export only its decoder to ONNX, and decode the
#    code (0, 0, 0) with onnxruntime. Is the picture that of torch, within 1e-5?
# 2. **An export that fails.** Give `Reader.forward` an `if pictures.float().mean() > 127:` that inverts light
#    pictures. What does `torch.export` say, what does `torch.jit.trace` do, and why is the second worse?
#    Write it with `torch.where`, and export again.
# 3. **What is lost by 8 bits?** Draw the digits that the two MLPs read differently, with both answers. How
#    sure was the 32-bit model of them?
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
