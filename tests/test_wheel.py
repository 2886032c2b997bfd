"""The wheel holds the sample, and what it holds works without the repository around it."""

import importlib.util
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from course_utils.digits.idx import ORIGINAL

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = [*(f"{name}.gz" for name in ORIGINAL), "LICENSE", "README.md", "make_sample.py"]

# An editable install puts the repository on the path: it is taken off, then nothing of it is met.
USE_IT = """
import os, sys
repository, wheel = map(os.path.realpath, sys.argv[1:])
sys.path[:] = [path for path in sys.path if os.path.realpath(path or ".") != repository]
import course_utils
from course_utils.digits.mnist import find_mnist
for module in list(sys.modules.values()):
    if module.__name__.partition(".")[0] == "course_utils":
        assert os.path.realpath(module.__file__).startswith(wheel + os.sep), module
print(find_mnist())
from course_utils.installation import lesson_file
print(lesson_file("style_script.py").parent.name)
"""


def copy_of_the_checkout(target: Path) -> Path:
    """Copy what a commit of everything would hold, so that no ignored file helps."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout, or no git")
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():  # one may be deleted but not yet committed
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
    return target


def build(source: Path, target: Path) -> Path:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", target, source]
    if importlib.util.find_spec("hatchling"):
        command.insert(4, "--no-build-isolation")
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if "No matching distribution found for hatchling" in done.stderr:
        pytest.skip("hatchling is not installed, and the package registry cannot be reached")
    assert done.returncode == 0, done.stderr
    (wheel,) = target.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    with zipfile.ZipFile(build(copy_of_the_checkout(folder / "source"), folder / "built")) as file:
        yield file


def test_wheel_holds_the_sample_whole(wheel):
    for name in SAMPLE:
        packed = wheel.read(f"course_utils/digits/sample/{name}")
        assert packed == (ROOT / "course_utils" / "digits" / "sample" / name).read_bytes()


def test_wheel_holds_the_package_and_nothing_else(wheel):
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    assert len(tops) == 2
    assert "course_utils" in tops
    assert sum(file.file_size for file in wheel.infolist()) < 2_000_000


def test_unpacked_wheel_finds_its_digits_without_the_repository(
    wheel, fresh, monkeypatch, first_on_path
):
    wheel.extractall(fresh / "unpacked")
    monkeypatch.setenv("PYTHONPATH", first_on_path(fresh / "unpacked")["PYTHONPATH"])
    monkeypatch.setenv("COURSE_DATA", "sample")
    command = [sys.executable, "-c", USE_IT, ROOT, fresh / "unpacked"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout == "the bundled sample (4,000 training and 1,000 test digits)\ncourse_utils\n"
    )


def test_the_training_command_runs_from_the_unpacked_wheel(
    wheel, fresh, monkeypatch, first_on_path
):
    wheel.extractall(fresh / "unpacked")
    # -P: the current folder is not on the path, so that only the wheel can be found.
    monkeypatch.setenv("PYTHONPATH", first_on_path(fresh / "unpacked")["PYTHONPATH"])
    monkeypatch.setenv("COURSE_DATA", "sample")
    fit = "fit --model LitMLP --trainer.max_epochs 1 --trainer.limit_train_batches 5 --out-dir out"
    command = [sys.executable, "-P", "-m", "course_utils.train", *fit.split()]
    done = subprocess.run(
        command, cwd=fresh, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "checkpoint: out/best.ckpt" in done.stdout
    assert len(list((fresh / "out").glob("digit_*.png"))) == 10
