# %% [markdown]
# # 5. Refactoring a real script: fast neural style transfer
#
# {{badge}}
#
# > A long script with two networks, three losses and everything else in one function: taken apart, moved to Lightning, and proved to make the same steps, bit for bit.
#
# Every group has such a script. It works, and nobody dares to touch it, for whoever moves one line may break it without an
# error. Here it is taken apart all the same, piece by piece, and after that it still makes the same steps, bit for bit. Two
# mistakes that this refactor invites are made on purpose. Neither raises an error; both get their name:
#
# ```text
# Diagnosis: another network in training mode
# Diagnosis: another network handed to the optimizer
# ```
#
# What comes out is worth looking at: a cat, an astronaut and a cup of coffee, redrawn in the manner of a brick wall.
#
# At the end of this lesson you will
# - have trained a network that redraws photographs in the style of another picture, and know what its losses measure;
# - have read a tangled script line by line, and know where each piece goes in Lightning;
# - have **proved** that script and port make the same steps, and seen the port doctor find two mistakes of exactly this refactor;
# - have added precision, accumulation, early stopping, resuming and a second worker without touching the idea;
# - have redrawn pictures of any size, and exported the network.
#
# **Time**: about 5 minutes of computing on a laptop; with VGG16 as loss network, a quarter of an hour.
#
# **Builds on**: lessons [2](02_autoencoder.ipynb), [3](03_lenet.ipynb) and [4](04_one_flag_at_a_time.ipynb). The photographs come
# with scikit-image. If it is missing, run `%pip install scikit-image` in a cell of its own.

# %% tags=["setup"]
# {{setup}}

# %%
import os
import runpy
import time
import warnings
from pathlib import Path

import lightning as L
import torch
from torch import nn
from torch.nn import functional as F

from course_utils.digits import seeded
from course_utils.files import runs_folder
from course_utils.parity import compare, trace
from course_utils.pictures import PHOTOGRAPHS, luminance, photograph
from course_utils.session import start
from course_utils.switches import paced
from course_utils.views import plots

session = start(42)
device = session.device
folder = runs_folder("style")

# %% [markdown]
# ## 1. Photographs and styles
#
# Three photographs to redraw, and two pictures whose style we want: a section of tissue under the microscope
# (*immunohistochemistry*), and a wall. A picture is a tensor of shape (3, H, W), from 0 to 1.

# %%
CONTENTS = ("astronaut", "chelsea", "coffee")
STYLES = ("immunohistochemistry", "brick")
shown = {name: photograph(name, longest=256) for name in (*CONTENTS, *STYLES)}
print({name: tuple(picture.shape) for name, picture in shown.items()})
plots.photo_rows({"": list(shown.values())}, titles=shown)

# %% [markdown]
# Only the **luminance** is drawn anew, how bright each pixel is; the photograph keeps its colours. Here is how one puts the
# two together again: change the brightness, and move red, green and blue by the same amount.

# %%
# NBVAL_CHECK_OUTPUT
cat = shown["chelsea"]
grey = luminance(cat)
darker = (cat + 0.5 * grey - grey).clamp(0, 1)
print("colours:", tuple(cat.shape), " luminance:", tuple(grey.shape))

# %%
plots.photo_rows({"": [cat, grey, darker]}, titles=["photograph", "luminance", "half as bright"])

# %% [markdown]
# ## 2. The method, by hand
#
# Two networks take part. One **draws**: a photograph goes in, the redrawn one comes out. The other one only **looks**: the features of
# this fixed *loss network* say how near a result is to the style, and how near to the photograph. Gatys et al. (2016) changed the pixels of
# each picture until both were near. Johnson et al. (2016) train the drawing network instead, once; from then on a
# picture takes one forward pass. Hence *fast*.
#
# ### What is style?
#
# A layer of a trained network puts out maps: one says where there are edges, another where there are dots. Style is not
# *where* they are, but *which go together*. The **Gram matrix** counts that: for every pair of maps the mean product over all
# places. Take two tiny maps, both with ones in their left half:


# %%
def gram(maps):
    rows = maps.flatten(2)
    return rows @ rows.transpose(1, 2) / rows.shape[-1]


# %% [markdown] tags=["question"]
# Now the second map moves to the right half, the first stays. What becomes of the Gram matrix?
#
# - Nothing: style does not ask where
#   if: both == 0.5
#   It does not ask where *all of it* is. Which maps go together, it does ask.
# + The two numbers beside the diagonal become 0
#   if: both == 0 and own == 0.5
#   Each map is as strong as before, but they are nowhere strong in the same place.
# - All four become 0
#   if: own == 0
#   On the diagonal stands each map with itself, and that goes together wherever it is.
#
# read: \]\]\)\ntensor\(\[\[(?P<own>[\d.]+), (?P<both>[\d.]+)\]

# %%
# NBVAL_CHECK_OUTPUT
maps = torch.tensor([[[[1.0, 0], [1, 0]], [[1, 0], [1, 0]]]])  # (1, 2 maps, 2, 2)
second_moved = torch.stack([maps[:, 0], maps[:, 1].flip(-1)], dim=1)  # to the right
print(gram(maps)[0])
print(gram(second_moved)[0])
print("both moved, same Gram matrix:", torch.equal(gram(maps), gram(maps.flip(-1))))

# %% [markdown]
# On the diagonal stands how strong each map is, beside it how strong both are in the same places. Move one of them, and they do
# not go together any more. Move both alike, and nothing changes.
#
# ### A loss network
#
# Which network puts out the maps? Johnson et al. take VGG16, trained on a million photographs: a download of half a
# gigabyte. We train a small one here, without any download. It learns to tell from which of fourteen pictures a crop comes.
# For that it has to know textures.


