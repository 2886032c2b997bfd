"""A SLURM script made from a Trainer's settings, and checked against what Lightning reads."""

import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from lightning.fabric.plugins.environments import SLURMEnvironment

HEADER = re.compile(r"#SBATCH\s+--([\w-]+)(?:=(\S+))?\s*$")
TIME = re.compile(r"(\d+-)?\d{1,3}(:\d{2}){1,2}")


class SlurmError(ValueError):
    """A SLURM script would not do what the Trainer expects; the message says what and why."""


@dataclass(frozen=True)
class Checked:
    """What was found in a script: its tasks, and the variables that Lightning read, with values.

    `variables` are those that SLURM would give the last task.
    """

    nodes: int
    tasks: int
    variables: dict[str, str]
    bash: bool  # whether bash was there to read the script

    def __str__(self) -> str:
        """Say it in a few lines."""
        syntax = "bash finds no error" if self.bash else "not read by bash: there is none here"
        lines = [f"{syntax}; {self.nodes} nodes, {self.tasks} tasks, as the Trainer expects"]
        lines += [f"  {name} = {value}" for name, value in self.variables.items()]
        return "\n".join(lines)


def slurm_script(
    trainer: Mapping[str, object],
    command: str,
    name: str = "loops-to-lightning",
    time: str = "24:00:00",
    cpus: int = 8,
    warning: int = 90,
) -> str:
    """Return a SLURM batch script for a Trainer with these settings.

    `trainer` are the Trainer's arguments: `devices`, a number or a list, is one task each on every
    one of `num_nodes` nodes; `accelerator="gpu"` asks for as many GPUs. `command` starts the
    training, `time` is the limit in hours:minutes:seconds, `cpus` the CPU cores for each task.
    SLURM sends SIGUSR1 `warning` seconds before the end: Lightning then saves a checkpoint and
    puts the job into the queue again.

    Raises SlurmError for settings that no script can be made of.
    """
    nodes, devices = _sizes(trainer)
    if not TIME.fullmatch(time):
        raise SlurmError(f"time={time!r} is no limit that SLURM reads: write it as 24:00:00.")
    if not shlex.split(command):
        raise SlurmError("There is no command to run: give one, such as 'python train.py'.")
    options = [
        f"job-name={name}",
        f"nodes={nodes}",
        f"ntasks-per-node={devices}",
        *([f"gpus-per-node={devices}"] if _on_gpus(trainer) else []),
        f"cpus-per-task={cpus}",
        f"time={time}",
        f"signal=SIGUSR1@{warning}",
        "requeue",
    ]
    lines = ["#!/bin/bash", *(f"#SBATCH --{option}" for option in options)]
    run = f'srun --cpus-per-task="$SLURM_CPUS_PER_TASK" {command}'
    return "\n".join([*lines, "", "set -euo pipefail", run, ""])


def check_slurm_script(text: str, trainer: Mapping[str, object]) -> Checked:
    """Check a SLURM script against the Trainer that it is to start, without a cluster.

    Bash reads it (where there is a bash); SLURM's variables are made from its #SBATCH lines, and
    Lightning's own `SLURMEnvironment` reads them: job, nodes and tasks have to agree with the
    settings, and the signal with the one that Lightning waits for.

    Raises SlurmError with the first thing that does not fit.
    """
    nodes, devices = _sizes(trainer)
    bash = _read_by_bash(text)
    options = _options(text)
    if not re.search(r"^[^#\n]*\bsrun\s", text, re.MULTILINE):
        raise SlurmError("Nothing starts the tasks: put `srun` before the command that trains.")
    variables = _variables(options)
    watched = _Watched(variables)
    with patch("os.environ", watched):
        if not SLURMEnvironment.detect():
            raise SlurmError(
                f"Lightning takes a job named {options.get('job-name')!r} for an interactive one "
                "and does not look at SLURM: give it another --job-name."
            )
        environment = SLURMEnvironment()
        try:
            environment.validate_settings(num_devices=devices, num_nodes=nodes)
        except ValueError as error:
            raise SlurmError(str(error)) from None
        tasks = environment.world_size()
        # Lightning asks for these, too, when it starts: what it reads is listed below.
        environment.global_rank(), environment.local_rank(), environment.node_rank()
        environment.job_id(), environment.job_name(), environment.main_port
        _ = environment.main_address
    if tasks != nodes * devices:
        raise SlurmError(
            f"The script starts {tasks} tasks, the Trainer expects {nodes} nodes x {devices} "
            f"devices = {nodes * devices}: leave out --ntasks."
        )
    _check_gpus(options, trainer, devices)
    _check_signal(options.get("signal"))
    read = {key: value for key, value in variables.items() if key in watched.read}
    return Checked(nodes, tasks, read, bash)


