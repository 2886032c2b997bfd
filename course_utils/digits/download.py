"""Fetching MNIST through torchvision, with an end to the waiting and no halves left behind."""

import contextlib
import io
import os
import re
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from torchvision import datasets

from course_utils.digits.idx import ORIGINAL, DataError, is_original, raw_folder
from course_utils.text import printable

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
    given_up = threading.Event()
    try:
        part = _own_folder(root)
    except OSError as error:
        raise DownloadError(f"cannot write to {printable(root)} ({reason(error)})") from error
    try:
        _fetch(part, given_up)
        if not is_original(part):
            raise DownloadError("what came is not the original MNIST (SHA-256 differs)")
        _move(part, root)
    except OSError as error:
        raise DownloadError(f"cannot write to {printable(root)} ({reason(error)})") from error
    finally:
        given_up.set()
        shutil.rmtree(part, ignore_errors=True)


def _own_folder(root: Path) -> Path:
    """Make a folder for one download, and clear away what killed processes left of theirs."""
    root.mkdir(parents=True, exist_ok=True)
    for left in root.glob(".download-*"):
        with contextlib.suppress(OSError):  # another process may be clearing it away right now
            if time.time() - left.stat().st_mtime > 2 * TOTAL:
                shutil.rmtree(left)
    return Path(tempfile.mkdtemp(prefix=".download-", dir=root))


class _Download(datasets.MNIST):
    """torchvision's download into a folder, which stops once it was given up."""

    def __init__(self, part: Path, given_up: threading.Event):
        # Not MNIST's own constructor, which would read the digits as well.
        super(datasets.MNIST, self).__init__(part)
        self.given_up = given_up

    @property
    def raw_folder(self) -> str:
        """Return the folder for the next file: torchvision asks for it before each of them.

        A thread that was given up stops here, before it makes the folder once more.
        """
        if self.given_up.is_set():
            raise DownloadError("given up")
        return str(raw_folder(Path(self.root)))


def _fetch(part: Path, given_up: threading.Event) -> None:
    """Run torchvision's download in a thread that can be given up."""
    failures: list[BaseException] = []

    def work() -> None:
        try:
            _Download(part, given_up).download()
        except BaseException as error:  # also SystemExit: whatever it was, the caller reports it
            failures.append(error)
        finally:
            if given_up.is_set():  # the caller could not remove what was still being written
                shutil.rmtree(part, ignore_errors=True)

    thread = threading.Thread(target=work, daemon=True, name="mnist-download")
    # torchvision prints a line and a bar per file and address; the caller says it in one.
    quiet = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
    with patience(SILENCE), quiet[0], quiet[1]:
        thread.start()
        _wait(thread, part)
    if failures:
        raise DownloadError(reason(failures[0])) from failures[0]


@contextlib.contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Let connections of this process that are opened in the block fail after such a silence."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


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


def reason(error: BaseException) -> str:
    """Return what went wrong in a few words: no addresses, no paths, nothing said twice.

    They may be a server's words: what cannot be shown is spelled out, and they end some time.
    """
    if isinstance(error, OSError) and error.strerror:
        return printable(error.strerror)
    text = " ".join(str(error).split())
    # torchvision's message is a list of `Tried ADDRESS, got: REASON`.
    found = re.findall(r"Tried \S+, got: (.*?)(?= Tried |$)", text) or [text]
    plain = [re.sub(r"^<urlopen error (.*)>$", r"\1", one).rstrip(".") for one in found]
    return printable("; ".join(dict.fromkeys(plain))) or type(error).__name__
