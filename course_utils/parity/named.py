"""A trace of the first network of a class that is known by its name only."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from functools import wraps

from torch import nn

from .recorder import Recorder
from .trace import Trace
from .watch import unwatch, watch
from .wishes import heeded


@contextmanager
def trace_named(name: str, detail: bool | range = False) -> Iterator[Trace]:
    """Record every step that updates the first network whose class has this name.

    The class may be defined later, anywhere: `name` is its own name, or as much of its module's
    before it as tells it from others, such as `model.GPT`. Raises ValueError if none was built.
    """
    found = Trace()
    recorder = heeded(Recorder(found, detail))
    watch(recorder)
    try:
        with _first_named(name, recorder.follow):
            yield found
        if not recorder.follows:
            raise ValueError(_none_built(name))
    finally:
        unwatch(recorder)
        recorder.finish()


@contextmanager
def _first_named(name: str, found: Callable[[nn.Module], None]) -> Iterator[None]:
    """Show the callback the first object of a class of this name, once it is built."""
    undo, waiting = [], [True]

    def await_first(kind: type) -> None:
        if not _matches(kind, name):
            return
        own, original = vars(kind).get("__init__"), kind.__init__

        @wraps(original)
        def init(self: nn.Module, *args, **kwargs) -> None:
            original(self, *args, **kwargs)
            if waiting and type(self) is kind and next(self.parameters(), None) is not None:
                waiting.clear()
                found(self)

        kind.__init__ = init
        undo.append((kind, own))

    def __init_subclass__(cls, **kwargs) -> None:  # noqa: N807
        super(nn.Module, cls).__init_subclass__(**kwargs)
        await_first(cls)

    for kind in _subclasses(nn.Module):
        await_first(kind)
    nn.Module.__init_subclass__ = classmethod(__init_subclass__)
    try:
        yield
    finally:
        del nn.Module.__init_subclass__
        for kind, own in undo:
            if own is None:
                del kind.__init__  # the class had inherited it
            else:
                kind.__init__ = own


def _matches(kind: type, name: str) -> bool:
    whole = f"{kind.__module__}.{kind.__qualname__}"
    return whole == name or whole.endswith(f".{name}")


def _subclasses(kind: type) -> set[type]:
    found, waiting = set(), [kind]
    while waiting:
        for below in waiting.pop().__subclasses__():
            if below not in found:
                found.add(below)
                waiting.append(below)
    return found


def _none_built(name: str) -> str:
    last = name.rpartition(".")[2]
    known = {kind.__name__ for kind in _subclasses(nn.Module)} - {last}
    near = [other for other in known if other.lower() == last.lower()]
    near = near or get_close_matches(last, known, n=3)
    hint = f" Is it {' or '.join(near)}?" if near else ""
    return f"No {name} with weights was built.{hint} Give the name of the network's class."
