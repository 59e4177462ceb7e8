"""Padding and cropping: numbers put before and after the axes of a tensor, or taken away."""

from __future__ import annotations

from collections.abc import Sequence

from striate.errors import OptionError, ShapeError, suggest
from striate.formula.expression import Index, Tensor, axes
from striate.formula.formula import Formula
from striate.formula.operation import (
    Attributes,
    Operation,
    Shape,
    number_attribute,
    require_attributes,
)

Sides = tuple[int, int]
MODES = ("constant", "reflect", "replicate", "circular", "symmetric")
NAMES = ("i", "c i", "c i j", "c k i j", "c l k i j", "c m l k i j")  # of a sample's axes


class Pad(Operation):
    """`y[n, c, i, j] = x[n, c, i − top, j − left]`, and what lies outside x is filled in.

    | mode | a row 0 1 2 3, padded by 2 | what is read outside |
    |---|---|---|
    | constant | v v 0 1 2 3 v v | the number `value` |
    | reflect | 2 1 0 1 2 3 2 1 | mirrored about the first and last number |
    | symmetric | 1 0 0 1 2 3 3 2 | mirrored about the edges, the last number twice |
    | replicate | 0 0 0 1 2 3 3 3 | the nearest number |
    | circular | 2 3 0 1 2 3 0 1 | the other end |

    A negative number takes that many rows away. `padding` has a pair (before, after) for each of
    the last axes.

    Input: x (n, …). Output: (n, …), each of the last axes longer by its pair.

    >>> settings = {"padding": [[2, 2]], "mode": "reflect", "value": 0.0}
    >>> Pad().reference(settings, [[[0.0, 1, 2, 3]]])
    array([[2., 1., 0., 1., 2., 3., 2., 1.]])
    """

    name = "pad"
    arguments = ("x",)
    attributes = ("padding", "mode", "value")

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        self.argument_names(attributes, len(shapes))
        number_attribute(self.name, attributes, "value")
        mode = attributes["mode"]
        if mode not in MODES:
            raise OptionError(f"pad: unknown mode {mode!r}. {suggest(str(mode), MODES)}")
        x = tuple(shapes[0])
        if len(x) > len(NAMES):
            raise ShapeError(
                f"pad: expected up to {len(NAMES)} axes besides the batch; got shape {x}."
            )
        sides = self._sides(attributes, x)
        return tuple(
            _require_size(axis + 1, size, pair, mode)
            for axis, (size, pair) in enumerate(zip(x, sides, strict=True))
        )

    def _sides(self, attributes: Attributes, x: Shape) -> list[Sides]:
        """(before, after) of every axis of a sample."""
        given = attributes["padding"]
        if not isinstance(given, Sequence) or not all(map(_is_pair, given)):
            raise OptionError(
                f"pad: expected padding to be pairs of whole numbers [before, after], one an axis; "
                f"got {given!r}."
            )
        if len(given) > len(x):
            raise OptionError(
                f"pad: expected padding for up to {len(x)} axes, as x {x} has besides the batch; "
                f"got {len(given)} pairs, {given!r}."
            )
        rest = [(0, 0)] * (len(x) - len(given))
        return rest + [(int(before), int(after)) for before, after in given]

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        x = tuple(shapes[0])
        sides, output = self._sides(attributes, x[1:]), self.shape(attributes, [x[1:]])
        n, *places = axes(f"n {NAMES[len(x) - 2]}")
        places_of_x = tuple(
            _source(place, size, pair, attributes["mode"])
            for place, size, pair in zip(places, x[1:], sides, strict=True)
        )
        read = (n, *places_of_x)
        sizes = {str(a): size for a, size in zip((n, *places), (x[0], *output), strict=True)}
        value = float(attributes["value"])
        outside = {"x": value} if attributes["mode"] == "constant" else {}
        return Formula((n, *places), Tensor("x")[read], sizes, {"x": x}, outside)


def _is_pair(value: object) -> bool:
    return (
        isinstance(value, Sequence)
        and len(value) == 2
        and all(hasattr(k, "__index__") and not isinstance(k, bool) for k in value)
    )


def _require_size(axis: int, size: int, sides: Sides, mode: str) -> int:
    """The size after padding, where that is possible."""
    before, after = sides
    most = {"reflect": size - 1, "circular": size, "symmetric": size}.get(mode)
    if most is not None and max(sides) > most:
        raise ShapeError(
            f"pad: expected at most {most} numbers of mode {mode!r} on each side of axis {axis}, "
            f"which has {size}; got [{before}, {after}]. "
            f"Pad less, or use mode 'replicate' or 'constant'."
        )
    padded = size + before + after
    if padded < 1 or before < -size or after < -size:
        raise ShapeError(
            f"pad: expected at least 1 number to be left along axis {axis}; got {size} + ({before})"
            f" + ({after}) = {padded}. Take less away."
        )
    if size < 1:
        raise ShapeError(f"pad: expected at least 1 number along axis {axis}; got none.")
    return padded


def _source(place: Index, size: int, sides: Sides, mode: str) -> Index:
    """Where along an axis of x the output's `place` is read."""
    before, after = sides
    if mode == "constant" or max(sides) <= 0:
        return place - before
    return place.through([border(k - before, size, mode) for k in range(before + size + after)])


def border(place: int, size: int, mode: str) -> int:
    """The place in a row of `size` numbers that `place`, which may lie outside, stands for.

    >>> [border(k, 4, "reflect") for k in range(-2, 6)]
    [2, 1, 0, 1, 2, 3, 2, 1]
    """
    if mode == "replicate":
        return min(max(place, 0), size - 1)
    if mode == "circular":
        return place % size
    if mode == "symmetric":
        place %= 2 * size
        return place if place < size else 2 * size - 1 - place
    period = max(2 * size - 2, 1)
    place %= period
    return place if place < size else period - place
