"""The pictures: labelled, and clear about input that cannot be drawn."""

import pytest
import torch
from matplotlib.colors import to_hex

from course_utils import plots


def test_a_grid_of_digits():
    figure = plots.digit_grid(torch.rand(12, 1, 28, 28), titles=range(12), columns=5)
    drawn = [axis for axis in figure.axes if axis.images]
    assert [axis.get_title() for axis in drawn] == [str(i) for i in range(12)]
    with pytest.raises(ValueError, match="no images"):
        plots.digit_grid(torch.rand(0, 1, 28, 28))


def test_right_and_wrong_titles_differ_in_colour():
    figure = plots.digit_grid(torch.rand(2, 28, 28), titles=["a", "b"], right=[True, False])
    colours = [axis.title.get_color() for axis in figure.axes]
    assert colours == [plots.COLOURS[0], plots.COLOURS[1]]


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
