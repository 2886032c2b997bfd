"""Words from elsewhere, as they are shown."""

import pytest

from course_utils.text import printable


@pytest.mark.parametrize(
    ("foreign", "shown"),
    [
        ("two words, ä and 数", "two words, ä and 数"),
        ("one\ntwo\r\tthree", r"one\ntwo\r\tthree"),
        ("\x1b[2Jgone", r"\x1b[2Jgone"),
        ("\x9b2J", r"\x9b2J"),
        ("abc\u202etxt.exe", r"abc\u202etxt.exe"),
        ("\ud800", r"\ud800"),
        (ValueError("bell\x07"), r"bell\x07"),
        ("", ""),
    ],
)
def test_what_cannot_be_seen_is_spelled_out(foreign, shown):
    assert printable(foreign) == shown
    assert printable(foreign).isprintable()


def test_what_is_too_long_is_cut_and_says_so():
    assert printable("a" * 300) == "a" * 300
    for foreign in ("a" * 301, "\0" * 200, "a" * 10_000_000):
        assert len(printable(foreign)) == 300 and printable(foreign).endswith("…")
    assert printable("abcdef", longest=4) == "abc…"
