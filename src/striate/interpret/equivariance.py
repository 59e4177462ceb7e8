"""Does a layer's response follow a transform of the image, or does it stay as it was?

A shifted picture should give shifted feature maps (equivariance), and in the end the same class
(invariance). Strides, borders and nonlinearities between them break both; this measures how much,
layer by layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.errors import OptionError, ShapeError
from striate.inspect.probe import Probe
from striate.interpret.equivariance_moves import TRANSFORMS, Move, grids, move, scrambled
from striate.nn.module import Module

Float32 = NDArray[np.float32]
_TOGETHER = 8  # images that are looked at at once
_WHERE = "equivariance"


@dataclass(frozen=True)
class LayerEquivariance:
    """How one layer behaves under a transform, for each amount of it.

    Attributes:
        name: the layer's.
        operation: what it does.
        shape: of its output, (c, h, w) or (k,).
        stride: pixels from one of its places to the next, (rows, columns); None without space.
        error: how far the response is from following: 0 follows exactly, 1 as far as unrelated
            images' responses; None where the layer has no space, or nothing of it stays inside.
        distance: how much the response changes: 0 not at all, 1 as much as between unrelated
            images; None where unrelated images have the same response too.
        cosine: of the angle between the responses before and after; 1 where they point alike.
    """

    name: str
    operation: str
    shape: tuple[int, ...]
    stride: tuple[float, float] | None
    error: tuple[float | None, ...]
    distance: tuple[float | None, ...]
    cosine: tuple[float | None, ...]


@dataclass(frozen=True)
class Equivariance:
    """A network's layers under a transform; see `equivariance`.

    Attributes:
        transform: its name.
        amounts: how much of it.
        unit: what the amounts are.
        images: how many images it was measured on.
        unrelated: what the 1 of the measures is taken from.
        direction: of shifts, (rows, columns).
        outside: what came in from outside the images.
        borders: whether places that look beyond the image count in the error.
        layers: in order of computation.
    """

    transform: str
    amounts: tuple[float, ...]
    unit: str
    images: int
    unrelated: str
    direction: tuple[float, float]
    outside: str
    borders: bool
    layers: tuple[LayerEquivariance, ...]

    def __getitem__(self, name: str) -> LayerEquivariance:
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return asdict(self)

    def text(self) -> str:
        """Two tables for the terminal: the equivariance errors, and the changes."""
        head = (
            f"{self.transform} by {', '.join(f'{a:g}' for a in self.amounts)} ({self.unit}); "
            f"{self.images} image{'s' if self.images != 1 else ''}; 1 = {self.unrelated}"
            + ("" if self.borders else "; without borders")
        )
        return "\n\n".join(
            [
                head,
                self._table("Does the response follow? equivariance error, 0 = exactly", "error"),
                self._table("Does it stay the same? change, 0 = invariant", "distance"),
            ]
        )

    def _table(self, title: str, measure: str) -> str:
        wide = max(len("layer"), *(len(layer.name) for layer in self.layers))
        shapes = ["×".join(map(str, layer.shape)) for layer in self.layers]
        most = max(map(len, [*shapes, "output"]))
        amounts = "".join(f"{a:>8g}" for a in self.amounts)
        lines = [title, f"  {'layer':<{wide}}  {'output':<{most}}{amounts}"]
        for layer, shape in zip(self.layers, shapes, strict=True):
            numbers = "".join(f"{_said(v):>8}" for v in getattr(layer, measure))
            lines.append(f"  {layer.name:<{wide}}  {shape:<{most}}{numbers}")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text()


def _said(value: float | None) -> str:
    return (
        "–" if value is None else "0" if value == 0 else f"{value:.3f}" if value >= 5e-4 else "~0"
    )


def equivariance(
    net: Module,
    x: ArrayLike,
    *,
    transform: str = "shift",
    amounts: Sequence[float] = (0, 1, 2, 4),
    layers: Sequence[str] | None = None,
    direction: tuple[float, float] = (0, 1),
    outside: str = "edge",
    borders: bool = True,
    others: ArrayLike | None = None,
    backend: str | None = None,
) -> Equivariance:
    """How far each layer's response follows a transform of the images, and how much it changes.

    With f a layer's response, T the transform, T′ the same transform of a feature map on its own
    grid (its places lie a stride apart on the image; between them it is interpolated linearly),
    u an unrelated image for each image x, and sums over images and over the places that T′ has
    from inside the map:

        error    = √( Σ|f(T x) − T′ f(x)|² / Σ|f(T x) − T′ f(u)|² )
        distance = √( Σ|f(T x) − f(x)|²    / Σ|f(T x) − f(u)|²    )
        cosine   = mean of f(T x)·f(x) / (|f(T x)| |f(x)|)

    So 0 is perfect, and 1 is what unrelated images give. T′ moves places and leaves channels where
    they are. Images are interpolated linearly too, so that a little of an error under rotation,
    scale and shifts by parts of a pixel is the interpolation's. Where borders are padded, what
    comes from there does not follow; it counts, unless `borders` is off.

    Args:
        net: the network; it is read as it is in evaluation.
        x: images (n, c, h, w), or one (c, h, w).
        transform: "shift" (pixels), "rotate" (degrees, counter-clockwise), "scale" (factors) or
            "brighten" (x becomes (1 + amount)·x; T′ multiplies alike).
        amounts: how much.
        layers: names of layers; by default all.
        direction: of shifts: a shift by a moves a·direction, (rows down, columns to the right).
        outside: what comes in from outside an image: "edge", "wrap" (the other side: with shifts,
            nothing is lost), "zero" or "reflect".
        borders: whether places count (in the error) that look beyond the image, at padding or at
            what came in. Without them the error is that of strides and nonlinearities; deep layers
            may have no other places, and then no error.
        others: the unrelated images, (m, c, h, w). By default each image's successor in x, and for
            a single one the same image with random phases.
        backend: what computes the responses.
    Returns:
        An `Equivariance`: `.layers`, `.text()`, `.to_dict()`; `plot.equivariance` draws it.
    Raises:
        OptionError: another transform or amount, or no amounts.
        ModelError: there is no such layer.
        ShapeError: images of another shape.
    Source: Lenc & Vedaldi, Understanding image representations by measuring their equivariance and
    equivalence, arXiv:1411.5908; Zhang, Making convolutional networks shift-invariant again,
    arXiv:1904.11486.

    >>> from striate import nn
    >>> images = np.random.default_rng(0).random((4, 1, 8, 8))
    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"), nn.MaxPool2d(2))
    >>> found = equivariance(net, images, amounts=[1, 2], outside="wrap", layers=["1"])
    >>> one, two = found["1"].error
    >>> one > 0.1, two < 1e-6
    (True, True)
    """
    if not len(amounts):
        raise OptionError(f"{_WHERE}: expected at least one amount; got none.")
    shape = np.shape(x)[-3:]
    probe = Probe(net, shape, _WHERE, backend)
    images = probe.batch(x)
    if len(shape) != 3 or not len(images):
        raise ShapeError(f"{_WHERE}: expected images (n, c, h, w); got shape {np.shape(x)}.")
    moves = [move(transform, float(a), shape, direction, outside) for a in amounts]
    names = probe.layers if layers is None else [probe.layer(name).name for name in layers]
    unrelated, said = _unrelated(probe, images, others)
    meter = _Meter(probe, names, moves, borders)
    for k in range(0, len(images), _TOGETHER):
        meter.add(images[k : k + _TOGETHER], unrelated[k : k + _TOGETHER])
    return Equivariance(
        transform=transform,
        amounts=tuple(map(float, amounts)),
        unit=TRANSFORMS[transform],
        images=len(images),
        unrelated=said,
        direction=direction,
        outside=outside,
        borders=borders,
        layers=tuple(meter.layer(name) for name in names),
    )


def _unrelated(probe: Probe, images: Float32, others: ArrayLike | None) -> tuple[Float32, str]:
    """An unrelated image for each image, and what they are."""
    if others is not None:
        given = probe.batch(others)
        if not len(given):
            raise ShapeError(f"{_WHERE}: expected at least one other image; got none.")
        return given[np.arange(len(images)) % len(given)], "the images given as others"
    if len(images) > 1:
        return np.roll(images, -1, axis=0), "different images"
    return scrambled(images), "the image with random phases"


class _Meter:
    """Adds up squares over images, for each layer and amount."""

    def __init__(
        self, probe: Probe, names: Sequence[str], moves: Sequence[Move], borders: bool
    ) -> None:
        self.probe, self.names, self.moves, self.borders = probe, names, moves, borders
        known = grids(probe.graph)
        self.grids = {name: known[name] for name in names}
        # for each layer and amount: |f(Tx) − T′f(x)|², |f(Tx) − T′f(u)|², the same without T′,
        # the cosines, and how many of them
        self.sums = {name: np.zeros((len(moves), 6)) for name in names}
        self.followed = {name: np.zeros(len(moves), bool) for name in names}

    def add(self, images: Float32, unrelated: Float32) -> None:
        """Add some images."""
        before = self.probe.values(images, self.names)
        strange = self.probe.values(unrelated, self.names)
        for k, each in enumerate(self.moves):
            after = self.probe.values(each.image(images), self.names)
            for name in self.names:
                self._add(name, k, before[name], after[name], strange[name])

    def _add(self, name: str, k: int, before: Float32, after: Float32, strange: Float32) -> None:
        sums, grid = self.sums[name][k], self.grids[name]
        following = self.moves[k].map(before, grid, self.borders)
        others = self.moves[k].map(strange, grid, self.borders)
        if following is not None and others is not None and following[1].any():
            self.followed[name][k] = True
            sums[0] += _square(after - following[0], following[1])
            sums[1] += _square(after - others[0], others[1])
        sums[2] += _square(after - before)
        sums[3] += _square(after - strange)
        for one, two in zip(after, before, strict=True):
            sizes = np.linalg.norm(one.astype(np.float64)) * np.linalg.norm(two.astype(np.float64))
            if sizes > 0:
                sums[4] += np.vdot(one.astype(np.float64), two) / sizes
                sums[5] += 1

    def layer(self, name: str) -> LayerEquivariance:
        """What was measured of a layer."""
        node, grid, sums = self.probe.layer(name), self.grids[name], self.sums[name]
        followed = self.followed[name]
        return LayerEquivariance(
            name=name,
            operation=node.operation,
            shape=tuple(node.shape),
            stride=None if grid is None else grid.step,
            error=tuple(
                _ratio(a, b) if known else None
                for (a, b, *_), known in zip(sums, followed, strict=True)
            ),
            distance=tuple(_ratio(a, b) for _, _, a, b, *_ in sums),
            cosine=tuple(float(a / n) if n else None for *_, a, n in sums),
        )


def _square(difference: Float32, mask: NDArray[np.bool_] | None = None) -> float:
    """The sum of squares, over the places of a mask (h, w)."""
    squares = np.square(difference, dtype=np.float64)
    return float(squares.sum() if mask is None else (squares * mask).sum())


def _ratio(found: float, unrelated: float) -> float | None:
    """The root of two sums' ratio; None where even unrelated images make no difference."""
    if unrelated == 0:
        return 0.0 if found == 0 else None
    return float(np.sqrt(found / unrelated))
