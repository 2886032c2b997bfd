"""Lines to be put in order: shown with letters, placed by letter, then assembled and run."""

import linecache
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from string import ascii_lowercase

from course_utils.exercises.outcomes import COLOURS, Found, framed, unattempted, unchecked, wrong

PLACE = re.compile(r"^( *)\{(\w+)\}$", re.MULTILINE)
FILE = "<your lines>"


@dataclass(frozen=True, repr=False)
class Lines:
    """Shuffled lines, and a program with places for them.

    `shown` are the lines, as they are shown: the first is `a`. In `template`, a line that holds
    only `{name}` is a place. `beside` names places for lines that the program does not need, such
    as what the Trainer does by itself. `placed` is what an input widget fills: letters by place.
    """

    shown: tuple[str, ...]
    template: str
    beside: tuple[str, ...] = ()
    placed: dict[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> dict[str, str]:
        """The lines by letter."""
        return dict(zip(ascii_lowercase, self.shown, strict=False))

    @property
    def places(self) -> tuple[str, ...]:
        """The names of all places, in the order of the program."""
        return (*(name for _, name in PLACE.findall(self.template)), *self.beside)

    def __str__(self) -> str:
        """Return the lines with their letters, and the places, as plain text."""
        listed = "\n".join(f"  {letter}  {line}" for letter, line in self.rows.items())
        return f"{listed}\nPlaces: {', '.join(self.places)}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        style = "background:none;color:inherit;white-space:pre"
        rows = "".join(
            f"<tr><td><b>{letter}</b></td><td style='text-align:left'>"
            f"<code style='{style}'>{escape(line)}</code></td></tr>"
            for letter, line in self.rows.items()
        )
        places = ", ".join(f"<code style='{style}'>{place}</code>" for place in self.places)
        html = f"<table>{rows}</table><p>Places: {places}</p>"
        return framed(html, COLOURS["not attempted"])

    def widget(self) -> object:
        """Return a widget in which the lines can be placed, or None where none can run."""
        try:
            from course_utils.views.placing import placing
        except ImportError:  # a kernel without anywidget
            return None
        return placing(self.rows, self.places, str(self), self._repr_html_())

    def read(self, answer: object) -> dict[str, str]:
        """Return the letters by place, as one text each, from a dictionary of texts or lists.

        Raises Found unless each line is placed exactly once, in a place that there is.
        """
        if not isinstance(answer, Mapping):
            raise Found(
                unchecked(
                    "The answer should be a dictionary: for each place the letters of its lines, "
                    f'as in `{{"{self.places[0]}": "ab"}}`. It is {_kind(answer)}.'
                )
            )
        placed = {place: "" for place in self.places}
        for place, letters in answer.items():
            if place not in placed:
                known = ", ".join(f"`{name}`" for name in self.places)
                raise Found(unchecked(f"There is no place `{place}`. The places are {known}."))
            placed[place] = "".join(_letters(letters, place))
        self._complete(placed)
        return placed

    def _complete(self, placed: dict[str, str]) -> None:
        used = "".join(placed.values())
        if not used:
            raise Found(unattempted("There is a gap in every place: no line is placed yet."))
        unknown = sorted(set(used) - set(self.rows))
        if unknown:
            raise Found(unchecked(f"There is no line {_listed(unknown)}."))
        twice = sorted({letter for letter in used if used.count(letter) > 1})
        if twice:
            raise Found(wrong(f"Each line has one place; placed more than once: {_listed(twice)}."))
        left = [letter for letter in self.rows if letter not in used]
        if left:
            have = "line has" if len(left) == 1 else "lines have"
            one = f"`{self.rows[left[0]].strip()}`"
            raise Found(
                wrong(f"{len(left)} {have} no place yet: {_listed(left)}. The first is {one}.")
            )

    def assemble(self, placed: Mapping[str, str]) -> str:
        """Return the program with the lines in their places; an empty place holds `pass`."""

        def filled(match: re.Match) -> str:
            letters = placed.get(match[2], "")
            lines = [self.rows[letter] for letter in letters] or ["pass"]
            return "\n".join(match[1] + line for line in lines)

        return PLACE.sub(filled, self.template)

    def run(self, placed: Mapping[str, str], names: dict[str, object]) -> dict[str, object]:
        """Run the assembled program with these names known, and return all its names.

        Raises Found if the lines make no program in that order.
        """
        source = self.assemble(placed)
        linecache.cache[FILE] = (len(source), None, source.splitlines(keepends=True), FILE)
        try:
            code = compile(source, FILE, "exec")
        except SyntaxError as error:
            line = (error.text or "").strip()
            raise Found(wrong(f"In this order it is no Python: see `{line}`.")) from None
        found = {"__name__": "your_lines", **names}
        exec(code, found)
        return found


def _letters(letters: object, place: str) -> Iterator[str]:
    parts = letters if isinstance(letters, (list, tuple)) else [letters]
    for part in parts:
        if not isinstance(part, str):
            raise Found(
                unchecked(f'`{place}` should hold letters, as in "ab"; it is {_kind(letters)}.')
            )
        yield from (letter.lower() for letter in part if letter not in " ,;\n")


def _listed(letters: list[str]) -> str:
    return ", ".join(f"`{letter}`" for letter in letters)


def _kind(answer: object) -> str:
    if isinstance(answer, type):
        return f"the class {answer.__name__}"
    return f"an object of {type(answer).__name__}"
