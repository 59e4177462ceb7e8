"""The benchmark of filters: its arithmetic, and that ours is right and timed. No speeds."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import filters, text
from benchmarks.problems import Problem

CASES = [
    Problem("filter", what, {"what": what, "k": str(k), "h": "64", "threads": "1"})
    for what, k in (("random", 4), ("random", 7), ("gaussian", 9))
]


@pytest.mark.parametrize("case", CASES, ids=lambda p: f"{p.name} {p.settings['k']}")
def test_ours_is_right_and_is_timed(case: Problem) -> None:
    result = filters.run(case, rounds=1)
    row = result.row("striate")
    assert row is not None and row.error is not None and row.error < 1e-6
    assert row.seconds and row.gflops and text.is_race(result)
    assert f"filter {case.name} on 64² pixels, 1 thread" == text.title(result)


def test_what_is_compared_with() -> None:
    x, w = np.zeros((5, 6)), np.arange(9.0).reshape(3, 3)
    x[2, 3] = 1
    assert np.allclose(filters.exact(x, w)[1:4, 2:5], w[::-1, ::-1])


@pytest.mark.peer
def test_peers_compute_the_same() -> None:
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    pytest.importorskip("scipy", reason="SciPy is not installed")
    result = filters.run(CASES[2], rounds=1)
    assert len(result.rivals) == 4
    assert filters.run(CASES[1], rounds=1).ratio is not None
