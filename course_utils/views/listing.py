"""How loop and port are shown: one set of lines, as plain text and as HTML with the same text.

The HTML is that text in two `<pre>`, each line in an element of its own, so it stands where styles
and classes are dropped (GitHub); what is gone stands in `<del>`. The style makes two columns of it,
or one where there is no room, and lights up what belongs to the line that is pointed at.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

from pygments.lexers import PythonLexer
from pygments.token import Keyword, Name, Number, Operator, String

from course_utils.parity.looks import framed, tinted
from course_utils.views.line_jobs import JOBS

WIDEST = 64  # characters of code, after which the destinations no longer stand in one column
# Bold and italic still show where there is no style; earlier rows win.
ELEMENTS = (
    ((Keyword, Operator.Word), "b", ""),
    ((String,), "i", ""),
    ((Number,), "span", "n"),
    ((Name.Function, Name.Class), "b", "f"),
    ((Name.Decorator,), "span", "f"),
)


@dataclass(frozen=True)
class Line:
    """One line to show, and the group of lines that light up together with it.

    Of the port, `number` counts the lines. Of the loop, `home` says what took the line over,
    `place` is the number of the port's line that did, and `there` that line's code; the line is
    `gone` if no line of the port does its work, and `lost` if nothing else does it either.
    """

    code: str
    mark: str = ""
    number: int | None = None
    home: str = ""
    place: int | None = None
    there: str = ""
    group: int | None = None
    gone: bool = False
    lost: bool = False


@dataclass(frozen=True)
class Elsewhere:
    """What took lines over and is no line of the port: its name, and the number of lines."""

    name: str
    lines: int
    group: int


@dataclass(frozen=True)
class Listing:
    """The lines of loop and port, ready to be shown; a loop alone has no port."""

    loop: Sequence[Line]
    port: Sequence[Line] = ()
    elsewhere: Sequence[Elsewhere] = ()

    def text(self) -> str:
        """Return it as plain text: the loop with where each line went, and below it the port."""
        loop = _text(self._loop_rows())
        if not self.port:
            return loop
        return f"{LOOP}\n\n{loop}\n\n{PORT}\n\n{_text(self._port_rows())}"

    def html(self, below: str = "") -> str:
        """Return it as HTML in a frame, with the HTML `below` under it."""
        shown = _html(self._loop_rows(), _highlighted(self.loop))
        groups = sorted({line.group for line in self.loop} - {None})
        if self.port:
            codes = [escape(f"{e.name}: {_lines(e.lines)}") for e in self.elsewhere]
            port = _html(self._port_rows(), codes + _highlighted(self.port))
            shown = (
                f'<div><p class="hint"><b>{LOOP}</b></p>{shown}</div>'
                f'<div class="port"><p><b>{PORT}</b></p>{port}</div>'
            )
            below = f'<div class="sides">{shown}<div>{below}</div></div>'
            shown = ""
        return framed(f'<div class="view">{shown}{below}</div>', STYLE + MARKS + _lit(groups))

    def _loop_rows(self) -> list["Row"]:
        width = min(WIDEST, max((len(line.code) for line in self.loop), default=0))
        return [_loop_row(line, width) for line in self.loop]

    def _port_rows(self) -> list["Row"]:
        return [_else_row(one) for one in self.elsewhere] + [_port_row(one) for one in self.port]


LOOP = "The loop, and where each line went"
PORT = "The port"


@dataclass(frozen=True)
class Row:
    """The pieces of one line, each with the class that styles it; together they are its text."""

    pieces: list[tuple[str, str]]
    line: Line
    kind: str = "l"


def _loop_row(line: Line, width: int) -> Row:
    if not line.mark:
        return Row([], line)
    pieces = [(f"m {line.mark}", line.mark), ("", "  "), ("c", line.code)]
    if line.home:
        pad = " " * (max(0, width - len(line.code)) + 2)
        number = f"{line.place} " if line.place else ""
        pieces += [("", pad), ("to", f"→ {number}{line.home}")]
    return Row(pieces, line)


def _port_row(line: Line) -> Row:
    if not line.mark:
        return Row([], line)
    pieces = [("no", f"{line.number:3}"), ("", "  "), (f"m {line.mark}", line.mark), ("", "  ")]
    return Row([*pieces, ("c", line.code)], line)


def _else_row(one: Elsewhere) -> Row:
    said = f"{one.name}: {_lines(one.lines)}"
    return Row([("", " " * 11), ("c", said)], Line(said, group=one.group), "l else")


def _lines(count: int) -> str:
    return f"{count} line{'s' * (count != 1)} of the loop"


def _text(rows: Iterable[Row]) -> str:
    return "\n".join("".join(text for _, text in row.pieces) for row in rows)


def _html(rows: Sequence[Row], codes: Sequence[str]) -> str:
    shown = (_line_html(row, code) for row, code in zip(rows, codes, strict=True))
    return f"<pre>{chr(10).join(shown)}</pre>"


def _line_html(row: Row, code: str) -> str:
    line, inner = row.line, []
    bare = code.lstrip(" ")
    indent = len(code) - len(bare)
    for kind, text in row.pieces:
        if kind == "c":
            before = f'<span class="in">{" " * indent}</span>' if indent else ""
            struck = f"<del>{bare}</del>" if line.gone else bare
            inner.append(f'<span class="c">{before}{struck}</span>')
        elif kind == "to":
            inner.append(_went(line))
        else:
            inner.append(f'<span class="{kind}">{text}</span>' if kind else text)
    grouped = line.group is not None
    traits = ((f"d{line.group}", grouped), ("gone", line.gone), ("lost", line.lost))
    names = [row.kind, *(name for name, has in traits if has)]
    focus = ' tabindex="0"' if grouped else ""
    style = f' style="--i:{indent}"' if indent else ""
    return f'<span class="{" ".join(names)}"{focus}{style}>{"".join(inner)}</span>'


def _went(line: Line) -> str:
    """Return where a line went: what has to be read, and in `<small>` what may be left out."""
    if line.place:
        said = f"<b>{line.place}</b><small> {escape(line.home)}</small>"
    else:
        first, comma, rest = line.home.partition(",")
        said = escape(first) + (f"<small>{escape(comma + rest)}</small>" if comma else "")
    there = f' data-there="{escape(line.there.strip())}"' if line.there else ""
    return f'<span class="to"{there}>→ {said}</span>'


def _highlighted(lines: Sequence[Line]) -> list[str]:
    """Return the code of each line as HTML; the lines are read together, as one program."""
    lexer = PythonLexer(stripnl=False, ensurenl=False)
    tokens = lexer.get_tokens("\n".join(line.code for line in lines))
    shown = [""]
    for element, alike in groupby(tokens, lambda token: _element(token[0])):
        first, *others = "".join(text for _, text in alike).split("\n")
        shown[-1] += _wrapped(first, *element)
        shown += [_wrapped(other, *element) for other in others]
    return shown


def _element(kind: object) -> tuple[str, str]:
    """Return the element that shows a kind of token, and its class, if it has them."""
    found = ((e, name) for kinds, e, name in ELEMENTS if any(kind in one for one in kinds))
    return next(found, ("", ""))


def _wrapped(text: str, element: str, name: str) -> str:
    code = escape(text, quote=False)
    if not element or not text.strip():
        return code
    named = f' class="{name}"' if name else ""
    return f"<{element}{named}>{code}</{element}>"


def _lit(groups: Iterable[int]) -> str:
    """Return the rule that lights up a group while one of its lines is pointed at."""
    each = ",".join(f".shown:has(.d{g}:is(:hover,:focus)) .d{g}" for g in groups)
    return f"{each}{{background:var(--lit)}}\n" if each else ""


MARKS = tinted({job.mark: job.tint for job in JOBS})
# A line of the loop: mark, code, and under it where it went, with the port's line itself, as the
# port is out of sight there. From 700 pixels: two columns, and the numbers of the port's lines at
# the end; from 1080 the words as well.
STYLE = """\
div.shown .view{container-type:inline-size}
div.shown .sides{display:grid;grid-template-columns:minmax(0,1fr);gap:14px 18px}
div.shown .sides p{margin:0 0 6px;font-weight:600}
@supports selector(:has(a)){
.shown .hint::after{content:" (point at a line)";color:var(--soft);font-weight:400}
}
div.shown .view pre{display:block;width:auto;max-height:none;margin:0;padding:0;border:0;\
border-radius:0;box-shadow:none;background:none;color:inherit;overflow:visible;white-space:normal;\
word-break:normal;font:12px/1.55 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
.shown .l{display:grid;grid-template-columns:36px minmax(0,1fr);column-gap:8px;min-height:.7em;\
outline-offset:-1px}
.shown .port .l{grid-template-columns:22px 36px minmax(0,1fr)}
.shown .l[tabindex]:is(:hover,:focus){outline:1px solid var(--soft)}
.shown .m{padding:1px 5px;border-radius:3px;font:600 .82em/1.5 ui-monospace,monospace}
.shown pre .m{padding:0;border-radius:0;font-size:.85em;grid-column:1;grid-row:1/span 2;\
text-align:center;line-height:1.82}
.shown .port .m{grid-column:2;grid-row:1}
.shown .no{grid-column:1;grid-row:1;color:var(--soft);text-align:right;white-space:normal}
.shown .c{grid-column:2;min-width:0;white-space:pre-wrap;overflow-wrap:anywhere;\
padding-left:calc((var(--i,0) + 2)*1ch);text-indent:-2ch}
.shown .in{position:absolute}
.shown .port .c{grid-column:3}
.shown .else{margin-bottom:4px;border-left:3px solid var(--soft);background:var(--raised)}
.shown .else .c{grid-column:1/-1;padding:3px 8px;font-family:system-ui,sans-serif;text-indent:0}
.shown pre b{font-weight:600;color:var(--keyword)}
.shown pre i{font-style:normal;color:var(--text)}
.shown pre .n{color:var(--number)}
.shown pre .f{color:var(--name);font-weight:600}
.shown .gone .c,.shown .gone .c *{color:var(--soft)}
.shown del{background:none;text-decoration:line-through 1px}
.shown .to{grid-column:2;padding-left:calc((var(--i,0) + 2)*1ch);color:var(--soft);\
font-size:.92em;white-space:normal}
.shown .to[data-there]{overflow:hidden;white-space:nowrap;text-overflow:ellipsis}
.shown .to[data-there] small{display:none}
.shown pre .to b{color:var(--ink)}
.shown .to small{font-size:1em}
.shown .to[data-there]::after{content:" " attr(data-there)}
.shown .lost .to{color:var(--bad);font-weight:600}
@container (min-width:700px){
div.shown .sides{grid-template:auto 1fr/minmax(0,1fr) minmax(0,1fr)}
.shown .port{grid-column:2;grid-row:1/span 2}
.shown .sides .l{grid-template-columns:36px minmax(0,1fr) auto}
.shown .sides .port .l{grid-template-columns:22px 36px minmax(0,1fr)}
.shown pre .m{grid-row:1}
.shown .to{grid-column:3;padding-left:0;text-align:right}
.shown .to[data-there]::after{content:none}
.shown .to small{display:none}
}
@container (min-width:1080px){
.shown .to small,.shown .to[data-there] small{display:inline}
}
"""
