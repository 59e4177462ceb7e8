"""Other things than the gradient sent back through ReLUs: guided backpropagation, deconvolution."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from striate.errors import OptionError
from striate.formula.activation import is_relu
from striate.inspect.one_input import OneInput
from striate.inspect.probe import Probe
from striate.interpret.saliency import input_gradient
from striate.interpret.target import Float32, Target, look_at
from striate.nn.module import Module


def guided_backprop(
    net: Module | OneInput,
    x: ArrayLike,
    target: Any = None,
    *,
    layer: str | None = None,
    backend: str | None = None,
) -> Float32:
    """The gradient, with negative parts left out at every ReLU: `max(g, 0)` where its input is > 0.

    It draws what is in the image more than what the class depends on: it hardly changes when the
    upper layers' weights are randomised (see `randomization_test`).

    Args:
        net: the network, in any mode.
        x: images (n, c, h, w), or one (c, h, w).
        target: which number: see `striate.interpret.target`.
        layer: the layer that it lies in; by default the scores, before a last softmax.
        backend: "native" or "reference".
    Returns:
        (n, c, h, w), signed.
    Raises:
        ModelError, OptionError, ShapeError: as for `saliency`; also where there is no ReLU.
    Source: J. T. Springenberg, A. Dosovitskiy, T. Brox, M. Riedmiller: Striving for simplicity: the
        all convolutional net. 2014, arXiv:1412.6806.

    >>> import numpy as np
    >>> from striate import nn
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(1, 2, False), nn.ReLU(), nn.Linear(2, 1, False))
    >>> net[1].weight.data[...], net[3].weight.data[...] = [[1.0], [2.0]], [[-1.0, 4.0]]
    >>> guided_backprop(net, np.ones((1, 1, 1, 1))).item()  # the gradient is 2·4 − 1·1 = 7
    8.0
    """
    probe, batch = look_at("guided_backprop", net, x, backend)
    return rectified(probe, batch, Target(probe, target, count=len(batch), layer=layer), "guided")


def deconvolution(
    net: Module | OneInput,
    x: ArrayLike,
    target: Any = None,
    *,
    layer: str | None = None,
    backend: str | None = None,
) -> Float32:
    """What in the image a unit answers to: a 1 at the unit, sent back to the pixels.

    Back through a convolution by its transpose, through max pooling to the places whose maxima were
    taken (the switches that the image has set), through a ReLU by `max(g, 0)`, whatever its input
    was.

    Args:
        net: the network, in any mode.
        x: images (n, c, h, w), or one (c, h, w).
        target: which unit: see `striate.interpret.target`. In a layer with space a number is a
            channel, at the place where it is greatest.
        layer: the unit's layer; by default the scores, before a last softmax.
        backend: "native" or "reference".
    Returns:
        (n, c, h, w), signed.
    Raises:
        ModelError, OptionError, ShapeError: as for `saliency`; also where there is no ReLU.
    Source: M. D. Zeiler, R. Fergus: Visualizing and understanding convolutional networks. 2013,
        arXiv:1311.2901.

    >>> import numpy as np
    >>> from striate import nn
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(1, 2, False), nn.ReLU(), nn.Linear(2, 1, False))
    >>> net[1].weight.data[...], net[3].weight.data[...] = [[-1.0], [2.0]], [[3.0, 4.0]]
    >>> deconvolution(net, np.ones((1, 1, 1, 1))).item()  # 3·(−1) though that ReLU is off, 4·2
    5.0
    """
    probe, batch = look_at("deconvolution", net, x, backend)
    aim = Target(probe, target, count=len(batch), layer=layer)
    return rectified(probe, batch, aim, "deconvolution")


def rectified(probe: Probe, batch: Float32, aim: Target, rule: str) -> Float32:
    """What comes back at the pixels from each image's target by a rule for ReLUs, (n, c, h, w).

    Before the first ReLU that is the gradient.

    Raises:
        OptionError: the network has no ReLU.
    """
    if not any(node.op == "map" and is_relu(node.attributes) for node in probe.graph.steps):
        raise OptionError(
            f"{probe.where}: expected a network with a ReLU, for it only differs from the gradient "
            "there; got none. Use saliency."
        )
    return input_gradient(probe, batch, aim, rule)
