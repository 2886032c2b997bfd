"""Run a check, and with it the learner's code, so that nothing outside is changed by it."""

import inspect
import linecache
import os
import random
import sysconfig
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from IPython import get_ipython
from IPython.utils.capture import capture_output

from course_utils.exercises.outcomes import Found, Outcome, unattempted, unchecked
from course_utils.exercises.watchdog import TooLong, at_most
from course_utils.text import printable

SECONDS = 20  # that a check may take
# Whatever lies in these is not the learner's: Python, its packages, and the course.
NOT_THEIRS = tuple(
    str(Path(folder).resolve()) + os.sep
    for folder in (
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        os.path.dirname(inspect.getfile(torch)),
        Path(__file__).parents[1],
    )
)


def guarded(check: Callable[[], Outcome], expects: str, seconds: float | None = None) -> Outcome:
    """Run a check and return its outcome; whatever goes wrong in it becomes an outcome too.

    It gets `seconds` (20 unless told). Random generators, warnings and the modes of torch are as
    before when it ends; what it prints is not shown. `expects` says what the check should have
    been given. Only an interrupt by the learner goes through.
    """
    limit = SECONDS if seconds is None else seconds
    try:
        with undisturbed(), at_most(limit):
            outcome = check()
    except Found as found:
        return found.outcome
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return _stopped(error, expects, limit)
    if isinstance(outcome, Outcome):
        return outcome
    return unchecked("The check came to no result: that is a fault of the course, not of yours.")


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let the block print nothing, end no kernel, and leave generators and modes as they are."""
    with _quiet(), _staying(), _as_before():
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings(), capture_output():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _staying() -> Iterator[None]:
    """Let `exit()` end the check only: in a notebook it would end the kernel after the cell."""
    shell = get_ipython()
    if shell is None or "ask_exit" in vars(shell):
        yield
        return

    def ask_exit() -> None:
        raise SystemExit

    shell.ask_exit = ask_exit
    try:
        yield
    finally:
        del shell.ask_exit


@contextmanager
def _as_before() -> Iterator[None]:
    """Put back random generators, modes of torch, environment and folder after the block."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    threads, gradients = torch.get_num_threads(), torch.is_grad_enabled()
    dtype, environment, folder = torch.get_default_dtype(), dict(os.environ), os.getcwd()
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
        if cuda:
            torch.cuda.set_rng_state_all(cuda)
        torch.set_num_threads(threads)
        torch.set_grad_enabled(gradients)
        torch.set_default_dtype(dtype)
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
        os.chdir(folder)


def _stopped(error: BaseException, expects: str, limit: float) -> Outcome:
    """Return what to tell of an exception: by the learner's line, if it came from one."""
    where = _learners_line(error.__traceback__)
    if isinstance(error, NotImplementedError) and where:
        return unattempted(f"Something is not written yet: {where}.")
    if isinstance(error, TooLong):
        place = f" It was stopped {where}." if where else ""
        return unchecked(
            f"Your code was still running after {limit:g} seconds.{place} Is there a loop that "
            "never ends, or more training than was asked for?"
        )
    if isinstance(error, SystemExit) and where:
        return unchecked(f"Your code asks Python to exit {where}. Leave that out: return instead.")
    said = f"{type(error).__name__}: {printable(_words(error))}".rstrip(": ")
    if where:
        return unchecked(f"Your code stops with `{said}` {where}. Mend that line first.")
    return unchecked(f"The check expects {expects}, and could not use what it got (`{said}`).")


def _words(error: BaseException) -> str:
    try:
        return (str(error).strip().splitlines() or [""])[0]
    except Exception:  # a learner's own class of exceptions may not even print itself
        return ""


def _learners_line(trace: TracebackType | None) -> str:
    """Return a phrase for the innermost line of the learner's own, or nothing if there is none."""
    for frame in reversed(traceback.extract_tb(trace)):
        name = frame.filename
        if name.startswith("<frozen") or os.path.realpath(name).startswith(NOT_THEIRS):
            continue
        line = (frame.line or linecache.getline(name, frame.lineno or 0)).strip()
        place = f"in `{frame.name}`, line {frame.lineno} of its cell"
        return f"{place}: `{line}`" if line else place
    return ""
