"""What a file notes about its picture (EXIF, tags): which way up it is, and nothing else.

Pillow reads such notes whole, up to its version 12 also those that make gigabytes of a small file,
as thousands of tags may all point to the same bytes.
"""

import re
import struct
from collections.abc import Iterator
from contextlib import suppress

from PIL import Image

ORIENTATION = 0x0112
BELOW = (0x8769, 0x8825, 0xA005)  # tags that say where a further list of tags begins
BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
NUMBERS = {3: "H", 4: "I", 13: "I", 16: "Q"}  # those types of which one value is a whole number
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def hidden(jpeg: bytes) -> bytes:
    """Return a JPEG of the same length in which Pillow finds no EXIF and no further pictures."""
    blocks = re.compile(rb"(\xff[\xe1\xe2]..)(Exif\0|MPF\0)", re.DOTALL)
    return blocks.sub(lambda block: block[1] + bytes(len(block[2])), jpeg)


def claims_too_much(tiff: bytes) -> bool:
    """Return whether the tags of a TIFF claim more bytes than it has, all together."""
    claimed, lists = 0, [None]
    while lists and claimed <= len(tiff):
        for tag, kind, values, number in _entries(tiff, lists.pop()):
            claimed += 8 + BYTES.get(kind, 0) * values
            if claimed > len(tiff):
                break
            if tag in BELOW and number is not None:
                lists.append(number)
    return claimed > len(tiff)


def turn(image: Image.Image, content: bytes) -> Image.Transpose | None:
    """Return how to turn a picture so that it stands upright; None if it does, or nobody says.

    `content` is the whole file. A TIFF is turned by Pillow already.
    """
    exif = image.info.get("exif", b"")
    if image.format == "JPEG":
        exif = content[content.find(b"Exif\0\0") :][:65_536] if b"Exif\0\0" in content else b""
    for tag, _, _, number in _entries(exif.removeprefix(b"Exif\0\0"), None):
        if tag == ORIENTATION:
            return TURNS.get(number)
    return None


def _entries(tiff: bytes, start: int | None) -> Iterator[tuple[int, int, int, int | None]]:
    """Yield a list's tags: number, type, how many values, and the value if it is a whole number.

    EXIF has the form of a TIFF: bytes in either order, and lists of tags; `start` is where a list
    begins, and None stands for the first one. A list that is cut short ends there.
    """
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return
    large = tiff[2:4] in (b"+\0", b"\0+")  # BigTIFF: for files beyond 4 GB
    first, count, entry, value = ("8xQ", "Q", "HHQ", 8) if large else ("4xI", "H", "HHI", 4)
    size = struct.calcsize(order + entry)
    with suppress(struct.error):
        at = struct.unpack_from(order + first, tiff)[0] if start is None else start
        (entries,) = struct.unpack_from(order + count, tiff, at)
        at += struct.calcsize(order + count)
        for _ in range(entries):
            tag, kind, values = struct.unpack_from(order + entry, tiff, at)
            number = None
            if kind in NUMBERS and values == 1 and BYTES[kind] <= value:
                (number,) = struct.unpack_from(order + NUMBERS[kind], tiff, at + size)
            yield tag, kind, values, number
            at += size + value
