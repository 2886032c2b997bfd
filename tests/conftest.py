"""What several test files share."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
import torch

from course_utils.digits import mnist
from tools.project import ROOT


@pytest.fixture(autouse=True)
def one_thread():
    """Keep torch to one thread: the tests are many and small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def fresh(tmp_path, monkeypatch) -> Path:
    """Give the test a computer of its own: empty home, cache, temp and working folder."""
    for name in ("COURSE_DATA", "COURSE_DATA_DIR", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name in ("home", "cache", "temp", "work/notebooks"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temp"))
    monkeypatch.chdir(tmp_path / "work" / "notebooks")
    mnist._decide.cache_clear()
    yield tmp_path
    mnist._decide.cache_clear()


@pytest.fixture
def first_on_path():
    """Return a function: the environment in which Python looks into a folder first.

    What PYTHONPATH names already stays: some machines have torch itself there.
    """

    def environment(folder: Path) -> dict[str, str]:
        folders = [str(folder), os.environ.get("PYTHONPATH", "")]
        return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, folders))}

    return environment


@pytest.fixture
def clone(tmp_path) -> Path:
    """Return a copy of the working tree, as a git repository of its own."""
    target = tmp_path / "clone"
    listed = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "copy"]):
        subprocess.run([*git, *command], cwd=target, check=True)
    return target
