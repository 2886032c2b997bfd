"""Widgets say in words what they are, where none can run, and when their kernel is gone."""

import pytest
import torch
from sanitised import sanitised, text_of

from course_utils.views.canvas import digit_canvas
from course_utils.views.sliders import code_sliders
from tools.publishable import WIDGETS


def canvas():
    return digit_canvas(lambda picture: torch.eye(10)[3])


def sliders():
    return code_sliders(lambda codes: torch.zeros(1, 1, 4, 4), [0, 0, 0], [1, 1, 1])


def pages(box):
    """Yield the HTML that the widgets in a box show."""
    for child in getattr(box, "children", ()):
        yield from pages(child)
    if isinstance(getattr(box, "value", None), str):
        yield box.value


BOXES = pytest.mark.parametrize(
    ("make", "words"), [(canvas, "a square to draw a digit on"), (sliders, "3 sliders")]
)


@BOXES
def test_where_no_widget_runs_words_stand_in_its_place(make, words):
    bundle = make()._repr_mimebundle_()
    for text in (bundle["text/plain"], text_of(sanitised(bundle["text/html"]))):
        assert words in text and "running kernel" in text
        assert "Box(" not in text
    assert WIDGETS[0] in bundle  # and where it runs, it is a widget


@BOXES
def test_a_widget_without_its_kernel_says_what_to_do(make, words):
    """JupyterLab gives it the class `jupyter-widgets-disconnected`; only then the line shows."""
    (page,) = pages(make())
    assert "run the cells down to this one again" in page
    assert ".asleep{display:none" in page
    assert ".jupyter-widgets-disconnected .shown .asleep{display:block}" in page


def test_the_line_stays_when_the_canvas_has_read_something():
    box = canvas()
    box.children[0].strokes = [[[60, 60], [140, 60], [140, 220]]]
    (page,) = pages(box)
    assert "100%" in page and "run the cells down to this one again" in page


def test_a_second_run_of_the_cell_gives_a_box_of_its_own():
    assert canvas()._model_id != canvas()._model_id
