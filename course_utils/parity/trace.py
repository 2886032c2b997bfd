"""Recording every optimizer step of a training loop that knows nothing of it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from course_utils.parity.fingerprint import (
    content,
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
    """The record of one training run: `steps`, and the model's values at start and end."""

    def __init__(self, model: nn.Module):
        self.steps: list[Step] = []
        self.start = Snapshot()
        self.end = Snapshot()
        self.threads = torch.get_num_threads()
        self.device = ""
        self.random = False  # whether the model draws random numbers while it trains
        self._model = model
        self._pending: list[Call] = []
        self._losses: list[float] = []
        self._depth = 0
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

    # What the hooks call, in the order of a step.

    def _before_forward(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        self._depth += 1
        if self._depth > 1:
            return
        modes = tuple(m.training for m in _acting_modules(self._model))
        if not torch.is_grad_enabled():
            self._evaluations[0] += 1
            self._evaluations[1] += all(modes)
            return
        inputs = list(tensors_in((args, kwargs)))
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
        if self._depth or not torch.is_grad_enabled() or not self._pending:
            return
        call, outputs = self._pending[-1], list(tensors_in(output))
        call.output = tuple(fingerprint(tensor) for tensor in outputs)
        call.dtype = str(outputs[0].dtype).removeprefix("torch.") if outputs else ""
        for tensor in outputs:
            if tensor.requires_grad:
                tensor.register_hook(_marker(call))

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

    @torch.no_grad()
    def _after_step(self, optimizer: Optimizer, args: tuple, kwargs: dict) -> None:
        place = self._place(optimizer)
        if place is None:
            return
        parameters = list(self._model.parameters())
        theirs = {id(p) for group in optimizer.param_groups for p in group["params"]}
        owned = tuple(i for i, p in enumerate(parameters) if id(p) in theirs)
        mine = [parameters[i] for i in owned]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in mine]
        self.steps.append(
            Step(
                optimizer=place,
                kind=type(optimizer).__name__,
                warm=self._warm.get(optimizer, False),
                calls=self._used_calls(),
                losses=tuple(self._losses),
                owned=owned,
                foreign=len(theirs) - len(owned),
                gradients=tuple(fingerprint(g) for g in gradients),
                gradient_norm=float(torch.stack([g.norm().float() for g in gradients]).norm()),
                gradient_max=max(float(g.abs().max()) for g in gradients if g.numel()),
                gradient_projection=projection(gradients),
                gradient_sample=sample(gradients),
                groups=tuple(_group(group) for group in optimizer.param_groups),
                weights=tuple(fingerprint(p) for p in mine),
                weight_projection=projection(mine),
                buffers=tuple(fingerprint(b) for b in self._model.buffers()),
                evaluations=self._evaluations[0],
                evaluations_training=self._evaluations[1],
            )
        )
        self._losses, self._evaluations = [], [0, 0]

    def _used_calls(self) -> tuple[Call, ...]:
        used = tuple(call for call in self._pending if call.used)
        self._pending = [call for call in self._pending if not call.used][-MOST_PENDING:]
        return used

    def _place(self, optimizer: Optimizer) -> int | None:
        """Return the optimizer's number, or None if it updates nothing of this model."""
        if optimizer not in self._optimizers:
            ours = {id(p) for p in self._model.parameters()}
            params = (p for group in optimizer.param_groups for p in group["params"])
            seen = sum(place is not None for place in self._optimizers.values())
            self._optimizers[optimizer] = seen if any(id(p) in ours for p in params) else None
        return self._optimizers[optimizer]

    def _begin(self) -> None:
        self.start.parameters = _copies(self._model.named_parameters())
        self.start.buffers = _copies(self._model.named_buffers())
        self.random = any(
            isinstance(m, (nn.modules.dropout._DropoutNd, nn.RReLU)) for m in self._model.modules()
        )

    def _finish(self) -> None:
        self.end.parameters = _copies(self._model.named_parameters())
        self.end.buffers = _copies(self._model.named_buffers())
        self._pending, self._optimizers, self._warm = [], {}, {}


@contextmanager
def trace(model: nn.Module) -> Iterator[Trace]:
    """Record every optimizer step that updates `model` while the `with` block runs.

    Nothing in the loop has to change: a raw loop, Fabric and `Trainer.fit` are watched alike, on
    any device, with any number of optimizers, and forward passes a step. Give the same network
    on both sides: `model` for a raw loop, `lit.model` for a LightningModule around it.

    Kept for each step are fingerprints of every input batch, of the output, of each gradient as
    it was used (after clipping) and of each weight afterwards; the mode of each layer; losses,
    learning rates and the optimizer's settings. All hooks are gone when the block ends, also
    after an exception. Raises TypeError if `model` is not an `nn.Module` and ValueError if it
    has no parameters.
    """
    _check(model)
    record = Trace(model)
    record._begin()
    with ExitStack() as hooks:
        for module in model.modules():
            if _has_parameters(module):
                before = module.register_forward_pre_hook(record._before_forward, with_kwargs=True)
                hooks.callback(before.remove)
                after = module.register_forward_hook(
                    record._after_forward, with_kwargs=True, always_call=True
                )
                hooks.callback(after.remove)
        hooks.callback(register_optimizer_step_pre_hook(record._before_step).remove)
        hooks.callback(register_optimizer_step_post_hook(record._after_step).remove)
        hooks.enter_context(_watch_backward(record._before_backward))
        hooks.callback(record._finish)
        yield record


def _check(model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"trace() watches a model: expected an nn.Module, got {type(model).__name__}. "
            "Write `with trace(model) as record:` around the loop that trains it."
        )
    if not _has_parameters(model):
        raise ValueError(f"{type(model).__name__} has no parameters, so no step could be recorded.")


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


def _group(group: dict) -> Group:
    settings = {key: value for key, value in group.items() if key not in IMPLEMENTATION}
    return Group(learning_rate=float(group["lr"]), settings=settings)


def _acting_modules(model: nn.Module) -> list[nn.Module]:
    """Return the modules whose mode can matter: those that hold parameters, and dropout."""
    return [m for m in model.modules() if m._parameters or isinstance(m, MODE_SENSITIVE)]


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _copies(named) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in named}
