"""Digits of one's own: strokes, pictures, and the canvas."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from course_utils.digits.drawing import RECORDED, from_picture, from_strokes
from course_utils.views.canvas import digit_canvas


def file(picture, kind="png", **options):
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)
    return buffer.getvalue()


def paper(digit=4, ink=40, ground=200, shade=0, size=(320, 240), corner=(180, 90)):
    """Return a picture of a recorded digit as a photograph shows it."""
    large = np.kron(from_strokes(RECORDED[digit]).numpy(), np.ones((4, 4))) / 255
    levels = np.full(size[::-1], float(ground)) - np.linspace(0, shade, size[0])
    x, y = corner
    patch = levels[y : y + 112, x : x + 112]
    patch += (ink - ground) * large[: patch.shape[0], : patch.shape[1]]
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8))


def alike(a, b):
    """Return the correlation of two pictures."""
    return float(np.corrcoef(a.flatten().numpy(), b.flatten().numpy())[0, 1])


def like_the_recorded(picture, digit=4, at_least=0.8):
    scores = {d: alike(picture, from_strokes(strokes)) for d, strokes in RECORDED.items()}
    return max(scores, key=scores.get) == digit and scores[digit] > at_least


@pytest.mark.parametrize("digit", RECORDED)
def test_strokes_become_pictures_as_mnist_has_them(digit):
    picture = from_strokes(RECORDED[digit])
    assert (picture.shape, picture.dtype) == ((28, 28), torch.uint8)
    rows, columns = (picture > 30).nonzero().T
    assert max(rows.max() - rows.min(), columns.max() - columns.min()) + 1 in (19, 20)
    weight = picture.double() / picture.sum()
    for axis in (0, 1):
        centre = (weight.sum(1 - axis) * (torch.arange(28) + 0.5)).sum()
        assert abs(float(centre) - 14) <= 0.6
    assert 40 < int((picture > 127).sum()) < 200  # lines, neither hairs nor blots


def test_place_and_size_of_a_drawing_do_not_matter():
    moved = [[(3.5 * x + 900, 3.5 * y - 70) for x, y in stroke] for stroke in RECORDED[5]]
    difference = from_strokes(moved).int() - from_strokes(RECORDED[5]).int()
    assert difference.abs().max() <= 32  # the pen's places are rounded to pixels


@pytest.mark.parametrize("strokes", [[], [[]], [[(7, 7)]], [[(0, 0), (float("nan"), 1)]]])
def test_what_is_no_drawing_is_refused(strokes):
    with pytest.raises(ValueError, match="draw a digit"):
        from_strokes(strokes)


@pytest.mark.parametrize(
    "picture",
    [
        paper(),
        paper(ink=230, ground=30),
        paper(ink=120, shade=120),
        paper().convert("RGB"),
        paper().convert("P"),
        paper(size=(1600, 1200), corner=(700, 300)).resize((3200, 2400)),
    ],
    ids=["dark on light", "light on dark", "uneven light", "colour", "palette", "large"],
)
def test_a_photographed_digit_looks_like_the_drawn_one(picture):
    assert like_the_recorded(from_picture(file(picture)))


def test_sixteen_bits_are_as_good_as_eight():
    deep = Image.fromarray(np.asarray(paper()).astype(np.uint16) * 100)
    assert like_the_recorded(from_picture(file(deep)))


@pytest.mark.parametrize("colour", ["black", "white"])
def test_ink_on_a_transparent_ground(colour):
    ink = Image.new("RGBA", (112, 112), colour)
    alpha = np.kron(from_strokes(RECORDED[4]).numpy(), np.ones((4, 4), dtype=np.uint8))
    ink.putalpha(Image.fromarray(alpha))
    assert like_the_recorded(from_picture(file(ink)))


def test_a_phone_held_sideways():
    turned = paper().transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise to be upright
    assert like_the_recorded(from_picture(file(turned, "jpeg", exif=exif)))


def test_dust_does_not_count():
    picture = paper()
    ImageDraw.Draw(picture).rectangle((5, 200, 6, 201), fill=0)
    assert like_the_recorded(from_picture(file(picture)))


@pytest.mark.parametrize("digit", RECORDED)
def test_a_thin_pen_is_made_thicker(digit):
    picture = Image.new("L", (300, 300), 255)
    for stroke in RECORDED[digit]:
        ImageDraw.Draw(picture).line(stroke, fill=0, width=4)
    drawn, expected = from_picture(file(picture)), from_strokes(RECORDED[digit])
    assert int(drawn.sum()) > 0.7 * int(expected.sum())
    assert like_the_recorded(drawn, digit, at_least=0.6)  # it may lie a pixel away


def test_a_path_and_its_bytes_are_read_alike(tmp_path):
    path = tmp_path / "four.png"
    paper().save(path)
    assert torch.equal(from_picture(path), from_picture(path.read_bytes()))
    assert torch.equal(from_picture(str(path)), from_picture(path))


@pytest.mark.parametrize("content", [b"", b"no picture", file(paper())[:300]])
def test_what_is_no_picture_is_refused(tmp_path, content):
    path = tmp_path / "digit.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"digit\.png cannot be read as a picture"):
        from_picture(path)
    with pytest.raises(ValueError, match="The uploaded file cannot be read"):
        from_picture(content)


def test_blank_paper_is_refused():
    with pytest.raises(ValueError, match="nothing that stands out"):
        from_picture(file(Image.new("L", (50, 50), 220)))


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(FileNotFoundError):
        from_picture(tmp_path / "none.png")


def test_the_canvas_answers_when_the_pen_is_lifted():
    seen = []

    def read(picture):
        seen.append(picture)
        return torch.eye(10)[3]

    box = digit_canvas(read)
    canvas, answer = box.children
    assert "Draw a digit" in answer.value and not seen
    canvas.strokes = [list(map(list, stroke)) for stroke in RECORDED[3]]
    assert torch.equal(seen[0], from_strokes(RECORDED[3]))
    assert 'class="best"><td>3</td>' in answer.value and "100%" in answer.value
    canvas.strokes = [[[5, 5]]]
    assert "only a dot" in answer.value and len(seen) == 1
    canvas.strokes = []
    assert "Draw a digit" in answer.value
