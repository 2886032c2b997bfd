"""What an exercise's answer cell is to a learner, and what it is worked out.

The marks are nbgrader's, and a stub is what its `ClearSolutions` makes of a cell with
`code_stub = ""`; a test compares the two where nbgrader is installed. It is no dependency, as it
brings a data base and a server of its own along.
"""

import ast
import re

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
GAP = re.compile(
    r"""^\s*(?:return\ |[\w.,\ \[\]"']+\ =\ )?  # a gap may be returned, or have a name,
    (?:\.\.\.|\{(?:"[^"]*":\ \.\.\.(?:,\ )?)+\})  # and be a dictionary of gaps;
    \s*(?:\#.*)?$  # a comment says what it is for
    """,
    re.VERBOSE,
)


class MarkError(ValueError):
    """The marks of a cell are not in pairs, or leave no program."""


def has_answer(code: str) -> bool:
    """Return whether a cell holds a solution between marks."""
    return BEGIN in code or END in code


def stub(code: str) -> str:
    """Return a cell without what stands between the marks.

    Raises MarkError for marks that are not in pairs, and for a stub that is no Python.
    """
    kept, inside = [], False
    for line in code.splitlines():
        inside, mark = _next(inside, line)
        if not mark and not inside:
            kept.append(line)
    _closed(inside, code)
    text = "\n".join(kept).strip("\n")
    try:
        ast.parse(text)
    except SyntaxError as error:
        raise MarkError(
            f"The stub is no Python, line {error.lineno}: put a gap, as in `...  # your lines`, "
            f"before the mark. It reads:\n{text}"
        ) from None
    return text


def worked(code: str) -> str:
    """Return a cell without its marks, and without the gaps that stand right before them."""
    kept, inside = [], False
    for line in code.splitlines():
        inside, mark = _next(inside, line)
        if not mark:
            kept.append(line)
        elif inside:
            while kept and GAP.match(kept[-1]):
                kept.pop()
    _closed(inside, code)
    return "\n".join(kept).strip("\n")


def _next(inside: bool, line: str) -> tuple[bool, bool]:
    """Return whether a solution goes on after a line, and whether the line is a mark."""
    for mark, after in ((BEGIN, True), (END, False)):
        if line.strip() == mark:
            if inside == after:
                raise MarkError(f"`{mark}` stands where it should not: the marks go in pairs.")
            return after, True
    return inside, False


def _closed(inside: bool, code: str) -> None:
    if inside:
        raise MarkError(f"`{END}` is missing at the end of:\n{code}")
