"""Each recipe in docs/doctor is run as it stands, and prints what it says it prints."""

import contextlib
import importlib.util
import io
import logging
import os
import re
import shlex
import sys

import pytest

from course_utils.parity.command import main
from tools.project import ROOT

PAGES = sorted(path.stem for path in (ROOT / "docs" / "doctor").glob("*.md"))
FENCE = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Give the page a folder and modules of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize("page", PAGES)
def test_a_recipe_does_what_it_says(page, folder):
    text = (ROOT / "docs" / "doctor" / f"{page}.md").read_text(encoding="utf-8")
    needed = re.search(r"<!-- needs: (.*) -->", text)
    for package in needed.group(1).split() if needed else []:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install '.[doctor]'")
    names, said = {"__name__": "recipe"}, ""
    for language, file, body in FENCE.findall(text):
        if file:
            (folder / file).write_text(body)
        elif language == "python":
            said = printed(exec, compile(body, f"{page}.md", "exec"), names)
        elif language == "console":
            for command, output in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", body, re.MULTILINE):
                assert_said(typed(command), output)
        else:
            assert language == "text", f"no such fence: {language}"
            assert_said(said, body)


def printed(function, *arguments):
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        function(*arguments)
    return out.getvalue()


def typed(command):
    """Run a command of a page in this process: starting Python takes most of a test's time."""
    words = shlex.split(command)
    variables = dict(word.split("=") for word in words if re.match(r"[A-Z_]+=", word))
    words = words[len(variables) :]
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        if words[:3] == ["python", "-m", "course_utils.parity"]:
            return printed(main, words[3:])
        assert words[0] == "pytest", command
        return printed(pytest.main, [*words[1:], "-p", "no:cacheprovider", "--rootdir=."])
    finally:
        os.environ.clear()
        os.environ.update(before)


def assert_said(said, expected):
    """Compare what was printed with a page's text, in which … stands for anything."""
    pattern = ".*".join(map(re.escape, expected.rstrip().split("…")))
    assert re.fullmatch(pattern, said.rstrip(), re.DOTALL), f"{said}\n--- expected:\n{expected}"


def test_every_page_is_in_the_list_of_pages():
    listed = (ROOT / "docs" / "doctor" / "README.md").read_text(encoding="utf-8")
    assert sorted([*re.findall(r"\]\((\S+)\.md\)", listed), "README"]) == PAGES
    assert len(PAGES) > 10


def test_a_page_that_prints_something_else_is_found():
    with pytest.raises(AssertionError, match="expected"):
        assert_said("identical\n", "different\n")
    assert_said("a\nb\nc\n", "a\n…\n")
