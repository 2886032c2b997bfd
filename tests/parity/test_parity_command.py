"""The port doctor on the command line, in this process: it starts scripts as Python does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from course_utils import parity
from course_utils.parity import Trace, compare
from course_utils.parity.command import main
from course_utils.parity.watch import WATCHERS

MODEL = """
from torch import nn

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layer = nn.Linear(width, width)

    def forward(self, x):
        return self.layer(x).relu()

class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body, self.head = Block(width), nn.Linear(width, 1)

    def forward(self, x):
        return self.head(self.body(x))
"""
SCRIPT = """
import sys
import torch
from {module} import Net

def option(name, default):
    return int(sys.argv[sys.argv.index(name) + 1]) if name in sys.argv else default

torch.manual_seed(option("--seed", 0))
net = Net(4)
optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
for step in range(option("--iters", 3)):
    optimizer.zero_grad()
    net(torch.full((2, 4), step + 1.0)).sum().backward()
    optimizer.step()
if __name__ == "__main__":
    print("arguments", sys.argv[1:], "in", sys.argv[0])
    if "--fail" in sys.argv:
        raise RuntimeError("the script's own error")
    if "--stop" in sys.argv:
        raise KeyboardInterrupt
    if "--leave" in sys.argv:
        sys.exit(option("--leave", 0))
"""
INSIDE = """
import torch
from torch import nn

class Net(nn.Sequential):
    pass

torch.manual_seed(0)
nn.Sequential(nn.Linear(2, 2))
net = Net(nn.Linear(2, 2))
for _ in range(5):
    net(torch.ones(1, 2)).sum().backward()
    torch.optim.SGD(net.parameters(), lr=0.1).step()
"""
ROOT = Path(parity.__file__).parents[2]
numbers = iter(range(1000))


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Give a folder with a script, and a module of its own that the script imports."""
    monkeypatch.chdir(tmp_path)
    module = f"network{next(numbers)}"  # modules stay imported from test to test
    (tmp_path / f"{module}.py").write_text(MODEL)
    (tmp_path / "train.py").write_text(SCRIPT.format(module=module))
    state = sys.argv, sys.path[:], nn.Linear.__init__, sys.modules["__main__"]
    yield "train.py"
    assert (sys.argv, sys.path, nn.Linear.__init__, sys.modules["__main__"]) == state
    assert "__init_subclass__" not in vars(nn.Module)
    assert not WATCHERS
    sys.modules.pop(module, None)


def test_a_script_is_run_as_by_python(script, capsys):
    assert main(["run", script, "--model", "Net", "-o", "raw.trace"]) == 0
    said = capsys.readouterr()
    assert said.out == "arguments [] in train.py\n"
    assert said.err == "raw.trace: 3 steps of Net, 25 weights, on cpu\n"
    assert len(Trace.load("raw.trace").steps) == 3


def test_a_class_that_the_script_defines_itself(script, tmp_path):
    Path("own.py").write_text(INSIDE)
    assert main(["run", "own.py", "--model", "Net"]) == 0
    record = Trace.load("own.trace")
    assert len(record.steps) == 5
    assert list(record.start.parameters) == ["0.weight", "0.bias"]


@pytest.mark.parametrize(
    ("words", "given"),
    [
        (["run", "train.py", "--iters", "4", "--model", "Net", "-o", "x"], ["--iters", "4"]),
        (["run", "--model=Net", "--output=x", "train.py", "--iters", "4"], ["--iters", "4"]),
        (["run", "--model", "Net", "-o", "x", "train.py", "--", "-o", "y"], ["-o", "y"]),
        (["run", "train.py", "--model", "Net", "-o", "x", "--", "--", "a"], ["--", "a"]),
    ],
)
def test_whose_arguments_are_whose(script, capsys, words, given):
    assert main(words) == 0
    assert capsys.readouterr().out == f"arguments {given} in train.py\n"
    assert Path("x").exists() and not Path("y").exists()


def test_it_stops_after_as_many_steps_as_asked_for(script, capsys):
    assert main(["run", script, "--model", "Net", "--steps", "2", "--iters", "100000000"]) == 0
    assert len(Trace.load("train.trace").steps) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("option", "code"), [("--fail", 1), ("--stop", 130), ("--leave", 5)])
def test_what_was_recorded_is_kept_however_the_script_ends(script, capsys, option, code):
    assert main(["run", script, "--model", "Net", option, "5"]) == code
    assert len(Trace.load("train.trace").steps) == 3
    said = capsys.readouterr().err
    assert ("the script's own error" in said) == (option == "--fail")
    assert "command.py" not in said  # the traceback begins with the script


