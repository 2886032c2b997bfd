"""The first line of every lesson: seeds, device, quiet logs, and what is being used."""

import logging
import os
import platform
import sysconfig
import warnings
from dataclasses import dataclass
from functools import cache

import lightning as L
import torch

from course_utils.digits.mnist import Digits, find_mnist
from course_utils.kernel import hand_on_interrupts
from course_utils.switches import SwitchError, switch

# Loggers of Lightning that say what a lesson says itself, or does not need.
CHATTY = (
    "fabric.utilities.distributed",
    "fabric.utilities.rank_zero",
    "fabric.utilities.seed",
    "pytorch.trainer.connectors.checkpoint_connector",
    "pytorch.trainer.connectors.signal_connector",
    "pytorch.tuner.lr_finder",
    "pytorch.utilities.rank_zero",
    "pytorch.utilities.seed",
)


@dataclass(frozen=True)
class Session:
    """What a lesson runs on.

    `device` is for raw loops (`x.to(session.device)`), `accelerator` for
    `Trainer(accelerator=…)`, and both are the same hardware. `threads` is the number of CPU
    threads that torch uses, `digits` the source of MNIST.
    """

    seed: int
    device: torch.device
    accelerator: str
    threads: int
    digits: Digits

    def __str__(self) -> str:
        """Say versions, device and data in one line."""
        versions = (
            f"Python {platform.python_version()}, torch {torch.__version__}, "
            f"lightning {L.__version__}"
        )
        return f"{versions} | {self._hardware()} | {self.digits.origin} | seed {self.seed}"

    def _hardware(self) -> str:
        if self.device.type == "cuda":
            return torch.cuda.get_device_name()
        if self.device.type == "mps":
            return "Apple GPU"
        return f"CPU, {self.threads} thread{'s' if self.threads > 1 else ''}"


def start(seed: int = 42, threads: int | None = 1) -> Session:
    """Seed everything, choose the device, quieten the logs, print one line; return the session.

    Where a GPU could be faster with less exact products, a second line says so, once.

    `COURSE_ACCELERATOR` chooses the hardware: `auto` (CUDA where there is one, else the CPU),
    `cpu`, or `gpu` (CUDA or Apple's). On a GPU, deterministic algorithms are switched on, because
    the proofs need them. `threads` sets torch's CPU threads: one is fast enough for the small
    models of the course, loses nothing on a busy machine, and gives the same numbers on every
    number of cores; None leaves torch's own choice.

    Raises `SwitchError` for an unknown value, and for `gpu` where there is none; `DataError` if
    `COURSE_DATA_DIR` names a folder without MNIST.
    """
    accelerator = chosen_accelerator()
    if accelerator != "cpu":
        _be_deterministic(accelerator)
    if threads is not None:
        torch.set_num_threads(threads)
    _find_scripts()
    hand_on_interrupts()
    quieten()
    L.seed_everything(seed, workers=True, verbose=False)
    session = Session(
        seed, _device(accelerator), accelerator, torch.get_num_threads(), find_mnist()
    )
    print(session)
    if accelerator == "cuda":
        _advise_on_products(session.device)
    return session


@cache
def _advise_on_products(device: torch.device) -> None:
    """Give Lightning's advice on tensor cores, which would else be silenced with its other lines.

    NVIDIA's GPUs have them for products of 32 bits from Ampere on, compute capability 8.
    """
    able = torch.version.hip is None and torch.cuda.get_device_capability(device)[0] >= 8
    if able and torch.get_float32_matmul_precision() == "highest":
        print(
            "This GPU has tensor cores. torch.set_float32_matmul_precision('high') lets matrix "
            "products use them: faster, with fewer digits. The course leaves that to you."
        )


def quieten() -> None:
    """Silence Lightning's tips and its lines about hardware; warnings that matter stay."""
    for name in CHATTY:
        logging.getLogger(f"lightning.{name}").setLevel(logging.WARNING)
    # The digits are in memory and come as whole batches: workers would only slow them down.
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    # Lightning's own use of a torch function that newer torch versions rename.
    warnings.filterwarnings("ignore", ".*LeafSpec.*is deprecated.*")


def _find_scripts() -> None:
    """Let magics such as `%tensorboard` find the programs installed beside this Python.

    A kernel that was started without activating its environment has them on no path.
    """
    scripts = sysconfig.get_path("scripts")
    folders = os.environ.get("PATH", "").split(os.pathsep)
    if scripts not in folders:
        os.environ["PATH"] = os.pathsep.join([scripts, *folders])


def chosen_accelerator() -> str:
    """Return the hardware that `COURSE_ACCELERATOR` chooses, as the Trainer calls it.

    Raises `SwitchError` for an unknown value, and for `gpu` where there is none.
    """
    wish = switch("COURSE_ACCELERATOR")
    if wish == "cpu":
        return "cpu"
    if wish == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if torch.cuda.is_available():
        return "cuda"
    if torch.backends.mps.is_available():
        return "mps"
    raise SwitchError(
        "COURSE_ACCELERATOR=gpu, but torch finds no GPU here. Set COURSE_ACCELERATOR=cpu (or "
        "auto), or install a torch that fits your GPU's driver."
    )


def _device(accelerator: str) -> torch.device:
    return torch.device(accelerator, 0) if accelerator == "cuda" else torch.device(accelerator)


def _be_deterministic(accelerator: str) -> None:
    """Make a GPU give the same bits each time; cuBLAS reads the variable when it starts.

    On an Apple GPU some layers of the course (max pooling) have no such form: torch only warns.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=accelerator == "mps")
    torch.backends.cudnn.benchmark = False
