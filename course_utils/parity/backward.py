"""The backward passes of a run, and what happens to gradients before a step uses them."""

from collections import deque

from torch import Tensor
from torch.optim import Optimizer

from .fingerprint import (
    tensors_in,
)
from .follower import GRAPH_NODES, GRAPH_STEPS, Follower, beside
from .record import (
    Clip,
)


class BackwardPasses(Follower):
    """Follows losses, gradients, `zero_grad`, clipping and scaling."""

    @beside
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

    @beside
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

    @beside
    def on_grad(self, create_graph: bool) -> None:
        """Note a gradient that was asked for by itself."""
        self._event("grad (create_graph)" if create_graph else "grad")

    @beside
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

    @beside
    def on_clip(self, parameters: list, kind: str, limit: float, found: float) -> None:
        """Note that gradients were clipped."""
        listed = [parameters] if isinstance(parameters, Tensor) else parameters
        if any(id(p) in self.numbers for p in listed):
            self._event(f"clip by {kind}")
            members = self._shared(tuple(self.numbers.get(id(p), -1) for p in listed))
            self.clips.append(Clip(float(limit), float(found), members))

    @beside
    def on_scaler(self, what: str, optimizer: Optimizer | None) -> None:
        """Note what a gradient scaler does."""
        if optimizer is None or self._place(optimizer) is not None:
            self._event(what)


def _operations(losses: list[Tensor]) -> tuple[str, ...]:
    """Return the names of the operations that a backward pass will go through, loss first."""
    waiting = deque((loss.grad_fn, "the loss") for loss in losses if loss.grad_fn is not None)
    seen, found = {node for node, _ in waiting}, []
    while waiting and len(found) < GRAPH_NODES:
        node, above = waiting.popleft()
        name = node.name().rstrip("0123456789").removesuffix("Backward")
        if name == "ToCopy":  # a change of the number format: what matters is where
            name = f"a cast for {above}"
        if "AccumulateGrad" not in name:
            found.append(name)
        for after, _ in node.next_functions:
            if after is not None and after not in seen:
                seen.add(after)
                waiting.append((after, name))
    return tuple(found)


def _version(gradient: Tensor | None) -> tuple[int, int]:
    return (0, 0) if gradient is None else (id(gradient), gradient._version)
