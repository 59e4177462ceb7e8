"""Pictures that come as files' contents, of whatever origin: decoding, caching, damaged ones.

`EncodedPictures` needs of its subclasses only how the i-th content is read and what it is called
(`folder` reads files, `shards` parts of tar files). Decoded pictures are kept as bytes, in memory,
where they fit into a share of what is free; else each batch is decoded when it is asked for.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from striate.data.memory import SHARE, available_memory
from striate.data.pictures import FITS, picture_bytes, picture_header
from striate.data.source import Images, Index, Source, take
from striate.errors import DataError, FileError, ImageError, OptionError
from striate.settings import get_num_threads

T = TypeVar("T")
_PROBES = 64  # headers that are read to tell grey pictures from coloured ones
_CHUNK = 64  # pictures that a thread decodes at a time
_NAMED = 8  # damaged files that a message names


@dataclass(frozen=True)
class Decoding:
    """How pictures are decoded; the names are those of `ImageFolder`."""

    size: tuple[int, int] | None = None
    channels: int | None = None
    fit: str = "pad"
    cache: bool | None = None
    memory_share: float = SHARE
    skip_corrupt: bool = False
    threads: int | None = None
    progress: bool = True

    def check(self, where: str) -> None:
        """Raises OptionError where a value cannot be."""
        size = self.size
        if size is not None and (len(size) != 2 or not all(_whole(s) and s > 0 for s in size)):
            raise OptionError(
                f"{where}: expected size as (height, width) in pixels; got size={size!r}."
            )
        if self.channels not in (None, 1, 3):
            raise OptionError(
                f"{where}: expected channels 1 (grey) or 3 (colour); got {self.channels!r}."
            )
        if self.fit not in FITS:
            raise OptionError(
                f"{where}: expected fit as one of {', '.join(FITS)}; got fit={self.fit!r}."
            )
        if not 0 < self.memory_share <= 1:
            raise OptionError(
                f"{where}: expected memory_share above 0 and at most 1; got {self.memory_share!r}."
            )


class EncodedPictures(Source):
    """Pictures to decode, of one size, with a label each.

    Attributes:
        cached: whether all pictures lie decoded in memory.
        skipped: the names of the damaged ones that were left out.

    A subclass sets `name`, `classes`, `labels` and its own list, and calls `prepare`.
    """

    cached = False
    skipped: tuple[str, ...] = ()
    _cache: NDArray[np.uint8] | None = None
    _kept: Index | None = None  # the numbers of those that were not left out

    # ---- for subclasses ----------------------------------------------------------------------

    def content(self, item: int) -> bytes:
        """The content of the `item`-th file. Raises FileError where it cannot be read."""
        raise NotImplementedError

    def item_name(self, item: int) -> str:
        """What the `item`-th file is called in messages."""
        raise NotImplementedError

    def prepare(self, how: Decoding) -> None:
        """Find size and channels, and decode what is to be kept or looked through.

        Raises:
            DataError: damaged pictures, unless they are to be skipped; or sizes that differ.
        """
        how.check(self.name)
        count = len(self.labels)
        self._fit, self._threads = how.fit, how.threads or get_num_threads()
        self._size, self._channels, self._exact = self._survey(count, how)
        height, width = self._size
        self._shape = (self._channels, height, width)
        self.cached = self._fits(count, how) if how.cache is None else how.cache
        self.costly = not self.cached
        if not self.cached and not how.skip_corrupt:
            return
        cache = np.empty((count, *self._shape), np.uint8) if self.cached else None
        failures = self._decode_all(count, cache, how.progress)
        if failures and not how.skip_corrupt:
            raise DataError(_damaged(self.name, failures, count))
        self._keep(failures, cache)

    # ---- a source ----------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shape

    def fill(self, indices: Index, out: Images) -> None:
        if self._cache is not None:
            take(self._cache, indices, out)
            return
        items = indices if self._kept is None else self._kept[indices]
        pixels = np.empty(self._shape, np.uint8)
        for place, item in enumerate(items):
            try:
                self._decode(int(item), pixels)
            except (ImageError, FileError) as error:
                raise DataError(f"{error} Or pass skip_corrupt=True to leave it out.") from error
            np.divide(pixels, np.float32(255), out=out[place], dtype=np.float32)

    def __repr__(self) -> str:
        left_out = f", {len(self.skipped)} damaged left out" if self.skipped else ""
        return super().__repr__() + left_out

    # ---- decoding ----------------------------------------------------------------------------

    def _decode(self, item: int, out: NDArray[np.uint8]) -> None:
        """The pixels of one picture, (c, h, w)."""
        name = self.item_name(item)
        size = None if self._exact else self._size
        pixels, _ = picture_bytes(name, self.content(item), size, self._channels, self._fit)
        if pixels.shape[:2] != self._size:
            h, w = self._size
            raise ImageError(
                f"{name}: expected {h} × {w} pixels (height × width), as the first picture has; "
                f"got {pixels.shape[0]} × {pixels.shape[1]}. Pass size=(height, width)."
            )
        out[...] = pixels.transpose(2, 0, 1)

    def _survey(self, count: int, how: Decoding) -> tuple[tuple[int, int], int, bool]:
        """Size and channels; whether every picture must have that size already."""
        if how.size is not None and how.channels is not None:
            return how.size, how.channels, False
        size, channels, failure = how.size, how.channels or 1, None
        for item in np.linspace(0, count - 1, min(count, _PROBES)).astype(int):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    found, depth = picture_header(self.item_name(item), self.content(item))
            except (ImageError, FileError) as error:
                failure = failure or error  # `prepare` or `fill` will name it, if it is asked for
                continue
            size = size or found
            channels = max(channels, depth) if how.channels is None else channels
        if size is None:
            raise DataError(f"{self.name}: expected a readable picture; got none: {failure}")
        return size, channels, how.size is None

    def _fits(self, count: int, how: Decoding) -> bool:
        return count * int(np.prod(self._shape)) <= how.memory_share * available_memory()

    def _decode_all(
        self, count: int, cache: NDArray[np.uint8] | None, progress: bool
    ) -> list[tuple[int, str]]:
        """Decode every picture, in threads; which could not be, with the reason of each."""

        def decode(start: int) -> list[tuple[int, str]]:
            failures = []
            aside = np.empty(self._shape, np.uint8)
            for item in range(start, min(start + _CHUNK, count)):
                try:
                    self._decode(item, aside if cache is None else cache[item])
                except (ImageError, FileError) as error:
                    failures.append((item, str(error)))
            return failures

        starts = range(0, count, _CHUNK)
        with warnings.catch_warnings(), ThreadPoolExecutor(self._threads) as pool:
            warnings.simplefilter("ignore")  # e.g. about damaged EXIF data, which do no harm
            found = pool.map(decode, starts)
            try:
                chunks = list(tracked(found, len(starts), f"decoding {self.name}", progress))
            except BaseException:  # Ctrl-C must not wait for the rest
                pool.shutdown(cancel_futures=True)
                raise
        return [failure for chunk in chunks for failure in chunk]

    def _keep(self, failures: Sequence[tuple[int, str]], cache: NDArray[np.uint8] | None) -> None:
        """Take over what could be decoded."""
        self._cache = cache
        if not failures:
            return
        wrong = [item for item, _ in failures]
        self.skipped = tuple(self.item_name(item) for item in wrong)
        self._kept = np.delete(np.arange(len(self.labels)), wrong)
        if not self._kept.size:
            raise DataError(_damaged(self.name, failures, len(self.labels)))
        self.labels = self.labels[self._kept]
        self._cache = None if cache is None else np.ascontiguousarray(cache[self._kept])


def _damaged(name: str, failures: Sequence[tuple[int, str]], count: int) -> str:
    named = "; ".join(reason.rstrip(".") for _, reason in failures[:_NAMED])
    more = f"; and {len(failures) - _NAMED:,} more" if len(failures) > _NAMED else ""
    return (
        f"{name}: expected {count:,} whole pictures; got {len(failures):,} that cannot be used: "
        f"{named}{more}. Repair or remove them, or pass skip_corrupt=True to leave them out."
    )


def _whole(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool)


def tracked(items: Iterable[T], total: int | None, what: str, progress: bool) -> Iterator[T]:
    """The items, with a bar on the error stream that is gone afterwards, on a terminal only."""
    if not (progress and sys.stderr.isatty()):
        yield from items
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(items, what, total, console=Console(stderr=True), transient=True)
