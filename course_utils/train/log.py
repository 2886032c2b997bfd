"""The log of a run, `metrics.csv`: no row is lost by a kill, and none stands in it twice."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from lightning.pytorch.core.saving import save_hparams_to_yaml
from lightning.pytorch.loggers import Logger

from course_utils.files import write_whole


class KeptLog(Logger):
    """Writes each row of `metrics.csv` at once, and goes on with the rows of a resumed run.

    Lightning's CSVLogger keeps rows in memory, a hundred steps of them, and starts every run by
    deleting the file. Here nothing is written before `open`, which the first step calls.
    """

    def __init__(self, folder: Path):
        super().__init__()
        self.path = folder / "metrics.csv"
        self._columns: list[str] = []
        self._hyperparameters: dict = {}
        self._early: list[dict] | None = []  # rows from before the file was opened

    @property
    def name(self) -> str:
        """The empty name: a run has one log."""
        return ""

    @property
    def version(self) -> str:
        """The folder's name, as Lightning's loggers give it."""
        return self.path.parent.name

    @property
    def save_dir(self) -> str:
        """The folder of the log."""
        return str(self.path.parent)

    def log_hyperparams(self, params, *args, **kwargs) -> None:
        """Keep the hyperparameters for `hparams.yaml`."""
        self._hyperparameters = dict(params if isinstance(params, Mapping) else vars(params))

    def log_metrics(self, metrics, step=None) -> None:
        """Write a row, or keep it until the log is open."""
        row = {**metrics, "step": step}
        if self._early is None:
            self._append(row)
        else:
            self._early.append(row)

    def open(self, epoch: int) -> None:
        """Start the log of a run that goes on from the start of `epoch`: 0 for a new one.

        Rows of this epoch and later ones are left over from a run that was killed, and will be
        written anew.
        """
        rows = _before(epoch, self.path) if epoch else []
        self._columns = sorted({name for row in (*rows, *self._early) for name in row} | {"step"})
        self._write_all([*rows, *self._early])
        self._early = None
        save_hparams_to_yaml(self.path.with_name("hparams.yaml"), self._hyperparameters)

    def _append(self, row: dict) -> None:
        if not row.keys() <= set(self._columns):
            rows = _rows(self.path)
            self._columns = sorted({*self._columns, *row})
            self._write_all([*rows, row])
            return
        with self.path.open("a", newline="", encoding="utf-8") as file:
            file.write(_as_text([row], self._columns, header=False))

    def _write_all(self, rows: list[dict]) -> None:
        write_whole(self.path, _as_text(rows, self._columns).encode())


def _as_text(rows: list[dict], columns: list[str], header: bool = True) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _rows(path: Path) -> list[dict]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _before(epoch: int, path: Path) -> list[dict]:
    """Return the rows up to the last one of an epoch before this one.

    A row without an epoch (what a model logs at a step of its validation) belongs to the epoch of
    the rows after it. Rows that a kill cut short are of the epoch that was not finished.
    """
    try:
        rows = _rows(path)
    except (OSError, ValueError, csv.Error):  # none, as after a move, or damaged by other hands
        return []
    earlier = [number for number, row in enumerate(rows) if _is_before(epoch, row.get("epoch"))]
    return rows[: earlier[-1] + 1] if earlier else []


def _is_before(epoch: int, found: str | None) -> bool:
    return bool(found) and found.isdecimal() and int(found) < epoch
