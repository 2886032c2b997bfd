"""Every exercise: its solution passes, its stub is kindly refused, wrong answers are explained.

What learners answer wrongly stands in a table beside this file, `wrong_NN.py`, one a lesson.
"""

import copy
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from worked import (
    ALL,
    ALSO_RIGHT,
    SOURCES,
    WRONG,
    arguments,
    checked,
    edited,
    question,
    questions,
    solved,
    with_gaps,
)

from course_utils.exercises import Patient, guard
from course_utils.exercises.outcomes import MARKS
from course_utils.exercises.progress import solved as kept

MISTAKES = [
    (lesson, number, name) for lesson, number in ALL for name in WRONG[lesson].get(number, {})
]
OTHERS = [
    (lesson, number, name) for lesson, number in ALL for name in ALSO_RIGHT[lesson].get(number, {})
]


@pytest.mark.parametrize(("lesson", "number"), ALL)
def test_the_solution_passes_and_is_kept(lesson, number, draws):
    names = solved(lesson)
    before = draws()
    outcome = checked(lesson, number, names)
    assert outcome, outcome
    assert question(lesson, number).takeaway in outcome.text
    assert draws() == before
    assert question(lesson, number).key in kept()


@pytest.mark.parametrize(("lesson", "number"), ALL)
def test_an_untouched_stub_is_not_attempted(lesson, number):
    outcome = checked(lesson, number, with_gaps(lesson))
    assert outcome.kind == "not attempted", outcome
    assert "gap" in outcome.text
    assert kept() == set()


@pytest.mark.parametrize(("lesson", "number", "name"), MISTAKES)
def test_a_wrong_answer_gets_its_own_reason(lesson, number, name, draws):
    edit, phrase = WRONG[lesson][number][name]
    names = edited(lesson, number, edit)
    before = draws()
    outcome = checked(lesson, number, names)
    assert outcome.kind == "wrong", outcome
    assert phrase in " ".join(str(outcome).split()), outcome
    assert outcome.place
    assert draws() == before
    assert kept() == set()


@pytest.mark.parametrize(("lesson", "number", "name"), OTHERS)
def test_another_right_answer_passes_too(lesson, number, name):
    outcome = checked(lesson, number, edited(lesson, number, ALSO_RIGHT[lesson][number][name]))
    assert outcome, outcome


@pytest.mark.parametrize(("lesson", "number"), ALL)
def test_at_least_three_wrong_answers_are_known(lesson, number):
    assert len(WRONG[lesson].get(number, {})) >= 3


@pytest.mark.parametrize("lesson", SOURCES)
def test_a_lesson_has_its_exercises_in_order(lesson):
    kinds = [question.kind for question in questions(lesson)]
    assert [question.number for question in questions(lesson)] == list(range(1, len(kinds) + 1))
    assert {question.lesson for question in questions(lesson)} == {SOURCES[lesson].stem}
    if all(isinstance(question, Patient) for question in questions(lesson)):
        assert len(kinds) == 10
        return
    assert 4 <= len(kinds) <= 6
    assert len(set(kinds)) >= 3 and "lines in order" in kinds


@pytest.mark.parametrize(("lesson", "number"), ALL)
def test_hints_go_from_gentle_to_plain_and_the_solution_asks_once(lesson, number):
    asked = copy.copy(question(lesson, number))
    asked._hinted, asked._asked = 0, False
    hints = [str(asked.hint()) for _ in asked.hints]
    assert len(set(hints)) == len(hints) >= 2
    assert hints[-1] in str(asked.hint()) and "solution()" in hints[-1]
    assert asked.answer.strip() not in str(asked.solution())
    assert asked.answer.strip() in str(asked.solution())


ORDERED = [(a, b) for a, b in ALL if question(a, b).ordered is not None]


@pytest.mark.parametrize(("lesson", "number"), ORDERED)
def test_lines_may_be_placed_in_any_object_that_says_where(lesson, number):
    names, (name,) = solved(lesson), arguments(lesson, number)
    full = SimpleNamespace(placed={k: list(v) for k, v in names[name].items()})
    assert checked(lesson, number, {**names, name: full})
    assert set(question(lesson, number).lines().places) == set(names[name])
    empty = SimpleNamespace(placed={})
    assert checked(lesson, number, {**names, name: empty}).kind == "not attempted"


def raising(*args, **kwargs):
    raise ValueError("mine\x1b[31m")


def leaving(*args, **kwargs):
    raise SystemExit(3)


class Rude:
    def __repr__(self):
        raise RuntimeError("no")

    __str__ = __eq__ = __deepcopy__ = __len__ = __iter__ = __repr__
    __hash__ = None


class Idle(L.LightningModule):
    pass


HOSTILE = {
    "None": None,
    "Ellipsis": ...,
    "a class": dict,
    "a class of the right family": Idle,
    "an object of it": torch.nn.Linear(2, 2),
    "a tensor of a wrong shape": torch.zeros(3, 7),
    "a computed tensor": torch.ones(2, requires_grad=True) * 2,
    "a text": "what?",
    "a number": float("nan"),
    "an empty dictionary": {},
    "a dictionary of nonsense": {"training_step": 7, 3: None},
    "a function that raises": raising,
    "a function that exits": leaving,
    "a function of no arguments": lambda: None,
    "a rude object": Rude(),
}


@pytest.mark.parametrize(("lesson", "number"), ALL)
@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_check_raises_whatever_it_is_given(lesson, number, hostile, draws):
    before = draws()
    names = solved(lesson)
    for name in arguments(lesson, number):
        outcome = checked(lesson, number, {**names, name: HOSTILE[hostile]})
        assert not outcome, (name, outcome)
        assert outcome.kind in MARKS and outcome.text
        assert str(outcome).replace("\n", "").isprintable() and outcome._repr_html_()
    assert draws() == before


def never_ending(*args, **kwargs):
    while True:
        pass


class NeverReady(L.LightningModule):
    def __init__(self):
        super().__init__()
        never_ending()


@pytest.mark.parametrize(("lesson", "number"), ALL)
@pytest.mark.parametrize("endless", [never_ending, NeverReady])
def test_no_check_waits_for_ever(lesson, number, endless, monkeypatch):
    """The limit is short here: whatever is not over by then is stopped, and told so."""
    monkeypatch.setattr(guard, "SECONDS", 1)
    for name in arguments(lesson, number):
        outcome = checked(lesson, number, {**solved(lesson), name: endless})
        assert not outcome, outcome


@pytest.mark.parametrize(("lesson", "number"), ALL)
def test_a_check_with_too_few_or_too_many_answers_says_how(lesson, number):
    asked = question(lesson, number)
    for answers in ((), (1,) * 9):
        outcome = asked.check(*answers)
        assert outcome.kind == "cannot be checked"
        assert f"q{number}.check(" in outcome.text
