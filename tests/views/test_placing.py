"""Lines to be put in order, as a widget: what Python sees of it. Its look is tried in a browser."""

import copy
import sys

import pytest
import traitlets

from course_utils.exercises import Lines, Question, right
from course_utils.views import placing

LINES = Lines(
    shown=("total += x", "total = 0", "print(total)"),
    template="def add(xs):\n    {before}\n    for x in xs:\n        {each}\n    return total\n",
    beside=("nowhere",),
)
RIGHT = {"before": ["b"], "each": ["a"], "nowhere": ["c"]}


def checker(placed):
    assert LINES.read(placed) == {"before": "b", "each": "a", "nowhere": "c"}
    return right()


@pytest.fixture
def asked(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(placing, "in_notebook", lambda: True)
    return Question(
        3, "lines in order", "T", "01_mlp", "section 1", "an order", (), "", checker, LINES
    )


def moved(widget, placed):
    """Let a browser send a state."""
    widget.set_state({"placed": placed})
    return widget.placed


def test_what_was_placed_is_checked(asked):
    lines = asked.lines()
    assert moved(lines, RIGHT) == RIGHT
    assert asked.check(lines)
    assert lines.placed == RIGHT


def test_nothing_placed_is_no_attempt_and_something_left_is_named(asked):
    lines = asked.lines()
    outcome = asked.check(lines)
    assert outcome.kind == "not attempted" and "no line is placed yet" in outcome.text
    moved(lines, {"before": ["b"]})
    outcome = asked.check(lines)
    assert outcome.kind == "wrong" and "2 lines have no place yet" in outcome.text


def test_a_cell_that_is_run_again_shows_what_was_placed(asked):
    first = asked.lines()
    moved(first, RIGHT)
    assert asked.lines() is first
    first.close()
    fresh = asked.lines()
    assert fresh is not first and fresh.placed == {place: [] for place in RIGHT}


EMPTY = {"before": [], "each": [], "nowhere": []}


@pytest.mark.parametrize(
    ("state", "kept"),
    [
        ({"before": ["b", "z", 7, None], "elsewhere": ["a"]}, {**EMPTY, "before": ["b"]}),
        ({"before": ["b", "b"], "each": ["b", "a"]}, {**EMPTY, "before": ["b"], "each": ["a"]}),
        ({"before": None, "each": 5, "nowhere": {"c": 1}}, EMPTY),
        ({"before": "cb"}, {**EMPTY, "before": ["c", "b"]}),
        ({"before": [["b"], {"a": 1}]}, EMPTY),
        ({}, EMPTY),
    ],
)
def test_a_state_that_is_none_keeps_what_is_sound(asked, state, kept):
    assert moved(asked.lines(), state) == kept


@pytest.mark.parametrize("state", [None, 5, "abc", ["a"]])
def test_what_is_no_state_at_all_changes_nothing(asked, state):
    lines = asked.lines()
    moved(lines, RIGHT)
    with pytest.raises(traitlets.TraitError):
        moved(lines, state)
    assert lines.placed == RIGHT


def test_where_no_widget_runs_the_plain_list_is_shown(asked):
    data, _ = asked.lines()._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert data["text/plain"] == repr(asked.lines()) == str(LINES)
    assert data["text/html"] == LINES._repr_html_()


def test_without_a_notebook_there_is_the_plain_list(asked, monkeypatch):
    monkeypatch.setattr(placing, "in_notebook", lambda: False)
    lines = asked.lines()
    assert isinstance(lines, Lines) and lines.placed == {}


def test_without_anywidget_there_is_the_plain_list(asked, monkeypatch):
    monkeypatch.setitem(sys.modules, "course_utils.views.placing", None)
    assert isinstance(asked.lines(), Lines)


def test_a_question_with_its_widget_can_be_copied(asked):
    moved(asked.lines(), RIGHT)
    assert copy.copy(asked).lines().placed == RIGHT
