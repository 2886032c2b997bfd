"""What a check asks of an answer before it looks closer: each ends the check with a sentence."""

from collections.abc import Callable
from numbers import Number

import torch
from torch import Tensor

from course_utils.exercises.outcomes import Found, unchecked, wrong


def number(answer: object, name: str) -> float:
    """Return a number, also one in a tensor or an array of one value.

    Raises Found if it is none.
    """
    if isinstance(answer, (bool, type)):
        answer = None
    if hasattr(answer, "item") and getattr(answer, "ndim", None) == 0:
        answer = answer.item()
    if not isinstance(answer, Number) or isinstance(answer, complex):
        raise Found(unchecked(f"`{name}` should be a number, as in `{name} = 12`."))
    return answer


def function(answer: object, name: str) -> Callable:
    """Return a function that can be called.

    Raises Found if it is none, or what calling it gave.
    """
    if callable(answer) and not isinstance(answer, (type, torch.nn.Module)):
        return answer
    given = answer.__name__ if isinstance(answer, type) else type(answer).__name__
    raise Found(
        unchecked(
            f"`{name}` should be a function, and it is {given}. Give the function itself, without "
            f"calling it: `{name}`, not `{name}(…)`."
        )
    )


def a_class(answer: object, name: str, kind: type) -> type:
    """Return a class that inherits from `kind`.

    Raises Found if it is none, with a word on objects in place of classes.
    """
    if isinstance(answer, type) and issubclass(answer, kind):
        return answer
    if isinstance(answer, kind):
        hint = f"it is an object of that class: give the class, `{type(answer).__name__}`"
    elif isinstance(answer, type):
        hint = f"`{answer.__name__}` does not inherit from `{kind.__name__}`"
    else:
        hint = f"it is {type(answer).__name__}"
    raise Found(unchecked(f"`{name}` should be a class of `{kind.__name__}`, and {hint}."))


def values(answer: object, name: str, shape: tuple[int, ...]) -> Tensor:
    """Return a tensor of a shape, float64; lists of numbers are made into one.

    Raises Found if the answer is nothing of that kind, or has another shape.
    """
    try:
        found = torch.as_tensor(answer, dtype=torch.float64).detach().cpu()
    except Exception:  # whatever objects of any class raise
        kind = type(answer).__name__
        hint = " Does the function end in `return`?" if answer is None else ""
        raise Found(
            wrong(f"`{name}` should give {_sized(shape)}, and gives {kind}.{hint}")
        ) from None
    if tuple(found.shape) != shape:
        raise Found(
            wrong(f"`{name}` should give {_sized(shape)}; yours has shape {list(found.shape)}.")
        )
    return found


def _sized(shape: tuple[int, ...]) -> str:
    return f"numbers of shape {list(shape)}" if shape else "a single number"
