"""Tar files of pictures and labels, as WebDataset writes them: 0001.jpg, 0001.cls, 0002.jpg …

The headers are read once, in a stream; pictures are then read from their places in the file, so
that any order is possible and nothing is extracted. The contents of packed shards are kept in
memory instead.
"""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from striate.data.encoded import Decoding, EncodedPictures, tracked
from striate.data.folder import SUFFIXES
from striate.data.memory import SHARE, available_memory
from striate.data.pictures import FILE_LIMIT
from striate.data.tar import TarStream, open_tar
from striate.errors import DataError, FileError, suggest
from striate.files import StrPath, open_for_reading

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST_SHARDS = 100_000
_MOST_LABEL = 1 << 10  # bytes of a .cls entry


@dataclass
class _Sample:
    """One key of a shard, as far as it has been read."""

    key: str
    shard: int
    label: bytes | None = None
    size: int = -1
    offset: int = 0
    suffix: str = ""
    kept: bytes | None = field(default=None, repr=False)


class TarShards(EncodedPictures):
    """Pictures in tar files: for each sample `KEY.jpg` (or .png, .webp …) and `KEY.cls`.

    The label is a whole number from 0, or with `classes` the name of one. Entries of other kinds
    are left out. Entries of a sample stand one after the other, as the convention says.

    Args:
        shards: a path, in which {000..009} stands for ten files and * for any name; or a list of
            paths.
        size: (height, width), and the other arguments as for `ImageFolder`.
        channels: see there.
        fit: see there.
        cache: see there.
        memory_share: see there; packed shards may take as much again.
        skip_corrupt: see there.
        threads: see there.
        progress: see there.
        classes: the names of the classes; by default "0", "1", … up to the largest label.
    Raises:
        DataError: no such shards, a damaged or refused one, a sample without its label, or damaged
            pictures.
        FileError: a shard that cannot be read.
    """

    def __init__(
        self,
        shards: StrPath | Sequence[StrPath],
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
        self.paths = _paths(shards)
        self.name = self.paths[0].name + (" …" if len(self.paths) > 1 else "")
        self._room = memory_share * available_memory()
        lists = tracked(
            map(self._read, range(len(self.paths))), len(self.paths), "reading shards", progress
        )
        self._samples = list(itertools.chain.from_iterable(lists))
        if not self._samples:
            raise DataError(
                f"{self.name}: expected pictures with labels, as 0001.jpg and 0001.cls; got none."
            )
        names = None if classes is None else {name: k for k, name in enumerate(classes)}
        self.labels = np.array([self._label(sample, names) for sample in self._samples], np.int64)
        count = int(self.labels.max()) + 1
        self.classes = tuple(map(str, range(count))) if classes is None else tuple(classes)
        self.prepare(
            Decoding(size, channels, fit, cache, memory_share, skip_corrupt, threads, progress)
        )

    def content(self, item: int) -> bytes:
        sample = self._samples[item]
        if sample.kept is not None:
            return sample.kept
        path = self.paths[sample.shard]
        with open_for_reading(path) as file:
            file.seek(sample.offset)
            content: bytes = file.read(sample.size)
        if len(content) != sample.size:
            raise FileError(
                f"{path}: expected {sample.size:,} bytes at {sample.offset:,}; got "
                f"{len(content):,}. It was changed while it was in use."
            )
        return content

    def item_name(self, item: int) -> str:
        sample = self._samples[item]
        return f"{self.paths[sample.shard]}: {sample.key}{sample.suffix}"

    # ---- reading headers ---------------------------------------------------------------------

    def _read(self, shard: int) -> list[_Sample]:
        """The samples of one shard."""
        path = self.paths[shard]
        found: dict[str, _Sample] = {}
        with open_tar(path) as (stream, packed):
            for member in stream:
                name = member.name.rpartition("/")
                stem, _, rest = name[2].partition(".")
                suffix = f".{rest.lower()}"
                if member.is_folder or not stem or suffix not in {".cls", *SUFFIXES}:
                    continue
                key = f"{name[0]}{name[1]}{stem}"
                sample = found.setdefault(key, _Sample(key, shard))
                if suffix == ".cls":
                    _once(path, key, "label", sample.label is None)
                    sample.label = stream.read(member.size, _MOST_LABEL)
                    continue
                _once(path, key, "picture", sample.size < 0)
                sample.size, sample.offset, sample.suffix = member.size, member.offset, suffix
                if packed:
                    sample.kept = self._keep_content(stream, path, member.size)
        for key, sample in found.items():
            if sample.label is None or sample.size < 0:
                what, lacks = ("picture", "label") if sample.label is None else ("label", "picture")
                raise DataError(
                    f"{path}: expected a picture and a .cls label for {key!r}; got a {what} "
                    f"without a {lacks}. Write the shard again."
                )
        return list(found.values())

    def _keep_content(self, stream: TarStream, path: Path, size: int) -> bytes:
        self._room -= size
        if self._room < 0:
            raise DataError(
                f"{path}: expected packed shards that fit into memory; got more. Unpack them to "
                ".tar files, whose pictures are read from their places."
            )
        return stream.read(size, FILE_LIMIT)

    def _label(self, sample: _Sample, names: dict[str, int] | None) -> int:
        text = (sample.label or b"").decode("utf-8", "replace").strip()
        if names is not None and text in names:
            return names[text]
        if text.isascii() and text.isdigit() and len(text) < 10:
            label = int(text)
            if names is None or label < len(names):
                return label
        expected = "a whole number from 0" if names is None else "one of the classes"
        hint = "" if names is None else " " + suggest(text[:40], names)
        raise DataError(
            f"{self.paths[sample.shard]}: expected {expected} in {sample.key}.cls; got "
            f"{text[:40]!r}.{hint}"
        )


def _once(path: Path, key: str, what: str, is_first: bool) -> None:
    if not is_first:
        raise DataError(f"{path}: expected one {what} for {key!r}; got two. Write it again.")


def _paths(shards: StrPath | Sequence[StrPath]) -> list[Path]:
    """The files that a pattern or a list names, sorted where * was in it."""
    if isinstance(shards, (str, os.PathLike)):
        names = list(_expanded(os.path.expanduser(os.fspath(shards))))
        if any(glob.has_magic(name) for name in names):
            names = sorted(found for name in names for found in glob.glob(name))
    else:
        names = [os.fspath(shard) for shard in shards]
    if not names:
        raise DataError(f"TarShards: expected tar files; {shards!r} names none. Check the path.")
    return [Path(name) for name in names]


def _expanded(name: str) -> Iterator[str]:
    """`name` with each {000..009} replaced by its numbers, as wide as they are written."""
    match = _RANGE.search(name)
    if match is None:
        yield name
        return
    low, high = match.groups()
    if not 0 <= int(high) - int(low) < _MOST_SHARDS:
        raise DataError(
            f"TarShards: expected a range of 1 to {_MOST_SHARDS:,} shards; got {match[0]}."
        )
    for number in range(int(low), int(high) + 1):
        text = f"{number:0{len(low)}d}" if low.startswith("0") else str(number)
        yield from _expanded(name[: match.start()] + text + name[match.end() :])
