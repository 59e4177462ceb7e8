"""Data sets by name or path: `load("mnist")`, `load("path/to/pictures")`.

Known names are looked for in `$STRIATE_DATA/NAME`, then in `data/NAME` of the user's cache folder,
then fetched from their mirrors; wherever they come from, the digest of the unpacked content is
checked. `digits` is part of the package and needs no network.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from striate.data.archive import is_archive, unpack
from striate.data.dataset import DataSet, scale_bytes
from striate.data.folder import TEST_SHARE, is_image_folder, train_and_test
from striate.data.idx import SIZE_LIMIT, parse_idx, read_idx, unpack_idx
from striate.data.published import DIGITS, FILE_NAMES, PUBLISHED, PublishedFile, PublishedSet
from striate.data.shards import TarShards
from striate.data.source import Source
from striate.errors import DataError, FileError, OptionError, suggest
from striate.files import StrPath, open_for_reading, read_bytes
from striate.settings import cache_folder

_Arrays = list[NDArray[Any]]  # training images and labels, test images and labels

_SAMPLE = Path(__file__).parent / "samples" / "digits.npz"
_SAMPLE_ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
# SHA-256 of the four arrays, one after the other
_SAMPLE_DIGEST = "8865d071f11867360dcf309c0990fb02d19efc2f4b0942603f1b6864fe06bbfe"


@overload
def load(
    name: Literal["digits", "mnist", "fashion-mnist"], *, progress: bool = True
) -> tuple[DataSet, DataSet]: ...


@overload
def load(name: StrPath, *, progress: bool = True, **options: Any) -> tuple[Source, Source]: ...


def load(name: StrPath, *, progress: bool = True, **options: Any) -> tuple[Source, Source]:
    """Load a data set: its training and its test part.

    Args:
        name: `digits` (5,000 + 1,000 handwritten digits, bundled), `mnist` or `fashion-mnist`
            (60,000 + 10,000 pictures, fetched when first asked for), or a path: of a folder that
            holds MNIST's four IDX files, packed with gzip or not (it has ten classes, or those
            that its file `classes.txt` names, one a line); of a folder of pictures, a sub-folder
            for each class, in `train` and `test` or without a test part; of a tar archive of such
            a folder, which is unpacked to the cache; or what `TarShards` takes. A name that is no
            path is also looked for in `$STRIATE_DATA`.
        progress: show a progress bar while fetching, unpacking and decoding.
        options: for pictures: size, channels, fit, cache, skip_corrupt, as for `ImageFolder`.
    Returns:
        (train, test). The named sets and IDX files are `DataSet`s, with images (n, 1, h, w)
        float32 from 0 to 1 and labels (n,) int64; pictures are data sources. Where there is no
        test part it is a fifth of each class, always the same.
    Raises:
        DataError: an unknown name, files that are missing and cannot be fetched, or damaged ones.
        FileError: files that cannot be read or written.
        OptionError: options that this data does not have.

    >>> train, test = load("digits")
    >>> train
    DataSet 'digits': 5,000 pictures 1×28×28 in 10 classes
    """
    text = os.fspath(name)
    if text == "digits" or text in PUBLISHED:
        _refuse(options, text)
        if text == "digits":
            return _pair(_read_sample(), DIGITS, text)
        return _load_published(PUBLISHED[text], progress)
    if re.search(r"[{*]", text) or (text.endswith(".tar") and Path(text).expanduser().is_file()):
        return _load_shards(text, progress, options)
    path = _place(text)
    if is_archive(path):
        path = unpack(path, progress=progress)
    if path.is_dir():
        if any(_find([path], file) for file in FILE_NAMES) or not is_image_folder(path):
            _refuse(options, text)
            return _load_folder(path)
        called = Path(text).name.split(".")[0] or None
        return train_and_test(path, progress=progress, name=called, **options)
    if path.exists():
        raise DataError(
            f"load: expected a name, a folder or a tar archive; got a file: {text}. "
            "Pass its folder."
        )
    raise DataError(
        f"load: expected the name of a data set, or a folder with four IDX files or with pictures; "
        f"got {text!r}. " + suggest(text, ["digits", *PUBLISHED])
    )


def _refuse(options: dict[str, Any], name: str) -> None:
    if options:
        raise OptionError(
            f"load: expected no {min(options)!r} with {name}, which is no folder of pictures. "
            "Leave it out."
        )


def _place(text: str) -> Path:
    """The path that is meant: as it is, or within `$STRIATE_DATA`; of a lone archive, that."""
    path = Path(text).expanduser()
    data = os.environ.get("STRIATE_DATA")
    if not path.exists() and data and path.name == text:
        path = Path(data).expanduser() / text
    if path.is_dir():
        inside = [p for p in path.iterdir() if not p.name.startswith(".")]
        if len(inside) == 1 and is_archive(inside[0]):
            return inside[0]
    return path


def _load_shards(text: str, progress: bool, options: dict[str, Any]) -> tuple[Source, Source]:
    return TarShards(text, progress=progress, **options).split(TEST_SHARE)


# ---- published sets --------------------------------------------------------------------------


def _load_published(published: PublishedSet, progress: bool) -> tuple[DataSet, DataSet]:
    places = [cache_folder() / "data" / published.name]
    if os.environ.get("STRIATE_DATA"):
        places.insert(0, Path(os.environ["STRIATE_DATA"]).expanduser() / published.name)
    found = {file.name: _find(places, file.name) for file in published.files}
    missing = [file for file in published.files if found[file.name] is None]
    if missing:
        found.update(_fetch(published, missing, places[-1], progress))
    jobs = [
        partial(_read_published, path, file)
        for file in published.files
        if (path := found[file.name])
    ]
    arrays = _in_threads(jobs)
    return _pair(arrays, published.classes, published.name)


def _read_published(path: Path, file: PublishedFile) -> NDArray[Any]:
    from striate.data.download import check_digest

    content = unpack_idx(str(path), read_bytes(path, SIZE_LIMIT))
    array = parse_idx(str(path), content, _axes(file.name))
    check_digest(str(path), content, file.digest)
    return _to_values(array)


def _fetch(
    published: PublishedSet, missing: Sequence[PublishedFile], folder: Path, progress: bool
) -> dict[str, Path]:
    from striate.data.download import download

    try:
        return download(published, missing, folder, progress=progress)
    except DataError as error:
        data = os.environ.get("STRIATE_DATA")
        place = f"(now {data})" if data else "(the variable is not set now)"
        files = "".join(
            f"\n  {file.name}.gz  (SHA-256 when unpacked: {file.digest})" for file in missing
        )
        raise DataError(
            f"load: data set {published.name!r} is not on this computer, and fetching it failed: "
            f"{error}. Put these files, packed or not, into {folder} or into "
            f"$STRIATE_DATA/{published.name} {place}:{files}"
        ) from error


# ---- folders ---------------------------------------------------------------------------------


def _load_folder(folder: Path) -> tuple[DataSet, DataSet]:
    paths = {name: _find([folder], name) for name in FILE_NAMES}
    missing = [name for name, path in paths.items() if path is None]
    if missing:
        raise DataError(
            f"load: expected the four IDX files of MNIST's form in {folder}, packed (.gz) or not; "
            f"missing: {', '.join(missing)}. Put them there, or pass another folder."
        )
    arrays = _in_threads(
        [partial(_read, path, _axes(name)) for name, path in paths.items() if path]
    )
    return _pair(arrays, _classes(folder), folder.resolve().name)


def _read(path: Path, axes: int) -> NDArray[Any]:
    return _to_values(read_idx(path, axes))


def _classes(folder: Path) -> tuple[str, ...]:
    path = folder / "classes.txt"
    if not path.exists():
        return DIGITS
    try:
        lines = read_bytes(path, 1 << 20).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected UTF-8 text; got {error}. Save it as UTF-8.") from error
    names = tuple(line.strip() for line in lines if line.strip())
    if len(set(names)) != len(names) or not names:
        raise DataError(
            f"{path}: expected distinct class names, one a line; got {len(names)} names, "
            f"{len(set(names))} distinct. Correct the file."
        )
    return names


# ---- the bundled sample ----------------------------------------------------------------------


def _read_sample() -> _Arrays:
    import hashlib
    import zipfile
    import zlib

    digest = hashlib.sha256()
    with open_for_reading(_SAMPLE) as file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                arrays = [archive[name] for name in _SAMPLE_ARRAYS]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise FileError(f"{_SAMPLE}: damaged ({error}). Install striate again.") from error
    for array in arrays:
        digest.update(array.data)
    if digest.hexdigest() != _SAMPLE_DIGEST:
        raise FileError(f"{_SAMPLE}: damaged (its digest is wrong). Install striate again.")
    return [_to_values(array) for array in arrays]


# ---- common ----------------------------------------------------------------------------------


def _axes(name: str) -> int:
    """3 for a file of pictures, 1 for one of labels."""
    return 3 if "images" in name else 1


def _find(places: Sequence[Path], name: str) -> Path | None:
    """The first file of that name in `places`: packed or not, `-idx` also written `.idx`."""
    for place in places:
        for stem in (name, name.replace("-idx", ".idx")):
            for path in (place / f"{stem}.gz", place / stem):
                if path.is_file():
                    return path
    return None


def _in_threads(jobs: Sequence[Callable[[], NDArray[Any]]]) -> _Arrays:
    """Run the jobs side by side (unpacking, digests and scaling let other threads run)."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(lambda job: job(), jobs))


def _to_values(array: NDArray[np.uint8]) -> NDArray[Any]:
    """Pictures as float32 (n, 1, h, w) from 0 to 1; labels as int64 (n,)."""
    return scale_bytes(array)[:, np.newaxis] if array.ndim == 3 else array.astype(np.int64)


def _pair(arrays: _Arrays, classes: tuple[str, ...], name: str) -> tuple[DataSet, DataSet]:
    train_images, train_labels, test_images, test_labels = arrays
    train = DataSet(train_images, train_labels, classes, name)
    return train, DataSet(test_images, test_labels, classes, f"{name} (test)")
