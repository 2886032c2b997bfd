"""Worker processes of data-parallel training, started, watched and stopped from a notebook."""

import os
import queue
import shlex
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from course_utils.scale.words import Failure, WorkerLogs, failures, told

# How long workers get to end by themselves before they are killed.
GRACE = 5
# How often the workers' output is looked at.
BEAT = 0.05


class LaunchError(RuntimeError):
    """Workers failed, or were not done in time; the message says which, and their last words."""


class Launch:
    """A launcher with its workers. Leaving its `with` block stops all that still runs.

    `lines` is what the workers have printed so far, in the order of arrival; what the launcher
    says itself is not among it. Without `logs`, the folder into which torchrun was told to write
    what each worker prints, it is all that the command prints.
    """

    def __init__(self, command: list[str], logs: tempfile.TemporaryDirectory | None = None):
        self.lines: list[str] = []
        self._said: list[tuple[int, str]] = []  # a worker's rank and a line of it
        self._report: list[str] = []  # the launcher's own lines
        self._logs = logs
        self._new: queue.Queue[str] = queue.Queue()
        self._seen: dict[int, psutil.Process] = {}  # what may outlive a launcher that was killed
        self._launcher = psutil.Popen(
            command,
            env={**os.environ, **_surroundings()},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        self._over = threading.Event()
        readers = [self._read_launcher, *([self._read_workers] if logs else [])]
        self._readers = [threading.Thread(target=reader, daemon=True) for reader in readers]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> "Launch":
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def workers(self) -> list[psutil.Process]:
        """Return the worker processes that run now, in order of their rank."""
        ranked = {}
        for child in self._children():
            with suppress(psutil.Error, KeyError):
                ranked[int(child.environ()["RANK"])] = child
        return [ranked[rank] for rank in sorted(ranked)]

    def failures(self) -> list[Failure]:
        """Return the workers that failed by themselves, in order of rank, once all has ended."""
        return failures(self._report, self._said)

    def until(self, happened: Callable[[], object], timeout: float) -> None:
        """Wait until `happened()` is true.

        Raises LaunchError if all has ended before, or after `timeout` seconds, and stops
        everything then.
        """
        end = time.monotonic() + timeout
        while True:
            ended, late = self._launcher.poll() is not None, time.monotonic() > end
            if happened():
                return
            if ended or late:
                self.stop()
                when = "ended before it happened" if ended else f"were stopped after {timeout:g} s"
                raise LaunchError(f"The workers {when}.{self._last_words()}")
            self._children()
            time.sleep(BEAT)

    def wait(self, timeout: float, show: bool = False) -> int:
        """Wait until all has ended, and return the exit code; with `show`, print new lines.

        Raises LaunchError after `timeout` seconds, and stops everything then.
        """
        end = time.monotonic() + timeout
        # Workers whose launcher was killed keep its output open: they are not waited for.
        while self._launcher.poll() is None or not self._new.empty():
            self._children()
            with suppress(queue.Empty):
                line = self._new.get(timeout=BEAT)
                if show:
                    print(line)
            if time.monotonic() > end:
                self.stop()
                raise LaunchError(
                    f"The workers were stopped after {timeout:g} s.{self._last_words()}"
                )
        self.stop()
        while show and not self._new.empty():
            print(self._new.get())
        return self._launcher.wait()

    def check(self, timeout: float, show: bool = False) -> None:
        """Wait as `wait` does; raise LaunchError with the last words of workers that failed."""
        code = self.wait(timeout, show)
        if code:
            failed = told(self.failures())
            launcher = f"The launcher ended with exit code {code}."
            raise LaunchError(failed or launcher + self._last_words())

    def stop(self) -> None:
        """End launcher and workers: politely, and after a few seconds by force."""
        processes = [self._launcher, *self._children()]
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        _, left = psutil.wait_procs(processes, timeout=GRACE)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=GRACE)
        self._over.set()
        for reader in self._readers:
            reader.join(GRACE)
        if self._logs:
            self._logs.cleanup()

    def _children(self) -> list[psutil.Process]:
        """Return the processes that run below the launcher, or did when they were last seen."""
        with suppress(psutil.NoSuchProcess):
            for child in self._launcher.children(recursive=True):
                self._seen[child.pid] = child
        return [child for child in self._seen.values() if child.is_running()]

    def _read_launcher(self) -> None:
        with self._launcher.stdout as output:
            for line in output:
                self._report.append(line.rstrip("\n"))
                if not self._logs:
                    self._show(self._report[-1])

    def _read_workers(self) -> None:
        logs, over = WorkerLogs(Path(self._logs.name)), False
        while not over:
            over = self._over.wait(BEAT)
            for rank, line in logs.new(last=over):
                self._said.append((rank, line))
                self._show(line)

    def _show(self, line: str) -> None:
        self.lines.append(line)
        self._new.put(line)

    def _last_words(self) -> str:
        last = [line for line in self.lines or self._report if line.strip()][-12:]
        return " They printed last:\n" + "\n".join(last) if last else " They printed nothing."


def launch(script: str | Path, *arguments: object, workers: int = 2) -> Launch:
    """Start `workers` processes of a script with torchrun, on this machine, and return at once.

    Each worker uses one thread. Use the result in a `with` statement, so that no process stays
    behind.
    """
    # One file a worker: two of them that print at the same time do not mix.
    logs = tempfile.TemporaryDirectory(prefix="torchrun-", ignore_cleanup_errors=True)
    options = ["--standalone", "--local-addr=127.0.0.1", f"--nproc-per-node={workers}"]
    options += [f"--log-dir={logs.name}", "--redirects=3"]
    words = map(str, (script, *arguments))
    command = [sys.executable, "-m", "torch.distributed.run", *options, *words]
    return Launch(command, logs)


def torchrun(
    script: str | Path, *arguments: object, workers: int = 2, timeout: float = 200
) -> None:
    """Run a script in `workers` processes, print what they print, and return when all are done.

    Raises LaunchError if a worker fails, with its rank, exit code and last words, or after
    `timeout` seconds; no process stays behind then, nor if you interrupt it.
    """
    print(f"$ torchrun --nproc-per-node={workers} {shlex.join(map(str, (script, *arguments)))}")
    with launch(script, *arguments, workers=workers) as run:
        run.check(timeout, show=True)


def _surroundings() -> dict[str, str]:
    # A script looks for packages where it lies; the course may only be on this process's path.
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]
    variables = {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTHONUNBUFFERED": "1",
        # Without a network, c10d warns that it finds no host names; none is needed.
        "TORCH_CPP_LOG_LEVEL": "ERROR",
    }
    # Without a network, a machine's own name may lead nowhere; the loopback is always there.
    if os.name == "posix" and "GLOO_SOCKET_IFNAME" not in os.environ:
        names = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
        variables |= {"GLOO_SOCKET_IFNAME": names[0]} if names else {}
    return variables
