"""From what is seen of a running loop to the records of its steps."""

import sys
import threading
from collections import Counter, deque
from collections.abc import Callable
from contextlib import nullcontext, suppress
from functools import wraps
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from .aside import aside, plain
from .chance import parted, random_states, torch_state
from .environment import environment
from .fingerprint import (
    UnreadableError,
    content,
    dense,
    digests,
    fingerprint,
    measures,
    readable,
    sample,
    tensors_in,
)
from .optimizers import group_of, settings_of
from .record import (
    Call,
    Clip,
    Evaluation,
    Evidence,
    Layer,
    Pass,
    Schedule,
    Snapshot,
    Step,
    digest_of,
)
from .watch import Watcher

if TYPE_CHECKING:
    from .trace import Trace

# Forward passes that no backward pass has used yet, kept in case a later one does.
MOST_PENDING = 64
# So many steps are kept with what explains them; then only those where something is new.
RICH_STEPS = 100
RICH_BYTES = 32_000_000
# Values that layers may put out altogether, before only new steps are looked at layer by layer.
LAYER_VALUES = 60_000_000
LARGE_OUTPUT = 4_000_000  # values; the gradient of a larger output is not read
SMALL_MODEL = 500_000  # values; of a larger one only some are compared before each step
GRAPH_STEPS = 64
DRAWING_STEPS = 32  # in which it is looked whether the forward pass draws random numbers
GRAPH_NODES = 1000
MOST_EVENTS = 200

NORMS = nn.modules.batchnorm._NormBase
DROPOUTS = nn.modules.dropout._DropoutNd
# Modules without parameters that act differently in training and in evaluation.
MODE_SENSITIVE = (DROPOUTS, NORMS, nn.RReLU)


def _beside(method: Callable) -> Callable:
    """Call a method only while a model is followed, and beside the program's modes."""

    @wraps(method)
    def called(self, *args):
        if self.follows is False:
            return None
        if plain():
            return method(self, *args)
        with aside():
            return method(self, *args)

    return called


class _Inside(threading.local):
    """Which modules are being called, in each thread by itself."""

    def __init__(self):
        self.stack: list[list] = []  # of calls: name, pass, layer, entry?, module
        self.entered = 0  # how many modules with parameters are being called


