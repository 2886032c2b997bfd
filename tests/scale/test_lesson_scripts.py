"""The scripts that lesson 6 teaches end in order, and leave nothing outside of `runs/`."""

import re
import sys

import jupytext
import pytest
import torch

from course_utils.scale.launch import launch
from tools.project import ROOT

CELLS = [
    cell.source
    for cell in jupytext.read(ROOT / "notebooks" / "source" / "06_scale_out.py").cells
    if cell.cell_type == "code"
]
WRITES = re.compile(r"%%writefile (-a )?{folder}/(\w+)\.py\n(.*)", re.DOTALL)
# What makes the long ones short: one round of measuring, one checkpoint. All else is as taught.
SHORTER = {"speed": ("512), 11", "512), 1"), "long": ("max_epochs=2000", "max_epochs=4")}
# Python runs it before a script; its line is written after all else that the script does.
COUNTS = """
import atexit, os, pathlib, psutil
if "RANK" in os.environ:
    report = pathlib.Path(__file__).with_name("threads-" + os.environ["RANK"])
    atexit.register(lambda: report.write_text(str(psutil.Process().num_threads())))
"""


def scripts():
    """Return the scripts of the lesson by name, put together from its cells."""
    found = {}
    for cell in CELLS:
        if written := WRITES.match(cell):
            added, name, text = written.groups()
            found[name] = (found[name] if added else "") + text + "\n"
    for name, (taught, shorter) in SHORTER.items():
        assert found[name].count(taught) == 1
        found[name] = found[name].replace(taught, shorter)
    return found


SCRIPTS = scripts()


@pytest.fixture
def threads_of(tmp_path, monkeypatch):
    """Return a function that runs a script as the lesson does, and counts its threads at the end.

    A thread of the process group that is still there may want Python when Python has gone: then
    the worker aborts, but only now and then. The thread is there every time.
    """
    site, work = tmp_path / "site", tmp_path / "work"
    site.mkdir()
    (work / "runs" / "scale").mkdir(parents=True)
    (site / "sitecustomize.py").write_text(COUNTS)
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # a driver has threads of its own
    monkeypatch.chdir(work)
    torch.manual_seed(0)
    digits = torch.rand(256, 1, 28, 28), torch.arange(256) % 10
    torch.save(digits, "runs/scale/digits.pt")

    def run(script, workers):
        (work / "runs" / "scale" / "script.py").write_text(script)
        with launch("runs/scale/script.py", workers=workers) as run:
            run.check(timeout=600)
        return [int((site / f"threads-{rank}").read_text()) for rank in range(workers)]

    return run


only_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="other systems may keep threads of their own in a process"
)


def test_all_scripts_are_found():
    assert set(SCRIPTS) == {"raw_ddp", "lit_ddp", "speed", "memory", "long"}


@only_linux
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_ends_without_a_thread_and_writes_below_runs(name, threads_of, tmp_path):
    workers = 1 if name == "memory" else 2
    assert f'(folder / "{name}.py", workers={workers}' in "\n".join(CELLS)
    assert threads_of(SCRIPTS[name], workers) == [1] * workers
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["runs"]


@only_linux
def test_a_worker_that_holds_its_group_is_found(threads_of):
    end = "del parallel\n"
    assert SCRIPTS["raw_ddp"].count(end) == 1
    assert threads_of(SCRIPTS["raw_ddp"].replace(end, ""), 1)[0] > 1


def test_trainers_of_the_notebook_itself_write_no_checkpoints_beside_runs():
    """Those of its scripts have run above; its own take `quiet`, or say where they write."""
    for cell in CELLS:
        for arguments in re.findall(r"L\.Trainer\(([^\n]*)\)\n", cell):
            place = re.search(r"\*\*(quiet|root)\b|enable_checkpointing=False|\[keep\]", arguments)
            assert place, arguments
