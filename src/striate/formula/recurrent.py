"""One step of recurrent layers, between the products with the weights: the gates.

`x` and `h` hold the products of the input and of the last output for all gates, one gate after the
other, as torch's weights have them. The products are `linear` nodes; a sequence is unrolled.
"""

from __future__ import annotations

from collections.abc import Sequence

from striate.errors import ShapeError
from striate.formula.expression import Expr, Tensor, axes, sigmoid, tanh
from striate.formula.formula import Formula
from striate.formula.operation import Attributes, Operation, Shape, require_attributes


class _Gates(Operation):
    """Inputs x and h of `gates` times as many numbers as c, the state, has."""

    arguments = ("x", "h", "c")
    gates = 0

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        self.argument_names(attributes, len(shapes))
        x, h, c = (tuple(shape) for shape in shapes)
        if len(c) != 1 or x != h or x != (self.gates * c[0],):
            raise ShapeError(
                f"{self.name}: expected x and h of {self.gates} gates, each as large as the state "
                f"c; got x {x}, h {h} and c {c} besides the batch."
            )
        return c

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        n, k = axes("n k")
        batch, size = shapes[2]
        both = [
            (Tensor("x")[n, k + gate * size], Tensor("h")[n, k + gate * size])
            for gate in range(self.gates)
        ]
        tensors = {name: tuple(s) for name, s in zip(self.arguments, shapes, strict=True)}
        body = self._body([list(gate) for gate in both], Tensor("c")[n, k])
        return Formula((n, k), body, {"n": batch, "k": size}, tensors)

    def _body(self, gates: Sequence[Sequence[Expr]], state: Expr) -> Expr:
        raise TypeError(f"{type(self).__name__} has no formula.")


class LstmState(_Gates):
    """`c′[n,k] = σ(f)·c[n,k] + σ(i)·tanh(g)`, where i, f, g, o are the gates of x + h.

    Inputs: x, h (n, 4·size); c (n, size), the last state. Output: (n, size), the new state.

    Source: Hochreiter & Schmidhuber, Long short-term memory, Neural Computation 9 (1997); Gers,
    Schmidhuber, Cummins, Learning to forget (2000).
    """

    name = "lstm_state"
    gates = 4

    def _body(self, gates: Sequence[Sequence[Expr]], state: Expr) -> Expr:
        i, f, g, _ = (x + h for x, h in gates)
        return sigmoid(f) * state + sigmoid(i) * tanh(g)


class LstmOutput(_Gates):
    """`y[n,k] = σ(o)·tanh(c′[n,k])`, o the last of the four gates of x + h.

    Inputs: x, h (n, 4·size); c (n, size), the new state. Output: (n, size).

    Source: Hochreiter & Schmidhuber, Long short-term memory, Neural Computation 9 (1997).
    """

    name = "lstm_output"
    gates = 4

    def _body(self, gates: Sequence[Sequence[Expr]], state: Expr) -> Expr:
        x, h = gates[3]
        return sigmoid(x + h) * tanh(state)


class GruState(_Gates):
    """`y = (1 − z)·tanh(x_n + r·h_n) + z·c`, `r = σ(x_r + h_r)`, `z = σ(x_z + h_z)`.

    Inputs: x, h (n, 3·size), the gates r, z and n; c (n, size), the last output.
    Output: (n, size).

    Source: Cho et al., Learning phrase representations using RNN encoder-decoder,
    arXiv:1406.1078 (with r applied after the product, as cuDNN and torch do).
    """

    name = "gru_state"
    gates = 3

    def _body(self, gates: Sequence[Sequence[Expr]], state: Expr) -> Expr:
        (xr, hr), (xz, hz), (xn, hn) = gates
        fresh, keep = tanh(xn + sigmoid(xr + hr) * hn), sigmoid(xz + hz)
        return (1 - keep) * fresh + keep * state
