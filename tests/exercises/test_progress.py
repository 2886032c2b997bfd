"""What is solved stays, in a small file that can be lost without harm."""

import json
import subprocess
import sys
import threading

import pytest

from course_utils.exercises.progress import Map, keep, progress, progress_file, questions, solved
from tools.project import ROOT


def test_it_lies_beside_the_notebooks(own_progress, monkeypatch):
    assert progress_file() == own_progress / "progress.json"
    (own_progress / "exercises").mkdir()
    monkeypatch.chdir(own_progress / "exercises")
    assert progress_file() == own_progress / "progress.json"


def test_the_worked_notebooks_do_not_count(own_progress, monkeypatch):
    (own_progress / "solutions").mkdir()
    monkeypatch.chdir(own_progress / "solutions")
    keep("01_mlp.1")
    assert list(own_progress.rglob("*.json")) == []


def test_what_is_solved_adds_up_and_may_be_deleted(own_progress):
    keep("01_mlp.1")
    keep("01_mlp.2")
    keep("01_mlp.1")
    assert solved() == {"01_mlp.1", "01_mlp.2"}
    progress_file().unlink()
    assert solved() == set()


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"[]", b"null", b'{"solved": 3}', b'{"solved": [[1]]}', b"[" * 9999],
)
def test_a_damaged_file_harms_nothing(content):
    progress_file().write_bytes(content)
    assert solved() == set()
    assert str(progress()).startswith(questions()[0].lesson)
    keep("01_mlp.3")
    assert json.loads(progress_file().read_text("utf-8")) == {"solved": ["01_mlp.3"]}


def test_a_folder_in_its_place_harms_nothing(own_progress):
    progress_file().mkdir()
    keep("01_mlp.3")
    assert solved() == set()


def test_where_nothing_can_be_written_nothing_is_kept(monkeypatch):
    def refused(*args):
        raise PermissionError("read-only")

    monkeypatch.setattr(sys.modules[keep.__module__], "write_whole", refused)
    keep("01_mlp.3")
    assert solved() == set()


def test_two_notebooks_at_once_lose_nothing(monkeypatch):
    """Another one comes between one's reading and its writing: it has to wait."""
    module, others = sys.modules[keep.__module__], []
    write = module.write_whole

    def interrupted(path, content):
        if not others:
            others.append(threading.Thread(target=keep, args=("b.1",)))
            others[0].start()
            others[0].join(0.5)  # which it only ends if nothing holds it
        write(path, content)

    monkeypatch.setattr(module, "write_whole", interrupted)
    keep("a.1")
    others[0].join(60)
    assert solved() == {"a.1", "b.1"}


def test_the_map_shows_each_lesson():
    lessons = {"01_mlp": [("01_mlp.1", "One <b>"), ("01_mlp.2", "Two")], "02_x": [("02_x.1", "A")]}
    shown = Map(lessons, frozenset({"01_mlp.2"}))
    assert str(shown).splitlines() == [
        "01_mlp  □■  1 of 2",
        "02_x    □  0 of 1",
        "1 of 3 exercises solved",
    ]
    assert "One &lt;b&gt;" in shown._repr_html_()


def test_git_never_sees_it():
    done = subprocess.run(
        ["git", "check-ignore", "notebooks/progress.json", "notebooks/.progress.json.lock"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if done.returncode == 128:
        pytest.skip("not a git checkout")
    assert len(done.stdout.split()) == 2
