"""Top-activating patches: the same as looking at every number of every image, and cut out right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.data import ArraySource
from striate.errors import DataError, ModelError, OptionError
from striate.interpret import deconvolution
from striate.interpret.patches import TopPatches, top_patches


def whole_numbers(seed: int = 0, count: int = 14) -> np.ndarray:
    return np.random.default_rng(seed).integers(-2, 3, (count, 2, 9, 8)).astype(np.float32)


def convolution(stride: int = 1, padding: int = 0, seed: int = 1) -> nn.Module:
    """Small whole numbers: sums are exact, and many of them are equal."""
    conv = nn.Conv2d(2, 3, (3, 2), stride=stride, padding=padding)
    random = np.random.default_rng(seed)
    for array in conv.state_dict().values():
        array[:] = random.integers(-2, 3, array.shape)
    return nn.Sequential(conv, nn.ReLU())


def every_number(
    net: nn.Module, images: np.ndarray, stride: int, padding: int
) -> dict[tuple[int, int, int, int], float]:
    """Each unit's number at each place of each image, by loops; with (unit, n, i, j)."""
    weight, bias = (net.state_dict()[f"0.{name}"].astype(float) for name in ("weight", "bias"))
    wide = np.pad(images, ((0, 0), (0, 0), (padding,) * 2, (padding,) * 2)).astype(float)
    found = {}
    for n, image in enumerate(wide):
        for i in range((image.shape[1] - 3) // stride + 1):
            for j in range((image.shape[2] - 2) // stride + 1):
                piece = image[:, i * stride : i * stride + 3, j * stride : j * stride + 2]
                for u in range(3):
                    value = float((piece * weight[u]).sum() + bias[u])
                    found[u, n, i, j] = max(value, 0.0)
    return found


def by_brute_force(
    numbers: dict[tuple[int, int, int, int], float], unit: int, k: int, one: bool
) -> list[tuple[float, int, int, int]]:
    ranked = sorted((-v, n, i, j) for (u, n, i, j), v in numbers.items() if u == unit)
    if one:
        ranked = [r for m, r in enumerate(ranked) if r[1] not in {q[1] for q in ranked[:m]}]
    return [(-v, n, i, j) for v, n, i, j in ranked[:k]]


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 0), (1, 1), (2, 1), (3, 2)])
@pytest.mark.parametrize("one", [True, False])
def test_it_is_brute_force_over_all_places(stride, padding, one):
    images, net = whole_numbers(), convolution(stride, padding)
    found = top_patches(net, images, "1", k=5, one_per_image=one, outside=9.0, batch_size=4)
    numbers = every_number(net, images, stride, padding)
    wide = np.pad(images, ((0, 0), (0, 0), (4, 4), (4, 4)), constant_values=9.0)
    for unit in range(3):
        wanted = by_brute_force(numbers, unit, 5, one)
        given = [
            (float(score), *(int(v) for v in at))
            for score, at in zip(found.scores[unit], found.where[unit], strict=True)
        ]
        assert given == wanted
        for k, (_, n, i, j) in enumerate(wanted):
            top, left = i * stride - padding, j * stride - padding
            assert found.boxes[unit, k].tolist() == [top, left, top + 3, left + 2]
            patch = wide[n, :, top + 4 : top + 7, left + 4 : left + 6]
            np.testing.assert_array_equal(found.patches[unit, k], patch)


def equal(a: TopPatches, b: TopPatches) -> None:
    for name in ("scores", "where", "boxes", "patches"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


def test_neither_batches_nor_threads_nor_other_units_change_it():
    images, net = whole_numbers(3, 40), convolution(2, 1)
    first = top_patches(net, images, "1", k=7)
    for size in (1, 3, 40):
        equal(top_patches(net, images, "1", k=7, batch_size=size), first)
    st.set_num_threads(1)
    equal(top_patches(net, images, "1", k=7), first)
    some = top_patches(net, images, "1", [2, 0], k=7)
    assert some.units == (2, 0)
    np.testing.assert_array_equal(some.where, first.where[[2, 0]])
    np.testing.assert_array_equal(top_patches(net, images, "1", 1, k=7).where, first.where[[1]])


def test_deconvolutions_are_those_of_the_method_cut_out():
    st.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 2), nn.ReLU()
    )
    images = np.random.default_rng(5).normal(size=(20, 2, 9, 8)).astype(np.float32)
    found = top_patches(net, images, "4", k=3, deconvolve=True)
    assert found.deconvolutions is not None
    assert found.deconvolutions.shape == found.patches.shape == (3, 3, 2, 6, 6)
    for u in range(3):
        for k in range(3):
            n, i, j = (int(v) for v in found.where[u, k])
            top, left, bottom, right = found.boxes[u, k]
            whole = deconvolution(net, images[n], (u, i, j), layer="4")[0]
            cut = whole[:, top:bottom, left:right]
            np.testing.assert_allclose(found.deconvolutions[u, k], cut, atol=1e-6)
            outside = whole.copy()
            outside[:, top:bottom, left:right] = 0
            assert not outside.any()  # the receptive field holds all that the unit reads


