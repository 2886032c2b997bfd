"""Runs of the training command in this process, and checkpoints that are not as they should be."""

import csv
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from lightning.pytorch.cli import LightningCLI

from course_utils.train.cli import CourseCLI
from course_utils.train.main import main

SHORT = ("--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2")


def command(monkeypatch, *words: str) -> int:
    """Run a command in this process and return its exit code.

    Only the parser of its subcommand is built, as building all four takes most of the time.
    """
    subcommands = LightningCLI.subcommands()
    named = {name: skip for name, skip in subcommands.items() if name in words} or subcommands
    monkeypatch.setattr(CourseCLI, "subcommands", staticmethod(lambda: named))
    monkeypatch.setattr(sys, "argv", ["train", *words])
    return main()


def alter(trained: Path, path: Path, without: tuple[str, ...] = (), **keys) -> Path:
    """Write a copy of a trained checkpoint with some keys replaced, and some left out."""
    content = torch.load(trained / "last.ckpt", weights_only=True) | keys
    torch.save({key: value for key, value in content.items() if key not in without}, path)
    return path


def weights(path: Path | str) -> dict:
    """Return the weights in a checkpoint."""
    return torch.load(path, weights_only=True)["state_dict"]


def rows(path: Path | str) -> list[dict]:
    """Return the rows of a log; none if there is no such file."""
    if not Path(path).is_file():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def in_a_process(function: Callable[[], object]) -> int:
    """Call a function in a copy of this process, which says nothing; return the number of it."""
    child = os.fork()
    if child == 0:
        try:
            for stream in (1, 2):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
            function()
        finally:
            os._exit(0)
    return child


def wait_until(happened: Callable[[], bool], seconds: float = 120) -> None:
    """Wait for an event; fail if it does not come."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)
