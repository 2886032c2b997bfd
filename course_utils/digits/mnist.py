"""Where the digits come from: decided once, and said aloud."""

import gzip
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from course_utils.digits.download import DownloadError, download_mnist, reason
from course_utils.digits.idx import (
    ORIGINAL,
    DataError,
    check_folder,
    is_original,
    raw_folder,
)
from course_utils.files import cache_folder, write_whole
from course_utils.switches import switch
from course_utils.text import printable

EXPECT_ON_SAMPLE = "Expect about 92% of test digits right where full MNIST gives 98%."


@dataclass(frozen=True)
class Digits:
    """One source of MNIST: `root` as torchvision wants it, where it came from, and its size."""

    root: Path
    origin: str
    train: int
    test: int

    def __str__(self) -> str:
        """Say the source in one phrase, without any path of this machine."""
        return f"{self.origin} ({self.train:,} training and {self.test:,} test digits)"


def find_mnist() -> Digits:
    """Return the digits to use: decided once for each setting of the switches.

    In this order: what `COURSE_DATA=sample` or `COURSE_DATA_DIR=path` ask for; full MNIST in
    `data`, `../data` or the user's cache; a download through torchvision; the bundled sample of
    5,000 digits, with a line that says so. Raises `DataError` if `COURSE_DATA_DIR` names a folder
    without whole MNIST files, and `SwitchError` for an unknown value of `COURSE_DATA`.
    """
    folder = os.environ.get("COURSE_DATA_DIR", "").strip()
    return _decide(switch("COURSE_DATA"), folder)


@cache
def _decide(wish: str, folder: str) -> Digits:
    if wish == "sample":
        if folder:
            print("COURSE_DATA=sample is set, so COURSE_DATA_DIR is not looked at.")
        return _sample("the bundled sample")
    if folder:
        return _from_folder(folder)
    return _on_disk() or _downloaded() or _sample("the bundled sample")


def _from_folder(folder: str) -> Digits:
    root = Path(os.path.expanduser(folder))
    with suppress(OSError):  # where the working folder is gone, there is no folder below it
        root = root.absolute()
    # os.path, as Path.is_dir raises for names that are too long.
    if not os.path.isdir(root):
        raise DataError(
            f"COURSE_DATA_DIR is set, but {printable(root)} is not a folder. Name the folder that "
            "has MNIST/raw in it, or unset COURSE_DATA_DIR."
        )
    try:
        train, test = check_folder(root)
        origin = "full MNIST" if is_original(root) else "digits that are not the original MNIST,"
    except (DataError, OSError) as error:
        raise DataError(
            f"COURSE_DATA_DIR is set, but its files cannot be used: {error}\n"
            "Mend that folder, or unset COURSE_DATA_DIR to let the course find or fetch MNIST."
        ) from error
    return Digits(root.resolve(), f"{origin} from COURSE_DATA_DIR", train, test)


def _on_disk() -> Digits | None:
    for root in (Path("data"), Path("..", "data"), cache_folder()):
        # os.path, as Path.exists raises where a folder above must not be looked into.
        if not any(os.path.exists(raw_folder(root) / name) for name in ORIGINAL):
            continue
        try:
            train, test = check_folder(root)
            if is_original(root):
                return Digits(root.resolve(), "full MNIST from this disk", train, test)
            print(f"Passed over {raw_folder(root)}: not the original MNIST (SHA-256 differs).")
        except (DataError, OSError) as error:
            print(f"Passed over {raw_folder(root)}: {error}")
    return None


def _downloaded() -> Digits | None:
    root = cache_folder()
    print("Downloading MNIST (11 MB), once for all lessons …", flush=True)
    try:
        download_mnist(root)
    except DownloadError as error:
        print(f"No download: {error}. The bundled sample it is. {EXPECT_ON_SAMPLE}")
        return None
    return Digits(root.resolve(), "full MNIST, just downloaded", *check_folder(root))


def bundled_sample() -> Digits:
    """Return the bundled sample, whatever the environment chooses, unpacked for torchvision.

    Raises DataError where it cannot be unpacked.
    """
    return _sample("the bundled sample")


def _sample(origin: str) -> Digits:
    """Unpack the bundled sample, as torchvision reads only unpacked files."""
    packed = files("course_utils.digits") / "sample"
    contents = {name: gzip.decompress((packed / f"{name}.gz").read_bytes()) for name in ORIGINAL}
    root = cache_folder() / "sample"
    try:
        _unpack(contents, root)
    except OSError:  # a home folder that is read-only or full
        try:
            root = _temporary()
            _unpack(contents, root)
        except OSError as error:
            raise DataError(
                f"The bundled sample needs 4 MB in {printable(cache_folder())} or a folder for "
                f"temporary files, but neither can be written ({reason(error)}). Free some space, "
                "or set XDG_CACHE_HOME to a folder that you can write to."
            ) from error
    return Digits(root.resolve(), origin, *check_folder(root))


def _temporary() -> Path:
    """Return a folder for each user: nobody can mend a file that is somebody else's.

    Raises OSError if the disk is so full that there is no folder for temporary files.
    """
    user = getattr(os, "getuid", lambda: "user")()
    return Path(tempfile.gettempdir()) / f"loops-to-lightning-{user}"


def _unpack(contents: dict[str, bytes], root: Path) -> None:
    for name, content in contents.items():
        path = raw_folder(root) / name
        if not path.is_file() or path.read_bytes() != content:
            write_whole(path, content)
