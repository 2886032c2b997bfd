"""A learner's kernel without the package, as in Colab: the set-up cell has to bring it."""

import json
import os
import subprocess
import sys
import sysconfig

import nbformat

from tools.project import NOTEBOOKS, repository

RUN = """
import json, sys
import nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
client = NotebookClient(notebook, timeout=240, kernel_name="python3",
                        extra_arguments=["--log-level=ERROR"])
client.execute()
nbformat.write(notebook, sys.argv[2])
"""
ASK = (
    "import importlib.util, json; from importlib.metadata import version; "
    "spec = importlib.util.find_spec('course_utils'); "
    "print(json.dumps([spec and str(spec.origin), version('torch'), version('torchvision')]))"
)


def ask(python, folder):
    done = subprocess.run(
        [python, "-c", ASK], cwd=folder, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_the_set_up_cell_brings_the_package_and_leaves_torch(clone, tmp_path):
    """An environment with torch and Jupyter, but not the package, and an empty folder."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    scripts = "Scripts" if os.name == "nt" else "bin"
    python = str(tmp_path / "venv" / scripts / "python")
    paths = {"base": str(tmp_path / "venv"), "platbase": str(tmp_path / "venv")}
    site = sysconfig.get_path("purelib", vars=paths)
    # Packages of this environment, without its .pth files: so without the editable course.
    with open(os.path.join(site, "borrowed.pth"), "w", encoding="utf-8") as file:
        file.write(sysconfig.get_path("purelib") + "\n")
    empty = tmp_path / "empty"
    empty.mkdir()
    origin, *versions = ask(python, empty)
    assert origin is None

    result = tmp_path / "result.ipynb"
    environment = {
        **os.environ,
        # git takes the course's address from the clone: the cell itself stays as it is.
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{clone.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": repository(),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "COURSE_DATA": "sample",
    }
    environment.pop("PYTHONPATH", None)
    command = [python, "-c", RUN, str(NOTEBOOKS / "00_start_here.ipynb"), str(result)]
    done = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]

    origin, *after = ask(python, empty)
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
