"""What an operation is: a name, its arguments and attributes, a shape rule and a meaning.

The operations themselves are in `conv`, `linear`, `pool`, `norm`, `activation`, `structure` and
`loss`; `operations` finds them by name. Here are the base classes and the checks of attributes.
Shapes given to `shape` and `cost` leave the batch out, as in a graph; arrays and the shapes given
to `formula` have it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.errors import OptionError, ShapeError, suggest
from striate.formula.formula import Cost, Formula
from striate.random import Draw
from striate.shapes import pair, several

Shape = tuple[int, ...]
Array = NDArray[np.float64]
Attributes = Mapping[str, Any]


class Operation:
    """An operation of a graph.

    Attributes:
        name: as graphs write it.
        arguments: names of the inputs, in order.
        optional: how many of the last arguments may be left out.
        parameters: those arguments that have no batch axis.
        attributes: names of the attributes; all of them must be given.
        has_formula: whether `formula` says it all.
        draws: whether it draws random numbers in training; its node then has a `site`.
    """

    name = ""
    arguments: tuple[str, ...] = ()
    optional = 0
    parameters: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    has_formula = True
    is_loss = False
    draws = False

    def argument_names(self, attributes: Attributes, count: int) -> tuple[str, ...]:
        """The names of `count` inputs.

        Raises:
            ShapeError: the operation does not take that many.
        """
        if not len(self.arguments) - self.optional <= count <= len(self.arguments):
            raise ShapeError(
                f"{self.name}: expected inputs {', '.join(self.arguments)}; got {count} of them."
            )
        return self.arguments[:count]

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        """The shape of the output, without the batch.

        Args:
            attributes: the operation's settings, checked here.
            shapes: of the inputs: without the batch, parameters in full.
        Raises:
            ShapeError: the inputs do not fit together.
            OptionError: an attribute is missing, unknown or out of range.
        """
        raise TypeError(f"{type(self).__name__} has no shape rule.")

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        """The operation as a formula on inputs of these shapes (with the batch)."""
        raise OptionError(f"{self.name}: it moves numbers and has no formula of its own.")

    def reference(self, attributes: Attributes, arrays: Sequence[ArrayLike]) -> Array:
        """The output in float64, from inputs with the batch axis."""
        formula, tensors = self.bind(attributes, arrays)
        return formula.reference(**tensors)

    def gradient(
        self,
        attributes: Attributes,
        upstream: ArrayLike,
        arrays: Sequence[ArrayLike],
        wanted: Sequence[int] | None = None,
    ) -> list[Array | None]:
        """The gradient to each input, in float64.

        Args:
            upstream: gradient to the output.
            arrays: the inputs.
            wanted: the positions of the inputs that need one (default: all); the rest get None.
        """
        formula, tensors = self.bind(attributes, arrays)
        names = list(tensors)
        asked = [names[k] for k in (range(len(names)) if wanted is None else wanted)]
        asked = [name for name in asked if self.differentiable(name)]
        found = formula.gradient(upstream, wanted=asked, **tensors)
        return [found.get(name) for name in names]

    def training(self, attributes: Attributes, x: ArrayLike, draw: Draw) -> Array:
        """The output in training, of an operation that draws random numbers."""
        raise OptionError(f"{self.name}: it draws no random numbers.")

    def differentiable(self, argument: str) -> bool:
        """Whether there is a gradient to that argument."""
        return True

    def source(
        self, attributes: Attributes, shapes: Sequence[Shape], at: Shape
    ) -> tuple[int, Shape]:
        """For operations that only move numbers: the input and place that `at` comes from."""
        raise OptionError(f"{self.name}: its outputs are computed, not moved.")

    def shared(self, attributes: Attributes) -> frozenset[str]:
        """The arguments that have no batch axis."""
        return frozenset(self.parameters)

    def full_shapes(
        self, attributes: Attributes, shapes: Sequence[Shape], batch: int = 1
    ) -> list[Shape]:
        """The shapes with the batch axis put before those that have one."""
        names, shared = self.argument_names(attributes, len(shapes)), self.shared(attributes)
        return [
            tuple(shape) if name in shared else (batch, *shape)
            for name, shape in zip(names, shapes, strict=True)
        ]

    def cost(self, attributes: Attributes, shapes: Sequence[Shape]) -> Cost:
        """Multiply-adds and operations of one sample."""
        if not self.has_formula:
            return Cost(0, 0)
        return self.formula(attributes, self.full_shapes(attributes, shapes)).cost()

    def bind(
        self, attributes: Attributes, arrays: Sequence[ArrayLike]
    ) -> tuple[Formula, dict[str, Array]]:
        """The formula on these arrays' shapes, and the arrays by the names that it reads."""
        names = self.argument_names(attributes, len(arrays))
        tensors = {name: np.asarray(a, np.float64) for name, a in zip(names, arrays, strict=True)}
        formula = self.formula(attributes, [a.shape for a in tensors.values()])
        return formula, tensors


