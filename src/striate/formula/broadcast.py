"""Scalar formulas of tensors whose shapes broadcast, and tensors repeated along their axes.

Where all inputs have one shape the operation is `map` (`formula.activation`), whose kernels ride in
those of other layers; here an axis of size 1 stands for any size, and weights may take part.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from striate.errors import OptionError, ShapeError
from striate.formula.expression import (
    Expr,
    Index,
    Tensor,
    axes,
    from_json,
    substitute,
    to_json,
    variables,
)
from striate.formula.formula import Formula
from striate.formula.operation import (
    Attributes,
    Operation,
    Shape,
    require_attributes,
)

BATCHED = ("x", "y", "z", "u", "v", "w")
WEIGHTS = ("p", "q", "r", "s", "a", "b")


def place_axes(rank: int) -> tuple[Index, ...]:
    """The named axes of a tensor of `rank` axes, the batch first.

    >>> " ".join(map(str, place_axes(4)))
    'n c i j'
    """
    names = {1: "n", 2: "n k", 3: "n c i", 4: "n c i j"}
    return axes(names.get(rank, "n " + " ".join(f"k{k}" for k in range(1, rank))))


def broadcast_attributes(expr: Expr, names: Sequence[str]) -> dict[str, Any]:
    """The attributes of a `broadcast_map` node.

    >>> from striate.formula.expression import Var
    >>> broadcast_attributes(Var("x") * Var("p"), ("x", "p"))
    {'inputs': ['x', 'p'], 'expr': ['mul', 'x', 'p']}
    """
    return {"inputs": list(names), "expr": to_json(expr)}


class BroadcastMap(Operation):
    """`y[n,c,i,j] = f(x[n,c,i,j], y[n,c,0,0], p[c,0,0], …)`: any formula of broadcast tensors.

    Inputs are named by the attribute `inputs`: x, y, z, u, v, w have a batch axis, p, q, r, s, a, b
    have none. Those with a batch have equally many axes; each axis has the output's size, or 1.
    Weights may have fewer axes, then the last ones count, or a batch axis of 1 before them.

    Output: (n, …), the largest size along each axis.

    >>> from striate.formula.expression import Var
    >>> scaled = broadcast_attributes(Var("x") * Var("y"), ("x", "y"))
    >>> BroadcastMap().shape(scaled, [(6, 28, 28), (6, 1, 1)])
    (6, 28, 28)
    """

    name = "broadcast_map"
    parameters = WEIGHTS
    attributes = ("inputs", "expr")

    def argument_names(self, attributes: Attributes, count: int) -> tuple[str, ...]:
        require_attributes(self.name, attributes, self.attributes)
        names = tuple(str(name) for name in attributes["inputs"])
        known = (*BATCHED, *WEIGHTS)
        if len(set(names)) != len(names) or any(name not in known for name in names):
            raise OptionError(
                f"broadcast_map: inputs expected different names out of {', '.join(known)}; "
                f"got {list(names)}."
            )
        if not any(name in BATCHED for name in names):
            raise OptionError(
                f"broadcast_map: expected an input with a batch ({', '.join(BATCHED)}); "
                f"got {list(names)}."
            )
        if len(names) != count:
            raise ShapeError(
                f"broadcast_map: expected inputs {', '.join(names)}; got {count} of them."
            )
        return names

    def _body(self, attributes: Attributes, names: Sequence[str]) -> Expr:
        body = from_json(attributes["expr"])
        unknown = [v for v in variables(body) if v not in names]
        if unknown:
            raise OptionError(
                f"broadcast_map: expected an expression of {', '.join(names)}; "
                f"got {unknown[0]!r} in {body}."
            )
        return body

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        names = self.argument_names(attributes, len(shapes))
        self._body(attributes, names)
        listed = ", ".join(f"{k} {tuple(s)}" for k, s in zip(names, shapes, strict=True))
        ranks = {len(s) for k, s in zip(names, shapes, strict=True) if k in BATCHED}
        if len(ranks) != 1:
            raise ShapeError(
                f"broadcast_map: expected tensors with equally many axes besides the batch; got "
                f"{listed}. Give the smaller one axes of size 1, e.g. s.view(s.size(0), -1, 1, 1)."
            )
        (rank,) = ranks
        output = [1] * rank
        for name, shape in zip(names, shapes, strict=True):
            own = tuple(shape)
            if name in WEIGHTS and len(own) == rank + 1 and own[0] == 1:
                own = own[1:]
            if len(own) > rank:
                raise ShapeError(
                    f"broadcast_map: expected {name} to have at most {rank} axes; got {listed}."
                )
            for k, size in enumerate(reversed(own), 1):
                if size != 1 and output[-k] not in (1, size):
                    raise ShapeError(
                        f"broadcast_map: expected sizes that are equal or 1; got {listed} "
                        f"besides the batch."
                    )
                output[-k] = size if output[-k] == 1 else output[-k]
        return tuple(output)

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        names = self.argument_names(attributes, len(shapes))
        inner = [s[1:] if k in BATCHED else s for k, s in zip(names, shapes, strict=True)]
        output = self.shape(attributes, inner)
        place = place_axes(1 + len(output))
        batch = next(s[0] for k, s in zip(names, shapes, strict=True) if k in BATCHED)
        full = (batch, *output)
        reads: dict[str, Expr] = {}
        for name, shape in zip(names, shapes, strict=True):
            reads[name] = Tensor(name)[_aligned(tuple(shape), place, full, name in BATCHED)]
        sizes = {str(axis): size for axis, size in zip(place, full, strict=True)}
        tensors = {name: tuple(shape) for name, shape in zip(names, shapes, strict=True)}
        return Formula(place, substitute(self._body(attributes, names), reads), sizes, tensors)


def _aligned(shape: Shape, place: Sequence[Index], full: Shape, batched: bool) -> tuple[Index, ...]:
    """How a tensor of this shape is read at `place`: an axis of size 1 at 0, its last ones last."""
    pairs = zip(reversed(shape), reversed(place), reversed(full), strict=False)
    index = [axis if size == wide else Index() for size, axis, wide in pairs]
    if batched:
        index[-1] = place[0]
    elif len(shape) == len(place):
        index[-1] = Index()
    return tuple(reversed(index))


class Tile(Operation):
    """`y[n,c,i] = x[n, c mod C, i mod I]`: the tensor repeated `repeats` times along each axis.

    Input: x (n, …). Output: (n, …), each size times its number of `repeats` (without the batch).

    >>> Tile().shape({"repeats": [2, 1, 3]}, [(4, 5, 1)])
    (8, 5, 3)
    """

    name = "tile"
    arguments = ("x",)
    attributes = ("repeats",)

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        self.argument_names(attributes, len(shapes))
        x, repeats = tuple(shapes[0]), list(attributes["repeats"])
        whole = all(isinstance(k, int) and not isinstance(k, bool) and k >= 1 for k in repeats)
        if len(repeats) != len(x) or not whole:
            raise OptionError(
                f"tile: repeats expected a number from 1 for each of the {len(x)} axes besides "
                f"the batch; got {repeats}."
            )
        return tuple(size * k for size, k in zip_longest(x, repeats))

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        x = tuple(shapes[0])
        output = (x[0], *self.shape(attributes, [x[1:]]))
        place = place_axes(len(x))
        index = [
            axis if size == wide else Index() if size == 1 else axis % size
            for axis, size, wide in zip(place, x, output, strict=True)
        ]
        sizes = {str(axis): size for axis, size in zip(place, output, strict=True)}
        return Formula(place, Tensor("x")[tuple(index)], sizes, {"x": x})
