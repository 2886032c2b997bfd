"""Where things are in this repository, and what it calls itself."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
SOURCES = NOTEBOOKS / "source"
EXERCISES = SOURCES / "exercises"
GRADERS = ROOT / "course_utils" / "exercises" / "lessons"
PYPROJECT = ROOT / "pyproject.toml"
README = ROOT / "README.md"


def repository() -> str:
    """Return the repository's address, as `pyproject.toml` chooses it."""
    return tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]["urls"]["Repository"]


def site_of(address: str) -> str:
    """Return where GitHub Pages shows the repository of this address; it ends with a slash."""
    owner, name = address.removeprefix("https://github.com/").split("/")
    host = f"{owner.lower()}.github.io"
    return f"https://{host}/" if name.lower() == host else f"https://{host}/{name}/"


def sources() -> list[Path]:
    """Return the lessons' text sources, in the order of the course."""
    return sorted(SOURCES.glob("[0-9][0-9]_*.py"))


def templates() -> list[Path]:
    """Return the text sources of the notebooks that a learner fills in with work of their own."""
    return sorted(set(SOURCES.glob("*.py")) - set(sources()))


def exercise_sources() -> list[Path]:
    """Return the text sources of the exercises, in the order of the course."""
    return sorted(EXERCISES.glob("[0-9][0-9]_*.py"))


def notebook_of(source: Path) -> Path:
    """Return where the notebook built from a lesson's source belongs."""
    return NOTEBOOKS / f"{source.stem}.ipynb"


def stub_of(source: Path) -> Path:
    """Return where the exercise notebook belongs that has gaps for a learner."""
    return NOTEBOOKS / "exercises" / f"{source.stem}.ipynb"


def solution_of(source: Path) -> Path:
    """Return where the exercise notebook belongs that is worked out."""
    return NOTEBOOKS / "solutions" / f"{source.stem}.ipynb"


def grader_of(source: Path) -> Path:
    """Return where the module belongs that checks a source's exercises."""
    return GRADERS / f"lesson_{source.stem[:2]}.py"


def recorded() -> list[Path]:
    """Return every notebook that carries outputs: lessons, templates, then worked exercises."""
    shown = map(notebook_of, [*sources(), *templates()])
    return [*shown, *map(solution_of, exercise_sources())]
