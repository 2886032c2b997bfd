"""Worker processes: what they print comes back, and none of them stays behind."""

import sys
import time

import psutil
import pytest

from course_utils.scale.launch import Launch, LaunchError, torchrun

SLEEPING = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
print("worker", child.pid, flush=True)
time.sleep(120)
"""

FAILING = """
import os, pathlib, sys, time

rank, here = os.environ["RANK"], pathlib.Path(__file__).parent
assert os.environ["OMP_NUM_THREADS"] == "1"
sys.stdout.write(f"rank {rank} of {os.environ['WORLD_SIZE']} {sys.argv[1:]}\\n")
(here / rank).touch()
if rank == "1":
    while not (here / "0").exists():
        time.sleep(0.05)
    raise ArithmeticError("worker one fails")
time.sleep(120)
"""


def started(program):
    return Launch([sys.executable, "-c", program])


def gone(pid):
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def child_of(run):
    end = time.monotonic() + 30
    while not run.lines and time.monotonic() < end:
        time.sleep(0.02)
    return int(run.lines[0].split()[1])


def test_lines_and_exit_code_come_back(capsys):
    with started("print('one'); print('two'); raise SystemExit(3)") as run:
        assert run.wait(30, show=True) == 3
    assert run.lines == ["one", "two"]
    assert capsys.readouterr().out == "one\ntwo\n"


def test_nothing_stays_behind_when_time_is_up():
    with started(SLEEPING) as run:
        child = child_of(run)
        with pytest.raises(LaunchError, match=r"stopped after 0.2 s.*\nworker"):
            run.wait(0.2)
        assert gone(child)


def test_nothing_stays_behind_after_an_interrupt():
    with pytest.raises(KeyboardInterrupt), started(SLEEPING) as run:
        child = child_of(run)
        raise KeyboardInterrupt
    assert gone(child)


def test_who_ignores_a_polite_end_is_killed(monkeypatch):
    monkeypatch.setattr("course_utils.scale.launch.GRACE", 0.3)
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + (
        "print('worker 0', flush=True); time.sleep(120)"
    )
    with started(stubborn) as run:
        child_of(run)
        with pytest.raises(LaunchError):
            run.wait(0.1)
        assert gone(run._launcher.pid)


def test_orphans_of_a_killed_launcher_are_stopped():
    with started(SLEEPING) as run:
        child = child_of(run)
        run._children()  # as `wait` does all the time
        run._launcher.kill()
        assert run.wait(30) != 0
        assert gone(child)


def test_a_failing_worker_is_an_error_with_its_last_words(tmp_path, capsys):
    script = tmp_path / "fails.py"
    script.write_text(FAILING)
    with pytest.raises(LaunchError, match="exit code 1"):
        torchrun(str(script), "two words", workers=2, timeout=120)
    shown = capsys.readouterr().out
    assert shown.startswith("$ torchrun --nproc-per-node=2 ") and "'two words'" in shown
    assert "rank 0 of 2 ['two words']" in shown and "rank 1 of 2" in shown
    assert "worker one fails" in shown
    running = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    assert not any(str(script) in words for words in running)
