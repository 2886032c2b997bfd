"""Lines to be put in order: placed by letter, assembled, run."""

import pytest

from course_utils.exercises import Lines
from course_utils.exercises.guard import guarded
from course_utils.exercises.outcomes import Found

LINES = Lines(
    shown=("total += x", "total = 0", "print(total)"),
    template="def add(xs):\n    {before}\n    for x in xs:\n        {each}\n    return total\n",
    beside=("nowhere",),
)


def test_lines_are_placed_and_run():
    placed = LINES.read({"before": "b", "each": ["a"], "nowhere": "C"})
    assert placed == {"before": "b", "each": "a", "nowhere": "c"}
    assert LINES.run(placed, {})["add"]([1, 2]) == 3
    assert LINES.assemble({"each": "a"}).splitlines()[1] == "    pass"


@pytest.mark.parametrize("placed", ["b, a", "b a", ["b", "a"], ("ba",), "BA"])
def test_letters_come_in_many_forms(placed):
    assert LINES.read({"before": placed, "nowhere": "c"})["before"] == "ba"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "should be a dictionary"),
        ({"afterwards": "abc"}, "There is no place `afterwards`"),
        ({"before": "abcz"}, "no line `z`"),
        ({"before": "abca"}, "placed more than once: `a`"),
        ({"before": "b"}, "2 lines have no place yet: `a`, `c`"),
        ({"before": 3}, "should hold letters"),
        ({"before": [None]}, "should hold letters"),
    ],
)
def test_what_is_no_order_is_told(answer, said):
    with pytest.raises(Found) as found:
        LINES.read(answer)
    assert said in found.value.outcome.text


def test_a_line_that_fails_is_named():
    placed = LINES.read({"before": "a", "each": "bc"})
    outcome = guarded(lambda: LINES.run(placed, {})["add"]([1]), "an order")
    assert "`total += x`" in outcome.text


def test_lines_show_themselves_as_text_and_html():
    assert str(LINES).splitlines()[0] == "  a  total += x"
    assert "Places: before, each, nowhere" in str(LINES)
    assert "<b>c</b>" in LINES._repr_html_()
