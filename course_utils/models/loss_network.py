"""Loss networks: fixed networks whose features say how alike two pictures look."""

import io
import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import VGG16_Weights, vgg16

from course_utils.digits.data import seeded
from course_utils.digits.download import patience, reason
from course_utils.files import cache_folder, write_whole
from course_utils.pictures.photographs import PHOTOGRAPHS, PictureError, luminance, photograph
from course_utils.switches import paced, switch
from course_utils.text import printable

STEPS = 500
SILENCE = 15.0  # seconds without an answer, after which a download is given up


class LossNetworkError(RuntimeError):
    """A loss network cannot be had; the message says why, and what to do."""


def stage(n_in, n_out):
    """Return two 3 x 3 convolutions, each with batch norm and ReLU, that keep the size."""
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, 3, padding=1),
        nn.BatchNorm2d(n_out),
        nn.ReLU(),
        nn.Conv2d(n_out, n_out, 3, padding=1),
        nn.BatchNorm2d(n_out),
        nn.ReLU(),
    )


class LossNetwork(nn.Module):
    """A small network of four stages that tells which picture a grey crop comes from.

    Takes crops (B, 1, H, W) from 0 to 1, returns logits (B, classes). `features` gives what each
    stage puts out: (B, 24, H, W), (B, 48, H/2, W/2), (B, 64, H/4, W/4), (B, 64, H/8, W/8); with
    `stages`, of the first ones only.
    """

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


class VGGFeatures(nn.Module):
    """The first 23 layers of VGG16, with the features that Johnson et al. (2016) use.

    `features` takes grey pictures (B, 1, H, W) from 0 to 1 and gives what comes out of relu1_2,
    relu2_2, relu3_3 and relu4_3: 64, 128, 256 and 512 maps, each half as large as those before.
    VGG16 (Simonyan and Zisserman, 2014) was trained on ImageNet's normalised colours.
    """

    ENDS = (3, 8, 15, 22)  # relu1_2, relu2_2, relu3_3, relu4_3

    def __init__(self, layers: nn.Sequential):
        super().__init__()
        self.layers = layers
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1))

    def features(self, x, stages=None):
        x, found = (x - self.mean) / self.std, []
        for number, layer in enumerate(self.layers[: self.ENDS[:stages][-1] + 1]):
            x = layer(x)
            if number in self.ENDS:
                found.append(x)
        return found


def crops_of(pictures, size, count, generator):
    """Return random crops (count, 1, size, size) of pictures (1, H, W), and whose each one is.

    Contrast and brightness are varied, so that texture has to tell the pictures apart.
    """
    labels = torch.randint(len(pictures), (count,), generator=generator)
    crops = torch.empty(count, 1, size, size)
    for number, label in enumerate(labels.tolist()):
        height, width = pictures[label].shape[-2:]
        top = torch.randint(height - size + 1, (), generator=generator)
        left = torch.randint(width - size + 1, (), generator=generator)
        crops[number] = pictures[label][:, top : top + size, left : left + size]
    contrast = 0.6 + 0.8 * torch.rand(count, 1, 1, 1, generator=generator)
    brightness = 0.4 * (torch.rand(count, 1, 1, 1, generator=generator) - 0.5)
    return (crops - 0.5) * contrast + 0.5 + brightness, labels


