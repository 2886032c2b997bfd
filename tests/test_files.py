"""Where lessons write, and what they say where they cannot."""

import errno
import os
import tempfile
from pathlib import Path

import pytest

from course_utils.files import RunsError, runs_folder

pytestmark = pytest.mark.usefixtures("fresh")


@pytest.fixture(autouse=True)
def no_switch(monkeypatch):
    monkeypatch.delenv("COURSE_RUNS", raising=False)


def test_runs_go_beside_the_notebook_and_print_no_path_of_this_machine():
    assert runs_folder("mlp") == Path("runs", "mlp")
    assert runs_folder() == Path("runs")
    assert Path("runs", "mlp").is_dir()
    assert list(Path("runs", "mlp").iterdir()) == []


def test_a_variable_moves_them(fresh, monkeypatch):
    monkeypatch.setenv("COURSE_RUNS", str(fresh / "elsewhere"))
    assert runs_folder("mlp") == fresh / "elsewhere" / "mlp"
    assert (fresh / "elsewhere" / "mlp").is_dir() and not Path("runs").exists()
    monkeypatch.setenv("COURSE_RUNS", "~/mine")
    assert runs_folder("mlp") == fresh / "home" / "mine" / "mlp"


def refusal(name="mlp"):
    with pytest.raises(RunsError) as caught:
        runs_folder(name)
    message = str(caught.value)
    assert "COURSE_RUNS" in message and message.isprintable()
    return message


def test_a_folder_that_cannot_be_made_is_one_clear_line():
    Path("runs").write_text("in the way")
    assert "cannot go to runs" in refusal("")
    assert f"cannot go to {Path('runs', 'mlp')} (" in refusal()


@pytest.mark.parametrize("name", ["n" * 300, "n" * 5000, "red\x1b[31m\nline/" + "n" * 300])
def test_a_name_that_no_system_takes_is_one_clear_line(monkeypatch, name):
    monkeypatch.setenv("COURSE_RUNS", name)
    assert len(refusal()) < 600


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_folder_that_is_there_but_takes_no_file_is_one_clear_line(monkeypatch, number):
    def refuse(**options):
        raise OSError(number, os.strerror(number))

    Path("runs", "mlp").mkdir(parents=True)
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    assert os.strerror(number) in refusal()
