"""Every operation: its shape rule, its gradient, and that the formula says the same."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from striate.errors import DataError, ModelError, OptionError, ShapeError
from striate.formula.activation import map_attributes
from striate.formula.norm import BatchNormTraining
from striate.formula.operations import OPERATIONS, find_operation

Case = tuple[str, dict[str, Any], list[NDArray[Any]]]
CONV = {"stride": [1, 1], "padding": [[0, 0], [0, 0]], "dilation": [1, 1], "groups": 1}
NORM = {"eps": 1e-5, "momentum": 0.1}
CONV1 = {"stride": [1], "padding": [[0, 0]], "dilation": [1], "groups": 1}
_COLLECTED: Any = import_module("tests.formula.conftest")
BACK = {**CONV, "stride": [2, 2], "output_padding": [0, 0]}
RESPONSE = {"size": 5, "alpha": 1e-4, "beta": 0.75, "k": 1.0}
POOL = {"kernel": [2, 2], "stride": [2, 2], "padding": [[0, 0], [0, 0]], "dilation": [1, 1]}


def sample_shapes(case: Case) -> list[tuple[int, ...]]:
    operation, attributes = find_operation(case[0]), case[1]
    names = operation.argument_names(attributes, len(case[2]))
    return [
        a.shape if name in operation.shared(attributes) else a.shape[1:]
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
    names = operation.argument_names(attributes, len(arrays))
    some = any(map(operation.differentiable, names)) and not operation.draws
    assert any(slope is not None for slope in found) or not some
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


LINEAR = {
    "adaptive_avg_pool2d": 1,
    "conv1d": 2,
    "conv2d": 2,
    "conv3d": 2,
    "conv_transpose2d": 2,
    "linear": 2,
    "avg_pool2d": 1,
    "concat": 3,
    "slice": 1,
    "reshape": 1,
}


LINEAR |= {k: n for f in _COLLECTED.FAMILIES for k, n in getattr(f, "LINEAR", {}).items()}


@pytest.mark.parametrize("key", [k for k, case in _COLLECTED.CASES.items() if case[0] in LINEAR])
def test_adjoint_identity(key: str) -> None:
    """⟨A u, v⟩ = ⟨u, Aᵀ v⟩ for the linear operations, exactly (small whole numbers)."""
    name, attributes, arrays = _COLLECTED.CASES[key]
    operation, rng = find_operation(name), np.random.default_rng(2)
    whole = [rng.integers(-3, 4, a.shape).astype(float) for a in arrays]
    if len(whole) == 3 and name != "concat":
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


def test_every_operation_has_a_case() -> None:
    assert {case[0] for case in _COLLECTED.CASES.values()} == set(OPERATIONS)


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


def test_a_transposed_convolution_is_the_gradient_of_a_convolution() -> None:
    rng = np.random.default_rng(9)
    settings = {"stride": [2, 3], "padding": [[1, 1], [2, 0]], "dilation": [2, 1], "groups": 2}
    image, w = rng.integers(-3, 4, (2, 4, 9, 10)), rng.integers(-3, 4, (6, 2, 3, 4))
    conv, back = find_operation("conv2d"), find_operation("conv_transpose2d")
    y = conv.reference(settings, [image, w])
    expected = conv.gradient(settings, y, [image, w], [0])[0]
    value = back.reference({**settings, "output_padding": [0, 2]}, [y, w])
    assert np.array_equal(value, expected)


def test_cost_of_a_transposed_convolution() -> None:
    cost = find_operation("conv_transpose2d").cost(BACK, [(4, 3, 5), (4, 6, 2, 2), (6,)])
    assert cost.multiply_adds == 3 * 5 * 4 * 6 * 2 * 2
    assert cost.operations == 2 * cost.multiply_adds


def test_response_norm_at_the_edge() -> None:
    x = np.arange(1.0, 6.0).reshape(1, 5, 1)
    settings = {"size": 4, "alpha": 4.0, "beta": 1.0, "k": 0.0}
    value = find_operation("local_response_norm").reference(settings, [x]).ravel()
    sums = [1 + 4, 1 + 4 + 9, 1 + 4 + 9 + 16, 4 + 9 + 16 + 25, 9 + 16 + 25]
    assert np.allclose(value, np.arange(1, 6) / sums)


def test_a_normalised_batch_has_mean_0_and_variance_1() -> None:
    x = np.random.default_rng(7).normal(size=(4, 3, 5, 6)) * 3 + 7
    arrays = [x, np.ones(3), np.zeros(3), np.zeros(3), np.ones(3)]
    value = find_operation("batch_norm_training").reference({**NORM, "eps": 0.0}, arrays)
    assert np.allclose(value.mean((0, 2, 3)), 0, atol=1e-14)
    assert np.allclose(value.var((0, 2, 3)), 1, rtol=1e-13)


def test_running_statistics_of_one_number_a_channel() -> None:
    x = np.array([[3.0, -1.0]])
    norm = BatchNormTraining()
    mean, var = norm.running_statistics({**NORM, "momentum": 0.5}, x, [1.0, 1.0], [2.0, 4.0])
    assert mean.tolist() == [2, 0] and var.tolist() == [1, 2]


def test_running_statistics_have_no_gradient() -> None:
    norm, arrays = find_operation("batch_norm_training"), [np.ones((2, 3)), *[np.ones(3)] * 4]
    assert norm.gradient(NORM, np.ones((2, 3)), arrays)[3:] == [None, None]
    with pytest.raises(OptionError, match="batch_norm_training:dmean: there is no gradient to"):
        find_operation("batch_norm_training:dmean").reference(NORM, [np.ones((2, 3)), *arrays])


def test_adaptive_pooling_that_divides_is_average_pooling() -> None:
    x = np.random.default_rng(8).integers(-9, 10, (2, 3, 6, 8)).astype(float)
    value = find_operation("adaptive_avg_pool2d").reference({"output": [3, 2]}, [x])
    pooled = find_operation("avg_pool2d").reference(
        {"kernel": [2, 4], "stride": [2, 4], "padding": [[0, 0]] * 2, "count_include_pad": True},
        [x],
    )
    assert np.array_equal(value, pooled)
    assert find_operation("adaptive_avg_pool2d").cost(
        {"output": [4, 3]}, [(2, 5, 3)]
    ).operations == (2 * 8 * 3)


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
    (
        "conv1d",
        CONV1,
        [(3, 8), (4, 2, 3)],
        r"conv1d: expected in_channels = 2·1 = 2 .*got in_channels=3",
    ),
    ("conv1d", CONV1, [(3, 8, 8), (4, 3, 3)], r"x expected 2 axes \(channels, length\) besides"),
    ("conv1d", CONV1, [(3, 2), (4, 3, 3)], r"conv1d: expected an output length of at least 1"),
    (
        "conv_transpose2d",
        BACK,
        [(3, 4, 4), (2, 5, 3, 3)],
        r"in_channels=2, as w .* got in_channels=3",
    ),
    ("conv_transpose2d", {**BACK, "groups": 2}, [(3, 4, 4), (3, 5, 3, 3)], r"divisible by groups"),
    ("conv_transpose2d", BACK, [(3, 4, 4), (3, 5, 3, 3), (3,)], r"b expected shape \(5,\)"),
    (
        "conv_transpose2d",
        {**BACK, "padding": [[2, 2], [0, 0]]},
        [(3, 1, 4), (3, 5, 3, 3)],
        r"output height of at least 1; got \(1 − 1\)·2 − 2 − 2 \+ 3 \+ 0 = -1. Use less padding",
    ),
    (
        "local_response_norm",
        RESPONSE,
        [(3,)],
        r"x expected channels and one to three axes of space",
    ),
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
        "batch_norm",
        NORM,
        [(6, 4, 4), (5,), (5,), (5,), (5,)],
        r"w expected shape \(6,\).*got \(5,\)",
    ),
    (
        "batch_norm",
        NORM,
        [(6, 4, 4), (6,), (6,), (6,)],
        r"expected inputs x, w, b, mean, var; got 4",
    ),
    ("batch_norm", NORM, [(6, 1, 1, 1, 1), (6,), (6,), (6,), (6,)], r"at most three axes of space"),
    (
        "adaptive_avg_pool2d",
        {"output": [2, 2]},
        [(8, 8)],
        r"x expected 3 axes .*got shape \(8, 8\)",
    ),
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
    (
        "conv1d",
        {**CONV1, "stride": [1, 1]},
        r"conv1d: stride: expected a whole number; got \[1, 1\]",
    ),
    ("conv1d", {**CONV1, "padding": 0}, r"padding expected \[\[before, after\]\]; got 0"),
    (
        "conv_transpose2d",
        {**BACK, "output_padding": [2, 0]},
        r"output_padding expected below the stride or the dilation along height, 2; got 2",
    ),
    ("local_response_norm", {**RESPONSE, "size": 0}, r"size expected a whole number of at least 1"),
    ("batch_norm", {**NORM, "eps": -1.0}, r"eps expected a number of at least 0; got -1.0"),
    ("batch_norm", {**NORM, "momentum": 1.5}, r"momentum expected from 0 to 1; got 1.5"),
    ("batch_norm", {**NORM, "momentum": "a"}, r"momentum expected a finite number; got 'a'"),
    ("adaptive_avg_pool2d", {"output": [0, 1]}, r"output: expected at least 1; got \[0, 1\]"),
    ("dropout", {"p": 1.0, "site": 0}, r"p expected a number from 0 to below 1; got 1.0"),
    ("reshape", {"shape": [-1, -1]}, r"at most one -1; got \[-1, -1\]"),
    ("map", {"inputs": ["x"], "expr": ["add", "x", "z"]}, r"expression of x; got 'z'"),
    ("map", {"inputs": ["x"], "expr": ["ad", "x", "x"]}, r"unknown function 'ad'. Did you mean"),
    ("map", {"inputs": ["x", "x"], "expr": "x"}, r"different names"),
]


REST: dict[str, list[tuple[int, ...]]] = {
    "conv2d": [(4, 3, 3, 3)],
    "conv1d": [(4, 3, 3)],
    "conv_transpose2d": [(3, 4, 3, 3)],
    "batch_norm": [(3,)] * 4,
}


@pytest.mark.parametrize(("op", "attributes", "message"), BAD_OPTIONS)
def test_attributes_that_cannot_be(op: str, attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        x = (3, 8) if op == "conv1d" else (3, 8, 8)
        find_operation(op).shape(attributes, [x, *REST.get(op, [])])


def test_unknown_operations_and_labels() -> None:
    with pytest.raises(ModelError, match=r"unknown operation 'conv4d'. Did you mean 'conv"):
        find_operation("conv4d")
    with pytest.raises(ModelError, match="unknown operation 'conv2d:d'"):
        find_operation("conv2d:d")
    with pytest.raises(OptionError, match=r"conv2d:dz: expected an argument of conv2d; got 'z'"):
        find_operation("conv2d:dz").shape(CONV, [(4, 6, 6), (3, 8, 8), (4, 3, 3, 3)])
    with pytest.raises(DataError, match=r"labels from 0 to 2; got 3 for sample 1"):
        find_operation("cross_entropy").reference({}, [np.zeros((2, 3)), np.array([0, 3])])
