"""The environment variables that steer the course, read in one place."""

import os

KNOWN = {
    "COURSE_DATA": ("auto", "sample"),
    "COURSE_ACCELERATOR": ("auto", "cpu", "gpu"),
}


class SwitchError(ValueError):
    """An environment variable of the course has a value that it does not know."""


def switch(name: str) -> str:
    """Return the value of a switch, in lower case; unset and empty both mean `auto`.

    Raises `SwitchError`, which lists the known values, for any other value.
    """
    value = os.environ.get(name, "").strip().lower() or "auto"
    if value not in KNOWN[name]:
        known = ", ".join(KNOWN[name])
        raise SwitchError(
            f"{name}={os.environ[name]!r} is not a value that the course knows. "
            f"Known values: {known}. Set one of them, or unset {name}."
        )
    return value
