"""Poolings that must be equal, worked numbers, and attributes that cannot be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from striate.errors import OptionError, ShapeError
from striate.formula.operations import find_operation
from striate.formula.resize import cubic

Numbers = NDArray[Any]


def window(kernel: Any, stride: Any = None, padding: Any = None, **more: Any) -> dict[str, Any]:
    rank = len(kernel)
    return {
        "kernel": kernel,
        "stride": stride or kernel,
        "padding": padding or [[0, 0]] * rank,
        "dilation": [1] * rank,
        **more,
    }


def run(op: str, attributes: dict[str, Any], *arrays: Any) -> Numbers:
    return find_operation(op).reference(attributes, arrays)


def whole(*shape: int) -> Numbers:
    return np.random.default_rng(0).integers(-9, 10, shape).astype(float)


X = whole(2, 3, 7, 6)
SLIDE = window([3, 2], [2, 1], [[1, 1], [0, 1]])


def test_sums_means_and_norms_of_one_window() -> None:
    total = run("sum_pool", {**SLIDE, "divisor": 1.0}, X)
    plain = {k: SLIDE[k] for k in ("kernel", "stride", "padding")}
    mean = run("avg_pool2d", {**plain, "count_include_pad": True}, X)
    assert np.array_equal(total / 6, mean)
    assert np.array_equal(run("sum_pool", {**SLIDE, "divisor": 6.0}, X), mean)
    even = run("mean_pool", {**SLIDE, "counted": SLIDE["padding"]}, X)
    np.testing.assert_allclose(even, mean, rtol=1e-14)
    inside = run("avg_pool2d", {**plain, "count_include_pad": False}, X)
    counted = run("mean_pool", {**SLIDE, "counted": [[0, 0]] * 2}, X)
    np.testing.assert_allclose(counted, inside, rtol=1e-14)
    flat = run("gaussian_pool", {**SLIDE, "counted": [[0, 0]] * 2, "sigma": [1e9, 1e9]}, X)
    np.testing.assert_allclose(flat, inside, rtol=1e-14)
    sharp = window([3, 3], [1, 1], [[1, 1]] * 2, counted=[[0, 0]] * 2, sigma=[1e-2, 1e-2])
    np.testing.assert_allclose(run("gaussian_pool", sharp, X), X, rtol=1e-14)
    one = {**SLIDE, "norm": 1.0, "absolute": True, "counted": None}
    assert np.array_equal(
        run("lp_pool", one, X), run("sum_pool", {**SLIDE, "divisor": 1.0}, abs(X))
    )
    assert np.array_equal(run("lp_pool", {**one, "absolute": False}, X), total)
    large = run("lp_pool", {**one, "norm": 200.0}, X / 9) * 9
    np.testing.assert_allclose(large, run("max_pool2d", SLIDE, abs(X)), rtol=0.02)


def test_one_rule_for_every_number_of_axes() -> None:
    """A sequence is an image of one row, and that a volume of one slice."""
    x = whole(2, 3, 9)
    for op, more in (
        ("max_pool{}d", {}),
        ("sum_pool", {"divisor": 1.0}),
        ("expected_pool", {}),
        ("unfold", {}),
    ):
        line = run(op.format(1), window([3], [2], [[1, 0]], **more), x)
        flat = window([1, 3], [1, 2], [[0, 0], [1, 0]], **more)
        assert np.array_equal(run(op.format(2), flat, x[:, :, None]).reshape(line.shape), line)
        deep = window([1, 1, 3], [1, 1, 2], [[0, 0], [0, 0], [1, 0]], **more)
        volume = run(op.format(3), deep, x[:, :, None, None])
        assert np.array_equal(volume.reshape(line.shape), line)


def test_draws_by_hand() -> None:
    x = np.array([1.0, -5, 3, 4]).reshape(1, 1, 4)  # chances 1/8, 0, 3/8, 4/8
    picked = [
        run("stochastic_pool", window([4]), x, np.full((1, 1, 1), u)).item()
        for u in (0.0, 0.124, 0.126, 0.49, 0.51, 0.999999)
    ]
    assert picked == [1, 1, 3, 3, 4, 4]
    assert run("expected_pool", window([4]), x).item() == (1 + 9 + 16) / 8
    assert run("stochastic_pool", window([4]), -abs(x), np.zeros((1, 1, 1))).item() == 0
    slopes = find_operation("stochastic_pool").gradient(
        window([4]), np.full((1, 1, 1), 7.0), [x, np.full((1, 1, 1), 0.3)]
    )
    assert slopes[0] is not None and slopes[0].ravel().tolist() == [0, 0, 7, 0]
    assert slopes[1] is None


def test_adaptive_and_fractional_windows_at_even_steps() -> None:
    x = whole(2, 3, 8, 6)
    largest = run("max_pool2d", window([4, 2]), x)
    assert np.array_equal(run("adaptive_max_pool2d", {"output": [2, 3]}, x), largest)
    starts = {"kernel": [4, 2], "starts": [[0, 4], [0, 2, 4]]}
    assert np.array_equal(run("fractional_max_pool", starts, x), largest)
    grid = np.arange(8)[:, None] // 4 * 3 + np.arange(6) // 2
    for how, op in (("max", "max_pool2d"), ("mean", "avg_pool2d"), ("sum", "sum_pool")):
        more = {"mean": {"count_include_pad": True}, "sum": {"divisor": 1.0}}.get(how, {})
        settings = window([4, 2], **more)
        if how == "mean":
            del settings["dilation"]
        pooled = run("region_pool", {"labels": grid.tolist(), "how": how}, x)
        assert np.array_equal(pooled, run(op, settings, x).reshape(2, 3, 6))
    weights = (grid == np.arange(6)[:, None, None]) / 8.0
    mean = run("region_pool", {"labels": grid.tolist(), "how": "mean"}, x)
    assert np.array_equal(run("learned_pool", {}, x, weights), mean)


def test_unpooling_sends_back_what_pooling_gathers() -> None:
    """The gradient of unpooling reads at the switches, that of pooling writes there."""
    x = np.random.default_rng(1).permutation(2 * 3 * 6 * 8).reshape(2, 3, 6, 8).astype(float)
    settings = window([2, 4])
    places = run("max_pool_indices", settings, x)
    up = whole(2, 3, 3, 2)
    back = run("max_unpool", {**settings, "output": [6, 8]}, up, places)
    slope = find_operation("max_pool2d").gradient(settings, up, [x])[0]
    assert np.array_equal(back, slope)
    slope = find_operation("max_unpool").gradient({**settings, "output": [6, 8]}, x, [up, places])[
        0
    ]
    assert np.array_equal(slope, run("max_pool2d", settings, x))


def test_where_overlapping_windows_meet_the_largest_stays() -> None:
    settings = window([2], [1], output=[3])
    y = run("max_unpool", settings, [[[4.0, 7.0]]], [[[1.0, 1.0]]])
    assert y.tolist() == [[[0, 7, 0]]]
    assert run("max_unpool", settings, [[[-4.0, -7.0]]], [[[1.0, 1.0]]]).tolist() == [[[0, -4, 0]]]


def test_resizing_to_the_same_size_changes_nothing() -> None:
    for mode in ("nearest", "nearest-exact", "linear", "cubic"):
        for align in (False, True) if mode in ("linear", "cubic") else (False,):
            settings = {"output": [7, 6], "mode": mode, "steps": None, "align_corners": align}
            assert np.array_equal(run("resize", {**settings, "antialias": False}, X), X)


def test_interpolation_of_ramps_and_parabolas() -> None:
    """Linear interpolation keeps a ramp, the cubic one (a = −1/2) a parabola, inside the image."""
    at = np.linspace(2, 5, 13)
    places = np.arange(9.0)
    near = np.floor(at)[:, None] + np.arange(-1, 3)
    weights = cubic(at[:, None] - near, -0.5)
    np.testing.assert_allclose((weights * near**2).sum(1), at**2, rtol=1e-13)
    np.testing.assert_allclose(cubic(at[:, None] - near, -0.75).sum(1), 1, rtol=1e-14)
    settings = {"output": [17], "mode": "linear", "steps": None, "align_corners": True}
    ramp = run("resize", {**settings, "antialias": False}, places[None, None])
    np.testing.assert_allclose(ramp[0, 0], np.arange(17) / 2, rtol=1e-14)


def test_shuffles_are_undone() -> None:
    x = whole(2, 8, 3, 5)
    there = run("pixel_shuffle", {"factor": 2}, x)
    assert there[1, 1, 2 * 2 + 1, 2 * 4].item() == x[1, 4 + 2, 2, 4]
    assert np.array_equal(run("pixel_unshuffle", {"factor": 2}, there), x)
    dealt = run("channel_shuffle", {"groups": 2}, x)
    assert np.array_equal(dealt[:, ::2], x[:, :4]) and np.array_equal(dealt[:, 1::2], x[:, 4:])
    assert np.array_equal(run("channel_shuffle", {"groups": 4}, dealt), x)


def test_cost_of_adaptive_windows() -> None:
    cost = find_operation("adaptive_max_pool2d").cost({"output": [4, 3]}, [(2, 5, 3)])
    assert cost.operations == 2 * 8 * 3 and cost.multiply_adds == 0


RESIZE = {
    "output": [4],
    "mode": "linear",
    "steps": None,
    "align_corners": False,
    "antialias": False,
}
BAD: list[tuple[str, dict[str, Any], list[tuple[int, ...]], str]] = [
    ("sum_pool", window([], divisor=1.0), [(3, 8)], "kernel expected one to three sizes"),
    ("sum_pool", window([2], divisor=0.0), [(3, 8)], "divisor expected a number that is not 0"),
    ("sum_pool", window([2], divisor=1.0), [(3, 8, 8)], r"x expected 2 axes \(channels, length\)"),
    ("mean_pool", window([2], counted=[1, 0]), [(3, 8)], "counted expected 1 pairs"),
    ("mean_pool", window([2, 2], counted=[[1, 0]]), [(3, 8, 8)], "counted expected 2 pairs"),
    ("gaussian_pool", window([2], counted=[[0, 0]], sigma=[0]), [(3, 8)], "sigma expected 1 numbe"),
    (
        "lp_pool",
        window([2], norm=-1.0, absolute=True, counted=None),
        [(3, 8)],
        "norm expected a number above 0; got -1",
    ),
    (
        "lp_pool",
        window([2], norm=2.0, absolute=1, counted=None),
        [(3, 8)],
        "absolute expected true or false; got 1",
    ),
    ("stochastic_pool", window([2]), [(3, 8), (3, 8)], r"u expected shape \(3, 4\)"),
    ("adaptive_max_pool2d", {"output": [2, 2]}, [(8, 8)], "x expected 3 axes"),
    ("fractional_max_pool", {"kernel": [2], "starts": 3}, [(3, 8)], "starts expected one to three"),
    (
        "fractional_max_pool",
        {"kernel": [3], "starts": [[0, 6]]},
        [(3, 8)],
        r"windows inside the length of 8; got windows of 3 that begin at \[0, 6\]",
    ),
    ("max_unpool", window([2], output=[8]), [(3, 4), (3, 5)], "one index for each number; got x"),
    (
        "max_unpool",
        window([2], output=[9]),
        [(3, 3), (3, 3)],
        r"windows are \(4,\); got x \(3, 3\)",
    ),
    ("channel_max_pool", {"size": 2, "stride": 2}, [(5,)], "groups of 2 channels, 2 apart, that"),
    ("channel_lp_pool", {"size": 2, "stride": 2, "norm": 0.0}, [(4,)], "norm expected a number ab"),
    ("region_pool", {"labels": [0, 1], "how": "mode"}, [(3, 2)], "unknown how 'mode'"),
    ("region_pool", {"labels": [0.5, 1], "how": "max"}, [(3, 2)], "labels expected whole numbers"),
    (
        "region_pool",
        {"labels": [0, 1], "how": "max"},
        [(3, 3)],
        r"expected x \(channels, 2\), a pl",
    ),
    ("learned_pool", {}, [(3, 4), (2, 5)], "expected maps w .* of the size of x"),
    ("resize", {**RESIZE, "output": 4}, [(3, 8)], "output expected one to three sizes"),
    ("resize", {**RESIZE, "mode": "cubik"}, [(3, 8)], "unknown mode 'cubik'. Did you mean 'cubic'"),
    ("resize", {**RESIZE, "steps": [0]}, [(3, 8)], "steps expected null or 1 numbers above 0"),
    (
        "resize",
        {**RESIZE, "mode": "nearest", "align_corners": True},
        [(3, 8)],
        "align_corners and antialias only with mode 'linear' or 'cubic'",
    ),
    ("resize", {**RESIZE, "antialias": 1}, [(3, 8)], "antialias expected true or false; got 1"),
    ("pixel_shuffle", {"factor": 2}, [(3, 8)], r"channels divisible by 2\^1 = 2; got 3"),
    ("pixel_shuffle", {"factor": 2}, [(3,)], "x expected channels and one to three axes of spac"),
    ("fold", window([2, 2], output=[4, 4]), [(3, 2, 2)], "channels divisible by 4, the numbers"),
]


@pytest.mark.parametrize(("op", "attributes", "shapes", "message"), BAD)
def test_attributes_and_shapes_that_cannot_be(
    op: str, attributes: dict[str, Any], shapes: list[tuple[int, ...]], message: str
) -> None:
    with pytest.raises((OptionError, ShapeError), match=message):
        find_operation(op).shape(attributes, shapes)
