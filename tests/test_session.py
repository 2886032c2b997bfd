"""The first line of every lesson, and the check of the installation."""

import logging
import warnings
from importlib.metadata import PackageNotFoundError

import pytest
import torch

from course_utils import installation, session
from course_utils.switches import SwitchError


@pytest.fixture(autouse=True)
def sample(fresh, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", "sample")
    monkeypatch.delenv("COURSE_ACCELERATOR", raising=False)
    with warnings.catch_warnings():
        yield


def test_it_seeds_and_says_so_in_one_line(capsys):
    first, a = session.start(7), torch.rand(3)
    session.start(7)
    assert torch.equal(a, torch.rand(3))
    line = capsys.readouterr().out.splitlines()[0]
    assert line == str(first)
    for part in (torch.__version__, "lightning", "the bundled sample", "seed 7"):
        assert part in line


def test_threads_are_set_and_said(capsys):
    assert session.start(1, threads=1).threads == 1
    assert "1 thread " in capsys.readouterr().out


def test_no_path_is_printed(fresh, capsys):
    session.start(1)
    assert str(fresh) not in capsys.readouterr().out


def test_a_gpu_that_is_not_there_stops_at_once(monkeypatch):
    monkeypatch.setenv("COURSE_ACCELERATOR", "gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(SwitchError, match="finds no GPU"):
        session.start(1)


def test_the_switch_chooses_the_device(monkeypatch):
    for wish, there, expected in (
        ("cpu", True, "cpu"),
        ("auto", True, "cuda"),
        ("auto", False, "cpu"),
    ):
        monkeypatch.setenv("COURSE_ACCELERATOR", wish)
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert session.chosen_accelerator() == expected


def test_an_unknown_accelerator_lists_the_known_ones(monkeypatch):
    monkeypatch.setenv("COURSE_ACCELERATOR", "tpu")
    with pytest.raises(SwitchError, match=r"'tpu'.*auto, cpu, gpu"):
        session.start(1)


def pretend_gpu(monkeypatch, capability, precision="highest"):
    """Pretend a CUDA device that is asked for nothing but its name and what it can do."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "Fake GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: precision)
    monkeypatch.setattr(session, "_be_deterministic", lambda accelerator: None)
    session._advise_on_products.cache_clear()


def test_tensor_cores_are_mentioned_once(monkeypatch, capsys):
    pretend_gpu(monkeypatch, (8, 0))
    session.start(1)
    session.start(1)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and "Fake GPU" in lines[0] and lines[0] == lines[2]
    assert "torch.set_float32_matmul_precision('high')" in lines[1]


@pytest.mark.parametrize(("capability", "precision"), [((7, 5), "highest"), ((9, 0), "high")])
def test_they_are_not_where_it_is_too_old_or_already_so(monkeypatch, capsys, capability, precision):
    pretend_gpu(monkeypatch, capability, precision)
    session.start(1)
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_tips_go_and_warnings_stay():
    session.quieten()
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    assert not logger.isEnabledFor(logging.INFO) and logger.isEnabledFor(logging.WARNING)
    with pytest.warns(UserWarning, match="matters"):
        warnings.warn("this one matters", UserWarning, stacklevel=1)


def test_a_whole_installation_is_ok(capsys):
    assert installation.check_installation() is True
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("OK ") for line in lines)
    assert any(line.startswith("OK    lightning ") for line in lines)


def versions(monkeypatch, **fakes):
    real = installation.version

    def version(name):
        found = fakes.get(name, real)
        if found is None:
            raise PackageNotFoundError(name)
        return found if isinstance(found, str) else real(name)

    monkeypatch.setattr(installation, "version", version)


@pytest.mark.parametrize(
    ("fakes", "said"),
    [
        ({"torchmetrics": None}, 'torchmetrics is missing: pip install "torchmetrics>='),
        ({"lightning": "2.5.0"}, 'lightning 2.5.0 is too old: pip install "lightning>=2.6.6"'),
        ({"lightning": "2.6.3"}, "malicious"),
    ],
)
def test_what_is_wrong_is_said_with_what_to_do(monkeypatch, capsys, fakes, said):
    versions(monkeypatch, **fakes)
    assert installation.check_installation() is False
    out = capsys.readouterr().out
    assert said in out and out.count("FAIL") == 1 and out.count("OK ") > 5


def test_torch_and_torchvision_that_do_not_fit(monkeypatch, capsys):
    import sys

    monkeypatch.setitem(sys.modules, "torchvision", None)
    assert installation.check_installation() is False
    assert "do not fit together" in capsys.readouterr().out
