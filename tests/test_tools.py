"""The commands that authors and teachers run."""

import base64
import errno
import io
import socket
import subprocess
import sys
from functools import partial

import nbformat
import numpy as np
import pytest
from PIL import Image
from zmq import ZMQError

from tools import course, execute, publish, record
from tools.project import ROOT, repository


def notebook(tmp_path, *codes, tags=()):
    path = tmp_path / "09_try.ipynb"
    cells = [nbformat.v4.new_code_cell(code) for code in codes]
    cells[-1].metadata["tags"] = list(tags)
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def test_a_failing_cell_is_named(tmp_path):
    path = notebook(tmp_path, "a = 1", "1 / 0", "b = 2")
    run = execute.execute(path, tmp_path)
    line, wrong = course.report(path.stem, run)
    assert line.endswith("FAILED")
    assert wrong.startswith("cell 2: ZeroDivisionError")


def test_a_cell_that_hangs_is_named(tmp_path, monkeypatch):
    """The limit holds for the cell that hangs: a busy machine may be slow with the other one."""
    path = notebook(tmp_path, "a = 1", "import time; time.sleep(600)")
    limit = {"timeout_func": lambda cell: 1 if "sleep" in cell.source else None}
    monkeypatch.setattr(execute, "NotebookClient", partial(execute.NotebookClient, **limit))
    assert execute.execute(path, tmp_path).error.startswith("cell 2: not done")


@pytest.mark.parametrize(
    ("printed", "wrong"),
    [
        ("identical", ""),
        ("different", "the proof says 'different' instead of 'identical'"),
        (r"identical\ndifferent", "the proof says 'different' instead of 'identical'"),
        ("", "the proof says '' instead of 'identical'"),
    ],
)
def test_a_proof_must_say_identical(tmp_path, printed, wrong):
    path = notebook(tmp_path, f"print('{printed}')", tags=["verdict"])
    assert course.report(path.stem, execute.execute(path, tmp_path))[1] == wrong


def test_the_course_command_fails_with_the_lesson(monkeypatch, tmp_path, capsys):
    path = notebook(tmp_path, "raise RuntimeError('no luck')")
    monkeypatch.setattr(course, "sources", lambda: [path])
    monkeypatch.setattr(course, "notebook_of", lambda source: path)
    monkeypatch.setattr(sys, "argv", ["course"])
    assert course.main() == 1
    assert "FAILED: 09_try.ipynb, cell 1: RuntimeError: no luck" in capsys.readouterr().err


def test_without_a_loopback_network_one_line_says_so(monkeypatch, capsys):
    def unreachable(*args, **options):
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    monkeypatch.setattr(socket, "create_connection", unreachable)
    monkeypatch.setattr(sys, "argv", ["course"])
    assert course.main() == record.main() == 2
    for line in capsys.readouterr().err.splitlines():
        assert "127.0.0.1 (Network is unreachable)" in line and "ip link set lo up" in line


@pytest.mark.parametrize(
    "error", [RuntimeError("Kernel didn't respond\nin time"), ZMQError(errno.EADDRNOTAVAIL)]
)
def test_a_kernel_that_does_not_start_is_reported(monkeypatch, tmp_path, error):
    class Client(execute.NotebookClient):
        def execute(self):
            raise error

    monkeypatch.setattr(execute, "NotebookClient", Client)
    found = execute.execute(notebook(tmp_path, "a = 1"), tmp_path).error
    assert found.startswith("the kernel did not start: ") and found.isprintable()


def test_what_a_failing_cell_says_is_one_line_and_steers_no_terminal(tmp_path):
    path = notebook(tmp_path, r"raise ValueError('\x1b]0;mine\x07\nsecond line')")
    error = execute.execute(path, tmp_path).error
    assert error == r"cell 1: ValueError: \x1b]0;mine\x07"


def test_an_unknown_lesson_is_an_error(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["course", "no-such-lesson"])
    assert course.main() == 2
    assert "no-such-lesson" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["course", "a/b/c", "https://github.com/a/b", "a b/c", "a/b.git"])
def test_publish_refuses_what_is_no_repository(name):
    with pytest.raises(ValueError, match="owner/name"):
        publish.publish(name)


def test_publish_moves_everything_and_keeps_the_outputs(clone, first_on_path):
    environment = first_on_path(clone)
    command = [sys.executable, "-m", "tools.publish", "octocat/my-course"]
    done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    old = repository().removeprefix("https://github.com/")
    left = subprocess.run(["git", "grep", "-l", old], cwd=clone, capture_output=True, text=True)
    assert left.stdout == ""
    readme = (clone / "README.md").read_text("utf-8")
    assert "octocat/my-course" in readme and "https://octocat.github.io/my-course/" in readme
    assert ".github.io" not in readme.replace("octocat.github.io", "")
    for path in sorted((clone / "notebooks").glob("*.ipynb")):
        before = nbformat.read(ROOT / "notebooks" / path.name, as_version=4)
        after = nbformat.read(path, as_version=4)
        assert "git+https://github.com/octocat/my-course" in path.read_text("utf-8")
        assert [c.get("outputs") for c in after.cells] == [c.get("outputs") for c in before.cells]
    check = [sys.executable, "-m", "tools.build", "--check"]
    assert subprocess.run(check, cwd=clone, env=environment).returncode == 0


def test_photographs_are_stored_as_jpeg_and_drawings_as_they_are():
    def png(pixels):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, format="png")
        return base64.b64encode(file.getvalue()).decode()

    noise = np.random.default_rng(0).integers(0, 255, (120, 120, 3), dtype=np.uint8)
    drawing = np.zeros((120, 120, 3), dtype=np.uint8)
    drawing[20:90, 30:60] = (0, 114, 178)
    found = []
    for pixels in (noise, drawing):
        output = nbformat.v4.new_output("display_data", {"image/png": png(pixels)})
        cell = nbformat.v4.new_code_cell("", outputs=[output])
        record.with_small_pictures(nbformat.v4.new_notebook(cells=[cell]))
        ((kind, data),) = output.data.items()
        found.append(
            (kind, np.array(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")))
        )
    assert [kind for kind, _ in found] == ["image/jpeg", "image/png"]
    assert np.array_equal(found[1][1], drawing)
