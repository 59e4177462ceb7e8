"""Activation layers without parameters: functions of scalars on every element, and along an axis.

Those with learned parameters are in `activation_learned`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from striate.errors import ShapeError
from striate.nn import functional as F
from striate.nn.elementwise import finite
from striate.nn.functional_activation import (
    bounds,
    gelu_form,
    nonzero,
    shrinkage,
    slopes,
    steepness,
)
from striate.nn.module import Module


class _Plain(Module):
    """An activation without settings; a subclass names its function."""

    one_node = True
    function: Callable[..., Any]

    def forward(self, x: Any) -> Any:
        """The formula of x."""
        return type(self).function(x)


class _InPlace(Module):
    """An activation that torch can compute in place.

    Args:
        inplace: inside a network the input itself becomes the output, as in torch; it saves
            nothing here, since a program decides itself where numbers lie.
    """

    one_node = True
    function: Callable[..., Any]

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = bool(inplace)

    def forward(self, x: Any) -> Any:
        """The formula of x."""
        return type(self).function(x, inplace=self.inplace)

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


class ReLU(_InPlace):
    """`max(x, 0)`.

    Args:
        inplace: inside a network the input itself becomes the output, as in torch; it saves
            nothing here, since a program decides itself where numbers lie.
    """

    function = staticmethod(F.relu)


class ReLU6(_InPlace):
    """`min(max(x, 0), 6)`."""

    function = staticmethod(F.relu6)


class SiLU(_InPlace):
    """`x/(1 + exp(−x))`, also called swish."""

    function = staticmethod(F.silu)


class Mish(_InPlace):
    """`x·tanh(ln(1 + eˣ))`.

    Source: Misra, Mish, arXiv:1908.08681.
    """

    function = staticmethod(F.mish)


class SELU(_InPlace):
    """`1.0507·x` where x > 0, else `1.0507·1.6733·(eˣ − 1)`: mean 0 and variance 1 are kept.

    Source: Klambauer et al., Self-Normalizing Neural Networks, arXiv:1706.02515.
    """

    function = staticmethod(F.selu)


class Hardsigmoid(_InPlace):
    """`min(max(x + 3, 0), 6)/6`."""

    function = staticmethod(F.hardsigmoid)

    def extra_repr(self) -> str:
        return ""


class Hardswish(_InPlace):
    """`x·min(max(x + 3, 0), 6)/6`.

    Source: Howard et al., Searching for MobileNetV3, arXiv:1905.02244.
    """

    function = staticmethod(F.hardswish)

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
        self.negative_slope = finite(negative_slope, "LeakyReLU", "negative_slope")
        self.inplace = bool(inplace)

    def forward(self, x: Any) -> Any:
        """`x` where x > 0, else `negative_slope·x`."""
        return F.leaky_relu(x, self.negative_slope, self.inplace)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}{_inplace(self)}"


def _inplace(layer: Any) -> str:
    return ", inplace=True" if layer.inplace else ""


class RReLU(Module):
    """`x` where x ≥ 0, else `a·x`: in training a is drawn for each number, else it is the mean.

    Args:
        lower, upper: in training a is uniform between them, in evaluation (lower + upper)/2.
        inplace: inside a network the input itself becomes the output, as in torch.
    Source: Xu et al., Empirical Evaluation of Rectified Activations, arXiv:1505.00853.
    """

    one_node = True

    def __init__(
        self, lower: float = 1.0 / 8, upper: float = 1.0 / 3, inplace: bool = False
    ) -> None:
        super().__init__()
        self.lower, self.upper = slopes(lower, upper, "RReLU")
        self.inplace = bool(inplace)

    def forward(self, x: Any) -> Any:
        """`x` where x ≥ 0, else `a·x`."""
        return F.rrelu(x, self.lower, self.upper, self.training, self.inplace)

    def extra_repr(self) -> str:
        return f"lower={self.lower}, upper={self.upper}{_inplace(self)}"


class ELU(Module):
    """`x` where x > 0, else `alpha·(eˣ − 1)`.

    Args:
        alpha: −alpha is the limit of very negative numbers.
        inplace: inside a network the input itself becomes the output, as in torch.
    Source: Clevert et al., Exponential Linear Units, arXiv:1511.07289.
    """

    one_node = True
    function: Callable[..., Any] = staticmethod(F.elu)

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha, self.inplace = self._checked(alpha), bool(inplace)

    def _checked(self, alpha: float) -> float:
        return finite(alpha, type(self).__name__, "alpha")

    def forward(self, x: Any) -> Any:
        """The formula of x."""
        return type(self).function(x, self.alpha, self.inplace)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}{_inplace(self)}"


class CELU(ELU):
    """`x` where x > 0, else `alpha·(e^(x/alpha) − 1)`: its slope is continuous.

    Args:
        alpha: −alpha is the limit of very negative numbers; not 0.
        inplace: inside a network the input itself becomes the output, as in torch.
    Source: Barron, Continuously Differentiable Exponential Linear Units, arXiv:1704.07483.
    """

    function = staticmethod(F.celu)

    def _checked(self, alpha: float) -> float:
        return nonzero(alpha, "CELU", "alpha")


class GELU(Module):
    """`x·Φ(x)`, Φ the normal distribution: `x/2·(1 + erf(x/√2))`.

    Args:
        approximate: "none", or "tanh" for `x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³)))`.
    Source: Hendrycks & Gimpel, Gaussian Error Linear Units, arXiv:1606.08415.
    """

    one_node = True

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        gelu_form(approximate, "GELU")
        self.approximate = approximate

    def forward(self, x: Any) -> Any:
        """The formula of x."""
        return F.gelu(x, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class Hardtanh(Module):
    """`min(max(x, min_val), max_val)`.

    Args:
        min_val, max_val: the bounds.
        inplace: inside a network the input itself becomes the output, as in torch.
        min_value, max_value: torch's old names of the bounds.
    """

    one_node = True

    def __init__(
        self,
        min_val: float = -1.0,
        max_val: float = 1.0,
        inplace: bool = False,
        min_value: float | None = None,
        max_value: float | None = None,
    ) -> None:
        super().__init__()
        low = min_val if min_value is None else min_value
        high = max_val if max_value is None else max_value
        self.min_val, self.max_val = bounds(low, high, "Hardtanh")
        self.inplace = bool(inplace)

    def forward(self, x: Any) -> Any:
        """`min(max(x, min_val), max_val)`."""
        return F.hardtanh(x, self.min_val, self.max_val, self.inplace)

    def extra_repr(self) -> str:
        return f"min_val={self.min_val}, max_val={self.max_val}{_inplace(self)}"


class Hardshrink(Module):
    """`x` where |x| > lambd, else 0.

    Args:
        lambd: up to where numbers become 0.
    """

    one_node = True
    function: Callable[..., Any] = staticmethod(F.hardshrink)

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.lambd = self._checked(lambd)

    def _checked(self, lambd: float) -> float:
        return finite(lambd, "Hardshrink", "lambd")

    def forward(self, x: Any) -> Any:
        """The formula of x."""
        return type(self).function(x, self.lambd)

    def extra_repr(self) -> str:
        return f"{self.lambd}"


class Softshrink(Hardshrink):
    """`x − lambd` where x > lambd, `x + lambd` where x < −lambd, else 0.

    Args:
        lambd: what is taken off; at least 0.
    """

    function = staticmethod(F.softshrink)

    def _checked(self, lambd: float) -> float:
        return shrinkage(lambd, "Softshrink")


class Threshold(Module):
    """`x` where x > threshold, else `value`.

    Args:
        threshold: numbers up to it are replaced.
        value: by this.
        inplace: inside a network the input itself becomes the output, as in torch.
    """

    one_node = True

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        super().__init__()
        self.threshold = finite(threshold, "Threshold", "threshold")
        self.value = finite(value, "Threshold", "value")
        self.inplace = bool(inplace)

    def forward(self, x: Any) -> Any:
        """`x` where x > threshold, else `value`."""
        return F.threshold(x, self.threshold, self.value, self.inplace)

    def extra_repr(self) -> str:
        return f"threshold={self.threshold}, value={self.value}{_inplace(self)}"


class Softplus(Module):
    """`ln(1 + e^(beta·x))/beta`; x itself where beta·x > threshold.

    Args:
        beta: how sharp the bend is; not 0.
        threshold: from where on it is x.
    """

    one_node = True

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta = nonzero(beta, "Softplus", "beta")
        self.threshold = finite(threshold, "Softplus", "threshold")

    def forward(self, x: Any) -> Any:
        """The formula of x."""
        return F.softplus(x, self.beta, self.threshold)

    def extra_repr(self) -> str:
        return f"beta={self.beta}, threshold={self.threshold}"


class Tanh(_Plain):
    """`tanh(x)`."""

    function = staticmethod(F.tanh)


class Sigmoid(_Plain):
    """`1/(1 + exp(−x))`."""

    function = staticmethod(F.sigmoid)


class LogSigmoid(_Plain):
    """`ln σ(x) = −ln(1 + e^(−x))`."""

    function = staticmethod(F.logsigmoid)


class Softsign(_Plain):
    """`x/(1 + |x|)`, also called ElliotSig.

    Source: Elliott, A Better Activation Function for Artificial Neural Networks, 1993.
    """

    function = staticmethod(F.softsign)


class Tanhshrink(_Plain):
    """`x − tanh(x)`."""

    function = staticmethod(F.tanhshrink)


# ---- what torch has not ----------------------------------------------------------------------


class ScaledTanh(_Plain):
    """LeNet-5's activation `1.7159·tanh(2x/3)`: f(1) = 1, f(−1) = −1.

    Source: LeCun et al., Gradient-based learning applied to document recognition, 1998, app. A.
    """

    function = staticmethod(F.scaled_tanh)


class BinaryStep(_Plain):
    """1 where x ≥ 0, else 0; its derivative counts as 0, so nothing before it learns."""

    function = staticmethod(F.binary_step)


class SQNL(_Plain):
    """`x − x²/4` from 0 to 2, `x + x²/4` from −2 to 0, ±1 beyond.

    Source: Wuraola & Patel, SQNL: A New Computationally Efficient Activation Function, IJCNN 2018.
    """

    function = staticmethod(F.sqnl)


class Arctan(_Plain):
    """`arctan(x)`, between −π/2 and π/2."""

    function = staticmethod(F.arctan)


class Arsinh(_Plain):
    """`arsinh(x) = ln(x + √(x² + 1))`."""

    function = staticmethod(F.arsinh)


class ELiSH(_Plain):
    """`x·σ(x)` where x ≥ 0, else `(eˣ − 1)·σ(x)`.

    Source: Basirat & Roth, The Quest for the Golden Activation Function, arXiv:1808.00783.
    """

    function = staticmethod(F.elish)


class BReLU(_Plain):
    """`max(x, 0)` in channels 0, 2, 4 …, `−max(−x, 0)` in channels 1, 3, 5 …: bipolar ReLU.

    Input and output: (n, channels, …).

    Source: Eidnes & Nøkland, Shifting Mean Activation Towards Zero with Bipolar Activation
        Functions, arXiv:1709.04054.
    """

    function = staticmethod(F.brelu)


class ISRU(Module):
    """`x/√(1 + alpha·x²)`, between ±1/√alpha.

    Args:
        alpha: at least 0.
    Source: Carlile et al., Improving Deep Learning by Inverse Square Root Linear Units,
        arXiv:1710.09967.
    """

    one_node = True
    function: Callable[..., Any] = staticmethod(F.isru)

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = steepness(alpha, type(self).__name__)

    def forward(self, x: Any) -> Any:
        """The formula of x."""
        return type(self).function(x, self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


class ISRLU(ISRU):
    """`x` where x ≥ 0, else `x/√(1 + alpha·x²)`.

    Args:
        alpha: at least 0.
    Source: Carlile et al., Improving Deep Learning by Inverse Square Root Linear Units,
        arXiv:1710.09967.
    """

    function = staticmethod(F.isrlu)


# ---- along an axis ---------------------------------------------------------------------------


class Softmax(Module):
    """`y[n,…,k,…] = exp(x[n,…,k,…])/Σ_t exp(x[n,…,t,…])`, k and t along `dim`.

    Args:
        dim: the axis; not 0, the batch.
    """

    one_node = True
    function: Callable[..., Any] = staticmethod(F.softmax)

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Any) -> Any:
        """The formula of x."""
        return type(self).function(x, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class LogSoftmax(Softmax):
    """`y[n,…,k,…] = x[n,…,k,…] − ln Σ_t exp(x[n,…,t,…])`, k and t along `dim`.

    Args:
        dim: the axis; not 0, the batch.
    """

    function = staticmethod(F.log_softmax)


class Softmin(Softmax):
    """`softmax(−x)` along `dim`: the smallest number gets the largest share.

    Args:
        dim: the axis; not 0, the batch.
    """

    function = staticmethod(F.softmin)


class Softmax2d(Module):
    """Softmax over the channels of images, at each place.

    Input and output: (n, channels, h, w).
    """

    one_node = True

    def forward(self, x: Any) -> Any:
        """`y` for x (n, channels, h, w)."""
        if len(x.shape) != 4:
            raise ShapeError(
                f"Softmax2d: expected images (n, channels, h, w); got shape {tuple(x.shape)}."
            )
        return F.softmax(x, 1)


class GLU(Module):
    """`a·σ(b)` for the halves a and b of x along `dim`: the gated linear unit.

    Args:
        dim: the axis; not 0, the batch.
    Source: Dauphin et al., Language Modeling with Gated Convolutional Networks, arXiv:1612.08083.
    """

    one_node = True

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Any) -> Any:
        """`a·σ(b)`."""
        return F.glu(x, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"
