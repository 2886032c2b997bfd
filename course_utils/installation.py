"""Is everything here that the course needs? One line a check: OK, or what to do."""

import re
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

DISTRIBUTION = "loops-to-lightning"
MALICIOUS = {"2.6.2", "2.6.3"}


def check_installation() -> bool:
    """Print a line for each thing that the course needs; return whether all of them are OK.

    Nothing is installed or changed, and nothing raises: what is wrong is said in its line.
    """
    checks: list[Callable[[], str]] = [_python, *map(_package, _requirements()), _pair, _disk]
    return all([passes(check) for check in checks])


def passes(check: Callable[[], str]) -> bool:
    """Print what a check returns or raises, after OK or FAIL; return whether it passed."""
    try:
        print(f"OK    {check()}")
    except Exception as error:  # whatever is broken here, the learner needs the other lines too
        print(f"FAIL  {error}")
        return False
    return True


def lesson_file(name: str) -> Path:
    """Return a file that lies beside the lessons, wherever the course is installed.

    Raises FileNotFoundError if there is none of that name.
    """
    package = Path(__file__).resolve().parent
    for folder in (package.parent / "notebooks", package):  # a checkout, or an installed wheel
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"The course has no file {name}.")


def _python() -> str:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < (3, 11):  # noqa: UP036 - the check is for those who have another
        raise RuntimeError(f"Python {found} is too old: install Python 3.11 or newer")
    return f"Python {found}"


def _requirements() -> list[tuple[str, str]]:
    """Return name and lowest version of each package, as the course's own metadata has them."""
    try:
        lines = requires(DISTRIBUTION) or []
    except PackageNotFoundError:  # the folder is on the path, but nothing was installed
        return []
    found = (re.match(r"([\w.-]+)\s*>=\s*([\w.]+)$", line) for line in lines)
    return [(match[1], match[2]) for match in found if match]


def _package(requirement: tuple[str, str]) -> Callable[[], str]:
    name, lowest = requirement

    def check() -> str:
        try:
            found = version(name)
        except PackageNotFoundError:
            raise RuntimeError(f'{name} is missing: pip install "{name}>={lowest}"') from None
        if name == "lightning" and found in MALICIOUS:
            raise RuntimeError(
                f"lightning {found} was a malicious upload: uninstall it, change the passwords and "
                "keys that this machine could read, then install lightning>=2.6.6"
            )
        if _numbers(found) < _numbers(lowest):
            raise RuntimeError(f'{name} {found} is too old: pip install "{name}>={lowest}"')
        return f"{name} {found}"

    return check


def _pair() -> str:
    try:
        import torch
        import torchvision  # noqa: F401 - its import is the check
        from torchvision.ops import nms  # noqa: F401
    except Exception as error:
        raise RuntimeError(
            f"torch and torchvision do not fit together ({_first_line(error)}): install both "
            "again, in one command and from one place"
        ) from None
    if torch.cuda.is_available():
        return f"torch and torchvision fit together; GPU: {torch.cuda.get_device_name()}"
    return "torch and torchvision fit together; no CUDA GPU, and none is needed"


def _disk() -> str:
    with tempfile.TemporaryFile() as file:
        file.write(bytes(4_000_000))
    return "room for temporary files"


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text.partition("+")[0])[:3])


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
