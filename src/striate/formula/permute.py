"""Axes in another order: channels first to channels last, and any other permutation."""

from __future__ import annotations

from collections.abc import Sequence

from striate.errors import OptionError
from striate.formula.expression import Tensor, axes
from striate.formula.formula import Formula
from striate.formula.operation import Attributes, Operation, Shape, require_attributes


class Permute(Operation):
    """`y[n, i, j, c] = x[n, c, i, j]` for `order` [2, 3, 1]; the batch, axis 0, stays first.

    Axis k of a sample of the output is axis `order[k]` of x, counted with the batch.

    >>> Permute().shape({"order": [2, 3, 1]}, [(3, 28, 32)])
    (28, 32, 3)
    """

    name = "permute"
    arguments = ("x",)
    attributes = ("order",)

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        self.argument_names(attributes, len(shapes))
        x, order = tuple(shapes[0]), attributes["order"]
        if not isinstance(order, Sequence) or sorted(order) != list(range(1, len(x) + 1)):
            raise OptionError(
                f"permute: expected the axes 1 to {len(x)} of x {x} (the batch, axis 0, stays "
                f"first), each once; got {order!r}."
            )
        return tuple(x[k - 1] for k in order)

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        x, order = tuple(shapes[0]), [int(k) for k in attributes["order"]]
        names = axes(" ".join(["n", *(f"a{k}" for k in range(1, len(x)))]))
        sizes = {str(axis): size for axis, size in zip(names, x, strict=True)}
        output = (names[0], *(names[k] for k in order))
        return Formula(output, Tensor("x")[names], sizes, {"x": x})
