"""What is built from a source of exercises: stub, worked notebook, grader."""

import nbformat
import pytest

from tools import build
from tools.exercises import SourceError, grader, solution_cells, stub_cells
from tools.marks import BEGIN, END, MarkError, has_answer, stub, worked
from tools.project import exercise_sources, repository, solution_of, sources, stub_of

FUNCTION = f"""\
def answer(x):
    ...  # your lines
    {BEGIN}
    return x + 1
    {END}


other = ...
{BEGIN}
other = 3
{END}
"""


def test_a_stub_keeps_the_gaps_and_the_worked_cell_the_answer():
    assert stub(FUNCTION) == "def answer(x):\n    ...  # your lines\n\n\nother = ..."
    assert worked(FUNCTION) == "def answer(x):\n    return x + 1\n\n\nother = 3"


@pytest.mark.parametrize(
    "gap", ["...", "a = ...", "return ...", "a, b = ...  # two", 'd = {"a": ..., "b": ...}']
)
def test_what_is_a_gap_and_leaves_the_worked_cell(gap):
    code = f"def f():\n    {gap}\n    {BEGIN}\n    return 1\n    {END}"
    assert worked(code) == "def f():\n    return 1"
    assert gap in stub(code)


@pytest.mark.parametrize("line", ["a = 1", "# ...", "f(...)", "a = x[...]"])
def test_what_is_no_gap_stays(line):
    assert line in worked(f"{line}\n{BEGIN}\nb = 1\n{END}")


@pytest.mark.parametrize(
    "code", [BEGIN, END, f"{BEGIN}\n{BEGIN}\n{END}", f"def f():\n    {BEGIN}\n    pass\n    {END}"]
)
def test_marks_that_make_no_stub_are_an_error(code):
    with pytest.raises(MarkError):
        stub(code)


@pytest.mark.parametrize("source", exercise_sources(), ids=lambda source: source.stem)
def test_nbgraders_own_preprocessor_makes_the_same_stub(source):
    preprocessors = pytest.importorskip("nbgrader.preprocessors")
    clear = preprocessors.ClearSolutions(code_stub={"python": ""}, enforce_metadata=False)
    for cell in solution_source_cells(source):
        ours = stub(cell.source).split("\n")
        theirs, _ = clear.preprocess_cell(cell, {"language": "python"}, 0)
        lines = [line for line in theirs.source.split("\n") if line.strip()]
        assert lines == [line for line in ours if line.strip()]


def solution_source_cells(source):
    from tools.exercises import read

    return [cell for cell in read(source) if has_answer(cell.source)]


@pytest.mark.parametrize("source", exercise_sources(), ids=lambda source: source.stem)
def test_stubs_show_no_solution_and_no_output(source):
    notebook = nbformat.read(stub_of(source), as_version=4)
    text = nbformat.writes(notebook)
    assert BEGIN not in text and "Question(" not in text and "### END" not in text
    for cell in notebook.cells:
        assert cell.get("outputs", []) == [] and cell.get("execution_count") is None
    kinds = [c.metadata.nbgrader for c in notebook.cells if "nbgrader" in c.metadata]
    ids = [kind.grade_id for kind in kinds]
    assert len(set(ids)) == len(ids)
    assert {"q1-answer", "q1-check", "q2-check"} <= set(ids)
    assert all(kind.solution != kind.grade for kind in kinds)


@pytest.mark.parametrize("source", exercise_sources(), ids=lambda source: source.stem)
def test_both_notebooks_have_badge_set_up_and_a_way_back(source):
    address = repository().removeprefix("https://github.com/")
    for path in (stub_of(source), solution_of(source)):
        notebook = nbformat.read(path, as_version=4)
        first = notebook.cells[0].source
        badge = f"github/{address}/blob/main/notebooks/{path.parent.name}/{path.name}"
        assert badge in first and f"(../{source.stem}.ipynb)" in first
        assert f"git+{repository()}" in notebook.cells[1].source


HEAD = "# %% [markdown]\n# # T\n\n# %% tags=['grader']\n"
GRADED = '# %% tags=["grader"]\nimport torch\n\n\n# %% tags=["grader"]\nq1 = Question(1)\n\n'
ANSWER = f"# %%\na = ...\n{BEGIN}\na = 1\n{END}\n\n# %%\nq1.check(a)\n# q1.hint()\n"


def write(tmp_path, text):
    source = tmp_path / "09_x.py"
    source.write_text(text, "utf-8")
    return source


@pytest.mark.parametrize("lesson", sources(), ids=lambda source: source.stem)
def test_the_first_line_of_a_grader_is_short_enough_for_any_lesson(lesson, tmp_path):
    source = tmp_path / lesson.name
    source.write_text(GRADED + ANSWER, "utf-8")
    first = grader(source).splitlines()[0]
    assert lesson.name in first and len(first) <= 100


def test_each_cell_goes_where_its_tag_says(tmp_path):
    given = '# %% tags=["given"]\ndef loop():\n    return 1\n\n\n'
    learner = '# %% tags=["learner"]\nprogress()\n'
    source = write(tmp_path, GRADED + given + ANSWER + learner)
    stubs, answers = ([c.source for c in f(source)] for f in (stub_cells, solution_cells))
    assert [text.split("\n")[0] for text in stubs] == [
        "def loop():", "a = ...", "q1.check(a)", "progress()"]  # fmt: skip
    assert answers == [
        "def loop():\n    return 1", "a = 1", "# NBVAL_CHECK_OUTPUT\nq1.check(a)"]  # fmt: skip
    module = grader(source)
    assert "def loop" in module and "q1.answer" in module and "QUESTIONS = [q1]" in module


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GRADED, "Each question, from 1 on, has both"),
        (GRADED.replace("q1 =", "import os\nq1 ="), "imports of graders"),
        (GRADED + ANSWER.replace(END, ""), "missing"),
        (GRADED + ANSWER.replace("a = 1", 'a = """x"""'), "three double quotes"),
    ],
)
def test_a_source_of_another_form_is_told_why(tmp_path, text, said):
    with pytest.raises(SourceError, match=said):
        grader(write(tmp_path, text))


def test_what_was_changed_by_hand_is_found(tmp_path, monkeypatch):
    for name in ("grader_of", "stub_of"):
        path = getattr(build, name)(exercise_sources()[0])
        before = path.read_text("utf-8")
        copy = tmp_path / path.name
        copy.write_text(before.replace("MLP", "MPL"), "utf-8")
        reads = build._reads(copy, before) if path.suffix == ".py" else build._same(
            build.build_stub(exercise_sources()[0]), copy)  # fmt: skip
        assert not reads
