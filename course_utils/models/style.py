"""Fast neural style transfer, after Johnson, Alahi and Fei-Fei (2016), as lesson 5 has it."""

from collections.abc import Sequence

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Sampler

from course_utils.digits.data import seeded
from course_utils.models.loss_network import load_loss_network
from course_utils.pictures.photographs import SMALLEST, luminance, photograph, shrunk

# One photograph to choose the best epoch with, and one that nothing was chosen or trained with.
TRAIN = ("astronaut", "chelsea", "rocket", "coins", "moon")
VALIDATION, TEST = ("camera",), ("coffee",)
SHOWN = ("astronaut", "chelsea", "coffee")
LONGEST = 256  # pixels at the longer side of all pictures in training, the style's included
MOST_PIXELS = 1_500_000  # what `stylize` takes as it is: about a gigabyte of memory


def convolution(n_in, n_out, size=3, stride=1):
    """Return a convolution that repeats the picture's edge, so that no dark frame comes in."""
    padding = dict(padding=size // 2, padding_mode="replicate")  # noqa: C408
    return nn.Conv2d(n_in, n_out, size, stride=stride, **padding)


def layer(n_in, n_out, size=3, stride=1):
    """Return a convolution with instance norm and ReLU."""
    norm = nn.InstanceNorm2d(n_out, affine=True)
    return nn.Sequential(convolution(n_in, n_out, size, stride), norm, nn.ReLU())


class Residual(nn.Module):
    """Two convolutions whose result is added to what came in."""

    def __init__(self, width: int):
        super().__init__()
        norm = nn.InstanceNorm2d(width, affine=True)
        self.body = nn.Sequential(layer(width, width), convolution(width, width), norm)

    def forward(self, x):
        return x + self.body(x)


class TransformNet(nn.Module):
    """The image transformation network: smaller, three residual blocks, and larger again.

    Takes grey pictures and noise, both (B, 1, H, W) from 0 to 1 with H and W multiples of 4, and
    returns pictures of the same shape and range. After Johnson et al. (2016), with instance norm
    (Ulyanov et al., 2016), upsampling in place of transposed convolutions (Odena et al., 2016),
    and a channel of noise, from which flat areas get their strokes.
    """

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


def gram(maps):
    """Return how strongly each two of the maps (B, C, H, W) go together, (B, C, C)."""
    rows = maps.flatten(2)
    return rows @ rows.transpose(1, 2) / rows.shape[-1]


def style_loss(features, grams):
    """Return the relative squared difference of Gram matrices, averaged over the stages."""
    gaps = [
        ((gram(maps) - target) ** 2).sum((1, 2)).mean() / (target**2).sum()
        for maps, target in zip(features, grams, strict=True)
    ]
    return sum(gaps) / len(gaps)


def content_loss(after, before):
    """Return the squared difference of the second stage's features, relative to their variance."""
    return F.mse_loss(after[1], before[1]) / before[1].var()


def roughness(pictures):
    """Return how much neighbouring pixels differ on average (total variation)."""
    across = (pictures[..., 1:] - pictures[..., :-1]).abs().mean()
    down = (pictures[..., 1:, :] - pictures[..., :-1, :]).abs().mean()
    return across + down


class StyleLosses(nn.Module):
    """The three losses of style transfer, with the networks and numbers that they need.

    `style` is a photograph's name or a picture's path, `loss_network` what `load_loss_network`
    takes. Calling it with drawn and original pictures (B, 1, H, W) returns style loss, content
    loss and roughness. The Gram matrices of the style are buffers.
    """

    def __init__(self, style: str, loss_network: str):
        super().__init__()
        self.loss_network = load_loss_network(loss_network)
        picture = luminance(photograph(style, LONGEST))[None]
        for number, maps in enumerate(self.loss_network.features(picture)):
            self.register_buffer(f"gram_{number}", gram(maps))

    def forward(self, drawn, x):
        after = self.loss_network.features(drawn)
        with torch.no_grad():
            before = self.loss_network.features(x, stages=2)
        grams = [self.get_buffer(f"gram_{number}") for number in range(len(after))]
        return style_loss(after, grams), content_loss(after, before), roughness(drawn)


class LitStyle(L.LightningModule):
    """Style transfer as a LightningModule: trains a TransformNet against a fixed loss network.

    Batches are grey crops (B, 1, H, W) from 0 to 1; the noise of training comes from the global
    generator, that of the other stages is always the same. Logs `…_loss` and its parts, `…_style`,
    `…_content` and `…_roughness`, for `train`, `val` and `test`. Calling the module takes grey
    pictures and noise, as the network does. To load a checkpoint, the style picture and the loss
    network have to be where they were. After Johnson, Alahi and Fei-Fei (2016), "Perceptual
    losses for real-time style transfer and super-resolution".
    """

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
        self.save_hyperparameters()
        self.model = TransformNet(width)
        self.losses = StyleLosses(style, loss_network)

    def forward(self, grey, noise):
        return self.model(grey, noise)

    def training_step(self, batch, batch_idx):
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
        self.log(f"{stage}_loss", loss, prog_bar=True)
        parts = {"style": style, "content": content, "roughness": rough}
        self.log_dict({f"{stage}_{name}": part for name, part in parts.items()})
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.model.parameters(), lr=self.hparams.lr)


