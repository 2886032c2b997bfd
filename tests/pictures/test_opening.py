"""The door for picture files: what comes in, and what is refused before it is decoded."""

import io
import os
import random
import socket
import struct
import subprocess
import threading
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from course_utils.digits.drawing import from_picture
from course_utils.pictures import opening
from course_utils.pictures.opening import PictureError, RefusedError, open_picture
from course_utils.pictures.photographs import photograph

needs_pipes = pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")


def picture(width=48, height=40, mode="RGB"):
    """Return noise on a slope, whose first pixel is dark and whose last one is light."""
    noise = np.random.default_rng(0).integers(0, 40, (height, width, 3))
    slope = np.linspace(0, 215, width)[None, :, None]
    return Image.fromarray((noise + slope).astype(np.uint8)).convert(mode)


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def several(kind):
    """Return an animation (or pages) of which only the first picture is dark."""
    dark, light = (Image.new("RGB", (48, 40), colour) for colour in ("#202020", "#e0e0e0"))
    return encoded(dark, kind, save_all=True, append_images=[light, light])


def phone():
    """Return a JPEG with a second picture behind it, as phones write portraits (MPO)."""
    dark, light = (encoded(Image.new("RGB", (48, 40), c), "JPEG") for c in ("#202020", "#e0e0e0"))
    return dark[:2] + segment(0xE2, b"MPF\0II*\0\x08\0\0\0") + dark[2:] + light


def segment(kind, content):
    return struct.pack(">BBH", 0xFF, kind, len(content) + 2) + content


def chunk(kind, content):
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check


