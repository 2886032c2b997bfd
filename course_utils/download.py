"""Fetching MNIST through torchvision, with an end to the waiting and no halves left behind."""

import contextlib
import io
import os
import shutil
import socket
import tempfile
import threading
import time
from pathlib import Path

from torchvision import datasets

from course_utils.idx import ORIGINAL, DataError, check_folder, is_original, raw_folder

# torchvision tries two addresses one after the other: two silent ones cost twice SILENCE, and a
# name look-up that hangs (no time-out reaches it) ends with STALL.
SILENCE = 5.0
STALL = 12.0
TOTAL = 600.0


class DownloadError(DataError):
    """MNIST could not be fetched."""


def download_mnist(root: Path) -> None:
    """Put the four original files into `root`, or raise `DownloadError` and leave no trace.

    torchvision fetches them into a folder of this call's own and checks their MD5; their SHA-256
    is checked here, and each file is then moved to its place whole. Two processes may do this at
    once. A network that stays silent ends it after at most 12 seconds, one that drips after 600.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=".download-", dir=root))
    except OSError as error:
        raise DownloadError(f"cannot write to {root} ({error.strerror})") from error
    try:
        _fetch(part)
        check_folder(part)
        if not is_original(part):
            raise DownloadError("what came is not the original MNIST (SHA-256 differs)")
        _move(part, root)
    except OSError as error:
        raise DownloadError(f"cannot write to {root} ({error.strerror})") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _fetch(part: Path) -> None:
    """Run torchvision's download in a thread that can be given up."""
    failures: list[BaseException] = []

    def work() -> None:
        try:
            datasets.MNIST(part, download=True)
        except BaseException as error:  # also SystemExit: whatever it was, the caller reports it
            failures.append(error)

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE)
    thread = threading.Thread(target=work, daemon=True, name="mnist-download")
    try:
        # torchvision prints a line and a bar per file and address; the caller says it in one.
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            thread.start()
            _wait(thread, part)
    finally:
        socket.setdefaulttimeout(before)
    if failures:
        reason = " ".join(str(failures[0]).split()) or type(failures[0]).__name__
        raise DownloadError(reason) from failures[0]


def _wait(thread: threading.Thread, part: Path) -> None:
    """Wait for the thread as long as bytes keep coming."""
    start = last_growth = time.monotonic()
    size = 0
    while thread.is_alive():
        thread.join(0.1)
        now = time.monotonic()
        grown = _size(part)
        if grown != size:
            size, last_growth = grown, now
        if now - last_growth > STALL:
            raise DownloadError(f"the network gave no answer for {STALL:.0f} seconds")
        if now - start > TOTAL:
            raise DownloadError(f"the download was not done after {TOTAL:.0f} seconds")


def _size(folder: Path) -> int:
    total = 0
    for file in folder.rglob("*"):
        with contextlib.suppress(OSError):  # torchvision may be renaming it right now
            total += file.stat().st_size
    return total


def _move(part: Path, root: Path) -> None:
    raw_folder(root).mkdir(parents=True, exist_ok=True)
    for name in ORIGINAL:
        os.replace(raw_folder(part) / name, raw_folder(root) / name)
