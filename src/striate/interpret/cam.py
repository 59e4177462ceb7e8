"""Grad-CAM: feature maps weighted by what each of them does for a class."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from striate.errors import OptionError
from striate.inspect.one_input import OneInput
from striate.inspect.probe import Probe
from striate.interpret.guided import rectified
from striate.interpret.target import Float32, Target, look_at
from striate.nn.functional import interpolate
from striate.nn.module import Module

_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def grad_cam(
    net: Module | OneInput,
    x: ArrayLike,
    target: Any = None,
    *,
    layer: str | None = None,
    features: str | None = None,
    positive: bool = True,
    upsample: bool = True,
    backend: str | None = None,
) -> Float32:
    """Where in an image the evidence for a class lies: `max(Σ_k a_k · A[n,k,i,j], 0)`.

    A are the maps of the layer `features`, and a_k = mean over i, j of ∂ score/∂ A[n,k,i,j].

    Args:
        net: the network, in any mode.
        x: images (n, c, h, w), or one (c, h, w).
        target: which number: see `striate.interpret.target`.
        layer: the layer that it lies in; by default the scores, before a last softmax.
        features: the layer whose maps are weighted; by default the last with space (more than one
            place) before the target's layer.
        positive: whether negative sums are set to 0, as in the paper.
        upsample: whether the map is brought to the size of the image, by linear interpolation.
        backend: "native" or "reference".
    Returns:
        (n, 1, h, w); without `upsample` of the size of the feature maps.
    Raises:
        ModelError, OptionError, ShapeError: as for `saliency`; also a layer without space, or one
            that the target does not depend on.
    Source: R. R. Selvaraju, M. Cogswell, A. Das, R. Vedantam, D. Parikh, D. Batra: Grad-CAM: visual
        explanations from deep networks via gradient-based localization. 2016, arXiv:1610.02391.

    >>> from striate import nn
    >>> net = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))
    >>> net[3].weight.data[...] = [[4.0], [-4.0]]
    >>> grad_cam(net, np.array([[[[1.0, 2.0], [0.0, -1.0]]]]), 0)[0, 0].tolist()
    [[1.0, 2.0], [0.0, 0.0]]
    """
    probe, batch = look_at("grad_cam", net, x, backend)
    aim = Target(probe, target, count=len(batch), layer=layer)
    found = _weighted(probe, batch, aim, features)
    if positive:
        found = np.maximum(found, 0)
    return _resized(found, batch.shape[2:]) if upsample else found


def guided_grad_cam(
    net: Module | OneInput,
    x: ArrayLike,
    target: Any = None,
    *,
    layer: str | None = None,
    features: str | None = None,
    backend: str | None = None,
) -> Float32:
    """Guided backpropagation where Grad-CAM sees the class: the product of both maps.

    Args:
        net, x, target, layer, features, backend: as for `grad_cam`.
    Returns:
        (n, c, h, w), signed.
    Raises:
        ModelError, OptionError, ShapeError: as for `grad_cam` and `guided_backprop`.
    Source: R. R. Selvaraju and others, as for `grad_cam`.

    >>> from striate import nn
    >>> net = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))
    >>> net[3].weight.data[...] = [[4.0], [-4.0]]
    >>> guided_grad_cam(net, np.array([[[[1.0, 2.0], [0.0, -1.0]]]]), 0)[0, 0].tolist()
    [[1.0, 2.0], [0.0, 0.0]]
    """
    probe, batch = look_at("guided_grad_cam", net, x, backend)
    aim = Target(probe, target, count=len(batch), layer=layer).fixed(batch)
    maps = np.maximum(_weighted(probe, batch, aim, features), 0)
    guided: Float32 = rectified(probe, batch, aim, "guided") * _resized(maps, batch.shape[2:])
    return guided


def _weighted(probe: Probe, batch: Float32, aim: Target, features: str | None) -> Float32:
    """The sum of the feature maps with their weights, (n, 1, *space of the layer)."""
    name = features_layer(probe, aim.layer, features)
    passage = probe.start(batch, aim.layer, [name], also=[name])
    maps = passage.values[name]
    gradient = passage.pull({aim.layer: aim.upstream(passage.values[aim.layer])})[name]
    weights = gradient.mean(axis=tuple(range(2, maps.ndim)), keepdims=True)
    return np.asarray((weights * maps).sum(axis=1, keepdims=True), np.float32)


def _resized(maps: Float32, size: tuple[int, ...]) -> Float32:
    """Maps (n, 1, …) in another size, by linear interpolation."""
    if maps.shape[2:] == size or not len(maps):
        return maps.reshape(len(maps), 1, *size)
    return interpolate(maps, size=size, mode=_LINEAR[len(size)], align_corners=False)


def features_layer(probe: Probe, layer: str, features: str | None = None) -> str:
    """The layer whose maps Grad-CAM weights: the last with space before `layer`, or the one named.

    Raises:
        ModelError: there is no such layer.
        OptionError: it has no space, `layer` does not depend on it, or there is none with space.
    """
    graph, where = probe.graph, probe.where
    before = [node for node in graph.pruned([layer]).steps if node.batched and node.name != layer]
    spatial = [node.name for node in before if _has_space(probe, node.shape)]
    if features is None:
        if not spatial:
            raise OptionError(
                f"{where}: expected a layer with space (c, h, w), h·w > 1, before {layer!r}; got "
                "none. Use saliency, which needs none."
            )
        return spatial[-1]
    node = probe.layer(features)
    if not _has_space(probe, node.shape):
        raise OptionError(
            f"{where}: expected features to be a layer with space (c, h, w), h·w > 1; got "
            f"{features!r} with shape {node.shape}. The last with space is "
            f"{spatial[-1] if spatial else 'none'!r}."
        )
    if features not in spatial:
        raise OptionError(
            f"{where}: expected features to be a layer before {layer!r}; got {features!r}, which "
            "it does not depend on."
        )
    return features


def _has_space(probe: Probe, shape: tuple[int, ...]) -> bool:
    rank = len(probe.graph.nodes[probe.input].shape)
    return len(shape) == rank >= 2 and int(np.prod(shape[1:], dtype=np.int64)) > 1
