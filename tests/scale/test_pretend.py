"""Hardware that is not there, and hardware that is: neither gets in the way of the other."""

import re

import jupytext
import lightning as L
import pytest
import torch
from lightning.fabric.accelerators import mps
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.accelerators import MPSAccelerator
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy, XLAStrategy

from course_utils.scale.pretend import pretended
from tools.project import ROOT

QUIET = {"logger": False, "enable_checkpointing": False}


@pytest.fixture
def apple(monkeypatch):
    """Let torch and Lightning find the GPU of an Apple-silicon Mac."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr("platform.processor", lambda: "arm")
    mps.MPSAccelerator.is_available.cache_clear()  # it looks once
    assert MPSAccelerator.is_available()
    yield
    mps.MPSAccelerator.is_available.cache_clear()


def lesson_names(*wanted):
    """Run the cells of lesson 6 that define these names, and return what they define."""
    names = {}
    exec("import warnings\nimport lightning as L\nfrom course_utils.scale import pretended", names)
    for cell in jupytext.read(ROOT / "notebooks" / "source" / "06_scale_out.py").cells:
        if cell.cell_type == "code" and re.match(rf"(def )?({'|'.join(wanted)})\b", cell.source):
            exec(cell.source, names)
    return [names[name] for name in wanted]


def answers():
    flags, attempt = lesson_names("flags", "attempt")
    wanted = [new for _, new in flags.values()]
    wanted += [{"accelerator": "gpu", "devices": 8, "strategy": "fsdp"}, {"precision": "16-mixed"}]
    return {str(new): attempt(new) for new in wanted}


def test_flags_of_the_lesson_are_accepted_here():
    said = answers()
    assert len(said) == 7 and all(answer.startswith("accepted") for answer in said.values()), said


def test_a_mac_says_the_same(request):
    here = answers()
    request.getfixturevalue("apple")
    assert answers() == here


@pytest.mark.usefixtures("apple")
def test_a_cluster_is_pretended_on_a_mac_and_the_mac_is_there_again():
    with pretended(gpus=8):
        trainer = L.Trainer(accelerator="gpu", devices=8, num_nodes=32, strategy="ddp", **QUIET)
    assert trainer.world_size == 256 and isinstance(trainer.strategy, DDPStrategy)
    assert MPSAccelerator.is_available()


@pytest.mark.parametrize(
    ("flags", "strategy", "devices"),
    [
        ({"accelerator": "gpu", "devices": [1, 3, 5]}, DDPStrategy, 3),
        ({"accelerator": "gpu", "devices": 8, "strategy": "fsdp"}, FSDPStrategy, 8),
        ({"accelerator": "tpu", "devices": 8}, XLAStrategy, 8),
    ],
)
def test_pretended_hardware_is_found(flags, strategy, devices):
    with pretended(**{f"{flags['accelerator']}s": 8}):
        trainer = L.Trainer(**flags, **QUIET)
    assert isinstance(trainer.strategy, strategy) and trainer.num_devices == devices


def test_what_is_not_even_pretended_is_refused():
    with pretended(gpus=8, tpus=8):
        with pytest.raises(MisconfigurationException, match="your machine only has"):
            L.Trainer(accelerator="gpu", devices=9, **QUIET)
        with pytest.raises(ValueError, match="for TPUs"):
            L.Trainer(accelerator="tpu", devices=7, **QUIET)


def test_a_machine_without_a_gpu_is_pretended_on_a_mac_too(apple):
    with pretended(), pytest.raises(MisconfigurationException):
        L.Trainer(accelerator="gpu", devices=1, **QUIET)


def test_nothing_is_pretended_afterwards():
    with pretended(tpus=8):
        pass
    with pytest.raises(Exception, match="torch_xla.* not met"):
        L.Trainer(accelerator="tpu", devices=8, **QUIET)
