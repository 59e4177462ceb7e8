"""Every operation: its shape rule, its gradient, and that the formula says the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from striate.errors import DataError, ModelError, OptionError, ShapeError
from striate.formula.activation import map_attributes
from striate.formula.operations import OPERATIONS, find_operation

Case = tuple[str, dict[str, Any], list[NDArray[Any]]]
CONV = {"stride": [1, 1], "padding": [[0, 0], [0, 0]], "dilation": [1, 1], "groups": 1}
POOL = {"kernel": [2, 2], "stride": [2, 2], "padding": [[0, 0], [0, 0]], "dilation": [1, 1]}


def sample_shapes(case: Case) -> list[tuple[int, ...]]:
    operation, attributes = find_operation(case[0]), case[1]
    names = operation.argument_names(attributes, len(case[2]))
    return [
        a.shape if name in operation.parameters else a.shape[1:]
        for name, a in zip(names, case[2], strict=True)
    ]


def test_the_shape_rule_gives_the_shape(case: Case) -> None:
    name, attributes, arrays = case
    operation = find_operation(name)
    value = operation.reference(attributes, arrays)
    assert value.dtype == np.float64
    assert value.shape == (len(arrays[0]), *operation.shape(attributes, sample_shapes(case)))
    assert np.count_nonzero(value) > value.size / 4


def test_the_gradient_is_the_slope(case: Case) -> None:
    """Central differences in one random direction for each input."""
    name, attributes, arrays = case
    operation = find_operation(name)
    rng = np.random.default_rng(1)
    upstream = rng.normal(size=operation.reference(attributes, arrays).shape)
    found = operation.gradient(attributes, upstream, arrays)
    assert any(slope is not None for slope in found)
    for k, slope in enumerate(found):
        if slope is None:
            continue
        direction, step = rng.normal(size=arrays[k].shape), 1e-6
        ends = []
        for sign in (1, -1):
            moved = [a + sign * step * direction if j == k else a for j, a in enumerate(arrays)]
            ends.append((upstream * operation.reference(attributes, moved)).sum())
        expected = (ends[0] - ends[1]) / (2 * step)
        assert slope.shape == arrays[k].shape
        assert (slope * direction).sum() == pytest.approx(expected, rel=1e-6, abs=1e-8)


LINEAR = {"conv2d": 2, "linear": 2, "avg_pool2d": 1, "concat": 3, "slice": 1, "reshape": 1}


def test_adjoint_identity(case: Case) -> None:
    """⟨A u, v⟩ = ⟨u, Aᵀ v⟩ for the linear operations, exactly (small whole numbers)."""
    name, attributes, arrays = case
    if name not in LINEAR:
        pytest.skip("not linear in its inputs")
    operation, rng = find_operation(name), np.random.default_rng(2)
    whole = [rng.integers(-3, 4, a.shape).astype(float) for a in arrays]
    if len(whole) == 3 and name in ("conv2d", "linear"):
        whole[2][:] = 0
    image = operation.reference(attributes, whole)
    v = rng.integers(-3, 4, image.shape).astype(float)
    together = name == "concat"
    slopes = operation.gradient(attributes, v, whole)
    products = [(a * s).sum() for a, s in zip(whole, slopes, strict=True) if s is not None]
    expected = pytest.approx((image * v).sum(), rel=1e-13, abs=1e-12)
    if together:
        assert sum(products) == expected
    else:
        assert all(p == expected for p in products[: LINEAR[name]])


def test_gradient_operations_follow(case: Case) -> None:
    name, attributes, arrays = case
    operation = find_operation(name)
    upstream = np.random.default_rng(3).normal(size=operation.reference(attributes, arrays).shape)
    if operation.is_loss:
        upstream = np.full(len(arrays[0]), 1 / len(arrays[0]))
    found = operation.gradient(attributes, upstream, arrays)
    names = operation.argument_names(attributes, len(arrays))
    shapes = sample_shapes(case)
    output = operation.shape(attributes, shapes)
    for k, argument in enumerate(names):
        if found[k] is None:
            continue
        gradient = find_operation(f"{name}:d{argument}")
        before = [] if operation.is_loss else [upstream]
        value = gradient.reference(attributes, [*before, *arrays])
        assert np.array_equal(value, found[k])
        above = [] if operation.is_loss else [output]
        assert gradient.shape(attributes, [*above, *shapes]) == shapes[k]


def test_every_operation_has_a_case(request: pytest.FixtureRequest) -> None:
    conftest = next(p for p in request.config.pluginmanager.get_plugins() if hasattr(p, "CASES"))
    assert {case[0] for case in conftest.CASES.values()} == set(OPERATIONS)


# ---- properties --------------------------------------------------------------------------------


def test_groups_are_convolutions_side_by_side() -> None:
    rng = np.random.default_rng(4)
    x, w = rng.normal(size=(2, 6, 5, 5)), rng.normal(size=(4, 3, 3, 3))
    conv = find_operation("conv2d")
    whole = conv.reference({**CONV, "groups": 2}, [x, w])
    parts = [
        conv.reference(CONV, [x[:, 3 * g : 3 * g + 3], w[2 * g : 2 * g + 2]]) for g in range(2)
    ]
    assert np.allclose(whole, np.concatenate(parts, axis=1), rtol=1e-13)


def test_a_shifted_image_gives_a_shifted_output() -> None:
    rng = np.random.default_rng(5)
    x, w = rng.integers(-4, 5, (1, 2, 9, 9)), rng.integers(-4, 5, (3, 2, 3, 3))
    conv = find_operation("conv2d")
    moved = np.roll(x, (2, 1), axis=(2, 3))
    here, there = conv.reference(CONV, [x, w]), conv.reference(CONV, [moved, w])
    assert np.array_equal(there[:, :, 2:, 1:], here[:, :, :-2, :-1])


def test_a_1x1_convolution_is_a_matrix_product() -> None:
    rng = np.random.default_rng(6)
    x, w = rng.integers(-4, 5, (2, 3, 4, 5)), rng.integers(-4, 5, (6, 3, 1, 1))
    value = find_operation("conv2d").reference(CONV, [x, w])
    assert np.array_equal(value, np.einsum("ncij,oc->noij", x, w[:, :, 0, 0]))


def test_of_equal_maxima_the_first_gets_the_gradient() -> None:
    x = np.array([[[[1.0, 5, 5], [5, 5, 0], [2, 2, 2]]]])
    slope = find_operation("max_pool2d").gradient(
        {**POOL, "stride": [1, 1]}, np.ones((1, 1, 2, 2)), [x]
    )
    assert slope[0] is not None
    assert slope[0].tolist() == [[[[0, 2, 0], [1, 1, 0], [0, 0, 0]]]]


def test_a_maximum_passes_nan_on() -> None:
    x = np.array([[[[1.0, np.nan, 3, 4], [1, 2, 3, 4]]]])
    value = find_operation("max_pool2d").reference(POOL, [x])
    assert np.isnan(value[0, 0, 0, 0]) and value[0, 0, 0, 1] == 4


def test_softmax_and_cross_entropy_of_large_logits() -> None:
    x = np.array([[1000.0, 0, -1000], [0, 0, 0]])
    softmax = find_operation("softmax").reference({}, [x])
    assert np.allclose(softmax, [[1, 0, 0], [1 / 3, 1 / 3, 1 / 3]])
    loss = find_operation("cross_entropy").reference({}, [x, np.array([2, 1])])
    assert np.allclose(loss, [2000, np.log(3)])
    slope = find_operation("cross_entropy:dx").reference({}, [x, np.array([2, 1])])
    assert np.allclose(slope, [[0.5, 0, -0.5], [1 / 6, -1 / 3, 1 / 6]])


# ---- bad input ---------------------------------------------------------------------------------

BAD_SHAPES: list[tuple[str, dict[str, Any], list[tuple[int, ...]], str]] = [
    ("conv2d", CONV, [(3, 8, 8), (4, 2, 3, 3)], r"in_channels = 2·1 = 2 .*got in_channels=3"),
    (
        "conv2d",
        CONV,
        [(3, 2, 8), (4, 3, 3, 3)],
        r"height of at least 1; got ⌊\(2 \+ 2·0 − 1·\(3−1\)",
    ),
    ("conv2d", {**CONV, "groups": 2}, [(3, 8, 8), (4, 1, 3, 3)], r"divisible by groups; got in_ch"),
    ("conv2d", CONV, [(3, 8, 8), (4, 3, 3, 3), (5,)], r"b expected shape \(4,\).*got \(5,\)"),
    (
        "conv2d",
        CONV,
        [(8, 8), (4, 3, 3, 3)],
        r"x expected 3 axes .* besides the batch; got .*\(8, 8\)",
    ),
    ("conv2d", CONV, [(3, 8, 8)], r"expected inputs x, w, b; got 1"),
    ("linear", {}, [(16, 5, 5), (10, 400)], r"got shape \(16, 5, 5\). Put a Flatten before"),
    ("linear", {}, [(100,), (10, 400)], r"expected in_features=400, .*; got 100 features"),
    ("linear", {}, [(400,), (10, 400), (9,)], r"b expected shape \(10,\)"),
    ("max_pool2d", POOL, [(3, 1, 8)], r"output height of at least 1; got ⌊"),
    (
        "concat",
        {"axis": 1},
        [(3, 4, 4), (3, 5, 4)],
        r"equal but for axis 1 .*\(3, 4, 4\), \(3, 5, 4\)",
    ),
    ("concat", {"axis": 4}, [(3, 4, 4)], r"expected an axis from 1 to 3; got axis=4"),
    (
        "slice",
        {"axis": 1, "start": 2, "stop": 9},
        [(8,)],
        r"stop ≤ 8 along axis 1; got start=2, stop=9",
    ),
    (
        "reshape",
        {"shape": [7, -1]},
        [(4, 5)],
        r"a shape of 4·5 = 20 numbers a sample; got \[7, -1\]",
    ),
    ("map", map_attributes("relu"), [(3,), (3,)], r"expected inputs x; got 2"),
    ("softmax", {}, [(3, 4)], r"x expected 1 axes \(classes\)"),
    ("cross_entropy", {}, [(10,), (10,)], r"t expected one label a sample"),
    ("mse_loss", {}, [(10,), (9,)], r"inputs of equal shape; got x \(10,\) and t \(9,\)"),
    (
        "conv2d:dw",
        CONV,
        [(4, 5, 6), (3, 8, 8), (4, 3, 3, 3)],
        r"upstream gradient of shape \(4, 6, 6\)",
    ),
]


@pytest.mark.parametrize(("op", "attributes", "shapes", "message"), BAD_SHAPES)
def test_shapes_that_do_not_fit(
    op: str, attributes: dict[str, Any], shapes: list[tuple[int, ...]], message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        find_operation(op).shape(attributes, shapes)


BAD_OPTIONS: list[tuple[str, dict[str, Any], str]] = [
    ("conv2d", {**CONV, "stride": [0, 1]}, r"conv2d: stride: expected at least 1"),
    ("conv2d", {**CONV, "strides": [1, 1]}, r"unknown attribute 'strides'. Did you mean 'stride'"),
    (
        "conv2d",
        {k: v for k, v in CONV.items() if k != "groups"},
        r"expected the attribute 'groups'",
    ),
    ("conv2d", {**CONV, "groups": 0}, r"groups expected a whole number of at least 1; got 0"),
    (
        "conv2d",
        {**CONV, "padding": 1},
        r"padding expected \[\[top, bottom\], \[left, right\]\]; got 1",
    ),
    ("conv2d", {**CONV, "padding": [[-1, 0], [0, 0]]}, r"padding: expected at least 0"),
    (
        "max_pool2d",
        {**POOL, "padding": [[2, 0], [0, 0]]},
        r"at most half of the window, 1; got \[2, 0\]",
    ),
    ("dropout", {"p": 1.0, "site": 0}, r"p expected a number from 0 to below 1; got 1.0"),
    ("reshape", {"shape": [-1, -1]}, r"at most one -1; got \[-1, -1\]"),
    ("map", {"inputs": ["x"], "expr": ["add", "x", "z"]}, r"expression of x; got 'z'"),
    ("map", {"inputs": ["x"], "expr": ["ad", "x", "x"]}, r"unknown function 'ad'. Did you mean"),
    ("map", {"inputs": ["x", "x"], "expr": "x"}, r"different names"),
]


@pytest.mark.parametrize(("op", "attributes", "message"), BAD_OPTIONS)
def test_attributes_that_cannot_be(op: str, attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        find_operation(op).shape(attributes, [(3, 8, 8), (4, 3, 3, 3)][: 1 + (op == "conv2d")])


def test_unknown_operations_and_labels() -> None:
    with pytest.raises(ModelError, match=r"unknown operation 'conv3d'. Did you mean 'conv2d'"):
        find_operation("conv3d")
    with pytest.raises(ModelError, match="unknown operation 'conv2d:d'"):
        find_operation("conv2d:d")
    with pytest.raises(OptionError, match=r"conv2d:dz: expected an argument of conv2d; got 'z'"):
        find_operation("conv2d:dz").shape(CONV, [(4, 6, 6), (3, 8, 8), (4, 3, 3, 3)])
    with pytest.raises(DataError, match=r"labels from 0 to 2; got 3 for sample 1"):
        find_operation("cross_entropy").reference({}, [np.zeros((2, 3)), np.array([0, 3])])