class Gradient(Operation):
    """The gradient of an operation to one of its arguments, as an operation.

    Inputs are the upstream gradient and the operation's own inputs. A loss has no upstream: its
    gradient is that of the mean over the batch.
    """

    has_formula = False

    def __init__(self, forward: Operation, argument: str) -> None:
        self.forward = forward
        self.argument = argument
        self.name = f"{forward.name}:d{argument}"
        self.attributes = forward.attributes
        self.parameters = forward.parameters
        self.skipped = 0 if forward.is_loss else 1

    def argument_names(self, attributes: Attributes, count: int) -> tuple[str, ...]:
        inner = self.forward.argument_names(attributes, count - self.skipped)
        if self.argument not in inner:
            raise OptionError(
                f"{self.name}: expected an argument of {self.forward.name}; got "
                f"{self.argument!r}. {suggest(self.argument, inner)}"
            )
        return (*("upstream",)[: self.skipped], *inner)

    def _position(self, attributes: Attributes, count: int) -> int:
        return self.argument_names(attributes, count).index(self.argument)

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        position = self._position(attributes, len(shapes))
        output = self.forward.shape(attributes, shapes[self.skipped :])
        if self.skipped and tuple(shapes[0]) != output:
            raise ShapeError(
                f"{self.name}: expected an upstream gradient of shape {output}, that of the "
                f"output; got {tuple(shapes[0])}."
            )
        return tuple(shapes[position])

    def reference(self, attributes: Attributes, arrays: Sequence[ArrayLike]) -> Array:
        position = self._position(attributes, len(arrays)) - self.skipped
        inputs = arrays[self.skipped :]
        if self.skipped:
            upstream = np.asarray(arrays[0], np.float64)
        else:
            batch = np.shape(inputs[0])[0]
            upstream = np.full(batch, 1.0 / max(batch, 1))
        found = self.forward.gradient(attributes, upstream, inputs, [position])[position]
        if found is None:
            raise OptionError(f"{self.name}: there is no gradient to {self.argument!r}.")
        return found

    def differentiable(self, argument: str) -> bool:
        return False


# ---- attributes ------------------------------------------------------------------------------


def require_attributes(name: str, attributes: Attributes, known: Sequence[str]) -> None:
    """Refuse attributes that are missing or unknown."""
    for key in attributes:
        if key not in known:
            raise OptionError(f"{name}: unknown attribute {key!r}. {suggest(str(key), known)}")
    for key in known:
        if key not in attributes:
            raise OptionError(f"{name}: expected the attribute {key!r}; got {sorted(attributes)}.")


def sizes_attribute(
    name: str, attributes: Attributes, key: str, count: int, least: int = 1
) -> tuple[int, ...]:
    """An attribute of a whole number for each of `count` axes of space."""
    return several(attributes[key], count, f"{name}: {key}", least)


def padding_attribute(
    name: str, attributes: Attributes, count: int = 2
) -> tuple[tuple[int, int], ...]:
    """The padding, (before, after) for each of `count` axes: ((top, bottom), (left, right))."""
    padding = attributes["padding"]
    if not isinstance(padding, Sequence) or len(padding) != count:
        form = {1: "[[before, after]]", 2: "[[top, bottom], [left, right]]"}
        raise OptionError(
            f"{name}: padding expected {form.get(count, f'{count} pairs [before, after]')}; "
            f"got {padding!r}."
        )
    return tuple(pair(side, f"{name}: padding") for side in padding)


def whole_attribute(name: str, attributes: Attributes, key: str, least: int) -> int:
    """A whole number of at least `least`."""
    value = attributes[key]
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < least:
        raise OptionError(
            f"{name}: {key} expected a whole number of at least {least}; got {value!r}."
        )
    return int(value)


def number_attribute(name: str, attributes: Attributes, key: str) -> float:
    """A finite number."""
    value = attributes[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise OptionError(f"{name}: {key} expected a finite number; got {value!r}.")
    return float(value)


def require_rank(name: str, argument: str, shape: Shape, axes: str) -> None:
    """Refuse a shape that has not the named axes."""
    count = len(axes.split(", "))
    if len(shape) != count:
        raise ShapeError(
            f"{name}: {argument} expected {count} axes ({axes}) besides the batch; "
            f"got shape {tuple(shape)}."
            if argument == "x"
            else f"{name}: {argument} expected {count} axes ({axes}); got shape {tuple(shape)}."
        )


def require_same(name: str, names: Sequence[str], shapes: Sequence[Shape]) -> Shape:
    """The one shape that all inputs have."""
    for argument, shape in zip(names, shapes, strict=True):
        if tuple(shape) != tuple(shapes[0]):
            raise ShapeError(
                f"{name}: expected inputs of equal shape; got {names[0]} {tuple(shapes[0])} and "
                f"{argument} {tuple(shape)}."
            )
    return tuple(shapes[0])
