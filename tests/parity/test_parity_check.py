"""Parity as a check: assertions, golden traces and their files, and the fixture for pytest."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from parity_loops import Plan, mlp_with_norm, raw

from course_utils import parity
from course_utils.parity import (
    ParityError,
    Trace,
    assert_golden,
    assert_parity,
    compare,
    join,
)
from course_utils.parity.files import CHECKSUM, HEAD

ROOT = Path(parity.__file__).parents[2]


def formula(logits, y):
    return (logits.exp().sum(1).log() - logits[torch.arange(len(y)), y]).mean()


def run(**plan):
    return lambda: raw(Plan(**plan))


# assert_parity and the report as plain values


def test_assert_parity_takes_traces_and_functions():
    for sides in ((run()(), run()()), (run(), run()), (run()(), run()), (run(), run()())):
        assert assert_parity(*sides).verdict == "identical"
        with pytest.raises(ParityError) as raised:
            assert_parity(sides[0], run(zero_grad="never"), names=("old", "new"))
        assert "✗ different: old and new first differ in the gradient" in str(raised.value)
        assert "Diagnosis: forgotten zero_grad()" in str(raised.value)
        assert raised.value.report.first_difference.step == 2


def test_rounding_passes_only_where_it_is_allowed():
    sides = run()(), run(loss=formula)()
    assert assert_parity(*sides, allow_rounding=True).verdict == "equal within rounding"
    with pytest.raises(ParityError, match="≈ equal within rounding"):
        assert_parity(*sides)
    with pytest.raises(ParityError, match="✗ different"):
        assert_parity(run()(), run(seed=2)(), allow_rounding=True)


KEYS = ["verdict", "names", "steps", "facts", "first_difference", "diagnosis", "notes",
        "largest_difference"]  # fmt: skip


@pytest.mark.parametrize(
    "plan", [{}, {"zero_grad": "never"}, {"seed": 2}, {"model": mlp_with_norm}]
)
def test_a_report_as_json(plan):
    report = compare(run()(), run(**plan)())
    values = json.loads(report.to_json())
    assert list(values) == KEYS
    assert values == report.to_dict() | {"steps": [12, 12]}
    assert values["verdict"] == report.verdict
    assert (values["diagnosis"] is None) == (report.verdict == "identical") == (plan == {})
    if plan:
        assert list(values["diagnosis"]) == ["name", "cause", "mend", "evidence"]
        assert list(values["first_difference"]) == ["step", "what", "where"]
        assert values["diagnosis"]["name"] == report.diagnosis.name


def test_json_holds_no_nan():
    broken = run(loss=lambda z, y: z.sum() * float("nan"))()
    values = json.loads(compare(run()(), broken).to_json())
    assert values["largest_difference"] is None


def test_reports_that_say_the_same_are_equal():
    first, other = run()(), run(zero_grad="never")()
    assert compare(first, other) == compare(first, other, losses=([1.0], [2.0]))
    assert compare(first, other) != compare(other, first)
    assert compare(first, other) != compare(first, other, names=("a", "b"))
    assert compare(first, first) != "identical"


# Golden traces


def test_a_golden_trace(tmp_path, monkeypatch):
    path = tmp_path / "golden" / "mlp.trace"
    with pytest.raises(FileNotFoundError, match="run once with PARITY_UPDATE=1"):
        assert_golden(run(), path)
    monkeypatch.setenv("PARITY_UPDATE", "1")
    assert assert_golden(run(), path).verdict == "identical"
    monkeypatch.setenv("PARITY_UPDATE", "0")
    assert assert_golden(run(), path).verdict == "identical"
    assert assert_golden(run()(), path).names == ("golden trace", "this run")
    with pytest.raises(ParityError, match="golden trace and this run first differ in the initial"):
        assert_golden(run(seed=2), path)
    assert assert_golden(run(seed=2), path, update=True).verdict == "identical"
    assert assert_golden(run(seed=2), path).verdict == "identical"
    assert [file.name for file in path.parent.iterdir()] == ["mlp.trace"]


def test_other_surroundings_are_said_first(tmp_path):
    record = run()()
    record.environment |= {"torch": "1.0", "threads": "7"}
    record.save(tmp_path / "old.trace")
    now = f"threads 7 and 1, torch 1.0 and {torch.__version__}"
    with pytest.raises(ParityError) as raised:
        assert_golden(run(zero_grad="never"), tmp_path / "old.trace")
    said = str(raised.value).strip().splitlines()
    assert said[0].startswith("golden trace and this run ran in other surroundings")
    assert now in said[0] and said[1].startswith("✗ different")
    report = assert_golden(run(), tmp_path / "old.trace")
    assert report.verdict == "identical" and now in report.notes[0]


# Files


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "a.trace"
    raw(Plan(model=mlp_with_norm)).save(path)
    return path


def refused(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read as a trace|another version"):
        Trace.load(path)


def test_a_truncated_file_is_refused_at_every_length(saved, tmp_path):
    content = saved.read_bytes()
    lengths = {0, 1, len(HEAD) - 1, len(HEAD), len(HEAD) + CHECKSUM, len(content) - 1}
    lengths |= set(range(0, len(content), len(content) // 300))
    for length in sorted(lengths):
        refused(tmp_path / "cut.trace", content[:length])
    assert len(lengths) > 300
    refused(tmp_path / "longer.trace", content + b"\0")


def test_a_file_with_a_changed_byte_is_refused(saved, tmp_path):
    content, chance = saved.read_bytes(), random.Random(0)
    places = [*range(len(HEAD) + CHECKSUM), *(chance.randrange(len(content)) for _ in range(400))]
    for place in places:
        changed = bytearray(content)
        changed[place] ^= 1 << chance.randrange(8)
        refused(tmp_path / "changed.trace", bytes(changed))
    assert Trace.load(saved).steps  # and as it was, it is read


def test_a_file_of_another_version(saved, tmp_path):
    path = tmp_path / "old.trace"
    path.write_bytes(saved.read_bytes().replace(HEAD, b"port doctor trace 2\n"))
    with pytest.raises(ValueError, match="another version of the port doctor .format 2, here 3."):
        Trace.load(path)


def test_a_file_is_written_whole_or_not_at_all(saved, tmp_path, monkeypatch):
    path, record = tmp_path / "a.trace", Trace.load(saved)
    path.write_bytes(b"before")

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space left"):
        record.save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.trace"]
    assert path.read_bytes() == b"before"
    with pytest.raises(FileNotFoundError):
        Trace.load(tmp_path / "none.trace")


def test_an_error_of_join_has_no_report():
    with pytest.raises(ParityError) as raised:
        join([run()(), run(seed=2)()])
    assert raised.value.report is None


# The fixture

TESTS = """
import torch
from torch import nn

