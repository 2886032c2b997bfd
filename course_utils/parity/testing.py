"""A fixture for pytest. In the `conftest.py` beside your tests' settings write

pytest_plugins = ["course_utils.parity.testing"]

and in a test

def test_port(parity):
    parity.check(by_hand, with_lightning, model=MyNet)
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from .check import assert_golden, assert_parity, updating
from .report import Report
from .trace import Trace

WRITTEN = pytest.StashKey[list[Path]]()


class Parity:
    """What a test asks of the port doctor."""

    def __init__(self, folder: Path, written: list[Path]):
        self.folder = folder
        self.written = written

    def check(
        self,
        raw: Trace | Callable[[], object],
        port: Trace | Callable[[], object],
        allow_rounding: bool = False,
        names: tuple[str, str] = ("raw loop", "Lightning"),
        model: object = None,
    ) -> Report:
        """Fail unless two runs (traces, or functions that train) are identical."""
        __tracebackhide__ = True
        return assert_parity(raw, port, allow_rounding, names, model)

    def golden(
        self,
        run: Trace | Callable[[], object],
        path: str | Path,
        allow_rounding: bool = False,
        model: object = None,
    ) -> Report:
        """Fail unless a run is identical to its golden trace; the path begins at the test's folder.

        `PARITY_UPDATE=1 pytest …` writes the golden traces anew, and lists them at the end.
        """
        __tracebackhide__ = True
        report = assert_golden(run, self.folder / path, allow_rounding, model=model)
        if updating():
            self.written.append(self.folder / path)
        return report


@pytest.fixture
def parity(request: pytest.FixtureRequest) -> Parity:
    """Compare training runs, bit for bit, with failures that say where they part and why."""
    written = request.config.stash.setdefault(WRITTEN, [])
    return Parity(request.path.parent, written)


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    """List the golden traces that were written."""
    for path in config.stash.get(WRITTEN, []):
        terminalreporter.write_line(f"golden trace written: {path}")
