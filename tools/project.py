"""Where things are in this repository, and what it calls itself."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
SOURCES = NOTEBOOKS / "source"
PYPROJECT = ROOT / "pyproject.toml"


def repository() -> str:
    """Return the repository's address, as `pyproject.toml` chooses it."""
    return tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]["urls"]["Repository"]


def sources() -> list[Path]:
    """Return the lessons' text sources, in the order of the course."""
    return sorted(SOURCES.glob("[0-9][0-9]_*.py"))


def notebook_of(source: Path) -> Path:
    """Return where the notebook built from a source belongs."""
    return NOTEBOOKS / f"{source.stem}.ipynb"
