"""Seeing what a training loop does, without leaving anything on its objects.

While a trace runs, a few functions of PyTorch are wrapped: calls of modules, `backward`,
`zero_grad`, clipping, schedulers, gradient scalers and loaders. They are wrapped on classes and
in modules, never on an object, so that whatever is copied, saved, exported or compiled meanwhile
is what it would be without a trace. The wrappers are gone when the last trace has ended.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from functools import wraps

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _BaseDataLoaderIter

LOCK = threading.RLock()
WATCHERS: list["Watcher"] = []
UNDO: list[Callable[[], None]] = []
SCHEDULING: set[int] = set()  # the schedulers, by identity, that are being stepped


class Watcher:
    """What may be told of: a trace overrides what it wants to know."""

    def on_failure(self, event: str, error: Exception) -> None:
        """One of the other methods has raised an exception, which does not reach the program."""

    def on_call(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        """A module is about to be called."""

    def on_return(self, module: nn.Module, output: object, failed: bool) -> None:
        """A module's call has ended; with `failed`, by an exception."""

    def on_backward(self, tensors: object, options: dict) -> None:
        """`backward` begins."""

    def on_backward_end(self) -> None:
        """`backward` has ended."""

    def on_grad(self, create_graph: bool) -> None:
        """`torch.autograd.grad` is called."""

    def on_zero_grad(self, owner: object) -> None:
        """An optimizer or a module sets its gradients to zero."""

    def on_clip(self, parameters: object, kind: str, limit: float, found: float) -> None:
        """Gradients are clipped, by `norm` or by `value`."""

    def on_scaler(self, what: str, optimizer: Optimizer | None) -> None:
        """A gradient scaler does `scale` or `unscale`."""

    def on_step(self, optimizer: Optimizer) -> None:
        """An optimizer's step begins."""

    def on_step_end(self, optimizer: Optimizer) -> None:
        """An optimizer's step has ended."""

    def on_schedule(self, scheduler: object, metric: object) -> None:
        """A learning-rate scheduler is stepped."""

    def on_loader(self, loader: DataLoader, iterator: object, before: object) -> None:
        """A pass over a loader begins; `before` is what `before_loader` returned."""

    def before_loader(self) -> object:
        """A pass over a loader is about to begin."""

    def on_indices(self, iterator: object, indices: object) -> None:
        """A loader has chosen the samples of its next batch (None: there is none)."""


def watch(watcher: Watcher) -> None:
    """Begin to tell a watcher what happens."""
    with LOCK:
        if not WATCHERS:
            _install()
        WATCHERS.append(watcher)


def unwatch(watcher: Watcher) -> None:
    """End it; with the last watcher, everything is as it was before."""
    with LOCK:
        WATCHERS.remove(watcher)
        if not WATCHERS:
            while UNDO:
                UNDO.pop()()


def tracing() -> bool:
    """Return whether a compiler or exporter is reading the code, instead of running it."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def _install() -> None:
    _wrap(nn.Module, "__call__", _calling)
    # Called through the module torch.autograd, also by Tensor.backward.
    _wrap(torch.autograd, "backward", _backward)
    _wrap(torch.autograd, "grad", _grad)
    _wrap(nn.Module, "zero_grad", _zeroing)
    for kind in {Optimizer, *_overriding(Optimizer, "zero_grad")}:
        _wrap(kind, "zero_grad", _zeroing)
    # clip_grad_norm_ looks this one up when it is called, however a program imported it.
    clipping = torch.nn.utils.clip_grad
    if hasattr(clipping, "_clip_grads_with_norm_"):
        _wrap(clipping, "_clip_grads_with_norm_", _clipping_norm)
    for place in (torch.nn.utils, clipping):
        _wrap(place, "clip_grad_value_", _clipping_value)
    for kind in {LRScheduler, *_overriding(LRScheduler, "step")}:
        _wrap(kind, "step", _scheduling)
    _wrap(torch.amp.GradScaler, "scale", _scaling)
    _wrap(torch.amp.GradScaler, "unscale_", _unscaling)
    _wrap(DataLoader, "__iter__", _loading)
    _wrap(_BaseDataLoaderIter, "_next_index", _choosing)
    before = register_optimizer_step_pre_hook(_step_begins)
    after = register_optimizer_step_post_hook(_step_ends)
    UNDO.extend([before.remove, after.remove])


def _tell(event: str, *values: object) -> None:
    for watcher in tuple(WATCHERS):
        _told(watcher, event, *values)


def _told(watcher: Watcher, event: str, *values: object) -> object:
    """Tell one watcher; whatever goes wrong in it stays with it."""
    try:
        return getattr(watcher, event)(*values)
    except Exception as error:
        with suppress(Exception):
            watcher.on_failure(event, error)
        return None


# A compiled step calls its hooks, which are not to be compiled with it.


@torch._disable_dynamo
def _step_begins(optimizer: Optimizer, args: tuple, kwargs: dict) -> None:
    _tell("on_step", optimizer)


@torch._disable_dynamo
def _step_ends(optimizer: Optimizer, args: tuple, kwargs: dict) -> None:
    _tell("on_step_end", optimizer)


class _Teller:
    """Tells the watchers, as long as its wrapper is in use: a program may hold on to that."""

    def __init__(self):
        self.live = True

    def __call__(self, event: str, *values: object) -> None:
        if self.live:
            _tell(event, *values)


def _wrap(place: object, name: str, wrapper: Callable[[Callable, _Teller], Callable]) -> None:
    """Put a wrapper in a function's place until the last trace ends."""
    own = vars(place).get(name)
    original, tell = getattr(place, name), _Teller()
    replaced = wrapper(original, tell)
    setattr(place, name, replaced)

    def undo() -> None:
        tell.live = False
        if vars(place).get(name) is not replaced:
            return  # somebody else has put another function there meanwhile: leave theirs
        if own is None:
            delattr(place, name)
        else:
            setattr(place, name, own)

    UNDO.append(undo)


