"""Digits of one's own, drawn or photographed, made like those of MNIST."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter, ImageOps
from torch import Tensor

from course_utils.pictures.opening import RefusedError, open_picture
from course_utils.text import printable

Strokes = Sequence[Sequence[Sequence[float]]]

SIDE, BOX = 28, 20  # pixels of an MNIST picture, and of the box that a digit's longer side fills
PEN = 2.6  # pixels: about the thickness of a line in MNIST
DETAIL = 12  # strokes are drawn this many times larger, then made smaller: soft edges
LARGEST = 480  # pixels of a photograph's longer side, before it is searched for a digit
FAINT = 32  # grey levels by which ink has to stand out
THIN = 0.8  # of the pen's thickness: lines below it are made thicker

# Ten digits written down stroke by stroke, as the canvas gives them, for where no canvas can run.
RECORDED: dict[int, Strokes] = {
    0: [[(140, 48), (100, 62), (78, 104), (74, 152), (88, 204), (122, 232), (164, 222),
         (194, 180), (200, 128), (188, 76), (162, 50), (138, 48)]],
    1: [[(128, 84), (150, 50), (148, 110), (144, 172), (142, 234)]],
    2: [[(88, 92), (104, 60), (140, 48), (176, 62), (186, 98), (168, 140), (130, 184),
         (84, 226), (130, 222), (204, 224)]],
    3: [[(90, 66), (128, 46), (172, 58), (178, 96), (150, 126), (122, 136), (160, 142),
         (190, 170), (186, 210), (146, 236), (92, 222)]],
    4: [[(112, 50), (98, 100), (84, 148), (134, 150), (206, 144)],
        [(174, 62), (168, 140), (160, 236)]],
    5: [[(190, 52), (108, 54), (100, 124), (144, 112), (184, 136), (188, 186), (158, 226),
         (96, 228)]],
    6: [[(172, 46), (122, 88), (92, 148), (94, 202), (126, 234), (168, 226), (186, 188),
         (166, 152), (124, 156), (98, 190)]],
    7: [[(82, 62), (140, 58), (200, 56), (172, 118), (144, 176), (126, 238)]],
    8: [[(180, 72), (140, 46), (102, 66), (108, 108), (148, 138), (182, 176), (174, 220),
         (132, 236), (96, 212), (104, 172), (146, 136), (178, 104), (180, 72)]],
    9: [[(182, 92), (152, 54), (108, 66), (98, 112), (128, 142), (172, 124), (184, 84),
         (180, 150), (164, 236)]],
}  # fmt: skip


def from_strokes(strokes: Strokes) -> Tensor:
    """Draw strokes as MNIST would show them: uint8 (28, 28), ink 255 on 0.

    Each stroke is a list of points (x, y), x to the right and y down, in any unit. However large
    and wherever it was drawn, the digit fills a box of 20 pixels, its lines are about 2.6 pixels
    thick, and its centre of mass is in the middle, as in LeCun's description of MNIST.

    Raises ValueError if there is no point, only a dot, or a number that is not finite.
    """
    points = [np.asarray(stroke, dtype=float).reshape(-1, 2) for stroke in strokes if len(stroke)]
    if not points:
        raise ValueError("There is no stroke to draw: draw a digit first.")
    corner = np.concatenate(points).min(0)
    size = float((np.concatenate(points) - corner).max())
    if not np.isfinite(size) or size <= 0:
        raise ValueError("That is only a dot, or no place at all: draw a digit.")
    scale = DETAIL * (BOX - PEN) / size
    ink = Image.new("L", (DETAIL * (BOX + 2),) * 2)
    pen = ImageDraw.Draw(ink)
    for stroke in points:
        _draw(pen, (stroke - corner) * scale + DETAIL * PEN / 2)
    return _as_mnist(ink)


def _draw(pen: ImageDraw.ImageDraw, points: np.ndarray) -> None:
    """Draw one stroke with round ends and corners."""
    radius = DETAIL * PEN / 2
    pen.line([tuple(point) for point in points], fill=255, width=round(2 * radius))
    for x, y in points:
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)


def from_picture(source: str | Path | bytes) -> Tensor:
    """Read a picture of one digit, and make it like those of MNIST: uint8 (28, 28), ink 255 on 0.

    `source` is the path of a JPEG, PNG, WebP, BMP, TIFF or GIF file, or the bytes of one; dark on
    light or light on dark. The background may be lit unevenly: a plane is fitted to the picture's
    edge, and ink is what stands out from it. Lines that are thinner than MNIST's are made thicker.

    Raises PictureError, a ValueError, if the file is no picture or has more than 50 million pixels
    or 100 MB; ValueError if nothing in it stands out; FileNotFoundError (or another OSError) if it
    cannot be opened.
    """
    name = "The uploaded file" if isinstance(source, bytes) else str(source)
    # What is transparent has no colour: ink that does not show on white shows on black.
    inks = [_ink(levels) for levels in _levels(open_picture(source, name, into=_small))]
    ink = max(inks, key=np.max)
    if ink.max() < FAINT:
        raise ValueError(f"{printable(name)} shows nothing that stands out from its background.")
    # Below a third of the darkest ink there are shadows and the grain of the paper.
    ink = np.where(ink < ink.max() / 3, 0, ink / ink.max() * 255)
    digit = Image.fromarray(ink.round().astype(np.uint8))
    return _as_mnist(_thickened(digit.crop(digit.getbbox())))


def _small(picture: Image.Image) -> Image.Image:
    """Return a picture with transparency, and not larger than is needed."""
    if picture.mode[0] in "IF":  # 16 bits and more: no other mode keeps their range
        picture = _stretched(picture)
    picture = picture.convert("RGBA")
    picture.thumbnail((LARGEST, LARGEST))
    return picture


def _stretched(picture: Image.Image) -> Image.Image:
    """Return numbers of any range as grey levels, the lowest black and the highest white."""
    picture = Image.fromarray(np.asarray(picture, dtype=np.float32))
    picture.thumbnail((LARGEST, LARGEST))
    values = np.asarray(picture, dtype=float)
    if not np.isfinite(values).all():
        raise RefusedError("not all of its pixels are finite numbers")
    span = max(values.max() - values.min(), 1e-9)
    return Image.fromarray(((values - values.min()) / span * 255).astype(np.uint8))


def _levels(picture: Image.Image) -> list[np.ndarray]:
    """Return the grey levels on white and on black paper, specks of dust taken out."""
    papers = [Image.new("RGBA", picture.size, colour) for colour in ("white", "black")]
    greys = [Image.alpha_composite(paper, picture).convert("L") for paper in papers]
    if min(picture.size) >= LARGEST // 4:
        greys = [grey.filter(ImageFilter.MedianFilter(3)) for grey in greys]
    return [np.asarray(grey, dtype=float) for grey in greys]


def _ink(levels: np.ndarray) -> np.ndarray:
    """Return how much each pixel stands out, to the dark or to the light, but not to both."""
    away = levels - _background(levels)
    return np.maximum(away if away.max() > -away.min() else -away, 0)


def _background(levels: np.ndarray) -> np.ndarray:
    """Return the plane that fits the edge of a picture best, but for what sticks out of it."""
    height, width = levels.shape
    rows, columns = np.indices(levels.shape).reshape(2, -1)
    plane = np.stack([np.ones(levels.size), rows / height, columns / width], axis=1)
    strip = max(1, min(height, width) // 20)
    edge = (np.minimum(rows, height - 1 - rows) < strip) | (
        np.minimum(columns, width - 1 - columns) < strip
    )
    kept, values = np.flatnonzero(edge), levels.ravel()
    for _ in range(3):
        factors = np.linalg.lstsq(plane[kept], values[kept], rcond=None)[0]
        away = np.abs(values[kept] - plane[kept] @ factors)
        kept = kept[away <= 2 * np.median(away) + 2]
    return (plane @ factors).reshape(levels.shape)


def _thickened(digit: Image.Image) -> Image.Image:
    """Return the digit at the size in which strokes are drawn, its lines not thinner than those."""
    large = _fitted(digit, DETAIL * BOX, Image.Resampling.BILINEAR)
    large = ImageOps.expand(large, border=DETAIL * BOX // 4)  # room to become thicker
    if _thickness(large) >= THIN * PEN * DETAIL:
        return large
    large = large.point(lambda level: 255 if level > 64 else 0)
    while _thickness(large) < THIN * PEN * DETAIL:
        large = large.filter(ImageFilter.MaxFilter(3))
    return large


def _thickness(digit: Image.Image) -> float:
    """Return the mean thickness of lines: twice their area over the length of their outline."""
    ink = np.pad(np.asarray(digit) > 64, 1)
    inner = ink[:-2, 1:-1] & ink[2:, 1:-1] & ink[1:-1, :-2] & ink[1:-1, 2:]
    outline = int((ink[1:-1, 1:-1] & ~inner).sum())
    return 2 * int(ink.sum()) / outline if outline else float("inf")


def _as_mnist(ink: Image.Image) -> Tensor:
    """Fit ink on 0 into a box of 20 pixels, and its centre of mass into the middle of 28."""
    digit = _fitted(ink.crop(ink.getbbox()), BOX, Image.Resampling.BOX)
    levels = np.asarray(digit, dtype=float)
    result = np.zeros((SIDE, SIDE), dtype=np.uint8)
    top, left = (_start(levels.sum(1 - axis)) for axis in (0, 1))
    height, width = levels.shape
    result[top : top + height, left : left + width] = levels.round()
    return torch.from_numpy(result)


def _fitted(picture: Image.Image, side: int, how: Image.Resampling) -> Image.Image:
    """Return the picture in the size in which its longer side has `side` pixels."""
    scale = side / max(picture.size)
    return picture.resize([max(1, round(scale * length)) for length in picture.size], how)


def _start(ink: np.ndarray) -> int:
    """Return where to put a line of ink so that its centre of mass is in the middle."""
    centre = float((ink * (np.arange(len(ink)) + 0.5)).sum() / ink.sum())
    return min(max(round(SIDE / 2 - centre), 0), SIDE - len(ink))
