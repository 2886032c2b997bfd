"""What pyproject.toml asks for, and what else says something about versions: they must agree."""

import re
import tomllib
from importlib.metadata import version

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tools.project import PYPROJECT, ROOT

PROJECT = tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
NEEDED = [*PROJECT["dependencies"], *EXTRAS["test"], *EXTRAS["author"]]
PINNED = (ROOT / "constraints.txt").read_text("utf-8")


@pytest.mark.parametrize("line", [*NEEDED, *EXTRAS["style"]])
def test_the_recorded_version_is_one_that_is_allowed(line):
    needed = Requirement(line)
    pin = re.search(rf"^{re.escape(needed.name)}==(\S+)$", PINNED, re.MULTILINE | re.IGNORECASE)
    assert pin, f"constraints.txt has no {needed.name}"
    assert pin[1] in needed.specifier


@pytest.mark.parametrize("line", NEEDED)
def test_the_installed_version_is_one_that_is_allowed(line):
    needed = Requirement(line)
    assert version(needed.name) in needed.specifier


def test_the_workflow_tries_the_pythons_that_are_allowed():
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text("utf-8"))
    environment = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    (python,) = (
        name for name in environment["dependencies"] if isinstance(name, str) and "python" in name
    )
    conda = SpecifierSet(python.removeprefix("python"))
    both = conda & SpecifierSet(PROJECT["requires-python"])
    allowed = [f"3.{minor}" for minor in range(8, 30) if f"3.{minor}" in both]
    for system in ("unix", "windows"):
        assert workflow["jobs"][system]["strategy"]["matrix"]["python"] == allowed
    (setup,) = (step for step in workflow["jobs"]["lowest"]["steps"] if "with" in step)
    assert setup["with"]["python-version"] == allowed[0]
