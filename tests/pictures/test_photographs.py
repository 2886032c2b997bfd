"""Photographs: every kind of file that people have, and clear words for what cannot be used."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from course_utils.pictures.photographs import (
    PHOTOGRAPHS,
    PictureError,
    luminance,
    photograph,
    shrunk,
)


def file(folder, image, name="picture.png", **options):
    image.save(folder / name, **options)
    return folder / name


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_bundled_photographs_need_no_network(name):
    picture = photograph(name, longest=64)
    assert picture.shape[0] == 3 and max(picture.shape[1:]) == 64
    assert picture.dtype == torch.float32
    assert 0 <= picture.min() < picture.max() <= 1


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "I;16"])
def test_every_kind_of_picture_becomes_red_green_and_blue(mode, tmp_path):
    image = Image.new("RGB", (40, 50), (255, 255, 255))
    if mode == "I;16":
        image = Image.fromarray(np.full((50, 40), 65535, dtype=np.uint16))
    else:
        image = image.convert(mode)
    path = file(tmp_path, image, "picture.tif" if mode == "CMYK" else "picture.png")
    picture = photograph(path)
    assert picture.shape == (3, 50, 40)
    assert torch.all(picture > 0.99)


def test_what_is_transparent_becomes_white(tmp_path):
    picture = photograph(file(tmp_path, Image.new("RGBA", (40, 40), (255, 0, 0, 0))))
    assert torch.all(picture == 1)


def test_a_photograph_on_its_side_stands_up(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    path = file(tmp_path, Image.new("RGB", (80, 40)), "phone.jpg", exif=exif)
    assert photograph(path).shape == (3, 80, 40)


def test_sixteen_bits_become_eight_and_stand_up(tmp_path):
    levels = np.linspace(0, 65535, 64 * 48, dtype=np.uint16).reshape(48, 64)
    exif = Image.Exif()
    exif[0x0112] = 6
    path = file(tmp_path, Image.fromarray(levels), "scan.png", exif=exif)
    expected = torch.from_numpy(np.rot90(levels, -1).astype(np.float32)) / 65535
    picture = photograph(path)
    assert picture.shape == (3, 64, 48)
    assert torch.allclose(picture, expected.expand(3, -1, -1), atol=1 / 255)


def test_grey_levels_are_kept(tmp_path):
    levels = np.arange(1600, dtype=np.uint8).reshape(40, 40)
    picture = photograph(file(tmp_path, Image.fromarray(levels)))
    expected = torch.from_numpy(levels).float() / 255
    assert all(torch.equal(channel, expected) for channel in picture)
    assert torch.allclose(luminance(picture)[0], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda folder: folder / "none.png", "There is no picture"),
        (lambda folder: folder / "none" / "none.png", "There is no picture"),
        (lambda folder: "~nobody-of-this-name/none.png", "There is no picture"),
        (lambda folder: folder, "is a folder"),
        (lambda folder: folder / ("long" * 99), "cannot be read"),
        (lambda folder: None, "not NoneType"),
        (lambda folder: torch.zeros(3, 40, 40), "not Tensor"),
        (lambda folder: file(folder, Image.new("RGB", (31, 90))), "too small: 90 x 31 pixels"),
        (
            lambda folder: file(folder, Image.new("F", (40, 40)), "picture.tif"),
            "the format 'F', no colours",
        ),
    ],
)
def test_what_cannot_be_used_says_why(make, complaint, tmp_path):
    with pytest.raises(PictureError, match=complaint):
        photograph(make(tmp_path))


def test_a_picture_that_becomes_too_small_is_refused(tmp_path):
    path = file(tmp_path, Image.new("RGB", (400, 40)))
    assert photograph(path).shape == (3, 40, 400)
    with pytest.raises(
        PictureError, match="too small: 10 x 100 pixels, made smaller from 40 x 400.* less narrow"
    ):
        photograph(path, longest=100)


def test_damaged_files_are_refused(tmp_path):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90), dtype=np.uint8))
    whole = file(tmp_path, noise).read_bytes()
    for name, content in {"cut.png": whole[: len(whole) // 2], "text.jpg": b"hello"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(PictureError, match="cannot be read"):
            photograph(tmp_path / name)


def test_without_scikit_image_one_line_says_how_to_add_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    monkeypatch.setitem(sys.modules, "skimage.data", None)
    with pytest.raises(PictureError, match="pip install scikit-image"):
        photograph("chelsea")


def test_shrinking_keeps_the_shape_of_the_picture_and_its_mean():
    picture = torch.rand(3, 200, 100)
    small = shrunk(picture, 50)
    assert small.shape == (3, 50, 25)
    assert abs(small.mean() - picture.mean()) < 0.01
    assert shrunk(picture, 200) is picture


def test_fine_stripes_become_grey_and_not_other_stripes():
    stripes = (torch.arange(280) % 2).float().expand(3, 280, 280)
    assert shrunk(stripes, 100)[:, 2:-2, 2:-2].std() < 0.05
