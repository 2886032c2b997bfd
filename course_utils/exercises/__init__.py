"""Exercises that check themselves: questions, hints, the reason why an answer is wrong."""

from course_utils.exercises.asking import a_class, function, number, values
from course_utils.exercises.clinic import Patient, accuracy, first_steps, scoreboard
from course_utils.exercises.lines import Lines
from course_utils.exercises.outcomes import right, wrong
from course_utils.exercises.port import QUIET, FewDigits, grade_port
from course_utils.exercises.progress import progress
from course_utils.exercises.question import Question

__all__ = [
    "QUIET",
    "FewDigits",
    "Lines",
    "Patient",
    "Question",
    "a_class",
    "accuracy",
    "first_steps",
    "function",
    "grade_port",
    "number",
    "progress",
    "right",
    "scoreboard",
    "values",
    "wrong",
]
