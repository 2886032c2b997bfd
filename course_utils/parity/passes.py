"""The forward passes of a run: what goes into a model and its layers, and what comes out."""

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from .aside import aside, plain
from .chance import parted, random_states, torch_state
from .fingerprint import UnreadableError, digest_and_content, fingerprint, sample, tensors_in
from .follower import (
    DRAWING_STEPS,
    DROPOUTS,
    LARGE_OUTPUT,
    MODE_SENSITIVE,
    MOST_PENDING,
    NORMS,
    Follower,
    beside,
)
from .record import Call, Evaluation, Layer, digest_of


class Passes(Follower):
    """Follows the calls of a model, of its layers, and of networks beside it."""

    @beside
    def on_call(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        """Note what a module of the model gets, or the mode of a layer of another network."""
        name = self.names.get(id(module))
        if name is None:  # what torch.compile wrapped is called in its wrapper's place
            inner = module.__dict__.get("_modules")
            name = self.names.get(id(inner.get("_orig_mod"))) if isinstance(inner, dict) else None
        if name is None:
            if _acts_by_mode(module):
                self.beside[id(module)] = module, module.training
            return
        if self.inside.entered and not self.layered:
            return  # inside a pass whose layers are not looked at
        frame = [name, None, None, False, module]
        self.inside.stack.append(frame)
        holds = _has_parameters(module)
        recomputed = torch._C._current_graph_task_id() != -1
        if recomputed:
            self._begin_layer(frame, module, args, kwargs, again=True)
            return
        if holds:
            self.inside.entered += 1
            frame[3] = True
            if self.inside.entered == 1:
                self.layered = self._layered
                self._enter(frame, name, args, kwargs)
        self._begin_layer(frame, module, args, kwargs)

    def _enter(self, frame: list, name: str, args: tuple, kwargs: dict) -> None:
        modes = self._shared(tuple(m.training for m in self.acting))
        if not torch.is_grad_enabled():
            self._evaluate(modes, args, kwargs)
            return
        inputs = list(tensors_in((args, kwargs)))
        # What comes from another part of the model, as from an encoder, is no batch: a loop that
        # calls the parts one by one is to be found equal to one that calls the whole.
        data = [tensor for tensor in inputs if tensor.grad_fn is None]
        call = self._continued(name, len(data) < len(inputs))
        looked_at = inputs if call is None else data
        self.digests.clear()
        try:
            prints = [self._read(tensor) for tensor in looked_at]
        except UnreadableError as error:
            self.note(f"Inputs of a forward pass were not seen: {error}.")
            prints, looked_at = [], []
        if call is not None:
            for seen, content in prints:
                if seen not in call.inputs:
                    call.inputs += (seen,)
                    call.content += content
            call.parts += 1
            self.parts.add(name)
            frame[1] = call
            return
        call = Call(
            entry=name,
            inputs=tuple(seen for seen, _ in prints),
            content=sum(content for _, content in prints),
            size=_samples(looked_at),
            modes=modes,
            autocast=bool(inputs) and torch.is_autocast_enabled(inputs[0].device.type),
            random=random_states(self.trace.device),
            settings=self._settings(),
        )
        if self.first:
            self.first = False
            self.changed = self._weights_changed(call)
        if self._rich:
            call.buffers = digest_of(self._buffers().values())
        self._event("forward")
        self.pending.append(call)
        self.open, self.parts = call, {name}
        frame[1] = call

    def _continued(self, name: str, partly: bool) -> Call | None:
        """Return the pass that a part belongs to, which is called by itself, if it does."""
        if self.pending and partly:
            return self.pending[-1]
        if name and self.open is not None and self.open.entry and name not in self.parts:
            return self.open
        return None

    def _evaluate(self, modes: tuple[bool, ...], args: tuple, kwargs: dict) -> None:
        self._count_evaluation(modes)
        self.novel = True
        self._event("evaluation")
        if self._rich and len(self.evaluated) < MOST_PENDING:
            try:
                seen = digest_of(fingerprint(t) for t in tensors_in((args, kwargs)))
            except UnreadableError:
                seen = b""
            self.evaluated.append(Evaluation(seen, random_states(self.trace.device), any(modes)))

    def _begin_layer(self, frame: list, module, args, kwargs, again: bool = False) -> None:
        """Note what goes into a layer, where layers are looked at."""
        call = frame[1] or (self.pending[-1] if self.pending else None)
        seen = torch.is_grad_enabled() and call is not None and self.layered
        if not seen or not (module._parameters or next(module.children(), None) is None):
            return
        try:
            read = fingerprint if again else self._seen
            inputs = digest_of(read(t) for t in tensors_in((args, kwargs)))
        except UnreadableError:
            return
        drops = isinstance(module, DROPOUTS) and module.training and module.p > 0
        random = torch_state(self.trace.device) if drops else b""
        frame[2] = Layer(frame[0], inputs, b"", again, random)
        call.layers.append(frame[2])

    @beside
    def on_return(self, module: nn.Module, output: object, failed: bool) -> None:
        """Note what a module of the model returned."""
        if not self.inside.stack or self.inside.stack[-1][4] is not module:
            return
        _, call, layer, counted, _ = self.inside.stack.pop()
        if counted:
            self.inside.entered -= 1
        if failed:
            return
        outputs = [tensor for tensor in tensors_in(output)]
        try:
            if layer is not None:
                read = fingerprint if layer.again else self._seen
                layer.output = digest_of(read(tensor) for tensor in outputs)
                self.layer_values += sum(tensor.numel() for tensor in outputs)
            if counted and self.inside.entered == 0 and call is not None:
                self._leave(call, outputs)
        except UnreadableError as error:
            self.note(f"Outputs of a forward pass were not seen: {error}.")

    def _leave(self, call: Call, outputs: list[Tensor]) -> None:
        call.output = tuple(self._seen(tensor) for tensor in outputs)
        call.dtype = str(outputs[0].dtype).removeprefix("torch.") if outputs else ""
        if self.novel or len(self.trace.steps) < DRAWING_STEPS:
            call.drew = self._shared(parted(call.random, random_states(self.trace.device)))
            self.trace.random |= any(call.drew)
        self.digests.clear()
        for tensor in outputs:
            if tensor.grad_fn is not None:
                self.handles.append(tensor.register_hook(self._marker(call)))

    def _seen(self, tensor: Tensor) -> bytes:
        """Return a fingerprint; what one layer puts out and the next takes in is read once."""
        key = id(tensor), tensor._version
        if key not in self.digests:
            # The tensor is kept as well, so that its identity stays its own.
            self.digests[key] = fingerprint(tensor), tensor
        return self.digests[key][0]

    def _read(self, tensor: Tensor) -> tuple[bytes, int]:
        """Return fingerprint and content of what goes into the model."""
        digest, content = digest_and_content(tensor)
        self.digests[id(tensor), tensor._version] = digest, tensor
        return digest, content

    def _marker(self, call: Call) -> Callable[[Tensor], None]:
        def mark(gradient: Tensor) -> None:
            call.used = True
            try:
                if not self._rich or gradient.numel() > LARGE_OUTPUT:
                    return
                with nullcontext() if plain() else aside():
                    call.gradient += (fingerprint(gradient),)
                    if call.gradient_sample is None:
                        call.gradient_sample = sample([gradient])
            except Exception as error:  # what cannot be read is only missing in a report
                self.on_failure("gradient of an output", error)

        return mark

    def _weights_changed(self, call: Call) -> bool:
        """Return whether the weights are others than after the step before."""
        if self.trace.steps and not (self._rich or self.novel):
            return False  # what a loop does after each step was seen in the first ones
        call.weights = self._weights_now()
        if self.trace.steps:
            return bool(self.unchanged) and call.weights != self.unchanged
        if self.had_backward and self.unchanged and call.weights != self.unchanged:
            self.trace.by_hand += 1
        self.unchanged = call.weights
        return False

    def _settings(self) -> int:
        """Return the number of how the layers that act by mode are set now."""
        now = self._shared(tuple(_setting(m) for m in self.acting if isinstance(m, MODE_SENSITIVE)))
        if not self.trace.settings or self.trace.settings[-1] != now:
            self.trace.settings.append(now)
            self.novel = True
        return len(self.trace.settings) - 1

    def _used_calls(self) -> tuple[Call, ...]:
        """Return the passes that a backward pass used; the others count as evaluations, once."""
        used = tuple(call for call in self.pending if call.used)
        unused = [call for call in self.pending if not call.used]
        for call in unused:
            if not call.counted:
                self._count_evaluation(call.modes)
                self.evaluated.append(
                    Evaluation(digest_of(call.inputs), call.random, any(call.modes))
                )
                call.counted = True
                call.layers = []
        self.pending = unused[-MOST_PENDING:]
        return used


def _samples(inputs: list[Tensor]) -> int:
    """Return the number of samples in a batch: the length of its first tensor that has one."""
    return next((len(tensor) for tensor in inputs if tensor.dim()), 0)


def _acts_by_mode(module: nn.Module) -> bool:
    """Return whether a layer computes something else in training than in evaluation."""
    if isinstance(module, NORMS):
        return module.track_running_stats  # instance norm, as a rule, keeps no averages
    return isinstance(module, MODE_SENSITIVE) and getattr(module, "p", 1) > 0


def _setting(module: nn.Module) -> tuple:
    """Return how a layer that acts by mode is set: its mode and what else steers it."""
    if isinstance(module, NORMS):
        return "norm", module.training, module.track_running_stats, module.momentum, module.eps
    return "dropout", module.training, getattr(module, "p", 0)


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None
