"""Photographs as tensors: those that come with scikit-image, and files of one's own."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from course_utils.pictures.opening import PictureError, RefusedError, open_picture
from course_utils.text import printable

# What lies in scikit-image's wheel, and so needs no network.
PHOTOGRAPHS = (
    *("astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field", "immunohistochemistry"),
    *("grass", "brick", "gravel", "retina", "camera", "coins", "moon", "cell"),
)
SMALLEST = 32  # pixels at each side: less shows no texture
INSTALL = "pip install scikit-image"


def photograph(source: str | Path, longest: int | None = None) -> Tensor:
    """Return a picture as float32 of shape (3, H, W), from 0 to 1.

    `source` is one of `PHOTOGRAPHS`, or the path of a JPEG, PNG, WebP, BMP, TIFF or GIF file (of
    an animation, its first picture): grey ones get three equal channels, transparent parts become
    white, and a photograph that a phone took on its side stands upright. With `longest`, a larger
    picture is made smaller, so that its longer side has that many pixels.

    Raises PictureError for a name that is none, a file that is no picture, one with more than 50
    million pixels or 100 MB, and a picture with less than 32 pixels at a side (before or after it
    was made smaller).
    """
    if not isinstance(source, (str, Path)):
        raise PictureError(
            f"Expected a photograph's name or the path of a file, not {type(source).__name__}."
        )
    pixels = _bundled(source) if source in PHOTOGRAPHS else _from_file(Path(source))
    if pixels.ndim == 2:
        pixels = pixels[..., None].repeat(3, axis=2)
    channels = torch.from_numpy(pixels).permute(2, 0, 1)
    # In one step and in place: a large photograph takes 12 bytes a pixel here.
    picture = channels.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
    if longest is not None:
        picture = shrunk(picture, longest)
    height, width = picture.shape[-2:]
    if min(height, width) < SMALLEST:
        before = " x ".join(map(str, pixels.shape[:2]))
        made = f", made smaller from {before}" if tuple(pixels.shape[:2]) != (height, width) else ""
        raise PictureError(
            f"{source} is too small: {height} x {width} pixels{made}, and {SMALLEST} are needed at "
            f"each side. Take {'one that is less narrow' if made else 'a larger picture'}."
        )
    return picture


def shrunk(picture: Tensor, longest: int) -> Tensor:
    """Return a picture (C, H, W) whose longer side has at most `longest` pixels.

    Each new pixel is the mean of those that it stands for, weighted by their distance.
    """
    scale = longest / max(picture.shape[-2:])
    if scale >= 1:
        return picture
    size = [max(1, round(side * scale)) for side in picture.shape[-2:]]
    options = {"mode": "bilinear", "antialias": True, "align_corners": False}
    return F.interpolate(picture[None], size=size, **options)[0].clamp(0, 1)


def luminance(picture: Tensor) -> Tensor:
    """Return how bright each pixel is, (..., 1, H, W), of a picture (..., 3, H, W).

    The weights are those of television (ITU-R BT.601): the eye sees green as brightest.
    """
    red, green, blue = picture.unbind(-3)
    return (0.299 * red + 0.587 * green + 0.114 * blue).unsqueeze(-3)


def _bundled(name: str) -> np.ndarray:
    try:
        import skimage.data
    except ImportError:
        raise PictureError(
            f"The photograph {name!r} comes with scikit-image, which is missing here: {INSTALL}"
        ) from None
    return getattr(skimage.data, name)()


def _from_file(path: Path) -> np.ndarray:
    """Return the pixels of a file as uint8, (H, W, 3)."""
    with suppress(RuntimeError):  # `~name` of nobody: then there is no such file either
        path = path.expanduser()
    shown = printable(path)
    names = f"Give the path of a file, or one of these names: {', '.join(PHOTOGRAPHS)}."
    try:
        return open_picture(path, str(path), into=_plain)
    except (FileNotFoundError, NotADirectoryError):
        raise PictureError(f"There is no picture {shown}. {names}") from None
    except IsADirectoryError:
        raise PictureError(f"{shown} is a folder. {names}") from None
    except OSError as error:
        reason = error.strerror or printable(error)
        raise PictureError(f"{shown} cannot be read: {reason}.") from None


def _plain(image: Image.Image) -> np.ndarray:
    """Return red, green and blue, (H, W, 3), without transparency."""
    if image.mode.startswith("I;16"):  # 16 bits, as scanners and microscopes write
        image = Image.fromarray((np.array(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):  # they do not say how bright white is
        raise RefusedError(f"its pixels are numbers of the format {image.mode!r}, no colours")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image)
    return np.array(image.convert("RGB"))