class Recorder(Watcher):
    """Follows one model through a run, and fills its trace."""

    def __init__(self, trace: "Trace", detail: bool | range):
        self.trace = trace
        self.detail = detail
        self.model: nn.Module | None = None
        self.follows = False
        self.names: dict[int, str] = {}  # of the model's own modules, by identity
        self.acting: list[nn.Module] = []  # those whose mode can matter
        self.parameters: list[nn.Parameter] = []
        self.numbers: dict[int, int] = {}
        self.values = 0  # in all parameters
        self.inside = _Inside()
        self.layered = False  # whether the layers of the present pass are looked at
        self.pending: list[Call] = []
        self.open: Call | None = None  # a pass to which parts called one by one may belong
        self.parts: set[str] = set()
        self.beside: dict[int, tuple[nn.Module, bool]] = {}
        self.handles: deque = deque(maxlen=8 * MOST_PENDING)
        self.optimizers: dict[int, tuple[Optimizer, int | None]] = {}
        self.warm: dict[int, bool] = {}
        self.loaders: dict[int, tuple[DataLoader, int]] = {}
        self.iterators: dict[int, tuple[object, Pass, int]] = {}
        self.schedulers: dict[int, tuple[object, int]] = {}
        self.digests: dict = {}  # of tensors that were read in this pass
        self.shared: dict = {}  # equal tuples are kept once
        self.rich_bytes = 0
        self.layer_values = 0
        self.novel = True  # whether something is new since the step before
        self.unchanged = b""  # the weights after the step before, as far as they are looked at
        self.had_backward = False
        self.other_groups = False
        self.counts: dict[int, int] = {}  # by parameter: backward passes in its gradient
        self.old: dict[int, int] = {}  # those of them before the step before
        self.versions: list[tuple[int, int]] = []
        self._clear()

    def _clear(self) -> None:
        """Begin to collect for the next step."""
        self.losses: list[float] = []
        self.loss_dtype = ""
        self.events: list[str] = []
        self.clips: list[Clip] = []
        self.evaluations = [0, 0]
        self.evaluated: list[Evaluation] = []
        self.graph: tuple[str, ...] = ()
        self.loaded: list[tuple[int, bytes]] = []
        self.scheduled: Counter = Counter()
        self.beside = {}
        self.first = True  # whether no pass was seen yet
        self.changed = False

    def on_failure(self, event: str, error: Exception) -> None:
        """Turn what goes wrong in the doctor's own work into a note: the program goes on."""
        where = event.removeprefix("on_").replace("_", " ")
        self.note(f"The doctor could not follow a {where} ({type(error).__name__}: {error}).")

    def note(self, text: str) -> None:
        """Keep a remark for the report, once, and a few at most."""
        text = " ".join(text.split())[:300]
        if text not in self.trace.notes and len(self.trace.notes) < 8:
            self.trace.notes.append(text)

    # The model

    def follow(self, model: nn.Module) -> None:
        """Begin to watch a model."""
        self.model = model
        self.follows = True
        try:
            self.trace.seed = random_states()
            self._learn_names()
            self._keep_start()
        except Exception as error:
            self.on_failure("start", error)

    def _learn_names(self) -> None:
        self.names = {id(module): name for name, module in self.model.named_modules()}
        self.acting = [m for m in self.model.modules() if _can_matter(m)]
        before, self.parameters = self.parameters, list(self.model.parameters())
        self.numbers = {id(p): number for number, p in enumerate(self.parameters)}
        self.counts, self.old = (
            {self.numbers[id(before[n])]: count for n, count in counts.items()
             if id(before[n]) in self.numbers}
            for counts in (self.counts, self.old)
        )  # fmt: skip
        self.values = sum(p.numel() for p in self.parameters if not is_lazy(p))
        self.trace.modules = [
            (name, type(module).__name__, _described(module))
            for name, module in self.model.named_modules()
            if next(module.children(), None) is None
        ]

    def _keep_start(self) -> None:
        self.trace.start = Snapshot(
            self._copies(self.model.named_parameters()), self._copies(self.model.named_buffers())
        )

    def _copies(self, named) -> dict[str, Tensor]:
        """Return copies on the CPU of all tensors that have values."""
        found = {}
        for name, tensor in named:
            try:
                if not is_lazy(tensor):
                    found[name] = next(iter(readable(dense(tensor)))).clone()
            except UnreadableError as error:
                self.note(f"The values of {name} were not seen: {error}.")
        return found

    def _buffers(self) -> dict[str, bytes]:
        """Return the fingerprints of all buffers that have values."""
        found = {}
        for name, buffer in self.model.named_buffers():
            with suppress(UnreadableError):  # it was noted at the start
                found[name] = fingerprint(buffer)
        return found

    @property
    def _rich(self) -> bool:
        """Whether the present step is kept with what explains it."""
        number = len(self.trace.steps)
        if self.detail is True or (isinstance(self.detail, range) and number in self.detail):
            return True
        if self.rich_bytes > RICH_BYTES:
            return False
        return number < RICH_STEPS or (self.novel and self.rich_bytes < RICH_BYTES)

    @property
    def _layered(self) -> bool:
        """Whether the present step is looked at layer by layer."""
        number = len(self.trace.steps)
        if self.detail is True or (isinstance(self.detail, range) and number in self.detail):
            return True
        return self._rich and (self.layer_values < LAYER_VALUES or (self.novel and number > 0))

    # Forward passes

    @_beside
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
            prints = [self._seen(tensor) for tensor in looked_at]
        except UnreadableError as error:
            self.note(f"Inputs of a forward pass were not seen: {error}.")
            prints, looked_at = [], []
        if call is not None:
            for seen, tensor in zip(prints, looked_at, strict=True):
                if seen not in call.inputs:
                    call.inputs += (seen,)
                    call.content += content(tensor)
            call.parts += 1
            self.parts.add(name)
            frame[1] = call
            return
        call = Call(
            entry=name,
            inputs=tuple(prints),
            content=sum(content(tensor) for tensor in looked_at),
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

    @_beside
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

    def _weights_now(self) -> bytes:
        """Return a fingerprint of the weights: of all in a small model, else of some of each."""
        found = [dense(p).reshape(-1) for p in self.parameters if not is_lazy(p)]
        if self.values <= SMALL_MODEL:
            return digest_of(digests(found))
        return digest_of(digests([_scattered(flat) for flat in found]))

    def _settings(self) -> int:
        """Return the number of how the layers that act by mode are set now."""
        now = self._shared(tuple(_setting(m) for m in self.acting if isinstance(m, MODE_SENSITIVE)))
        if not self.trace.settings or self.trace.settings[-1] != now:
            self.trace.settings.append(now)
            self.novel = True
        return len(self.trace.settings) - 1

    # Backward passes and gradients

    @_beside
    def on_backward(self, tensors: object, options: dict) -> None:
        """Note the loss, and the operations that lead to it."""
        losses = [t for t in tensors_in(tensors) if t.numel() == 1]
        self.losses += [float(loss.detach()) for loss in losses]
        self.loss_dtype = str(losses[0].dtype).removeprefix("torch.") if losses else ""
        self.versions = [_version(p.grad) for p in self.parameters]
        for number, parameter in enumerate(self.parameters):
            if parameter.grad is None:
                self.counts.pop(number, None)
                self.old.pop(number, None)
        self._notice_zeros()
        self.backward = "backward (create_graph)" if options.get("create_graph") else "backward"
        number = len(self.trace.steps)
        if not self.graph and self._rich and (number < GRAPH_STEPS or self.novel):
            self.graph = self._shared(_operations(list(tensors_in(tensors))))

    def _notice_zeros(self) -> None:
        """Begin to count anew where gradients were set to zero by hand, as by `p.grad.zero_()`."""
        number = next(iter(self.counts), None)
        if number is not None and self._rich and not self.parameters[number].grad.any():
            zeros = [n for n in self.counts if not self.parameters[n].grad.any()]
            for number in zeros:
                self.counts.pop(number)
                self.old.pop(number, None)

    @_beside
    def on_backward_end(self) -> None:
        """Count the backward pass for the parameters that it reached."""
        reached = [
            number
            for number, (parameter, before) in enumerate(
                zip(self.parameters, self.versions, strict=False)
            )
            if parameter.grad is not None and _version(parameter.grad) != before
        ]
        for number in reached:
            self.counts[number] = self.counts.get(number, 0) + 1
        if reached:
            self.had_backward = True
            self._event(self.backward)
        self.open = None

    @_beside
    def on_grad(self, create_graph: bool) -> None:
        """Note a gradient that was asked for by itself."""
        self._event("grad (create_graph)" if create_graph else "grad")

    @_beside
    def on_zero_grad(self, owner: object) -> None:
        """Note that gradients were set to zero."""
        if isinstance(owner, Optimizer):
            mine = [p for group in owner.param_groups for p in group["params"]]
        else:
            mine = owner.parameters()
        numbers = [self.numbers[id(p)] for p in mine if id(p) in self.numbers]
        for number in numbers:
            self.counts.pop(number, None)
            self.old.pop(number, None)
        if numbers:
            place = self._place(owner) if isinstance(owner, Optimizer) else 0
            self._event(f"zero_grad {place + 1}" if place else "zero_grad")

    @_beside
    def on_clip(self, parameters: list, kind: str, limit: float, found: float) -> None:
        """Note that gradients were clipped."""
        listed = [parameters] if isinstance(parameters, Tensor) else parameters
        if any(id(p) in self.numbers for p in listed):
            self._event(f"clip by {kind}")
            members = self._shared(tuple(self.numbers.get(id(p), -1) for p in listed))
            self.clips.append(Clip(float(limit), float(found), members))

    @_beside
    def on_scaler(self, what: str, optimizer: Optimizer | None) -> None:
        """Note what a gradient scaler does."""
        if optimizer is None or self._place(optimizer) is not None:
            self._event(what)

    def _event(self, what: str) -> None:
        if len(self.events) < MOST_EVENTS:
            self.events.append(what)

    # Optimizer steps

    @_beside
    def on_step(self, optimizer: Optimizer) -> None:
        """Keep what was before the first step."""
        if self._place(optimizer) is None:
            return
        self.warm.setdefault(id(optimizer), len(optimizer.state) > 0)
        if not self.trace.steps:  # the weights may have been loaded or moved since the `with` line
            before = self.trace.start
            self._learn_names()
            self.trace.start = Snapshot(self._copies(self.model.named_parameters()), before.buffers)
            self.trace.initialised = not _alike(before.parameters, self.trace.start.parameters)
            self.trace.device = next(self.model.parameters()).device.type
            self.trace.environment = environment(self.trace.device)
            if dist.is_available() and dist.is_initialized():
                self.trace.worker = dist.get_rank(), dist.get_world_size()

    @_beside
    def on_step_end(self, optimizer: Optimizer) -> None:
        """Make the record of the step."""
        if _within_its_own_step(optimizer):
            return
        with torch.no_grad():
            self._record_step(optimizer)

    def _record_step(self, optimizer: Optimizer) -> None:
        place = self._place(optimizer)
        if place is None:
            return
        if self._rich and [id(p) for p in self.model.parameters()] != list(self.numbers):
            self._learn_names()
        groups = self._shared(
            tuple(group_of(g, self.numbers, optimizer) for g in optimizer.param_groups)
        )
        owned = self._shared(tuple(sorted(n for group in groups for n in group.members)))
        if not owned:  # the parameters that it had were taken out of the model
            return
        steps = self.trace.steps
        other = bool(steps) and steps[-1].groups != groups
        if other and not self.other_groups:  # a learning rate may well change with each step
            self.novel = True
        self.other_groups = other
        mine = [self.parameters[number] for number in owned]
        without = self._shared(tuple(p.grad is None for p in mine))
        gradients = [torch.zeros_like(dense(p)) if p.grad is None else dense(p.grad) for p in mine]
        calls = self._used_calls()
        rich = self._rich
        evidence = self._evidence(mine, gradients) if rich else None
        if evidence:
            gradient, weight = digest_of(evidence.gradients), digest_of(evidence.weights)
        else:
            gradient, weight = digest_of(digests(gradients)), digest_of(digests(mine))
        buffers = evidence.buffers if evidence else self._buffers()
        steps.append(
            Step(
                optimizer=place,
                kind=type(optimizer).__name__,
                warm=self.warm.get(id(optimizer), False),
                calls=calls,
                losses=tuple(self.losses),
                loss_dtype=self.loss_dtype,
                owned=owned,
                foreign=_trained(optimizer) - (len(mine) - sum(without)),
                beside=self._shared(tuple(training for _, training in self.beside.values())),
                without=without,
                frozen=self._shared(tuple(not p.requires_grad for p in mine)),
                gradient=gradient,
                weight=weight,
                buffer=digest_of(buffers.values()),
                groups=groups,
                events=self._shared(tuple(self.events)),
                backwards=max((self.counts.get(n, 0) for n in owned), default=0),
                leftover=max((self.old.get(n, 0) for n in owned), default=0),
                random=random_states(self.trace.device) if rich else b"",
                loaded=tuple(self.loaded),
                schedules=self._shared(tuple(sorted(self.scheduled.items()))),
                evaluations=self.evaluations[0],
                evaluations_training=self.evaluations[1],
                changed=self.changed,
                evidence=evidence,
            )
        )
        self.old = dict(self.counts)
        self.novel = bool(
            len(steps) > 1 and steps[-2].batch and _sizes(steps[-2]) != _sizes(steps[-1])
        )
        whole = len(owned) == len(self.parameters) and self.values <= SMALL_MODEL
        self.unchanged = weight if whole else self._weights_now() if rich else b""
        self.open = None
        self._clear()

    def _evidence(self, mine: list[Tensor], gradients: list[Tensor]) -> Evidence:
        of_gradient, of_weights = measures(gradients), measures(mine)
        found = Evidence(
            gradient_norms=of_gradient.norms,
            gradient_top=of_gradient.top,
            gradient_sketch=of_gradient.sketch,
            gradient_sample=of_gradient.sample,
            weight_norms=of_weights.norms,
            weight_sketch=of_weights.sketch,
            weight_sample=of_weights.sample,
            weight_top=of_weights.top,
            gradients=of_gradient.digests,
            weights=of_weights.digests,
            buffers=self._buffers(),
            graph=self.graph,
            evaluations=tuple(self.evaluated),
            clips=tuple(self.clips),
        )
        values = found.gradient_sample.numel() + found.weight_sample.numel()
        self.rich_bytes += 4 * values + 150 * (len(mine) + len(found.buffers)) + 2500
        return found

    def _count_evaluation(self, modes: tuple[bool, ...]) -> None:
        self.evaluations[0] += 1
        self.evaluations[1] += any(modes)

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

    def _place(self, optimizer: Optimizer) -> int | None:
        """Return the optimizer's number, or None if it updates nothing of this model."""
        optimizer = _unwrapped(optimizer)
        if id(optimizer) not in self.optimizers:
            ours = {id(p) for p in self.model.parameters()}
            params = (p for group in optimizer.param_groups for p in group["params"])
            seen = sum(place is not None for _, place in self.optimizers.values())
            place = seen if any(id(p) in ours for p in params) else None
            self.optimizers[id(optimizer)] = optimizer, place
        return self.optimizers[id(optimizer)][1]

    # Schedulers and loaders

    @_beside
    def on_schedule(self, scheduler: object, metric: object) -> None:
        """Note a scheduler's step, and how it is set up."""
        optimizer = getattr(scheduler, "optimizer", None)
        place = self._place(optimizer) if isinstance(optimizer, Optimizer) else None
        if optimizer is not None and place is None:
            return
        if id(scheduler) not in self.schedulers:
            known = Schedule(type(scheduler).__name__, settings_of(scheduler), place)
            self.trace.schedules.append(known)
            self.schedulers[id(scheduler)] = scheduler, len(self.trace.schedules) - 1
            if getattr(scheduler, "_step_count", 2) == 1:
                return  # its constructor sets the first value by a step of its own
        number = self.schedulers[id(scheduler)][1]
        known = self.trace.schedules[number]
        known.steps += 1
        if metric is not None and len(known.metrics) < 10_000:
            known.metrics.append(float(metric))
        self.scheduled[number] += 1
        self._event("schedule")

    @_beside
    def before_loader(self) -> bytes:
        """Return the state of the random generators before a pass over a loader begins."""
        return random_states()

    @_beside
    def on_loader(self, loader: DataLoader, iterator: object, before: bytes) -> None:
        """Note a pass over a loader."""
        if id(loader) not in self.loaders:
            self.loaders[id(loader)] = loader, len(self.loaders)
        sampler = getattr(loader, "sampler", None)
        order = type(sampler if sampler is not None else loader.batch_sampler).__name__
        own = [getattr(loader, "generator", None), getattr(sampler, "generator", None)]
        init = getattr(loader, "worker_init_fn", None)
        init = getattr(init, "func", init)
        found = Pass(
            loader=self.loaders[id(loader)][1],
            step=len(self.trace.steps),
            samples=_length(loader.dataset),
            batch_size=loader.batch_size or 0,
            drop_last=bool(getattr(loader, "drop_last", False)),
            order=order,
            own_generator=any(one is not None for one in own),
            draws=random_states()[:8] != before[:8] if before else False,
            workers=loader.num_workers,
            worker_init=getattr(init, "__qualname__", str(init)) if init else "",
            length=_length(loader),
        )
        self.novel = True
        if len(self.trace.passes) < 10_000:
            self.trace.passes.append(found)
            self.iterators[id(iterator)] = iterator, found, len(self.trace.passes) - 1
            if len(self.iterators) > 16:  # those that were left, or are done
                self.iterators.pop(next(iter(self.iterators)))

    @_beside
    def on_indices(self, iterator: object, indices: object) -> None:
        """Note which samples a loader has chosen for its next batch."""
        if id(iterator) not in self.iterators:
            return
        _, found, number = self.iterators[id(iterator)]
        if indices is None:
            found.finished = True
            self.iterators.pop(id(iterator))
            return
        found.batches += 1
        if self._rich:
            digest = hash(tuple(indices) if isinstance(indices, list) else repr(indices))
            self.loaded.append((number, digest.to_bytes(8, "little", signed=True)))

    # The end

    def finish(self) -> None:
        """Keep the values at the end, and let go of everything that belongs to the program."""
        try:
            self._keep_end()
        except Exception as error:
            self.note(f"The end of the run was not seen ({type(error).__name__}: {error}).")
        for handle in self.handles:
            handle.remove()
        kept, detail = self.trace, self.detail
        self.__init__(kept, detail)

    def _keep_end(self) -> None:
        if not self.follows:
            return
        if not self.trace.steps and self.had_backward and self._weights_now() != self.unchanged:
            self.trace.by_hand += 1
        self.trace.end.parameters = self._copies(self.model.named_parameters())
        start, end = self.trace.start.buffers, self._copies(self.model.named_buffers())
        self.trace.end.buffers = {
            name: buffer
            for name, buffer in end.items()
            if name not in start or fingerprint(buffer) != fingerprint(start[name])
        }
        self._used_calls()
        self.trace.idle = tuple(self.evaluations)

    def _shared(self, value: tuple) -> tuple:
        """Return the same object for equal tuples, so that many steps keep one."""
        try:
            if len(self.shared) > 4096:
                self.shared.clear()
            return self.shared.setdefault(value, value)
        except TypeError:  # what is in it cannot be looked up
            return value


def _operations(losses: list[Tensor]) -> tuple[str, ...]:
    """Return the names of the operations that a backward pass will go through, loss first."""
    waiting = deque((loss.grad_fn, "the loss") for loss in losses if loss.grad_fn is not None)
    seen, found = {node for node, _ in waiting}, []
    while waiting and len(found) < GRAPH_NODES:
        node, above = waiting.popleft()
        name = node.name().removesuffix("0").removesuffix("Backward")
        if name == "ToCopy":  # a change of the number format: what matters is where
            name = f"a cast for {above}"
        if "AccumulateGrad" not in name:
            found.append(name)
        for after, _ in node.next_functions:
            if after is not None and after not in seen:
                seen.add(after)
                waiting.append((after, name))
    return tuple(found)


def _scattered(flat: Tensor) -> Tensor:
    """Return every so-manieth value, a few hundred in all."""
    return flat[:: max(1, flat.numel() // 256)]


def _samples(inputs: list[Tensor]) -> int:
    """Return the number of samples in a batch: the length of its first tensor that has one."""
    return next((len(tensor) for tensor in inputs if tensor.dim()), 0)


def _version(gradient: Tensor | None) -> tuple[int, int]:
    return (0, 0) if gradient is None else (id(gradient), gradient._version)


def _unwrapped(optimizer: Optimizer) -> Optimizer:
    """Return the optimizer inside those that Lightning, Fabric or Accelerate put around it."""
    for name in ("_optimizer", "optimizer"):
        inner = vars(optimizer).get(name)
        if isinstance(inner, Optimizer):
            return _unwrapped(inner)
    return optimizer


# PyTorch puts the same function around `step` of each class of optimizers.
AROUND_STEP = Optimizer.profile_hook_step(lambda optimizer: None).__code__


def _within_its_own_step(optimizer: Optimizer) -> bool:
    """Return whether a `step` has called that of the class above, whose end is not the end."""
    frame, count = sys._getframe(1), 0
    while frame is not None and count < 2:
        if frame.f_code is AROUND_STEP:
            count += optimizer in frame.f_locals.get("args", ())[:1]
        frame = frame.f_back
    return count > 1


def _sizes(step: Step) -> tuple[int, ...]:
    return tuple(call.size for call in step.calls)


def _trained(optimizer: Optimizer) -> int:
    """Return how many tensors an optimizer updates: those without a gradient it passes over."""
    params = (p for group in optimizer.param_groups for p in group["params"])
    return sum(p.grad is not None for p in params)


def _can_matter(module: nn.Module) -> bool:
    """Return whether a module's mode can matter: if it holds parameters, or is dropout."""
    return bool(module._parameters) or isinstance(module, MODE_SENSITIVE)


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


def _described(module: nn.Module) -> str:
    try:
        return module.extra_repr()[:200]
    except Exception:  # somebody else's extra_repr
        return ""


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _length(dataset: object) -> int:
    try:
        return len(dataset)
    except Exception:  # an iterable dataset has none
        return -1


def _alike(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(
        (one.shape, one.dtype) == (two.shape, two.dtype)
        and torch.allclose(one, two, rtol=0, atol=0, equal_nan=True)
        for one, two in zip(a.values(), b.values(), strict=True)
    )
