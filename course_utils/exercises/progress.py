"""What is solved: kept in a small file beside the notebooks, shown as a map of the course."""

import json
import pkgutil
from dataclasses import dataclass
from html import escape
from importlib import import_module
from pathlib import Path

from filelock import FileLock

from course_utils.exercises.outcomes import COLOURS, framed
from course_utils.files import write_whole

NAME = "progress.json"
PATIENCE = 10  # seconds to wait for another notebook that is writing
BELOW = ("exercises", "solutions")


def progress_file() -> Path:
    """Return where progress is kept: in the working folder, or above `exercises`."""
    folder = Path.cwd()
    return (folder.parent if folder.name in BELOW else folder) / NAME


def solved() -> set[str]:
    """Return the keys of the solved exercises; a damaged or missing file holds none."""
    try:
        kept = json.loads(progress_file().read_text("utf-8"))["solved"]
        return {key for key in kept if isinstance(key, str)}
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return set()


def keep(key: str) -> None:
    """Add an exercise to those that are solved; where nothing can be written, nothing is kept.

    Runs of the worked solutions do not count.
    """
    if Path.cwd().name == "solutions":
        return
    path = progress_file()
    try:
        with FileLock(path.with_name(f".{NAME}.lock"), timeout=PATIENCE):
            text = json.dumps({"solved": sorted(solved() | {key})}, indent=1)
            write_whole(path, f"{text}\n".encode())
    except (OSError, NotImplementedError):  # filelock's Timeout is an OSError
        return


@dataclass(frozen=True, repr=False)
class Map:
    """The exercises of the course, lesson by lesson, and which of them are solved."""

    lessons: dict[str, list[tuple[str, str]]]  # of each: its key and its title
    solved: frozenset[str]

    def __str__(self) -> str:
        """Return the map as plain text, a line for each lesson."""
        width = max(map(len, self.lessons), default=0)
        rows = [
            f"{name:<{width}}  {''.join(self._mark(key) for key, _ in questions)}  "
            f"{self._count(questions)}"
            for name, questions in self.lessons.items()
        ]
        return "\n".join([*rows, self._total()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{escape(name)}</th><td style='text-align:left'>"
            + " ".join(
                f"<span title='{escape(title, quote=True)}'>{self._mark(key)}</span>"
                for key, title in questions
            )
            + f"</td><td>{self._count(questions)}</td></tr>"
            for name, questions in self.lessons.items()
        )
        html = f"<table>{rows}</table><p>{escape(self._total())}</p>"
        return framed(html, COLOURS["right"])

    def _mark(self, key: str) -> str:
        return "■" if key in self.solved else "□"

    def _count(self, questions: list[tuple[str, str]]) -> str:
        return f"{sum(key in self.solved for key, _ in questions)} of {len(questions)}"

    def _total(self) -> str:
        keys = {key for questions in self.lessons.values() for key, _ in questions}
        return f"{len(keys & self.solved)} of {len(keys)} exercises solved"


def progress() -> Map:
    """Return the map of the course: which exercises of which lesson are solved."""
    lessons: dict[str, list[tuple[str, str]]] = {}
    for question in questions():
        lessons.setdefault(question.lesson, []).append((question.key, question.title))
    return Map(lessons, frozenset(solved()))


def questions() -> list:
    """Return every question of the course, in its order."""
    from course_utils.exercises import lessons

    names = sorted(module.name for module in pkgutil.iter_modules(lessons.__path__))
    modules = (import_module(f"{lessons.__name__}.{name}") for name in names)
    return [question for module in modules for question in module.QUESTIONS]
