"""Cut the bundled sample `digits` from MNIST: 5,000 training and 1,000 test pictures, balanced.

    python tools/make_digits.py FOLDER_WITH_MNIST

Of each class the first 500 of the training files and the first 100 of the test files are taken,
and kept in the order of the files. The same input gives the same bytes (up to the version of zlib);
the digest that it prints belongs into `striate/data/named.py`.
"""

from __future__ import annotations

import hashlib
import io
import sys
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from striate.data.idx import read_idx
from striate.files import write_atomically

TARGET = Path(__file__).parents[1] / "src" / "striate" / "data" / "samples" / "digits.npz"
CLASSES = 10
PARTS = (("train", "train", 500), ("test", "t10k", 100))  # name in the sample, in MNIST, a class


def first_of_each_class(labels: NDArray[np.uint8], count: int) -> NDArray[np.intp]:
    """Where the first `count` samples of each class are, in ascending order."""
    firsts = [np.flatnonzero(labels == label)[:count] for label in range(CLASSES)]
    return np.sort(np.concatenate(firsts))


def cut(folder: Path) -> dict[str, NDArray[np.uint8]]:
    """The four arrays of the sample, by name."""
    arrays = {}
    for part, prefix, count in PARTS:
        images = read_idx(folder / f"{prefix}-images-idx3-ubyte.gz", axes=3)
        labels = read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", axes=1)
        kept = first_of_each_class(labels, count)
        arrays[f"{part}_images"] = images[kept]
        arrays[f"{part}_labels"] = labels[kept]
    return arrays


def pack(arrays: dict[str, NDArray[np.uint8]]) -> bytes:
    """The arrays as one compressed .npz file, without dates."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, array, version=(1, 0), allow_pickle=False)
            archive.writestr(
                zipfile.ZipInfo(f"{name}.npy"), content.getvalue(), zipfile.ZIP_DEFLATED, 9
            )
    return packed.getvalue()


def main() -> None:
    """Write the sample and print what it is."""
    arrays = cut(Path(sys.argv[1]))
    content = pack(arrays)
    write_atomically(TARGET, content)
    digest = hashlib.sha256(b"".join(array.tobytes() for array in arrays.values()))
    print(f"{TARGET}: {len(content):,} bytes; SHA-256 of the arrays: {digest.hexdigest()}")


if __name__ == "__main__":
    main()
