"""The pictures: labelled, and clear about input that cannot be drawn."""

import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.colors import to_hex

from course_utils.parity.looks import contrast
from course_utils.views import plots


def test_a_grid_of_digits():
    figure = plots.digit_grid(torch.rand(12, 1, 28, 28), titles=range(12), columns=5)
    drawn = [axis for axis in figure.axes if axis.images]
    assert [axis.get_title() for axis in drawn] == [str(i) for i in range(12)]
    with pytest.raises(ValueError, match="no images"):
        plots.digit_grid(torch.rand(0, 1, 28, 28))


def test_right_and_wrong_titles_differ_in_colour():
    figure = plots.digit_grid(torch.rand(2, 28, 28), titles=["a", "b"], right=[True, False])
    colours = [axis.title.get_color() for axis in figure.axes]
    assert colours == [plots.ink_of(plots.COLOURS[0]), plots.ink_of(plots.COLOURS[1])]


def test_a_picture_has_a_ground_and_an_ink_of_its_own():
    with plt.style.context("dark_background"):
        figure = plots.bars({"raw": 1.0, "port": 2.5}, "times")
    axis = figure.axes[0]
    assert {to_hex(one.get_facecolor()) for one in (figure, axis)} == {"#ffffff"}
    words = [axis.xaxis.label, *axis.get_yticklabels(), *axis.texts]
    assert {to_hex(word.get_color()) for word in words} == {plots.INK}


def test_counts_read_on_their_shade():
    figure = plots.confusion_matrix(torch.tensor([[90, 1, 5], [6, 80, 10], [0, 3, 70]]))
    shades = figure.axes[0].images[0]
    for text in figure.axes[0].texts:
        column, row = text.get_position()
        ground = to_hex(shades.to_rgba(shades.get_array()[row, column]))
        assert contrast(text.get_color(), ground) >= 4.5


def test_curves_have_labels_and_start_at_one():
    axis = plots.curves({"one": [3, 2], "two": [4.0, 1.0]}, y="loss").axes[0]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("epoch", "loss")
    assert list(axis.lines[0].get_xdata()) == [1, 2]
    assert axis.lines[0].get_linestyle() != axis.lines[1].get_linestyle()


def test_confusion_matrix_counts_and_axes():
    figure = plots.confusion_matrix(torch.tensor([[5, 1], [0, 7]]))
    axis = figure.axes[0]
    assert axis.get_ylabel() == "true digit" and axis.get_xlabel() == "predicted digit"
    assert sorted(text.get_text() for text in axis.texts) == ["1", "5", "7"]
    with pytest.raises(ValueError, match="square"):
        plots.confusion_matrix(torch.zeros(2, 3))


def test_the_surest_mistake_comes_first():
    labels = torch.tensor([0, 1, 1])
    logits = torch.tensor([[9.0, 0.0], [1.0, 0.0], [5.0, 0.0]])
    figure = plots.confident_mistakes(torch.rand(3, 1, 4, 4), labels, logits)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["is 1\nsaid 0\n99%", "is 1\nsaid 0\n73%"]
    with pytest.raises(ValueError, match="no mistake"):
        plots.confident_mistakes(torch.rand(1, 1, 4, 4), labels[:1], logits[:1])


def test_two_losses_and_the_step_where_they_part():
    axis = plots.paired_losses(([3.0, 2.0, 1.0], [3.0, 2.5, 2.0]), ("a", "b"), 2).axes[0]
    assert [text.get_text() for text in axis.get_legend().texts] == [
        "a",
        "b",
        "first difference: step 2",
    ]
    assert list(axis.lines[2].get_xdata()) == [2, 2]


def test_running_mean():
    assert plots.running_mean([1, 3, 5, 7], 2) == [1, 2, 4, 6]
    assert plots.running_mean([], 3) == []


def test_bars_say_their_values():
    axis = plots.bars({"raw": 1.0, "port": 2.5}, "times").axes[0]
    assert [text.get_text() for text in axis.texts] == ["1.00", "2.50"]
    assert to_hex(axis.patches[0].get_facecolor()) == plots.COLOURS[0]


