"""Files of traces: a line that says what they are, a checksum, and values without any program."""

import os
import uuid
from io import BytesIO
from pathlib import Path

import torch
import xxhash

HEAD = b"port doctor trace 3\n"  # with the number of the format
KIND = HEAD.rpartition(b" ")[0] + b" "
CHECKSUM = 16  # bytes


def write(path: str | Path, values: object) -> None:
    """Write plain values and tensors to a file: whole, or not at all.

    Raises OSError if it cannot be written.
    """
    path, body = Path(path), BytesIO()
    torch.save(values, body)
    # Beside it, as only a move within one file system is in one piece.
    part = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        with part.open("wb") as file:
            file.write(HEAD + xxhash.xxh3_128_digest(body.getbuffer()))
            file.write(body.getbuffer())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def read(path: str | Path) -> object:
    """Return the values in a file that `write` made; it can hold numbers and text, no program.

    Raises ValueError if the file is damaged or something else, and OSError if it cannot be opened.
    """
    content = Path(path).read_bytes()  # what is wrong with the path is the system's to say
    if not content.startswith(HEAD):
        raise ValueError(_no_trace(path, content))
    checksum = content[len(HEAD) : len(HEAD) + CHECKSUM]
    body = memoryview(content)[len(HEAD) + CHECKSUM :]
    if xxhash.xxh3_128_digest(body) != checksum:
        raise ValueError(
            f"{path} cannot be read as a trace: it is damaged, as its checksum shows. Copy it "
            "again, or trace the run again."
        )
    try:
        return torch.load(BytesIO(body), weights_only=True, map_location="cpu")
    except Exception as error:  # whatever torch finds in what somebody else has written
        raise ValueError(
            f"{path} cannot be read as a trace ({type(error).__name__}): it was not written by "
            "`trace.save()`."
        ) from None


def _no_trace(path: str | Path, content: bytes) -> str:
    if content.startswith(KIND) and content[len(KIND) :].split(b"\n")[0].isdigit():
        written = content[len(KIND) :].split(b"\n")[0].decode()
        return (
            f"{path} was written by another version of the port doctor (format {written}, here "
            f"{HEAD[len(KIND) :].decode().strip()}): trace the run again."
        )
    return f"{path} cannot be read as a trace: it was not written by `trace.save()`, or is damaged."
