"""Pooling, unpooling and resizing layers against PyTorch's: values and gradients in float64.

The layer is traced; its one operation is computed in float64 on the arrays that torch is given.
What torch refuses is to be refused here, and the other way round.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from striate import nn
from striate.errors import OptionError, ShapeError
from striate.formula.operations import find_operation
from striate.nn import functional as F

pytestmark = pytest.mark.peer
torch = pytest.importorskip("torch")
RANKS = some.integers(1, 3)
# What torch refuses though it could be: volumes smaller than the kernel, and padding of more than
# half of the kernel though not of the dilated window.
TORCH_ONLY = ("smaller than kernel size", "too large relative to input", "half of kernel size")
usual = settings(max_examples=30, deadline=None, derandomize=True)


def sizes(least: int, most: int, rank: int) -> Any:
    """A number, or one for each axis."""
    many = some.tuples(*[some.integers(least, most)] * rank)
    return some.one_of(some.integers(least, most), many)


def pooled(layer: nn.Module, x: Any) -> tuple[Any, Any]:
    """The value of a layer of one operation in float64, and its gradient for a fixed upstream."""
    (node,) = layer.to_graph(x.shape[1:]).steps
    operation = find_operation(node.op)
    value = operation.reference(node.attributes, [x])
    return value, operation.gradient(node.attributes, upstream(value), [x])[0]


def upstream(value: Any) -> Any:
    return np.random.default_rng(0).normal(size=value.shape)


def agree(layer: Any, peer: Any, x: Any, tolerance: float = 1e-11) -> None:
    """Both give the same, or both refuse."""
    tensor = torch.tensor(x, requires_grad=True)
    try:
        expected = peer(tensor)
        if not expected.numel():
            raise ValueError("an empty result, which is refused here")
    except (RuntimeError, ValueError, NotImplementedError, TypeError) as error:
        if any(sentence in str(error) for sentence in TORCH_ONLY):
            return
        with pytest.raises((OptionError, ShapeError), match="expected"):
            pooled(layer(), x)
        return
    value, slope = pooled(layer(), x)
    assert value.shape == tuple(expected.shape)
    np.testing.assert_allclose(value, expected.detach().numpy(), rtol=tolerance, atol=tolerance)
    if np.isneginf(value).any():
        return  # taps that miss a small image: torch sends the gradient to another channel
    expected.backward(torch.tensor(upstream(value)))
    np.testing.assert_allclose(slope, tensor.grad.numpy(), rtol=tolerance, atol=tolerance)


@some.composite
def windows(draw: Any) -> tuple[int, Any, dict[str, Any]]:
    rank = draw(RANKS)
    shape = (2, 2, *(draw(some.integers(1, 8 if rank < 3 else 5)) for _ in range(rank)))
    x = np.random.default_rng(draw(some.integers(0, 99))).normal(size=shape)
    keywords = {
        "kernel_size": draw(sizes(1, 4, rank)),
        "stride": draw(some.one_of(some.none(), sizes(1, 5, rank))),
        "padding": draw(sizes(0, 2, rank)),
        "ceil_mode": draw(some.booleans()),
    }
    return rank, x, keywords


@usual
@given(windows(), some.data())
def test_max_pool(case: Any, data: Any) -> None:
    rank, x, keywords = case
    keywords["dilation"] = data.draw(sizes(1, 3, rank))
    name = f"MaxPool{rank}d"
    agree(
        lambda: getattr(nn, name)(**keywords), lambda t: getattr(torch.nn, name)(**keywords)(t), x
    )


@usual
@given(windows(), some.booleans(), some.sampled_from([None, 3, -2]))
def test_avg_pool(case: Any, counted: bool, divisor: Any) -> None:
    rank, x, keywords = case
    keywords["count_include_pad"] = counted
    if rank > 1:
        keywords["divisor_override"] = divisor
    name = f"AvgPool{rank}d"
    agree(
        lambda: getattr(nn, name)(**keywords), lambda t: getattr(torch.nn, name)(**keywords)(t), x
    )


@usual
@given(windows(), some.sampled_from([1, 2, 3, 1.5, np.inf]))
def test_lp_pool(case: Any, norm: float) -> None:
    rank, x, keywords = case
    del keywords["padding"]
    if rank == 1 and isinstance(keywords["kernel_size"], tuple):
        keywords["kernel_size"] = keywords["kernel_size"][0]  # torch takes only a number
    name = f"LPPool{rank}d"
    if norm == np.inf:

        def layer() -> Any:
            return getattr(nn, name)(norm, **keywords)

        try:
            peer = getattr(torch.nn.functional, f"lp_pool{rank}d")(
                torch.tensor(x), norm, **keywords
            )
        except RuntimeError:
            return
        np.testing.assert_allclose(layer()(x.astype(np.float32)), peer.numpy(), rtol=1e-6)
        return
    x = np.abs(x) + 0.1 if norm != 2 else x  # else torch's powers and roots are NaN
    agree(
        lambda: getattr(nn, name)(norm, **keywords),
        lambda t: getattr(torch.nn, name)(norm, **keywords)(t),
        x,
    )


def test_lp_pool_of_negative_sums() -> None:
    x = np.array([[[-3.0, 1.0, 2.0, 2.0, 0.0, 0.0]]])
    value = pooled(nn.LPPool1d(3, 2), x)[0]
    expected = torch.nn.LPPool1d(3, 2)(torch.tensor(x)).numpy()
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    assert np.isnan(value[0, 0, 0])
    value, slope = pooled(nn.LPPool1d(3, 2, absolute=True), x)
    np.testing.assert_allclose(value, [[[28 ** (1 / 3), 16 ** (1 / 3), 0]]])
    assert np.isfinite(slope).all() and (slope[0, 0, 4:] == 0).all()


@usual
@given(RANKS, some.data())
def test_adaptive_pool(rank: int, data: Any) -> None:
    shape = (2, 2, *(data.draw(some.integers(1, 7)) for _ in range(rank)))
    whole = some.one_of(some.none(), some.integers(1, 9))
    single = some.integers(1, 5)
    size = data.draw(some.one_of(single, some.tuples(*[whole] * rank) if rank > 1 else single))
    x = np.random.default_rng(1).normal(size=shape)
    for name in (f"AdaptiveAvgPool{rank}d", f"AdaptiveMaxPool{rank}d"):
        agree(
            lambda k=name: getattr(nn, k)(size), lambda t, k=name: getattr(torch.nn, k)(size)(t), x
        )


@usual
@given(windows(), some.data())
def test_indices_and_unpooling(case: Any, data: Any) -> None:
    rank, x, keywords = case
    keywords["dilation"] = data.draw(sizes(1, 3, rank))
    name = f"MaxPool{rank}d"
    try:
        peer = getattr(torch.nn, name)(**keywords, return_indices=True)
        expected, places = peer(torch.tensor(x))
    except RuntimeError:
        return
    operation = find_operation("max_pool_indices")
    (node,) = getattr(nn, name)(**keywords).to_graph(x.shape[1:]).steps
    found = operation.reference(node.attributes, [x])
    if torch.isneginf(expected).any():
        return  # taps that miss a small image
    assert np.array_equal(found, places.numpy())
    if (
        np.ndim(keywords["dilation"])
        or keywords["dilation"] != 1
        or not _one_window_a_place(places)
    ):
        return
    _unpool(rank, keywords, x, expected, places)


def _one_window_a_place(places: Any) -> bool:
    flat = places.reshape(4, -1)
    return all(len(row.unique()) == row.numel() for row in flat)


def _unpool(rank: int, keywords: Any, x: Any, pooled_values: Any, places: Any) -> None:
    name = f"max_unpool{rank}d"
    settings = (keywords["kernel_size"], keywords["stride"], keywords["padding"])
    values = pooled_values.detach().requires_grad_()
    try:
        expected = getattr(torch.nn.functional, name)(values, places, *settings, x.shape[2:])
    except ValueError:
        return  # an image that torch cannot have come from these windows
    attributes = F_attributes(name, rank, values.detach().numpy(), places.numpy(), settings, x)
    operation = find_operation("max_unpool")
    arrays = [values.detach().numpy(), places.numpy().astype(float)]
    value = operation.reference(attributes, arrays)
    assert np.array_equal(value, expected.detach().numpy())
    expected.backward(torch.tensor(upstream(value)))
    slope = operation.gradient(attributes, upstream(value), arrays)[0]
    assert np.array_equal(slope, values.grad.numpy())


def F_attributes(name: str, rank: int, y: Any, places: Any, settings: Any, x: Any) -> Any:
    from striate.nn.pool_windows import unpool_attributes

    return unpool_attributes(name, rank, y, places, (*settings, 1), x.shape[2:])


@usual
@given(some.integers(2, 3), some.data())
def test_fractional_max_pool(rank: int, data: Any) -> None:
    shape = (1, 2, *(data.draw(some.integers(3, 9)) for _ in range(rank)))
    kernel = data.draw(sizes(1, 3, rank))
    size = data.draw(sizes(1, 6, rank))
    drawn = [data.draw(some.floats(0, 0.999)) for _ in range(rank)]
    samples = torch.tensor([[drawn, drawn]], dtype=torch.float64)
    x = np.random.default_rng(2).normal(size=shape)
    name = f"FractionalMaxPool{rank}d"
    agree(
        lambda: getattr(nn, name)(kernel, size, _random_samples=samples.numpy()),
        lambda t: getattr(torch.nn, name)(kernel, size, _random_samples=samples)(t),
        x,
    )


MODES = {
    1: ["nearest", "nearest-exact", "linear", "area"],
    2: ["nearest", "nearest-exact", "bilinear", "bicubic", "area"],
    3: ["nearest", "nearest-exact", "trilinear", "area"],
}


@settings(max_examples=60, deadline=None, derandomize=True)
@given(RANKS, some.data())
def test_interpolate(rank: int, data: Any) -> None:
    shape = (1, 2, *(data.draw(some.integers(1, 7)) for _ in range(rank)))
    mode = data.draw(some.sampled_from(MODES[rank]))
    keywords: dict[str, Any] = {"mode": mode}
    if mode in ("linear", "bilinear", "bicubic", "trilinear"):
        keywords["align_corners"] = data.draw(some.booleans())
    if mode in ("bilinear", "bicubic"):
        keywords["antialias"] = data.draw(some.booleans())
    if data.draw(some.booleans()):
        keywords["size"] = data.draw(sizes(1, 12, rank))
    else:
        # Where 1.3 leaves a size as it is, torch's gradient of some modes is not that of its value.
        torn = mode == "nearest" or keywords.get("antialias", False)
        factors = [0.4, 0.5, 0.75, 1.0, 2.0, 3.1, *([] if torn else [1.3])]
        keywords["scale_factor"] = data.draw(some.sampled_from(factors))
        keywords["recompute_scale_factor"] = data.draw(some.sampled_from([None, False, True]))
    x = np.random.default_rng(3).normal(size=shape)

    class Resized(nn.Module):
        def forward(self, x: Any) -> Any:
            return F.interpolate(x, **keywords)

    def peer(t: Any) -> Any:
        return torch.nn.functional.interpolate(t, **keywords)

    scale = keywords.get("scale_factor", 0)
    outputs = np.ravel(keywords.get("size", [int(n * scale) for n in shape[2:]]))
    if keywords.get("antialias", False) and 1 in outputs:
        return  # torch gives every row of an image of one column the first row's number
    agree(Resized, peer, x, 1e-10)


@usual
@given(some.data())
def test_unfold_and_fold(data: Any) -> None:
    x = np.random.default_rng(4).normal(
        size=(2, 2, *(data.draw(some.integers(1, 7)) for _ in "hw"))
    )
    given_sizes = [data.draw(sizes(1, 3, 2)), data.draw(sizes(1, 2, 2)), data.draw(sizes(0, 2, 2))]
    settings = (*given_sizes, data.draw(sizes(1, 3, 2)))
    agree(lambda: nn.Unfold(*settings), lambda t: torch.nn.Unfold(*settings)(t), x)
    try:
        columns = torch.nn.Unfold(*settings)(torch.tensor(x))
    except RuntimeError:
        return
    expected = torch.nn.Fold(x.shape[2:], *settings)(columns).numpy()
    reshape, node = nn.Fold(x.shape[2:], *settings).to_graph(columns.shape[1:]).steps
    folded = columns.numpy().reshape(len(x), *reshape.shape)
    found = find_operation("fold").reference(node.attributes, [folded])
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_shuffles(factor: int) -> None:
    x = np.random.default_rng(5).normal(size=(2, 36, 6, 12))
    for name, argument in (
        ("PixelShuffle", factor),
        ("PixelUnshuffle", factor),
        ("ChannelShuffle", 4),
    ):
        agree(
            lambda n=name, k=argument: getattr(nn, n)(k),
            lambda t, n=name, k=argument: getattr(torch.nn, n)(k)(t),
            x,
        )


LAYERS = [
    ("MaxPool1d", (3, 2, 1), (2, 3, 9)),
    ("MaxPool2d", (3, 2, 1, 1, False, True), (2, 3, 8, 7)),
    ("MaxPool3d", (2,), (1, 2, 4, 5, 6)),
    ("AvgPool1d", (3, 2, 1), (2, 3, 9)),
    ("AvgPool2d", (3, 2, 1, True), (2, 3, 8, 7)),
    ("AvgPool3d", (2, 1, 1, False, False), (1, 2, 4, 5, 6)),
    ("LPPool2d", (2, 3, 2), (2, 3, 8, 7)),
    ("AdaptiveMaxPool2d", ((3, 4),), (2, 3, 8, 7)),
    ("AdaptiveAvgPool3d", ((3, 4, 1),), (1, 2, 4, 5, 6)),
    ("Upsample", (None, 2.5), (2, 3, 5, 4)),
    ("Upsample", ((9, 3), None, "bicubic"), (2, 3, 5, 4)),
    ("UpsamplingBilinear2d", ((9, 3),), (2, 3, 5, 4)),
    ("UpsamplingNearest2d", ((9, 3),), (2, 3, 5, 4)),
    ("PixelShuffle", (2,), (2, 8, 3, 5)),
    ("Unfold", (2,), (2, 3, 4, 5)),
    ("Fold", ((4, 5), 2), (2, 12, 12)),
]


@pytest.mark.parametrize("k", range(len(LAYERS)))
def test_native_layers_in_float32(k: int) -> None:
    name, arguments, shape = LAYERS[k]
    x = np.random.default_rng(6).normal(size=shape).astype(np.float32)
    expected = getattr(torch.nn, name)(*arguments)(torch.tensor(x)).numpy()
    found = getattr(nn, name)(*arguments)(x)
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6)
    theirs = inspect_names(getattr(torch.nn, name))
    assert inspect_names(getattr(nn, name))[: len(theirs)] == theirs


def inspect_names(layer: Any) -> list[str]:
    """The names of a layer's arguments that may be given by position."""
    import inspect

    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD,)
    return [k for k, p in inspect.signature(layer).parameters.items() if p.kind in kinds]
