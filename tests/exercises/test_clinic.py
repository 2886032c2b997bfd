"""The patients of the clinic: sick ones are named by the doctor only, mended ones are well."""

import copy
import warnings

import pytest
from worked import questions, solved

from course_utils.exercises import scoreboard
from course_utils.exercises.clinic import SEEDS

PATIENTS = questions("09")
# Advice of Lightning's to every small training, sick or well.
HARMLESS = ("The '", "The number of training batches", "You defined a `validation_step`")
OUTDATED = (DeprecationWarning, FutureWarning)  # of one library to another
BY_NUMBER = pytest.mark.parametrize("number", range(1, 11))
# What the doctor says of each port as it was admitted: where it parts from its loop, and why.
FOUND = {
    1: ("learning rate @2", "scheduler per step in one, per epoch in the other"),
    2: ("gradient @1", "gradients a constant factor apart"),
    3: ("buffers @1", "forgotten eval()"),
    4: ("parameters @1", "other parameters handed to the optimizer"),
    5: ("gradient @1", "unscale"),
    6: ("mode @1", "frozen batch norm"),
    7: ("optimizer @1", "other optimizer settings"),
    8: ("gradient @2", "gradients left over from another loss"),
    9: ("identical", ""),
    10: ("identical", ""),
}
# What is left when only the first of two faults is mended.
HALF = {
    1: (
        ("self.trainer.estimated_stepping_batches", "self.trainer.max_epochs"),
        ("learning rate @2", "other learning rate"),
        "T_max",
    ),
    2: (
        ("loss * 2 if", "loss if"),
        ("gradient @4", "gradients a constant factor apart"),
        "This step has 1 batches, those before it 2",
    ),
}


@pytest.fixture
def patient(number):
    """Return a patient that nobody has asked anything yet."""
    fresh = copy.copy(PATIENTS[number - 1])
    fresh._kept, fresh._asked, fresh._hinted = set(), False, 0
    fresh.checker = fresh._well
    return fresh


def said(report):
    if report.diagnosis is None:
        return report.verdict, ""
    first = report.first_difference
    return f"{first.what} @{first.step}", report.diagnosis.name


@BY_NUMBER
def test_the_doctor_names_what_ails_a_port(patient, number):
    assert said(patient.doctor()) == FOUND[number]


@pytest.mark.parametrize("number", HALF)
def test_the_second_fault_shows_when_the_first_is_mended(patient, number):
    names = solved("09")
    (old, new), found, words = HALF[number]
    assert old in patient.answer
    exec(patient.answer.replace(old, new), names)
    report = patient.doctor(names[f"Mended{number}"])
    assert said(report) == found
    assert words in " ".join(report.explain().split())


@BY_NUMBER
def test_nothing_names_the_fault_before_the_doctor_was_asked(patient, number, capfd):
    """Neither a warning, nor what is printed, nor the check: it says only that they part."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        patient.run(patient.port, patient._data(SEEDS[0]))
    caught = [w for w in caught if not issubclass(w.category, OUTDATED)]
    assert [text for w in caught if not (text := str(w.message)).startswith(HARMLESS)] == []
    told = str(patient.check(patient.port))
    printed = capfd.readouterr()
    assert "Diagnosis" not in told
    name = FOUND[number][1]
    assert not name or name not in told + printed.out + printed.err
    assert patient.by_eye and not patient.mended


@BY_NUMBER
def test_the_first_steps_of_loop_and_port_stand_side_by_side(patient, number):
    lines = patient.first_steps().code.splitlines()
    assert len(lines) == 7 and "the loop" in lines[1] and "the port" in lines[2]


@pytest.mark.parametrize("number", [1])
def test_the_scoreboard_knows_who_was_found_how(patient, number):
    mended = solved("09")["Mended1"]
    assert "waiting" in str(scoreboard(patient))
    assert patient.check(mended)
    assert "mended, found by eye" in str(scoreboard(patient))
    assert "1 of 1 mended: 1 found by eye, 0 with the doctor" in scoreboard(patient)._repr_html_()
    patient.doctor()
    assert "mended, found with the doctor" in str(scoreboard(patient))
    patient._kept.clear()  # as in another session: what was kept in the file stays
    assert "mended, found with the doctor" in str(scoreboard(patient))


@pytest.mark.parametrize("number", [2])
def test_whoever_reads_the_solution_did_not_find_it_by_eye(patient, number):
    patient.solution()
    assert patient.by_eye
    assert "Mended2" in patient.solution().code
    assert not patient.by_eye


@pytest.mark.parametrize("number", [7])
def test_after_the_doctor_was_asked_the_check_shows_the_report(patient, number):
    assert patient.check(patient.port).report is None
    patient.doctor()
    assert patient.check(patient.port).report.diagnosis.name == FOUND[7][1]


@pytest.mark.parametrize("number", [1])
def test_what_cannot_be_run_is_told_and_not_raised(patient, number):
    assert patient.doctor(3).kind == "cannot be checked"
