"""Ports that went wrong in public, and harmless ones: how each is told, run and checked.

A thread is a plan that a raw loop and a Lightning port of it carry out, and what the port did
otherwise. The tests say where it was asked, and what the port doctor has to answer.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache

import torch
from parity_loops import Lit, Place, Plan, lightning, raw

from course_utils.parity import Report, Trace, compare, trace


@dataclass(frozen=True)
class Thread:
    """One port: `found` is the answer, such as `gradient @1: clipping in one`, or `identical`."""

    source: str
    found: str
    plan: Plan = field(default_factory=Plan)
    port: dict = field(default_factory=dict)  # what the port does otherwise
    mended: dict | None = field(default_factory=dict)  # what it still does otherwise when mended
    says: tuple[str, ...] = ()  # words that the explanation has to hold
    raw: Callable[[Plan], Trace] = raw
    lightning: Callable[[Plan], Trace] = lightning
    mended_is: str = "identical"
    noted: str = ""  # what the remarks on a harmless port are about, if there are any


class Manual(Lit):
    """A port under manual optimization."""

    def __init__(self, plan, model):
        super().__init__(plan, model)
        self.automatic_optimization = False

    def training_step(self, batch, batch_index):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.loss_of(batch, batch_index))
        optimizer.step()


def said(report: Report) -> str:
    """Return a report's answer in a line."""
    if report.diagnosis is None:
        return report.verdict
    if report.verdict != "different":
        return f"{report.verdict}: {report.diagnosis.name}"
    first = report.first_difference
    place = first.what if first.step is None else f"{first.what} @{first.step}"
    return f"{place}: {report.diagnosis.name}"


def check(thread: Thread) -> None:
    """Check the answer to a port, and that the mended one is equal without a remark."""
    correct = _correct(thread.raw, thread.plan)
    report = compare(correct, thread.lightning(replace(thread.plan, **thread.port)))
    assert said(report) == thread.found, report
    text = " ".join(report.explain().split())
    assert not [words for words in thread.says if words not in text], text
    if thread.found.startswith(("identical", "equal")):
        assert all(thread.noted and thread.noted in note for note in report.notes), report
        return
    if thread.mended is not None:
        mended = compare(correct, thread.lightning(replace(thread.plan, **thread.mended)))
        assert said(mended) == thread.mended_is and not mended.notes, mended


@cache
def _correct(run: Callable[[Plan], Trace], plan: Plan) -> Trace:
    """Carry out a raw loop once for all who compare with it."""
    return run(plan)


def by_hand(step: Callable, plan: Plan) -> Trace:
    """Return the trace of a loop whose step is `step(plan, model, optimizer, batch, place)`."""
    torch.manual_seed(plan.seed)
    model = plan.model()
    with trace(model) as record:
        optimizer, batches = plan.optimizer(plan.parameters(model)), plan.loader()
        for epoch in range(plan.epochs):
            model.train()
            plan.start_epoch(model, epoch)
            for index, batch in enumerate(batches):
                step(plan, model, optimizer, batch, Place(epoch, index))
            plan.end_epoch(model, epoch)
    return record
