"""How far rounding carries in a training, measured by a run whose weights begin a little off."""

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from .diagnose import Diagnosis
from .pair import Pair
from .report import Report
from .trace import Trace
from .watch import Watcher
from .wishes import Wish

if TYPE_CHECKING:
    from .recorder import Recorder

# Two runs round at each step, the measured one was changed once: so many times further is allowed.
ALLOWED = 10
TOLD_APART = 1.0  # of the way that training moved the weights


class Nudge(Watcher):
    """Changes each weight in the last place, before the first forward pass for training."""

    def __init__(self, wish: Wish, least: float = 0.0):
        self.wish = wish
        self.least = least
        self.done = False

    def on_call(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        """Change the weights if this is the first pass of a network that is traced."""
        if self.done or not torch.is_grad_enabled():
            return
        for recorder in self.wish.recorders:
            if _belongs(module, recorder):
                nudge(recorder.model, self.least)
                self.done = True


def _belongs(module: nn.Module, recorder: "Recorder") -> bool:
    inner = module.__dict__.get("_modules", {}).get("_orig_mod")  # what torch.compile wrapped
    known = id(module) in recorder.names or id(inner) in recorder.names
    return recorder.model is not None and known and next(module.parameters(), None) is not None


@torch.no_grad()
def nudge(model: nn.Module, least: float = 0.0) -> None:
    """Move each weight up or down by about one unit in the last place; the signs are fixed.

    `least` is the share by which to move it at least, where a coarser format computes.
    """
    signs = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if not (parameter.is_floating_point() or parameter.is_complex()):
            continue
        eps = max(torch.finfo(parameter.dtype).eps, least)
        drawn = torch.randint(0, 2, parameter.shape, generator=signs) * 2 - 1
        parameter.mul_((1 + eps * drawn.double()).to(parameter.device, parameter.dtype))


def last_place(pair: Pair) -> float:
    """Return the unit in the last place of the coarsest format in which the runs computed."""
    index = pair.first[0] if pair.first else 0
    kinds = {getattr(torch, c.dtype, None) for s in pair.at(index) for c in s.calls if c.dtype}
    formats = [k for k in kinds if isinstance(k, torch.dtype) and k.is_floating_point]
    return max((torch.finfo(kind).eps for kind in formats), default=0.0)


def by_rounding(report: Report) -> bool:
    """Return whether a report hangs on what rounding can do."""
    if report.verdict == "equal within rounding":
        return True
    return report.diagnosis is not None and report.diagnosis.name == "more than rounding"


def weighed(report: Report, pair: Pair, nudged: Trace) -> Report:
    """Return the report of two runs that part by rounding, judged by how far rounding carries."""
    bound = Pair(pair.a, nudged, (pair.names[0], f"{pair.names[0]}, nudged"))
    bound.locate()
    if len(nudged.steps) != len(pair.a.steps) or bound.first is None:
        return report
    carried, apart = bound.drift(), pair.drift()
    said = (
        f"Begun with weights that are one unit in the last place off, {pair.names[0]} ends "
        f"{carried:.1e} of its way apart from itself; the two runs end {apart:.1e} apart."
    )
    found = report.diagnosis
    found = replace(found, evidence=[*found.evidence, said])
    # Where rounding alone ends anywhere, or in NaN, being no further apart says nothing.
    within = apart <= ALLOWED * carried and apart < TOLD_APART
    if within and found.name == "more than rounding":
        return replace(report, verdict="equal within rounding", diagnosis=_enlarged(found))
    if not within and report.verdict == "equal within rounding":
        return replace(report, verdict="different", diagnosis=_beyond(found, apart / carried))
    return replace(report, diagnosis=found)


def _enlarged(found: Diagnosis) -> Diagnosis:
    return replace(
        found,
        name="rounding that grew",
        cause="The runs part by rounding at first, and this training enlarges it: as much comes "
        "of a change in the last place of the first weights.",
        mend="A longer run proves no more. Compare fewer steps, or make the first steps agree bit "
        "for bit, with the same device, `torch.set_num_threads` and formulas.",
    )


def _beyond(found: Diagnosis, times: float) -> Diagnosis:
    return replace(
        found,
        name="more than rounding",
        cause="The differences begin as small as rounding, but the runs end "
        f"{times:.0f} times as far apart as rounding carries in this training: a small fault acts "
        "in each step, such as a weak penalty, another epsilon, or a slightly other formula.",
        mend="Look for what differs between the loops, line by line: loss terms, weight decay, "
        "`eps`, schedules.",
    )
