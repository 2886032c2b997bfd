"""Exercises given out and graded by nbgrader itself: what is right gets points, nothing else."""

import copy
import csv
import os
import subprocess
import sys
from types import SimpleNamespace

import nbformat
import pytest

import tools.classroom
from tools.build import build_classroom, build_stub
from tools.classroom import Grade, table, unready
from tools.marks import BEGIN, worked
from tools.project import ROOT, exercise_sources

LESSON = "01_mlp"
# A Python that has nbgrader: it changes JupyterLab's menus, so it lives beside the course's own.
PYTHON = os.environ.get("COURSE_CLASSROOM") or sys.executable
RAISES = "raise RuntimeError('not mine')"


def classroom(*command, python=PYTHON):
    environment = {**os.environ, "COURSE_DATA": "sample", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [python, "-m", "tools.classroom", *map(str, command)],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1800,
    )  # fmt: skip


def with_nbgrader():
    probe = [PYTHON, "-c", "import nbgrader"]
    if subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("nbgrader is not installed: `make test` brings it, or set COURSE_CLASSROOM")


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """Release lesson 1, have three learners hand it in, and grade them."""
    with_nbgrader()
    folder = tmp_path_factory.mktemp("room")
    into, handed_in = folder / "classroom", folder / "handed in"
    released = classroom("release", "mlp", "--into", into)
    assert released.returncode == 0, released.stderr
    given = nbformat.read(into / "release" / LESSON / f"{LESSON}.ipynb", as_version=4)
    source = nbformat.read(into / "source" / LESSON / f"{LESSON}.ipynb", as_version=4)
    right = {name(c): worked(c.source) for c in source.cells if name(c).endswith("answer")}
    submit(handed_in / "ada" / f"{LESSON}.ipynb", given, right)
    half = {key: right[key] for key in ("q1-answer", "q2-answer")}
    half["q3-answer"] = right["q3-answer"].replace('"che"', '"ch"').replace('"jfai"', '"jfaie"')
    half["q4-check"] = "1.0"  # a check's cell is the teacher's, whatever a learner makes of it
    submit(handed_in / "bob" / LESSON / f"{LESSON}.ipynb", given, half)
    (handed_in / "bob" / LESSON / "progress.json").write_text('{"solved": ["01_mlp.4"]}')
    taken = f"{right['q2-answer']}\n\nq2 = None"  # a learner's own use of the name
    submit(handed_in / "eve" / f"{LESSON}.ipynb", given, {"q1-answer": RAISES, "q2-answer": taken})
    (handed_in / "kim").mkdir()
    (handed_in / "kim" / f"{LESSON}.ipynb").write_text("<html>not a notebook</html>")
    before = {path: path.read_bytes() for path in handed_in.rglob("*") if path.is_file()}
    graded = classroom("grade", handed_in, "--into", into)
    after = {path: path.read_bytes() for path in handed_in.rglob("*") if path.is_file()}
    return SimpleNamespace(
        into=into, given=given, source=source, graded=graded, untouched=before == after
    )


def name(cell):
    return cell.metadata.get("nbgrader", {}).get("grade_id", "")


def submit(path, given, answers):
    path.parent.mkdir(parents=True)
    notebook = copy.deepcopy(given)
    for cell in notebook.cells:
        cell.source = answers.get(name(cell), cell.source)
    nbformat.write(notebook, path)


def test_what_is_right_gets_points_and_nothing_else_does(room):
    with (room.into / "grades.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    points = {
        who: "".join(row["points"] for row in rows if row["learner"] == who)
        for who in ("ada", "bob", "eve")
    }
    assert points == {"ada": "11111", "bob": "11000", "eve": "01000"}, room.graded.stderr
    lines = room.graded.stdout.splitlines()
    assert any("ada" in line and "5 of 5" in line for line in lines)
    assert any("bob" in line and "2 of 5" in line and "q3 0" in line for line in lines)


