"""Recording every optimizer step of a training loop that knows nothing of it."""

import pickle
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from course_utils.parity.fingerprint import (
    content,
    dense,
    fingerprint,
    projection,
    sample,
    tensors_in,
)
from course_utils.parity.record import Call, Group, Snapshot, Step

# How the arithmetic is carried out, not what is computed: two equal loops may differ in these.
IMPLEMENTATION = {"params", "lr", "initial_lr", "foreach", "fused", "capturable", "differentiable"}
# Modules without parameters that act differently in training and in evaluation.
MODE_SENSITIVE = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._NormBase, nn.RReLU)
# Forward passes that no backward pass has used yet, kept in case a later one does.
MOST_PENDING = 64


class Trace:
    """The record of one training run: `steps`, and the model's values at start and end.

    At the end only the buffers that the run changed are kept: a constant shows in what it does.
    """

    def __init__(self):
        self.steps: list[Step] = []
        self.start = Snapshot()
        self.end = Snapshot()
        self.threads = torch.get_num_threads()
        self.device = ""
        self.random = False  # whether the forward pass draws random numbers
        self.worker: tuple[int, int] | None = None  # its rank, and how many there are
        self.idle = (0, 0)  # evaluations after the last step: all, and those in training mode
        self._model: nn.Module | None = None
        self._own: set[nn.Module] = set()
        self._beside: dict[nn.Module, bool] = {}
        self._pending: list[Call] = []
        self._losses: list[float] = []
        self._depth = 0
        self._generator: Tensor | None = None
        self._evaluations = [0, 0]
        self._optimizers: dict[Optimizer, int | None] = {}
        self._warm: dict[Optimizer, bool] = {}

    def __repr__(self) -> str:
        """Say how many steps were recorded, on what."""
        values = sum(tensor.numel() for tensor in self.start.parameters.values())
        return f"<Trace of {len(self.steps):,} steps, {values:,} weights, on {self.device or '?'}>"

    @property
    def losses(self) -> list[float]:
        """The loss of each step: the mean of what `backward()` was called on; NaN if unseen."""
        return [
            sum(step.losses) / len(step.losses) if step.losses else float("nan")
            for step in self.steps
        ]

    def save(self, path: str | Path) -> None:
        """Write the trace to a file, for a comparison in another process or on another machine."""
        torch.save(self, path)

    @staticmethod
    def load(path: str | Path) -> "Trace":
        """Read a trace that `save` wrote; nothing but a trace is built from the file.

        Raises ValueError if the file holds something else, FileNotFoundError if there is none.
        """
        try:
            with torch.serialization.safe_globals([Trace, Snapshot, Step, Call, Group]):
                found = torch.load(path, weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
            raise ValueError(f"{path} cannot be read as a trace: {error}") from None
        if not isinstance(found, Trace):
            raise ValueError(
                f"{path} holds a {type(found).__name__}: `trace.save()` wrote no such."
            )
        return found

    def __getstate__(self) -> dict:
        """Leave out the model, and what only matters while hooks run."""
        gone = {"_model": None, "_own": set(), "_beside": {}, "_pending": []}
        return {**self.__dict__, **gone, "_optimizers": {}, "_warm": {}}

    # What the hooks call, in the order of a step.

    def _before_forward(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        self._depth += 1
        if self._depth > 1:
            return
        if not self.steps and not self.random:
            self._generator = _generator_state(self._model)
        modes = tuple(m.training for m in _acting_modules(self._model))
        if not torch.is_grad_enabled():
            self._count_evaluation(modes)
            return
        inputs = list(tensors_in((args, kwargs)))
        # What comes from another part of the model, as from an encoder, is no batch: a loop that
        # calls the parts one by one is to be found equal to one that calls the whole.
        data = [tensor for tensor in inputs if tensor.grad_fn is None]
        if self._pending and len(data) < len(inputs):
            _continue_call(self._pending[-1], data)
            return
        self._pending.append(
            Call(
                inputs=tuple(fingerprint(tensor) for tensor in inputs),
                content=sum(content(tensor) for tensor in inputs),
                size=len(inputs[0]) if inputs and inputs[0].dim() else 0,
                modes=modes,
                autocast=bool(inputs) and torch.is_autocast_enabled(inputs[0].device.type),
            )
        )

    def _after_forward(self, module: nn.Module, args: tuple, kwargs: dict, output: object) -> None:
        self._depth -= 1
        if self._depth:
            return
        if self._generator is not None:
            self.random |= not torch.equal(self._generator, _generator_state(self._model))
            self._generator = None
        if not torch.is_grad_enabled() or not self._pending:
            return
        call, outputs = self._pending[-1], list(tensors_in(output))
        call.output = tuple(fingerprint(tensor) for tensor in outputs)
        call.dtype = str(outputs[0].dtype).removeprefix("torch.") if outputs else ""
        for tensor in outputs:
            if tensor.requires_grad:
                tensor.register_hook(_marker(call))

    def _before_any_forward(self, module: nn.Module, args: tuple) -> None:
        """Note the mode of a layer of another network, such as a loss network or a teacher."""
        if _acts_by_mode(module) and module not in self._own:
            self._beside[module] = module.training

    def _before_backward(self, loss: Tensor) -> None:
        if loss.numel() == 1:
            self._losses.append(float(loss.detach()))

    def _before_step(self, optimizer: Optimizer, args: tuple, kwargs: dict) -> None:
        if self._place(optimizer) is None:
            return
        self._warm.setdefault(optimizer, len(optimizer.state) > 0)
        if not self.steps:  # the weights may have been loaded or moved since the `with` line
            self.start.parameters = _copies(self._model.named_parameters())
            self.threads = torch.get_num_threads()
            self.device = next(self._model.parameters()).device.type
            if dist.is_available() and dist.is_initialized():
                self.worker = dist.get_rank(), dist.get_world_size()

    @torch.no_grad()
    def _after_step(self, optimizer: Optimizer, args: tuple, kwargs: dict) -> None:
        place = self._place(optimizer)
        if place is None:
            return
        parameters = list(self._model.parameters())
        numbers = {id(p): number for number, p in enumerate(parameters)}
        groups = tuple(_group(group, numbers) for group in optimizer.param_groups)
        owned = tuple(sorted(number for group in groups for number in group.members))
        if not owned:  # the parameters that it had were taken out of the model
            return
        mine = [parameters[i] for i in owned]
        gradients = [torch.zeros_like(p) if p.grad is None else dense(p.grad) for p in mine]
        calls = self._used_calls()
        self.steps.append(
            Step(
                optimizer=place,
                kind=type(optimizer).__name__,
                warm=self._warm.get(optimizer, False),
                calls=calls,
                losses=tuple(self._losses),
                owned=owned,
                foreign=_trained(optimizer) - sum(p.grad is not None for p in mine),
                beside=tuple(self._beside.values()),
                gradients=tuple(fingerprint(g) for g in gradients),
                gradient_norms=tuple(torch.stack([g.norm().float() for g in gradients]).tolist()),
                gradient_max=max(float(g.abs().max()) for g in gradients if g.numel()),
                gradient_projection=projection(gradients),
                gradient_sample=sample(gradients),
                groups=groups,
                weights=tuple(fingerprint(p) for p in mine),
                weight_projection=projection(mine),
                buffers={name: fingerprint(b) for name, b in self._model.named_buffers()},
                evaluations=self._evaluations[0],
                evaluations_training=self._evaluations[1],
            )
        )
        self._losses, self._evaluations, self._beside = [], [0, 0], {}

    def _count_evaluation(self, modes: tuple[bool, ...]) -> None:
        self._evaluations[0] += 1
        self._evaluations[1] += any(modes)

    def _used_calls(self) -> tuple[Call, ...]:
        """Return the passes that a backward pass used; the others count as evaluations, once."""
        used = tuple(call for call in self._pending if call.used)
        unused = [call for call in self._pending if not call.used]
        for call in unused:
            if not call.counted:
                self._count_evaluation(call.modes)
                call.counted = True
        self._pending = unused[-MOST_PENDING:]
        return used

    def _place(self, optimizer: Optimizer) -> int | None:
        """Return the optimizer's number, or None if it updates nothing of this model."""
        if optimizer not in self._optimizers:
            ours = {id(p) for p in self._model.parameters()} if self._model else set()
            params = (p for group in optimizer.param_groups for p in group["params"])
            seen = sum(place is not None for place in self._optimizers.values())
            self._optimizers[optimizer] = seen if any(id(p) in ours for p in params) else None
        return self._optimizers[optimizer]

    def _watch(self, model: nn.Module, hooks: ExitStack) -> None:
        """Follow a model's forward passes until the hooks are taken away."""
        _check(model)
        self._model, self._own = model, set(model.modules())
        for module in self._own:
            if _has_parameters(module):
                before = module.register_forward_pre_hook(self._before_forward, with_kwargs=True)
                hooks.callback(before.remove)
                after = module.register_forward_hook(
                    self._after_forward, with_kwargs=True, always_call=True
                )
                hooks.callback(after.remove)
        self.start.parameters = _copies(self._model.named_parameters())
        self.start.buffers = _copies(self._model.named_buffers())

    def _finish(self) -> None:
        if self._model is None:
            return
        self.end.parameters = _copies(self._model.named_parameters())
        start, end = self.start.buffers, _copies(self._model.named_buffers())
        self.end.buffers = {
            name: buffer
            for name, buffer in end.items()
            if name not in start or fingerprint(buffer) != fingerprint(start[name])
        }
        self._used_calls()
        self.idle = tuple(self._evaluations)
        self._pending, self._optimizers, self._warm = [], {}, {}
        self._own, self._beside = set(), {}


@contextmanager
def trace(model: nn.Module | type[nn.Module]) -> Iterator[Trace]:
    """Record every optimizer step that updates `model` while the `with` block runs.

    Nothing in the loop has to change: a raw loop, Fabric and `Trainer.fit` are watched alike, on
    any device, with any number of optimizers, and forward passes a step. Give the same network
    on both sides: `model` for a raw loop, `lit.model` for a LightningModule around it. A script
    builds its model where nobody outside can reach it: give the class, `trace(MyNet)`, and the
    first `MyNet` that is built inside the block is watched.

    Kept for each step are fingerprints of every input batch, of the output, of each gradient as
    it was used (after clipping) and of each weight afterwards; the mode of each layer; losses,
    learning rates and the optimizer's settings. All hooks are gone when the block ends, also
    after an exception. Raises TypeError if `model` is not an `nn.Module` (or a class of them), and
    ValueError if it has no parameters, or if none of the class was built.
    """
    record = Trace()
    with ExitStack() as hooks:
        if isinstance(model, type) and issubclass(model, nn.Module):
            hooks.enter_context(_first_built(model, lambda built: record._watch(built, hooks)))
        else:
            record._watch(model, hooks)
        hooks.callback(register_module_forward_pre_hook(record._before_any_forward).remove)
        hooks.callback(register_optimizer_step_pre_hook(record._before_step).remove)
        hooks.callback(register_optimizer_step_post_hook(record._after_step).remove)
        hooks.enter_context(_watch_backward(record._before_backward))
        hooks.callback(record._finish)
        yield record
        if record._model is None:
            raise ValueError(
                f"No {model.__name__} was built in the `with trace({model.__name__})` block. Give "
                "the very class that the program builds, and let it be built inside the block."
            )


def _check(model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"trace() watches a model: expected an nn.Module, got {type(model).__name__}. "
            "Write `with trace(model) as record:` around the loop that trains it."
        )
    if not _has_parameters(model):
        raise ValueError(f"{type(model).__name__} has no parameters, so no step could be recorded.")


@contextmanager
def _first_built(kind: type[nn.Module], found: Callable[[nn.Module], None]) -> Iterator[None]:
    """Show the callback the first object of exactly this class, once it is built."""
    own, original, waiting = vars(kind).get("__init__"), kind.__init__, [True]

    @wraps(original)
    def init(self: nn.Module, *args, **kwargs) -> None:
        original(self, *args, **kwargs)
        if waiting and type(self) is kind:
            waiting.clear()
            found(self)

    kind.__init__ = init
    try:
        yield
    finally:
        if own is None:
            del kind.__init__  # the class had inherited it
        else:
            kind.__init__ = own


@contextmanager
def _watch_backward(callback: Callable[[Tensor], None]) -> Iterator[None]:
    """Show the callback every tensor that `backward()` is called on.

    PyTorch has no hook for the start of a backward pass, so the method is wrapped meanwhile.
    """
    original = Tensor.backward

    @wraps(original)
    def backward(self: Tensor, *args, **kwargs):
        callback(self)
        return original(self, *args, **kwargs)

    Tensor.backward = backward
    try:
        yield
    finally:
        Tensor.backward = original


def _marker(call: Call) -> Callable[[Tensor], None]:
    def mark(gradient: Tensor) -> None:
        call.used = True

    return mark


def _continue_call(call: Call, data: list[Tensor]) -> None:
    """Add what a later part of a forward pass takes in beside the output of an earlier one."""
    for tensor in data:
        seen = fingerprint(tensor)
        if seen not in call.inputs:
            call.inputs += (seen,)
            call.content += content(tensor)


def _trained(optimizer: Optimizer) -> int:
    """Return how many tensors an optimizer updates: those without a gradient it passes over."""
    params = (p for group in optimizer.param_groups for p in group["params"])
    return sum(p.grad is not None for p in params)


def _group(group: dict, numbers: dict[int, int]) -> Group:
    settings = {key: value for key, value in group.items() if key not in IMPLEMENTATION}
    members = sorted(numbers[id(p)] for p in group["params"] if id(p) in numbers)
    return Group(float(group["lr"]), settings, tuple(members))


def _generator_state(model: nn.Module) -> Tensor:
    """Return the state of the random generator that the model draws from where it is."""
    device = next(model.parameters()).device.type
    return (torch if device == "cpu" else torch.get_device_module(device)).get_rng_state()


def _acting_modules(model: nn.Module) -> list[nn.Module]:
    """Return the modules whose mode can matter: those that hold parameters, and dropout."""
    return [m for m in model.modules() if m._parameters or isinstance(m, MODE_SENSITIVE)]


def _acts_by_mode(module: nn.Module) -> bool:
    """Return whether a layer computes something else in training than in evaluation."""
    if isinstance(module, nn.modules.batchnorm._NormBase):
        return module.track_running_stats  # instance norm, as a rule, keeps no averages
    return isinstance(module, MODE_SENSITIVE) and getattr(module, "p", 1) > 0


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _copies(named) -> dict[str, Tensor]:
    return {
        name: tensor.detach().to("cpu", copy=True) for name, tensor in named if not is_lazy(tensor)
    }
