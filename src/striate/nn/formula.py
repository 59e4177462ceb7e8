"""Layers of one's own: an index formula, or a registered operation, with its parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from striate.errors import OptionError, ShapeError, suggest
from striate.formula.expression import Expr, Index
from striate.formula.operations import find_operation
from striate.formula.own import formula_attributes
from striate.nn import init
from striate.nn.apply import apply
from striate.nn.module import Module
from striate.nn.parameter import Parameter


class Operation(Module):
    """A layer of any operation of `striate.formula.operations`, with its parameters.

    Args:
        op: the operation's name.
        parameters: arrays, or shapes (then uniform within ±1/√(numbers behind the first axis)),
            by the names that the operation gives them.
        attributes: the operation's settings.
    Input: the operation's other inputs. Output: what it gives.

    >>> layer = Operation("conv1d", {"w": (4, 3, 5)}, stride=[1], padding=[[2, 2]], dilation=[1],
    ...                   groups=1)
    >>> layer(np.zeros((2, 3, 10))).shape
    (2, 4, 10)
    """

    one_node = True

    def __init__(
        self, op: str, parameters: Mapping[str, Any] | None = None, **attributes: Any
    ) -> None:
        super().__init__()
        find_operation(op)
        self.op, self.attributes = op, attributes
        self._given = tuple(parameters or {})
        for name, value in (parameters or {}).items():
            setattr(self, name, _parameter(name, value))

    def forward(self, *inputs: Any) -> Any:
        """The operation of the inputs and the parameters."""
        weights = [getattr(self, name) for name in self._given]
        operation = find_operation(self.op)
        names = operation.argument_names(self.attributes, len(inputs) + len(weights))
        if self._given and names[-len(weights) :] != self._given:
            raise ShapeError(
                f"{self.op}: expected inputs {', '.join(names)}; got {len(inputs)} of them and the "
                f"parameters {', '.join(self._given)}. Name the parameters as the last of these."
            )
        return apply(self.op, (*inputs, *weights), self.attributes, parameters=len(weights))

    def extra_repr(self) -> str:
        return self.op


class Formula(Operation):
    """A layer that is written down as its formula: value, gradient and machine code follow.

    Args:
        output: the index of the output, the batch axis first: `(n, c, i, j)`.
        body: the number at that place, of `Sum`, `Max`, reads `x[n, c, i + p, j]` and functions.
        parameters: arrays or shapes of the tensors that have no batch axis.
        sizes: sizes of axes that the shapes do not tell, `{"p": 3}`.
        padding: how far outside a tensor may be read: `{"x": [(0, 0), (0, 0), (1, 1)]}`.
        outside: what is read there, 0 unless said.
    Input: the tensors that the body reads at the batch axis, in the order of their first use.

    >>> from striate.formula.expression import Sum, Tensor, axes
    >>> n, c, i, j, p = axes("n c i j p")
    >>> x, w = Tensor("x"), Tensor("w")
    >>> diagonal = Sum((p,), x[n, c, i + p, j + p] * w[c, p])
    >>> layer = Formula((n, c, i, j), diagonal, parameters={"w": np.ones((2, 3))})
    >>> layer(np.ones((1, 2, 5, 6)))[0, 0, 0, 0], layer(np.ones((1, 2, 5, 6))).shape
    (np.float32(3.0), (1, 2, 3, 4))
    """

    def __init__(
        self,
        output: Sequence[Index],
        body: Expr,
        *,
        parameters: Mapping[str, Any] | None = None,
        sizes: Mapping[str, int] | None = None,
        padding: Mapping[str, Sequence[Sequence[int]]] | None = None,
        outside: Mapping[str, float] | None = None,
    ) -> None:
        attributes = formula_attributes(output, body, sizes=sizes, padding=padding, outside=outside)
        given = parameters or {}
        names = find_operation("formula").argument_names(attributes, _count(attributes))
        for name in given:
            if name not in names:
                raise OptionError(
                    f"Formula: expected parameters among {', '.join(names)}; got {name!r}. "
                    f"{suggest(name, names)}"
                )
        ordered = {name: given[name] for name in names if name in given}
        super().__init__("formula", ordered, **attributes)
        self.text = f"[{', '.join(map(str, output))}] = {body}"

    def extra_repr(self) -> str:
        return self.text


def _count(attributes: Mapping[str, Any]) -> int:
    from striate.formula.formula import reads
    from striate.formula.own import body_from_json

    return len({read.tensor for read in reads(body_from_json(attributes["body"]))})


def _parameter(name: str, value: Any) -> Parameter:
    if isinstance(value, Parameter):
        return value
    if isinstance(value, np.ndarray):
        return Parameter(value.astype(np.float32))
    if not isinstance(value, Sequence) or not all(hasattr(k, "__index__") for k in value):
        raise OptionError(
            f"parameters: expected an array or a shape for {name!r}; got {type(value).__name__}."
        )
    parameter = Parameter(np.empty(tuple(value), np.float32))
    bound = 1 / math.sqrt(max(math.prod(value[1:]), 1))
    init.uniform_(parameter, -bound, bound)
    return parameter