def test_a_file_that_is_no_notebook_is_named_and_stops_nobody_else(room):
    assert room.graded.returncode == 1
    (line,) = (line for line in room.graded.stdout.splitlines() if line.startswith("kim"))
    assert "NOT GRADED: this is no notebook" in line


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("from course_utils.exercises.lessons.lesson_01 import q1", "ModuleNotFoundError: no it"),
        ("import mine", ""),
    ],
)
def test_where_the_course_cannot_be_imported_nobody_simply_gets_no_points(source, told, tmp_path):
    error = nbformat.v4.new_output("error", ename="ModuleNotFoundError", evalue="no it")
    cell = nbformat.v4.new_code_cell(source, outputs=[error])
    path = tmp_path / "graded.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    found = unready(path)
    assert found.endswith(told) and bool(found) == bool(told)


def test_the_teacher_reads_why_an_answer_got_no_point(room):
    graded = nbformat.read(
        room.into / "autograded" / "bob" / LESSON / f"{LESSON}.ipynb", as_version=4
    )
    (check,) = (cell for cell in graded.cells if name(cell) == "q3-check")
    said = "".join(output.get("data", {}).get("text/plain", "") for output in check.outputs)
    assert "Not yet." in said and "Look again" in said
    assert not (room.into / "submitted" / "bob" / LESSON / "progress.json").exists()


def test_grading_changes_nothing_that_was_handed_in(room):
    assert room.untouched


def test_nbgrader_makes_the_stubs_that_the_course_has(room):
    """The learner's version has no answer and no hidden line, and the gaps of the exercises."""
    text = nbformat.writes(room.given)
    assert BEGIN not in text and "HIDDEN" not in text and "assert outcome" not in text
    ours = build_stub(next(s for s in exercise_sources() if s.stem == LESSON))
    for cell, known in zip(answers(room.given), answers(ours), strict=True):
        assert lines(cell) == lines(known)
    assert "HIDDEN" in nbformat.writes(room.source) and BEGIN in nbformat.writes(room.source)


def answers(notebook):
    return [cell for cell in notebook.cells if "answer" in name(cell)]


def lines(cell):
    return [line for line in cell.source.splitlines() if line.strip()]


@pytest.mark.parametrize("source", exercise_sources(), ids=lambda source: source.stem)
def test_every_lesson_can_be_released(source):
    notebook = build_classroom(source)
    nbformat.validate(notebook)
    ids = [name(cell) for cell in notebook.cells if name(cell)]
    assert len(set(ids)) == len(ids)
    checks = [cell for cell in notebook.cells if name(cell).endswith("-check")]
    assert len(checks) >= 4
    for cell in checks:
        assert cell.metadata.nbgrader.points == 1 and cell.metadata.nbgrader.locked
        shown, hidden = cell.source.split("display(outcome)")
        assert ".check(" in shown and "assert outcome.kind == 'right'" in hidden
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert "](../" not in text and "{{" not in text and "colab" not in text


def test_without_nbgrader_one_line_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tools.classroom, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["classroom", "release", "--into", str(tmp_path)])
    assert tools.classroom.main() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "make classroom" in line and not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("release", "nothing-like-it"), "nothing-like-it"),
        (("grade", "no such folder"), "is no folder"),
        (("grade", "."), "run `make classroom` first"),
    ],
)
def test_a_wrong_call_is_one_line(command, said, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tools.classroom, "find_spec", lambda name: name)
    monkeypatch.setattr(sys, "argv", ["classroom", *command, "--into", str(tmp_path)])
    assert tools.classroom.main() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_the_table_has_a_line_for_each_notebook():
    grades = [
        Grade("ada", "01_mlp", {"q1": 1.0, "q2": 0.0}, 2.0),
        Grade("bo", "02_autoencoder", {}, 4.0, "this is no notebook"),
    ]
    assert table(grades).splitlines()[1:] == [
        "ada      01_mlp            1 of 2  q1 1  q2 0",
        "bo       02_autoencoder    0 of 4  NOT GRADED: this is no notebook",
    ]
