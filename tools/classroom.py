"""Give the exercises out by nbgrader, and grade what comes back, from the command line.

`python -m tools.classroom release [NAME ...]` makes a folder of nbgrader's form: `source` has the
instructor's notebooks, `release` what learners get. `python -m tools.classroom grade FOLDER` grades
the submissions in a folder and prints a table of points. Neither needs a network.
"""

import argparse
import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import nbformat

from course_utils.files import write_whole
from course_utils.text import printable
from tools.build import build_classroom, write
from tools.execute import NoLoopbackError, check_loopback
from tools.project import ROOT, exercise_sources

CONFIG = '''\
"""How nbgrader handles these exercises; it reads this file in the folder where it is started."""

c = get_config()  # noqa: F821 - nbgrader's
c.CourseDirectory.course_id = "loops-to-lightning"
# A gap in the source stays, and is all that a learner sees of an answer.
c.ClearSolutions.code_stub = {"python": ""}
c.ClearSolutions.enforce_metadata = True
# A check stops by itself after 20 seconds; this is for cells that are not checks.
c.Execute.timeout = 120
# What a notebook leaves behind is not part of a submission, a learner's progress least of all.
c.CourseDirectory.ignore = [
    ".ipynb_checkpoints", "*.pyc", "__pycache__", "progress.json", ".progress.json.lock", "runs",
]
'''


class ClassroomError(RuntimeError):
    """Exercises could not be released or graded; the message says what to do."""


@dataclass(frozen=True)
class Grade:
    """The points of one learner's notebook: by exercise, and what went wrong with it, if any."""

    learner: str
    assignment: str
    points: dict[str, float]
    possible: float
    problem: str = ""


def release(names: list[str], into: Path) -> list[Path]:
    """Make the learners' notebooks of the lessons whose name contains one of `names`, or of all.

    Returns where they lie. Raises ClassroomError where there is nothing to release.
    """
    sources = [s for s in exercise_sources() if not names or any(n in s.stem for n in names)]
    if not sources:
        raise ClassroomError(f"No lesson with exercises has a name with {' or '.join(names)}.")
    write_whole(into / "nbgrader_config.py", CONFIG.encode())
    for source in sources:
        write(build_classroom(source), into / "source" / source.stem / f"{source.stem}.ipynb")
        done = _nbgrader(into, "generate_assignment", source.stem, "--force")
        if done.returncode:
            raise ClassroomError(f"{source.stem} could not be released:\n{_last(done)}")
    return [into / "release" / source.stem / f"{source.stem}.ipynb" for source in sources]


def grade(submissions: Path, into: Path) -> list[Grade]:
    """Grade every notebook in a folder of submissions, by learner and exercise.

    A notebook counts by its name, as it was released, anywhere below the folder of its learner:
    `ada/01_mlp.ipynb` or `ada/01_mlp/01_mlp.ipynb`. Raises ClassroomError where nothing can be
    graded; what is wrong with one notebook is in its grade.
    """
    released = sorted(path.stem for path in into.glob("release/*/*.ipynb"))
    if not released:
        raise ClassroomError(f"{into} holds nothing released: run `make classroom` first.")
    found = list(_submitted(submissions, released))
    if not found:
        raise ClassroomError(
            f"{submissions} holds no submission: each learner has a folder in it, with notebooks "
            f"named as they were released ({', '.join(released)})."
        )
    return [_grade(learner, path, into) for learner, path in found]


def _submitted(folder: Path, released: list[str]) -> Iterator[tuple[str, Path]]:
    for own in sorted(path for path in folder.glob("[!.]*") if path.is_dir()):
        for name in released:
            inside = (own / f"{name}.ipynb", *sorted(own.rglob(f"*/{name}.ipynb")))
            if found := [p for p in inside if p.is_file() and ".ipynb_checkpoints" not in p.parts]:
                yield own.name, found[0]


def _grade(learner: str, path: Path, into: Path) -> Grade:
    name = path.stem
    place = into / "submitted" / learner / name
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    shutil.copyfile(path, place / path.name)
    try:
        json.loads(path.read_text("utf-8"))["cells"]
    except (ValueError, LookupError, TypeError):
        return Grade(learner, name, {}, _possible(into, name), "this is no notebook")
    done = _nbgrader(into, "autograde", name, f"--student={learner}", "--force")
    if done.returncode:
        problem = f"nbgrader could not grade it: {_last(done)}"
    else:
        problem = unready(into / "autograded" / learner / name / path.name)
    points = {} if problem else _points(into, name, learner)
    return Grade(learner, name, points, _possible(into, name), problem)


def unready(path: Path) -> str:
    """Return why none of a graded notebook's checks could say a thing, or nothing if they could.

    Where the course cannot be imported all would get no points, which is no fault of a learner's.
    """
    for cell in nbformat.read(path, as_version=4).cells:
        errors = [output for output in cell.get("outputs", []) if output.output_type == "error"]
        if errors and "course_utils.exercises" in cell.source and "nbgrader" not in cell.metadata:
            said = printable(f"{errors[0].ename}: {errors[0].evalue}")
            return f"the cell that imports the course's checks fails: {said}"
    return ""


