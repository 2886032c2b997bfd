"""A run that is killed, at any moment: nothing is lost, and it goes on as if nothing had been."""

import errno
import os
import shutil
import signal
import tempfile
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.plugins import TorchCheckpointIO
from train_runs import SHORT, command, in_a_process, rows, wait_until, weights

from course_utils.models import LitMLP
from course_utils.train import KeepLast, cli
from course_utils.train.callbacks import WholeCheckpoints

FEW = ("--trainer.limit_train_batches=10", "--trainer.limit_val_batches=2")
FOUR = ("--trainer.max_epochs=4", "--trainer.log_every_n_steps=3", *FEW)
RESUME = ("fit", "--config", "out/config.yaml", "--ckpt_path", "out/last.ckpt")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the folder of a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COURSE_DATA", "sample")
        patch.setenv("COURSE_ACCELERATOR", "cpu")
        assert command(patch, "fit", *FOUR, "--out-dir", str(folder)) == 0
    return folder


def assert_same(whole: Path) -> None:
    """Compare the run in `out` with the one that is whole: the same weights, the same rows."""
    expected, found = weights(whole / "last.ckpt"), weights("out/last.ckpt")
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert rows("out/log/metrics.csv") == rows(whole / "log" / "metrics.csv")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_killed_run_goes_on_as_if_nothing_had_happened(run):
    child = in_a_process(lambda: run("fit", *FOUR, "--trainer.max_epochs=900", "--out-dir", "out"))
    wait_until(lambda: len(rows("out/log/metrics.csv")) > 20)
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    epoch = torch.load("out/last.ckpt", weights_only=True)["epoch"] + 1
    assert 2 <= epoch < 900
    two_more = (*FOUR, f"--trainer.max_epochs={epoch + 2}")
    assert run(*RESUME, *two_more) == 0
    assert run("fit", *two_more, "--out-dir", "whole") == 0
    assert_same(Path("whole"))


class KilledError(BaseException):
    """Stands for a kill: what follows is not done, and nothing is tidied up."""


class Killer(L.Callback):
    """Kills the run in one hook of the third epoch."""

    def __init__(self, hook: str):
        setattr(self, hook, self.kill)

    def kill(self, trainer, *_):
        if trainer.current_epoch == 2 and trainer.global_step % 10 in (0, 5):
            raise KilledError


def killed_while_moving(moment: str, number: int):
    """Return an `os.replace` that kills before or after it moves `last.ckpt` for a given time."""
    real, moves = os.replace, []

    def replace(source, target):
        moves.extend([target] if Path(target).name == "last.ckpt" else [])
        killed = Path(target).name == "last.ckpt" and len(moves) == number
        if killed and moment == "before":
            raise KilledError
        real(source, target)
        if killed:
            raise KilledError

    return replace


@pytest.mark.parametrize(
    "moment",
    [
        *("on_train_batch_end", "on_train_epoch_end", "on_validation_end", "on_train_epoch_start"),
        *("before", "after"),
    ],
)
def test_no_row_is_lost_and_none_stands_twice(moment, run, whole, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(KeepLast, "on_exception", lambda *_: None)
        if moment in ("before", "after"):
            patch.setattr(os, "replace", killed_while_moving(moment, 3))
        else:
            keepers = cli.CourseCLI._keepers
            patch.setattr(cli.CourseCLI, "_keepers", lambda c: [*keepers(c), Killer(moment)])
        with pytest.raises(KilledError):
            run("fit", *FOUR, "--out-dir", "out")
    assert run(*RESUME, *FOUR) == 0
    assert_same(whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_a_polite_kill_end_with_the_command_that_goes_on(
    number, run, monkeypatch, capsys
):
    class CtrlC(KeepLast):
        def on_train_epoch_start(self, trainer, pl_module):
            super().on_train_epoch_start(trainer, pl_module)
            if trainer.current_epoch == 1:
                signal.raise_signal(number)

    monkeypatch.setattr(cli, "KeepLast", CtrlC)
    assert run("fit", *SHORT, "--trainer.max_epochs", "9", "--out-dir", "out") == 130
    assert "--ckpt_path out/last.ckpt" in capsys.readouterr().err
    assert torch.load("out/last.ckpt", weights_only=True)["epoch"] == 0
    assert sorted(path.name for path in Path("out").glob(".*")) == []


def another_disk() -> Path | None:
    """Return a folder on another file system than that of temporary files, if there is one."""
    here = Path(tempfile.gettempdir()).stat().st_dev
    for folder in map(Path, ("/dev/shm", "/run/shm")):
        if os.access(folder, os.W_OK) and folder.stat().st_dev != here:
            return folder
    return None


def killed_while_copying(save) -> int:
    """Return how a process ends that saves, and is killed as soon as a file is half copied."""

    def die(source, target, **_):
        Path(target).write_bytes(Path(source).read_bytes()[:1000])
        os.kill(os.getpid(), signal.SIGKILL)

    def patched():
        shutil.copyfile = shutil.copy2 = die
        save()

    child = in_a_process(patched)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.skipif(another_disk() is None, reason="there is no second file system")
def test_temporary_files_on_another_disk_do_not_endanger_a_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "best.ckpt"
    torch.save({"step": 1}, path)
    new = {"step": 2, "weights": torch.ones(10_000)}
    with tempfile.TemporaryDirectory(dir=another_disk()) as temporary:
        monkeypatch.setattr(tempfile, "tempdir", temporary)
        assert killed_while_copying(lambda: WholeCheckpoints().save_checkpoint(new, path)) == 0
        assert torch.load(path, weights_only=True)["step"] == 2
        # Lightning's own way, killed there, destroys the file: so this test can fail.
        save = TorchCheckpointIO().save_checkpoint
        assert killed_while_copying(lambda: save(new, path)) == -signal.SIGKILL
    assert path.stat().st_size == 1000


@pytest.mark.parametrize("kind", ["keep last", "whole"])
def test_a_full_disk_leaves_the_checkpoint_before(kind, tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    torch.save({"step": 1}, path)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        if kind == "whole":
            WholeCheckpoints().save_checkpoint({"step": 2}, path)
        else:
            lit = LitMLP()
            loader = torch.utils.data.DataLoader(
                torch.utils.data.TensorDataset(torch.zeros(4, 1, 28, 28), torch.zeros(4).long())
            )
            options = {"enable_progress_bar": False, "enable_model_summary": False}
            trainer = L.Trainer(
                accelerator="cpu", max_epochs=1, logger=False, callbacks=[KeepLast(path)], **options
            )
            trainer.fit(lit, loader)
    assert torch.load(path, weights_only=True)["step"] == 1
    assert [file.name for file in tmp_path.iterdir() if "last" in file.name] == ["last.ckpt"]


def test_a_full_disk_ends_the_command_in_a_line(run, monkeypatch, capsys):
    real, calls = os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) > 12:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    assert run("fit", *SHORT, "--trainer.max_epochs", "9", "--out-dir", "out") == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    assert "No space left" in said and "--ckpt_path out/last.ckpt" in said
