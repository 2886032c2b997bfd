"""A limit to how long a check runs: what takes longer is stopped by an exception."""

import ctypes
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

AGAIN = 1.0  # seconds after which code that swallowed the exception gets it once more


class TooLong(BaseException):  # noqa: N818 - it stops code, `except Exception` must not catch it
    """The code in the `with` block did not end in time."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise `TooLong` inside the `with` block once it has run for so many seconds.

    By a signal where there are signals, as in a notebook on Linux and macOS; elsewhere (Windows,
    another thread) by an exception that Python raises at the next line of Python. A single call
    into C that never returns is beyond both.
    """
    main = threading.current_thread() is threading.main_thread()
    with _by_signal(seconds) if main and hasattr(signal, "setitimer") else _by_thread(seconds):
        yield


@contextmanager
def _by_signal(seconds: float) -> Iterator[None]:
    def stop(*_) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, stop)
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if left:  # somebody else's timer goes on, later by what this block took at most
            signal.setitimer(signal.ITIMER_REAL, left, interval)


@contextmanager
def _by_thread(seconds: float) -> Iterator[None]:
    target = ctypes.c_ulong(threading.get_ident())
    raising, ended, lock = (
        ctypes.pythonapi.PyThreadState_SetAsyncExc,
        threading.Event(),
        threading.Lock(),
    )

    def watch() -> None:
        wait = seconds
        while not ended.wait(wait):
            with lock:
                if not ended.is_set():
                    raising(target, ctypes.py_object(TooLong))
            wait = AGAIN

    dog = threading.Thread(target=watch, daemon=True)
    dog.start()
    try:
        yield
    finally:
        with lock:
            ended.set()
            raising(target, None)  # one that is on its way arrives no more
        dog.join()
