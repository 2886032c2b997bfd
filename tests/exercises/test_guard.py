"""Whatever a learner hands in: a check ends with a sentence, in time, and changes nothing."""

import os
import random
import threading
import warnings
from functools import partial

import lightning as L
import nbformat
import numpy as np
import pytest
import torch
from worked import run

from course_utils.exercises import Question, guard, right, wrong
from course_utils.exercises.guard import guarded
from course_utils.exercises.outcomes import Found, unchecked
from course_utils.exercises.watchdog import TooLong, at_most
from tools.execute import execute


def ask(checker, *answers, **values):
    given = {"number": 7, "kind": "explore", "title": "Try", "lesson": "09_try", "hints": ("a",)}
    given |= {"place": "section 1", "expects": "something", "takeaway": "So it is."}
    return Question(**given, checker=checker, **values).check(*answers)


def cell(code, name="answer"):
    names = {"torch": torch}
    run(code, names)
    return names[name]


def test_an_outcome_is_true_only_if_right():
    assert ask(lambda answer: right("Yes."), 1)
    outcome = ask(lambda answer: wrong("It is 1."), 1)
    assert not outcome
    assert str(outcome) == "✗ Not yet. It is 1.\nLook again: lesson 9, section 1."
    assert "It is 1." in outcome._repr_html_()


