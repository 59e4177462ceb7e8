"""Activations in `striate.nn.functional` that need more than one number at a time.

Some have parameters of each channel, which are learned; some look along an axis.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from striate.errors import OptionError, ShapeError
from striate.formula import channel_map
from striate.nn.apply import T, Weight, apply
from striate.nn.execution import as_batch
from striate.nn.symbol import SymbolicTensor, at_line

# ---- with parameters -------------------------------------------------------------------------


def prelu(input: T, weight: Weight) -> T:
    """`x` where x > 0, else `weight[c]·x`.

    Args:
        input: (n, channels, …).
        weight: (channels,), or (1,) for all channels.
    Source: He et al., Delving Deep into Rectifiers, arXiv:1502.01852.

    >>> prelu(np.array([[-1.0, -1.0, 2.0]]), np.array([0.5, 0.25, 0.0]))
    array([[-0.5 , -0.25,  2.  ]], dtype=float32)
    """
    return _by_channel(input, (weight,), channel_map.prelu(), "prelu")


def srelu(input: T, t_left: Weight, a_left: Weight, t_right: Weight, a_right: Weight) -> T:
    """`t_l + a_l·(x − t_l)` where x ≤ t_l, `t_r + a_r·(x − t_r)` where x ≥ t_r, else x.

    Args:
        input: (n, channels, …).
        t_left, a_left, t_right, a_right: each (channels,), or (1,) for all channels.
    Source: Jin et al., Deep Learning with S-shaped Rectified Linear Activation Units,
        arXiv:1512.07030.

    >>> numbers = [np.array([k]) for k in (-1.0, 0.5, 1.0, 2.0)]
    >>> srelu(np.array([[-3.0, 0.5, 3.0]]), *numbers)
    array([[-2. ,  0.5,  5. ]], dtype=float32)
    """
    parts = (t_left, a_left, t_right, a_right)
    return _by_channel(input, parts, channel_map.srelu(), "srelu")


def apl(input: T, a: Weight, b: Weight) -> T:
    """`max(0, x) + Σ_s a[s,c]·max(0, −x + b[s,c])`: a piecewise linear function with S hinges.

    Args:
        input: (n, channels, …).
        a, b: slopes and places of the hinges, (S, channels), or (S, 1) for all channels.
    Source: Agostinelli et al., Learning Activation Functions to Improve Deep Neural Networks,
        arXiv:1412.6830.

    >>> apl(np.array([[-3.0, 2.0]]), np.array([[0.5], [1.0]]), np.array([[0.0], [-1.0]]))
    array([[3.5, 2. ]], dtype=float32)
    """
    hinges = tuple(a.shape)
    if len(hinges) != 2 or tuple(b.shape) != hinges:
        raise ShapeError(
            f"apl: expected a and b of one shape (S, channels) or (S, 1); got {hinges} and "
            f"{tuple(b.shape)}."
        )
    return _by_channel(input, (a, b), channel_map.apl(hinges[0]), "apl")


def brelu(input: T) -> T:
    """`max(x, 0)` in channels 0, 2, 4 …, `−max(−x, 0)` in channels 1, 3, 5 …: bipolar ReLU.

    Source: Eidnes & Nøkland, Shifting Mean Activation Towards Zero with Bipolar Activation
        Functions, arXiv:1709.04054.

    >>> brelu(np.array([[-1.0, -1.0, 2.0, 2.0]]))
    array([[ 0., -1.,  2.,  0.]], dtype=float32)
    """
    return _by_channel(input, (), channel_map.bipolar_relu(), "brelu")


def _by_channel(
    input: T, parameters: tuple[Weight, ...], attributes: dict[str, Any], stem: str
) -> T:
    inputs = (input, *parameters)
    return cast(T, apply("channel_map", inputs, attributes, stem, parameters=len(parameters)))


# ---- along an axis ---------------------------------------------------------------------------


def softmax(input: T, dim: int | None = None) -> T:
    """`y[n,…,k,…] = exp(x[n,…,k,…])/Σ_t exp(x[n,…,t,…])`, k and t along `dim`.

    Args:
        input: (n, …).
        dim: the axis; not 0, the batch.

    >>> softmax(np.zeros((1, 4)), dim=1)
    array([[0.25, 0.25, 0.25, 0.25]], dtype=float32)
    """
    axis = along(input, dim, "softmax")
    if len(input.shape) == 2:
        return cast(T, apply("softmax", (input,), {}))
    return cast(T, apply("softmax_along", (input,), {"axis": axis}, "softmax"))


def softmin(input: T, dim: int | None = None) -> T:
    """`softmax(−x)` along `dim`: the smallest number gets the largest share.

    >>> softmin(np.array([[0.0, np.log(3.0)]]), dim=1)
    array([[0.75, 0.25]], dtype=float32)
    """
    axis = along(input, dim, "softmin")
    return cast(T, apply("softmin", (input,), {"axis": axis}))


def log_softmax(input: T, dim: int | None = None) -> T:
    """`y[n,…,k,…] = x[n,…,k,…] − ln Σ_t exp(x[n,…,t,…])`, k and t along `dim`.

    Args:
        input: (n, …).
        dim: the axis; not 0, the batch.

    >>> log_softmax(np.array([[0.0, 1000.0]]), dim=1)
    array([[-1000.,     0.]], dtype=float32)
    """
    axis = along(input, dim, "log_softmax")
    return cast(T, apply("log_softmax", (input,), {"axis": axis}))


def glu(input: T, dim: int = -1) -> T:
    """`a·σ(b)` for the halves a and b of x along `dim`: the gated linear unit.

    Args:
        input: (n, …), even along `dim`.
        dim: the axis; not 0, the batch.
    Returns:
        Half as long along `dim`.
    Source: Dauphin et al., Language Modeling with Gated Convolutional Networks, arXiv:1612.08083.

    >>> glu(np.array([[3.0, 5.0, 0.0, 100.0]]))
    array([[1.5, 5. ]], dtype=float32)
    """
    return cast(T, apply("glu", (input,), {"axis": along(input, dim, "glu")}))


def along(x: Any, dim: int | None, where: str) -> int:
    """The axis `dim` counted from the front.

    Raises:
        OptionError: none is given.
        ShapeError: it is outside the shape, or the batch.
    """
    if dim is None:
        raise OptionError(f"{where}: expected an axis; got dim=None. Write dim=1 for channels.")
    shape = x.shape if isinstance(x, SymbolicTensor) else as_batch(x, where).shape
    known = isinstance(dim, (int, np.integer)) and not isinstance(dim, bool)
    if not known or not -len(shape) <= dim < len(shape) or dim % len(shape) == 0:
        raise ShapeError(
            f"{where}: expected an axis from 1 to {len(shape) - 1} (axis 0 is the batch); got "
            f"dim={dim!r} for shape {tuple(shape)}{at_line()}."
        )
    return int(dim) % len(shape)
