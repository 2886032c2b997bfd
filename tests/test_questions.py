"""The questions before cells, and what lessons quote: read rightly, shown alike, and true."""

import os
import re
import subprocess
import sys
from dataclasses import replace

import jupytext
import nbformat
import pytest

from tools import build
from tools.claims import broken, contradiction, lesson, missing_quotations, output_text, quotations
from tools.project import notebook_of, sources
from tools.questions import TAG, folded, parse, questions_of

LESSONS = sources()
EVERY = pytest.mark.parametrize("source", LESSONS, ids=lambda source: source.stem)
PLAIN = """\
How large is `a < b` of an **untrained** network?

- 0
  if: loss < 0.1
  It knows *nothing* yet.
+ About 2.3,
  if: 2 < loss < 2.6
  It guesses among ten,
  and ln 10 is 2.30.

read: loss: (?P<loss>[\\d.]+)
"""


def cells_with_answers(source):
    """Return the code and the recorded text of each cell that a question stands before."""
    recorded = nbformat.read(notebook_of(source), as_version=4)
    text = {cell.source: output_text(cell.outputs) for cell in recorded.cells if "outputs" in cell}
    return [(code, text[code]) for _, code in questions_of(lesson(source))]


@EVERY
def test_each_lesson_asks_four_to_six_questions(source):
    assert 4 <= len(questions_of(lesson(source))) <= 6


@EVERY
def test_recorded_outputs_say_that_the_marked_option_is_right_and_no_other(source):
    problems = [p for code, text in cells_with_answers(source) for p in broken(source, code, text)]
    assert problems == []


@EVERY
def test_each_other_option_marked_right_would_be_found(source):
    text = dict(cells_with_answers(source))
    for question, code in questions_of(lesson(source)):
        assert contradiction(question, text[code]) == ""
        for chosen in question.options:
            options = tuple(replace(o, right=o is chosen) for o in question.options)
            found = contradiction(replace(question, options=options), text[code])
            assert bool(found) == (chosen.letter != question.right)


@EVERY
def test_a_question_belongs_to_one_cell(source):
    codes = [cell.source for cell in lesson(source).cells if cell.cell_type == "code"]
    assert all(codes.count(code) == 1 for _, code in questions_of(lesson(source)))


def test_the_right_option_is_not_always_at_the_same_place():
    letters = [q.right for source in LESSONS for q, _ in questions_of(lesson(source))]
    assert all(letters.count(letter) >= 5 for letter in "ABC")


@EVERY
def test_what_a_lesson_quotes_at_its_beginning_was_put_out(source):
    assert quotations(source)
    recorded = nbformat.read(notebook_of(source), as_version=4)
    text = "".join(output_text(cell.outputs) for cell in recorded.cells if "outputs" in cell)
    assert missing_quotations(source, text) == []
    assert missing_quotations(source, text.replace(quotations(source)[0][-9:], "")) != []


@EVERY
def test_the_motive_comes_before_the_goals_and_the_set_up(source):
    first = lesson(source).cells[0].source
    assert first.index("\n> ") < first.index("```text") < first.index("At the end of this lesson")


@pytest.fixture
def asking(tmp_path):
    """Return a source with one question, and the code of the cell that answers it."""
    asked = "".join(f"# {line}".rstrip() + "\n" for line in PLAIN.splitlines())
    first = "# %% [markdown]\n# # Title\n#\n# ```text\n# loss:  2.3 …\n# ```\n\n"
    path = tmp_path / "09_x.py"
    path.write_text(f'{first}# %% [markdown] tags=["{TAG}"]\n{asked}\n# %%\nprint(loss)\n')
    return path


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("loss: 2.3", None),
        ("loss: 0.0", "B is marked right; by the output it is A"),
        ("loss: 9.9", "B is marked right; by the output it is none"),
        ("los", "is not in the output"),
    ],
)
def test_an_output_that_contradicts_the_marked_option_is_found(asking, text, complaint):
    problems = broken(asking, "print(loss)", text)
    assert len(problems) == (complaint is not None)
    assert complaint is None or complaint in problems[0]
    assert broken(asking, "print(another)", "loss: 0.0") == []


def test_a_line_that_is_quoted_and_not_put_out_is_found(asking):
    assert missing_quotations(asking, "the loss:\n2.3456") == []
    assert missing_quotations(asking, "loss: 2.4") == ["quoted, but not put out: 'loss: 2.3'"]


def test_a_question_is_folded_and_says_what_is_right(asking):
    cell = build.build(asking).cells[1]
    assert cell.source == folded(PLAIN)
    assert cell.source.count("<details>") == cell.source.count("</details>") == 2
    assert "<code>a &lt; b</code> of an <b>untrained</b> network?" in cell.source
    first, second = re.findall(r"<details>\n(.*?)\n</details>", cell.source, re.DOTALL)
    assert first.endswith("<p>✗ <b>No.</b> It knows <i>nothing</i> yet.</p>")
    assert second.endswith("<p>✓ <b>Yes.</b> It guesses among ten, and ln 10 is 2.30.</p>")
    assert "\n\n" not in cell.source and "if:" not in cell.source and "read:" not in cell.source


@pytest.mark.parametrize(
    ("was", "planted", "complaint"),
    [
        ("+ About", "- About", "one option marked right"),
        ("- 0", "+ 0", "one option marked right"),
        ("read:", "reads:", "a line `read: pattern`"),
        ("  if: loss < 0.1\n", "", "needs a line `if: condition`"),
        ("How large is `a < b` of an **untrained** network?", "", "words before its first option"),
    ],
)
def test_a_question_that_lacks_something_says_what(was, planted, complaint):
    with pytest.raises(ValueError, match=re.escape(complaint)):
        parse(PLAIN.replace(was, planted))


def test_a_question_that_no_cell_answers_is_found(asking):
    source = jupytext.read(asking)
    source.cells.pop()
    with pytest.raises(ValueError, match="No cell answers the question"):
        questions_of(source)


def test_nbval_checks_the_claims_on_its_own_run(asking, clone):
    """All in one run, as that is slow to start: a lesson without a fault and two with one."""
    printed = {"good": "loss: 2.3", "marked": "loss: 0.0", "quoted": "loss: 2.4"}
    for name, text in printed.items():
        source = clone / "notebooks" / "source" / f"{name}.py"
        source.write_text(asking.read_text("utf-8").replace("print(loss)", f"print('{text}')"))
        # Without outputs: only those of the run can tell.
        build.write(build.build(source), clone / "notebooks" / f"{name}.ipynb")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["-o", "filterwarnings=", "--nbval-lax", "--nbval-current-env"]
    run = subprocess.run(
        [*command, "--nbval-cell-timeout=240", *(f"notebooks/{name}.ipynb" for name in printed)],
        cwd=clone,
        env=os.environ | {"PYTHONPATH": str(clone)},
        capture_output=True,
        text=True,
    )
    assert "2 failed, 1 passed" in run.stdout, run.stdout + run.stderr
    assert "B is marked right; by the output it is A" in run.stdout
    assert "quoted, but not put out: 'loss: 2.3'" in run.stdout
