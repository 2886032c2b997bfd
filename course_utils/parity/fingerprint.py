"""Tensors reduced to what a trace can keep for thousands of steps."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import lru_cache
from itertools import groupby
from math import hypot, isnan

import numpy as np
import torch
import xxhash
from torch import Tensor

SAMPLED = 64  # values of each tensor that are kept as they are
# Buckets of a sketch. A prime number: rows of a weight matrix, whose lengths are round numbers,
# then fall into the buckets anew each time, so that no structure of theirs cancels out.
BUCKETS = 131
CHUNK = BUCKETS * 2048  # values handled at once: few enough to stay in a core's cache
PLAIN = (Tensor, torch.nn.Parameter)
DEEP = 12  # levels at which tensors are looked for in nested inputs


NOTHING = np.zeros(0, dtype=np.float32)


class UnreadableError(ValueError):
    """A tensor has no values that could be read: it is fake, on `meta`, or inside `vmap`."""


def fingerprint(tensor: Tensor) -> bytes:
    """Return 16 bytes that are the same for tensors of equal values, and differ otherwise.

    They are the XXH3 hash (128 bits) of the values in memory order, whatever the shape and the
    device. -0.0 counts as 0.0, as it does for `torch.equal`. Raises UnreadableError for a tensor
    that has no values.
    """
    if _simple(tensor) and tensor.numel() <= CHUNK:
        flat = tensor.detach().numpy().reshape(-1)
        return xxhash.xxh3_128_digest(np.add(flat, 0.0, out=_room(flat.size)))
    digest = xxhash.xxh3_128()
    for piece in _pieces(tensor):
        digest.update(piece)
    return digest.digest()


def digest_and_content(tensor: Tensor) -> tuple[bytes, int]:
    """Return the fingerprint, and the content: the sum of the values' bits, modulo 2**32.

    Two batches of the same samples in another order have the same content.
    """
    digest, total = xxhash.xxh3_128(), 0
    for piece in _pieces(tensor):
        digest.update(piece)
        words = piece.view(np.uint32 if piece.nbytes % 4 == 0 else np.uint8)
        total += int(words.sum(dtype=np.uint32))
    return digest.digest(), total


def combined(digests: Iterable[bytes]) -> bytes:
    """Return one fingerprint of several."""
    return xxhash.xxh3_128_digest(b"".join(digests))


@dataclass(frozen=True)
class Measures:
    """What is measured of several tensors in one pass.

    `sketch` is a linear map of all values to 131 numbers: signed sums, in which the norm of a
    difference of two sketches estimates that of the tensors, within about a tenth (the AMS
    sketch: Alon, Matias, Szegedy, 1999). `top` is the largest absolute value, `sample` up to 64
    values of each tensor.
    """

    digests: tuple[bytes, ...]
    norms: tuple[float, ...]
    top: float
    sketch: Tensor
    sample: Tensor

    @property
    def norm(self) -> float:
        """The norm over all tensors."""
        return hypot(*self.norms)


def measures(tensors: Sequence[Tensor]) -> Measures:
    """Return fingerprints, norms, largest value, sketch and sample of tensors, on the CPU.

    The values are read once, in portions that stay in the cache. A complex number counts as two.
    Raises UnreadableError for a tensor without values.
    """
    hashes = [xxhash.xxh3_128() for _ in tensors]
    lengths, samples = [0.0] * len(tensors), [NOTHING] * len(tensors)
    top, rows, total = 0.0, 0, np.zeros(BUCKETS)
    for pieces in _portions(tensors):
        values, each = _gathered([piece for _, piece in pieces])
        single = values.float()  # as it is, if that is what it is
        raw = values.view(torch.uint8).numpy()
        size, start = values.element_size(), 0
        for number, piece in pieces:
            end = start + each * piece.numel()
            hashes[number].update(raw[size * start : size * end])
            part = single[start:end]
            lengths[number] = hypot(lengths[number], torch.dot(part, part).item() ** 0.5)
            if not samples[number].size:
                samples[number] = part.numpy()[_places(end - start)]
            start = end
        if len(single):
            low, high = torch.aminmax(single)
            top = _larger(top, _larger(abs(low.item()), abs(high.item())))
        total += _bucketed(single, rows)
        rows += -(-len(single) // BUCKETS)
    return Measures(
        digests=tuple(one.digest() for one in hashes),
        norms=tuple(lengths),
        top=top,
        sketch=torch.from_numpy(total.astype(np.float32)),
        sample=torch.from_numpy(np.concatenate([NOTHING, *samples])),
    )


def digests(tensors: Iterable[Tensor]) -> tuple[bytes, ...]:
    """Return the fingerprint of each tensor."""
    return tuple(fingerprint(t if _simple(t) else dense(t)) for t in tensors)


def projection(tensors: Sequence[Tensor]) -> Tensor:
    """Return the sketch of `measures` alone."""
    return measures(tensors).sketch


def sample(tensors: Sequence[Tensor]) -> Tensor:
    """Return up to 64 values of each tensor, from places that are always the same."""
    found = [NOTHING]
    for tensor in tensors:
        first = next((chunk for part in readable(dense(tensor)) for chunk in _chunks(part)), None)
        if first is not None:
            values = _values(first).float().numpy()
            found.append(values[_places(values.size)])
    return torch.from_numpy(np.concatenate(found))


def dense(tensor: Tensor) -> Tensor:
    """Return the tensor without its history, with sparse gradients filled up with zeros."""
    tensor = tensor.detach()
    return tensor if tensor.layout == torch.strided else tensor.to_dense()


def readable(tensor: Tensor) -> Iterator[Tensor]:
    """Yield the plain tensors on the CPU that hold a tensor's values, whatever its layout.

    Raises UnreadableError if it has none.
    """
    if _simple(tensor):
        yield tensor.detach()
        return
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        raise UnreadableError("it is inside torch.func (vmap, grad)")
    if tensor.is_meta:
        raise UnreadableError("it is on the device meta")
    parts = _parts_of(tensor.detach())
    if parts is not None:
        for part in parts:
            yield from readable(part)
        return
    try:
        yield tensor.detach().cpu().resolve_conj().resolve_neg()
    except (RuntimeError, NotImplementedError) as error:
        raise UnreadableError(f"its values cannot be read ({type(error).__name__})") from None


COMPRESSED = {
    torch.sparse_csr: ("crow_indices", "col_indices", "values"),
    torch.sparse_bsr: ("crow_indices", "col_indices", "values"),
    torch.sparse_csc: ("ccol_indices", "row_indices", "values"),
    torch.sparse_bsc: ("ccol_indices", "row_indices", "values"),
}


def _parts_of(tensor: Tensor) -> list[Tensor] | None:
    """Return the tensors that one of another layout is made of; None for a plain one."""
    if hasattr(tensor, "__tensor_flatten__"):  # jagged, quantised and other subclasses
        if type(tensor).__name__ == "FakeTensor":
            raise UnreadableError("it is a FakeTensor")
        return [getattr(tensor, name) for name in tensor.__tensor_flatten__()[0]]
    if tensor.is_nested:
        return list(tensor.unbind())
    if tensor.layout in COMPRESSED:
        return [getattr(tensor, name)() for name in COMPRESSED[tensor.layout]]
    if tensor.layout != torch.strided:
        return [tensor.to_dense()]
    return [tensor.int_repr()] if tensor.is_quantized else None


def tensors_in(value: object, depth: int = 0) -> Iterator[Tensor]:
    """Yield every tensor in nested containers, in order.

    Looked into are lists, tuples, dictionaries and what acts like one (`UserDict`, a tokenizer's
    `BatchEncoding`), dataclasses, and objects that hold tensors as attributes.
    """
    if isinstance(value, Tensor):
        yield value
        return
    if depth > DEEP or isinstance(value, (str, bytes, int, float, bool, type(None), type)):
        return
    if isinstance(value, (list, tuple)):
        items = value
    elif isinstance(value, dict) or (hasattr(value, "keys") and hasattr(value, "__getitem__")):
        items = [value[key] for key in list(value.keys())]
    elif is_dataclass(value):
        items = [getattr(value, field.name, None) for field in fields(value)]
    elif isinstance(value, torch.nn.Module) or callable(value):
        return  # what a model is given to work with is no batch
    else:
        items = list(getattr(value, "__dict__", {}).values())
    for item in items:
        yield from tensors_in(item, depth + 1)


def _portions(tensors: Sequence[Tensor]) -> Iterator[list[tuple[int, Tensor]]]:
    """Yield the values in portions of about a chunk: small tensors together, large ones cut."""
    if not tensors:
        return
    if all(map(_simple, tensors)) and sum(tensor.numel() for tensor in tensors) <= CHUNK:
        yield [(number, tensor.detach().reshape(-1)) for number, tensor in enumerate(tensors)]
        return
    pieces = (
        (number, chunk)
        for number, tensor in enumerate(tensors)
        for part in readable(dense(tensor))
        for chunk in _chunks(part)
    )
    for _, alike in groupby(pieces, key=lambda piece: piece[1].dtype):
        portion, size = [], 0
        for piece in alike:
            portion.append(piece)
            size += piece[1].numel()
            if size >= CHUNK:
                yield portion
                portion, size = [], 0
        if portion:
            yield portion


def _simple(tensor: Tensor) -> bool:
    """Return whether a tensor is of the usual kind, whose values lie ready in memory."""
    return (
        type(tensor) in PLAIN
        and tensor.dtype == torch.float32
        and tensor.is_cpu
        and tensor.layout == torch.strided
        and not tensor.is_nested
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    )


def _chunks(tensor: Tensor) -> Iterator[Tensor]:
    flat = tensor.reshape(-1)
    if flat.numel() <= CHUNK:
        yield flat
        return
    yield from flat.split(CHUNK)


class _Desk(threading.local):
    """Room in which portions are put together: new memory for each would cost more than reading."""

    room: np.ndarray = NOTHING


DESK = _Desk()


def _room(size: int) -> np.ndarray:
    if DESK.room.size < size:
        DESK.room = np.empty(max(size, CHUNK), dtype=np.float32)
    return DESK.room[:size]


def _gathered(parts: list[Tensor]) -> tuple[Tensor, int]:
    """Return the values of a portion in a row, until the next call, and how many each counts for.

    -0.0 is 0.0 there, and a complex number two.
    """
    if parts[0].dtype != torch.float32 or not parts[0].is_cpu:
        each = 2 if parts[0].is_complex() else 1
        return _values(torch.cat(parts) if len(parts) > 1 else parts[0]), each
    size = sum(part.numel() for part in parts)
    room = torch.from_numpy(_room(size))
    if len(parts) == 1:
        torch.add(parts[0], 0.0, out=room)
    else:
        torch.cat(parts, out=room).add_(0.0)
    return room, 1


def _values(flat: Tensor) -> Tensor:
    """Return the values with -0.0 as 0.0, complex numbers as two each."""
    if flat.is_complex():
        flat = torch.view_as_real(flat.contiguous()).reshape(-1)
    return flat + 0.0 if flat.is_floating_point() else flat


def _pieces(tensor: Tensor) -> Iterator[np.ndarray]:
    """Yield the values in memory order, -0.0 as 0.0, in portions that last until the next one."""
    if _simple(tensor):
        flat = tensor.detach().reshape(-1).numpy()
        room = _room(min(CHUNK, flat.size))
        for start in range(0, flat.size, CHUNK):
            part = flat[start : start + CHUNK]
            yield np.add(part, 0.0, out=room[: part.size])
        return
    for part in readable(tensor):
        for chunk in _chunks(part):
            yield _gathered([chunk])[0].contiguous().view(torch.uint8).numpy()


def _bucketed(flat: Tensor, row: int) -> np.ndarray:
    """Return the signed sums of values in a row, each into the next bucket."""
    whole = flat.numel() // BUCKETS
    signs = _signs(row + whole + 1)[row:]
    rest = flat[whole * BUCKETS :]
    total = torch.zeros(BUCKETS)
    if whole:  # not by NumPy, whose threads the program has not been asked about
        total = torch.mv(flat[: whole * BUCKETS].view(whole, BUCKETS).T, signs[:whole])
    if rest.numel():
        total[: rest.numel()] += signs[whole] * rest
    return total.numpy().astype(np.float64)


def _signs(count: int) -> Tensor:
    """Return so many signs, drawn without touching the global generator; always the same ones."""
    return _drawn_signs(1 << max(count - 1, 4095).bit_length())[:count]


@lru_cache(maxsize=16)
def _drawn_signs(count: int) -> Tensor:
    drawn = np.random.Generator(np.random.PCG64(0)).integers(0, 2, count)
    return torch.from_numpy(2 * drawn - 1).float()


def _larger(a: float, b: float) -> float:
    """Return the larger number, or NaN if one is none."""
    return b if isnan(b) or b > a else a


@lru_cache(maxsize=256)
def _places(count: int) -> np.ndarray:
    """Return up to 64 places among so many, scattered, and always the same."""
    if count <= SAMPLED:
        return np.arange(count)
    # Knuth's multiplicative hashing scatters the places, so that they miss any regular pattern.
    return np.arange(SAMPLED) * 2654435761 % count
