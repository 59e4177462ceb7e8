"""Activation layers: one function of scalars on every element, and softmax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from striate.formula.expression import Expr, Operand
from striate.nn import functional as F
from striate.nn.elementwise import scalar_expression
from striate.nn.functional_activation import require_tanh, slope_of
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


class ReLU6(ReLU):
    """`min(max(x, 0), 6)`."""

    def forward(self, x: Any) -> Any:
        """`min(max(x, 0), 6)`."""
        return F.relu6(x, inplace=self.inplace)


class SiLU(ReLU):
    """`x/(1 + exp(−x))`, also called swish."""

    def forward(self, x: Any) -> Any:
        """`x/(1 + exp(−x))`."""
        return F.silu(x, inplace=self.inplace)


class Hardsigmoid(ReLU):
    """`min(max(x + 3, 0), 6)/6`."""

    def forward(self, x: Any) -> Any:
        """`min(max(x + 3, 0), 6)/6`."""
        return F.hardsigmoid(x, inplace=self.inplace)

    def extra_repr(self) -> str:
        return ""


class Hardswish(ReLU):
    """`x·min(max(x + 3, 0), 6)/6`.

    Source: Howard et al., Searching for MobileNetV3, arXiv:1905.02244.
    """

    def forward(self, x: Any) -> Any:
        """`x·min(max(x + 3, 0), 6)/6`."""
        return F.hardswish(x, inplace=self.inplace)

    def extra_repr(self) -> str:
        return ""


class LeakyReLU(Module):
    """`x` where x > 0, else `negative_slope·x`.

    Args:
        negative_slope: the factor of negative numbers.
        inplace: inside a network the input itself becomes the output, as in torch.
    """

    one_node = True

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__()
        self.negative_slope = slope_of(negative_slope, "LeakyReLU")
        self.inplace = bool(inplace)

    def forward(self, x: Any) -> Any:
        """`x` where x > 0, else `negative_slope·x`."""
        return F.leaky_relu(x, self.negative_slope, self.inplace)

    def extra_repr(self) -> str:
        inplace = ", inplace=True" if self.inplace else ""
        return f"negative_slope={self.negative_slope}{inplace}"


class GELU(Module):
    """`x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³)))`.

    Args:
        approximate: has to be "tanh"; torch's default, the exact form, is not supported.
    Source: Hendrycks & Gimpel, Gaussian Error Linear Units, arXiv:1606.08415.
    """

    one_node = True

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        require_tanh(approximate, "GELU")
        self.approximate = approximate

    def forward(self, x: Any) -> Any:
        """The formula of x."""
        return F.gelu(x, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


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
