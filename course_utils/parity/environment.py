"""What the arithmetic ran on: two equal programs may differ in their last bits by it."""

import platform

import torch


def environment(device: str) -> dict[str, str]:
    """Return what can change how numbers round, each with its name for a report."""
    found = {
        "device": device,
        "threads": str(torch.get_num_threads()),
        "torch": str(torch.__version__),
        "processor": platform.machine(),
        "vector instructions": torch.backends.cpu.get_cpu_capability(),
        "oneDNN": _switch(torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled),
        "float32 matrix products": torch.get_float32_matmul_precision(),
        "deterministic algorithms": _switch(torch.are_deterministic_algorithms_enabled()),
        "default dtype": str(torch.get_default_dtype()).removeprefix("torch."),
    }
    if device == "cuda":
        found |= {
            "GPU": torch.cuda.get_device_name(),
            "cuDNN benchmark": _switch(torch.backends.cudnn.benchmark),
            "TF32 in cuDNN": _switch(torch.backends.cudnn.allow_tf32),
        }
    return found


def _switch(on: bool) -> str:
    return "on" if on else "off"
