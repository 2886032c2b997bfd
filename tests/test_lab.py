"""A learner's copies: made once, brought up to date, and never overwritten once edited."""

import json

import pytest

from tools import lab
from tools.project import NOTEBOOKS


@pytest.fixture
def course(tmp_path):
    """Return a small course, and the folder of a learner."""
    source = tmp_path / "notebooks"
    (source / "exercises").mkdir(parents=True)
    for name in ("00_start_here.ipynb", "01_mlp.ipynb", "exercises/01_mlp.ipynb"):
        (source / name).write_text("first version")
    return source, tmp_path / "work"


def test_the_first_time_everything_is_copied_and_said(course):
    source, work = course
    (said,) = lab.prepare(work, source)
    assert "no update will change your edits" in said
    assert (work / "exercises" / "01_mlp.ipynb").read_text() == "first version"
    assert lab.prepare(work, source) == []


def test_an_update_reaches_what_was_not_edited_and_spares_what_was(course):
    source, work = course
    lab.prepare(work, source)
    (work / "01_mlp.ipynb").write_text("my notes")
    for path in source.rglob("*.ipynb"):
        path.write_text("second version")
    (source / "02_new.ipynb").write_text("second version")
    (said,) = lab.prepare(work, source)
    assert said == "01_mlp.ipynb: yours stays; the new version is newer/01_mlp.ipynb"
    assert (work / "01_mlp.ipynb").read_text() == "my notes"
    assert (work / "newer" / "01_mlp.ipynb").read_text() == "second version"
    assert (work / "00_start_here.ipynb").read_text() == "second version"
    assert (work / "02_new.ipynb").read_text() == "second version"
    assert lab.prepare(work, source) == []
    assert (work / "01_mlp.ipynb").read_text() == "my notes"


def test_edits_survive_any_number_of_updates(course):
    source, work = course
    lab.prepare(work, source)
    (work / "01_mlp.ipynb").write_text("my notes")
    for version in ("second", "third"):
        (source / "01_mlp.ipynb").write_text(version)
        lab.prepare(work, source)
    assert (work / "01_mlp.ipynb").read_text() == "my notes"
    assert (work / "newer" / "01_mlp.ipynb").read_text() == "third"


def test_a_list_that_is_lost_costs_no_edit(course):
    source, work = course
    lab.prepare(work, source)
    (work / "01_mlp.ipynb").write_text("my notes")
    for content in ("{ broken", "[]", None):
        kept = work / lab.KEPT
        kept.unlink() if content is None else kept.write_text(content)
        lab.prepare(work, source)
        assert (work / "01_mlp.ipynb").read_text() == "my notes"


def test_what_was_removed_does_not_come_back(course):
    source, work = course
    lab.prepare(work, source)
    (work / "01_mlp.ipynb").unlink()
    (source / "01_mlp.ipynb").write_text("second version")
    assert lab.prepare(work, source) == []
    assert not (work / "01_mlp.ipynb").exists()


def test_a_folder_shows_no_sources(tmp_path):
    lab.prepare(tmp_path / "work")
    names = {path.name for path in (tmp_path / "work").iterdir()}
    assert {"00_start_here.ipynb", "exercises", "solutions", "style_script.py"} <= names
    assert "source" not in names and (NOTEBOOKS / "source").is_dir()


def test_jupyterlab_is_told_to_ask_nothing_in_an_environment_of_the_course(tmp_path):
    settings = tmp_path / "share" / "jupyter" / "lab" / "settings" / "overrides.json"
    lab.ask_nothing(tmp_path)
    assert not settings.exists()  # somebody's own Python
    (tmp_path / "pyvenv.cfg").touch()
    lab.ask_nothing(tmp_path)
    (notification,) = json.loads(settings.read_text()).values()
    assert notification["fetchNews"] == "false"
    settings.write_text("{}")
    lab.ask_nothing(tmp_path)
    assert settings.read_text() == "{}"


def test_the_lab_opens_the_first_lesson(tmp_path, monkeypatch):
    commands = []

    def run(command, check):
        commands.append(command)
        return lab.subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(lab.subprocess, "run", run)
    monkeypatch.setattr(lab.sys, "prefix", str(tmp_path))
    monkeypatch.setattr(lab.sys, "argv", ["lab", str(tmp_path / "work"), "--no-browser"])
    assert lab.main() == 0
    assert commands[0][-2:] == ["--no-browser", str(tmp_path / "work" / "00_start_here.ipynb")]


def test_a_folder_that_cannot_be_written_is_said(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setattr(lab.sys, "argv", ["lab", str(tmp_path / "file" / "work")])
    assert lab.main() == 2
    assert "make lab WORK=" in capsys.readouterr().err
