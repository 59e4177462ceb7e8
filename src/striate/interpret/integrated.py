"""Integrated gradients: the gradient along the way from a baseline to the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike

from striate.errors import OptionError, suggest
from striate.inspect.one_input import OneInput
from striate.inspect.probe import Probe
from striate.interpret.batches import BATCH, Float64, baseline_of, positive, summed_gradients
from striate.interpret.target import Float32, Places, Target, at_places, look_at
from striate.nn.module import Module

RULES = ("gauss-legendre", "trapezoid")


@overload
def integrated_gradients(
    net: Module | OneInput,
    x: ArrayLike,
    target: Any = None,
    *,
    layer: str | None = None,
    baseline: ArrayLike = 0.0,
    steps: int = 50,
    rule: str = "gauss-legendre",
    batch: int = BATCH,
    return_error: Literal[False] = False,
    backend: str | None = None,
) -> Float32: ...


@overload
def integrated_gradients(
    net: Module | OneInput,
    x: ArrayLike,
    target: Any = None,
    *,
    layer: str | None = None,
    baseline: ArrayLike = 0.0,
    steps: int = 50,
    rule: str = "gauss-legendre",
    batch: int = BATCH,
    return_error: Literal[True],
    backend: str | None = None,
) -> tuple[Float32, Float64]: ...


def integrated_gradients(
    net: Module | OneInput,
    x: ArrayLike,
    target: Any = None,
    *,
    layer: str | None = None,
    baseline: ArrayLike = 0.0,
    steps: int = 50,
    rule: str = "gauss-legendre",
    batch: int = BATCH,
    return_error: bool = False,
    backend: str | None = None,
) -> Float32 | tuple[Float32, Float64]:
    """What each pixel adds to a score: `(x − b) · ∫₀¹ ∂ score(b + α(x − b))/∂ x dα`.

    The exact integrals of an image sum to score(x) − score(b). The integral is approximated by a
    sum; `return_error` tells by how much that misses: the completeness error.

    Args:
        net: the network, in any mode.
        x: images (n, c, h, w), or one (c, h, w).
        target: which number: see `striate.interpret.target`.
        layer: the layer that it lies in; by default the scores, before a last softmax.
        baseline: b, where the way begins: a number, one for each channel, an image, or an image
            for each of x. It should be an image that says nothing.
        steps: places on the way where the gradient is computed.
        rule: "gauss-legendre" (exact for polynomials of degree 2·steps − 1) or "trapezoid".
        batch: how many images go through the network at once, at most.
        return_error: whether the completeness error is given too.
        backend: "native" or "reference".
    Returns:
        (n, c, h, w); with `return_error` also (n,): `Σ map − (score(x) − score(b))`.
    Raises:
        ModelError, OptionError, ShapeError: as for `saliency`; also a baseline of another shape.
    Source: M. Sundararajan, A. Taly, Q. Yan: Axiomatic attribution for deep networks. 2017,
        arXiv:1703.01365.

    >>> from striate import nn
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(2, 1, bias=False))
    >>> net[1].weight.data[...] = [[3.0, -4.0]]
    >>> integrated_gradients(net, np.array([[[[2.0, 1.0]]]]), steps=2)
    array([[[[ 6., -4.]]]], dtype=float32)
    """
    where = "integrated_gradients"
    batch = positive(where, "batch", batch)
    at, weights = nodes_and_weights(steps, rule, where)
    probe, images = look_at(where, net, x, backend)
    start = baseline_of(where, baseline, images)
    aim = Target(probe, target, count=len(images), layer=layer)
    places = aim.resolved(images)
    way = images.astype(np.float64) - start

    def point(image: int, step: int) -> Float64:
        there: Float64 = start[image] + at[step] * way[image]
        return there

    total = way * summed_gradients(probe, aim.layer, places, point, weights, batch)
    found = total.astype(np.float32)
    if not return_error:
        return found
    return found, completeness_error(probe, aim.layer, places, total, images, start)


def completeness_error(
    probe: Probe, layer: str, places: Places, maps: ArrayLike, x: Float32, baseline: Float32
) -> Float64:
    """`Σ map − (score(x) − score(baseline))` for each image, (n,)."""
    ends = [
        at_places(probe.values(images, [layer])[layer].astype(np.float64), places)
        for images in (x, np.ascontiguousarray(baseline))
    ]
    sums = np.asarray(maps, np.float64).sum(axis=tuple(range(1, x.ndim)))
    error: Float64 = sums - (ends[0] - ends[1])
    return error


def nodes_and_weights(steps: int, rule: str, where: str) -> tuple[Float64, Float64]:
    """Places in [0, 1] and their weights for an integral.

    >>> nodes_and_weights(3, "trapezoid", "here")
    (array([0. , 0.5, 1. ]), array([0.25, 0.5 , 0.25]))
    """
    if rule not in RULES:
        raise OptionError(f"{where}: unknown rule={rule!r}. {suggest(str(rule), RULES)}")
    steps = positive(where, "steps", steps, 2 if rule == "trapezoid" else 1)
    if rule == "trapezoid":
        weights = np.full(steps, 1 / (steps - 1))
        weights[[0, -1]] /= 2
        return np.linspace(0, 1, steps), weights
    at, weights = np.polynomial.legendre.leggauss(steps)
    return (at + 1) / 2, weights / 2


def convergence(
    net: Module | OneInput,
    x: ArrayLike,
    target: Any = None,
    *,
    layer: str | None = None,
    baseline: ArrayLike = 0.0,
    steps: Sequence[int] = (4, 8, 16, 32, 64, 128),
    rule: str = "gauss-legendre",
    batch: int = BATCH,
    backend: str | None = None,
) -> Float64:
    """The completeness error of integrated gradients for growing numbers of steps.

    It should fall to the rounding of the network's scores; where it does not, `steps` is too small
    for maps to be trusted.

    Args:
        net, x, target, layer, baseline, rule, batch, backend: as for `integrated_gradients`.
        steps: the numbers of steps.
    Returns:
        (len(steps), n).

    >>> from striate import nn
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(2, 1))
    >>> np.abs(convergence(net, np.ones((1, 1, 1, 2)), steps=[2, 4])).max() < 1e-6
    np.True_
    """
    return np.stack(
        [
            integrated_gradients(
                net,
                x,
                target,
                layer=layer,
                baseline=baseline,
                steps=count,
                rule=rule,
                batch=batch,
                return_error=True,
                backend=backend,
            )[1]
            for count in steps
        ]
    )
