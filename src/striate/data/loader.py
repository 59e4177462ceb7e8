"""The loader: threads that prepare the next batches while the network learns from this one.

The order of the samples is given; what is random is a function of (seed, epoch, sample), so the
batches are the same whatever the number of threads and however the order is cut into batches.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.data.augment import as_augmentation
from striate.data.source import Images, Source, as_indices
from striate.errors import OptionError
from striate.settings import get_num_threads

Batch = tuple[Images, NDArray[Any]]


class Loader:
    """Batches of a data source in a given order, augmented, prepared ahead by threads.

    Arrays that it gives are valid until the next batch is asked for: their memory is used again.

    Args:
        source: where the samples come from.
        order: their numbers, (n,): those of the whole epoch, since mixing draws from them.
        batch_size: samples of a batch; the last one may be smaller.
        augment: a text, a step, a list of steps or a `Compose`; None for plain pictures.
        seed: key of the augmentation's random numbers.
        epoch: number of the epoch, which gives others with the same seed.
        start: number of the first batch that is wanted, to go on within an epoch.
        threads: that prepare batches; by default one, or for a source that decodes pictures batch
            by batch `get_num_threads()`.
        ahead: batches that are prepared before they are asked for; by default two, or as many as
            threads if they are more.
    Attributes:
        waited: seconds that the caller waited for batches so far.
        prepared: seconds that the threads worked on the batches given out so far.
    Raises:
        OptionError: an argument out of its range, or an index that the source lacks.

    >>> from striate.data import as_dataset
    >>> data = as_dataset((np.zeros((5, 8, 8), "f4"), np.arange(5)))
    >>> with Loader(data, [4, 2, 0, 1, 3], 2, augment="flip") as loader:
    ...     [targets.tolist() for images, targets in loader]
    [[4, 2], [0, 1], [3]]
    """

    def __init__(
        self,
        source: Source,
        order: ArrayLike,
        batch_size: int,
        *,
        augment: Any = None,
        seed: int = 0,
        epoch: int = 0,
        start: int = 0,
        threads: int | None = None,
        ahead: int | None = None,
    ) -> None:
        if threads is None:
            threads = get_num_threads() if source.costly else 1
        ahead = max(2, threads) if ahead is None else ahead
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("threads", threads, 1),
            ("ahead", ahead, 1),
            ("start", start, 0),
        ):
            if not hasattr(value, "__index__") or value < least:
                raise OptionError(
                    f"Loader: expected a whole number of at least {least}; got {name}={value!r}."
                )
        self.source, self.batch_size = source, batch_size
        self.order = as_indices(order, len(source), "Loader")
        self.augment = as_augmentation(augment, source)
        self.seed, self.epoch, self.next = seed, epoch, start
        self.waited = self.prepared = 0.0
        self._pool = np.unique(self.order) if self.soft else self.order
        size = min(batch_size, max(1, len(self.order)))
        self._buffers = [np.empty((size, *source.shape), np.float32) for _ in range(ahead + 1)]
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="striate-loader")
        self._underway: deque[Future[tuple[Batch, float]]] = deque()
        self._begun = start
        self._refill()

    @property
    def soft(self) -> bool:
        """Whether targets are shares of the classes, (n, classes), as mixing makes them."""
        return self.augment is not None and self.augment.soft

    def __len__(self) -> int:
        """The number of batches of the whole order."""
        return -(-len(self.order) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        """The next batch.

        Returns:
            Pictures (m, c, h, w) float32, and targets (m, …).
        Raises:
            DataError: a picture that cannot be decoded.
        """
        self._refill()
        if not self._underway:
            raise StopIteration
        began = time.perf_counter()
        batch, seconds = self._underway.popleft().result()
        self.waited += time.perf_counter() - began
        self.prepared += seconds
        self.next += 1
        return batch

    def close(self) -> None:
        """End the threads; batches that are not begun are left."""
        self._begun = len(self)
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._underway.clear()

    def __enter__(self) -> Loader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _refill(self) -> None:
        """Give the threads work for every buffer; the caller is done with the last batch's."""
        while len(self._underway) < len(self._buffers) and self._begun < len(self):
            self._underway.append(self._threads.submit(self._prepare, self._begun))
            self._begun += 1

    def _prepare(self, number: int) -> tuple[Batch, float]:
        began = time.perf_counter()
        indices = self.order[number * self.batch_size : (number + 1) * self.batch_size]
        images = self._buffers[number % len(self._buffers)][: len(indices)]
        if self.augment is None:
            _, targets = self.source.batch(indices, images)
        else:
            targets = self.augment.batch(
                self.source, indices, self._pool, self.seed, self.epoch, images
            )
        return (images, targets), time.perf_counter() - began
