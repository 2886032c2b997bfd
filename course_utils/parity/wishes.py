"""What somebody outside a run asks of the traces that are made in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .recorder import Recorder


@dataclass
class Wish:
    """More detail, and to know of each trace that begins."""

    detail: range | None = None
    recorders: list["Recorder"] = field(default_factory=list)
    traces: list = field(default_factory=list)


_WISH: ContextVar[Wish | None] = ContextVar("wish", default=None)


@contextmanager
def wishing(wish: Wish) -> Iterator[Wish]:
    """Ask for this of every trace that begins in the `with` block."""
    token = _WISH.set(wish)
    try:
        yield wish
    finally:
        _WISH.reset(token)


def heeded(recorder: "Recorder") -> "Recorder":
    """Give a recorder, whose trace is about to begin, what was asked for."""
    wish = _WISH.get()
    if wish is not None:
        recorder.detail = recorder.detail or wish.detail or False
        wish.recorders.append(recorder)
        wish.traces.append(recorder.trace)
    return recorder
