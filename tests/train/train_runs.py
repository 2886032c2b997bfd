"""Runs of the training command in this process, and checkpoints that are not as they should be."""

import sys
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
