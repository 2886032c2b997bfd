"""YAML is read with limits, and otherwise as jsonargparse reads it."""

import os

import pytest
import yaml
from jsonargparse import get_loader

from course_utils.train import configs


@pytest.mark.parametrize(
    "text",
    [
        "trainer: {max_epochs: 3, limit_train_batches: 0.5}\nmodel: LitMLP",
        "a: &a [1, 2]\nb: *a",
        "lr: 1e-3",
        "5",
        "[1, '[', \"{\"]",
        "text: |\n  two\n  lines",
    ],
)
def test_a_configuration_is_read_as_it_always_was(text):
    assert configs.load(text) == get_loader("yaml")(text)


BOMB = "\n".join(
    ["a0: &a0 x", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10))]
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 5000 + "]" * 5000, "brackets"),
        ("[" * 5000, "brackets"),
        ("{a: " * 5000 + "}" * 5000, "brackets"),
        ("- " * 5000, "brackets"),
        (BOMB, "values"),
        ("&a [*a]", "within itself"),
        ("[" + "1, " * 20_000 + "]", "values"),
        ("x" * 200_000, "characters"),
        (f"max_epochs: '{'[' * 60}'", "brackets"),
    ],
)
def test_what_would_take_long_is_refused_before_it_is_built(text, words, monkeypatch):
    monkeypatch.setattr(configs, "get_loader", lambda mode: pytest.fail("it was built"))
    with pytest.raises(configs.UnfitError, match=words):
        configs.load(text)


def test_no_tag_makes_an_object():
    with pytest.raises(yaml.YAMLError):
        configs.load("!!python/object/apply:os.system [true]")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("text", ["pipe", "model: pipe", "{model: [a, pipe]}", "/dev/null"])
def test_a_pipe_or_a_device_is_not_waited_for(text, tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(configs.UnfitError, match="neither a file nor a folder"):
        configs.load(text)


def test_a_file_and_a_folder_may_be_values(tmp_path, monkeypatch):
    (tmp_path / "picture.png").touch()
    monkeypatch.chdir(tmp_path)
    assert configs.load("[picture.png, ., nowhere]") == ["picture.png", ".", "nowhere"]
