"""The one door through which picture files come in: known formats, limits before decoding."""

import errno
import io
import os
import stat
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from PIL import Image, UnidentifiedImageError

from course_utils.pictures import notes
from course_utils.text import printable

Result = TypeVar("Result")

# Of Pillow's many formats, by its names. Left out on purpose: EPS, for which it runs Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
MOST_BYTES = 100_000_000
MOST_PIXELS = 50_500_000  # 8,192 x 6,144 is what phones call 50 megapixels


class PictureError(ValueError):
    """A picture cannot be used; the message says why, and what to do."""


class RefusedError(Exception):
    """Why a picture is not taken, in a few words; `open_picture` says the rest."""


def open_picture(
    source: str | Path | bytes, name: str, into: Callable[[Image.Image], Result]
) -> Result:
    """Return what `into` makes of a picture, which it gets decoded and upright, in any mode.

    `source` is a path, or the bytes of a file; `name` is what messages call it. Of several
    pictures in a file (an animation, pages) the first one is taken.

    Raises PictureError for what is no regular file, a format beside `FORMATS`, more than 100 MB
    or 50 million pixels (both before anything is decoded), a damaged file, and where `into` raises
    RefusedError or fails; another OSError than that if the file cannot be opened.
    """
    try:
        content = source if isinstance(source, bytes) else _content(Path(source))
        _check_size(len(content))
        return _decoded(content, into)
    except RefusedError as error:
        reason = str(error)
    raise PictureError(
        f"{printable(name)} cannot be read as a picture: {reason}. Save it anew as PNG or JPEG."
    )


def _content(path: Path) -> bytes:
    """Return what a regular file holds.

    Its name is looked at before it is opened, as opening a pipe wakes its other end; and again
    what was opened, as the name may stand for something else by then.
    """
    if "\0" in str(path):  # no system has such names
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    _check_regular(os.stat(path))
    flags = ("O_BINARY", "O_CLOEXEC", "O_NOCTTY", "O_NONBLOCK")  # those that the system knows
    number = os.open(path, sum(getattr(os, flag, 0) for flag in flags))
    with open(number, "rb") as file:
        _check_regular(os.fstat(number))
        return file.read(MOST_BYTES + 1)


def _check_regular(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(status.st_mode):
        raise RefusedError("it is no file, but a pipe, a device or a socket")
    _check_size(status.st_size)


def _check_size(size: int) -> None:
    if size > MOST_BYTES:
        raise RefusedError(f"it has more than {MOST_BYTES // 1_000_000} MB")


def _decoded(content: bytes, into: Callable[[Image.Image], Result]) -> Result:
    if notes.claims_too_much(content):
        raise RefusedError("its tags claim more bytes than it has")
    visible = notes.hidden(content) if content.startswith(b"\xff\xd8") else content
    try:
        with (
            warnings.catch_warnings(action="ignore"),  # about notes that nobody reads here
            Image.open(io.BytesIO(visible), formats=FORMATS) as image,
        ):
            _check_pixels(image)
            image.load()
            turn = notes.turn(image, content)
            return into(image if turn is None else image.transpose(turn))
    except RefusedError:
        raise
    except UnidentifiedImageError:
        raise RefusedError(f"it is no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file") from None
    except Image.DecompressionBombError:
        raise RefusedError(_TOO_MANY) from None
    except Exception as error:  # whatever Pillow finds wrong with the file
        words = printable(error, 120) or type(error).__name__
        raise RefusedError(f"it is damaged or of a rare kind ({words})") from None


_TOO_MANY = f"it has more than {MOST_PIXELS // 1_000_000} million pixels: make it smaller"


def _check_pixels(image: Image.Image) -> None:
    """Look at the size that the file's header gives, before its pixels are decoded."""
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise RefusedError(_TOO_MANY)
