"""Training that can be watched, and read afterwards: a table with a row for each epoch.

In a notebook the table is drawn in place while training runs; what is saved is the finished
table, as HTML and as text. In a terminal each row is printed once.
"""

import sys
import time
from collections.abc import Mapping
from html import escape

from lightning.pytorch.callbacks import ProgressBar

from course_utils.kernel import in_notebook
from course_utils.parity.looks import framed, table

# Drawing more often than this costs time and shows no more.
SECONDS_BETWEEN_DRAWINGS = 0.25


class EpochTable:
    """A table that grows by a row an epoch, for raw loops; `CourseProgress` fills it for a Trainer.

        table = EpochTable(epochs=5)
        for epoch in range(5):
            ...
            table.row(train_loss=…, val_acc=…)

    `epochs` is how many there will be, if known.
    """

    def __init__(self, epochs: int | None = None):
        self.epochs = epochs
        self.rows: list[dict[str, float]] = []
        self._display = None
        self._start = self._drawn = time.monotonic()
        self._live = ""

    def row(self, **values: float) -> None:
        """Add the row of the epoch that has just ended; its seconds are added by itself."""
        now = time.monotonic()
        self.rows.append({"epoch": len(self.rows) + 1, **values, "seconds": now - self._start})
        self._start = now
        self._live = ""
        if in_notebook():
            self._draw()
        else:
            self._print_row()

    def advance(self, done: int, total: int | float | None = None, what: str = "batch") -> None:
        """Show how far the present epoch is; does nothing if it was shown a moment ago."""
        now = time.monotonic()
        if now - self._drawn < SECONDS_BETWEEN_DRAWINGS:
            return
        self._drawn = now
        of = f" of {self.epochs}" if self.epochs else ""
        batches = f"{done:,} of {total:,}" if isinstance(total, int) else f"{done:,}"
        self._live = f"epoch {len(self.rows) + 1}{of}: {what} {batches}"
        if in_notebook():
            self._draw()
        elif sys.stdout.isatty():
            print(f"\r\033[K{self._live}", end="", flush=True)

    def close(self) -> None:
        """Leave only the table: the line about the present epoch goes."""
        if self._live:
            self._live = ""
            if in_notebook():
                self._draw()
            elif sys.stdout.isatty():
                print("\r\033[K", end="", flush=True)

    def __str__(self) -> str:
        """Return the table as plain text."""
        return "\n".join([self._line(self._columns()), *map(self._line, self._cells())])

    def _columns(self) -> list[str]:
        names = dict.fromkeys(name for row in self.rows for name in row)
        names.pop("seconds", None)
        return [*names, "seconds"]

    def _cells(self) -> list[list[str]]:
        return [[_cell(row.get(name)) for name in self._columns()] for row in self.rows]

    def _line(self, cells: list[str]) -> str:
        widths = [max(len(name), 8) for name in self._columns()]
        return "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))

    def _print_row(self) -> None:
        start = "\r\033[K" if sys.stdout.isatty() else ""
        if len(self.rows) == 1 or len(self.rows[-1]) != len(self.rows[-2]):
            print(start + self._line(self._columns()))
            start = ""
        print(start + self._line(self._cells()[-1]), flush=True)

    def _draw(self) -> None:
        from IPython.display import display

        text = "\n".join(filter(None, [str(self) if self.rows else "", self._live]))
        bundle = {"text/html": self._html(), "text/plain": text}
        if self._display is None:
            self._display = display(bundle, raw=True, display_id=True)
        else:
            self._display.update(bundle, raw=True)

    def _html(self) -> str:
        live = f'<p class="soft">{escape(self._live)}</p>' if self._live else ""
        rows = table(self._columns(), self._cells(), left=()) if self.rows else ""
        return framed(rows + live)


class CourseProgress(ProgressBar):
    """A Lightning progress bar that becomes a table: `Trainer(callbacks=[CourseProgress()])`.

    Each epoch of `fit` adds a row with the metrics that were logged: all of them, or with
    `only_prog_bar=True` those logged with `prog_bar=True`, which Lightning's own bars show. What
    is logged for steps only, and not for the epoch, is shown as it was at the last step.
    """

    def __init__(self, only_prog_bar: bool = False):
        super().__init__()
        self.only_prog_bar = only_prog_bar
        self.table = EpochTable()
        self._enabled = True

    def disable(self):
        self._enabled = False

    def enable(self):
        self._enabled = True

    def on_train_start(self, trainer, pl_module):
        epochs = trainer.max_epochs
        self.table = EpochTable(epochs if epochs and epochs > 0 else None)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if self._enabled:
            total = trainer.num_training_batches
            self.table.advance(batch_idx + 1, int(total) if total != float("inf") else None)

    def on_validation_batch_end(
        self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0
    ):
        if self._enabled and trainer.training:
            self.table.advance(batch_idx + 1, what="validation batch")

    def on_train_epoch_end(self, trainer, pl_module):
        if self._enabled:
            bar_only = self.only_prog_bar
            logged = trainer.progress_bar_metrics if bar_only else trainer.callback_metrics
            self.table.row(**_epoch_metrics(logged))

    def on_train_end(self, trainer, pl_module):
        self.table.close()

    def on_exception(self, trainer, pl_module, exception):
        self.table.close()


def _epoch_metrics(metrics: Mapping) -> dict[str, float]:
    """Return the metrics of the epoch as numbers, training first, without those of a step.

    What was logged for both steps and epochs comes as `x_step` and `x_epoch`: the second is `x`.
    """
    kept: dict[str, float] = {}
    for name, value in metrics.items():
        both = f"{name.removesuffix('_epoch')}_step" in metrics
        if not name.endswith("_step"):
            kept[name.removesuffix("_epoch") if both else name] = float(value)
    return dict(sorted(kept.items(), key=lambda item: not item[0].startswith("train")))


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
