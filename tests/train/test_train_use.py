"""The training command: what it leaves, what it refuses, and how it survives being killed."""

import re
import shlex
import signal
import subprocess
import sys

import pytest
import torch
from PIL import Image

from course_utils.train import cli as train

SHORT = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "5"]


@pytest.fixture(autouse=True)
def in_an_empty_folder(fresh, monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_DATA", "sample")
    monkeypatch.setenv("COURSE_ACCELERATOR", "cpu")
    monkeypatch.chdir(tmp_path)
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["train", *arguments])
    return train.main()


@pytest.mark.parametrize(
    ("model", "digit"),
    [("LitMLP", "says_"), ("LitLeNet", "says_"), ("LitAutoEncoder", "redrawn")],
)
def test_every_model_of_the_course_can_be_trained_and_used(
    model, digit, monkeypatch, tmp_path, capsys
):
    assert run(monkeypatch, "fit", "--model", model, *SHORT, "--out-dir", "out") == 0
    out = tmp_path / "out"
    assert {"best.ckpt", "last.ckpt", "config.yaml", "log"} <= {f.name for f in out.iterdir()}
    assert len(list(out.glob(f"digit_*{digit}*.png"))) == 10
    printed = capsys.readouterr().out
    assert "test_loss" in printed and "checkpoint: out/best.ckpt" in printed

    # The checkpoint knows which model it is of.
    assert run(monkeypatch, "test", "--ckpt_path", "out/best.ckpt") == 0
    tested = capsys.readouterr().out
    losses = [re.search(r"test_loss +([\d.]+)", text)[1] for text in (printed, tested)]
    assert losses[0] == losses[1]
    assert run(monkeypatch, "predict", "--ckpt_path", "out/best.ckpt", "--out-dir", "new") == 0
    rows = tmp_path / "new" / "predictions.csv"
    if digit == "says_":
        assert len(rows.read_text().splitlines()) == 1001
    assert len(list((tmp_path / "new").glob("digit_*.png"))) == 10


def test_style_transfer_can_be_trained_and_used(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("COURSE_PACE", "quick")
    Image.new("RGB", (70, 50), "orange").save("mine.png")
    few = ["--data=StylePictures", "--data.steps=2", "--data.size=32", "--model.width=4"]
    assert run(monkeypatch, "fit", "--model", "LitStyle", *few, *SHORT, "--out-dir", "out") == 0
    names = {f"{name}_redrawn.png" for name in ("astronaut", "chelsea", "coffee")}
    assert names < {file.name for file in (tmp_path / "out").iterdir()}
    assert "test_loss" in capsys.readouterr().out

    # Without a word about data, a LitStyle gets photographs.
    assert run(monkeypatch, "test", "--ckpt_path", "out/best.ckpt") == 0
    mine = ["--data.shown", "[mine.png]", "--out-dir", "new"]
    assert run(monkeypatch, "predict", "--ckpt_path", "out/best.ckpt", *mine) == 0
    with Image.open("new/mine_redrawn.png") as redrawn:
        assert redrawn.size == (70, 50)
    # Two files of the same name do not replace each other.
    (tmp_path / "other").mkdir()
    Image.new("RGB", (40, 50), "orange").save("other/mine.jpg")
    mine = ["--data.shown", "[mine.png, other/mine.jpg]", "--out-dir", "both"]
    assert run(monkeypatch, "predict", "--ckpt_path", "out/best.ckpt", *mine) == 0
    assert len(list((tmp_path / "both").iterdir())) == 2
    capsys.readouterr()
    wrong = ["--model.style", "none.png", "--out-dir", "wrong"]
    assert run(monkeypatch, "fit", "--model", "LitStyle", *wrong) == 2
    assert "There is no picture none.png" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--data.shown", "[none.png]"], "There is no picture none.png"),
        (["--data.size", "50"], "size=50 does not fit"),
        (["--data", "ResumableMNIST"], "LitStyle takes no digits"),
    ],
)
def test_wrong_photographs_are_refused_before_training(arguments, complaint, monkeypatch, capsys):
    monkeypatch.setenv("COURSE_PACE", "quick")
    assert run(monkeypatch, "fit", "--model", "LitStyle", "--model.width=4", *arguments) == 2
    printed = capsys.readouterr()
    assert complaint in printed.err and "epoch" not in printed.out


