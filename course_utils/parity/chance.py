"""The states of the random generators, as short fingerprints."""

import random
import sys

import torch
import xxhash

UNKNOWN = bytes(8)  # the state of a generator that is not there


def random_states(device: str = "cpu") -> bytes:
    """Return 24 bytes: eight each for torch's generator (of the device, too), Python's, NumPy's.

    Nothing is drawn. NumPy counts as untouched as long as nobody has imported its generators.
    """
    _, words, rest = random.getstate()
    python = hash((words, rest or 0.0)).to_bytes(8, "little", signed=True)
    return torch_state(device) + python + _numpy_state()


def torch_state(device: str = "cpu") -> bytes:
    """Return eight bytes for the state of torch's generator, that of the device included."""
    state = xxhash.xxh3_64(torch.get_rng_state().numpy())
    if device not in ("", "cpu", "meta"):
        state.update(torch.get_device_module(device).get_rng_state().cpu().numpy())
    return state.digest()


def parted(a: bytes, b: bytes) -> tuple[bool, bool, bool]:
    """Return which generators' states differ between two results: torch's, Python's, NumPy's.

    One that was not there yet in one of them (NumPy's, before its import) is not said to differ.
    """
    pairs = [(a[place : place + 8], b[place : place + 8]) for place in (0, 8, 16)]
    return tuple(one != two and UNKNOWN not in (one, two) for one, two in pairs)


def _numpy_state() -> bytes:
    numpy = sys.modules.get("numpy.random")
    if numpy is None:
        return UNKNOWN
    state = numpy.get_state()
    if isinstance(state, dict):  # another generator than NumPy's default
        return xxhash.xxh3_64_digest(repr(state).encode())
    kind, words, position, *rest = state
    found = xxhash.xxh3_64(words)
    found.update(repr((kind, position, *rest)).encode())
    return found.digest()