def _points(into: Path, name: str, learner: str) -> dict[str, float]:
    """Return the points by exercise, as nbgrader's gradebook has them."""
    with _gradebook(into) as book:
        notebook = book.find_submission_notebook(name, name, learner)
        grades = {grade.name.partition("-")[0]: grade.auto_score or 0 for grade in notebook.grades}
    return dict(sorted(grades.items()))


def _possible(into: Path, name: str) -> float:
    with _gradebook(into) as book:
        return book.find_notebook(name, name).max_score


def _gradebook(into: Path):
    from nbgrader.api import Gradebook

    return Gradebook(f"sqlite:///{(into / 'gradebook.db').resolve()}")


def _nbgrader(into: Path, *command: str) -> subprocess.CompletedProcess:
    # The sample, unless told otherwise: what is graded must not depend on a download. And nbgrader
    # calls a program by its name that lies beside Python.
    environment = {"COURSE_DATA": "sample", **os.environ}
    beside = str(Path(sys.executable).parent)
    environment["PATH"] = os.pathsep.join([beside, environment.get("PATH", os.defpath)])
    # The checks are this course's, wherever the notebooks lie.
    folders = [str(ROOT), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, folders))
    return subprocess.run(
        [sys.executable, "-m", "nbgrader", *command],
        cwd=into,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def _last(done: subprocess.CompletedProcess) -> str:
    """Return the line that says most of what nbgrader said: the last exception's."""
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    told = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Entry)\b", line)]
    return printable((told or lines or ["it said nothing"])[-1])


def table(grades: list[Grade]) -> str:
    """Return the points as text: a line for each learner and notebook."""
    width = max(len("learner"), *(len(grade.learner) for grade in grades))
    longest = max(len("notebook"), *(len(grade.assignment) for grade in grades))
    lines = [f"{'learner':<{width}}  {'notebook':<{longest}}  {'points':>8}  by exercise"]
    for grade in grades:
        told = "  ".join(f"{name} {points:g}" for name, points in grade.points.items())
        points = f"{sum(grade.points.values()):g} of {grade.possible:g}"
        told = f"NOT GRADED: {grade.problem}" if grade.problem else told
        head = f"{grade.learner:<{width}}  {grade.assignment:<{longest}}"
        lines.append(f"{head}  {points:>8}  {told}")
    return "\n".join(lines)


def write_csv(grades: list[Grade], path: Path) -> None:
    """Write the points as a table for a spreadsheet: a row for each learner and exercise."""
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["learner", "notebook", "exercise", "points"])
        for grade in grades:
            for exercise, points in grade.points.items():
                rows.writerow([grade.learner, grade.assignment, exercise, f"{points:g}"])


def _release(wanted: argparse.Namespace) -> int:
    paths = release(wanted.names, wanted.into)
    print(f"For learners:   {', '.join(path.stem for path in paths)} in {wanted.into / 'release'}")
    print(f"For you:        the same with answers, in {wanted.into / 'source'}")
    print(
        "Then grade:     make classroom SUBMISSIONS=a/folder, with a folder in it for each learner"
    )
    return 0


def _grade_all(wanted: argparse.Namespace) -> int:
    check_loopback()
    if not wanted.submissions.is_dir():
        raise ClassroomError(f"{wanted.submissions} is no folder.")
    grades = grade(wanted.submissions, wanted.into)
    write_csv(grades, wanted.into / "grades.csv")
    print(table(grades))
    print(
        f"The same in {wanted.into / 'grades.csv'}; each notebook as it ran, with what its checks"
    )
    print(f"said, in {wanted.into / 'autograded'}.")
    return 1 if any(grade.problem for grade in grades) else 0


def main() -> int:
    """Release or grade, or say what is wrong."""
    parser = argparse.ArgumentParser(description="Exercises in a classroom, by nbgrader.")
    commands = parser.add_subparsers(required=True)
    out = commands.add_parser("release", help="make the learners' notebooks")
    out.add_argument("names", nargs="*", help="only lessons whose name contains one of these")
    out.set_defaults(run=_release)
    back = commands.add_parser("grade", help="grade a folder of submissions")
    back.add_argument("submissions", type=Path, help="a folder with a folder for each learner")
    back.set_defaults(run=_grade_all)
    for command in (out, back):
        command.add_argument(
            "--into", type=Path, default=Path("classroom"), help="nbgrader's folder"
        )
    wanted = parser.parse_args()
    if find_spec("nbgrader") is None:
        print(
            "nbgrader is missing: use `make classroom`, or "
            'pip install "loops-to-lightning[classroom]"',
            file=sys.stderr,
        )
        return 2
    try:
        return wanted.run(wanted)
    except (ClassroomError, NoLoopbackError) as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
