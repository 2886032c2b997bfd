"""The environment variables that steer the course, read in one place."""

import os

# The known values of each; the first one is that of a switch which is not set.
KNOWN = {
    "COURSE_DATA": ("auto", "sample"),
    "COURSE_ACCELERATOR": ("auto", "cpu", "gpu"),
    "COURSE_STYLE": ("bundled", "vgg"),
    "COURSE_PACE": ("full", "quick"),
}


class SwitchError(ValueError):
    """An environment variable of the course has a value that it does not know."""


def switch(name: str) -> str:
    """Return the value of a switch, in lower case; unset and empty mean its first value.

    Raises `SwitchError`, which lists the known values, for any other value.
    """
    value = os.environ.get(name, "").strip().lower() or KNOWN[name][0]
    if value not in KNOWN[name]:
        known = ", ".join(KNOWN[name])
        raise SwitchError(
            f"{name}={os.environ[name]!r} is not a value that the course knows. "
            f"Known values: {known}. Set one of them, or unset {name}."
        )
    return value


def paced(full: int, quick: int) -> int:
    """Return a number of steps: `full`, or `quick` where COURSE_PACE asks for a quick run.

    A quick run executes the same code with too few steps to learn anything, as the tests do.
    """
    return quick if switch("COURSE_PACE") == "quick" else full