def error(words, capsys):
    with pytest.raises(SystemExit) as left:
        raise SystemExit(main(words))
    assert left.value.code == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1, said.err
    assert "Traceback" not in said.err
    return said.err


def test_errors_are_one_line(script, capsys):
    Path("idle.py").write_text("from torch import nn\nclass Idle(nn.Linear): pass\nIdle(1, 2)\n")
    Path("junk.trace").write_text("junk")
    for words, says in [
        (["run", "none.py", "--model", "Net"], "there is no script none.py"),
        (["run", script], "required: --model"),
        (["run", script, "--model", "Nets"], "No Nets with weights was built. Is it Net"),
        (["run", script, "--model", "net"], "Is it Net"),
        (["run", script, "--model", "Net", "-o", "none/x"], "there is no folder"),
        (["run", script, "--model", "Net", "--steps", "0"], "invalid number of steps"),
        (["run", "idle.py", "--model", "Idle"], "no optimizer step updated it"),
        (["compare", "junk.trace", "none.trace"], "junk.trace cannot be read as a trace"),
        (["show", "none.trace"], "none.trace: No such file"),
        (["show", "."], ".: Is a directory"),
        (["tell"], "invalid choice: 'tell'"),
        ([], "required: COMMAND"),
    ]:
        assert says in error(words, capsys)
    assert [path.name for path in Path().glob("*.trace")] == ["junk.trace"]


def test_compare(script, capsys):
    for name, *more in (["a"], ["b"], ["c", "--seed", "1"], ["d", "--iters", "2"]):
        main(["run", script, "--model", "Net", "-o", name, *more])
    capsys.readouterr()
    assert main(["compare", "a", "b"]) == 0
    assert capsys.readouterr().out.startswith("✓ identical: a and b agree at all 3 steps")
    assert main(["compare", "a", "c", "--names", "raw", "port"]) == 1
    expected = compare(Trace.load("a"), Trace.load("c"), names=("raw", "port"))
    assert capsys.readouterr().out == f"{expected}\n"
    assert main(["compare", "a", "d", "--json"]) == 1
    values = json.loads(capsys.readouterr().out)
    assert (values["verdict"], values["first_difference"]["what"]) == ("different", "length")


def test_rounding_is_no_difference_unless_exactness_is_asked_for(script, capsys):
    for factor in (1.0, 1 + 2e-7):
        torch.manual_seed(0)
        net = nn.Linear(3, 2)
        with parity.trace(net) as record:
            net(torch.ones(2, 3)).square().mean().mul(factor).backward()
            torch.optim.SGD(net.parameters(), lr=0.1).step()
        record.save(f"{factor}.trace")
    words = ["compare", *map(str, sorted(Path().glob("1*.trace")))]
    assert main(words) == 0
    assert "equal within rounding" in capsys.readouterr().out
    assert main([*words, "--exact"]) == 1


def test_show(script, capsys):
    main(["run", script, "--model", "Net", "--iters", "9"])
    capsys.readouterr()
    assert main(["show", "train.trace"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "train.trace: 9 steps"
    assert any(line.split() == ["optimizer", "Adam"] for line in lines)
    assert any(line.split()[:2] == ["torch", torch.__version__] for line in lines)
    table = lines[lines.index("") + 1 :]
    assert [row.split()[0] for row in table] == ["step", "1", "2", "3", "…", "7", "8", "9"]
    assert table[1].split()[3] == "0.01"


CHOICES = """
import torch
from torch import nn
from torch.utils.data import DataLoader

class Net(nn.Linear):
    pass

net = Net(3, 2)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
samples = {name: torch.ones(3) for name in "abcd"}
for x in DataLoader(samples, batch_sampler=[("a", "b"), ("c", "d")]):
    optimizer.zero_grad()
    net(x).sum().backward()
    optimizer.step()
"""


def test_chosen_samples_are_the_same_in_another_process(tmp_path, monkeypatch):
    """Also where they are named by texts, whose `hash` differs from process to process."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(CHOICES)
    words = ["run", "train.py", "--model", "Net", "-o"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "1"}
    command = [sys.executable, "-m", parity.__name__, *words, "there.trace"]
    subprocess.run(command, env=environment, check=True)
    assert main([*words, "here.trace"]) == 0
    here, there = ([s.loaded for s in Trace.load(f"{p}.trace").steps] for p in ("here", "there"))
    assert here == there != [(), ()]


def test_help_is_of_the_module(capsys):
    with pytest.raises(SystemExit) as left:
        main(["run", "--help"])
    assert left.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith("usage: python -m course_utils.parity run SCRIPT --model NAME")