def test_rows_of_images_have_names_and_may_differ_in_length():
    rows = {"a": torch.rand(3, 1, 8, 8), "b": torch.rand(2, 4, 4)}
    figure = plots.image_rows(rows, titles=["x", "y", "z"])
    assert [axis.get_ylabel() for axis in figure.axes if axis.get_ylabel()] == ["a", "b"]
    assert sum(bool(axis.images) for axis in figure.axes) == 5
    with pytest.raises(ValueError, match="no images"):
        plots.image_rows({})


def test_a_row_is_scaled_as_a_whole_or_image_by_image():
    row = {"a": torch.tensor([[[0.0, 1.0]], [[0.0, 4.0]]])}
    for each, tops in ((False, [4, 4]), (True, [1, 4])):
        axes = plots.image_rows(row, each=each).axes
        assert [axis.images[0].get_clim()[1] for axis in axes] == tops


def test_pictures_keep_their_own_sizes():
    figure = plots.pictures({"large": torch.rand(1, 1, 8, 8), "small": torch.rand(4, 4)})
    assert [axis.images[0].get_array().shape for axis in figure.axes] == [(8, 8), (4, 4)]
    assert [axis.get_title() for axis in figure.axes] == ["large", "small"]


def test_zero_is_white_where_values_have_a_sign():
    figure = plots.signed_grid(torch.tensor([[[-1.0, 3.0]], [[0.0, 0.5]]]), titles=["a", "b"])
    drawn = [axis.images[0] for axis in figure.axes if axis.images]
    assert [image.get_clim() for image in drawn[:2]] == [(-3, 3), (-3, 3)]


def test_a_mosaic_puts_images_at_their_places():
    images = torch.zeros(2, 3, 1, 4, 4)
    images[1, 2] = 1  # the last of ys and of xs: top right
    axis = plots.mosaic(images, [0, 1, 2], [5, 6], x="first", y="second").axes[0]
    picture = axis.images[0].get_array()
    assert picture.shape == (8, 12)
    assert picture[:4, 8:].min() == 1 and picture.sum() == 16
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("first", "second")


def test_codes_are_drawn_as_their_digits():
    figure = plots.codes_3d(torch.rand(20, 3), torch.arange(20) % 4, views=(10,))
    assert len(figure.axes[0].collections) == 4
    with pytest.raises(ValueError, match="shape"):
        plots.codes_3d(torch.rand(5, 2), torch.zeros(5))


def test_calls_are_drawn_in_order_in_their_owners_column():
    calls = [("data", "setup"), ("module", "step"), ("data", "teardown")]
    axis = plots.call_order(calls).axes[0]
    drawn = [(text.get_position(), text.get_text()) for text in axis.texts]
    assert drawn == [((0, 0), "setup"), ((1, 1), "step"), ((0, 2), "teardown")]
    with pytest.raises(ValueError, match="no calls"):
        plots.call_order([])


def test_lines_over_places_of_their_own():
    axis = plots.lines([-1.0, 0.0, 1.0], {"f": [1, 0, 1], "short": [2]}, x="x", y="y").axes[0]
    assert list(axis.lines[0].get_xdata()) == [-1, 0, 1]
    assert list(axis.lines[1].get_xdata()) == [-1]


def test_bars_side_by_side_have_one_scale_each():
    panels = {"µs": {"a": 400.0, "b": 70.0}, "thousand/s": {"a": 21.0, "b": 45.0}}
    left, right = plots.bars_side_by_side(panels, form="{:,.0f}").axes
    assert [bar.get_width() for bar in right.patches] == [21, 45]
    assert left.get_xlim()[1] > 400 and right.get_xlim()[1] < 100
    assert [text.get_text() for text in left.texts] == ["400", "70"]
    assert (left.get_xlabel(), right.get_xlabel()) == tuple(panels)


def test_bars_side_by_side_need_the_same_names():
    with pytest.raises(ValueError, match="same names"):
        plots.bars_side_by_side({"x": {"a": 1.0}, "y": {"b": 1.0}})
