"""Several workers: started from a notebook, on a cluster, and on hardware that is not there."""

from course_utils.scale.launch import launch, torchrun
from course_utils.scale.pretend import pretended
from course_utils.scale.slurm import (
    SlurmError,
    check_slurm_script,
    pretended_job,
    slurm_script,
)

__all__ = [
    "SlurmError",
    "check_slurm_script",
    "launch",
    "pretended",
    "pretended_job",
    "slurm_script",
    "torchrun",
]
