"""Copies of a learner's answers, so that a check can't change the answers themselves."""

import copy

import lightning as L
from torch import Tensor

from course_utils.exercises.outcomes import Found, unchecked


def copied(answer: object) -> object:
    """Return a copy of an answer to work on; functions and classes are themselves.

    A tensor that was computed loses its history. A LightningModule keeps the Trainer it was fitted
    by. Raises Found where an answer cannot be copied.
    """
    if isinstance(answer, Tensor):
        return answer.detach().clone().requires_grad_(answer.requires_grad)
    if type(answer) in (list, tuple, set):
        return type(answer)(map(copied, answer))
    if type(answer) is dict:
        return {key: copied(value) for key, value in answer.items()}
    if not isinstance(answer, type) and isinstance(placed := getattr(answer, "placed", None), dict):
        return copied(placed)  # of a widget, what was placed in it
    trainer = getattr(answer, "_trainer", None) if isinstance(answer, L.LightningModule) else None
    try:
        return copy.deepcopy(answer, {id(trainer): trainer} if trainer is not None else {})
    except Exception as error:
        raise Found(
            unchecked(
                f"Your answer, a {type(answer).__name__}, cannot be copied "
                f"({type(error).__name__}), and checks work on copies only. Give it as it was "
                "before it was used."
            )
        ) from None
