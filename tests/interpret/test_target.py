"""What `target` and `layer` mean, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.errors import ModelError, OptionError
from striate.inspect.probe import Probe
from striate.interpret.target import Target, at_places, one_hot, scores_layer


def probe(*tail: nn.Module) -> Probe:
    st.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(1, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4), *tail)
    return Probe(net, (1, 3, 3), where="saliency")


X = np.random.default_rng(0).normal(size=(2, 1, 3, 3)).astype("f4")


@pytest.mark.parametrize(
    "tail", [(nn.Softmax(1),), (nn.LogSoftmax(1),), (nn.Softmax(1), nn.Unflatten(1, (2, 2)))]
)
def test_scores_are_taken_before_a_last_softmax(tail: tuple[nn.Module, ...]) -> None:
    assert scores_layer(probe(*tail).graph) == "3"


def test_scores_are_the_output_where_there_is_no_softmax() -> None:
    assert scores_layer(probe().graph) == "3"
    assert scores_layer(probe(nn.Softmax(1), nn.ReLU()).graph) == "5"
    assert scores_layer(Probe(nn.Softmax(1), (3,)).graph) == Probe(nn.Softmax(1), (3,)).output


VALUES = np.array([[0.0, 2.0, 1.0, -1.0], [3.0, 0.0, 0.0, 9.0]])


@pytest.mark.parametrize(
    ("target", "places"),
    [
        (None, [[1], [3]]),
        (2, [[2], [2]]),
        (np.int64(2), [[2], [2]]),
        ((2,), [[2], [2]]),
        ([2, 0], [[2], [0]]),
        (np.array([2, 0]), [[2], [0]]),
        ([(2,), None], [[2], [3]]),
    ],
)
def test_targets_in_the_scores(target: Any, places: list[list[int]]) -> None:
    found = Target(probe(), target, count=2)
    np.testing.assert_array_equal(found.places(VALUES), places)
    up = found.upstream(VALUES.astype("f4"))
    assert up.sum() == 2 and (up[np.arange(2), np.ravel(places)] == 1).all()


def test_targets_in_a_layer_with_space() -> None:
    """A number is a channel, at its greatest place; a tuple is a place."""
    here = probe()
    values = here.values(X, ["1"])["1"]
    whole = Target(here, None, count=2, layer="1").places(values)
    np.testing.assert_array_equal(at_places(values, whole), values.max((1, 2, 3)))
    channel = Target(here, 2, count=2, layer="1").resolved(X)
    assert (channel[:, 0] == 2).all()
    np.testing.assert_array_equal(at_places(values, channel), values[:, 2].max((1, 2)))
    place = Target(here, (2, 1, 0), count=2, layer="1")
    assert place.known and not Target(here, 2, count=2, layer="1").known
    np.testing.assert_array_equal(place.places(), [[2, 1, 0]] * 2)
    both = Target(here, [(0, 1, 1), (2, 0, 0)], count=2, layer="1")
    np.testing.assert_array_equal(both.resolved(X), [[0, 1, 1], [2, 0, 0]])


def test_a_class_of_an_output_with_one_place() -> None:
    """As nets have it that end with global pooling: scores (classes, 1, 1)."""
    net = nn.Sequential(nn.Conv2d(1, 3, 2), nn.AdaptiveAvgPool2d(1))
    found = Target(Probe(net, (1, 3, 3)), 2, count=1)
    assert found.known
    np.testing.assert_array_equal(found.places(), [[2, 0, 0]])


def test_one_hot_and_back() -> None:
    places = np.array([[0, 1], [1, 0]])
    up = one_hot(places, (2, 2))
    np.testing.assert_array_equal(up, [[[0, 1], [0, 0]], [[0, 0], [1, 0]]])
    np.testing.assert_array_equal(at_places(up, places), [1, 1])


@pytest.mark.parametrize(
    ("target", "layer", "message"),
    [
        (4, None, r"saliency: expected target to be a class in the output of '3', shape \(4,\) "),
        (-1, None, r"\(0…3\); got -1"),
        (1.0, None, r"\(0…3\); got 1\.0"),
        ("cat", None, r"got 'cat'"),
        ([1, 2, 3], None, r"expected one target for each of 2 images; got 3: \[1, 2, 3\]"),
        ((0, 1), None, r"expected a place \(0…3\) in the output of '3', shape \(4,\); got \(0, 1"),
        ((3, 0, 0), "1", r"expected a place \(0…2, 0…1, 0…1\) .* got \(3, 0, 0\)"),
        ((0.5, 0, 0), "1", r"a channel or a place \(c, …\).*got \(0\.5, 0, 0\)"),
    ],
)
def test_targets_that_are_refused(target: Any, layer: str | None, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Target(probe(), target, count=2, layer=layer)


def test_an_unknown_layer_lists_the_layers() -> None:
    with pytest.raises(ModelError, match=r"saliency: unknown layer 'conv'\. There is: 0, 1, 2, 3"):
        Target(probe(), count=1, layer="conv")
