"""Worker processes of data-parallel training, started, watched and stopped from a notebook."""

import os
import queue
import shlex
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil

# How long workers get to end by themselves before they are killed.
GRACE = 5


class LaunchError(RuntimeError):
    """Workers ended with an error, or not in time; the message has their last lines."""


class Launch:
    """A launcher with its workers. Leaving its `with` block stops all that still runs.

    `lines` is what launcher and workers have printed so far, in the order of arrival.
    """

    def __init__(self, command: list[str]):
        self.lines: list[str] = []
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
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

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

    def wait(self, timeout: float, show: bool = False) -> int:
        """Wait until all has ended, and return the exit code; with `show`, print new lines.

        Raises LaunchError after `timeout` seconds, and stops everything then.
        """
        end = time.monotonic() + timeout
        # Workers whose launcher was killed keep its output open: they are not waited for.
        while self._launcher.poll() is None or not self._new.empty():
            self._children()
            with suppress(queue.Empty):
                line = self._new.get(timeout=0.1)
                if show:
                    print(line)
            if time.monotonic() > end:
                self.stop()
                raise LaunchError(f"The workers were stopped after {timeout:g} s.{self._tail()}")
        self.stop()
        while show and not self._new.empty():
            print(self._new.get())
        return self._launcher.wait()

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
        self._reader.join(GRACE)

    def _children(self) -> list[psutil.Process]:
        """Return the processes that run below the launcher, or did when they were last seen."""
        with suppress(psutil.NoSuchProcess):
            for child in self._launcher.children(recursive=True):
                self._seen[child.pid] = child
        return [child for child in self._seen.values() if child.is_running()]

    def _read(self) -> None:
        with self._launcher.stdout as output:
            for line in output:
                self.lines.append(line.rstrip("\n"))
                self._new.put(self.lines[-1])

    def _tail(self) -> str:
        last = [line for line in self.lines if line.strip()][-12:]
        return " They printed last:\n" + "\n".join(last) if last else " They printed nothing."


def launch(script: str, *arguments: object, workers: int = 2) -> Launch:
    """Start `workers` processes of a script with torchrun, on this machine, and return at once.

    Each worker uses one thread. Use the result in a `with` statement, so that no process stays
    behind.
    """
    options = ["--standalone", "--local-addr=127.0.0.1", f"--nproc-per-node={workers}"]
    words = [script, *map(str, arguments)]
    command = [sys.executable, "-m", "torch.distributed.run", *options, *words]
    return Launch(command)


def torchrun(script: str, *arguments: object, workers: int = 2, timeout: float = 300) -> None:
    """Run a script in `workers` processes, print what they print, and return when all are done.

    Raises LaunchError if a worker ends with an error, or after `timeout` seconds; no process
    stays behind then, nor if you interrupt it.
    """
    print(f"$ torchrun --nproc-per-node={workers} {shlex.join([script, *map(str, arguments)])}")
    with launch(script, *arguments, workers=workers) as run:
        code = run.wait(timeout, show=True)
        if code:
            raise LaunchError(f"The launcher ended with exit code {code}.{run._tail()}")


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
