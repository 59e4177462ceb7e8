"""Saliency: the gradient of a score to the image, and its product with the image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from striate.errors import OptionError, suggest
from striate.inspect.one_input import OneInput
from striate.inspect.probe import Probe
from striate.interpret.target import Float32, Target, look_at
from striate.nn.module import Module

_CHANNELS = ("all", "largest")


def saliency(
    net: Module | OneInput,
    x: ArrayLike,
    target: Any = None,
    *,
    layer: str | None = None,
    absolute: bool = True,
    channels: str = "all",
    backend: str | None = None,
) -> Float32:
    """How much a score changes with each pixel: `|∂ score/∂ x[n,c,i,j]|`.

    Args:
        net: the network, in any mode; it is read as it is in evaluation.
        x: images (n, c, h, w), or one (c, h, w).
        target: which number: see `striate.interpret.target`. By default each image's greatest
            score.
        layer: the layer that the target lies in; by default the scores, before a last softmax.
        absolute: whether the magnitude is taken; without it the gradient itself is given.
        channels: "all" gives a map for each channel, "largest" one map: of each pixel the channel
            whose magnitude is greatest, as in the paper.
        backend: "native" or "reference"; by default the one in force.
    Returns:
        (n, c, h, w), or (n, 1, h, w) with channels="largest".
    Raises:
        ModelError: there is no such layer.
        OptionError: a target outside the layer, or another word for `channels`.
        ShapeError: the images do not fit the network.
    Source: K. Simonyan, A. Vedaldi, A. Zisserman: Deep inside convolutional networks. 2013,
        arXiv:1312.6034.

    >>> from striate import nn
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(2, 1, bias=False))
    >>> net[1].weight.data[...] = [[3.0, -4.0]]
    >>> saliency(net, np.ones((1, 1, 1, 2)))
    array([[[[3., 4.]]]], dtype=float32)
    """
    if channels not in _CHANNELS:
        raise OptionError(
            f"saliency: unknown channels={channels!r}. {suggest(channels, _CHANNELS)}"
        )
    probe, batch = look_at("saliency", net, x, backend)
    gradient = input_gradient(probe, batch, Target(probe, target, count=len(batch), layer=layer))
    if channels == "largest":
        most = np.abs(gradient).argmax(axis=1, keepdims=True)
        gradient = np.take_along_axis(gradient, most, axis=1)
    return np.abs(gradient) if absolute else gradient


def input_x_gradient(
    net: Module | OneInput,
    x: ArrayLike,
    target: Any = None,
    *,
    layer: str | None = None,
    backend: str | None = None,
) -> Float32:
    """The image times the gradient, `x · ∂ score/∂ x`: what each pixel adds to a linear score.

    Args:
        net: the network, in any mode.
        x: images (n, c, h, w), or one (c, h, w).
        target: which number: see `striate.interpret.target`.
        layer: the layer that it lies in; by default the scores, before a last softmax.
        backend: "native" or "reference".
    Returns:
        (n, c, h, w).
    Raises:
        ModelError, OptionError, ShapeError: as for `saliency`.
    Source: A. Shrikumar, P. Greenside, A. Shcherbina, A. Kundaje: Not just a black box. 2016,
        arXiv:1605.01713.

    >>> from striate import nn
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(2, 1, bias=False))
    >>> net[1].weight.data[...] = [[3.0, -4.0]]
    >>> input_x_gradient(net, np.array([[[[2.0, 1.0]]]]))
    array([[[[ 6., -4.]]]], dtype=float32)
    """
    probe, batch = look_at("input_x_gradient", net, x, backend)
    aim = Target(probe, target, count=len(batch), layer=layer)
    return batch * input_gradient(probe, batch, aim)


def input_gradient(probe: Probe, batch: Float32, aim: Target, relu: str = "gradient") -> Float32:
    """The gradient of each image's target to the image, (n, c, h, w).

    Args:
        probe: the network.
        batch: (n, c, h, w).
        aim: the targets.
        relu: what goes back through ReLUs.
    """
    return probe.gradient(batch, aim.layer, aim.upstream, relu=relu)[1]
