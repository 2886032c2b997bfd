"""The page for teachers: its figures follow from the sources, and it names what there is."""

import re

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell

from tools import teaching
from tools.project import ROOT, exercise_sources, sources


def test_the_page_is_up_to_date():
    assert teaching.page() == teaching.PAGE.read_text("utf-8"), "run `make build`"


def test_every_lesson_has_its_minutes_and_every_exercise_its_mistakes():
    text = teaching.page()
    for source in sources():
        assert re.search(rf"^\| {int(source.stem[:2])}\. .*\| \d+ s \| \d+ min \|", text, re.M)
    found = teaching.exercises()
    assert found.keys() == {int(source.stem[:2]) for source in exercise_sources()}
    for source in exercise_sources():
        told = found[int(source.stem[:2])]
        assert len(told) == source.read_text("utf-8").count("= Question(\n")
        for index, (kind, title) in enumerate(told, 1):
            assert f"- **{index}. {title}** ({kind}): " in text


def test_reading_takes_time_by_words_and_by_lines_of_code():
    words = new_markdown_cell("word " * teaching.WORDS_A_MINUTE)
    code = new_code_cell("a = 1\nb = 2")
    assert teaching.reading([words]) == 1
    assert teaching.reading([words, code]) == pytest.approx(1 + (15 + 2 * 3) / 60)


def test_a_lesson_whose_time_is_not_known_is_an_error():
    with pytest.raises(teaching.TeachingError, match="make record"):
        teaching.computing(99)


def test_a_page_without_a_place_for_them_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(teaching, "PAGE", tmp_path / "teaching.md")
    teaching.PAGE.write_text("# Teaching\n")
    with pytest.raises(teaching.TeachingError, match="minutes, plans, stumbles"):
        teaching.page()


def test_the_commands_that_the_page_names_are_there():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    text = teaching.PAGE.read_text("utf-8") + (ROOT / "README.md").read_text("utf-8")
    targets = set(re.findall(r"(?:`|^)make (\w+)", text, re.M))
    assert {"preflight", "kit", "slides", "classroom", "course"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:.*## ", makefile, re.M), target
