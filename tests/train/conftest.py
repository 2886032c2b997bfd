"""What the tests of the training command share: a computer of its own, and checkpoints."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from train_runs import SHORT, alter, command


@pytest.fixture(autouse=True)
def in_an_empty_folder(fresh, monkeypatch, tmp_path):
    """Let every command run on the sample and the CPU, in a folder of its own."""
    monkeypatch.setenv("COURSE_DATA", "sample")
    monkeypatch.setenv("COURSE_ACCELERATOR", "cpu")
    monkeypatch.setenv("COURSE_PACE", "quick")
    monkeypatch.chdir(tmp_path)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    # Whoever starts the tests in the background of a script starts them with Ctrl-C switched off.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in handlers.items():  # Lightning ignores Ctrl-C after the first one
        signal.signal(number, handler)


@pytest.fixture
def run(monkeypatch) -> Callable[..., int]:
    """Return a function that runs a command in this process and returns its exit code."""
    return lambda *words: command(monkeypatch, *words)


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """Return the folder of a run of two steps of the LitMLP."""
    folder = tmp_path_factory.mktemp("trained") / "out"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"COURSE_DATA": "sample", "COURSE_ACCELERATOR": "cpu"}.items():
            patch.setenv(name, value)
        patch.setenv("XDG_CACHE_HOME", str(folder.parent / "cache"))
        handler = signal.getsignal(signal.SIGTERM)
        assert command(patch, "fit", *SHORT, "--out-dir", str(folder)) == 0
        signal.signal(signal.SIGTERM, handler)
    return folder


@pytest.fixture
def altered(trained, tmp_path) -> Callable[..., Path]:
    """Return a function that writes a copy of a checkpoint with some keys replaced or left out."""

    def write(name: str, without: tuple[str, ...] = (), **keys) -> Path:
        return alter(trained, tmp_path / name, without, **keys)

    return write
