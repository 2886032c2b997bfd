"""Install the course from this folder alone: no network is asked, nothing outside is changed.

Run it by the Python that the kit was made for: `python3 install.py` (on Windows `py install.py`).
It makes a virtual environment in the folder `venv`, installs the wheels that lie here, checks that
a notebook can compute, and says OK or what to do. Needs nothing but Python.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENV, WHEELS = HERE / "venv", HERE / "wheels"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")


def main() -> int:
    """Install and check; return 0 if all is well."""
    kit = json.loads((HERE / "kit.json").read_text("utf-8"))
    if reason := unfit(kit):
        print(f"NOT INSTALLED: {reason}", file=sys.stderr)
        return 1
    print(f"Installing into {VENV.name} (a few minutes, once) ...", flush=True)
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(VENV)],
        [str(PYTHON), *pip("install", "--no-index", "--find-links", str(WHEELS)), kit["install"]],
    ):
        if subprocess.run(command, env=alone(), check=False).returncode:
            print(f"NOT INSTALLED: {' '.join(command)} failed; its words are above.{HELP}")
            return 1
    preflight = [str(PYTHON), "-m", "course_utils.preflight"]
    checked = subprocess.run(preflight, cwd=HERE, env=alone(kit), check=False)
    if checked.returncode == 0:
        start = "start.bat" if os.name == "nt" else "sh start.sh"
        print(f"Begin by: {start}  (it opens JupyterLab; then open notebooks/00_start_here.ipynb)")
    return checked.returncode


HELP = """
If it is `ensurepip` that is missing: on Debian and Ubuntu, install the package python3-venv."""


def unfit(kit: dict) -> str:
    """Return why the kit can't be installed here and what to do, or nothing if it can."""
    found = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if found != kit["python"]:
        return f"this kit is for Python {kit['python']}, and you ran it by {found}."
    if sysconfig.get_platform().split("-")[0] != kit["platform"].split("-")[0]:
        return f"this kit is for {kit['platform']}; this is {sysconfig.get_platform()}."
    if sysconfig.get_platform().split("-")[-1] != kit["platform"].split("-")[-1]:
        return f"this kit is for {kit['platform']}; this is {sysconfig.get_platform()}."
    missing = [name for name in kit["wheels"] if not (WHEELS / name).is_file()]
    if missing:
        return f"{len(missing)} wheels are missing, {missing[0]} for one: unpack the zip anew."
    cut = [name for name, size in kit["wheels"].items() if (WHEELS / name).stat().st_size != size]
    if cut:
        return f"{cut[0]} is not whole: copy or unpack the zip anew."
    free = shutil.disk_usage(HERE).free
    if free < kit["bytes"]:
        need = f"{kit['bytes'] / 1e9:.1f} GB"
        return f"{need} are needed in this folder, and {free / 1e9:.1f} GB are free: make room."
    return ""


def pip(*command: str) -> list[str]:
    """Return a call of pip that heeds no settings of this computer."""
    return ["-m", "pip", "--isolated", "--disable-pip-version-check", "--quiet", *command]


def alone(kit: dict | None = None) -> dict[str, str]:
    """Return the environment without what would lead pip or Python elsewhere."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "PYTHON"))}
    kept["PIP_CONFIG_FILE"] = os.devnull
    if kit:
        digits = HERE / "digits"
        kept |= {"COURSE_DATA_DIR": str(digits)} if digits.is_dir() else {"COURSE_DATA": "sample"}
    return kept


if __name__ == "__main__":
    sys.exit(main())
