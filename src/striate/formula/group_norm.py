"""Normalisation of each sample by itself: layer, RMS, group, instance, adaptive instance norm."""

from __future__ import annotations

import math
from collections.abc import Sequence

from striate.errors import OptionError, ShapeError
from striate.formula.expression import Expr, Index, Sum, Tensor, axes, sqrt
from striate.formula.formula import Formula
from striate.formula.operation import (
    Attributes,
    Operation,
    Shape,
    number_attribute,
    require_attributes,
    whole_attribute,
)

_N = axes("n")[0]


class _SampleNorm(Operation):
    """Checks that all of these share; `eps` is added to the mean square."""

    arguments: tuple[str, ...] = ("x", "w", "b")
    optional = 2
    parameters: tuple[str, ...] = ("w", "b")
    attributes: tuple[str, ...] = ("eps",)

    def _checked(self, attributes: Attributes, shapes: Sequence[Shape], least: int) -> Shape:
        """The shape of x, after the checks of what is common."""
        require_attributes(self.name, attributes, self.attributes)
        self.argument_names(attributes, len(shapes))
        eps = number_attribute(self.name, attributes, "eps")
        if eps < 0:
            raise OptionError(f"{self.name}: eps expected a number of at least 0; got {eps!r}.")
        x = tuple(shapes[0])
        if len(x) < least:
            raise ShapeError(
                f"{self.name}: x expected {_LEAST[least]} besides the batch; got shape {x}."
            )
        if 0 in x:
            raise ShapeError(
                f"{self.name}: expected channels and images of at least 1; got x {x} besides the "
                "batch."
            )
        return x

    def _require_parameters(self, shapes: Sequence[Shape], wanted: Shape) -> None:
        for name, shape in zip(self.arguments[1:], shapes[1:], strict=False):
            if tuple(shape) != wanted:
                raise ShapeError(
                    f"{self.name}: {name} expected shape {wanted} for x {tuple(shapes[0])}; got "
                    f"{tuple(shape)}. Make the layer for an input of this size."
                )

    def _affine(self, body: Expr, at: tuple[Index, ...], count: int) -> Expr:
        """The body times w plus b, of those that are given."""
        if count > 1:
            body = body * Tensor("w")[at]
        return body + Tensor("b")[at] if count > 2 else body


_LEAST = {1: "at least one axis", 2: "channels and at least one axis of space"}


def _standardised(x: Expr, near: Expr, over: tuple[Index, ...], count: int, eps: float) -> Expr:
    """`(x − μ)/√(σ² + eps)` with mean and variance of `near`, `count` numbers along `over`."""
    mean = Sum(over, near) / max(count, 1)
    variance = Sum(over, (near - mean) * (near - mean)) / max(count, 1)
    return (x - mean) / sqrt(variance + eps)


class LayerNorm(_SampleNorm):
    """`y = (x − μ)/√(σ² + eps) · w + b`, μ and σ² over the last axes of each sample.

    `axes` says over how many. With one, for x (n, t, k):
    `μ[n,t] = Σ_p x[n,t,p]/K`, `σ²[n,t] = Σ_p (x[n,t,p] − μ[n,t])²/K`.

    Inputs: x (n, …); w and b of the shape of those axes, or left out.
    Output: as x.

    Source: Ba, Kiros, Hinton, Layer Normalization, arXiv:1607.06450.

    >>> LayerNorm().shape({"eps": 1e-5, "axes": 1}, [(4, 8), (8,), (8,)])
    (4, 8)
    """

    name = "layer_norm"
    attributes = ("eps", "axes")

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        x = self._checked(attributes, shapes, 1)
        count = whole_attribute(self.name, attributes, "axes", 1)
        if count > len(x):
            raise ShapeError(
                f"{self.name}: expected at most {len(x)} axes for x {x} besides the batch; "
                f"got {count}."
            )
        self._require_parameters(shapes, x[len(x) - count :])
        return x

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        x, count = tuple(shapes[0]), int(attributes["axes"])
        outer = len(x) - count
        place = axes("n " + " ".join(f"a{k}" for k in range(1, len(x))))
        over = axes(" ".join(f"p{k}" for k in range(count)))
        sizes = dict(zip(map(str, place), x, strict=True))
        sizes |= dict(zip(map(str, over), x[outer:], strict=True))
        within = (*place[:outer], *over)
        near = Tensor("x")[within]
        body = self._body(Tensor("x")[place], near, over, x[outer:], float(attributes["eps"]))
        names = self.argument_names(attributes, len(shapes))
        body = self._affine(body, place[outer:], len(shapes))
        tensors = {name: tuple(s) for name, s in zip(names, shapes, strict=True)}
        return Formula(place, body, sizes, tensors)

    def _body(
        self, x: Expr, near: Expr, over: tuple[Index, ...], lengths: Shape, eps: float
    ) -> Expr:
        return _standardised(x, near, over, math.prod(lengths), eps)


