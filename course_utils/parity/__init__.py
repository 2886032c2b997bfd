"""The port doctor: proof, step by step, that two training loops compute the same thing.

with trace(model) as raw:
    train(model, ...)                      # the loop, unchanged
with trace(lit.model) as port:
    trainer.fit(lit, ...)                  # its refactor, unchanged
report = compare(raw, port)
print(report)                              # the verdict; where they differ, and why
report.assert_identical()

And for two functions that train: `diagnose(by_hand, with_lightning, model=MyNet)`; whether they can
be equal at all: `checklist(by_hand, with_lightning, model=MyNet)`.
"""

from .check import assert_golden, assert_parity
from .checklist import checklist
from .compare import compare
from .join import join
from .report import Difference, ParityError, Report
from .rerun import diagnose
from .resume import compare_resumed
from .trace import Trace, trace

__all__ = [
    "Difference",
    "ParityError",
    "Report",
    "Trace",
    "assert_golden",
    "assert_parity",
    "checklist",
    "compare",
    "compare_resumed",
    "diagnose",
    "join",
    "trace",
]