@contextmanager
def pretended_job(folder: str | Path) -> Iterator[Path]:
    """Let this process be the one task of a SLURM job while the `with` block runs.

    SLURM's variables are set, and there is a program `scontrol`, which Lightning calls: it only
    adds what it was asked to do to the file that the block gets. `folder` is where both lie. Needs
    a POSIX shell.
    """
    place = Path(folder).absolute()
    place.mkdir(parents=True, exist_ok=True)
    asked, program = place / "asked.txt", place / "scontrol"
    asked.write_text("")
    program.write_text(f'#!/bin/sh\necho "scontrol $*" >> {shlex.quote(str(asked))}\n')
    program.chmod(0o755)
    variables = _variables({"nodes": "1", "ntasks-per-node": "1"})
    path = os.pathsep.join([str(place), os.environ.get("PATH", "")])
    with patch.dict(os.environ, {**variables, "PATH": path}):
        yield asked


class _Watched(dict):
    """A dictionary that remembers which of its keys somebody looked at."""

    def __init__(self, values: Mapping[str, str]):
        super().__init__(values)
        self.read: set[str] = set()

    def __contains__(self, key: object) -> bool:
        self.read.add(key)
        return super().__contains__(key)

    def __getitem__(self, key: str) -> str:
        self.read.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: str | None = None) -> str | None:
        self.read.add(key)
        return super().get(key, default)


def _sizes(trainer: Mapping[str, object]) -> tuple[int, int]:
    """Return how many nodes, and how many devices on each, the settings ask for."""
    devices, nodes = trainer.get("devices"), trainer.get("num_nodes", 1)
    if isinstance(devices, list | tuple):
        devices = len(devices)
    for name, value in (("devices", devices), ("num_nodes", nodes)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise SlurmError(
                f"{name}={value!r}: SLURM has to know how many; give a number from 1 on."
            )
    return nodes, devices


def _on_gpus(trainer: Mapping[str, object]) -> bool:
    return trainer.get("accelerator") in ("gpu", "cuda")


def _read_by_bash(text: str) -> bool:
    bash = shutil.which("bash")
    # On Windows there may be a program of that name which only offers to install one.
    if bash is None or subprocess.run([bash, "-c", "exit 0"], timeout=30, check=False).returncode:
        return False
    done = subprocess.run(
        [bash, "-n"], input=text, capture_output=True, text=True, timeout=30, check=False
    )
    if done.returncode:
        raise SlurmError(f"bash cannot read the script: {done.stderr.strip()}")
    return True


def _options(text: str) -> dict[str, str]:
    """Return the #SBATCH options of a script. SLURM reads none after the first command."""
    lines = text.splitlines()
    if not lines or not lines[0].startswith("#!"):
        raise SlurmError("SLURM refuses a script whose first line is not, say, #!/bin/bash.")
    options, command = {}, ""
    for line in lines[1:]:
        if line.startswith("#SBATCH"):
            found = HEADER.match(line)
            if command or not found:
                raise SlurmError(
                    f"SLURM would not read {line!r}: it comes after {command!r}."
                    if command
                    else f"{line!r}: write each option as #SBATCH --option=value, to be checked."
                )
            options[found[1]] = found[2] or ""
        elif line.strip() and not line.startswith("#"):
            command = command or line.strip()
    return options


def _variables(options: Mapping[str, str]) -> dict[str, str]:
    """Return what SLURM would set for the last task of a job with these options."""
    try:
        nodes = int(options["nodes"])
        per_node = int(options["ntasks-per-node"])
    except (KeyError, ValueError):
        raise SlurmError(
            "The script has to say --nodes and --ntasks-per-node, as whole numbers."
        ) from None
    return {
        "SLURM_JOB_ID": "123456",
        "SLURM_JOB_NAME": options.get("job-name", "batch"),
        "SLURM_NNODES": str(nodes),
        "SLURM_NODELIST": f"node[001-{nodes:03}]" if nodes > 1 else "node001",
        "SLURM_NTASKS": options.get("ntasks", str(nodes * per_node)),
        "SLURM_NTASKS_PER_NODE": str(per_node),
        "SLURM_PROCID": str(nodes * per_node - 1),
        "SLURM_NODEID": str(nodes - 1),
        "SLURM_LOCALID": str(per_node - 1),
    }


def _check_gpus(options: Mapping[str, str], trainer: Mapping[str, object], devices: int) -> None:
    if not _on_gpus(trainer):
        return
    asked = options.get("gpus-per-node") or options.get("gres", "").removeprefix("gpu:")
    if asked.rpartition(":")[2] != str(devices):
        raise SlurmError(
            f"The Trainer expects {devices} GPUs on each node, and the script asks SLURM for "
            f"{asked or 'none'}: write --gpus-per-node={devices}."
        )


def _check_signal(option: str | None) -> None:
    """Lightning saves and requeues on SIGUSR1, which SLURM sends only if it is asked to."""
    name = (option or "").partition("@")[0].removeprefix("B:").removeprefix("SIG")
    if name not in ("USR1", str(int(getattr(signal, "SIGUSR1", 10)))):
        raise SlurmError(
            f"--signal={option}: Lightning saves a checkpoint and requeues the job on SIGUSR1. "
            "Write --signal=SIGUSR1@90, for 90 seconds' warning."
        )
    if (option or "").startswith("B:"):
        raise SlurmError("--signal=B:… reaches the batch shell only, not the tasks: leave out B:.")
