"""Checkpoints of strangers: what they name is not imported, and what they hold not believed."""

import sys
from pathlib import Path

import pytest
import torch
from train_runs import alter

MINE = """
import lightning as L
import torch
open("imported", "w").close()
from course_utils.models import LitMLP

class Model(LitMLP):
    def __init__(self, hidden: tuple[int, ...] = (128, 256), lr: float = 1e-3, name: str = "",
                 act=None, part: L.LightningModule | None = None, **others):
        super().__init__(hidden, lr)
        print(f"built with {lr=} {name=} {act=} {part=} {others=}")
"""


@pytest.fixture(autouse=True)
def a_module_beside(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "part.yaml").write_text("class_path: mine.Model")
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("mine", None)
    yield
    sys.modules.pop("mine", None)


@pytest.fixture
def checkpoint(trained, tmp_path):
    """Return a function that writes a checkpoint with other hyperparameters."""
    known = torch.load(trained / "last.ckpt", weights_only=True)["hyper_parameters"]

    def write(**changes) -> str:
        alter(trained, tmp_path / "x.ckpt", hyper_parameters=known | changes)
        return "x.ckpt"

    return write


@pytest.mark.parametrize(
    "changes",
    [
        {"_class_path": "mine.Model"},
        {"_class_path": "mine"},
        {"_class_path": "course_utils.mine.Model"},
        {"_class_path": ["mine.Model"]},
        {"_instantiator": "mine.Model"},
        {"hidden": {"class_path": "mine.Model"}},
        {"hidden": [{"class_path": "mine.Model"}]},
        {"lr": "mine.Model"},
        {"model": {"class_path": "mine.Model"}},
    ],
)
def test_a_file_imports_nothing(changes, checkpoint, run, capsys):
    code = run("test", "--ckpt_path", checkpoint(**changes))
    assert not Path("imported").exists()
    assert code == (0 if "_instantiator" in changes else 2)


def test_a_model_of_ones_own_is_named_by_hand(checkpoint, run, capsys):
    path = checkpoint(_class_path="mine.Model")
    assert run("test", "--ckpt_path", path) == 2
    assert "by --model" in capsys.readouterr().err
    assert not Path("imported").exists()
    assert run("test", "--ckpt_path", path, "--model", "mine.Model") == 0
    assert Path("imported").exists()
    Path("mine.yaml").write_text("model: {class_path: mine.Model}")
    assert run("test", "--ckpt_path", path, "--config", "mine.yaml") == 0
    assert run("test", "--ckpt_path", path, "--model", "LitMLP") == 2
    assert "another model than --model names" in capsys.readouterr().err


@pytest.mark.parametrize(
    "changes",
    [
        {"act": "mine.Model"},
        {"part": "part.yaml"},
        {"part": {"class_path": "mine.Model"}},
        {"hidden": [{"class_path": "mine.Model"}]},
    ],
)
def test_a_file_names_no_code_for_a_model_of_ones_own(changes, checkpoint, run, capsys):
    path = checkpoint(_class_path="mine.Model", **changes)
    assert run("test", "--ckpt_path", path, "--model", "mine.Model") == 2
    said = capsys.readouterr().err
    assert "could name code" in said and "by --model." in said


def test_a_model_of_ones_own_gets_the_plain_values_of_its_file(checkpoint, run, capsys):
    path = checkpoint(_class_path="mine.Model", name="any.text", lr=7.0, act=5.0, more=3)
    assert run("test", "--ckpt_path", path, "--model", "mine.Model") == 0
    built = "built with lr=7.0 name='any.text' act=5.0 part=None others={'more': 3}"
    assert built in capsys.readouterr().out


@pytest.mark.parametrize(
    "path",
    [
        "course_utils.models.LitMLP",
        "course_utils.models.networks.LitMLP",
        "course_utils.of_an_older_version.LitMLP",
        "LitMLP",
    ],
)
def test_the_list_of_the_course_knows_its_models_by_any_path(path, checkpoint, run):
    assert run("test", "--ckpt_path", checkpoint(_class_path=path)) == 0


def test_a_checkpoint_of_a_lesson_wants_to_be_told_its_model(trained, run, altered, capsys):
    altered("lesson.ckpt", hyper_parameters={"hidden": [128, 256], "lr": 1e-3})
    assert run("test", "--ckpt_path", "lesson.ckpt") == 2
    assert "does not say of which model it is" in capsys.readouterr().err
    assert run("test", "--ckpt_path", "lesson.ckpt", "--model", "LitMLP") == 0


def test_a_checkpoint_that_would_run_code_is_refused(run, altered):
    class Harmful:
        def __reduce__(self):
            return (Path("harmed").touch, ())

    altered("stranger.ckpt", hyper_parameters=Harmful())
    assert run("test", "--ckpt_path", "stranger.ckpt") == 2
    assert not Path("harmed").exists()
