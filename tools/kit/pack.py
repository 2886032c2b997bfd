"""Pack the kit: notebooks, exercises, built pages, and a wheel of everything that they need.

The wheels are those for this computer's system and Python, as `constraints.txt` pins them. The
worked solutions stay out of the kit.
"""

import argparse
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

from course_utils.digits.mnist import find_mnist
from course_utils.files import written_whole
from tools.project import (
    NOTEBOOKS,
    PYPROJECT,
    ROOT,
    exercise_sources,
    notebook_of,
    sources,
    stub_of,
)

NAME = "loops-to-lightning-kit"
INSTALL = "loops-to-lightning[style]"
CONSTRAINTS = ROOT / "constraints.txt"
PAGES = ("build/site", "build/slides")  # what other targets build: in the kit where it is there
CUDA = ("nvidia_", "cuda_", "triton-")
START_SH = """\
#!/bin/sh
# Opens the course; install.py comes first.
cd "$(dirname "$0")" || exit 1
if [ -d digits ]; then export COURSE_DATA_DIR="$PWD/digits"; else export COURSE_DATA=sample; fi
exec venv/bin/jupyter lab notebooks "$@"
"""
START_BAT = """\
@echo off
rem Opens the course; install.py comes first.
cd /d "%~dp0"
if exist digits (set "COURSE_DATA_DIR=%~dp0digits") else (set COURSE_DATA=sample)
venv\\Scripts\\jupyter lab notebooks %*
"""
README = """\
From Loops to Lightning, for a room without a network
=====================================================

1. Unpack this zip (you read this, so it is done) into a folder of your own.
2. Run install.py by Python {python}:    python{python} install.py
   (Windows: py -{python} install.py)
   It asks no network. At its end it says OK, or what to do.
3. Start the course:    sh start.sh    (Windows: start.bat)

To check again at any time:    venv/bin/python -m course_utils.preflight
(Windows: venv\\Scripts\\python -m course_utils.preflight)

This kit is for {platform}. To remove everything, delete the folder.
"""


class KitError(RuntimeError):
    """The kit could not be packed; the message says what to do."""


def wheelhouse(into: Path, flags: list[str]) -> None:
    """Fill a folder with a wheel of the course and of all that it needs; `flags` go to pip.

    Raises KitError if pip cannot, whose own words stand above then.
    """
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(into)]
    command += ["--constraint", str(CONSTRAINTS), *flags, f"{ROOT}[style]"]
    if subprocess.run(command, check=False).returncode:
        raise KitError("pip could not get all wheels; is there a network? Its words are above.")


def files(wheels: Path) -> Iterator[tuple[Path, str]]:
    """Yield each file of the kit and its name in it."""
    yield ROOT / "LICENSE", "LICENSE"
    yield Path(__file__).with_name("install.py"), "install.py"
    for source in sources():
        yield notebook_of(source), f"notebooks/{notebook_of(source).name}"
    yield NOTEBOOKS / "style_script.py", "notebooks/style_script.py"
    for source in exercise_sources():
        yield stub_of(source), f"notebooks/exercises/{stub_of(source).name}"
    for folder in map(ROOT.joinpath, PAGES):
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            yield path, f"pages/{folder.name}/{path.relative_to(folder).as_posix()}"
    if os.environ.get("COURSE_DATA_DIR", "").strip():  # full MNIST, if the teacher names it
        raw = find_mnist().root / "MNIST" / "raw"
        for path in sorted(path for path in raw.glob("*") if path.is_file()):
            yield path, f"digits/MNIST/raw/{path.name}"
    for path in sorted(wheels.glob("*.whl")):
        yield path, f"wheels/{path.name}"


def described(wheels: Path) -> dict:
    """Return what install.py has to know: for whom the kit is, and what has to be in it.

    Raises KitError where a wheel of the course is missing.
    """
    sizes = {path.name: path.stat().st_size for path in sorted(wheels.glob("*.whl"))}
    if not any(name.startswith("loops_to_lightning-") for name in sizes):
        raise KitError(f"{wheels} holds no wheel of the course: leave --wheels out to make all.")
    unpacked = 0
    for name in sizes:
        with zipfile.ZipFile(wheels / name) as wheel:
            unpacked += sum(member.file_size for member in wheel.infolist())
    return {
        "install": INSTALL,
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "platform": sysconfig.get_platform(),
        "bytes": unpacked,
        "wheels": sizes,
    }


def pack(wheels: Path, target: Path) -> dict:
    """Write the kit's zip to `target`, whole or not at all; return its description."""
    kit = described(wheels)
    texts = {
        "kit.json": json.dumps(kit, indent=1) + "\n",
        "README.txt": README.format(**kit),
        "start.sh": START_SH,
        "start.bat": START_BAT.replace("\n", "\r\n"),
    }
    with written_whole(target) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in texts.items():
            file.writestr(f"{NAME}/{name}", text)
        for path, name in files(wheels):
            whole = zipfile.ZIP_STORED if path.suffix == ".whl" else None  # packed already
            file.write(path, f"{NAME}/{name}", compress_type=whole)
    return kit


def sizes(kit: dict, target: Path) -> str:
    """Return what the kit weighs and why, and how it could weigh less."""
    by_size = sorted(kit["wheels"].items(), key=lambda item: -item[1])
    total = sum(kit["wheels"].values())
    cuda = sum(size for name, size in by_size if name.startswith(CUDA))
    lines = [
        f"{target.name}: {target.stat().st_size / 1e6:,.0f} MB, of that {len(by_size)} wheels "
        f"with {total / 1e6:,.0f} MB; installed {kit['bytes'] / 1e6:,.0f} MB.",
        f"For {kit['platform']} and Python {kit['python']}. The largest wheels:",
        *(f"{size / 1e6:>8,.0f} MB  {name.split('-')[0]}" for name, size in by_size[:5]),
    ]
    if cuda:
        lines.append(
            f"{cuda / 1e6:,.0f} MB are for NVIDIA's GPUs, and torch itself is larger for them. "
            "Without: KIT_FLAGS='--extra-index-url ADDRESS', with the address that pytorch.org "
            "gives for pip and CPU, or KIT_FLAGS='--find-links FOLDER' with CPU wheels of torch "
            "and torchvision in a folder, in the versions of constraints.txt."
        )
    return "\n".join(lines)


def main() -> int:
    """Pack the kit and print its size, or say what is wrong."""
    parser = argparse.ArgumentParser(description="Pack the course for a room without a network.")
    parser.add_argument("--wheels", type=Path, help="take the wheels of this folder as they are")
    parser.add_argument("--into", type=Path, default=ROOT / "dist", help="where the zip goes")
    wanted, flags = parser.parse_known_args()  # what it does not know is for pip
    version = tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]["version"]
    for_whom = f"{sysconfig.get_platform()}-py{sys.version_info.major}{sys.version_info.minor}"
    target = wanted.into / f"{NAME}-{version}-{for_whom}.zip"
    with tempfile.TemporaryDirectory(dir=_made(wanted.into)) as folder:
        try:
            wheels = wanted.wheels or Path(folder)
            if not wanted.wheels:
                print("Getting the wheels (torch is large: a few minutes) …", flush=True)
                wheelhouse(wheels, flags)
            kit = pack(wheels, target)
        except KitError as error:
            print(error, file=sys.stderr)
            return 1
    print(sizes(kit, target))
    return 0


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
