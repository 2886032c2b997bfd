"""Worker processes: what they print comes back, and none of them stays behind."""

import importlib
import inspect
import re
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from course_utils.scale.launch import Launch, LaunchError, launch, torchrun
from tools.project import ROOT

launching = importlib.import_module("course_utils.scale.launch")  # the module of that name

# How long an event may take. It is there at once, but for a machine that is slow or busy.
PATIENCE = 300

SLEEPING = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
print("worker", child.pid, flush=True)
time.sleep(1000)
"""

STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("worker", os.getpid(), flush=True)
time.sleep(1000)
"""

FAILING = """
import os, pathlib, sys, time

rank, here = os.environ["RANK"], pathlib.Path(__file__).parent
assert os.environ["OMP_NUM_THREADS"] == "1"
print(f"rank {rank} of {os.environ['WORLD_SIZE']} {sys.argv[1:]}")
(here / rank).touch()
if rank == "1":
    while not (here / "0").exists():
        time.sleep(0.05)
    raise ArithmeticError("worker one fails")
time.sleep(1000)
"""


def started(program):
    return Launch([sys.executable, "-c", program])


def wait_until(happened):
    end = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def is_gone(process):
    """Tell whether a process has ended; one that nobody has asked about is a zombie until then."""
    with suppress(psutil.NoSuchProcess):
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    return True


def worker_of(run):
    wait_until(lambda: run.lines)
    return psutil.Process(int(run.lines[0].split()[1]))


def test_lines_and_exit_code_come_back(capsys):
    with started("print('one'); print('two'); raise SystemExit(3)") as run:
        assert run.wait(PATIENCE, show=True) == 3
    assert run.lines == ["one", "two"]
    assert capsys.readouterr().out == "one\ntwo\n"


def test_nothing_stays_behind_when_time_is_up():
    with started(SLEEPING) as run:
        worker = worker_of(run)
        with pytest.raises(LaunchError, match=r"stopped after 0.2 s.*\nworker"):
            run.wait(0.2)
        wait_until(lambda: is_gone(worker))


def test_nothing_stays_behind_after_an_interrupt():
    with pytest.raises(KeyboardInterrupt), started(SLEEPING) as run:
        worker = worker_of(run)
        raise KeyboardInterrupt
    wait_until(lambda: is_gone(worker))


def test_who_ignores_a_polite_end_is_killed(monkeypatch):
    monkeypatch.setattr(launching, "GRACE", 0.3)
    with started(STUBBORN) as run:
        worker = worker_of(run)
        with pytest.raises(LaunchError):
            run.wait(0.1)
        wait_until(lambda: is_gone(worker))


def test_orphans_of_a_killed_launcher_are_stopped():
    with started(SLEEPING) as run:
        worker = worker_of(run)
        run._children()  # as `wait` does all the time
        run._launcher.kill()
        assert run.wait(PATIENCE) != 0
        wait_until(lambda: is_gone(worker))


def test_an_event_is_waited_for():
    with started(SLEEPING) as run:
        run.until(lambda: run.lines, timeout=PATIENCE)
        worker = worker_of(run)
        with pytest.raises(LaunchError, match=r"stopped after 0.1 s.*\nworker"):
            run.until(lambda: False, timeout=0.1)
        wait_until(lambda: is_gone(worker))


def test_no_event_is_waited_for_when_all_has_ended():
    with started("print('done')") as run:
        with pytest.raises(LaunchError, match=r"ended before it happened.*\ndone"):
            run.until(lambda: False, timeout=PATIENCE)
        run.until(lambda: run.lines == ["done"], timeout=0)


def test_a_failing_worker_is_an_error_with_its_last_words(tmp_path, capsys):
    script = tmp_path / "fails.py"
    script.write_text(FAILING)
    with pytest.raises(LaunchError) as error:
        torchrun(str(script), "two words", workers=2, timeout=PATIENCE)
    said = str(error.value).splitlines()
    assert said[0] == "Worker 1 ended with exit code 1. It printed last:"
    assert said[-1].strip() == "ArithmeticError: worker one fails"
    assert "rank 1 of 2 ['two words']" in said[1] and len(said) < 10
    shown = capsys.readouterr().out
    assert shown.startswith("$ torchrun --nproc-per-node=2 ") and "'two words'" in shown
    assert "rank 0 of 2 ['two words']" in shown and "rank 1 of 2" in shown
    assert "worker one fails" in shown and "exitcode" not in shown
    running = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    assert not any(str(script) in words for words in running)


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ("raise ArithmeticError('so')", r"1 ended with exit code 1\b.*\n    ArithmeticError: so"),
        ("print('no end', end=''); os._exit(3)", r"1 ended with exit code 3\b.*\n    no end"),
        ("os.kill(os.getpid(), 9)", r"1 was ended by SIGKILL \(exit code -9\)\..*\n    bye"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="kills itself with a signal")
def test_each_way_to_fail_is_told_without_the_launchers_report(tmp_path, end, expected):
    script = tmp_path / "ends.py"
    one = f"if os.environ['RANK'] == '1':\n    {end}\n"
    script.write_text(f"import os, time\nprint('bye')\n{one}time.sleep(1000)\n")
    with launch(str(script)) as run:
        folder = Path(run._logs.name)
        with pytest.raises(LaunchError) as error:
            run.check(PATIENCE)
    assert re.search(rf"\AWorker {expected}\Z", str(error.value), re.DOTALL)
    assert [failure.rank for failure in run.failures()] == [1]
    assert not folder.exists()


def test_a_launcher_that_fails_itself_says_why(tmp_path):
    with launch("none.py", workers=0) as run, pytest.raises(LaunchError, match="code 1.*printed"):
        run.check(PATIENCE)


def test_waits_end_before_the_tests_stop_the_cell():
    """A wait that is longer than a cell may take would leave workers, and say nothing."""
    limit = int(re.search(r"--nbval-cell-timeout=(\d+)", (ROOT / "Makefile").read_text())[1])
    waits = [inspect.signature(torchrun).parameters["timeout"].default]
    lesson = (ROOT / "notebooks" / "source" / "06_scale_out.py").read_text("utf-8")
    for cell in lesson.split("# %%"):
        waits.append(sum(map(float, re.findall(r"timeout=(\d+)", cell))))
    assert any(waits[1:]) and max(waits) + 2 * launching.GRACE < limit
