"""Move the course to another repository: `python -m tools.publish owner/name`.

Changes the one address in `pyproject.toml`, and everything that is generated from it or quotes
it. Recorded outputs stay.
"""

import re
import subprocess
import sys
from pathlib import Path

from course_utils.files import write_whole
from tools.build import build_all
from tools.project import PYPROJECT, ROOT, repository, site_of

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+")


def publish(name: str) -> list[str]:
    """Give the course the address of `owner/name`; return the files that quoted the old one.

    Raises ValueError if `name` is not of that form.
    """
    if not NAME.fullmatch(name) or name.endswith(".git"):
        raise ValueError(f"{name!r} is not of the form owner/name, as in octocat/my-course.")
    old, new = repository(), f"https://github.com/{name}"
    moves = {site_of(old): site_of(new), old: new}
    changed = []
    for path in [PYPROJECT, *_texts()]:
        before = text = path.read_text("utf-8")
        for here, there in moves.items():
            text = text.replace(here, there)
        if text != before:
            write_whole(path, text.encode())
            changed.append(path.relative_to(ROOT).as_posix())
    build_all()
    return changed


def _texts() -> list[Path]:
    """Return the text files at the top, which may quote the address; sources never do."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.md", "*.yml", "*.yaml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / line for line in listed.stdout.splitlines()]


def main() -> int:
    """Publish under the name given, or say what is wrong with it."""
    if len(sys.argv) != 2:
        print("usage: make publish REPO=owner/name", file=sys.stderr)
        return 2
    try:
        changed = publish(sys.argv[1])
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"The course now lives at {repository()}.")
    print(f"Changed: {', '.join(changed)} and the notebooks. Commit and push them there.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