class Net(nn.Linear):
    def __init__(self):
        super().__init__(3, 2)

def train(factor=1.0):
    torch.manual_seed(0)
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (factor * net(torch.ones(4, 3)).square().sum()).backward()
        optimizer.step()

def test_equal(parity):
    assert parity.check(train, train, model=Net).verdict == "identical"

def test_golden(parity):
    parity.golden(train, "golden/net.trace", model=Net)

def test_golden_anew(parity, monkeypatch):
    monkeypatch.setenv("PARITY_UPDATE", "1")
    parity.golden(train, "golden/net.trace", model=Net)

def test_other(parity):
    parity.check(train, lambda: train(2.0), model="Net", names=("by hand", "the port"))
"""


def test_the_fixture_of_pytest(tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["course_utils.parity.testing"]\n')
    (tmp_path / "test_net.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--color=no"]
    # A folder of its own, so that no settings of this project apply.
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    variables["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True)
    said = done.stdout + done.stderr
    assert "2 failed, 2 passed" in said, said
    assert "There is no golden trace" in said and "PARITY_UPDATE=1" in said
    # A failure shows the test's line and the report, and nothing of the doctor's own code.
    assert '>       parity.check(train, lambda: train(2.0), model="Net"' in said
    assert "E       ✗ different: by hand and the port first differ in the gradient" in said
    assert "gradients a constant factor apart" in said
    assert "check.py" not in said and "testing.py" not in said
    assert f"golden trace written: {tmp_path / 'golden' / 'net.trace'}" in said
