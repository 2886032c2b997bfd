"""Colours and HTML for all that is shown: it reads in light, in dark, and without any style.

The HTML comes first and has to stand alone: GitHub keeps elements and a few attributes, and drops
styles and classes. The style is laid on top, inside one frame, and touches nothing outside it. The
port doctor owns this module, as it can be lifted out; the course's views take it from here.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import NamedTuple


class Html(str):
    """Text that is HTML already, made by someone who has escaped what was foreign in it."""


class Colour(NamedTuple):
    """One colour as `#rrggbb`, in a light page and in a dark one."""

    light: str
    dark: str


COLOURS = {
    "ground": Colour("#ffffff", "#15181c"),
    "raised": Colour("#f4f6f8", "#1f242a"),  # a heading, a row in two
    "lit": Colour("#ffefb0", "#4d3f00"),  # what belongs to the line that is pointed at
    "line": Colour("#d5dae0", "#39414a"),  # rules, no text
    "ink": Colour("#1f2328", "#e6e9ec"),
    "soft": Colour("#55606b", "#a9b2bc"),  # what is said beside, or gone
    # Verdicts.
    "good": Colour("#00735c", "#4fcfae"),
    "close": Colour("#7a5f00", "#e5c44e"),
    "bad": Colour("#b23c00", "#ff9d75"),
    # Code.
    "keyword": Colour("#7a3fc4", "#cdb0ff"),
    "text": Colour("#0d6534", "#94dba8"),
    "number": Colour("#0550ae", "#93c9ff"),
    "name": Colour("#8f3a00", "#ffb98a"),
}
# Grounds with an ink of their own, after Okabe and Ito's palette.
TINTS = {
    "strong": (Colour("#1f2328", "#e6e9ec"), Colour("#ffffff", "#15181c")),
    "blue": (Colour("#cfe8f7", "#0f3a57"), Colour("#0b4a75", "#b4def9")),
    "pink": (Colour("#f5dcea", "#4f2644"), Colour("#76295a", "#f5c3e1")),
    "orange": (Colour("#f9dcc4", "#54300f"), Colour("#753607", "#ffcda8")),
    "yellow": (Colour("#fbeec2", "#493c08"), Colour("#5c4900", "#f5e09a")),
    "green": (Colour("#cdeadf", "#0d4334"), Colour("#0a5240", "#a2e8d0")),
    "grey": (Colour("#e4e6e9", "#363d45"), Colour("#3d434a", "#d5dade")),
}

# For lines and areas of plots, on white: Okabe and Ito's palette (2008), which stays distinct for
# colour-blind readers, and three more after Tol's muted scheme (2021) where ten are needed.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
PALETTE_OF_TEN = (*PALETTE, "#882255", "#999933", "#888888")
ENOUGH = 4.5  # the contrast of text with its ground that WCAG 2 asks for

# What a page says about itself goes before what the reader's machine prefers: JupyterLab, Sphinx
# themes, Colab. `light-dark()` then picks one of each pair.
THEMES = """\
.shown{color-scheme:light dark}
:is([data-jp-theme-light=true],[data-theme=light],[theme=light]) .shown{color-scheme:light}
:is([data-jp-theme-light=false],[data-theme=dark],[theme=dark],.vscode-dark) .shown{\
color-scheme:dark}
.text_html:has(>.shown){background:none!important;padding:0!important;border:0}
"""
# `div.shown` and `!important`: the pages around it have rules for every table and every pre.
FRAME = """\
div.shown{box-sizing:border-box;width:100%;max-width:100%;min-width:0;margin:2px 0 6px;\
padding:8px 12px;border:1px solid var(--line);border-radius:6px;background:var(--ground);\
color:var(--ink);font:14px/1.45 system-ui,sans-serif;text-align:left;overflow-wrap:anywhere}
div.shown p{margin:4px 0;color:inherit}
div.shown code{padding:1px 4px;border:0;border-radius:4px;background:var(--raised);\
color:var(--ink);font:.9em ui-monospace,monospace;white-space:pre-wrap}
div.shown .soft{color:var(--soft)}
"""
TABLE = """\
div.shown .wide{max-width:100%;overflow-x:auto}
div.shown table{display:table;width:auto;margin:4px 0;border:0;border-collapse:collapse;\
background:none;color:inherit;font-size:inherit;table-layout:auto}
div.shown :is(thead,tbody,tr){border:0;background:none!important;color:inherit}
div.shown tbody tr{border-top:1px solid var(--line)}
div.shown :is(th,td){padding:3px 11px 3px 0;border:0;background:none;color:inherit;\
text-align:right;vertical-align:top;white-space:normal;max-width:none;\
overflow-wrap:break-word;font-variant-numeric:tabular-nums}
div.shown :is(th,td)[align=left]{text-align:left}
div.shown thead th{color:var(--soft);font-weight:600}
"""


def variables() -> str:
    """Return the rule that gives each colour its CSS variable, `--ink` and so on."""
    named = dict(COLOURS)
    for name, (ground, ink) in TINTS.items():
        named |= {name: ground, f"on-{name}": ink}
    pairs = "".join(f"--{name}:light-dark({c.light},{c.dark});" for name, c in named.items())
    return f".shown{{{pairs}}}\n"


def framed(body: str, style: str = "") -> str:
    """Return HTML in the frame that brings its colours along; `style` adds rules of its own."""
    rules = THEMES + variables() + FRAME + (TABLE if "<table" in body else "") + style
    return f'<div class="shown"><style>{rules}</style>{body}</div>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    """Return a table of texts; the columns in `left` are set to the left, others to the right."""

    def line(cells: Sequence[str], kind: str) -> str:
        put = [' align="left"' if number in left else "" for number in range(len(cells))]
        shown = [cell if isinstance(cell, Html) else escape(cell) for cell in cells]
        pairs = zip(put, shown, strict=True)
        return "<tr>" + "".join(f"<{kind}{a}>{c}</{kind}>" for a, c in pairs) + "</tr>"

    top = f"<thead>{line(head, 'th')}</thead>" if any(head) else ""
    body = "".join(line(row, "td") for row in rows)
    return f'<div class="wide" tabindex="0"><table>{top}<tbody>{body}</tbody></table></div>'


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """Return a table of names and texts, both to the left; backticks in a text make code."""
    body = "".join(
        f'<tr><th align="left">{escape(name)}</th><td align="left">{with_code(text)}</td></tr>'
        for name, text in rows
    )
    return f"<table><tbody>{body}</tbody></table>"


def with_code(text: str) -> str:
    """Return text for HTML, with what stands between backticks as code."""
    pieces = escape(text).split("`")
    return "".join(f"<code>{p}</code>" if i % 2 else p for i, p in enumerate(pieces))


def tinted(names: Mapping[str, str]) -> str:
    """Return rules that give each class the ground and the ink of a tint, as `{"DATA": "blue"}`."""
    return "".join(
        f".shown .{mark}{{background:var(--{tint});color:var(--on-{tint})}}\n"
        for mark, tint in names.items()
    )


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours `#rrggbb` as WCAG 2 defines it, from 1 to 21."""
    dark, light = sorted(map(_luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


def ink_of(colour: str) -> str:
    """Return a colour `#rrggbb`, darkened as far as text on white needs it."""
    ink, share = colour, 1.0
    while contrast(ink, "#ffffff") < ENOUGH:
        share -= 0.02
        ink = "#" + "".join(f"{round(share * value):02x}" for value in bytes.fromhex(colour[1:]))
    return ink


def ink_on(ground: str) -> str:
    """Return black or white, whichever reads better on a ground `#rrggbb`."""
    return max("#000000", "#ffffff", key=lambda ink: contrast(ink, ground))


def _luminance(colour: str) -> float:
    parts = (value / 255 for value in bytes.fromhex(colour[1:]))
    linear = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
