"""Where each line of a loop went: the line of the port that does its work, if one does."""

import re
from collections.abc import Iterator, Sequence

from course_utils.views.line_jobs import DATAMODULE, MODULE, Home, Tagged

WORD = re.compile(r"[A-Za-z_]\w*")
DEFINES = re.compile(r" *(?:async )?def (\w+)")
QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
OF_ITSELF = re.compile(r"\bself\.(\w+)\(")
EVALUATES = re.compile(r"_*(val|test|eval)")
# Names that say nothing about what a line is like, and names of one thing.
COMMON = {"self", "return", "for", "in", "def", "if", "not", "and", "None", "True", "False"}
SAME = {"correct": "acc", "argmax": "acc", "accuracy": "acc"}
ALIKE = 0.5  # of the names in two lines together, the share that both have


def where_to(loop: Sequence[Tagged], port: Sequence[Tagged]) -> list[int | None]:
    """Return for each line of the loop the index of the port's line that it went to, or None.

    A line goes to the line most like it in the method, or among the calls, that took it over; if
    none there is like it, to the head of the method. None: the Trainer has it, or nothing has.
    """
    places = _Places(port)
    found: list[int | None] = []
    opened = 0  # brackets: what stands in them goes where the line went that opened them
    for line, function in zip(loop, _functions(loop), strict=True):
        found.append(places.best(line, function, found[-1] if opened else None))
        code = QUOTED.sub("", line.text)
        opened += sum(map(code.count, "([{")) - sum(map(code.count, ")]}"))
    return found


class _Places:
    """The lines of a port, and which of them can have taken over what has a given home."""

    def __init__(self, port: Sequence[Tagged]):
        self.port = port
        self.functions = list(_functions(port))
        self.known: dict[Home, list[int]] = {}

    def best(self, line: Tagged, function: str, otherwise: int | None) -> int | None:
        """Return the place most like a line of `function`; `otherwise` if none is like it."""
        if line.home not in self.known:
            self.known[line.home] = list(self._candidates(line.home))
        places = self.known[line.home]
        if not places:
            return None
        logged = line.home.name == "log"
        if logged:  # each `self.log` is as good a head as the other: those of its stage come first
            stage = bool(EVALUATES.match(function))
            own = [p for p in places if bool(EVALUATES.match(self.functions[p])) == stage]
            places = own or places
        likeness = {place: _likeness(line.text, self.port[place].text) for place in places}
        most = max(places, key=lambda place: (likeness[place], -place))
        if likeness[most] >= ALIKE or (logged and otherwise is None):
            return most
        return places[0] if otherwise is None else otherwise

    def _candidates(self, home: Home) -> Iterator[int]:
        texts = [line.text for line in self.port]
        if home in (DATAMODULE, MODULE):
            yield from (n for n, line in enumerate(self.port) if line.text and line.home == home)
        elif home.name == "log":
            yield from (n for n, text in enumerate(texts) if re.search(r"\.log(_dict)?\(", text))
        elif home.name and home.name in self.functions:
            members = self._reached(home.name)
            yield from (n for name in members for n in self._lines_of(name))
        elif home.name:
            yield from (n for n, t in enumerate(texts) if re.search(rf"\b{home.name}\b", t))

    def _lines_of(self, name: str) -> list[int]:
        return [n for n, function in enumerate(self.functions) if function == name]

    def _reached(self, name: str) -> list[str]:
        """Return a method and the port's own methods that it calls, and those that these call."""
        reached = [name]
        for method in reached:  # grows while it is read
            for number in self._lines_of(method):
                called = OF_ITSELF.findall(self.port[number].text)
                reached += [c for c in called if c in self.functions and c not in reached]
        return reached


def _functions(lines: Sequence[Tagged]) -> Iterator[str]:
    """Yield for each line the name of the function that it stands in, or an empty text."""
    open_ones: list[tuple[int, str]] = []
    for line in lines:
        bare = line.text.lstrip()
        depth = len(line.text) - len(bare)
        if bare and bare[0] not in ")]}":
            open_ones = [(at, name) for at, name in open_ones if at < depth]
        if found := DEFINES.match(line.text):
            open_ones.append((depth, found[1]))
        yield open_ones[-1][1] if open_ones else ""


def _words(text: str) -> set[str]:
    return {SAME.get(w, w) for w in WORD.findall(text)} - COMMON


def _likeness(one: str, other: str) -> float:
    """Return how many of the names in two lines are in both, from 0 to 1."""
    mine, theirs = _words(one), _words(other)
    return len(mine & theirs) / max(1, len(mine | theirs))
