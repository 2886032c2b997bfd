"""Hardware that is not there, for as long as it takes to build a Trainer."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import MagicMock, patch

from lightning.fabric.accelerators import xla
from lightning.pytorch.trainer.connectors import accelerator_connector

# The parts of torch_xla that Lightning imports when it builds a Trainer for TPUs.
TORCH_XLA = (
    "torch_xla",
    "torch_xla._internal",
    "torch_xla._internal.tpu",
    "torch_xla.core",
    "torch_xla.core.xla_env_vars",
    "torch_xla.core.xla_model",
    "torch_xla.distributed",
    "torch_xla.distributed.xla_multiprocessing",
    "torch_xla.experimental",
    "torch_xla.runtime",
)


@contextmanager
def pretended(gpus: int = 0, tpus: int = 0) -> Iterator[None]:
    """Let Lightning find just these GPUs of NVIDIA's, or TPU cores, in the `with` block.

    Trainers can be built, and Lightning's own checks of their flags run: it refuses devices that
    it does not find, and numbers that the hardware does not have. Nothing can be computed.
    An Apple GPU of this machine is hidden, and a notebook passes for a script.
    """
    with ExitStack() as stack:
        for name in ("lightning.fabric", "lightning.pytorch"):
            count = f"{name}.accelerators.cuda.num_cuda_devices"
            stack.enter_context(patch(count, return_value=gpus))
        stack.enter_context(patch("torch.cuda.is_available", return_value=gpus > 0))
        # "gpu" means Apple's where there is one. Lightning looks once, torch each time.
        for name in ("torch.backends.mps", "lightning.fabric.accelerators.mps.MPSAccelerator"):
            stack.enter_context(patch(f"{name}.is_available", return_value=False))
        # In a notebook, Lightning refuses strategies that start a script again.
        stack.enter_context(patch.object(accelerator_connector, "_IS_INTERACTIVE", False))
        # On a cluster, Lightning asks SLURM how many workers there are.
        stack.enter_context(patch.dict(os.environ))
        for name in [name for name in os.environ if name.startswith("SLURM_")]:
            del os.environ[name]
        if tpus:
            _pretend_tpus(stack, tpus)
        yield


def _pretend_tpus(stack: ExitStack, count: int) -> None:
    for requirement in (xla._XLA_AVAILABLE, xla._XLA_GREATER_EQUAL_2_1, xla._XLA_GREATER_EQUAL_2_5):
        bool(requirement)  # it looks once, and keeps what it found
        stack.enter_context(patch.object(requirement, "available", True))
    found = {"auto_device_count": count, "is_available": True}
    for name, value in found.items():
        stack.enter_context(patch.object(xla.XLAAccelerator, name, return_value=value))
    stack.enter_context(patch.dict(sys.modules, {name: MagicMock() for name in TORCH_XLA}))
