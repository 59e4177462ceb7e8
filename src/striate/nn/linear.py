"""Linear and Bilinear: every output reads every input."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from striate.nn import functional as F
from striate.nn import init
from striate.nn.arguments import check_kind, whole
from striate.nn.module import Module
from striate.nn.parameter import Parameter


class Linear(Module):
    """`y[n,…,o] = bias[o] + Σ_k x[n,…,k]·weight[o,k]`.

    Args:
        in_features: numbers that go in, along the last axis.
        out_features: numbers that come out.
        bias: whether there is one.
    Input: (n, …, in_features). Output: (n, …, out_features).
    Parameters: weight (out_features, in_features) and bias (out_features,), both U(−r, r) with
        r = 1/√in_features at first.

    >>> Linear(400, 120)(np.zeros((4, 400))).shape
    (4, 120)
    """

    one_node = True

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check_kind("Linear", device, dtype)
        self.in_features = whole(in_features, "Linear", "in_features")
        self.out_features = whole(out_features, "Linear", "out_features")
        self.weight = Parameter(np.empty((self.out_features, self.in_features), np.float32))
        self.bias = Parameter(np.empty(self.out_features, np.float32)) if bias else None
        if not bias:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw fresh weights and biases, as torch distributes them."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features)
            init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Any) -> Any:
        """`y` for x (n, in_features)."""
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )


class Bilinear(Module):
    """`y[n,…,o] = bias[o] + Σ_{k,l} x[n,…,k]·weight[o,k,l]·z[n,…,l]`.

    Args:
        in1_features, in2_features: numbers of the two inputs, along the last axis.
        out_features: numbers that come out.
        bias: whether there is one.
    Inputs: x (n, …, in1_features) and z (n, …, in2_features). Output: (n, …, out_features).
    Parameters: weight (out_features, in1_features, in2_features) and bias (out_features,), both
        U(−r, r) with r = 1/√in1_features at first.
    """

    one_node = True

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check_kind("Bilinear", device, dtype)
        self.in1_features = whole(in1_features, "Bilinear", "in1_features")
        self.in2_features = whole(in2_features, "Bilinear", "in2_features")
        self.out_features = whole(out_features, "Bilinear", "out_features")
        shape = (self.out_features, self.in1_features, self.in2_features)
        self.weight = Parameter(np.empty(shape, np.float32))
        self.bias = Parameter(np.empty(self.out_features, np.float32)) if bias else None
        if not bias:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw fresh weights and biases, as torch distributes them."""
        bound = 1 / math.sqrt(self.in1_features)
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Any, z: Any) -> Any:
        """The layer's output, of two inputs."""
        return F.bilinear(x, z, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in1_features={self.in1_features}, in2_features={self.in2_features}, "
            f"out_features={self.out_features}, bias={self.bias is not None}"
        )
