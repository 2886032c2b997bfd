"""Where nothing can be written, a lesson says so in one line."""

import errno
import os
import tempfile
from pathlib import Path

import pytest

from course_utils.scale.folder import FolderError, writable_folder


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_only(self, *_, **__):
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))


def test_a_folder_is_made_and_left_empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert writable_folder("runs/scale") == Path("runs/scale")
    assert list((tmp_path / "runs").rglob("*")) == [tmp_path / "runs" / "scale"]


@pytest.mark.parametrize(
    ("owner", "name", "fault", "reason"),
    [
        (Path, "mkdir", read_only, "Read-only file system"),
        (tempfile, "TemporaryFile", full, "No space left"),
    ],
)
def test_what_cannot_be_written_is_said_in_one_line(
    tmp_path, monkeypatch, owner, name, fault, reason
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(owner, name, fault)
    with pytest.raises(FolderError, match=f"^.*runs.scale.*{reason}.*copy the notebook.*$"):
        writable_folder("runs/scale")


def test_a_file_in_its_place_is_said_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").touch()
    with pytest.raises(FolderError, match="copy the notebook"):
        writable_folder("runs/scale")