# %%
def stage(n_in, n_out):
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, 3, padding=1),
        nn.BatchNorm2d(n_out),
        nn.ReLU(),
        nn.Conv2d(n_out, n_out, 3, padding=1),
        nn.BatchNorm2d(n_out),
        nn.ReLU(),
    )


# %% [markdown]
# **Batch norm** brings each map to mean 0 and spread 1, then scales and shifts it by learned values. In training mode it takes mean and
# spread of the batch at hand, and keeps running averages; in evaluation mode it uses those averages.


# %%
class LossNetwork(nn.Module):
    def __init__(self, classes: int = 14, widths: tuple[int, ...] = (24, 48, 64, 64)):
        super().__init__()
        sizes = (1, *widths)
        self.stages = nn.ModuleList(stage(n, m) for n, m in zip(sizes, widths, strict=False))
        self.head = nn.Linear(widths[-1], classes)

    def features(self, x, stages=None):
        found = []
        for number, block in enumerate(self.stages[:stages]):
            x = block(F.avg_pool2d(x, 2) if number else x)
            found.append(x)
        return found

    def forward(self, x):
        return self.head(self.features(x)[-1].mean((2, 3)))


# %%
from course_utils.models import crops_of

pictures = [luminance(photograph(name, longest=512)) for name in PHOTOGRAPHS]
generator = seeded(0)
crops, labels = crops_of(pictures, size=48, count=24, generator=generator)
plots.digit_grid(crops[:8], titles=[PHOTOGRAPHS[label][:9] for label in labels[:8]], columns=8)

# %% [markdown]
# `crops_of` cuts at random places, and varies contrast and brightness, so that these do not give the picture
# away. The loop is one that you know by now. See what share of the crops it names right, of fourteen possible names.
# `paced(400, 6)` is 400, unless `COURSE_PACE=quick` asks for a quick walk through the notebook, which learns nothing: then it is 6.