def _overriding(kind: type, name: str) -> set[type]:
    """Return the subclasses, at any depth, that define a method of that name themselves."""
    found = set()
    for below in kind.__subclasses__():
        if name in vars(below):
            found.add(below)
        found |= _overriding(below, name)
    return found


# The wrappers. Each calls the original exactly as it was called.


def _calling(original: Callable, tell: _Teller) -> Callable:
    @wraps(original)
    def __call__(self, *args, **kwargs):  # noqa: N807
        if not tell.live or tracing():
            return original(self, *args, **kwargs)
        tell("on_call", self, args, kwargs)
        try:
            output = original(self, *args, **kwargs)
        except BaseException:
            tell("on_return", self, None, True)
            raise
        tell("on_return", self, output, False)
        return output

    return __call__


def _backward(original: Callable, tell: _Teller) -> Callable:
    @wraps(original)
    def backward(tensors, *args, **kwargs):
        if tracing():
            return original(tensors, *args, **kwargs)
        tell("on_backward", tensors, kwargs)
        result = original(tensors, *args, **kwargs)
        tell("on_backward_end")
        return result

    return backward


def _grad(original: Callable, tell: _Teller) -> Callable:
    @wraps(original)
    def grad(outputs, inputs, grad_outputs=None, retain_graph=None, create_graph=False, *a, **k):
        if not tracing():
            tell("on_grad", bool(create_graph))
        return original(outputs, inputs, grad_outputs, retain_graph, create_graph, *a, **k)

    return grad


def _zeroing(original: Callable, tell: _Teller) -> Callable:
    @wraps(original)
    def zero_grad(self, *args, **kwargs):
        result = original(self, *args, **kwargs)
        if not tracing():
            tell("on_zero_grad", self)
        return result

    return zero_grad


def _clipping_norm(original: Callable, tell: _Teller) -> Callable:
    @wraps(original)
    def _clip_grads_with_norm_(parameters, max_norm, total_norm, *args, **kwargs):
        single = isinstance(parameters, torch.Tensor)
        parameters = [parameters] if single else list(parameters)
        if not tracing():
            with suppress(Exception):
                tell("on_clip", parameters, "norm", float(max_norm), float(total_norm))
        return original(parameters, max_norm, total_norm, *args, **kwargs)

    return _clip_grads_with_norm_


def _clipping_value(original: Callable, tell: _Teller) -> Callable:
    @wraps(original)
    def clip_grad_value_(parameters, clip_value, *args, **kwargs):
        parameters = parameters if isinstance(parameters, torch.Tensor) else list(parameters)
        if not tracing():
            tell("on_clip", parameters, "value", clip_value, float("nan"))
        return original(parameters, clip_value, *args, **kwargs)

    return clip_grad_value_


def _scheduling(original: Callable, tell: _Teller) -> Callable:
    @wraps(original)
    def step(self, *args, **kwargs):
        if id(self) in SCHEDULING:  # called by the `step` of a subclass, which is told of
            return original(self, *args, **kwargs)
        SCHEDULING.add(id(self))
        try:
            result = original(self, *args, **kwargs)
        finally:
            SCHEDULING.discard(id(self))
        tell("on_schedule", self, args[0] if args else kwargs.get("metrics"))
        return result

    return step


def _scaling(original: Callable, tell: _Teller) -> Callable:
    @wraps(original)
    def scale(self, outputs):
        tell("on_scaler", "scale", None)
        return original(self, outputs)

    return scale


def _unscaling(original: Callable, tell: _Teller) -> Callable:
    @wraps(original)
    def unscale_(self, optimizer):
        tell("on_scaler", "unscale", optimizer)
        return original(self, optimizer)

    return unscale_


def _loading(original: Callable, tell: _Teller) -> Callable:
    @wraps(original)
    def __iter__(self):  # noqa: N807
        watchers = tuple(WATCHERS) if tell.live else ()
        before = [(watcher, _told(watcher, "before_loader")) for watcher in watchers]
        iterator = original(self)
        for watcher, seen in before:
            _told(watcher, "on_loader", self, iterator, seen)
        return iterator

    return __iter__


def _choosing(original: Callable, tell: _Teller) -> Callable:
    @wraps(original)
    def _next_index(self):
        try:
            indices = original(self)
        except StopIteration:
            tell("on_indices", self, None)
            raise
        tell("on_indices", self, indices)
        return indices

    return _next_index
