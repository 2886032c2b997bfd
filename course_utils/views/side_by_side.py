"""The loop and its port, line by line: what each line is for, and where it went."""

import ast
import inspect
import linecache
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from course_utils.parity.looks import Html, table
from course_utils.views.line_jobs import IDEA, JOBS, Job, Tagged, names_in, tag
from course_utils.views.listing import Elsewhere, Line, Listing
from course_utils.views.pairs import where_to

Program = object  # a function, a class, source text, or a list of these

MISSING = "not in the port"
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

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Each line of the loop, and the line of the port, or the words, that say where it went."""
        ends = zip(self.raw, self._places, strict=True)
        return [
            (line.text, self.home(line) if place is None else self.lit[place].text)
            for line, place in ends
            if line.job
        ]

    def home(self, line: Tagged) -> str:
        """Return what took over a line of the loop: a hook, a flag, or the Trainer by itself."""
        home = line.home
        looked_for = home.name and ("Trainer" in self.port_names or not home.flag)
        if looked_for and home.name not in self.port_names:
            return MISSING
        return home.text if line.job else ""

    def __str__(self) -> str:
        """Return the loop, the port below it, and the counts, as plain text."""
        return "\n".join([self._listing.text(), "", *self._count_lines()])

    __repr__ = __str__  # so that a viewer without HTML shows the lines too

    @cached_property
    def _places(self) -> list[int | None]:
        places = where_to(self.raw, self.lit)
        lost = (self.home(line) == MISSING for line in self.raw)
        return [None if gone else place for place, gone in zip(places, lost, strict=True)]

    @cached_property
    def _listing(self) -> Listing:
        if not self.lit:
            return Listing([Line(line.text, _mark(line)) for line in self.raw])
        ends = [
            (self.home(line) or None) if place is None else place
            for line, place in zip(self.raw, self._places, strict=True)
        ]
        groups = {end: n for n, end in enumerate(dict.fromkeys(e for e in ends if e is not None))}
        numbers = _numbers(self.lit)
        loop = [
            self._loop_line(line, end, groups, numbers)
            for line, end in zip(self.raw, ends, strict=True)
        ]
        port = [
            Line(line.text, _mark(line), number, group=groups.get(place))
            for place, (line, number) in enumerate(zip(self.lit, numbers, strict=True))
        ]
        others = [end for end in groups if isinstance(end, str)]
        return Listing(loop, port, [Elsewhere(e, ends.count(e), groups[e]) for e in others])

    def _loop_line(
        self, line: Tagged, end: int | str | None, groups: Mapping, numbers: list[int | None]
    ) -> Line:
        home, mark, group = self.home(line), _mark(line), groups.get(end)
        if isinstance(end, int):
            there = self.lit[end].text
            return Line(line.text, mark, None, home, numbers[end], there, group)
        return Line(line.text, mark, home=home, group=group, gone=bool(home), lost=home == MISSING)

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
        sides = 2 if self.lit else 1
        rows = [
            (Html(f'<span class="m {m}">{m}</span>') if m else "", name, *map(str, counts[:sides]))
            for m, name, *counts in self._totals()
        ]
        head = ("", "lines by job", "loop", "port")[: 2 + sides]
        return self._listing.html(below=table(head, rows, left=(0, 1)))


def _mark(line: Tagged) -> str:
    return line.job.mark if line.job else ""


def _numbers(lines: list[Tagged]) -> list[int | None]:
    """Return the number of each line, from 1; rows between functions have none."""
    numbers: list[int | None] = []
    count = 0
    for line in lines:
        count += line.job is not None
        numbers.append(count if line.job else None)
    return numbers


def side_by_side(
    raw: Program, lit: Program = "", known: Mapping[str, Iterable[str]] | None = None
) -> SideBySide:
    """Return two programs side by side, each line tagged with its job; or one alone.

    `raw` and `lit` are functions, classes, source text, or lists of these; a cell's code can be
    given too, as text. Each raw line also says what took it over, and in which line of the port: a
    hook, a flag, or the Trainer by itself; `not in the port` marks work that nothing there does.
    Tags come from the syntax tree, which knows the names of PyTorch and Lightning; `known` tells it
    the jobs of a program's own functions, as `{"data movement": ["crop"]}`. Raises TypeError for
    what has no source, SyntaxError for what is not Python, and ValueError for a job that is none.
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
