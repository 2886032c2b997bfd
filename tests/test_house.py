"""The house stays in order: which suite may import which, and how long a module may be."""

import ast
import shutil
import subprocess
import sys

import pytest

from tools.project import ROOT

PACKAGE = ROOT / "course_utils"
# Arrows run down only: each suite, and what it may import. What lies above all of them (session,
# installation) is for lessons and the command; what lies below all (files, switches) is for all.
MAY_IMPORT = {
    "train": {"models", "views", "pictures", "digits", "session", "files", "switches", "text"},
    "exercises": {
        "parity",
        "views",
        "models",
        "pictures",
        "digits",
        "session",
        "files",
        "switches",
        "text",
    },
    "session": {"digits", "kernel", "files", "switches", "text"},
    "models": {"pictures", "digits", "files", "switches", "text"},
    "views": {"parity", "digits", "kernel", "files", "switches", "text"},
    "scale": {"files", "switches", "text"},
    "digits": {"pictures", "files", "switches", "text"},
    "pictures": {"files", "switches", "text"},
    "parity": set(),
    "preflight": {"installation", "digits", "files", "switches", "text"},
    "installation": {"files", "switches", "text"},
    "files": {"switches", "text"},
    "switches": set(),
    "kernel": set(),
    "text": set(),
    "__init__": set(),
}
LATE = {("parity", "views")}  # the drawing of a report's plot, where the course is at hand
# Where one module is the door to another suite: the doctor owns the looks, as it can be lifted out.
DOORS = {("views", "parity"): "course_utils.parity.looks"}
LONGEST = 400  # lines
BUILT, LONGEST_BUILT = PACKAGE / "exercises" / "lessons", 600  # all exercises of a lesson in one


def suite_of(module):
    parts = module.relative_to(PACKAGE).parts
    return parts[0].removesuffix(".py")


def imports_of(path):
    """Return the modules of the course that a file imports, each with whether inside a function."""
    tree = ast.parse(path.read_text("utf-8"))
    late = {inner for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
            for inner in ast.walk(node)}  # fmt: skip
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
            if node.module == "course_utils":
                names = [f"course_utils.{alias.name}" for alias in node.names]
        for name in names:
            if name.startswith("course_utils."):
                yield name, node in late


def wrong_arrows(path, suite):
    return [
        f"{path.name} imports {other}"
        for name, late in imports_of(path)
        if (other := name.split(".")[1]) != suite
        and (other not in MAY_IMPORT[suite] or DOORS.get((suite, other), name) != name)
        and not (late and (suite, other) in LATE)
    ]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.name))
def test_arrows_run_down_and_modules_are_short(path):
    assert wrong_arrows(path, suite_of(path)) == []
    longest = LONGEST_BUILT if path.parent == BUILT else LONGEST
    assert len(path.read_text("utf-8").splitlines()) <= longest


def test_an_arrow_that_runs_up_is_found(tmp_path):
    planted = tmp_path / "planted.py"
    planted.write_text("from course_utils.views import plots\nimport course_utils.train\n")
    assert wrong_arrows(planted, "digits") == [
        "planted.py imports views",
        "planted.py imports train",
    ]
    planted.write_text("def plot():\n    from course_utils.views.plots import bars\n")
    assert wrong_arrows(planted, "parity") == []
    assert wrong_arrows(planted, "digits") == ["planted.py imports views"]


def test_only_the_looks_are_taken_from_the_port_doctor(tmp_path):
    planted = tmp_path / "planted.py"
    planted.write_text("from course_utils.parity.looks import framed\n")
    assert wrong_arrows(planted, "views") == []
    planted.write_text("from course_utils.parity import compare\n")
    assert wrong_arrows(planted, "views") == ["planted.py imports parity"]


ALONE = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
from torch import nn
from doctor import compare, trace

records = []
for rate in (0.1, 0.1, 0.2):
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    with trace(model) as record:
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.ones(4, 3)).square().sum().backward()
            optimizer.step()
    records.append(record)
print(compare(*records[:2]).verdict, compare(*records[1:]).diagnosis.name)
print([name for name in sys.modules
       if name.split(".")[0] in ("course_utils", "matplotlib", "lightning", "torchvision")])
"""


def test_the_port_doctor_can_be_lifted_out(tmp_path):
    """Copied into another project under another name, it works there, and loads nothing large."""
    shutil.copytree(PACKAGE / "parity", tmp_path / "doctor")
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "identical other learning rate\n[]\n"


def test_the_face_of_each_suite_is_what_lessons_use():
    """A name that no lesson imports from a suite's face stands in its module only."""
    text = "\n".join(
        path.read_text("utf-8")
        for path in [*(ROOT / "notebooks").glob("source/**/*.py"), ROOT / "README.md"]
    )
    for face in sorted(PACKAGE.glob("*/__init__.py")):
        tree = ast.parse(face.read_text("utf-8"))
        names = [n for node in tree.body if isinstance(node, ast.Assign)
                 for n in ast.literal_eval(node.value)]  # fmt: skip
        if face.parent.name == "parity":  # a tool in its own right, for others' projects too
            continue
        assert [name for name in names if name not in text] == [], face
