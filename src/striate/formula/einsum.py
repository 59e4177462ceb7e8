"""Sums of products in Einstein's notation: the equation is the formula."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import reduce
from operator import mul

from striate.errors import OptionError, ShapeError
from striate.formula.expression import Expr, Sum, Tensor, axes
from striate.formula.formula import Formula
from striate.formula.operation import (
    Attributes,
    Operation,
    Shape,
    require_attributes,
)

BATCHED = ("x", "y", "z")
WEIGHTS = ("v", "w", "u")
_EQUATION = re.compile(r"[A-Za-z]*(,[A-Za-z]*)*->[A-Za-z]*")


class Einsum(Operation):
    """`y[n,…] = Σ x[n,…]·w[…]`: the product of the inputs, summed over what the output lacks.

    Attributes: `equation` as NumPy writes it, "nchw,oc->nohw", with `->`; `inputs`, the names of
    the operands: x, y, z have a batch axis (the first letter, also of the output), v, w, u have
    none.

    >>> Einsum().shape({"equation": "nck,oc->nok", "inputs": ["x", "w"]}, [(4, 7), (2, 4)])
    (2, 7)
    """

    name = "einsum"
    parameters = WEIGHTS
    attributes = ("equation", "inputs")

    def argument_names(self, attributes: Attributes, count: int) -> tuple[str, ...]:
        require_attributes(self.name, attributes, self.attributes)
        names = tuple(str(name) for name in attributes["inputs"])
        known = (*BATCHED, *WEIGHTS)
        if len(set(names)) != len(names) or any(name not in known for name in names):
            raise OptionError(
                f"einsum: inputs expected different names out of {', '.join(known)}; "
                f"got {list(names)}."
            )
        if len(names) != count:
            raise ShapeError(f"einsum: expected inputs {', '.join(names)}; got {count} of them.")
        return names

    def _parts(self, attributes: Attributes, names: Sequence[str]) -> tuple[list[str], str]:
        """The letters of each operand and of the output, the batch's letter checked."""
        equation = str(attributes["equation"]).replace(" ", "")
        if not _EQUATION.fullmatch(equation):
            raise OptionError(
                f"einsum: equation expected letters such as 'nchw,oc->nohw'; got "
                f"{attributes['equation']!r}."
            )
        left, _, output = equation.partition("->")
        operands = left.split(",")
        if len(operands) != len(names):
            raise ShapeError(
                f"einsum: expected an operand for each of {', '.join(names)}; got {equation!r}."
            )
        batch = output[:1]
        fits = batch and len(set(output)) == len(output) and set(output) <= set("".join(operands))
        for name, letters in zip(names, operands, strict=True):
            if name in BATCHED:
                fits = fits and letters[:1] == batch and batch not in letters[1:]
            else:
                fits = fits and batch not in letters
        if not fits or not any(name in BATCHED for name in names):
            raise OptionError(
                f"einsum: expected the batch's letter first in the output and in every operand "
                f"that has a batch, in no other, and an output of different letters that "
                f"operands have; got {equation!r} for {', '.join(names)}."
            )
        return operands, output

    def _sizes(
        self, names: Sequence[str], operands: Sequence[str], shapes: Sequence[Shape]
    ) -> dict[str, int]:
        """The size of each letter; the shapes have their batch axes."""
        sizes: dict[str, int] = {}
        for name, letters, shape in zip(names, operands, shapes, strict=True):
            if len(letters) != len(shape):
                raise ShapeError(
                    f"einsum: {name} expected {len(letters)} axes, {letters!r}, the batch "
                    f"included; got shape {tuple(shape)}."
                )
            for letter, size in zip(letters, shape, strict=True):
                if sizes.setdefault(letter, size) != size:
                    raise ShapeError(
                        f"einsum: expected one size for the axis {letter!r}; got {sizes[letter]} "
                        f"and {size}, of {name} {tuple(shape)}."
                    )
        return sizes

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        names = self.argument_names(attributes, len(shapes))
        operands, output = self._parts(attributes, names)
        sizes = self._sizes(names, operands, self.full_shapes(attributes, shapes))
        return tuple(sizes[letter] for letter in output[1:])

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        names = self.argument_names(attributes, len(shapes))
        operands, output = self._parts(attributes, names)
        sizes = self._sizes(names, operands, shapes)
        # The batch is named n in every formula; an n that means something else gives way.
        called = {letter: letter for letter in sizes} | {"n": "N"} | {output[0]: "n"}
        if "N" in sizes and "n" in sizes and output[0] not in "nN":
            called["n"] = "n1"
        axis = {letter: axes(called[letter])[0] for letter in sizes}
        reads: list[Expr] = [
            Tensor(name)[tuple(axis[k] for k in letters)]
            for name, letters in zip(names, operands, strict=True)
        ]
        body = reduce(mul, reads)
        over = tuple(axis[letter] for letter in sizes if letter not in output)
        tensors = {name: tuple(shape) for name, shape in zip(names, shapes, strict=True)}
        return Formula(
            tuple(axis[k] for k in output),
            Sum(over, body) if over else body,
            {called[letter]: size for letter, size in sizes.items()},
            tensors,
        )