class RmsNorm(LayerNorm):
    """`y = x/√(Σ_p x_p²/K + eps) · w`, the mean square over the last `axes` axes of each sample.

    Inputs: x (n, …); w of the shape of those axes, or left out. Output: as x.

    Source: Zhang & Sennrich, Root Mean Square Layer Normalization, arXiv:1910.07467.

    >>> RmsNorm().shape({"eps": 1e-5, "axes": 2}, [(4, 8)])
    (4, 8)
    """

    name = "rms_norm"
    arguments = ("x", "w")
    optional = 1
    parameters = ("w",)

    def _body(
        self, x: Expr, near: Expr, over: tuple[Index, ...], lengths: Shape, eps: float
    ) -> Expr:
        return x / sqrt(Sum(over, near * near) / max(math.prod(lengths), 1) + eps)


class GroupNorm(_SampleNorm):
    """`y[n,c,…] = (x[n,c,…] − μ[n,g])/√(σ²[n,g] + eps) · w[c] + b[c]`, g the group of channel c.

    μ and σ² are over a group's channels and all of space. One group is layer norm over all axes;
    as many groups as channels is instance norm.

    Inputs: x (n, channels, …) with none or more axes of space; w and b (channels,), or left out.
    Output: as x.

    Source: Wu & He, Group Normalization, arXiv:1803.08494; for instance norm Ulyanov et al.,
    arXiv:1607.08022.

    >>> GroupNorm().shape({"eps": 1e-5, "groups": 2}, [(4, 8, 8), (4,), (4,)])
    (4, 8, 8)
    """

    name = "group_norm"
    attributes = ("eps", "groups")

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        x = self._checked(attributes, shapes, 1)
        groups = whole_attribute(self.name, attributes, "groups", 1)
        if x[0] % groups:
            raise ShapeError(
                f"{self.name}: expected groups to divide the channels; got {groups} groups for "
                f"{x[0]} channels, shape {x} besides the batch."
            )
        self._require_parameters(shapes, (x[0],))
        return x

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        x, groups = tuple(shapes[0]), int(attributes["groups"])
        share, rank = x[1] // groups, len(x) - 2
        g, c, d = axes("g c d")
        space = axes(" ".join(f"i{k}" for k in range(rank)))
        over = axes(" ".join(["d", *(f"p{k}" for k in range(rank))]))
        channel = g * share + c
        place = (_N, channel, *space)
        sizes = {"n": x[0], "g": groups, "c": share, "d": share}
        sizes |= {f"{letter}{k}": x[2 + k] for k in range(rank) for letter in "ip"}
        within = (_N, g * share + d, *over[1:])
        near = Tensor("x")[within]
        count = share * math.prod(x[2:])
        body = _standardised(Tensor("x")[place], near, over, count, float(attributes["eps"]))
        body = self._affine(body, (channel,), len(shapes))
        names = self.argument_names(attributes, len(shapes))
        tensors = {name: tuple(s) for name, s in zip(names, shapes, strict=True)}
        return Formula(place, body, sizes, tensors)


