"""The sliders: the picture follows them, and bad ends are refused."""

import io

import matplotlib.pyplot as plt
import pytest
import torch

from course_utils.views.sliders import MAGNIFY, code_sliders


def decode(codes):
    """Return pictures as grey as the first number of the code."""
    return codes[:, :1].reshape(-1, 1, 1, 1).expand(-1, 1, 4, 4)


def parts(box):
    column, picture = box.children
    return column.children[1:], picture


def grey(picture):
    return plt.imread(io.BytesIO(picture.value))


def test_the_picture_follows_the_sliders():
    sliders, picture = parts(code_sliders(decode, [0, -1], [1, 1], start=[0.2, 0]))
    assert [slider.value for slider in sliders] == [0.2, 0]
    assert grey(picture).shape == (4 * MAGNIFY, 4 * MAGNIFY)
    assert grey(picture).max() == pytest.approx(0.2, abs=0.01)
    sliders[0].value = 0.8
    assert grey(picture).min() == pytest.approx(0.8, abs=0.01)


def test_they_begin_in_the_middle_and_within_their_ends():
    middle, _ = parts(code_sliders(decode, torch.tensor([0.0]), torch.tensor([1.0])))
    assert middle[0].value == 0.5
    outside, _ = parts(code_sliders(decode, [0], [1], start=[7]))
    assert outside[0].value == 1


@pytest.mark.parametrize(("low", "high"), [([0, 0], [1]), ([1], [0]), ([1], [1])])
def test_ends_that_do_not_fit_are_refused(low, high):
    with pytest.raises(ValueError, match="each low end below its high one"):
        code_sliders(decode, low, high)