def test_a_layer_without_space_shows_whole_images_and_labels():
    st.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 6 * 6, 4))
    random = np.random.default_rng(0)
    images = random.random((30, 1, 8, 8)).astype(np.float32)
    labels = random.integers(0, 3, 30)
    found = top_patches(net, (images, labels), "2", k=4)
    assert found.where.shape == (4, 4, 1)
    values = net(images)
    for unit in range(4):
        order = np.argsort(-values[:, unit])[:4]
        np.testing.assert_array_equal(found.where[unit, :, 0], order)
        np.testing.assert_array_equal(found.patches[unit], images[order])
        np.testing.assert_array_equal(found.labels[unit], labels[order])
    assert found.classes == ("0", "1", "2")
    assert found.boxes[0, 0].tolist() == [0, 0, 8, 8]


def test_a_field_as_large_as_the_image_shows_it_once():
    net = nn.Sequential(nn.Conv2d(2, 2, 7, padding=3), nn.Conv2d(2, 1, 5, padding=2))
    found = top_patches(net, whole_numbers(), "1", k=2)  # 11×11 on images of 9×8
    assert found.patches.shape == (1, 2, 2, 9, 8)
    np.testing.assert_array_equal(found.patches[0, 0], whole_numbers()[found.where[0, 0, 0]])


def test_the_network_sees_what_prepare_makes_and_patches_show_the_data():
    images, net = whole_numbers(), convolution()
    scaled = top_patches(net, images, "1", k=3, prepare=lambda x: 2 * x - 1)
    plain = top_patches(net, 2 * images - 1, "1", k=3)
    np.testing.assert_array_equal(scaled.where, plain.where)
    np.testing.assert_array_equal(scaled.scores, plain.scores)
    np.testing.assert_array_equal(2 * scaled.patches - 1, plain.patches)


def test_bytes_are_scaled_as_everywhere_and_few_images_give_few_patches():
    bytes_ = np.random.default_rng(0).integers(0, 256, (3, 2, 9, 8), np.uint8)
    found = top_patches(convolution(), bytes_, "1", k=9)
    assert found.patches.shape == (3, 3, 2, 3, 2)
    assert found.patches.max() <= 1
    assert found.labels is None
    listed = found.to_dict()["units"][2]
    assert listed["unit"] == 2
    assert listed["patches"][0]["score"] == found.scores[2, 0]
    assert listed["patches"][0]["at"] == found.where[2, 0, 1:].tolist()


def test_progress_counts_images():
    told: list[tuple[int, int]] = []
    top_patches(
        convolution(),
        whole_numbers(),
        "1",
        batch_size=5,
        progress=lambda done, all_: told.append((done, all_)),
    )
    assert told == [(5, 14), (10, 14), (14, 14)]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"layer": "7"}, ModelError, "unknown layer '7'"),
        ({"units": [3]}, OptionError, r"units from 0 to 2 in '1', shape \(3, 7, 7\); got 3"),
        ({"units": []}, OptionError, r"whole numbers; got \[\]"),
        ({"units": 0.5}, OptionError, "whole numbers; got 0.5"),
        ({"k": 0}, OptionError, "k to be a whole number of at least 1; got k=0"),
        ({"batch_size": 0}, OptionError, "batch_size to be a whole number of at least 1"),
        ({"data": np.zeros((0, 2, 9, 8))}, DataError, "got 0 of shape"),
        ({"data": np.zeros((5, 8))}, DataError, r"images \(n, c, h, w\)"),
        ({"prepare": lambda x: x[:, :1]}, DataError, "expected prepare to keep the shape"),
    ],
)
def test_what_cannot_be(options: dict[str, Any], error, message):
    given = {"data": whole_numbers(), "layer": "1", **options}
    with pytest.raises(error, match=message):
        top_patches(convolution(), **given)


def test_damaged_weights_are_told():
    net = convolution()
    net.state_dict()["0.bias"][1] = np.nan
    with pytest.raises(ModelError, match="got nan in channel 1 for sample 0"):
        top_patches(net, whole_numbers(), "0")


def test_patches_that_would_not_fit_are_refused(monkeypatch):
    monkeypatch.setattr("striate.interpret.patches._MOST_RESULT", 100)
    with pytest.raises(OptionError, match=r"3 units × 9 patches of shape \(2, 3, 2\)\. Name fewer"):
        top_patches(convolution(), whole_numbers(), "1")


def test_any_source_will_do():
    images = whole_numbers()
    source = ArraySource(images, np.arange(14.0))
    found = top_patches(convolution(), source.subset([3, 1, 8]), "1", k=2)
    plain = top_patches(convolution(), images[[3, 1, 8]], "1", k=2)
    equal(found, plain)
