"""SLURM scripts made from a Trainer's settings, and checked against what Lightning reads."""

import os
import subprocess

import lightning as L
import pytest
from lightning.fabric.plugins.environments import SLURMEnvironment

from course_utils.scale.pretend import pretended
from course_utils.scale.slurm import SlurmError, check_slurm_script, pretended_job, slurm_script

CLUSTER = {"accelerator": "gpu", "devices": 8, "num_nodes": 32, "strategy": "ddp"}
SCRIPT = slurm_script(CLUSTER, "python train.py --lr 0.1")
QUIET = {"logger": False, "enable_checkpointing": False}


def test_a_script_says_what_the_trainer_says():
    found = check_slurm_script(SCRIPT, CLUSTER)
    assert (found.nodes, found.tasks) == (32, 256)
    assert found.variables["SLURM_NTASKS_PER_NODE"] == "8"
    assert found.variables["SLURM_PROCID"] == "255"
    assert SCRIPT.rstrip().endswith("python train.py --lr 0.1")
    with pretended(gpus=8):
        assert L.Trainer(**CLUSTER, **QUIET).world_size == found.tasks


@pytest.mark.parametrize(
    ("trainer", "tasks", "gpus"),
    [
        ({"accelerator": "cpu", "devices": 4}, 4, False),
        ({"accelerator": "gpu", "devices": [1, 3, 5], "num_nodes": 2}, 6, True),
        ({"accelerator": "cuda", "devices": 1}, 1, True),
    ],
)
def test_other_sizes(trainer, tasks, gpus):
    script = slurm_script(trainer, "python train.py")
    assert check_slurm_script(script, trainer).tasks == tasks
    assert ("gpus-per-node" in script) == gpus


@pytest.mark.parametrize(
    ("right", "wrong", "complaint"),
    [
        ("nodes=32", "nodes=16", "num_nodes=32"),
        ("ntasks-per-node=8", "ntasks-per-node=4", "devices=8"),
        ("gpus-per-node=8", "gpus-per-node=4", "asks SLURM for 4"),
        ("#SBATCH --gpus-per-node=8\n", "", "asks SLURM for none"),
        ("--requeue", "--ntasks=8", "starts 8 tasks"),
        ("#SBATCH --nodes=32\n", "", "has to say --nodes"),
        ("SIGUSR1", "SIGTERM", "SIGUSR1"),
        ("signal=SIGUSR1", "signal=B:SIGUSR1", "batch shell only"),
        ("#SBATCH --signal=SIGUSR1@90\n", "", "SIGUSR1"),
        ("loops-to-lightning", "interactive", "interactive"),
        ("srun ", "", "srun"),
        ("set -euo", "if set -euo", "bash cannot read"),
        ("#!/bin/bash\n", "", "first line"),
        ("\nset", "\ncd x\n#SBATCH --mem=8G\nset", "comes after 'cd x'"),
        ("--nodes=32", "nodes 32", "write each option"),
    ],
)
def test_a_script_that_does_not_fit_is_refused(right, wrong, complaint):
    assert right in SCRIPT
    with pytest.raises(SlurmError, match=complaint):
        check_slurm_script(SCRIPT.replace(right, wrong, 1), CLUSTER)


@pytest.mark.parametrize(
    ("settings", "arguments", "complaint"),
    [
        ({"devices": "auto"}, {}, "devices='auto'"),
        ({"devices": 8, "num_nodes": 0}, {}, "num_nodes=0"),
        ({}, {}, "devices=None"),
        ({"devices": 8}, {"time": "a day"}, "time='a day'"),
        ({"devices": 8}, {"command": " "}, "no command"),
    ],
)
def test_settings_that_make_no_script(settings, arguments, complaint):
    with pytest.raises(SlurmError, match=complaint):
        slurm_script(settings, **{"command": "python train.py", **arguments})


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
def test_a_pretended_job_keeps_what_scontrol_was_asked(tmp_path):
    before = dict(os.environ)
    with pretended_job(tmp_path / "a folder") as asked:
        assert SLURMEnvironment.detect() and SLURMEnvironment().world_size() == 1
        subprocess.run(["scontrol", "requeue", "7"], check=True)
        assert asked.read_text() == "scontrol requeue 7\n"
    assert dict(os.environ) == before and not SLURMEnvironment.detect()
