"""Where the course keeps files, and how it writes them: whole, or not at all."""

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from course_utils.text import printable


class RunsError(RuntimeError):
    """What a lesson writes has no place to go; the message says which variable moves it."""


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give the `with` block a path beside `path` to write to, and move it there at its end.

    Other processes see the file either whole or not at all, a power cut included: it is on the
    disk before it takes its name. After an exception the old file is as it was, and nothing is
    left beside it. Missing folders are made. Raises OSError where the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside it, as only a move within one file system is in one piece. Not tempfile: its files
    # are for their owner only, and a cache may be shared.
    part = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that other processes see it either whole or not at all."""
    with written_whole(path) as part:
        part.write_bytes(content)


def cache_folder() -> Path:
    """Return the folder in which the course keeps the digits between lessons."""
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(base) if base else _home() / ".cache") / "loops-to-lightning"


def runs_folder(name: str = "") -> Path:
    """Make the folder for what lessons write (logs, checkpoints, pictures), and return it.

    It is `runs` in the working folder, or the one that `COURSE_RUNS` names; with `name`, the
    folder of that name in it. Raises RunsError if nothing can be written there.
    """
    folder = Path(os.path.expanduser(os.environ.get("COURSE_RUNS", "").strip() or "runs"), name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:  # only trying tells: a disk may be full
            file.write(bytes(4096))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RunsError(
            f"What this lesson writes cannot go to {printable(folder)} ({printable(reason)}). Name "
            "a folder that you can write to: set COURSE_RUNS, or first in the notebook "
            "os.environ['COURSE_RUNS'] = '/path/of/a/folder'."
        ) from None
    return folder


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # a container whose user has no entry and no HOME
        return Path(tempfile.gettempdir())
