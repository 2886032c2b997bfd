"""The training command at work: what it trains, leaves, and can go on to use."""

import re

import lightning as L
import pytest
import torch
import yaml
from PIL import Image
from train_runs import SHORT, weights

from course_utils.models import LitStyle
from course_utils.models.style import StylePictures


@pytest.mark.parametrize(
    ("model", "digit"),
    [("LitMLP", "says_"), ("LitLeNet", "says_"), ("LitAutoEncoder", "redrawn")],
)
def test_every_model_of_the_course_can_be_trained_and_used(model, digit, run, tmp_path, capsys):
    assert run("fit", "--model", model, *SHORT, "--out-dir", "out") == 0
    out = tmp_path / "out"
    assert {"best.ckpt", "last.ckpt", "config.yaml", "log"} <= {f.name for f in out.iterdir()}
    assert len(list(out.glob(f"digit_*{digit}*.png"))) == 10
    printed = capsys.readouterr().out
    assert "test_loss" in printed and "checkpoint: out/best.ckpt" in printed

    # The checkpoint knows which model it is of.
    assert run("test", "--ckpt_path", "out/best.ckpt") == 0
    tested = capsys.readouterr().out
    losses = [re.search(r"test_loss +([\d.]+)", text)[1] for text in (printed, tested)]
    assert losses[0] == losses[1]
    assert run("predict", "--ckpt_path", "out/best.ckpt", "--out-dir", "new") == 0
    rows = tmp_path / "new" / "predictions.csv"
    if digit == "says_":
        assert len(rows.read_text().splitlines()) == 1001
    assert len(list((tmp_path / "new").glob("digit_*.png"))) == 10


def test_style_transfer_can_be_trained_and_used(run, trained, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(trained.parent / "cache"))
    Image.new("RGB", (70, 50), "orange").save("mine.png")
    few = ["--data=StylePictures", "--data.steps=2", "--data.size=32", "--model.width=4"]
    assert run("fit", "--model", "LitStyle", *few, *SHORT, "--out-dir", "out") == 0
    names = {f"{name}_redrawn.png" for name in ("astronaut", "chelsea", "coffee")}
    assert names < {file.name for file in (tmp_path / "out").iterdir()}
    assert "test_loss" in capsys.readouterr().out

    # Without a word about data, a LitStyle gets photographs.
    assert run("test", "--ckpt_path", "out/best.ckpt") == 0
    mine = ["--data.shown", "[mine.png]", "--out-dir", "new"]
    assert run("predict", "--ckpt_path", "out/best.ckpt", *mine) == 0
    with Image.open("new/mine_redrawn.png") as redrawn:
        assert redrawn.size == (70, 50)
    # Two files of the same name do not replace each other.
    (tmp_path / "other").mkdir()
    Image.new("RGB", (40, 50), "orange").save("other/mine.jpg")
    mine = ["--data.shown", "[mine.png, other/mine.jpg]", "--out-dir", "both"]
    assert run("predict", "--ckpt_path", "out/best.ckpt", *mine) == 0
    assert len(list((tmp_path / "both").iterdir())) == 2
    capsys.readouterr()
    wrong = ["--model.style", "none.png", "--out-dir", "wrong"]
    assert run("fit", "--model", "LitStyle", *wrong) == 2
    assert "There is no picture none.png" in capsys.readouterr().err


def test_a_configuration_may_leave_model_and_data_open(run, tmp_path, capsys):
    (tmp_path / "short.yaml").write_text("trainer: {max_epochs: 1, limit_train_batches: 2}")
    assert run("fit", "--config", "short.yaml", "--out-dir", "a") == 0
    assert "val_acc" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", {"model": "LitMLP", "data": "ResumableMNIST", "lr": 1e-3}),
        ("--model LitLeNet", {"model": "LitLeNet", "data": "ResumableMNIST", "lr": 2e-4}),
        ("--model LitStyle", {"model": "LitStyle", "data": "StylePictures", "lr": 2e-3}),
        ("--model.class_path=LitLeNet", {"model": "LitLeNet", "lr": 2e-4}),
        ("--config lenet.yaml", {"model": "LitLeNet", "data": "ResumableMNIST", "lr": 2e-4}),
        ("--config lenet.yaml --model.lr 3", {"model": "LitLeNet", "lr": 3.0}),
        ("--model LitLeNet --data MNISTDataModule", {"data": "MNISTDataModule"}),
        ("--config=style.yaml --data.size 32", {"model": "LitStyle", "data": "StylePictures"}),
    ],
)
def test_what_a_command_leaves_open_fits_its_model(words, expected, run, tmp_path, capsys):
    (tmp_path / "lenet.yaml").write_text("model: {class_path: LitLeNet}")
    (tmp_path / "style.yaml").write_text("model: LitStyle")
    with pytest.raises(SystemExit) as stop:
        run("fit", *words.split(), "--print_config")
    assert stop.value.code == 0
    config = yaml.safe_load(capsys.readouterr().out)
    found = {key: config[key]["class_path"].rpartition(".")[2] for key in ("model", "data")}
    found |= config["model"]["init_args"]
    assert {key: found[key] for key in expected} == expected


def test_early_stopping_stops(run, tmp_path, capsys):
    options = ["--trainer.max_epochs", "30", "--trainer.limit_train_batches", "2"]
    slow = ["--model.lr", "0.5", "--early-stopping", "1"]
    assert run("fit", *options, *slow, "--out-dir", "out") == 0
    assert int(re.search(r"^epochs +(\d+)", capsys.readouterr().out, re.MULTILINE)[1]) < 30


def test_help_and_configuration_can_be_printed(run, capsys):
    for arguments, expected in ((["--help"], "examples:\n"), (["fit", "--print_config"], "pad: 0")):
        with pytest.raises(SystemExit) as stop:
            run(*arguments)
        assert stop.value.code == 0 and expected in capsys.readouterr().out


def test_an_option_by_hand_comes_before_the_checkpoint(run, trained, capsys):
    with pytest.raises(SystemExit):
        run("test", "--ckpt_path", str(trained / "best.ckpt"), "--model.lr", "3", "--print_config")
    model = yaml.safe_load(capsys.readouterr().out)["model"]
    assert model["class_path"].endswith("LitMLP") and model["init_args"]["lr"] == 3


def test_the_progress_bar_can_be_left_out_and_a_trial_run_made(run, capsys):
    assert run("fit", *SHORT, "--trainer.enable_progress_bar", "false", "--out-dir", "a") == 0
    assert "train_loss" not in capsys.readouterr().out
    assert run("fit", "--trainer.fast_dev_run", "true", "--out-dir", "b") == 0


def test_a_cold_cache_a_warm_one_and_a_loop_of_ones_own_train_the_same(run, monkeypatch, tmp_path):
    style = ["--model=LitStyle", "--model.width=4", "--data.steps=3", "--data.size=32"]
    for name in ("cold", "warm"):  # the loss network is trained, then read
        options = [*style, "--trainer.max_epochs=1", "--out-dir", name]
        assert run("fit", *options) == 0
    L.seed_everything(42, workers=True, verbose=False)
    lit = LitStyle(width=4)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    trainer = L.Trainer(max_epochs=1, accelerator="cpu", enable_checkpointing=False, **quiet)
    trainer.fit(lit, datamodule=StylePictures(size=32, steps=3))
    expected = lit.state_dict()
    for name in ("cold", "warm"):
        found = weights(f"{name}/last.ckpt")
        assert all(torch.equal(found[key], expected[key]) for key in expected)
