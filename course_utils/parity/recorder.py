"""From what is seen of a running loop to the records of its steps."""

import sys

import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim import Optimizer

from .backward import BackwardPasses
from .chance import random_states
from .environment import environment
from .feeding import Feeding
from .fingerprint import dense, digests, fingerprint, measures
from .follower import SMALL_MODEL, beside
from .passes import Passes
from .record import Evidence, Snapshot, Step, digest_of


class Recorder(Passes, BackwardPasses, Feeding):
    """Follows one model through a run, and fills its trace."""

    @beside
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

    @beside
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
        groups = self._shared(self.groups.read(optimizer, self.numbers))
        if self.owned[0] is not groups:
            members = sorted(n for group in groups for n in group.members)
            self.owned = groups, self._shared(tuple(members))
        owned = self.owned[1]
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


def _alike(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(
        (one.shape, one.dtype) == (two.shape, two.dtype)
        and torch.allclose(one, two, rtol=0, atol=0, equal_nan=True)
        for one, two in zip(a.values(), b.values(), strict=True)
    )
