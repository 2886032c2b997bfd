"""MNIST's four files in IDX form: what they are called, and whether a folder holds them whole.

The layout is torchvision's (`ROOT/MNIST/raw/…`), so that `torchvision.datasets.MNIST(ROOT)`
reads whatever this module accepts. The format is described on http://yann.lecun.com/exdb/mnist.
"""

import hashlib
import struct
from pathlib import Path

IMAGE_MAGIC, LABEL_MAGIC = 0x0803, 0x0801
SIDE = 28

# SHA-256 of the original files, unpacked.
ORIGINAL = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


class DataError(RuntimeError):
    """The digits that were asked for are missing, cut short or damaged."""


def raw_folder(root: Path) -> Path:
    """Return the folder below `root` in which torchvision looks for the four files."""
    return root / "MNIST" / "raw"


def check_folder(root: Path) -> tuple[int, int]:
    """Return the numbers of training and test digits in `root`, after checking all four files.

    Checked are presence, header, length and the range of the labels. Raises `DataError`, which
    names everything that is wrong and what was expected.
    """
    raw = raw_folder(root)
    missing = [name for name in ORIGINAL if not (raw / name).is_file()]
    if missing:
        raise DataError(_missing_message(root, missing))
    return _check_part(raw, "train"), _check_part(raw, "t10k")


def is_original(root: Path) -> bool:
    """Return whether the four files are the original MNIST, by their SHA-256."""
    files = {raw_folder(root) / name: digest for name, digest in ORIGINAL.items()}
    return all(
        path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == digest
        for path, digest in files.items()
    )


def _missing_message(root: Path, missing: list[str]) -> str:
    raw = raw_folder(root)
    lines = [f"{root} does not hold MNIST: expected these files in {raw}, but they are missing:"]
    for name in missing:
        packed = (raw / f"{name}.gz").is_file()
        lines.append(f"  {name}" + (" (only its .gz is there: unpack it)" if packed else ""))
    return "\n".join(lines + _where_they_are(root.absolute()))


def _where_they_are(root: Path) -> list[str]:
    """Return a hint if the files lie in one of the places where people put them by mistake."""
    for nearby in (root.parent, root.parent.parent, root / "data"):
        if all((raw_folder(nearby) / name).is_file() for name in ORIGINAL):
            return [f"They are near by: use {nearby} instead."]
    if all((root / name).is_file() for name in ORIGINAL):
        return [f"They lie in {root} itself: move them to {raw_folder(root)}."]
    return []


def _check_part(raw: Path, part: str) -> int:
    images, labels = raw / f"{part}-images-idx3-ubyte", raw / f"{part}-labels-idx1-ubyte"
    count = _check_file(images, IMAGE_MAGIC, dimensions=3)
    named = _check_file(labels, LABEL_MAGIC, dimensions=1)
    if named != count:
        raise DataError(
            f"{images.name} and {labels.name} in {raw} do not belong together: "
            f"{count:,} digits, {named:,} labels."
        )
    found = set(labels.read_bytes()[8:])
    if not found <= set(range(10)):
        raise DataError(f"{labels} is damaged: labels must be 0 to 9, but {max(found)} is in it.")
    return count


def _check_file(path: Path, magic: int, dimensions: int) -> int:
    """Return the number of items that the header promises, once the length agrees with it."""
    header_size = 4 + 4 * dimensions
    with path.open("rb") as file:
        header = file.read(header_size)
    if len(header) < header_size:
        raise DataError(f"{path} is cut short: it has {len(header)} bytes, not even a header.")
    found, count, *sides = struct.unpack(f">{1 + dimensions}I", header)
    if found != magic or any(side != SIDE for side in sides):
        raise DataError(
            f"{path} is not the IDX file it should be: expected magic number {magic:#06x}"
            f"{' and 28 x 28 pixels' if sides else ''}, found {found:#06x}"
            f"{f' and {sides[0]} x {sides[1]}' if sides else ''}."
        )
    expected = header_size + count * (SIDE * SIDE if sides else 1)
    if path.stat().st_size != expected:
        raise DataError(
            f"{path} is cut short or damaged: its header promises {expected:,} bytes, "
            f"it has {path.stat().st_size:,}. Delete it and fetch it again."
        )
    if count == 0:
        raise DataError(f"{path} holds no digits at all.")
    return count
