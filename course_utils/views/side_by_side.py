"""The loop and its port in two columns: what each line is for, and where it went."""

import ast
import inspect
import linecache
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from itertools import zip_longest

from course_utils.views.line_jobs import IDEA, JOBS, Job, Tagged, names_in, tag

Program = object  # a function, a class, source text, or a list of these

MISSING = "not in the port"
CODE = "background:none;color:inherit;padding:0;font-size:85%;white-space:pre-wrap"
TIGHT = "padding:1px 4px;line-height:1.3"
STARTS = ("def ", "class ", "async def ", "@")


@dataclass(frozen=True, repr=False)
class SideBySide:
    """Two tagged programs; shows itself as HTML in a notebook and as text elsewhere."""

    raw: list[Tagged]
    lit: list[Tagged]
    port_names: set[str]

    @property
    def counts(self) -> dict[Job, tuple[int, int]]:
        """The number of lines of each job: in the loop, and in the port."""
        return {
            job: tuple(sum(line.job == job for line in side) for side in (self.raw, self.lit))
            for job in JOBS
        }

    @property
    def missing(self) -> list[str]:
        """The lines of the loop whose work nothing in the port takes over."""
        return [line.text.strip() for line in self.raw if self.home(line) == MISSING]

    def home(self, line: Tagged) -> str:
        """Return what took over a line of the loop: a hook, a flag, or the Trainer by itself."""
        home = line.home
        looked_for = home.name and ("Trainer" in self.port_names or not home.flag)
        if looked_for and home.name not in self.port_names:
            return MISSING
        return home.text if line.job else ""

    def __str__(self) -> str:
        """Return both columns, the counts below, as plain text."""
        if not self.lit:
            return "\n".join([*map(_marked, self.raw), "", *self._count_lines()])
        rows = [
            (_marked(raw), self._arrow(raw), _marked(lit))
            for raw, lit in zip_longest(self.raw, self.lit, fillvalue=Tagged(""))
        ]
        widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
        lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}} | {c}".rstrip() for a, b, c in rows]
        return "\n".join([*lines, "", *self._count_lines()])

    __repr__ = __str__  # so that a viewer without HTML shows the columns too

    def _arrow(self, line: Tagged) -> str:
        home = self.home(line)
        return f"→ {home}" if home else ""

    def _totals(self) -> list[tuple[str, str, int, int]]:
        rows = [(job.mark, job.name, *count) for job, count in self.counts.items()]
        plumbing = [sum(c[i] for job, c in self.counts.items() if job != IDEA) for i in (0, 1)]
        total = [sum(c[i] for c in self.counts.values()) for i in (0, 1)]
        return [*rows, ("", "all but model and loss", *plumbing), ("", "all lines", *total)]

    def _count_lines(self) -> list[str]:
        sides = 2 if self.lit else 1
        heads = "".join(f"  {side:>4}" for side in ("loop", "port")[:sides])
        rows = ((m, n, "".join(f"  {c:>4}" for c in c[:sides])) for m, n, *c in self._totals())
        return [f"{'':4}  {'lines by job':<22}{heads}", *(f"{m:4}  {n:<22}{c}" for m, n, c in rows)]

    def _repr_html_(self) -> str:
        return self._code_html() + self._count_html()

    def _code_html(self) -> str:
        if not self.lit:
            rows = "".join(f"<tr>{_code_cells(line)}</tr>" for line in self.raw)
            return f"<table><tbody>{rows}</tbody></table>"
        rows = "".join(
            f"<tr>{_code_cells(raw)}<td style='text-align:left;{TIGHT}'>"
            f"<small>{escape(self.home(raw))}</small></td>{_code_cells(lit)}</tr>"
            for raw, lit in zip_longest(self.raw, self.lit, fillvalue=Tagged(""))
        )
        titles = (("", 5), ("the loop", 37), ("went to", 16), ("", 5), ("the port", 37))
        head = "".join(
            f"<th style='text-align:left;width:{w}%'>{title}</th>" for title, w in titles
        )
        # Fixed widths, so that both columns stay in sight: long lines wrap.
        style = "table-layout:fixed;width:100%"
        return f"<table style='{style}'><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"

    def _count_html(self) -> str:
        colours, sides = {job.mark: job.colour for job in JOBS}, 2 if self.lit else 1
        rows = "".join(
            f"<tr><td style='background:{colours.get(mark, 'none')}'><small>{mark}</small></td>"
            f"<td style='text-align:left'>{name}</td>"
            + "".join(f"<td>{count}</td>" for count in counts[:sides])
            + "</tr>"
            for mark, name, *counts in self._totals()
        )
        heads = "".join(f"<th>{side}</th>" for side in ("loop", "port")[:sides])
        head = f"<tr><th></th><th>lines by job</th>{heads}</tr>"
        return f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>"