class Crops(Dataset):
    """Square pieces of pictures (C, H, W): `crops[which, top, left]` is (C, size, size)."""

    def __init__(self, pictures, size):
        self.pictures, self.size = pictures, size

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, place):
        which, top, left = place
        return self.pictures[which][:, top : top + self.size, left : left + self.size]


class RandomPlaces(Sampler):
    """Where to cut: `count` places an epoch, drawn from a generator of its own."""

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


class StylePictures(L.LightningDataModule):
    """Grey crops of photographs: `steps` batches (B, 1, size, size) an epoch, from 0 to 1.

    The places to cut are drawn anew in each epoch; their generator goes into checkpoints, so that
    a run that resumes sees the crops that it would have seen. The crops to validate with are the
    same each time, of a photograph that is not trained on; so are those of the test. `shown` are
    names or paths of the pictures to predict, one (1, 3, H, W) at a time. Loaders raise SizeError
    for a size that does not fit.
    """

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


class SizeError(ValueError):
    """Crops of this size cannot be cut; the message says which ones can."""


def check_size(size: int, pictures: Sequence[Tensor]) -> None:
    """Raise SizeError unless crops of this size can be cut, halved twice, and looked at."""
    most = min(side for picture in pictures for side in picture.shape[-2:])
    if size % 4 or not SMALLEST <= size <= most:
        raise SizeError(
            f"size={size} does not fit: expected a multiple of 4, from {SMALLEST} to {most} pixels "
            "(the shortest side of these photographs)."
        )


def fixed_noise(x, seed=0):
    """Return noise in the shape, on the device and in the number format of x, always the same."""
    return torch.rand(x.shape, generator=seeded(seed)).to(x)


@torch.no_grad()
def stylize(model, picture, seed=0):
    """Return a photograph (3, H, W), from 0 to 1, in the style, with its own colours.

    Only the luminance is drawn anew (Gatys et al., 2016, "Preserving color in neural artistic
    style transfer"). `model` is a TransformNet, or the LightningModule around one, on any device
    and of any precision; the result is on the CPU. A picture of more than 1.5 million pixels is
    made smaller first, for the sake of memory, and a line says so.
    """
    picture = within_memory(picture.cpu())
    height, width = picture.shape[-2:]
    grey = luminance(picture)
    whole = F.pad(grey[None], (0, -width % 4, 0, -height % 4), mode="replicate")
    whole = whole.to(next(model.parameters()))
    drawn = model(whole, fixed_noise(whole, seed)).to(picture)[0, :, :height, :width]
    return (picture + drawn - grey).clamp(0, 1)


def within_memory(picture: Tensor, most: int = MOST_PIXELS) -> Tensor:
    """Return a picture (3, H, W) as it is, or made smaller if it has more than `most` pixels."""
    height, width = picture.shape[-2:]
    if height * width <= most:
        return picture
    smaller = shrunk(picture, int(max(height, width) * (most / (height * width)) ** 0.5))
    print(f"The picture is large: it was made smaller, {tuple(smaller.shape[-2:])} pixels.")
    return smaller


class SamplePictures(L.Callback):
    """Keeps one photograph as the network draws it: at the start, and every so many steps.

    `pictures` maps the number of steps to the result, (3, H, W) from 0 to 1.
    """

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