class StyledInstanceNorm(_SampleNorm):
    """`y[n,c,…] = (x[n,c,…] − μ[n,c])/√(σ²[n,c] + eps) · scale[n,c] + shift[n,c]`.

    Scale and shift are values of the network, as a style generator gives them.

    Inputs: x (n, channels, …) with one or more axes of space; scale and shift (n, channels).
    Output: as x.

    Source: Karras, Laine, Aila, A Style-Based Generator Architecture, arXiv:1812.04948, eq. 1.

    >>> StyledInstanceNorm().shape({"eps": 1e-5}, [(4, 8, 8), (4,), (4,)])
    (4, 8, 8)
    """

    name = "styled_instance_norm"
    arguments = ("x", "scale", "shift")
    optional = 0
    parameters = ()

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        x = self._checked(attributes, shapes, 2)
        self._require_parameters(shapes, x[:1])
        return x

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        x = tuple(shapes[0])
        place, near, over, sizes = _instances(x, "x", "p")
        count = math.prod(x[2:])
        body = _standardised(Tensor("x")[place], near, over, count, float(attributes["eps"]))
        body = body * Tensor("scale")[place[:2]] + Tensor("shift")[place[:2]]
        tensors = {n: tuple(s) for n, s in zip(self.arguments, shapes, strict=True)}
        return Formula(place, body, sizes, tensors)


class AdaptiveInstanceNorm(_SampleNorm):
    """`y = σ(style)·(x − μ(x))/σ(x) + μ(style)`, mean and deviation of each sample's channel.

    `μ[n,c] = Σ_p x[n,c,p]/P`, `σ[n,c] = √(Σ_p (x[n,c,p] − μ[n,c])²/P + eps)`, of x and of the
    style, which may be of another size.

    Inputs: x (n, channels, …) and style (n, channels, …). Output: as x.

    Source: Huang & Belongie, Arbitrary Style Transfer in Real-time with Adaptive Instance
    Normalization, arXiv:1703.06868, eq. 8.

    >>> AdaptiveInstanceNorm().shape({"eps": 1e-5}, [(4, 8, 8), (4, 5, 6)])
    (4, 8, 8)
    """

    name = "adaptive_instance_norm"
    arguments = ("x", "style")
    optional = 0
    parameters = ()

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        x = self._checked(attributes, shapes, 2)
        style = tuple(shapes[1])
        if len(style) < 2 or style[0] != x[0]:
            raise ShapeError(
                f"{self.name}: style expected {x[0]} channels and at least one axis of space, as x "
                f"{x}; got shape {style} besides the batch."
            )
        return x

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        x, style, eps = tuple(shapes[0]), tuple(shapes[1]), float(attributes["eps"])
        place, near, over, sizes = _instances(x, "x", "p")
        _, like, along, more = _instances(style, "style", "q")
        count = max(math.prod(style[2:]), 1)
        mean = Sum(along, like) / count
        deviation = sqrt(Sum(along, (like - mean) * (like - mean)) / count + eps)
        body = _standardised(Tensor("x")[place], near, over, math.prod(x[2:]), eps)
        kept = {key: size for key, size in more.items() if key.startswith("q")}
        return Formula(place, body * deviation + mean, sizes | kept, {"x": x, "style": style})


def _instances(
    shape: Shape, tensor: str, letter: str
) -> tuple[tuple[Index, ...], Expr, tuple[Index, ...], dict[str, int]]:
    """A place in a tensor, the tensor along all of space, the axes of that, and all sizes."""
    rank = len(shape) - 2
    place = axes("n c " + " ".join(f"i{k}" for k in range(rank)))
    over = axes(" ".join(f"{letter}{k}" for k in range(rank)))
    sizes = dict(zip(map(str, place), shape, strict=True))
    sizes |= dict(zip(map(str, over), shape[2:], strict=True))
    within = (*place[:2], *over)
    return place, Tensor(tensor)[within], over, sizes