def side_by_side(
    raw: Program, lit: Program = "", known: Mapping[str, Iterable[str]] | None = None
) -> SideBySide:
    """Return two programs in two columns, each line tagged with its job; one alone, in one.

    `raw` and `lit` are functions, classes, source text, or lists of these; a cell's code can be
    given too, as text. Each raw line also says what took it over: a hook, a flag, or the Trainer
    by itself; `not in the port` marks work that nothing in the port does. Tags come from the
    syntax tree, which knows the names of PyTorch and Lightning; `known` tells it the jobs of a
    program's own functions, as `{"data movement": ["crop"]}`. Raises TypeError for what has no
    source, SyntaxError for what is not Python, and ValueError for a job that is none.
    """
    sources = [_source(raw), _source(lit)]
    sides = (_spaced(source, known) for source in sources)
    return SideBySide(*sides, names_in(sources[1]))


def _spaced(source: str, known: Mapping[str, Iterable[str]] | None) -> list[Tagged]:
    """Return the tagged lines, with an empty row before each function or class but the first."""
    lines: list[Tagged] = []
    for line in tag(source, known):
        if lines and not lines[-1].text.startswith("@") and line.text.startswith(STARTS):
            lines.append(Tagged(""))
        lines.append(line)
    return lines


def _source(program: Program) -> str:
    if isinstance(program, (list, tuple)):
        return "\n\n".join(_source(part) for part in program)
    if isinstance(program, str):
        return textwrap.dedent(program).strip("\n")
    try:
        return textwrap.dedent(inspect.getsource(program)).strip("\n")
    except (TypeError, OSError):
        if inspect.isclass(program) and (source := _class_source(program)):
            return source
    raise TypeError(
        f"side_by_side() cannot read the source of {program!r}: give it functions or classes that "
        "are defined in a file or a notebook cell, or their source as text."
    )


def _class_source(cls: type) -> str:
    """Return the source of a class defined in a notebook, found by way of its methods.

    Before Python 3.13, inspect looks for a class in a module's file, which a notebook has not.
    """
    for method in vars(cls).values():
        code = getattr(method, "__code__", None)
        if code is None:
            continue
        text = "".join(linecache.getlines(code.co_filename))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef) and node.name == cls.__name__:
                return ast.get_source_segment(text, node)
    return ""


def _marked(line: Tagged) -> str:
    return f"{line.job.mark if line.job else '':4}  {line.text}"


def _code_cells(line: Tagged) -> str:
    colour = line.job.colour if line.job else "none"
    text = escape(line.text)
    # Hard spaces, as some viewers drop the style that would keep plain ones.
    indent = "&nbsp;" * (len(text) - len(text.lstrip(" ")))
    ink = "color:#222" if line.job else "color:inherit"
    style = f"text-align:left;vertical-align:top;background:{colour};{ink};{TIGHT}"
    return (
        f"<td style='{style}'><small>{line.job.mark if line.job else ''}</small></td>"
        f"<td style='{style}'><code style='{CODE}'>"
        f"{indent}{text.lstrip(' ')}</code></td>"
    )
