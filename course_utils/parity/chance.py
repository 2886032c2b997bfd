"""The states of the random generators, as short fingerprints."""

import ctypes
import random
import struct
import sys
from functools import lru_cache

import torch
import xxhash

UNKNOWN = bytes(8)  # the state of a generator that is not there


def random_states(device: str = "cpu") -> bytes:
    """Return 24 bytes: eight each for torch's generator (of the device, too), Python's, NumPy's.

    Nothing is drawn. NumPy counts as untouched as long as nobody has imported its generators.
    """
    return torch_state(device) + _python_state() + _numpy_state()


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


# Both build long tuples whenever they are asked for a state: ten times as long as all the rest.
# The words of their Mersenne twisters, and the place among them, lie in memory in a row.
TWISTER = 4 * 624 + 4  # bytes


def _python_state() -> bytes:
    generator = random.getstate.__self__
    if _python_lies_as_expected():
        words = ctypes.string_at(id(generator) + object.__basicsize__, TWISTER)
        state = xxhash.xxh3_64(words)
        state.update(struct.pack("d", generator.gauss_next or 0.0))
        return state.digest()
    return xxhash.xxh3_64_digest(repr(random.getstate()).encode())


@lru_cache(maxsize=1)
def _python_lies_as_expected() -> bool:
    """Return whether what lies in memory is what Python itself says of its generator."""
    generator = random.getstate.__self__
    if type(generator).__base__.__basicsize__ < object.__basicsize__ + TWISTER:
        return False
    *words, place = generator.getstate()[1]
    lying = ctypes.string_at(id(generator) + object.__basicsize__, TWISTER)
    return lying == struct.pack("=i624I", place, *words)


def _numpy_state() -> bytes:
    numpy = sys.modules.get("numpy.random")
    if numpy is None:
        return UNKNOWN
    generator = numpy.get_bit_generator()
    if type(generator).__name__ == "MT19937" and _numpy_lies_as_expected(numpy.mtrand):
        return xxhash.xxh3_64_digest(_words(generator))
    return xxhash.xxh3_64_digest(repr(numpy.get_state(legacy=False)["state"]).encode())


def _words(generator: object) -> bytes:
    return ctypes.string_at(generator.ctypes.state_address, TWISTER)


@lru_cache(maxsize=1)
def _numpy_lies_as_expected(numpy: object) -> bool:
    """Return whether what lies in memory is what NumPy itself says of its generator."""
    state = numpy.get_state(legacy=False)["state"]
    return _words(numpy.get_bit_generator()) == struct.pack("=624Ii", *state["key"], state["pos"])