# %%
loss_network = LossNetwork(len(pictures)).to(device)
optimizer = torch.optim.Adam(loss_network.parameters(), lr=1e-3)
accuracies = []
for _ in range(paced(400, 6)):
    crops, labels = (part.to(device) for part in crops_of(pictures, 48, 24, generator))
    logits = loss_network(crops)
    loss = F.cross_entropy(logits, labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    accuracies.append((logits.argmax(1) == labels).float().mean().item())

# %%
smooth = {"24 crops a step, mean of 20 steps": plots.running_mean(accuracies, 20)}
plots.curves(smooth, y="share of crops named right", x="step")

# %% [markdown]
# In the end about half of them are named right, where chance would be 1 of 14, or 0.07. Much more is hard: some crops are plain sky. From
# here on the network is **fixed**: in evaluation mode, so that batch norm uses its averages, and frozen, so that nobody trains it. It is stored, for the script and for the port. (With
# `COURSE_STYLE=vgg`, both take VGG16 in its place; torchvision downloads and checks it.)

# %%
from course_utils.models import chosen_loss_network, load_loss_network, save_loss_network

save_loss_network(loss_network, folder / "loss_network.pt")
kind = chosen_loss_network()
LOSS = str(folder / "loss_network.pt") if kind == "bundled" else kind
loss_network = load_loss_network(LOSS)
print(
    "in training mode:", loss_network.training, " stages:", len(loss_network.features(grey[None]))
)

# %%
for maps in loss_network.features(grey[None]):
    print("maps", tuple(maps.shape), " Gram matrix", tuple(gram(maps).shape))

# %% [markdown]
# ### The network that draws
#
# It makes the picture smaller, works on it in three **residual blocks** (what they find is added to what came in), and makes
# it larger again. Its second input is noise: a flat area has nothing that strokes could start from.


# %%
def convolution(n_in, n_out, size=3, stride=1):
    padding = dict(padding=size // 2, padding_mode="replicate")
    return nn.Conv2d(n_in, n_out, size, stride=stride, **padding)


def layer(n_in, n_out, size=3, stride=1):
    norm = nn.InstanceNorm2d(n_out, affine=True)
    return nn.Sequential(convolution(n_in, n_out, size, stride), norm, nn.ReLU())


# %% [markdown]
# **Instance norm** does what batch norm does, but for each picture alone, and without averages: it works alike in both modes.


# %%
class Residual(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        norm = nn.InstanceNorm2d(width, affine=True)
        self.body = nn.Sequential(layer(width, width), convolution(width, width), norm)

    def forward(self, x):
        return x + self.body(x)


# %%
class TransformNet(nn.Module):
    def __init__(self, width: int = 16):
        super().__init__()
        self.layers = nn.Sequential(
            layer(2, width, size=5),
            layer(width, 2 * width, stride=2),
            layer(2 * width, 4 * width, stride=2),
            *(Residual(4 * width) for _ in range(3)),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            layer(4 * width, 2 * width),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            layer(2 * width, width),
            convolution(width, 1, size=5),
            nn.Sigmoid(),
        )

    def forward(self, grey, noise):
        return self.layers(torch.cat([grey, noise], dim=1))


# %%
# NBVAL_CHECK_OUTPUT
x = torch.zeros(4, 2, 64, 64)
for part in TransformNet().layers:
    x = part(x)
    print(f"{type(part).__name__:11}{tuple(x.shape)}")

# %% [markdown]
# ### Three losses
#
# **Style**: Gram matrices like those of the style picture, at all four stages. **Content**: features like the photograph's own,
# at the second stage. **Roughness**: neighbouring pixels should not differ too much. The first two are relative: style is 1 if all
# Gram matrices are zero, content is 1 if the features are off by as much as they vary.


# %%
def style_loss(features, grams):
    gaps = [
        ((gram(maps) - target) ** 2).sum((1, 2)).mean() / (target**2).sum()
        for maps, target in zip(features, grams, strict=True)
    ]
    return sum(gaps) / len(gaps)


def content_loss(after, before):
    return F.mse_loss(after[1], before[1]) / before[1].var()


def roughness(pictures):
    across = (pictures[..., 1:] - pictures[..., :-1]).abs().mean()
    down = (pictures[..., 1:, :] - pictures[..., :-1, :]).abs().mean()
    return across + down


# %%
def greys(name):
    return luminance(photograph(name, longest=256))[None]


tissue = [gram(maps) for maps in loss_network.features(greys("immunohistochemistry"))]
astronaut = loss_network.features(greys("astronaut"))
for name in ("immunohistochemistry", "astronaut", "brick"):
    found = loss_network.features(greys(name))
    style, content = style_loss(found, tissue).item(), content_loss(found, astronaut).item()
    print(f"{name:22} style {style:.3f}   content {content:.3f}")

# %% [markdown]
# The tissue has its own style, and the astronaut her own content: both zero. A good result has a style loss near zero, and a
# content loss as low as that allows: the two pull in different directions.
#
# ## 3. The script
#
# Now the program that trains it, as such programs grow: arguments, pictures, both networks, losses, counters, a log,
# sample pictures, files, all in one function. Read it once, from the top to the bottom. The colours say what each line is for.

# %% [markdown] tags=["question"]
# The script has 115 lines. How many of them are the idea: the network's call and the losses?
#
# - Most: it is a program about style, after all
#   if: idea > 60
#   So it seems while one reads, as those are the lines that one looks for.
# - About half
#   if: 40 <= idea <= 60
#   Count once more what the other lines are for: arguments, pictures, counters, files, modes.
# + About a fifth
#   if: 15 <= idea < 30
#   The others are there for any training. That is also why nobody dares to touch them: each works for several purposes at once.
#
# read: IDEA  model and loss +(?P<idea>\d+)\n

# %%
from course_utils.installation import lesson_file
from course_utils.views import side_by_side

script = lesson_file("style_script.py")
known = {
    "model and loss": ["features", "transpose"],
    "data movement": ["photograph", "luminance", "randint", "append"],
    "logging": ["tolist", "byte"],
}
listing = side_by_side(script.read_text(encoding="utf-8"), known=known)
listing

# %%
# NBVAL_CHECK_OUTPUT
counts = {job.name: lines for job, (lines, _) in listing.counts.items()}
print(f"{counts['model and loss']} of {sum(counts.values())} lines are the idea")

# %% [markdown]
# It runs by itself, `python style_script.py --help`; the file lies next to this notebook. We call its `main`, for a few
# steps, with the trace on. The script builds its network where we cannot reach it. So we give the doctor the *class*: it watches
# the first `TransformNet` that is built in the block.

# %%
from course_utils.models import style as shipped  # where the script takes its TransformNet from

STEPS = paced(20, 6)
main = runpy.run_path(str(script))["main"]
words = f"--steps {STEPS} --log-every {STEPS} --sample-every {STEPS} --device {device.type}"
words = [*words.split(), "--loss-network", LOSS, "--out-dir", str(folder / "script")]
with trace(shipped.TransformNet) as raw:
    main(words)
print(sorted(file.name.split("_")[0] for file in (folder / "script").iterdir()))

# %% [markdown]
# ## 4. The refactor
#
# ### Move 1: networks and targets into `__init__`
#
# Both networks are attributes, so that they move to the device with the module. The Gram matrices are computed once, and
# become **buffers**: they move too, they go into the checkpoint (as do the loss network's weights), and no optimizer touches them. A list of
# them would stay behind, so each is registered under a name of its own. Losses and all that they need
# become a module of their own. Both sides compute the targets on the CPU, so that they are the same bits on a GPU.

# %%
LONGEST = 256  # pixels at the longer side of every picture in training


class StyleLosses(nn.Module):
    def __init__(self, style: str, loss_network: str):
        super().__init__()
        self.loss_network = load_loss_network(loss_network)  # frozen, in evaluation mode
        picture = luminance(photograph(style, LONGEST))[None]
        for number, maps in enumerate(self.loss_network.features(picture)):
            self.register_buffer(f"gram_{number}", gram(maps))  # was: grams, .to(device)

    def forward(self, drawn, x):
        after = self.loss_network.features(drawn)
        with torch.no_grad():
            before = self.loss_network.features(x, stages=2)
        grams = [self.get_buffer(f"gram_{number}") for number in range(len(after))]
        return style_loss(after, grams), content_loss(after, before), roughness(drawn)


# %%
# NBVAL_CHECK_OUTPUT
losses = StyleLosses("immunohistochemistry", LOSS)
print("buffers:", *[name for name, _ in losses.named_buffers() if "gram" in name])
print(
    "to be trained:", sum(parameter.requires_grad for parameter in losses.parameters()), "tensors"
)

# %% [markdown]
# ### Move 2: the module
#
# `forward` is the part that one ships: picture and noise in, picture out. The first two lines of `_step` are the idea, the others log. The
# script's arguments become arguments with a type, which `save_hyperparameters` keeps. And the optimizer gets
# `self.model.parameters()`, not `self.parameters()`; section 5 shows why. The script had no validation: here it is.
#
# Before it, two helpers that both the module and the sample pictures need: noise that is the same each time, and a
# photograph's way through the network. Brightness out, network, brightness in again. Sides that are not a multiple of 4 are
# filled up by repeating the edge, and cut back afterwards.

# %%
from course_utils.models import within_memory


def fixed_noise(x, seed=0):
    return torch.rand(x.shape, generator=seeded(seed)).to(x)


@torch.no_grad()
def stylize(model, picture, seed=0):
    picture = within_memory(picture.cpu())
    height, width = picture.shape[-2:]
    grey = luminance(picture)
    whole = F.pad(grey[None], (0, -width % 4, 0, -height % 4), mode="replicate")
    whole = whole.to(next(model.parameters()))
    drawn = model(whole, fixed_noise(whole, seed)).to(picture)[0, :, :height, :width]
    return (picture + drawn - grey).clamp(0, 1)


# %%
class LitStyle(L.LightningModule):
    def __init__(
        self,
        style: str = "immunohistochemistry",
        loss_network: str = "bundled",
        width: int = 16,
        content_weight: float = 0.3,
        smooth_weight: float = 0.1,
        lr: float = 2e-3,
    ):
        super().__init__()
        self.save_hyperparameters()  # was: args
        self.model = TransformNet(width)
        self.losses = StyleLosses(style, loss_network)

    def forward(self, grey, noise):
        return self.model(grey, noise)

    def training_step(self, batch, batch_idx):  # was: the body of the loop
        return self._step(batch, torch.rand_like(batch), "train")

    def validation_step(self, batch, batch_idx):
        self._step(batch, fixed_noise(batch), "val")

    def test_step(self, batch, batch_idx):
        self._step(batch, fixed_noise(batch), "test")

    def predict_step(self, batch, batch_idx):
        return stylize(self.model, batch[0])

    def _step(self, x, noise, stage):
        style, content, rough = self.losses(self(x, noise), x)
        loss = style + self.hparams.content_weight * content + self.hparams.smooth_weight * rough
        self.log(f"{stage}_loss", loss, prog_bar=True)  # was: print, log_file
        parts = {"style": style, "content": content, "roughness": rough}
        self.log_dict({f"{stage}_{name}": part for name, part in parts.items()})
        return loss

    def configure_optimizers(self):  # was: optimizer = …
        return torch.optim.Adam(self.model.parameters(), lr=self.hparams.lr)


# %% [markdown]
# ### Move 3: the data module
#
# What to cut is a dataset, **where** to cut is a sampler: it draws picture, top and left edge from a generator of its own, in
# the order in which the script does. The generator's state goes into checkpoints, for runs that resume (lesson 4).

# %%
from torch.utils.data import DataLoader, Dataset, Sampler


class Crops(Dataset):
    def __init__(self, pictures, size):
        self.pictures, self.size = pictures, size

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, place):
        which, top, left = place
        return self.pictures[which][:, top : top + self.size, left : left + self.size]


# %%
class RandomPlaces(Sampler):
    def __init__(self, crops, count, generator):
        self.crops, self.count, self.generator = crops, count, generator

    def __len__(self):
        return self.count

    def __iter__(self):
        return iter([self._place() for _ in range(self.count)])

    def _place(self):
        which = self._below(len(self.crops))
        height, width = self.crops.pictures[which].shape[-2:]
        size = self.crops.size
        return which, self._below(height - size + 1), self._below(width - size + 1)

    def _below(self, limit):
        return int(torch.randint(limit, (), generator=self.generator))


# %% [markdown]
# Training crops are new in each epoch. Those to validate and to test with are drawn once, from photographs that are not
# trained on; then the list of places is itself the sampler. `check_size` refuses crops that do not fit into the pictures.

# %%
from course_utils.models.style import SHOWN, TEST, TRAIN, VALIDATION, check_size

print("train:", *TRAIN, " validate:", *VALIDATION, " test:", *TEST)


# %%
class StylePictures(L.LightningDataModule):
    def __init__(
        self,
        size: int = 64,
        batch_size: int = 4,
        steps: int = 100,
        seed: int = 42,
        shown: tuple[str, ...] = SHOWN,
    ):
        super().__init__()
        self.size, self.batch_size, self.steps, self.seed = size, batch_size, steps, seed
        self.shown, self.places = shown, seeded(seed)

    def loader(self, names, steps, generator, fixed=False):
        pictures = [luminance(photograph(name, LONGEST)) for name in names]
        check_size(self.size, pictures)
        crops = Crops(pictures, self.size)
        places = RandomPlaces(crops, steps * self.batch_size, generator)
        places = list(places) if fixed else places
        return DataLoader(crops, self.batch_size, sampler=places, generator=seeded(self.seed))

    def train_dataloader(self):
        return self.loader(TRAIN, self.steps, self.places)

    def val_dataloader(self):
        return self.loader(VALIDATION, 4, seeded(self.seed), fixed=True)

    def test_dataloader(self):
        return self.loader(TEST, 4, seeded(self.seed), fixed=True)

    def predict_dataloader(self):
        return DataLoader([photograph(name) for name in self.shown])

    def state_dict(self):
        return {"places": self.places.get_state()}

    def load_state_dict(self, state_dict):
        self.places.set_state(state_dict["places"])


# %% [markdown]
# ### Move 4: sample pictures become a callback
#
# Looking at the cat now and then has nothing to do with training, and so it is no part of the module. A callback can be
# given to any Trainer, or left out. (The script changed modes around its sample. Instance norm works alike in both, and there is no
# dropout, so that this can go; with batch norm, `_keep` would have to do it.)


# %%
class SamplePictures(L.Callback):
    def __init__(self, source: str = "chelsea", every: int = 100, longest: int = 192):
        self.photograph, self.every = photograph(source, longest), every
        self.pictures = {}

    def on_train_start(self, trainer, pl_module):
        self._keep(trainer, pl_module)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step % self.every == 0:
            self._keep(trainer, pl_module)

    def _keep(self, trainer, pl_module):
        self.pictures[trainer.global_step] = stylize(pl_module.model, self.photograph)


# %% [markdown]
# ### What became of `argparse`?
#
# The arguments of `__init__` have names, types and defaults: all that a command line needs. **LightningCLI** reads them off. So
# the course's own training command takes this module, and its help needs no line of code:
#
# ```
# python -m course_utils.train fit --model LitStyle --model.style brick --model.content_weight 0.5 --out-dir runs/brick
# ```

# %%
lit = LitStyle(loss_network=LOSS)
print(lit.hparams)

# %% [markdown]
# ## 5. The proof
#
# The script above was traced. The port starts from the same seed, builds in the same order, and draws its noise from the same
# generator. (Lightning warns about modules in evaluation mode. Here that is just what we want, so this one warning is
# switched off.)

# %%
warnings.filterwarnings("ignore", ".*in eval mode at the start of training.*")
hardware = dict(accelerator=session.accelerator, devices=1)
quiet = dict(logger=False, enable_checkpointing=False, enable_model_summary=False)
short = dict(max_epochs=1, limit_val_batches=0, enable_progress_bar=False)


def run_port(system=LitStyle, steps=STEPS, **flags):
    L.seed_everything(42, verbose=False)
    lit = system(loss_network=LOSS)
    trainer = L.Trainer(**(hardware | quiet | short | flags))
    with trace(lit.model) as record:
        trainer.fit(lit, datamodule=StylePictures(steps=steps))
    return record


# %% tags=["verdict"]
# NBVAL_CHECK_OUTPUT
report = compare(raw, run_port(), names=("script", "Lightning"))
report.assert_identical()
print(report.verdict)

# %%
report

# %% [markdown]
# ### Two mistakes that this refactor invites
#
# **The loss network is left in training mode.** Nothing fails. (VGG16 has neither batch norm nor dropout in the layers
# that we use: with it this mistake changes nothing.)


# %% [markdown] tags=["question"]
# Nobody trains the loss network. It is only in training mode. From which step on does it matter?
#
# + From step 1
#   if: step == 1
#   Each batch is measured with its own mean and spread at once. So is the first one.
# - Never: its weights do not change
#   if: "✗ different" not in text
#   They do not. But batch norm does not only look at its weights.
# - From step 2: at the first step the averages are still the old ones
#   if: step == 2
#   In training mode the averages are not used at all, only kept.
#
# read: first differ in the gradient \(\S+\), at step (?P<step>\d+)


# %%
class InTrainingMode(LitStyle):
    def __init__(self, **choices):
        super().__init__(**choices)
        self.losses.loss_network.train()


print(compare(raw, run_port(InTrainingMode), names=("script", "Lightning")))

# %% [markdown]
# Batch norm has measured each batch with the batch's own averages, so that the loss of a picture depends on the others in its
# batch.
#
# **The loss network goes to the optimizer.** `self.parameters()` are *all* parameters. If nobody froze the loss network, it
# is trained as well, and the measure changes while we measure.


# %% [markdown] tags=["question"]
# Here the optimizer trains the loss network as well. From which step on does that show in the gradient of the drawing network?
#
# - From step 1
#   if: step == 1
#   The first gradient is computed before any weight has moved: both measure alike.
# + From step 2
#   if: step == 2
#   After the first step the measure has moved. From then on it drifts away from the targets that it once computed.
# - Only at the end, when the loss has become suspiciously small
#   if: step > 2
#   Then one might see it, or not: look at the last two losses below. In the gradient it shows at once.
#
# read: first differ in the gradient \(\S+\), at step (?P<step>\d+)


# %%
class EverythingTrained(LitStyle):
    def __init__(self, **choices):
        super().__init__(**choices)
        self.losses.requires_grad_(True)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.hparams.lr)


trained_too = run_port(EverythingTrained)
print(compare(raw, trained_too, names=("script", "Lightning")))
print(f"last loss: measure fixed {raw.losses[-1]:.3f}, trained {trained_too.losses[-1]:.3f}")

# %% [markdown]
# The first step is equal: the loss network has not changed yet. From then on it drifts away from the targets that it once computed, and
# the two losses no longer mean the same. Freezing alone would have been enough: an optimizer
# passes over parameters that have no gradient. To hand over only what is to be trained is a second safeguard.
#
# ## 6. Training
#
# Now in earnest: four epochs of a hundred steps, with the cat as sample and a log for the curves.

# %%
from lightning.pytorch.loggers import CSVLogger

from course_utils.views import CourseProgress

EPOCH, EPOCHS = paced(100, 4), paced(4, 1)


# %%
def train(style, epochs=EPOCHS, callbacks=(), **choices):
    L.seed_everything(42, verbose=False)
    lit = LitStyle(style, LOSS, **choices)
    trainer = L.Trainer(
        **hardware,
        max_epochs=epochs,
        callbacks=[CourseProgress(only_prog_bar=True), *callbacks],
        logger=CSVLogger(folder.parent, name=f"style_{style}"),
        log_every_n_steps=paced(10, 1),
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.fit(lit, datamodule=StylePictures(steps=EPOCH))
    return lit, trainer


# %%
samples = SamplePictures("chelsea", every=EPOCH // 2)
tissue_lit, trainer = train("immunohistochemistry", callbacks=[samples])

# %%
steps = sorted(samples.pictures)[:: max(1, EPOCHS // 2)]
plots.photo_rows({"": [samples.pictures[s] for s in steps]}, titles=[f"{s} steps" for s in steps])

# %% [markdown]
# The untrained network draws little but its noise. After a hundred steps the cat is back, drawn in slanting strokes; more steps make it
# clearer. (In the table, `train_loss` is that of the epoch's last batch.) The losses, each one alone:

# %%
import csv

with open(Path(trainer.logger.log_dir) / "metrics.csv", newline="") as file:
    rows = [row for row in csv.DictReader(file) if row["train_loss"]]
parts = ("train_style", "train_content", "train_roughness")
curves = {part[6:]: [float(row[part]) for row in rows] for part in parts}
places = [int(row["step"]) + 1 for row in rows]
plots.lines(places, curves, x="optimizer step", y="loss, not yet weighted", y_scale="log")

# %% [markdown]
# Style falls, and quickly. Content goes up and down, as each batch is of other crops, and sinks only a little. Roughness rises
# at first: strokes are rough. Whether training still helps, `val_loss` shows better, because it always sees the same crops.
#
# The test is on the cup of coffee. The drawing network has never seen it. (The loss network has, but it only measures.)

# %% tags=["result"]
tested = trainer.test(tissue_lit, datamodule=StylePictures(), verbose=False)[0]
print(f"test style loss {tested['test_style']:.3f}, content loss {tested['test_content']:.3f}")

# %% [markdown]
# In style that is far nearer to the tissue than the astronaut and the wall were in section 2. Content stays far from 0: strokes change most
# features. Whether the cup can still be seen, the pictures have to tell.

# %% [markdown]
# ### Two styles
#
# A network has learned one style. For the bricks, train another one. Two epochs are enough to see the joints between them.

# %%
brick_lit, _ = train("brick", epochs=paced(2, 1))

# %%
photos = [photograph(name, longest=320) for name in CONTENTS]
rows = {"photograph": photos}
for name, lit in {"tissue": tissue_lit, "brick": brick_lit}.items():
    rows[name] = [stylize(lit.model, photo) for photo in photos]
plots.photo_rows(rows, side=2.6)

# %% [markdown]
# Look at the backdrop behind the astronaut, and at the table under the cup: flat areas, where the noise became a texture, with
# strokes and bright patches from the tissue, and with joints from the bricks. Her suit is orange as before.
#
# ### How much content?
#
# `content_weight` is the price of leaving the photograph. Training need not begin anew for each value: we go on from the
# trained network.


# %%
def go_on(content_weight):
    L.seed_everything(42, verbose=False)
    lit = LitStyle(loss_network=LOSS, content_weight=content_weight)
    lit.model.load_state_dict(tissue_lit.model.state_dict())
    trainer = L.Trainer(**hardware, **quiet, **short)
    trainer.fit(lit, datamodule=StylePictures(steps=paced(50, 2)))
    return stylize(lit.model, photos[1])


WEIGHTS = (0.03, 0.1, 0.3, 3.0)
row = [go_on(weight) for weight in WEIGHTS]
plots.photo_rows({"": row}, titles=[f"content weight {weight}" for weight in WEIGHTS], side=2.4)

# %% [markdown]
# From left to right the texture gives way to the cat.
#
# ### Does the loss network have to be trained?
#
# Ustyuzhaninov et al. (2016) found that a wide, shallow network of random filters can be enough to make textures. So compare: the
# same steps, once with our loss network and once with one that has learned nothing (its batch norm only has the averages of some crops).

# %%
L.seed_everything(1, verbose=False)
untrained = LossNetwork()
with torch.no_grad():
    for _ in range(20):
        untrained(crops_of(pictures, 64, 8, generator)[0])
save_loss_network(untrained, folder / "untrained.pt")


def short_training(loss_network):
    L.seed_everything(42, verbose=False)
    lit = LitStyle(loss_network=loss_network)
    trainer = L.Trainer(**hardware, **quiet, **short)
    trainer.fit(lit, datamodule=StylePictures(steps=paced(100, 2)))
    return stylize(lit.model, photos[1])


# %%
compared = [short_training(kind) for kind in (LOSS, str(folder / "untrained.pt"))]
titles = ["loss network that knows textures", "loss network of random filters"]
plots.photo_rows({"": compared}, titles=titles, side=3)

# %% [markdown]
# With our random filters the picture gets softer, and its flat areas stay flat. That does not contradict the paper, whose network is
# another one. It says that for ours training is worth its time.

# %% [markdown]
# ## 7. What one flag gives now
#
# The script would need lines in the middle of its loop for each of these. Here they are arguments of the Trainer:

# %%
from lightning.pytorch.callbacks import EarlyStopping

FEW = paced(10, 2)

# %%
flags = {
    "no flag": {},
    "half the bits": dict(precision="bf16-mixed", limit_train_batches=paced(2, 1)),
    "twice the batch": dict(accumulate_grad_batches=2),
    "early stopping": dict(
        callbacks=[EarlyStopping("val_loss", min_delta=0.1, patience=1)],
        max_epochs=6,
        limit_val_batches=1,
    ),
}
for name, choices in flags.items():
    begin = time.perf_counter()
    record = run_port(steps=FEW, **choices)
    each = (time.perf_counter() - begin) / len(record.steps)
    loss = record.losses[-1] * choices.get("accumulate_grad_batches", 1)
    print(f"{name:16}{len(record.steps):3} steps, last loss {loss:.3f}, {each:.2f} s a step")

# %% [markdown]
# Each row adds one argument, and its seconds include the trace. (The numbers of steps differ, so do not compare the losses. With accumulation, the Trainer halves each loss before
# `backward`, so that gradients add up to their mean; for the print it is doubled again.) Half the bits takes only two steps here: the flag is meant for processors that
# compute with 16 bits, and where they are imitated a step can take many times as long. Twice the batch makes half as many steps of twice the work; it is a larger batch indeed, as no network here has batch norm in training mode (lesson 4). Early stopping ended before its six
# epochs were over, when `val_loss` did not fall by 0.1 any more.
#
# ### A run that resumes
#
# `KeepLast` of the training command keeps `last.ckpt` after each epoch, with the state of the random generators; the data module
# adds that of the generator that chooses the crops. (`weights_only=True` reads plain values only, so that no file can run code.) Two epochs at once, or one, a power cut, and one more: the same weights?

# %%
from course_utils.train import KeepLast


def run_until(epochs, resume=None):
    L.seed_everything(42, verbose=False)
    lit = LitStyle(loss_network=LOSS)
    options = {**hardware, **quiet, **short, "max_epochs": epochs, "enable_checkpointing": True}
    trainer = L.Trainer(**options, callbacks=[KeepLast(folder / "last.ckpt")])
    data = StylePictures(steps=FEW)
    trainer.fit(lit, datamodule=data, ckpt_path=resume, weights_only=True if resume else None)
    return lit.model.state_dict()


# %%
# NBVAL_CHECK_OUTPUT
whole = run_until(2)
run_until(1)
resumed = run_until(2, resume=folder / "last.ckpt")
print("the same weights:", all(torch.equal(whole[name], resumed[name]) for name in whole))

# %% [markdown]
# ### Two workers
#
# `devices=2`, and in a notebook Lightning *forks*: each worker is a copy of this process. (In a script, it would start the program a second
# time.) Each one gets its share of the places to cut, because Lightning puts a distributed sampler around ours; gradients are averaged
# (lesson 6). Both start from the same random numbers, so they draw the same noise; for noise of its own, a worker would seed with its
# rank. A copy cannot use a GPU that this process has used, and Windows does not fork: there one starts a script of its own with
# torchrun, as in lesson 6.

# %%
L.seed_everything(42, verbose=False)
if device.type == "cpu" and hasattr(os, "fork"):
    pair = L.Trainer(accelerator="cpu", devices=2, **quiet, **short)
    pair.fit(LitStyle(loss_network=LOSS), datamodule=StylePictures(batch_size=2, steps=2 * FEW))
    loss = pair.callback_metrics["train_loss"]
    print(f"{pair.world_size} workers, 2 crops each, last loss of the first {loss:.3f}")
else:
    print("this process cannot be copied: lesson 6 shows the other way")

# %% [markdown]
# ### Two hooks of your own
#
# A reader of the paper wants to try things. Two examples: the gradient gets the same length in each step
# (`on_before_optimizer_step`, where precision and accumulation are done with it: lesson 4), and content counts less as training
# goes on (`on_train_batch_start`). A checkpoint of it would hold the last weight, not the first.

# %%
used = []


class Curious(LitStyle):
    def on_before_optimizer_step(self, optimizer):
        gradients = [parameter.grad for parameter in self.model.parameters()]
        length = torch.cat([gradient.flatten() for gradient in gradients]).norm()
        for gradient in gradients:
            gradient /= length + 1e-12

    def on_train_batch_start(self, batch, batch_idx):
        self.hparams.content_weight *= 0.95
        used.append(f"{self.hparams.content_weight:.3f}")


record = run_port(Curious, steps=FEW)
print("content weight:        ", *used)
print("length of the gradient:", *[f"{step.gradient_norm:.3f}" for step in record.steps])

# %% [markdown]
# ## 8. What it gained, what it cost
#
# Lines by job, script and port, both without the networks. The port keeps its samples in memory, and it also validates, tests and predicts.

# %% [markdown] tags=["question"]
# Everything is refactored now. Is the port shorter than the script's 115 lines?
#
# + No, it is longer
#   if: port > 115
#   Shortness is not what one gains. Each piece has a place, can be read alone, tested alone and exchanged.
# - Yes, by half
#   if: port < 70
#   The loop has gone, and there it would come true. But data, samples and losses now have classes, with headers.
# - Yes, a little
#   if: 70 <= port < 115
#   One would expect so. Count what came in addition: validation, test, prediction.
#
# read: all lines +script +115 +port +(?P<port>\d+)

# %%
flags_used = 'trainer = Trainer(accelerator="auto", max_epochs=5, callbacks=[SamplePictures()])'
idea = [gram, style_loss, content_loss, roughness, fixed_noise, stylize]
port = [
    *idea,
    StyleLosses,
    LitStyle,
    Crops,
    RandomPlaces,
    StylePictures,
    SamplePictures,
    flags_used,
]
both = side_by_side(script.read_text(encoding="utf-8"), port, known=known)
for job, (loop, lines) in both.counts.items():
    print(f"{job.name:16} script {loop:4}   port {lines:4}")
totals = [sum(count[side] for count in both.counts.values()) for side in (0, 1)]
print(f"{'all lines':16} script {totals[0]:4}   port {totals[1]:4}")

# %% [markdown]
# It is not shorter: classes and methods have headers, each argument stands on a line of its own, and the data became three
# classes. What is gone is the tangle. Modes, gradients and logging do not stand between the lines of the idea any more, and each
# piece can be read, tested and exchanged alone. And the time, measured in turn:


# %%
def by_hand(batches):
    lit = LitStyle(loss_network=LOSS).to(device)
    optimizer = lit.configure_optimizers()
    for x in batches:
        x = x.to(device)
        style, content, rough = lit.losses(lit(x, torch.rand_like(x)), x)
        loss = style + 0.3 * content + 0.1 * rough
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def by_trainer(batches):
    L.Trainer(**hardware, **quiet, **short).fit(LitStyle(loss_network=LOSS), batches)


# %%
from course_utils.views import cost

loader = StylePictures(steps=paced(8, 2)).train_dataloader()
cost({"by hand": by_hand, "Trainer": by_trainer}, loader, steps=paced(8, 2), rounds=paced(3, 1))

# %% [markdown]
# A step here is mostly convolutions. Read the ratio: the nearer it is to 1, the less the Trainer costs.
#
# ## 9. Any picture, any size
#
# The network consists of convolutions, so it takes pictures of every size. `predict` hands them over, one
# after the other (any Trainer can do that: it has no weights of its own). A very large picture is made smaller first, for the sake of
# memory. **Put the path of a picture of your own here**:

# %% [markdown] tags=["question"]
# The network was trained on crops of 64 x 64. What does it make of a picture of 427 x 640?
#
# - An error: the sizes do not fit
#   if: "Error" in text
#   That is what fully connected layers would say. Here are none.
# + 427 x 640, redrawn as a whole
#   if: height == 427 and width == 640
#   Convolutions take every size. (427 is no multiple of 4: `stylize` repeats the edge and cuts it off again.)
# - 64 x 64 pixels, as it has learned
#   if: height == 64
#   The size of the crops is nowhere in the weights. A kernel goes over whatever it is given.
#
# read: -> \(3, (?P<height>\d+), (?P<width>\d+)\)

# %%
mine = "rocket"  # or a path, such as "holiday.jpg"
(result,) = trainer.predict(brick_lit, datamodule=StylePictures(shown=[mine]))
print(tuple(photograph(mine).shape), "->", tuple(result.shape))
plots.photo_rows({"": [result]}, side=5)

# %% [markdown]
# Grey pictures, transparent ones and photographs that lie on their side work too. What cannot work says why:

# %%
# NBVAL_CHECK_OUTPUT
from course_utils.pictures import PictureError

(folder / "letter.jpg").write_text("no picture at all")
for wrong in ("holiday.jpg", folder / "letter.jpg"):
    try:
        photograph(wrong)
    except PictureError as error:
        print(error)

# %% [markdown]
# ### Export
#
# What is shipped takes what people have, a picture in colours, and gives what they want (lesson 7 has more on that). **ONNX** is a file format for
# networks, and onnxruntime computes with it, without PyTorch. The noise is a second input, so that the result can be repeated; height and width are dynamic, as multiples of 4. (The coffee
# has 213 rows: one is cut off below. In the notebook `stylize` took care of that.)


# %%
class Shipped(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, picture, noise):
        grey = luminance(picture)
        return (picture + self.model(grey, noise) - grey).clamp(0, 1)


# %%
import onnxruntime

reader = Shipped(brick_lit.model.cpu()).eval()
sides = {2: 4 * torch.export.Dim("h", min=8), 3: 4 * torch.export.Dim("w", min=8)}
example = (torch.rand(1, 3, 64, 96), torch.rand(1, 1, 64, 96))
names = dict(input_names=["picture", "noise"], output_names=["result"], verbose=False)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # on the names of dynamic sides, which are as they should be
    program = torch.onnx.export(
        reader, example, dynamo=True, dynamic_shapes=(sides, sides), **names
    )
program.save(folder / "brick.onnx")
print(f"{(folder / 'brick.onnx').stat().st_size:,} bytes")

# %%
# NBVAL_CHECK_OUTPUT
runtime = onnxruntime.InferenceSession(folder / "brick.onnx", providers=["CPUExecutionProvider"])
picture = photograph("coffee", longest=320)[None, :, :212, :320]
noise = fixed_noise(picture[:, :1])
(drawn,) = runtime.run(None, {"picture": picture.numpy(), "noise": noise.numpy()})
with torch.no_grad():
    difference = (torch.from_numpy(drawn) - reader(picture, noise)).abs().max().item()
print("shape", drawn.shape, " largest difference below 1e-4:", difference < 1e-4)

# %% [markdown]
# ## Recap
#
# 1. Style is which features go together (Gram matrices), content is where they are; a fixed network measures both.
# 2. In a long script the idea is a small part of the lines. Ask of each line for whom it works.
# 3. Networks and cached targets go into `__init__`, targets as buffers; `forward` is what one ships; pictures on the way are a callback.
# 4. A network that only measures is in evaluation mode, frozen, and not with the optimizer.
# 5. Script and port made the same steps, bit for bit.
#
# ## Common mistakes
#
# - **The loss network in training mode**: no error, another loss. The doctor names it.
# - **`self.parameters()` for the optimizer**, with a network in the module that should stay as it is.
# - **The Gram matrices as plain attributes**: on a GPU they stay behind, and are missing in the checkpoint.
# - **`detach()` or `no_grad()` around the features of the drawn picture**: then no gradient reaches the network. Only the
#   photograph's own features need none.
# - **Noise from a generator that the sample pictures use, too**: then looking at them changes the training.
#
# ## Exercises
#
# Five exercises that check themselves, up to a port that trains pixels and a module with four faults to mend:
# [exercises 5](exercises/05_style_transfer.ipynb). And one to try here: **no noise**. Replace `torch.rand_like(batch)` in `LitStyle` by
# `torch.zeros_like(batch)`, let `fixed_noise` return `torch.zeros_like(x)`, and train again as in section 6. Which parts of the pictures changed most?
#
# ## Read on
#
# - Johnson, Alahi and Fei-Fei (2016), [Perceptual losses for real-time style transfer and super-resolution](https://arxiv.org/abs/1603.08155).
# - Gatys, Ecker and Bethge (2016), [Image style transfer using convolutional neural networks](https://openaccess.thecvf.com/content_cvpr_2016/html/Gatys_Image_Style_Transfer_CVPR_2016_paper.html): where the Gram matrices come from.
# - Gatys et al. (2016), [Preserving color in neural artistic style transfer](https://arxiv.org/abs/1606.05897).
# - Ustyuzhaninov et al. (2016), [Texture synthesis using shallow convolutional networks with random filters](https://arxiv.org/abs/1606.00021).
# - [LightningCLI](https://lightning.ai/docs/pytorch/stable/cli/lightning_cli.html), in Lightning's documentation.
