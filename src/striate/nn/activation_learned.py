"""Activation layers with learned parameters, and formulas of one's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from striate.errors import OptionError
from striate.formula.channel_map import MOST_PARAMETERS, channel_map_attributes
from striate.formula.expression import Expr, Operand, Var, substitute, variables
from striate.nn import functional as F
from striate.nn import init
from striate.nn.apply import apply
from striate.nn.arguments import check_kind, whole
from striate.nn.elementwise import finite, scalar_expression, traced_scalar
from striate.nn.module import Module
from striate.nn.parameter import Parameter


class PReLU(Module):
    """`x` where x > 0, else `weight[c]·x` with learned slopes.

    Args:
        num_parameters: 1 for all channels together, or the number of channels.
        init: the slopes at first.
    Input and output: (n, channels, …).
    Parameters: weight (num_parameters,).
    Source: He et al., Delving Deep into Rectifiers, arXiv:1502.01852.
    """

    one_node = True

    def __init__(
        self, num_parameters: int = 1, init: float = 0.25, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        check_kind("PReLU", device, dtype)
        self.num_parameters = whole(num_parameters, "PReLU", "num_parameters")
        self.init = finite(init, "PReLU", "init")
        self.weight = Parameter(np.full(self.num_parameters, self.init, np.float32))

    def reset_parameters(self) -> None:
        """The slopes as at first."""
        self.weight.data[...] = self.init

    def forward(self, x: Any) -> Any:
        """`x` where x > 0, else `weight[c]·x`."""
        return F.prelu(x, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


_SRELU = {"t_left": 0.0, "a_left": 0.2, "t_right": 1.0, "a_right": 1.0}


class SReLU(Module):
    """`t_l + a_l·(x − t_l)` where x ≤ t_l, `t_r + a_r·(x − t_r)` where x ≥ t_r, else x.

    Args:
        num_parameters: 1 for all channels together, or the number of channels.
    Input and output: (n, channels, …).
    Parameters: t_left, a_left, t_right and a_right (num_parameters,), at first 0, 0.2, 1 and 1,
        a leaky ReLU; so the right side has its slope to learn from the first step on.
    Source: Jin et al., Deep Learning with S-shaped Rectified Linear Activation Units,
        arXiv:1512.07030.
    """

    one_node = True

    def __init__(self, num_parameters: int = 1) -> None:
        super().__init__()
        self.num_parameters = whole(num_parameters, "SReLU", "num_parameters")
        for name, value in _SRELU.items():
            setattr(self, name, Parameter(np.full(self.num_parameters, value, np.float32)))

    def reset_parameters(self) -> None:
        """The four numbers as at first."""
        for name, value in _SRELU.items():
            getattr(self, name).data[...] = value

    def forward(self, x: Any) -> Any:
        """The formula of x."""
        return F.srelu(x, self.t_left, self.a_left, self.t_right, self.a_right)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


class APL(Module):
    """`max(0, x) + Σ_s a[s,c]·max(0, −x + b[s,c])`: a piecewise linear function with S hinges.

    Args:
        hinges: S.
        num_parameters: 1 for all channels together, or the number of channels.
    Input and output: (n, channels, …).
    Parameters: a (hinges, num_parameters), at first normal with deviation 0.1, and b of the same
        shape, evenly from −1 to 1 (0 for one hinge).
    Source: Agostinelli et al., Learning Activation Functions to Improve Deep Neural Networks,
        arXiv:1412.6830.
    """

    one_node = True

    def __init__(self, hinges: int = 2, num_parameters: int = 1) -> None:
        super().__init__()
        self.hinges = whole(hinges, "APL", "hinges")
        self.num_parameters = whole(num_parameters, "APL", "num_parameters")
        shape = (self.hinges, self.num_parameters)
        self.a = Parameter(np.zeros(shape, np.float32))
        self.b = Parameter(np.zeros(shape, np.float32))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fresh slopes, and the hinges evenly over [−1, 1]."""
        init.normal_(self.a, 0.0, 0.1)
        places = np.linspace(-1, 1, self.hinges) if self.hinges > 1 else np.zeros(1)
        self.b.data[...] = places[:, None]

    def forward(self, x: Any) -> Any:
        """The formula of x."""
        return F.apl(x, self.a, self.b)

    def extra_repr(self) -> str:
        return f"hinges={self.hinges}, num_parameters={self.num_parameters}"


class Scalar(Module):
    """Your own activation: any formula of a scalar, on every element, with parameters if you like.

    Its reference, gradient and machine code follow from the one line.

    Args:
        fn_or_expr: a function of x and of the parameters by their names, written with + - * / **
            and the functions of `striate.nn.scalar`; or an expression of these.
        name: what to call it where the network is shown.
        parameters: for each parameter's name what it is at first: a number, which all channels
            share, or an array (channels,). They are learned.
    Input and output: (n, …); with parameters (n, channels, …).

    >>> import numpy as np
    >>> from striate.nn.scalar import sqrt, where
    >>> Scalar(lambda x: where(x > 0, x, x / sqrt(1 + x * x)), name="isrlu")(np.array([[2.0]]))
    array([[2.]], dtype=float32)
    >>> from striate.nn.scalar import exp
    >>> swish = Scalar(lambda x, beta: x / (1 + exp(-beta * x)), parameters={"beta": 1.0})
    >>> swish(np.array([[0.0, 100.0]]))
    array([[  0., 100.]], dtype=float32)
    >>> swish.beta.shape
    (1,)
    """

    one_node = True

    def __init__(
        self,
        fn_or_expr: Callable[..., Operand] | Expr,
        name: str | None = None,
        parameters: Mapping[str, ArrayLike] | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self._learned: tuple[str, ...] = tuple(parameters or ())
        if not parameters:
            self.expression, _ = scalar_expression(fn_or_expr, 1, "Scalar")
            return
        self.expression = _expression_of(fn_or_expr, self._learned)
        for key, value in parameters.items():
            array = np.atleast_1d(np.asarray(value, np.float32))
            if array.ndim != 1 or not array.size:
                raise OptionError(
                    f"Scalar: expected a number or an array (channels,) for {key!r}; got "
                    f"shape={array.shape}."
                )
            self.register_parameter(key, Parameter(array))
        places = {key: Var(f"p{k}") for k, key in enumerate(self._learned)}
        self._attributes = channel_map_attributes(substitute(self.expression, places))

    def forward(self, x: Any) -> Any:
        """The formula of x."""
        if not self._learned:
            return F.scalar(self.expression, x)
        parameters = [getattr(self, name) for name in self._learned]
        inputs = (x, *parameters)
        return apply("channel_map", inputs, self._attributes, "scalar", len(parameters))

    def extra_repr(self) -> str:
        return f"{self.name}: {self.expression}" if self.name else str(self.expression)


def _expression_of(given: Callable[..., Operand] | Expr, names: tuple[str, ...]) -> Expr:
    """The expression of x and of the named parameters."""
    if len(names) > MOST_PARAMETERS:
        raise OptionError(
            f"Scalar: expected at most {MOST_PARAMETERS} parameters; got {len(names)}."
        )
    if not isinstance(given, Expr):
        return traced_scalar(given, ("x", *names), "Scalar")
    unknown = [name for name in variables(given) if name not in ("x", *names)]
    if unknown:
        raise OptionError(
            f"Scalar: expected an expression of x, {', '.join(names)}; got {unknown[0]!r} in "
            f"{given}."
        )
    return given
