"""Tensors reduced to what a trace can keep for thousands of steps."""

import hashlib
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

SAMPLED = 64
PROJECTED = 128


def fingerprint(tensor: Tensor) -> bytes:
    """Return 16 bytes that are the same for tensors of equal values, and differ otherwise.

    They are the start of the SHA-256 of the values in memory order, whatever the shape and the
    device. -0.0 counts as 0.0, as it does for `torch.equal`.
    """
    return hashlib.sha256(_bytes(tensor)).digest()[:16]


def content(tensor: Tensor) -> int:
    """Return a number that does not depend on the order of the values.

    Two batches of the same samples in another order have the same content.
    """
    flat = _bytes(tensor)
    words = flat.view(np.int32) if flat.size % 4 == 0 else flat
    return int(words.sum(dtype=np.int64))


def projection(tensors: list[Tensor]) -> Tensor:
    """Return 128 random signed sums over all values of the tensors, in float64 on the CPU.

    The signs are always the same for the same number of values, so the projection is linear, and
    the norm of the difference of two projections estimates that of the tensors, within about a
    tenth (the AMS sketch: Alon, Matias, Szegedy, 1999).
    """
    flat = torch.cat([dense(tensor).reshape(-1).float() for tensor in tensors])
    signs = _signs(flat.numel(), str(flat.device))
    padded = torch.zeros_like(signs)
    torch.mul(flat, signs[: flat.numel()], out=padded[: flat.numel()])
    return padded.view(-1, PROJECTED).sum(0, dtype=torch.float64).cpu()


def sample(tensors: list[Tensor]) -> Tensor:
    """Return up to 64 values of each tensor, from places that are always the same."""
    return torch.cat([_picked(dense(tensor).reshape(-1)) for tensor in tensors]).float().cpu()


def dense(tensor: Tensor) -> Tensor:
    """Return the tensor without its history, with sparse gradients filled up with zeros."""
    return tensor.detach().to_dense() if tensor.is_sparse else tensor.detach()


def tensors_in(value: object) -> Iterator[Tensor]:
    """Yield every tensor in nested lists, tuples and dictionaries, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_in(item)


def _bytes(tensor: Tensor) -> np.ndarray:
    flat = dense(tensor).reshape(-1)
    if flat.is_floating_point():
        flat = flat + 0.0  # turns -0.0 into 0.0
    return flat.cpu().contiguous().view(torch.uint8).numpy()


@lru_cache(maxsize=8)
def _signs(count: int, device: str) -> Tensor:
    """Return at least `count` signs, drawn without touching the global generator."""
    rows = -(-count // PROJECTED)
    drawn = torch.randint(0, 2, (rows * PROJECTED,), generator=torch.Generator().manual_seed(0))
    return (2.0 * drawn - 1.0).float().to(device)


def _picked(flat: Tensor) -> Tensor:
    if flat.numel() <= SAMPLED:
        return flat
    # Knuth's multiplicative hashing scatters the places, so that they miss any regular pattern.
    places = torch.arange(SAMPLED, device=flat.device) * 2654435761 % flat.numel()
    return flat[places]