def test_a_configuration_may_leave_model_and_data_open(monkeypatch, tmp_path, capsys):
    (tmp_path / "short.yaml").write_text("trainer: {max_epochs: 1, limit_train_batches: 2}")
    assert run(monkeypatch, "fit", "--config", "short.yaml", "--out-dir", "a") == 0
    assert "val_acc" in capsys.readouterr().out
    (tmp_path / "named.yaml").write_text("model: {class_path: LitLeNet}\ntrainer: {max_epochs: 0}")
    config = train._with_defaults(["fit", "--config=named.yaml"])
    assert config == ["fit", "--data", train.MNIST, "--config=named.yaml"]
    (tmp_path / "photos.yaml").write_text("fit: {model: LitStyle}")
    config = train._with_defaults(["fit", "--config", "photos.yaml", "--data.size", "32"])
    assert config[1:3] == ["--data", train.DATA["LitStyle"]]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["fit", "--model", "LitFoo"], "unknown model LitFoo: the course has LitAutoEncoder"),
        (["fit", "--model.lr", "fast"], "model.lr=fast is not valid"),
        (["fit", "--trainer.max_epochs", "many"], "trainer.max_epochs=many is not valid"),
        (["fit", "--early-stopping", "0"], "early_stopping"),
        (["fit", "--bogus", "3"], "unrecognized arguments: --bogus 3"),
        (["fit", "--config", "none.yaml"], "none.yaml"),
        (["fit", "--out-dir", "a_file"], "cannot write to a_file"),
        (["fit", "--out-dir", "earlier"], "earlier holds an earlier run"),
        (["train"], "invalid choice: 'train'"),
        (
            ["fit", "--trainer.accelerator", "cpu", "--trainer.devices", "2"],
            "the command uses one device, not 2",
        ),
        (["test"], "test needs a trained model"),
        (["test", "--ckpt_path", "none.ckpt"], "there is no checkpoint none.ckpt"),
        (["test", "--ckpt_path", "a_file"], "a_file cannot be loaded as a checkpoint"),
    ],
)
def test_a_wrong_command_is_one_clear_line(arguments, complaint, monkeypatch, tmp_path, capsys):
    (tmp_path / "a_file").write_text("not a checkpoint")
    (tmp_path / "earlier").mkdir()
    (tmp_path / "earlier" / "last.ckpt").touch()
    before = sorted(tmp_path.rglob("*"))
    assert run(monkeypatch, *arguments) == 2
    said = capsys.readouterr().err.splitlines()
    assert len([line for line in said if not line.startswith("Seed")]) == 1
    assert said[-1].startswith("error: ") and complaint in said[-1]
    left = [path for path in sorted(tmp_path.rglob("*")) if path not in before]
    assert [path.name for path in left] in ([], ["runs", "train"])


def test_a_checkpoint_that_would_run_code_is_refused(monkeypatch, tmp_path, capsys):
    class Harmful:
        def __reduce__(self):
            return (tmp_path / "harmed").touch, ()

    torch.save({"state_dict": {}, "hyper_parameters": Harmful()}, "stranger.ckpt")
    assert run(monkeypatch, "test", "--ckpt_path", "stranger.ckpt") == 2
    assert not (tmp_path / "harmed").exists()


def test_an_earlier_run_is_replaced_only_if_asked(monkeypatch, tmp_path):
    for extra, code in ([], 0), ([], 2), (["--overwrite"], 0):
        assert run(monkeypatch, "fit", *SHORT, "--out-dir", "out", *extra) == code


def test_early_stopping_stops(monkeypatch, tmp_path, capsys):
    options = ["--trainer.max_epochs", "30", "--trainer.limit_train_batches", "2"]
    slow = ["--model.lr", "0.5", "--early-stopping", "1"]
    assert run(monkeypatch, "fit", *options, *slow, "--out-dir", "out") == 0
    assert int(re.search(r"^epochs +(\d+)", capsys.readouterr().out, re.MULTILINE)[1]) < 30


def test_help_and_configuration_can_be_printed(monkeypatch, capsys):
    for arguments, expected in ((["--help"], "examples:\n"), (["fit", "--print_config"], "pad: 0")):
        with pytest.raises(SystemExit) as stop:
            run(monkeypatch, *arguments)
        assert stop.value.code == 0 and expected in capsys.readouterr().out


def weights(path):
    return torch.load(path, weights_only=True)["state_dict"]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL"])
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals")
def test_a_killed_run_goes_on_as_if_nothing_had_happened(name, monkeypatch, tmp_path):
    command = [sys.executable, "-u", "-m", "course_utils.train"]
    options = ["fit", "--trainer.max_epochs", "40", "--out-dir", "out"]
    with subprocess.Popen(
        command + options, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            for line in process.stdout:
                if re.match(r" +3 ", line):
                    break
            process.send_signal(getattr(signal, name))
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == (-signal.SIGKILL if name == "SIGKILL" else 130)
    resume = "fit --config out/config.yaml --ckpt_path out/last.ckpt"
    assert name == "SIGKILL" or resume in said
    assert 2 <= torch.load("out/last.ckpt", weights_only=True)["epoch"] + 1 < 40
    assert run(monkeypatch, *shlex.split(resume), "--trainer.max_epochs", "6") == 0
    assert run(monkeypatch, "fit", "--trainer.max_epochs", "6", "--out-dir", "whole") == 0
    expected, found = weights("whole/last.ckpt"), weights("out/last.ckpt")
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_ctrl_c_ends_with_the_command_that_goes_on(monkeypatch, tmp_path, capsys):
    class CtrlC(train.KeepLast):
        def on_train_epoch_end(self, trainer, pl_module):
            super().on_train_epoch_end(trainer, pl_module)
            if trainer.current_epoch == 1:
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(train, "KeepLast", CtrlC)
    assert run(monkeypatch, "fit", *SHORT, "--trainer.max_epochs", "9", "--out-dir", "out") == 130
    assert "--ckpt_path out/last.ckpt" in capsys.readouterr().err
    assert torch.load("out/last.ckpt", weights_only=True)["epoch"] == 1
