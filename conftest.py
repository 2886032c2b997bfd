"""What a lesson claims about its outputs is also checked on those of a run under nbval."""

from pathlib import Path

import pytest

from tools.claims import broken, missing_quotations, output_text
from tools.project import SOURCES


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """After a lesson's cell: do its questions and the lesson's quotations hold on this run?"""
    result = yield
    if type(item).__name__ != "IPyNbCell":
        return result
    source = SOURCES / Path(item.path).with_suffix(".py").name
    of_a_lesson = Path(item.path).parent.name not in ("exercises", "solutions")
    if of_a_lesson and source.exists() and item.test_outputs is not None:
        text = output_text(item.test_outputs)
        put_out = item.parent.__dict__.setdefault("put_out", [])
        put_out.append(text)
        problems = broken(source, item.cell.source, text)
        if item is _last_cell(item):
            problems += missing_quotations(source, "".join(put_out))
        if problems:
            pytest.fail("\n".join(problems), pytrace=False)
    return result


def _last_cell(item):
    return [other for other in item.session.items if other.parent is item.parent][-1]
