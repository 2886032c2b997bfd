"""The catalogue: each planted fault is named, and nothing that the doctor can name is left out."""

import pytest

from tools.site import diagnoses
from tools.site.planted import PLANTED, Planted


@pytest.mark.parametrize("fault", PLANTED, ids=lambda fault: fault.name)
def test_a_planted_fault_is_named(fault):
    report = diagnoses.report_of(fault)
    assert report.diagnosis and report.diagnosis.name == fault.name, str(report)


def test_the_right_programs_are_equal_to_themselves():
    for both in {fault.both for fault in PLANTED if not fault.again}:
        report = diagnoses.report_of(Planted("no fault", "", (), both))
        assert report.verdict == "identical", f"{both}\n{report}"


def test_every_diagnosis_of_the_code_is_in_the_catalogue(monkeypatch):
    assert diagnoses.not_shown() == []
    monkeypatch.setattr(
        diagnoses, "PLANTED", [p for p in PLANTED if p.name != "forgotten zero_grad()"]
    )
    assert diagnoses.not_shown() == ["forgotten zero_grad()"]


def test_a_page_shows_the_line_the_report_and_the_mend():
    (fault,) = (p for p in PLANTED if p.name == "forgotten zero_grad()")
    text = diagnoses._page(fault, diagnoses.report_of(fault))
    assert "\n-            optimizer.zero_grad()\n" in text
    assert "Diagnosis: forgotten zero_grad()" in text and "## How to mend it" in text


def test_pages_have_names_of_their_own():
    assert len({diagnoses.slug(fault.name) for fault in PLANTED}) == len(PLANTED)
    assert diagnoses.slug("forgotten zero_grad()") == "forgotten-zero-grad"


def test_an_edit_that_fits_nowhere_is_an_error():
    with pytest.raises(ValueError, match="0 times"):
        assert Planted("x", "", (("no such line", ""),)).programs
