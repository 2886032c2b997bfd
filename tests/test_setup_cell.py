"""A learner's kernel without the package, as in Colab: the set-up cell has to bring it."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import nbformat
import pytest

from tools.project import NOTEBOOKS, repository

RUN = """
import json, sys
import nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
client = NotebookClient(notebook, timeout=1200, kernel_name="python3",
                        extra_arguments=["--log-level=ERROR"])
try:
    client.execute()
finally:
    for output in notebook.cells[1].outputs:  # what pip said
        print(output.get("text", ""), file=sys.stderr)
nbformat.write(notebook, sys.argv[2])
"""
ASK = (
    "import importlib.util, json; from importlib.metadata import version; "
    "spec = importlib.util.find_spec('course_utils'); "
    "print(json.dumps([spec and str(spec.origin), version('torch'), version('torchvision')]))"
)


def ask(python, folder, environment):
    done = subprocess.run(
        [python, "-c", ASK], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def folders_without_the_course():
    """Return where this Python finds packages, wherever they were put, but for the course's own.

    An editable course, or one on PYTHONPATH, is in a folder of its own, and left out with it. So
    is Python's own library: pip takes what such a list names from those who build a package.
    """
    own = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    own.add(sysconfig.get_config_var("DESTSHARED"))
    folders = dict.fromkeys(os.path.realpath(folder) for folder in sys.path)
    return [
        folder
        for folder in folders
        if os.path.isdir(folder)
        and folder not in {os.path.realpath(known) for known in own if known}
        and not os.path.exists(os.path.join(folder, "course_utils"))
    ]


def test_the_set_up_cell_brings_the_package_and_leaves_torch(clone, tmp_path):
    """An environment with torch and Jupyter, but not the package, and an empty folder."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    scripts = "Scripts" if os.name == "nt" else "bin"
    python = str(tmp_path / "venv" / scripts / "python")
    paths = {"base": str(tmp_path / "venv"), "platbase": str(tmp_path / "venv")}
    site = Path(sysconfig.get_path("purelib", vars=paths))
    borrowed = folders_without_the_course()
    if not any(os.path.exists(os.path.join(folder, "torch")) for folder in borrowed):
        pytest.skip("the course lies among other packages: install it with --editable")
    (site / "borrowed.pth").write_text("".join(f"{folder}\n" for folder in borrowed), "utf-8")
    empty = tmp_path / "empty"
    empty.mkdir()
    # PYTHONPATH is in that list, but for the course: a folder of it would hide what is installed.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    origin, *versions = ask(python, empty, environment)
    assert origin is None

    result = tmp_path / "result.ipynb"
    environment = {
        **environment,
        # git takes the course's address from the clone: the cell itself stays as it is.
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{clone.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": repository(),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "COURSE_DATA": "sample",
    }
    command = [python, "-c", RUN, str(NOTEBOOKS / "00_start_here.ipynb"), str(result)]
    done = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:9000]

    origin, *after = ask(python, empty, environment)
    assert origin and origin.startswith(str(tmp_path / "venv"))
    assert after == versions
    lines = [
        line
        for cell in nbformat.read(result, as_version=4).cells
        if "installation" in cell.metadata.get("tags", [])
        for output in cell.outputs
        for line in output.text.splitlines()
    ]
    assert lines and all(line.startswith("OK") for line in lines)
