"""The kit installs from itself alone, also where there is no network at all."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tools.kit import pack
from tools.project import exercise_sources, sources

# A folder with all the wheels makes the test install the course itself: 6 GB, some minutes.
WHEELS = os.environ.get("COURSE_KIT_WHEELS", "")
PREFLIGHT = "import os\nprint('OK: ready,', os.environ['COURSE_DATA'])\n"
OFFLINE = ["unshare", "-n", "sh", "-c", 'ip link set lo up; exec "$@"', "sh"]


def stand_in(folder: Path) -> Path:
    """Make a wheel by the course's name, so that a test need not install torch."""
    folder.mkdir()
    info = "loops_to_lightning-9.9.dist-info"
    texts = {
        "course_utils/__init__.py": "",
        "course_utils/preflight.py": PREFLIGHT,
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: loops-to-lightning\nVersion: 9.9\n"
        "Provides-Extra: style\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in [*texts, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / "loops_to_lightning-9.9-py3-none-any.whl", "w") as wheel:
        for name, text in {**texts, f"{info}/RECORD": record}.items():
            wheel.writestr(name, text)
    return folder


@pytest.fixture
def kit(tmp_path, monkeypatch):
    """Pack a kit, and unpack it as a learner would."""
    monkeypatch.delenv("COURSE_DATA_DIR", raising=False)
    wheels = Path(WHEELS) if WHEELS else stand_in(tmp_path / "wheels")
    pack.pack(wheels, tmp_path / "kit.zip")
    shutil.unpack_archive(tmp_path / "kit.zip", tmp_path)
    return tmp_path / pack.NAME


def install(kit, offline=False, **environment):
    command = [*(OFFLINE if offline else []), sys.executable, "install.py"]
    return subprocess.run(
        command, cwd=kit, env={**os.environ, **environment}, capture_output=True, text=True,
        timeout=3000,
    )  # fmt: skip


def test_the_kit_holds_lessons_and_exercises_and_no_solutions(kit):
    names = {path.relative_to(kit).as_posix() for path in kit.rglob("*")}
    assert {f"notebooks/{source.stem}.ipynb" for source in sources()} <= names
    assert {f"notebooks/exercises/{s.stem}.ipynb" for s in exercise_sources()} <= names
    assert {"install.py", "start.sh", "start.bat", "README.txt", "LICENSE"} <= names
    assert not any("solutions" in name or "source/" in name for name in names)


def test_it_installs_with_no_network_and_whatever_pip_is_told_elsewhere(kit):
    if not shutil.which("unshare") or subprocess.run([*OFFLINE, "true"]).returncode:
        pytest.skip("no network namespace can be made here: that needs Linux, and root")
    misled = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_REQUIRE_VIRTUALENV": "0"}
    done = install(kit, offline=True, **misled, PYTHONPATH="/nowhere")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "OK: " in done.stdout and "Begin by:" in done.stdout
    if not WHEELS:
        assert "OK: ready, sample" in done.stdout


def changed(kit, **values):
    path = kit / "kit.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **values}), "utf-8")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"python": "3.4"}, "this kit is for Python 3.4"),
        ({"platform": "plan9-mips"}, "this kit is for plan9-mips"),
        ({"wheels": {"gone.whl": 3}}, "gone.whl for one: unpack the zip anew"),
        ({"wheels": {"../LICENSE": 3}}, "not whole"),
        ({"bytes": 10**18}, "make room"),
    ],
)
def test_where_it_does_not_fit_one_line_says_why_and_nothing_is_made(kit, values, said):
    changed(kit, **values)
    done = install(kit)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("NOT INSTALLED: ") and said in line
    assert not (kit / "venv").exists()


def test_without_a_wheel_of_the_course_nothing_is_packed(tmp_path):
    with pytest.raises(pack.KitError, match="no wheel of the course"):
        pack.pack(tmp_path, tmp_path / "kit.zip")
    assert not (tmp_path / "kit.zip").exists()


def test_its_size_is_told_and_how_to_get_less_of_it(tmp_path):
    target = tmp_path / "kit.zip"
    target.write_bytes(bytes(2_000_000))
    wheels = {"torch-2-x.whl": 500_000_000, "nvidia_nccl-1-x.whl": 200_000_000}
    kit = {"wheels": wheels, "bytes": 10**9, "platform": "linux-x86_64", "python": "3.11"}
    told = pack.sizes(kit, target)
    assert "2 wheels with 700 MB" in told and "200 MB are for NVIDIA's GPUs" in told
    kit["wheels"] = {"torch-2-x.whl": 1}
    assert "NVIDIA" not in pack.sizes(kit, target)