def train_loss_network(steps, seed=0):
    """Return a LossNetwork trained on scikit-image's photographs, and its accuracy at each step.

    Each step takes 24 crops of 48 x 48 pixels. The random numbers are its own: the global
    generators, those of GPUs too, are as they were before.
    """
    pictures = [luminance(photograph(name, longest=512)) for name in PHOTOGRAPHS]
    generator = seeded(seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed GPUs as well
        network = LossNetwork(len(pictures))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    accuracies = []
    for _ in range(steps):
        crops, labels = crops_of(pictures, 48, 24, generator)
        logits = network(crops)
        loss = F.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        accuracies.append((logits.argmax(1) == labels).float().mean().item())
    return network, accuracies


def load_loss_network(kind: str = "bundled") -> nn.Module:
    """Return a loss network on the CPU: frozen, and in evaluation mode.

    `kind` is `bundled` (trained here when it is asked for the first time, about a minute, and kept
    in the user's cache), `vgg` (torchvision's VGG16: 528 MB, downloaded once, its hash checked), or
    the path of a file with the weights of a `LossNetwork`. No global random number is drawn, so
    that what is built next is the same whether the network was trained, downloaded or only read.
    Raises LossNetworkError if it cannot be had.
    """
    if kind == "vgg":
        network = deepcopy(_vgg())
    elif kind == "bundled":
        network = _bundled()
    else:
        network = _from_file(os.path.expanduser(kind))
    return network.eval().requires_grad_(False)


def save_loss_network(network: LossNetwork, path: str | Path) -> None:
    """Write the weights of a LossNetwork, whole or not at all, for `load_loss_network(path)`."""
    content = io.BytesIO()
    torch.save(network.state_dict(), content)
    write_whole(Path(path).expanduser(), content.getvalue())


def chosen_loss_network() -> str:
    """Return the loss network that `COURSE_STYLE` chooses, as `load_loss_network` calls it.

    Without the switch it is `bundled`. Where VGG16 cannot be had, a line says so, and the bundled
    one is taken. Raises SwitchError for an unknown value.
    """
    kind = switch("COURSE_STYLE")
    if kind == "vgg":
        try:
            load_loss_network("vgg")
        except LossNetworkError as error:
            print(f"{error} The bundled loss network it is.")
            return "bundled"
    return kind


@cache
def _vgg() -> VGGFeatures:
    """Return VGG16's first layers, to be copied: the file is read once, as it is large."""
    try:
        # torchvision keeps the file, and compares its hash with the one in its name.
        with patience(SILENCE):
            state = VGG16_Weights.IMAGENET1K_V1.get_state_dict(
                progress=True, check_hash=True, weights_only=True
            )
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise LossNetworkError(
            f"VGG16 cannot be had ({reason(error)}): it takes a network, and 528 MB of "
            "space. If a damaged file is in the way, delete the vgg16-*.pth of torch.hub's cache."
        ) from None
    with torch.device("meta"):  # without weights of its own, which would only be replaced
        layers = vgg16().features[: VGGFeatures.ENDS[-1] + 1]
    known = layers.state_dict()
    layers.load_state_dict({name: state[f"features.{name}"] for name in known}, assign=True)
    return VGGFeatures(layers)


def _bundled() -> LossNetwork:
    steps = paced(STEPS, 4)
    path = cache_folder() / f"loss_network_{steps}.pt"
    try:
        return _from_file(path)
    except LossNetworkError:  # the first time, or a damaged file
        print(f"Training the bundled loss network ({steps} steps), once …", flush=True)
    try:
        # Wherever it is asked for, the same weights: more threads would round otherwise.
        with torch.inference_mode(False), torch.enable_grad(), _one_thread():
            network, _ = train_loss_network(steps)
    except PictureError as error:
        raise LossNetworkError(f"The bundled loss network cannot be trained. {error}") from None
    try:
        save_loss_network(network, path)
    except OSError as error:
        print(f"It cannot be kept for the next time ({reason(error)}).")
    return network


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _from_file(path: str | Path) -> LossNetwork:
    """Return the network of a file; the number of its classes is that of its weights."""
    wanted = (
        f"Give `bundled`, `vgg`, or a file that save_loss_network() wrote, not {printable(path)}"
    )
    if not os.path.isfile(path):  # Path.is_file raises for names that are too long
        raise LossNetworkError(f"{wanted}: there is no such file.")
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
        with torch.device("meta"):  # without weights of its own, which would draw random numbers
            network = LossNetwork(len(state["head.bias"]))
        network.to_empty(device="cpu").load_state_dict(state)
    except Exception as error:  # whatever torch finds wrong with the file
        kind = type(error).__name__
        raise LossNetworkError(f"{wanted}: it holds no such weights ({kind}).") from None
    return network
