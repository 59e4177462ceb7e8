"""Products with weights, tables, prototypes and distances in `striate.nn.functional`."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from striate.errors import DataError, OptionError, ShapeError
from striate.nn.apply import T, Weight, apply, sample_shape
from striate.nn.arguments import Sizes, named_pair, unsupported
from striate.nn.functional_arithmetic import maximum, scalar
from striate.nn.functional_reduce import norm, sum_
from striate.nn.parameter import Parameter, as_float32
from striate.nn.symbol import SymbolicTensor
from striate.nn.trace import find_tracer


def linear(input: T, weight: Weight, bias: Weight | None = None) -> T:
    """`y[n,…,o] = bias[o] + Σ_k x[n,…,k]·weight[o,k]`.

    Args:
        input: (n, …, in_features).
        weight: (out_features, in_features).
        bias: (out_features,), or None.
    Returns:
        (n, …, out_features).

    >>> linear(np.ones((2, 3)), np.ones((1, 3)), np.array([1.0]))
    array([[4.],
           [4.]], dtype=float32)
    """
    inputs = (input, weight) if bias is None else (input, weight, bias)
    op = "linear" if len(sample_shape(input, "linear")) <= 1 else "dense"
    return cast(T, apply(op, inputs, {}, "linear", parameters=len(inputs) - 1))


def bilinear(input1: T, input2: T, weight: Weight, bias: Weight | None = None) -> T:
    """`y[n,…,o] = bias[o] + Σ_{k,l} x[n,…,k]·weight[o,k,l]·z[n,…,l]`.

    Args:
        input1: (n, …, in1_features).
        input2: (n, …, in2_features).
        weight: (out_features, in1_features, in2_features).
        bias: (out_features,), or None.
    Returns:
        (n, …, out_features).

    >>> bilinear(np.ones((2, 3)), np.ones((2, 4)), np.ones((1, 3, 4)))
    array([[12.],
           [12.]], dtype=float32)
    """
    weights: list[Any] = [weight] if bias is None else [weight, bias]
    inputs: list[Any] = [input1, input2, *weights]
    return cast(T, apply("bilinear", inputs, {}, parameters=len(weights)))


def embedding(input: Any, weight: Weight, padding_idx: int | None = None, **more: Any) -> Any:
    """`y[n,…,d] = weight[x[n,…], d]`: the row of a table for each number.

    Args:
        input: (n, …), whole numbers from 0, of any dtype. In a network they are floats; what
            counts no row gives NaN there.
        weight: (num_embeddings, embedding_dim).
        padding_idx: a row that gets no gradient; a negative one counts from the end.
    Returns:
        (n, …, embedding_dim).
    Raises:
        DataError: on arrays, a number that counts no row.

    >>> embedding(np.array([[2, 0]]), np.array([[0.0], [1.0], [2.0]]))
    array([[[2.],
            [0.]]], dtype=float32)
    """
    where = "embedding"
    for name, value in more.items():
        refuse_embedding(where, name, value)
    count = np.shape(weight)[0] if np.ndim(weight) else 0
    attributes = {"padding": padding_row(where, padding_idx, count)}
    if find_tracer(input) is None:
        numbers = as_float32(input, where)
        if numbers.size and (numbers != np.floor(numbers)).any():
            raise DataError(f"{where}: expected whole numbers; got {numbers.dtype} with fractions.")
        if numbers.size and not 0 <= numbers.min() <= numbers.max() < count:
            raise DataError(
                f"{where}: expected numbers from 0 to {count - 1}; got {numbers.min():g} to "
                f"{numbers.max():g}."
            )
    return apply(where, (input, weight), attributes, parameters=1)


def refuse_embedding(where: str, name: str, value: Any) -> None:
    """Refuse what torch's embedding takes and ours does not."""
    known = {
        "max_norm": "Scale the rows of the weight yourself, between calls.",
        "norm_type": "It belongs to max_norm.",
        "scale_grad_by_freq": "Gradients are sums over the batch.",
        "sparse": "Gradients are dense.",
    }
    if name not in known:
        raise OptionError(f"{where}: unknown argument {name!r}.")
    if not (name == "norm_type" and value == 2.0):
        unsupported(where, name, value, known[name])


