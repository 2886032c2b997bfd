"""What is wrong with a command, said in one line."""

import re
from argparse import ArgumentError
from collections.abc import Iterator
from difflib import get_close_matches

from course_utils.text import printable

PROGRAM = "python -m course_utils.train"
SEE = f"See {PROGRAM} --help."
A_CLASS = "expected the name of a class known here, or an import path, as my_module.MyClass"
LONGEST_VALUE = 60  # characters of a wrong value that are said


class CommandError(Exception):
    """Something in the command is wrong; the message says what, and what to do."""


class OptionError(CommandError):
    """One option is wrong: `key` says which, `value` what was given, `problem` what to give."""

    def __init__(self, key: str, problem: str, value: object = None):
        given = "" if value is None else f"={shortened(value)}"
        super().__init__(f"{key}{given} is not valid: {problem}. {SEE}")
        self.key, self.problem, self.value = key, problem, value


class UnknownError(CommandError):
    """There is no option `key`; `names` are those that there are."""

    def __init__(self, key: str, names: list[str]):
        group, dot, leaf = key.rpartition(".")
        leaves = [name.removeprefix(f"{group}.") for name in names if name.startswith(group + dot)]
        near = get_close_matches(leaf, leaves, n=1)
        hint = f" Did you mean {group}{dot}{near[0]}?" if near else ""
        super().__init__(f"there is no option {key}.{hint} {SEE}")
        self.key, self.names = key, names


# jsonargparse hands its errors over as text: neither its exceptions nor those behind them hold the
# key, the value or the type (ArgumentError.argument_name is set for argparse's own errors only).
KEY = re.compile(r'\s*Parser key "([\w.]+)"')
UNKNOWN = re.compile(r"(?:does not accept option|Option) '([^']+)'")
VALUE = re.compile(r"(?:Given value|Got value): (.*)")
KIND = re.compile(r"Expected an? <class '(?:[\w.]+\.)?(\w+)'>")
CHOICES = re.compile(r"Expected a typing\.Literal\[(.*)\]")


def as_line(message: str, ex: Exception | None, names: list[str]) -> CommandError:
    """Return what a person needs of one of the parser's messages."""
    key = KEY.match(message)
    inner = next((e for e in _causes(ex) if isinstance(e, OptionError | UnknownError)), None)
    if key and inner:  # of the parser for the arguments of a class
        return _below(key[1], inner)
    if unknown := UNKNOWN.search(message):
        return UnknownError(unknown[1], names)
    if key and (given := VALUE.search(message)):
        return OptionError(key[1], _expected(message, ex), given[1])
    if words := re.match(r"unrecognized arguments: (--[\w.-]+)", message):
        return UnknownError(words[1], [f"--{name}" for name in names])
    problem = shortened(" ".join(message.split()).rstrip("."), 200)
    if isinstance(ex, ArgumentError) or not key:
        return CommandError(f"{problem}. {SEE}")
    return OptionError(key[1], problem)


def _below(key: str, inner: OptionError | UnknownError) -> CommandError:
    if isinstance(inner, OptionError):
        return OptionError(f"{key}.{inner.key}", inner.problem, inner.value)
    return UnknownError(f"{key}.{inner.key}", inner.names)


def _expected(message: str, ex: Exception | None) -> str:
    """Return what would have been right, in words."""
    if choices := CHOICES.findall(message):
        return f"expected one of {', '.join(dict.fromkeys(choices))}"
    last = str(list(_causes(ex))[-1]).split(". Got value:")[0]
    if "dot import path" in last:
        return A_CLASS
    kinds = [kind for kind in KIND.findall(message) if kind != "NoneType"]
    if kinds:
        return f"expected {' or '.join(dict.fromkeys(kinds))}"
    return shortened(" ".join(last.split()), 200).rstrip(".")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def shortened(value: object, longest: int = LONGEST_VALUE) -> str:
    """Return a value as text in one line, cut where it is too long to be read."""
    return printable(" ".join(str(value).split()), longest)
