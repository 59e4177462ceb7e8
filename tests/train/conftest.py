"""A tiny problem that trains in milliseconds with the reference backend."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.train.run import Run

Pair = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


def make_net(dropout: float = 0.25) -> nn.Module:
    st.manual_seed(5)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Dropout(dropout), nn.Linear(12, 3)
    )


def make_data(samples: int = 45, seed: int = 1) -> Pair:
    """Three classes of 4×4 images, told apart by where they are bright."""
    rng = np.random.default_rng(seed)
    labels = np.arange(samples) % 3
    images = rng.normal(0, 0.3, (samples, 1, 4, 4))
    images[np.arange(samples), 0, labels] += 1
    return images.astype(np.float32), labels.astype(np.int64)


def weights(net: nn.Module) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in net.state_dict().items()}


@pytest.fixture
def tiny() -> SimpleNamespace:
    """The functions of this file, which tests cannot import."""
    return SimpleNamespace(make_net=make_net, make_data=make_data, weights=weights)


@pytest.fixture
def data() -> Pair:
    return make_data()


@pytest.fixture
def fit_tiny(data: Pair) -> Callable[..., tuple[nn.Module, Run]]:
    """Train the tiny net; every argument of `fit` may be given."""

    def run(**changes: Any) -> tuple[nn.Module, Run]:
        net = changes.pop("net", None) or make_net()
        samples = changes.pop("data", data)
        given = {"epochs": 3, "batch_size": 8, "progress": False, "backend": "reference"}
        return net, st.fit(net, samples, **{**given, **changes})

    return run
