"""`conv(y) + y`: the sum must not be written over rows of y that the convolution still reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import striate as st
from striate import nn


class Block(nn.Module):
    """A convolution whose input is added to its output, behind another layer."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, channels, 1)
        self.norm = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Any) -> Any:
        y = nn.functional.relu(self.norm(self.first(x)))
        return nn.functional.relu(self.conv(y) + y)


@pytest.mark.parametrize("channels", [4, 32])
@pytest.mark.parametrize("count", [1, 20])
def test_output_and_gradients(channels: int, count: int) -> None:
    st.manual_seed(0)
    net = Block(channels).eval()
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 3, 9, 10)).astype("f4")
    up = rng.normal(size=(count, channels, 9, 10)).astype("f4")
    native, pull = st.vjp(net, x, to=["parameters", "input"])
    reference, expected = st.vjp(net, x, to=["parameters", "input"], backend="reference")
    np.testing.assert_allclose(native, reference, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(net(x), reference, rtol=1e-4, atol=1e-5)
    for name, gradient in expected(up).items():
        top = np.abs(gradient).max()
        np.testing.assert_allclose(pull(up)[name], gradient, rtol=1e-3, atol=1e-4 * top)
