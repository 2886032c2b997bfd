"""The folder of a run: one run at a time, and an old run is gone only when a new one works."""

import os
import signal
from pathlib import Path

import pytest
import torch
from train_runs import SHORT, in_a_process, rows, wait_until, weights

from course_utils.train.errors import CommandError
from course_utils.train.folder import claimed

FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
ENDLESS = ("--trainer.max_epochs=-1", "--trainer.limit_train_batches=2")


def content(folder: str) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


@FORKS
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_second_run_is_refused_while_the_first_is_alive(end, run, capsys):
    first = in_a_process(lambda: run("fit", *ENDLESS, "--out-dir", "out"))
    wait_until(Path("out/last.ckpt").is_file)
    for options in ([], ["--overwrite"], ["--ckpt_path", "out/last.ckpt"]):
        assert run("fit", *SHORT, "--out-dir", "out", *options) == 2
        said = capsys.readouterr().err
        assert "another run is writing to out" in said and said.count("\n") == 1
    os.kill(first, end)
    os.waitpid(first, 0)
    assert run("fit", *SHORT, "--out-dir", "out", "--overwrite") == 0
    assert not list(Path("out").glob(".*"))


def test_an_earlier_run_is_replaced_only_if_asked(run):
    for extra, code in ([], 0), ([], 2), (["--overwrite"], 0):
        assert run("fit", *SHORT, "--out-dir", "out", *extra) == code


@pytest.mark.parametrize(
    "wrong",
    ["--model.lr=-1", "--data.batch_size=0", "--model.bogus=1", "--trainer.val_check_interval=99"],
)
def test_a_wrong_command_deletes_nothing(wrong, run, trained, tmp_path):
    assert run("fit", *SHORT, "--out-dir", "out") == 0
    before = content("out")
    assert run("fit", *SHORT, "--out-dir", "out", "--overwrite", wrong) == 2
    assert content("out") == before


@pytest.mark.parametrize("hook", ["on_fit_start", "on_train_start", "on_train_batch_start"])
def test_nothing_is_deleted_before_the_new_run_has_made_a_step(hook, run, monkeypatch):
    assert run("fit", *SHORT, "--out-dir", "out") == 0
    before = content("out")

    def stop(self, *_):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"course_utils.models.LitMLP.{hook}", stop)
    assert run("fit", *SHORT, "--out-dir", "out", "--overwrite") == 130
    assert content("out") == before


def test_a_new_run_leaves_nothing_of_the_one_that_it_replaces(run):
    assert run("fit", *SHORT, "--out-dir", "out") == 0
    first = weights("out/last.ckpt")
    Path("out/other.ckpt").touch()
    new = [*SHORT, "--overwrite", "--model.hidden", "[5]", "--out-dir", "out"]
    assert run("fit", *new) == 0
    assert not Path("out/other.ckpt").exists()
    assert weights("out/last.ckpt").keys() != first.keys()
    assert len(rows("out/log/metrics.csv")) == 4  # training, validation, and both at the end


def test_a_checkpoint_of_elsewhere_does_not_replace_an_earlier_run(run, trained, capsys):
    assert run("fit", *SHORT, "--out-dir", "out") == 0
    before = content("out")
    other = ["--ckpt_path", str(trained / "last.ckpt"), "--trainer.max_epochs", "2"]
    assert run("fit", *other, "--out-dir", "out") == 2
    assert "out holds an earlier run" in capsys.readouterr().err
    assert content("out") == before
    for options in (["--out-dir", "new"], ["--out-dir", "out", "--overwrite"]):
        assert run("fit", *other, *SHORT[2:], *options) == 0
        assert {row["epoch"] for row in rows(f"{options[1]}/log/metrics.csv")} == {"1", "2"}
        assert torch.load(f"{options[1]}/last.ckpt", weights_only=True)["epoch"] == 1


def test_folders_that_were_made_for_nothing_go_again(tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    with claimed(kept / "a" / "b"):
        assert (kept / "a" / "b").is_dir()
    assert kept.is_dir() and not (kept / "a").exists()
    with claimed(kept / "a" / "b"):
        (kept / "a" / "file").touch()
    assert (kept / "a" / "file").exists() and not (kept / "a" / "b").exists()


def test_what_a_kill_left_half_written_is_tidied_up(tmp_path):
    torn = [tmp_path / f".last.ckpt-{'a' * 32}", tmp_path / f"..last.ckpt-{'a' * 32}-{'b' * 32}"]
    torn.append(tmp_path / "log" / f".metrics.csv-{'c' * 32}")
    (tmp_path / "log").mkdir()
    others = [tmp_path / ".last.ckpt-mine", tmp_path / "last.ckpt", tmp_path / ".hidden"]
    for path in (*torn, *others):
        path.touch()
    with claimed(tmp_path):
        assert not any(path.exists() for path in torn)
    assert all(path.exists() for path in others)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write all")
def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(CommandError, match="cannot write to"), claimed(tmp_path / "out"):
        pass
    tmp_path.chmod(0o700)
