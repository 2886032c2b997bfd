"""Open the course in JupyterLab: `python -m tools.lab [FOLDER] [flags of JupyterLab ...]`.

A learner works on copies, which are made in FOLDER (`work`) and belong to the learner: an update of
the course never changes one that was edited. One that was not is brought up to date.
"""

import hashlib
import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from course_utils.files import write_whole
from tools.project import NOTEBOOKS, ROOT

FOLDER = ROOT / "work"
COPIED = ("*.ipynb", "*.py", "exercises/*.ipynb", "solutions/*.ipynb")
KEPT = ".copied.json"  # the hash of each file as it was copied
NEWER = "newer"  # the folder for new versions of what the learner has edited
FIRST = "00_start_here.ipynb"
# What JupyterLab asks its users at the first start.
QUIET = {"@jupyterlab/apputils-extension:notification": {
    "checkForUpdates": False, "doNotDisturbMode": False, "fetchNews": "false"}}  # fmt: skip


def prepare(folder: Path, source: Path = NOTEBOOKS) -> list[str]:
    """Copy the notebooks into a learner's folder; return what to tell the learner, a line each.

    What the learner has edited, or removed, stays as it is. Its new version, if there is one, goes
    into `newer` beside it.
    """
    before = _kept(folder)
    now, said = {}, []
    paths = sorted(path for pattern in COPIED for path in source.glob(pattern))
    for path in paths:
        name, content = path.relative_to(source).as_posix(), path.read_bytes()
        copy = folder / name
        now[name] = _hash(content)
        if before.get(name) == now[name]:
            continue
        if not copy.exists() and name in before:  # removed on purpose
            continue
        if not copy.exists() or _hash(copy.read_bytes()) in (before.get(name), now[name]):
            write_whole(copy, content)
        else:
            write_whole(folder / NEWER / name, content)
            said.append(f"{name}: yours stays; the new version is {NEWER}/{name}")
    if now != before:
        write_whole(folder / KEPT, (json.dumps(now, indent=1) + "\n").encode())
    if not before:
        said.insert(0, f"Your copies are in {_shown(folder)}: no update will change your edits.")
    return said


def _kept(folder: Path) -> dict[str, str]:
    """Return the hashes of the last copies; a missing or damaged list has none."""
    try:
        found = json.loads((folder / KEPT).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _shown(folder: Path) -> str:
    folder = folder.resolve()
    return f"{folder.relative_to(ROOT)}/" if folder.is_relative_to(ROOT) else str(folder)


def ask_nothing(prefix: Path) -> None:
    """Keep JupyterLab from asking for news, in a virtual environment that has no such settings."""
    settings = prefix / "share" / "jupyter" / "lab" / "settings" / "overrides.json"
    if (prefix / "pyvenv.cfg").exists() and not settings.exists():
        with suppress(OSError):  # one that cannot be written: then it asks
            write_whole(settings, json.dumps(QUIET, indent=1).encode())


def main() -> int:
    """Prepare the folder, then open its first lesson."""
    flags = sys.argv[1:]
    named = flags and not flags[0].startswith("-")
    folder = Path(flags.pop(0)).resolve() if named else FOLDER
    try:
        for line in prepare(folder):
            print(line, flush=True)
    except OSError as error:
        print(
            f"{folder} cannot be written ({error.strerror}): say where your copies may go, as in: "
            "make lab WORK=/a/folder/of/your/own",
            file=sys.stderr,
        )
        return 2
    ask_nothing(Path(sys.prefix))
    first = folder / FIRST
    opened = first if first.exists() else folder
    command = [sys.executable, "-m", "jupyter", "lab", *flags, str(opened)]
    try:
        return subprocess.run(command, check=False).returncode
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
