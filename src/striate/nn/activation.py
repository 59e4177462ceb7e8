"""Activation layers: one function of scalars on every element, and softmax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from striate.formula.expression import Expr, Operand
from striate.nn import functional as F
from striate.nn.elementwise import scalar_expression
from striate.nn.module import Module


class ReLU(Module):
    """`max(x, 0)`.

    Args:
        inplace: inside a network the input itself becomes the output, as in torch; it saves
            nothing here, since a program decides itself where numbers lie.
    """

    one_node = True

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = bool(inplace)

    def forward(self, x: Any) -> Any:
        """`max(x, 0)`."""
        return F.relu(x, inplace=self.inplace)

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


class Tanh(Module):
    """`tanh(x)`."""

    one_node = True

    def forward(self, x: Any) -> Any:
        """`tanh(x)`."""
        return F.tanh(x)


class Sigmoid(Module):
    """`1/(1 + exp(−x))`."""

    one_node = True

    def forward(self, x: Any) -> Any:
        """`1/(1 + exp(−x))`."""
        return F.sigmoid(x)


class ScaledTanh(Module):
    """LeNet-5's activation `1.7159·tanh(2x/3)`: f(1) = 1, f(−1) = −1.

    Source: LeCun et al., Gradient-based learning applied to document recognition, 1998, app. A.
    """

    one_node = True

    def forward(self, x: Any) -> Any:
        """`1.7159·tanh(2x/3)`."""
        return F.scaled_tanh(x)


class Softmax(Module):
    """`y[n,o] = exp(x[n,o])/Σ_c exp(x[n,c])`.

    Args:
        dim: 1, the classes.
    Input and output: (n, classes).
    """

    one_node = True

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Any) -> Any:
        """`y` for x (n, classes)."""
        return F.softmax(x, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Scalar(Module):
    """Your own activation: any formula of a scalar, on every element.

    Its reference, gradient and machine code follow from the one line.

    Args:
        fn_or_expr: a function of one scalar, written with + - * / ** and the functions of
            `striate.nn.scalar`; or an expression of one variable.
        name: what to call it where the network is shown.
    Input and output: (n, …).

    >>> import numpy as np
    >>> from striate.nn.scalar import sqrt, where
    >>> Scalar(lambda x: where(x > 0, x, x / sqrt(1 + x * x)), name="isrlu")(np.array([[2.0]]))
    array([[2.]], dtype=float32)
    """

    one_node = True

    def __init__(
        self, fn_or_expr: Callable[[Any], Operand] | Expr, name: str | None = None
    ) -> None:
        super().__init__()
        self.expression, _ = scalar_expression(fn_or_expr, 1, "Scalar")
        self.name = name

    def forward(self, x: Any) -> Any:
        """The formula of x."""
        return F.scalar(self.expression, x)

    def extra_repr(self) -> str:
        return f"{self.name}: {self.expression}" if self.name else str(self.expression)
