"""A folder of pictures with a sub-folder for each class, as most picture collections come.

    FOLDER/cat/0001.jpg  FOLDER/cat/0002.jpg  FOLDER/dog/0001.png …

`train_and_test` reads a folder that holds two such folders, `train` and `test`. Decoding and
caching are in `encoded`; only listing is done here. Files of other kinds are left out.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from striate.data.encoded import Decoding, EncodedPictures
from striate.data.memory import SHARE
from striate.data.pictures import FILE_LIMIT
from striate.data.source import Source
from striate.errors import DataError
from striate.files import StrPath, read_bytes

SUFFIXES = frozenset(".png .jpg .jpeg .jpe .jfif .webp .bmp .gif .tif .tiff".split())
_TRAIN = ("train", "training")
_TEST = ("test", "val", "valid", "validation")
TEST_SHARE = 0.2  # of a folder without a test part


class ImageFolder(EncodedPictures):
    """Pictures in one sub-folder a class; the classes are the sub-folders' names, sorted.

    Sub-folders of a class are looked through too; hidden files and files of other kinds are left
    out. What is damaged is found by its content and refused by name.

    Args:
        path: the folder.
        size: (height, width) that every picture is brought to; by default all must have the size
            of the first one.
        channels: 1 for grey, 3 for colour; by default 1 where no picture that is looked at (64
            of them, spread over all) has colour.
        fit: "pad" keeps the whole picture and pads with the colour of its border (as
            `striate predict` does), "crop" fills the size and cuts off the rest on both sides,
            "stretch" ignores the proportions.
        cache: keep all pictures decoded, n · c · h · w bytes, or decode each batch when it is
            asked for; by default the first where it takes at most `memory_share` of the free
            memory.
        memory_share: see `cache`.
        skip_corrupt: leave damaged pictures out and list them in `skipped`; every picture is then
            decoded once at the beginning.
        threads: that decode; by default `get_num_threads()`.
        progress: show a bar while decoding, on a terminal.
        classes: the classes and their order, where they shall be others than the sub-folders'.
    Raises:
        DataError: no such folder, no classes, a class without pictures, or damaged pictures.
        OptionError: an argument out of its range.

    >>> import tempfile
    >>> from PIL import Image
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("cat", "dog"):
    ...     (folder / name).mkdir()
    ...     Image.new("RGB", (6, 4), "red").save(folder / name / "1.png")
    >>> data = ImageFolder(folder)
    >>> data.classes, data.shape, data.labels.tolist()
    (('cat', 'dog'), (3, 4, 6), [0, 1])
    """

    def __init__(
        self,
        path: StrPath,
        *,
        size: tuple[int, int] | None = None,
        channels: int | None = None,
        fit: str = "pad",
        cache: bool | None = None,
        memory_share: float = SHARE,
        skip_corrupt: bool = False,
        threads: int | None = None,
        progress: bool = True,
        classes: Sequence[str] | None = None,
    ) -> None:
        self.path = Path(path).expanduser()
        self.name = self.path.resolve().name
        self.classes = _classes(self.path) if classes is None else tuple(classes)
        files = [_pictures(self.path, name) for name in self.classes]
        self._files = [file for some in files for file in some]
        self.labels = np.repeat(np.arange(len(files)), [len(some) for some in files])
        self.prepare(
            Decoding(size, channels, fit, cache, memory_share, skip_corrupt, threads, progress)
        )

    @property
    def files(self) -> list[Path]:
        """The file of each sample."""
        kept = range(len(self._files)) if self._kept is None else self._kept
        return [self.path / self._files[item] for item in kept]

    def content(self, item: int) -> bytes:
        return read_bytes(self.path / self._files[item], FILE_LIMIT)

    def item_name(self, item: int) -> str:
        return str(self.path / self._files[item])


def train_and_test(
    path: StrPath,
    *,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    fit: str = "pad",
    cache: bool | None = None,
    skip_corrupt: bool = False,
    progress: bool = True,
    name: str | None = None,
) -> tuple[Source, Source]:
    """Read a folder of pictures in two parts: its sub-folders `train` and `test`.

    A test part may also be called val, valid or validation. Where there are no such sub-folders
    the folder is read as one, and a fifth of every class becomes the test part, always the same.

    Args:
        path: the folder; one that holds but another folder with folders stands for that.
        size: as for `ImageFolder`, of both parts, and so are the other arguments.
        channels: see there.
        fit: see there.
        cache: see there.
        skip_corrupt: see there.
        progress: see there.
        name: what the data is called; by default the folder's name.
    Returns:
        (train, test), with the same shape and the same classes.
    Raises:
        DataError: as `ImageFolder`, or the parts have other classes.
    """
    folder = _inner(Path(path).expanduser())
    parts = _parts(folder)
    read = partial(ImageFolder, fit=fit, cache=cache, skip_corrupt=skip_corrupt, progress=progress)
    name = folder.resolve().name if name is None else name
    if parts is None:
        whole = read(folder, size=size, channels=channels)
        whole.name = name
        rest, part = whole.split(TEST_SHARE)
        part.name = f"{name} (test)"
        return rest, part
    train_path, test_path = parts
    train = read(train_path, size=size, channels=channels)
    if extra := set(_classes(test_path)) - set(train.classes):
        raise DataError(
            f"{test_path}: expected the classes of {train_path}; got {min(extra)!r}, which that "
            "lacks. Rename or remove it."
        )
    depth, height, width = train.shape
    test = read(test_path, size=(height, width), channels=depth, classes=train.classes)
    train.name, test.name = name, f"{name} (test)"
    return train, test


def is_image_folder(path: Path) -> bool:
    """Whether a folder looks like one of `train_and_test`: a sub-folder with a picture in it."""
    path = _inner(path)
    parts = _parts(path)
    folders = _folders(path if parts is None else parts[0])
    return any(_walk(folder, first=True) for folder in folders)


# ---- listing ---------------------------------------------------------------------------------


def _parts(folder: Path) -> tuple[Path, Path] | None:
    """The training and the test part, where the folder has both."""
    names = {sub.name.lower(): sub for sub in _folders(folder)}
    train = next((names[name] for name in _TRAIN if name in names), None)
    test = next((names[name] for name in _TEST if name in names), None)
    return None if train is None or test is None else (train, test)


def _inner(path: Path) -> Path:
    """The folder itself, or the one in it that is all it holds, as archives often have it."""
    below = _folders(path)
    while len(below) == 1 and (deeper := _folders(below[0])):
        path, below = below[0], deeper
    return path


def _folders(path: Path) -> list[Path]:
    try:
        return sorted(
            p for p in path.iterdir() if p.is_dir() and not p.name.startswith((".", "__MACOSX"))
        )
    except OSError as error:
        raise DataError(
            f"{path}: expected a folder with a sub-folder for each class; {error.strerror}. "
            "Check the path."
        ) from error


def _classes(path: Path) -> tuple[str, ...]:
    names = tuple(folder.name for folder in _folders(path))
    if not names:
        raise DataError(
            f"{path}: expected a sub-folder for each class, as {path.name}/cat/1.jpg; got none. "
            "Sort the pictures into folders."
        )
    if {name.lower() for name in names} <= {*_TRAIN, *_TEST}:
        raise DataError(
            f"{path}: expected a sub-folder for each class; got {', '.join(names)}. Pass one of "
            f"them, as {path / names[0]}, or use striate.data.load, which reads both parts."
        )
    return names


def _pictures(path: Path, name: str) -> list[str]:
    """The pictures of a class, as paths within `path`, sorted."""
    found = _walk(path / name)
    if not found:
        kinds = ", ".join(sorted(suffix[1:] for suffix in SUFFIXES))
        raise DataError(
            f"{path / name}: expected at least one picture ({kinds}) of class {name!r}; got none. "
            "Add some, or remove the folder."
        )
    return sorted(os.path.join(name, file) for file in found)


def _walk(folder: Path, first: bool = False) -> list[str]:
    """The pictures in a folder and those below it; links to folders are not followed (loops)."""
    found: list[str] = []
    for place, below, files in os.walk(folder):
        below[:] = [name for name in below if not name.startswith(".")]
        inner = os.path.relpath(place, folder)
        found += [
            os.path.normpath(os.path.join(inner, file))
            for file in files
            if os.path.splitext(file)[1].lower() in SUFFIXES and not file.startswith(".")
        ]
        if found and first:
            break
    return found