def test_text_of_a_learner_is_no_html():
    assert "<script>" not in wrong("<script>`<b>`")._repr_html_()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def answer(x):\n    return x.nope\n", "no attribute 'nope'` in `answer`, line 2"),
        ("def answer(x):\n    return x @ x\n", "line 2 of its cell: `return x @ x`"),
        ("def answer(x):\n    raise SystemExit\n", "asks Python to exit in `answer`, line 2"),
        ("def answer(x):\n    return answer(x)\n", "RecursionError"),
        ("def answer(x):\n    x.fill_(1)\n    raise NotImplementedError\n", "not written yet"),
    ],
)
def test_an_exception_in_a_learners_code_names_its_line(code, said):
    outcome = ask(lambda answer: answer(torch.ones(3, 2)), cell(code))
    assert outcome.kind in ("cannot be checked", "not attempted")
    assert said in outcome.text, outcome


def test_an_exception_without_a_line_of_theirs_says_what_is_expected():
    outcome = guarded(partial(torch.dot, torch.ones(2), None), "two vectors of one length")
    assert outcome.kind == "cannot be checked"
    assert "expects two vectors of one length" in outcome.text


def test_a_check_without_a_result_is_no_pass():
    assert ask(lambda answer: True, 1).kind == "cannot be checked"


def test_an_interrupt_by_the_learner_goes_through():
    def interrupted(answer):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ask(interrupted, 1)


ENDLESS = "def answer():\n    while True:\n        pass\n"
STUBBORN = (
    "def answer():\n    while True:\n        try:\n            while True:\n                pass\n"
    "        except Exception:\n            pass\n"
)


@pytest.mark.parametrize("code", [ENDLESS, STUBBORN])
@pytest.mark.parametrize("in_a_thread", [False, True])
def test_what_never_ends_is_stopped_with_its_line(code, in_a_thread, monkeypatch):
    monkeypatch.setattr(guard, "SECONDS", 0.2)
    found = []

    def work():
        found.append(ask(lambda answer: answer(), cell(code)))

    if in_a_thread:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(120)
    else:
        work()
    (outcome,) = found
    assert outcome.kind == "cannot be checked"
    assert "still running after 0.2 seconds" in outcome.text
    assert "in `answer`" in outcome.text


def test_without_signals_a_limit_holds_too(monkeypatch):
    monkeypatch.delattr("signal.setitimer", raising=False)
    with pytest.raises(TooLong), at_most(0.2):
        while True:
            pass
    with at_most(60):
        pass


def test_what_ends_in_time_is_left_alone():
    with at_most(60):
        value = sum(range(1000))
    assert value == 499500


def test_a_timer_that_was_set_before_goes_on():
    signal = pytest.importorskip("signal")
    if not hasattr(signal, "setitimer"):
        pytest.skip("no timers here")
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    try:
        signal.setitimer(signal.ITIMER_REAL, 3000)
        with at_most(60):
            pass
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 3000
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_generators_modes_and_folder_are_as_before(draws, tmp_path, capsys):
    def wild(answer):
        L.seed_everything(3)
        torch.rand(2), np.random.rand(2), random.random()
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        os.environ["PLANTED"] = "1"
        os.chdir("/")
        print("noise")
        warnings.warn("careful", stacklevel=1)
        raise Found(unchecked("Ended."))

    before, folder, seeded = draws(), os.getcwd(), os.environ.get("PL_GLOBAL_SEED")
    assert ask(wild, 1).text == "Ended."
    assert draws() == before
    assert torch.is_grad_enabled() and torch.get_default_dtype() == torch.float32
    assert os.getcwd() == folder and "PLANTED" not in os.environ
    assert os.environ.get("PL_GLOBAL_SEED") == seeded
    assert capsys.readouterr() == ("", "")


def test_answers_are_copies():
    layer, weights, listed = torch.nn.Linear(2, 2), torch.ones(2, requires_grad=True), [[1]]
    computed = weights * 2
    before = layer.weight.detach().clone()

    def changing(layer, computed, listed):
        with torch.no_grad():
            layer.weight.zero_()
            computed.zero_()
        layer.eval()
        listed[0].append(2)
        return right()

    assert ask(changing, layer, computed, listed)
    assert torch.equal(layer.weight, before) and layer.training
    assert computed.tolist() == [2, 2] and listed == [[1]]


def test_a_fitted_module_can_be_handed_in():
    class Lit(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

    lit = Lit()
    lit.trainer = L.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    assert ask(lambda lit: right() if lit.layer.weight.numel() == 1 else wrong("?"), lit)


GAPS = {
    "nothing": "answer = ...",
    "a body of dots": "def answer(x):\n    ...\n",
    "a docstring": 'def answer(x):\n    """Do it."""\n',
    "pass": "def answer(x):\n    pass\n",
    "not implemented": "def answer(x):\n    raise NotImplementedError()\n",
    "a gap inside": "def answer(x):\n    y = ...\n    return y + x\n",
    "a gap returned": "def answer(x):\n    y = x + 1\n    return ...\n",
    "a gap in a hook": "class answer:\n    def step(self):\n        x = 1\n        ...\n",
    "a gap in a dictionary": 'answer = {"a": 1, "b": ...}',
}


@pytest.mark.parametrize("code", GAPS.values(), ids=GAPS)
def test_a_gap_is_no_attempt(code):
    outcome = ask(lambda answer: right(), cell(code))
    assert outcome.kind == "not attempted", outcome


@pytest.mark.parametrize(
    "code",
    [
        "def answer(x):\n    return x[..., 0]\n",
        "def answer(x: tuple[int, ...]):\n    return x\n",
        "answer = None",
        "answer = lambda x: x",
        "answer = print",
        "class answer:\n    size: tuple[int, ...] = (1,)\n    def step(self):\n        return 2\n",
    ],
)
def test_other_dots_are_no_gap(code):
    assert ask(lambda answer: right(), cell(code))


IN_A_KERNEL = (
    """
from course_utils.exercises import Question, guard, right
guard.SECONDS = 1
q = Question(number=1, kind="explore", title="T", lesson="09_x", place="p", expects="a function",
             hints=("h",), takeaway="t", checker=lambda answer: answer() or right())
""",
    "def answer():\n    exit()",
    "q.check(answer)",
    ENDLESS,
    "q.check(answer)",
    "print(q.check(1))",
)


def test_in_a_kernel_it_survives_exit_and_endless_loops(own_progress):
    cells = [nbformat.v4.new_code_cell(code) for code in IN_A_KERNEL]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), own_progress / "09_x.ipynb")
    done = execute(own_progress / "09_x.ipynb", own_progress)
    assert done.error == ""
    texts = [o.data["text/plain"] for c in done.notebook.cells for o in c.outputs if "data" in o]
    assert "asks Python to exit in `answer`" in " ".join(texts[0].split())
    assert "still running after 1 seconds" in " ".join(texts[1].split())
