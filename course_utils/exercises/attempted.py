"""Whether there is an answer at all: what still holds the `...` of a stub."""

import ast
import dis
import inspect
import textwrap
from collections.abc import Iterator
from types import FunctionType

from course_utils.exercises.outcomes import Outcome, unattempted

# What a class has of its own although nothing stands in it.
BARE = {
    "__annotate_func__",
    "__doc__",
    "__firstlineno__",
    "__module__",
    "__qualname__",
    "__static_attributes__",
}
# All that a body can consist of which does nothing, or only raises NotImplementedError.
IDLE = {
    "CALL",
    "COPY_FREE_VARS",
    "LOAD_COMMON_CONSTANT",
    "LOAD_CONST",
    "LOAD_GLOBAL",
    "NOP",
    "POP_TOP",
    "PRECALL",
    "PUSH_NULL",
    "RAISE_VARARGS",
    "RESUME",
    "RETURN_CONST",
    "RETURN_VALUE",
}


def missing(answers: dict[str, object]) -> Outcome | None:
    """Return the outcome of answers that still have gaps, by name, or None if there is no gap."""
    gaps = [gap for name, answer in answers.items() for gap in _gaps(name, answer)]
    if not gaps:
        return None
    listed = " and ".join(", ".join(f"`{gap}`" for gap in gaps).rsplit(", ", 1))
    return unattempted(
        f"There is a gap where the answer belongs: {listed}. Put your own lines where `...` "
        "stands, run that cell, then this one."
    )


def _gaps(name: str, answer: object) -> Iterator[str]:
    if answer is ...:
        yield name
    elif isinstance(answer, FunctionType):
        if _has_gap(answer):
            yield answer.__name__
    elif isinstance(answer, type):
        if not vars(answer).keys() - BARE:
            yield answer.__name__
        for method, value in vars(answer).items():
            for function in (value, getattr(value, "__func__", None)):
                if isinstance(function, FunctionType) and _has_gap(function):
                    yield method
    elif type(answer) is dict:
        for key, value in answer.items():
            yield from _gaps(str(key), value)
    elif type(answer) in (list, tuple):
        for value in answer:
            yield from _gaps(name, value)


def _has_gap(function: FunctionType) -> bool:
    if function.__name__ == "<lambda>":
        return False
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return _idle(function)
    return _idle(function) or any(_open_places(tree))


def _open_places(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield each `...` of a program but those of an index, as in `x[..., 0]`, and of types."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.Subscript):
            yield from _open_places(child.value)
            continue
        if isinstance(child, ast.Constant) and child.value is ...:
            yield child
        yield from _open_places(child)


def _idle(function: FunctionType) -> bool:
    """Return whether a function does nothing: an empty body, or one that is not implemented."""
    for instruction in dis.get_instructions(function):
        if instruction.opname not in IDLE:
            return False
        if instruction.opname == "LOAD_GLOBAL" and instruction.argval != "NotImplementedError":
            return False
        if instruction.opname in ("RETURN_CONST", "LOAD_CONST") and not (
            instruction.argval is None or isinstance(instruction.argval, str)
        ):
            return False
    return True
