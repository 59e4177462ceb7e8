"""A small network and its arithmetic written out in NumPy, forward and back, for the tests.

conv 3×3 (1 → 3), ReLU, max pool 2, conv 2×2 (3 → 2), the same ReLU module again, linear to 4.
Nothing here reads striate's formulas: values and gradients are loops over the kernels' taps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import striate as st
from striate import interpret, nn

Array = NDArray[Any]
SHAPE = (1, 8, 8)
METHODS = [
    *(interpret.saliency, interpret.input_x_gradient, interpret.smoothgrad, interpret.occlusion),
    *(interpret.integrated_gradients, interpret.guided_backprop, interpret.deconvolution),
    *(interpret.grad_cam, interpret.guided_grad_cam),
]


class Net(nn.Module):
    """One ReLU module, called twice."""

    def __init__(self, softmax: bool = False) -> None:
        super().__init__()
        st.manual_seed(4)
        self.conv1, self.conv2 = nn.Conv2d(1, 3, 3), nn.Conv2d(3, 2, 2)
        self.relu, self.pool, self.fc = nn.ReLU(), nn.MaxPool2d(2), nn.Linear(8, 4)
        self.last = nn.Softmax(1) if softmax else nn.Identity()

    def forward(self, x: Any) -> Any:
        x = self.pool(self.relu(self.conv1(x)))
        x = self.relu(self.conv2(x))
        return self.last(self.fc(x.flatten(1)))


def images(count: int = 2) -> Array:
    return np.random.default_rng(7).normal(size=(count, *SHAPE)).astype(np.float32)


class Own:
    """The network's numbers for one image, in float64."""

    def __init__(self, net: Net, x: Array) -> None:
        self.w = {k: np.asarray(v, np.float64) for k, v in net.state_dict().items()}
        self.x = np.asarray(x, np.float64)
        self.a1 = _conv(self.x, self.w["conv1.weight"], self.w["conv1.bias"])
        self.h1 = np.maximum(self.a1, 0)
        tiles = self.h1.reshape(3, 3, 2, 3, 2).transpose(0, 1, 3, 2, 4).reshape(3, 3, 3, 4)
        self.switch, self.p1 = tiles.argmax(-1), tiles.max(-1)
        self.a2 = _conv(self.p1, self.w["conv2.weight"], self.w["conv2.bias"])
        self.h2 = np.maximum(self.a2, 0)
        self.scores = self.w["fc.weight"] @ self.h2.ravel() + self.w["fc.bias"]

    def to_h2(self, target: int) -> Array:
        """The gradient of a score to the last feature maps."""
        return self.w["fc.weight"][target].reshape(self.h2.shape)

    def back(self, gradient: Array, rule: str) -> Array:
        """From the last feature maps to the pixels, by a rule for ReLUs."""
        g = _through_relu(gradient, self.a2, rule)
        g = _conv_back(g, self.w["conv2.weight"])
        tiles = np.zeros((3, 3, 3, 4))
        np.put_along_axis(tiles, self.switch[..., None], g[..., None], -1)
        g = tiles.reshape(3, 3, 3, 2, 2).transpose(0, 1, 3, 2, 4).reshape(3, 6, 6)
        return _conv_back(_through_relu(g, self.a1, rule), self.w["conv1.weight"])

    def map(self, target: int, rule: str = "gradient") -> Array:
        return self.back(self.to_h2(target), rule)


def _through_relu(g: Array, before: Array, rule: str) -> Array:
    if rule == "deconvolution":
        return np.maximum(g, 0)
    return (np.maximum(g, 0) if rule == "guided" else g) * (before > 0)


def _conv(x: Array, w: Array, b: Array) -> Array:
    height, width = x.shape[1] - w.shape[2] + 1, x.shape[2] - w.shape[3] + 1
    y = np.tile(b[:, None, None], (1, height, width))
    for p in range(w.shape[2]):
        for q in range(w.shape[3]):
            y += np.einsum("oc,cij->oij", w[:, :, p, q], x[:, p : p + height, q : q + width])
    return y


def _conv_back(g: Array, w: Array) -> Array:
    height, width = g.shape[1:]
    x = np.zeros((w.shape[1], height + w.shape[2] - 1, width + w.shape[3] - 1))
    for p in range(w.shape[2]):
        for q in range(w.shape[3]):
            x[:, p : p + height, q : q + width] += np.einsum("oc,oij->cij", w[:, :, p, q], g)
    return x
