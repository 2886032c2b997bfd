"""The folder of a run: writable, and for one run at a time."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from course_utils.train.errors import CommandError

LOCK = ".lock"


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Make a folder and keep other runs out of it until the end of the block.

    The system gives the lock back however the process ends. A folder that is empty in the end, as
    after a wrong command, goes again. Raises CommandError if another run is in it, or if it cannot
    be written to.
    """
    made = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    lock = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise CommandError(
            f"another run is writing to {folder}: wait until it has ended, or name another folder "
            "by --out-dir."
        ) from None
    except OSError as error:
        _remove_empty(made)
        raise CommandError(
            f"cannot write to {folder} ({error.strerror or error}): name another folder by "
            "--out-dir."
        ) from None
    try:
        _remove_torn(folder)
        yield
    finally:
        with suppress(OSError):  # Windows removes it itself; who waits for it looks again
            (folder / LOCK).unlink(missing_ok=True)
        lock.release()
        _remove_empty(made)


def _remove_torn(folder: Path) -> None:
    """Delete what a kill left of files that `written_whole` was writing."""
    for part in (*folder.glob(".*"), *folder.glob("log/.*")):
        if re.fullmatch(r"\..+\.(ckpt|csv|yaml)(-[0-9a-f]{32})+", part.name):
            part.unlink(missing_ok=True)


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()
