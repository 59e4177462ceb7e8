"""The loader: the same batches for any number of threads and any batch size, mixing, faults."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

from striate import settings
from striate.data import ArraySource, Loader, Source, preview, statistics
from striate.errors import DataError, OptionError

COUNT = 50
RNG = np.random.Generator(np.random.Philox(key=8))
ORDER = RNG.permutation(COUNT)


def source() -> ArraySource:
    images = RNG.integers(0, 256, (COUNT, 3, 8, 8)).astype(np.uint8)
    return ArraySource(images, np.arange(COUNT) % 4, tuple("abcd"))


DATA = source()


def epoch(batch_size: int, **options: Any) -> tuple[Any, Any]:
    with Loader(DATA, ORDER, batch_size, **options) as loader:
        parts = [(images.copy(), targets) for images, targets in loader]
        assert len(parts) == len(loader)
    images, targets = zip(*parts, strict=True)
    return np.concatenate(images), np.concatenate(targets)


def test_plain_batches_are_those_of_the_source() -> None:
    images, targets = epoch(8)
    np.testing.assert_array_equal(images, DATA.batch(ORDER)[0])
    np.testing.assert_array_equal(targets, ORDER % 4)


@pytest.mark.parametrize("text", ["flip,crop2,cutout3", "rotate,colour", "flip,mixup0.5", "cutmix"])
def test_neither_threads_nor_batches_change_a_bit(text: str) -> None:
    images, targets = epoch(8, augment=text, seed=3, epoch=2)
    for other in (
        {"threads": 3, "ahead": 4},
        {"threads": 2, "ahead": 1},
        {"batch_size": 50},
        {"batch_size": 7, "threads": 2},
    ):
        again = epoch(**{"batch_size": 8, "augment": text, "seed": 3, "epoch": 2, **other})
        np.testing.assert_array_equal(again[0], images)
        np.testing.assert_array_equal(again[1], targets)
    assert (epoch(8, augment=text, seed=3, epoch=3)[0] != images).any()


def test_an_epoch_goes_on_in_its_middle() -> None:
    images, targets = epoch(8, augment="flip,mixup", seed=1)
    with Loader(DATA, ORDER, 8, augment="flip,mixup", seed=1, start=5) as loader:
        assert len(loader) == 7 and loader.next == 5
        found, shares = next(loader)
        np.testing.assert_array_equal(found, images[40:48])
        np.testing.assert_array_equal(shares, targets[40:48])
        assert loader.next == 6


def test_mixing_is_within_the_order_and_by_shares() -> None:
    dark = ArraySource(
        np.repeat(np.arange(8, dtype=np.float32), 64).reshape(8, 1, 8, 8),
        np.arange(8),
        (*"abcdefgh",),
    )
    for text in ("mixup1", "cutmix1"):
        with Loader(dark, [0, 1, 2, 3], 4, augment=text, seed=5) as loader:
            assert loader.soft
            images, targets = next(loader)
        assert targets.shape == (4, 8) and targets.dtype == np.float32
        np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)
        assert (targets[:, 4:] == 0).all() and (targets > 0).sum() > 4
        # the value of class k is k, so that the mean of a mixture is that of its targets
        np.testing.assert_allclose(images.mean(axis=(1, 2, 3)), targets @ np.arange(8), atol=1e-5)
    numbers = ArraySource(dark.images, np.zeros((8, 2), np.float32))
    with pytest.raises(OptionError, match="Leave the step out"):
        next(
            Loader(ArraySource(dark.images, np.zeros(8, np.float32)), range(8), 4, augment="mixup")
        )
    with Loader(numbers, range(8), 4, augment="mixup") as loader:
        assert next(loader)[1].shape == (4, 2)


def test_steps_after_mixing_are_done_once() -> None:
    with Loader(DATA, ORDER, 50, augment="mixup", seed=2) as loader:
        mixed = next(loader)[0].copy()
    with Loader(DATA, ORDER, 50, augment="mixup,normalize", seed=2) as loader:
        assert loader.augment is not None
        found, step = next(loader)[0], loader.augment.steps[1]
        expected = step.apply(mixed, None)  # type: ignore[arg-type]
        np.testing.assert_allclose(found, expected, atol=1e-6)


class Slow(Source):
    """Takes a while for each batch; fails at a sample if that is wanted."""

    name, classes, labels = "slow", ("a",), np.zeros(COUNT, np.int64)

    def __init__(self, seconds: float = 0.0, wrong: int = -1) -> None:
        self.seconds, self.wrong, self.threads = seconds, wrong, set[int]()
        self.filled = 0

    def __len__(self) -> int:
        return COUNT

    @property
    def shape(self) -> tuple[int, ...]:
        return 1, 2, 2

    def fill(self, indices: Any, out: Any) -> None:
        self.threads.add(threading.get_ident())
        time.sleep(self.seconds)
        if self.wrong in indices:
            raise DataError("slow: sample is damaged.")
        out[...] = indices[:, np.newaxis, np.newaxis, np.newaxis]
        self.filled += 1


def test_it_works_ahead_and_measures_the_wait() -> None:
    slow = Slow(0.05)
    with Loader(slow, range(COUNT), 10, threads=2) as loader:
        next(loader)
        assert 0.03 < loader.waited <= loader.prepared + 0.03
        assert len(slow.threads - {threading.get_ident()}) == len(slow.threads) > 0
    slow = Slow(0.1)
    with Loader(slow, range(COUNT), 10, threads=2) as loader:
        until = time.monotonic() + 30
        while slow.filled < 3 and time.monotonic() < until:
            time.sleep(0.01)  # the network learns meanwhile
        for _ in range(3):
            next(loader)
        assert loader.prepared >= 0.3 and loader.waited < 0.15


def test_several_threads_where_batches_are_work() -> None:
    slow = Slow(0.01)
    slow.costly = True
    settings.set_num_threads(3)
    for view in (slow, slow.subset(range(COUNT))):
        slow.threads.clear()
        with Loader(view, range(COUNT), 5) as loader:
            assert len(list(loader)) == 10
        assert 1 < len(slow.threads) <= 3
    slow.costly = False
    slow.threads.clear()
    with Loader(slow, range(COUNT), 5) as loader:
        assert len(list(loader)) == 10
    assert len(slow.threads) == 1


def test_a_batch_is_valid_until_the_next_is_asked_for() -> None:
    with Loader(Slow(), range(COUNT), 2, ahead=1) as loader:
        for number, (images, _) in enumerate(loader):
            time.sleep(0.002)
            assert images[:, 0, 0, 0].tolist() == [2 * number, 2 * number + 1]


def test_a_fault_comes_with_its_batch_and_closing_ends_the_threads() -> None:
    before = threading.active_count()
    with Loader(Slow(wrong=15), range(COUNT), 10, threads=2) as loader:
        next(loader)
        with pytest.raises(DataError, match="sample is damaged"):
            next(loader)
    assert threading.active_count() == before
    assert next(loader, None) is None


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"threads": 0}, "threads=0"),
        ({"ahead": 0.5}, "ahead=0.5"),
        ({"start": -1}, "start=-1"),
        ({"order": [50]}, "expected indices from 0 to 49"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], match: str) -> None:
    with pytest.raises(OptionError, match=match):
        Loader(**{"source": DATA, "order": ORDER, "batch_size": 4, **options})


def test_no_samples_no_batches() -> None:
    with Loader(DATA, [], 4) as loader:
        assert len(loader) == 0 and list(loader) == []


# ---- looking at data -------------------------------------------------------------------------


def test_preview_is_what_the_first_epochs_see() -> None:
    images, targets = preview(DATA, "flip,crop2", samples=[4, 9], copies=2, seed=6)
    assert images.shape == (2, 3, 3, 8, 8) and len(targets) == 3
    np.testing.assert_array_equal(images[:, 0], DATA.batch([4, 9])[0])
    with Loader(DATA, ORDER, 50, augment="flip,crop2", seed=6, epoch=2) as loader:
        found = next(loader)[0]
    np.testing.assert_array_equal(images[0, 2], found[ORDER == 4][0])
    assert preview(DATA, "mixup", samples=[1], copies=1)[1][1].shape == (1, 4)


def test_statistics_count_and_measure() -> None:
    found = statistics(DATA)
    whole = DATA.in_memory().images.astype(np.float64)
    np.testing.assert_allclose(found.mean, whole.mean(axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(found.std, whole.std(axis=(0, 2, 3)), rtol=1e-6)
    assert found.counts == {"a": 13, "b": 13, "c": 12, "d": 12}
    assert "50 pictures 3×8×8" in str(found) and "26.0 %" in str(found)
    assert statistics(ArraySource(DATA.images, np.zeros(50))).counts == {}
