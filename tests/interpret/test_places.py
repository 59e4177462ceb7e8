"""Maps that say where: Grad-CAM and occlusion against their definitions, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import striate as st
from striate import interpret, nn
from striate.errors import ModelError, OptionError, ShapeError
from striate.interpret.batches import pieces
from tests.interpret.own_net import SHAPE, Net, Own, images

X = images(2)


def cam_of(own: Own, target: int) -> Any:
    weights = own.to_h2(target).mean((1, 2))
    return np.einsum("k,kij->ij", weights, own.h2)


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_grad_cam_weights_the_feature_maps(backend: str) -> None:
    net = Net()
    own = np.stack([cam_of(Own(net, x), 3) for x in X])
    signed = interpret.grad_cam(net, X, 3, upsample=False, positive=False, backend=backend)
    assert signed.shape == (2, 1, 2, 2) and own.min() < 0
    np.testing.assert_allclose(signed[:, 0], own, rtol=1e-4, atol=1e-6)
    positive = interpret.grad_cam(net, X, 3, upsample=False, backend=backend)
    np.testing.assert_allclose(positive[:, 0], np.maximum(own, 0), rtol=1e-4, atol=1e-6)


def test_grad_cam_is_brought_to_the_images_size() -> None:
    """Places of 2×2 maps lie at pixels 1.5 and 5.5 of 8; between them it is linear."""
    net = Net()
    small = interpret.grad_cam(net, X, 3, upsample=False, positive=False).astype("f8")
    at = np.clip((np.arange(8) - 1.5) / 4, 0, 1)
    along = np.stack([1 - at, at])
    expected = np.einsum("pi,ncpq,qj->ncij", along, small, along)
    found = interpret.grad_cam(net, X, 3, positive=False)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_grad_cam_of_any_layer() -> None:
    """Of an inner layer the gradient is mean over its places, here from the own arithmetic."""
    net = Net()
    assert interpret.grad_cam(net, X, 3, features="pool", upsample=False).shape == (2, 1, 3, 3)
    np.testing.assert_array_equal(
        interpret.grad_cam(net, X, 3), interpret.grad_cam(net, X, 3, features="relu_1")
    )


def test_guided_grad_cam_is_the_product() -> None:
    net = Net()
    product = interpret.guided_backprop(net, X) * interpret.grad_cam(net, X)
    np.testing.assert_allclose(interpret.guided_grad_cam(net, X), product, rtol=1e-5)


def test_grad_cam_of_a_place_of_a_map_of_classes() -> None:
    """A fully convolutional network: the target is a place, the features are before it."""
    st.manual_seed(3)
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 3))
    found = interpret.grad_cam(net, X, (1, 0, 3), upsample=False, positive=False)
    maps = np.maximum(np.asarray(net[0](X), np.float64), 0)
    weights = np.asarray(net[2].weight.data, np.float64)[1].sum((1, 2)) / 36
    np.testing.assert_allclose(found[:, 0], np.einsum("k,nkij->nij", weights, maps), rtol=1e-4)


@pytest.mark.parametrize("method", [interpret.grad_cam, interpret.guided_grad_cam])
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"features": "conv3"}, ModelError, r"unknown layer 'conv3'"),
        ({"features": "fc"}, OptionError, r"h·w > 1; got 'fc' with shape \(4,\)\. .*'relu_1'"),
        ({"layer": "conv1"}, OptionError, r"cam: .*before 'conv1'; got none"),
        (
            {"layer": "pool", "features": "conv2"},
            OptionError,
            r"a layer before 'pool'; got 'conv2'",
        ),
    ],
)
def test_layers_that_grad_cam_cannot_take(
    method: Any, options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        method(Net(), X, **options)


# ---- occlusion -------------------------------------------------------------------------------


def occluded(net: Net, x: Any, target: int, windows: Any, cover: Any) -> Any:
    """The mean fall over windows, each run by itself."""
    total, count = np.zeros(SHAPE[1:]), np.zeros(SHAPE[1:])
    whole = Own(net, x).scores[target]
    for rows, columns in windows:
        covered = x.copy()
        covered[:, rows, columns] = cover
        total[rows, columns] += whole - Own(net, covered).scores[target]
        count[rows, columns] += 1
    return total / count


def windows_of(side: int, starts: Any) -> Any:
    return [(slice(a, a + side), slice(b, b + side)) for a in starts for b in starts]


@pytest.mark.parametrize(
    ("side", "stride", "starts"),
    [(4, 2, (0, 2, 4)), (3, 3, (0, 3, 6)), (8, 1, (0,)), (4, None, (0, 2, 4)), (1, 1, range(8))],
)
def test_occlusion_is_the_mean_fall_of_the_score(side: int, stride: Any, starts: Any) -> None:
    net = Net()
    own = [occluded(net, x, 2, windows_of(side, starts), 0.5) for x in X]
    found = interpret.occlusion(net, X, 2, window=side, stride=stride, baseline=0.5, batch=7)
    assert found.shape == (2, 1, 8, 8)
    np.testing.assert_allclose(found[:, 0], own, rtol=1e-3, atol=1e-5)


def test_occlusion_with_other_baselines() -> None:
    net, mean = Net(), X.mean(axis=0)
    own = occluded(net, X[0], 1, windows_of(8, (0,)), mean)
    found = interpret.occlusion(net, X[0], 1, window=(8, 8), baseline=mean)
    np.testing.assert_allclose(found[0, 0], own, rtol=1e-4)
    channel = interpret.occlusion(net, X, 1, window=4, baseline=[0.5])
    np.testing.assert_array_equal(channel, interpret.occlusion(net, X, 1, window=4, baseline=0.5))


def test_a_window_that_is_oblong() -> None:
    found = interpret.occlusion(Net(), X, 1, window=(8, 2), stride=(8, 2))
    assert (found == found[:, :, :1]).all() and len(np.unique(found[0])) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 9}, r"expected a window of at most the image's size \(8, 8\); got window=9"),
        ({"window": 2, "stride": 3}, r"a stride of at most the window.*stride=3, window=2"),
        ({"window": 0}, r"expected window to be a whole number of at least 1; got window=0"),
        ({"window": (2, 2, 2)}, r"expected one window or 2, one for each axis of space"),
        ({"baseline": [0, 1]}, r"expected a baseline .* got shape \(2,\)"),
    ],
)
def test_options_of_occlusion(options: Any, message: str) -> None:
    with pytest.raises((OptionError, ShapeError), match=rf"occlusion: .*{message}"):
        interpret.occlusion(Net(), X, **options)


def test_occlusion_needs_space() -> None:
    net = nn.Sequential(nn.Linear(4, 2))
    with pytest.raises(OptionError, match=r"expected samples with space \(c, h, w\); got .*\(4,\)"):
        interpret.occlusion(net, np.zeros((2, 4)))


@pytest.mark.parametrize(("count", "most"), [(10, 4), (1, 9), (0, 3), (65, 32), (8, 4)])
def test_pieces_are_even_and_whole(count: int, most: int) -> None:
    found = list(pieces(count, most))
    assert [k for piece in found for k in piece] == list(range(count))
    sizes = [len(piece) for piece in found]
    assert len(found) == -(-count // most) and (not sizes or max(sizes) - min(sizes) <= 1)
    assert not sizes or max(sizes) <= most