def png(width, height, *notes):
    """Return a grey PNG that claims a size, with chunks before its (few) pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress((b"\0" + b"\x80" * 40) * 40)
    chunks = [chunk(b"IHDR", header), *notes, chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def size_of(content):
    return open_picture(content, "it", into=lambda image: image.size)


def refusal(source):
    with pytest.raises(PictureError) as caught:
        open_picture(source, "it", into=lambda image: image.size)
    message = str(caught.value)
    assert message.startswith("it cannot be read as a picture: ")
    assert message.endswith(". Save it anew as PNG or JPEG.")
    return message


FILES = {
    "JPEG": encoded(picture(), "JPEG"),
    "JPEG for print": encoded(picture(mode="CMYK"), "JPEG"),
    "JPEG of a phone with two pictures": phone(),
    "PNG": encoded(picture(), "PNG"),
    "PNG with a palette": encoded(picture(mode="P"), "PNG", transparency=3),
    "PNG animation": several("PNG"),
    "WebP": encoded(picture(), "WEBP"),
    "WebP animation": several("WEBP"),
    "BMP": encoded(picture(), "BMP"),
    "TIFF": encoded(picture(), "TIFF"),
    "TIFF, packed": encoded(picture(), "TIFF", compression="tiff_lzw"),
    "TIFF of pages": several("TIFF"),
    "GIF": encoded(picture(), "GIF"),
    "GIF animation": several("GIF"),
}


@pytest.mark.parametrize("kind", FILES)
def test_each_known_format_is_read_from_bytes_and_from_a_file(kind, tmp_path):
    (tmp_path / "picture").write_bytes(FILES[kind])
    for source in (FILES[kind], tmp_path / "picture", str(tmp_path / "picture")):
        assert size_of(source) == (48, 40)


@pytest.mark.parametrize("kind", [kind for kind in FILES if "animation" in kind or "of" in kind])
def test_of_several_pictures_the_first_one_is_taken(kind, tmp_path):
    (tmp_path / "picture").write_bytes(FILES[kind])
    assert photograph(tmp_path / "picture").max() < 0.2


@pytest.mark.parametrize("kind", ["EPS", "PPM", "TGA", "ICO", "JPEG2000"])
def test_another_format_is_refused_and_no_program_is_started(kind, monkeypatch):
    monkeypatch.setattr(subprocess, "check_call", lambda *args, **options: pytest.fail("started"))
    assert "it is no JPEG, PNG, WEBP, BMP, TIFF or GIF file" in refusal(encoded(picture(), kind))


@pytest.mark.parametrize(
    "content", [png(13_000, 13_000), png(1_000_000, 51), png(60_000, 60_000)], ids=len
)
def test_too_many_pixels_are_refused_before_they_are_decoded(content, monkeypatch):
    """The header decides: whoever decodes finds too few pixels, and calls the file damaged."""
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    assert "more than 50 million pixels: make it smaller" in refusal(content)


def test_the_largest_picture_of_a_phone_is_not_too_large():
    assert opening.MOST_PIXELS >= 8192 * 6144
    assert "damaged" in refusal(png(8192, 6144))  # it has been tried


def test_too_many_bytes_are_refused_before_they_are_read(tmp_path, monkeypatch):
    path = tmp_path / "large.bmp"
    with path.open("wb") as file:
        file.truncate(opening.MOST_BYTES + 1)  # takes no space on the disk
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", lambda *args: pytest.fail("read"))
        assert "more than 100 MB" in refusal(path)
    monkeypatch.setattr(opening, "MOST_BYTES", 100)
    assert "MB" in refusal(FILES["PNG"])


def test_a_file_that_grows_while_it_is_read_is_not_read_on(tmp_path, monkeypatch):
    path = tmp_path / "growing"
    path.write_bytes(bytes(300))
    monkeypatch.setattr(opening, "MOST_BYTES", 100)
    monkeypatch.setattr(opening, "_check_regular", lambda status: None)
    assert "MB" in refusal(path)


@needs_pipes
@pytest.mark.parametrize("kind", ["pipe", "device", "endless device", "socket"])
def test_what_is_no_file_is_refused_at_once(kind, tmp_path):
    path = {"device": Path("/dev/null"), "endless device": Path("/dev/zero")}.get(kind)
    path = path or tmp_path / "picture.png"
    if kind == "pipe":
        os.mkfifo(path)
    with socket.socket(socket.AF_UNIX) as one:
        if kind == "socket":
            one.bind(os.path.relpath(path))  # such names are short
        said = []
        thread = threading.Thread(target=lambda: said.append(refusal(path)), daemon=True)
        thread.start()
        thread.join(60)  # who opens a pipe waits for its other end
    assert said and "it is no file, but a pipe, a device or a socket" in said[0]


@needs_pipes
def test_a_file_that_is_exchanged_for_a_pipe_is_refused_too(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"")
    before = os.stat(tmp_path / "file")
    monkeypatch.setattr(os, "stat", lambda *args, **options: before)
    said = []
    work = threading.Thread(target=lambda: said.append(refusal(tmp_path / "pipe")), daemon=True)
    work.start()
    work.join(60)
    assert said and "it is no file, but a pipe" in said[0]


@pytest.mark.parametrize(
    ("name", "error"),
    [("none.png", FileNotFoundError), (".", IsADirectoryError), ("a\0b", FileNotFoundError)],
)
def test_what_cannot_be_opened_is_an_error_of_the_system(name, error, tmp_path):
    with pytest.raises(error):
        open_picture(f"{tmp_path}/{name}", name, into=lambda image: image)


NOTES = {
    "text of a gigabyte": (b"zTXt", b"a\0\0" + zlib.compress(bytes(50_000_000))),
    "profile of a gigabyte": (b"iCCP", b"a\0\0" + zlib.compress(bytes(50_000_000))),
    "junk for a profile": (b"iCCP", b"a\0\0" + bytes(range(256))),
    "junk for EXIF": (b"eXIf", b"II*\0" + bytes(range(255, 0, -1))),
    "no EXIF in EXIF": (b"eXIf", b"Exif\0\0"),
}


@pytest.mark.parametrize("kind", NOTES)
def test_notes_in_a_picture_do_no_harm(kind):
    """They are unpacked up to a limit, or not at all: the picture is read, or refused in words."""
    try:
        assert size_of(png(40, 40, chunk(*NOTES[kind]))) == (40, 40)
    except PictureError as error:
        assert "damaged" in str(error)


def list_of_tags(order, count, size, place=8):
    """Return a TIFF of `size` bytes that has as many tags, each of which claims all of it."""
    entries = [struct.pack(f"{order}HHII", 300 + n, 7, size, 0) for n in range(count)]
    start = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", place)
    content = start + struct.pack(f"{order}H", count) + b"".join(entries)
    return content + bytes(max(0, size - len(content)))


def peak_of(call, *values):
    """Return the most bytes that Python held during a call, whatever it raises."""
    tracemalloc.start()
    try:
        call(*values)
    except PictureError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


@pytest.mark.parametrize("order", ["<", ">"])
def test_tags_that_all_point_to_the_same_bytes_are_not_copied(order):
    tags = list_of_tags(order, 2000, 60_000)
    jpeg = FILES["JPEG"]
    block = segment(0xE1, b"Exif\0\0" + tags)
    files = {
        "TIFF": tags,
        "JPEG": jpeg[:2] + block + jpeg[2:],
        "JPEG, many blocks": jpeg[:2] + 50 * block + jpeg[2:],
        "PNG": png(40, 40, chunk(b"eXIf", tags)),
        "WebP": encoded(picture(), "WEBP", exif=tags),
    }
    for kind, content in files.items():
        assert peak_of(size_of, content) < 5_000_000 + 3 * len(content), kind
    assert "its tags claim more bytes than it has" in refusal(tags)


def test_lists_of_tags_that_lead_in_a_circle_come_to_an_end():
    entry = struct.pack("<HHII", 0x8769, 4, 1, 8)
    refusal(b"II*\0" + struct.pack("<IH", 8, 20_000) + 20_000 * entry)
    refusal(b"II*\0" + struct.pack("<IH", 8, 2) + 2 * entry)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("place", range(1, 9))
def test_a_picture_is_turned_as_its_notes_say(kind, place):
    """The eight places that a camera may note, against Pillow's own reading of them."""
    exif = Image.Exif()
    exif[0x0112] = place
    options = {"lossless": True} if kind == "WEBP" else {}
    content = encoded(picture(), kind, exif=exif, **options)
    with Image.open(io.BytesIO(content)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    found = open_picture(content, "it", into=lambda image: np.asarray(image.convert("RGB")))
    assert np.array_equal(found, expected)
    big = b"MM\0*" + struct.pack(">IHHHIHxxI", 8, 1, 0x0112, 3, 1, place, 0)
    if kind == "PNG":
        width, height = size_of(encoded(picture(), kind, exif=b"Exif\0\0" + big))
        assert (width, height) == ((40, 48) if place > 4 else (48, 40))


def test_damaged_notes_leave_the_picture_as_it_lies():
    for exif in (b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"):
        assert size_of(encoded(picture(), "JPEG", exif=exif)) == (48, 40)


def test_why_a_caller_refuses_a_picture_stands_in_the_message():
    def refuse(image):
        raise RefusedError("it is too blue")

    with pytest.raises(PictureError, match="mine cannot be read as a picture: it is too blue. Sa"):
        open_picture(FILES["PNG"], "mine", into=refuse)


def test_what_a_caller_cannot_convert_is_said_in_words():
    with pytest.raises(PictureError, match=r"of a rare kind \(division by zero\)"):
        open_picture(FILES["PNG"], "mine", into=lambda image: 1 / 0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused(value):
    values = np.zeros((40, 40), dtype=np.float32)
    values[20, 20] = value
    with pytest.raises(PictureError, match="finite"):
        from_picture(encoded(Image.fromarray(values), "TIFF"))


def test_a_name_is_shown_without_steering_the_terminal(tmp_path):
    name = "red\x1b[31m\nsecond line.png"
    with pytest.raises(PictureError) as caught:
        open_picture(b"", name, into=lambda image: image)
    assert r"red\x1b[31m\nsecond line.png" in str(caught.value)
    with pytest.raises(PictureError) as caught:
        photograph(tmp_path / name)
    assert str(caught.value).isprintable()


def damaged(content, chance):
    """Return a file with some bytes exchanged, mostly near its start, or cut short."""
    if chance.random() < 0.3:
        return content[: chance.randrange(len(content))]
    content = bytearray(content)
    for _ in range(chance.choice([1, 2, 16])):
        reach = min(len(content), 300) if chance.random() < 0.6 else len(content)
        content[chance.randrange(reach)] = chance.randrange(256)
    return bytes(content)


@pytest.mark.parametrize("kind", FILES)
def test_damaged_files_are_read_or_refused_and_nothing_else(kind, tmp_path):
    chance = random.Random(kind)
    path = tmp_path / "picture"
    for _ in range(25):
        path.write_bytes(damaged(FILES[kind], chance))
        for read in (photograph, lambda path: from_picture(path.read_bytes())):
            try:
                read(path)
            except ValueError as error:
                assert str(error).isprintable()