def padding_row(where: str, padding_idx: int | None, count: int) -> int:
    """The row that `padding_idx` names, −1 for none."""
    if padding_idx is None:
        return -1
    if not -count <= padding_idx < count:
        raise OptionError(
            f"{where}: expected padding_idx from {-count} to {count - 1}; got {padding_idx!r}."
        )
    return int(padding_idx) % count


def rbf(input: T, weight: Any) -> T:
    """`y[n,o] = Σ_k (x[n,k] − weight[o,k])²`: squared distances to the prototypes of classes.

    Args:
        input: (n, in_features).
        weight: (out_features, in_features). In a network a parameter is trained; an array or a
            nested list is not.
    Returns:
        (n, out_features); the smallest number is the answer.
    Source: LeCun, Bottou, Bengio, Haffner, Gradient-based learning applied to document
        recognition (1998), section II.B.

    >>> rbf(np.array([[1.0, 1.0]]), np.array([[1.0, 1.0], [-1.0, 1.0]]))
    array([[0., 4.]], dtype=float32)
    """
    if isinstance(weight, Parameter):
        return cast(T, apply("rbf", (input, weight), {"prototypes": None}, parameters=1))
    fixed = as_float32(weight, "rbf").tolist()
    return cast(T, apply("rbf", (input,), {"prototypes": fixed}))


def subsample(input: T, weight: Weight, bias: Weight, kernel_size: Sizes = 2) -> T:
    """`y[n,c,i,j] = bias[c] + weight[c] · Σ` of the kh × kw window at (i·kh, j·kw).

    Args:
        input: (n, channels, ih, iw).
        weight: (channels,), bias: (channels,).
        kernel_size: one number or (vertical, horizontal).
    Returns:
        (n, channels, ⌊ih/kh⌋, ⌊iw/kw⌋).
    Source: LeCun, Bottou, Bengio, Haffner, Gradient-based learning applied to document
        recognition (1998), section II.B.

    >>> subsample(np.ones((1, 1, 2, 2)), np.array([0.5]), np.array([1.0])).item()
    3.0
    """
    kernel = named_pair(kernel_size, "subsample", "kernel_size")
    attributes = {"kernel": list(kernel)}
    return cast(T, apply("subsample", (input, weight, bias), attributes, parameters=2))


# ---- distances -------------------------------------------------------------------------------


def cosine_similarity(x1: T, x2: T, dim: int = 1, eps: float = 1e-8) -> T:
    """`Σ x·y / (max(|x|, eps) · max(|y|, eps))` along an axis.

    >>> cosine_similarity(np.array([[3.0, 4.0]]), np.array([[4.0, 3.0]]))
    array([0.96], dtype=float32)
    """
    _same("cosine_similarity", x1, x2)
    together = sum_(scalar(lambda x, y: x * y, x1, x2), dim)
    lengths = [maximum(norm(k, 2, dim), eps) for k in (x1, x2)]
    return cast(T, scalar(lambda x, y, z: x / (y * z), together, *lengths))


def pairwise_distance(x1: T, x2: T, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> T:
    """`(Σ |x − y + eps|^p)^(1/p)` along the last axis.

    >>> round(float(pairwise_distance(np.array([[3.0, 0.0]]), np.array([[0.0, 4.0]]))[0]), 4)
    5.0
    """
    _same("pairwise_distance", x1, x2)
    apart = scalar(lambda x, y: x - y + eps, x1, x2)
    return cast(T, norm(apart, p, -1, keepdim))


def _same(where: str, x1: Any, x2: Any) -> None:
    one, two = (k.shape if isinstance(k, SymbolicTensor) else np.shape(k) for k in (x1, x2))
    if len(one) != len(two) or len(one) < 2:
        raise ShapeError(
            f"{where}: expected two tensors of equally many axes, the batch first; got {one} "
            f"and {two}."
        )
