"""Looking up rows of a table, and adding gradients to them, in every lane."""

from __future__ import annotations

import numpy as np
import pytest
from harness import changed, check_equal, given, normal_numbers, run_kernel, wanted, whole_numbers

from striate.codegen.targets import Target
from striate.formula.embedding import Embedding
from striate.kernels.embedding import embedding, embedding_gradient, embedding_rows_gradient


def _dims(width: int) -> list[int]:
    return [1, width - 1, width, width + 1, 2 * width + 3]


def _numbers(width: int, count: int, rows: int) -> np.ndarray:
    x = np.random.default_rng(rows).integers(0, rows, (count, width)).astype(np.float32)
    x[:, 1] = x[:, 0]  # two lanes name one row
    return x


@pytest.mark.parametrize("count", [1, 3])
def test_rows_are_looked_up(target: Target, count: int) -> None:
    for dim in _dims(target.width):
        x, w = _numbers(target.width, count, 5), normal_numbers(dim, 5, dim)
        out = wanted(count, dim, target.width)
        kernel = embedding(target, count, 5, dim)
        (found,) = run_kernel(kernel, target, out, given(x), given(w))
        expected = Embedding().reference({"padding": -1}, [x.T, w])  # (lane, count, dim)
        check_equal(found, np.moveaxis(expected, 0, -1).astype(np.float32))


def test_what_counts_no_row_gives_nan(target: Target) -> None:
    x = np.zeros((1, target.width), np.float32)
    bad = [-1.0, 3.0, 0.5, np.nan][: target.width]
    x[0, : len(bad)] = bad
    w = normal_numbers(0, 3, 2)
    kernel = embedding(target, 1, 3, 2)
    (found,) = run_kernel(kernel, target, wanted(1, 2, target.width), given(x), given(w))
    assert np.isnan(found[0, :, : len(bad)]).all()
    assert not np.isnan(found[0, :, len(bad) :]).any()


@pytest.mark.parametrize("padding", [-1, 2])
def test_gradients_are_added_to_the_rows(target: Target, padding: int) -> None:
    for dim in _dims(target.width):
        x = _numbers(target.width, 4, 5)
        x[0, 2] = 99
        dy, dw = whole_numbers(dim, 4, dim, target.width), whole_numbers(1, 5, dim)
        kernel = embedding_gradient(target, 4, 5, dim, padding)
        (found,) = run_kernel(kernel, target, changed(dw), given(dy), given(x))
        upstream = np.moveaxis(dy, -1, 0)
        added = Embedding().gradient({"padding": padding}, upstream, [x.T, np.zeros((5, dim))])[1]
        assert added is not None
        check_equal(found, (dw + added).astype(np.float32))


@pytest.mark.parametrize("padding", [-1, 2])
def test_gradients_of_a_batch_of_rows(target: Target, padding: int) -> None:
    for dim in _dims(target.width):
        x = _numbers(4, 3, 5)  # 3 samples of 4 numbers
        x[0, 2] = -1
        dy = whole_numbers(dim, 3, 4 * dim + 2)  # samples lie a little apart
        kernel = embedding_rows_gradient(target, 4, 5, dim, padding)
        steps = (4 * dim + 2, 4, 3)
        (found,) = run_kernel(kernel, target, wanted(5, dim), given(dy), given(x), *steps)
        upstream = dy[:, : 4 * dim].reshape(3, 4, dim)
        expected = Embedding().gradient({"padding": padding}, upstream, [x, np.zeros((5, dim))])[1]
        assert expected is not None
        check_equal(found, expected.astype(np.float32), dense=0.3)
