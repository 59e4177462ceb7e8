"""Initialisers in torch's names: they fill a parameter (or a NumPy array) in place.

Random ones draw from `generator`, or from the library's own (`striate.manual_seed`). The numbers
are not torch's for the same seed; the distributions are.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias, TypeVar

import numpy as np

from striate.errors import OptionError, ShapeError, suggest
from striate.nn.parameter import Array, Parameter
from striate.settings import next_generator

__all__ = [
    "calculate_gain",
    "constant_",
    "dirac_",
    "eye_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "lsuv_",
    "normal_",
    "ones_",
    "orthogonal_",
    "sparse_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]

T = TypeVar("T", Parameter, Array)
Generator: TypeAlias = "np.random.Generator"  # text: numpy.random is slow to import

_GAINS = {
    "linear": 1.0,
    "conv1d": 1.0,
    "conv2d": 1.0,
    "conv3d": 1.0,
    "conv_transpose1d": 1.0,
    "conv_transpose2d": 1.0,
    "conv_transpose3d": 1.0,
    "sigmoid": 1.0,
    "tanh": 5.0 / 3.0,
    "relu": math.sqrt(2.0),
    "selu": 0.75,
}


def _fill(tensor: T, values: Array | float) -> T:
    array = tensor.data if isinstance(tensor, Parameter) else tensor
    if not isinstance(array, np.ndarray):
        raise OptionError(
            f"init: expected a Parameter or a NumPy array; got {type(tensor).__name__}."
        )
    array[...] = values
    return tensor


def uniform_(tensor: T, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> T:
    """Fill with `U(a, b)`.

    >>> weight = uniform_(np.empty((2, 3), np.float32), -1, 1)
    >>> bool(abs(weight).max() <= 1)
    True
    """
    if not a <= b:
        raise OptionError(f"uniform_: expected a <= b; got a={a}, b={b}.")
    return _fill(tensor, (generator or next_generator()).uniform(a, b, tensor.shape))


def normal_(
    tensor: T, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None
) -> T:
    """Fill with `N(mean, std²)`."""
    if not std >= 0:
        raise OptionError(f"normal_: expected std >= 0; got std={std}.")
    return _fill(tensor, (generator or next_generator()).normal(mean, std, tensor.shape))


def constant_(tensor: T, val: float) -> T:
    """Fill with one number."""
    return _fill(tensor, val)


def zeros_(tensor: T) -> T:
    """Fill with 0."""
    return _fill(tensor, 0.0)


def ones_(tensor: T) -> T:
    """Fill with 1."""
    return _fill(tensor, 1.0)


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor that keeps the variance through an activation, as torch has it.

    `√2` for relu, `√(2/(1 + param²))` for leaky_relu (param: its slope, 0.01), 5/3 for tanh.

    >>> calculate_gain("leaky_relu", math.sqrt(5))
    0.5773502691896257
    """
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else float(param)
        return math.sqrt(2.0 / (1.0 + slope**2))
    if nonlinearity not in _GAINS:
        known = [*_GAINS, "leaky_relu"]
        raise OptionError(
            f"calculate_gain: unknown nonlinearity {nonlinearity!r}. {suggest(nonlinearity, known)}"
        )
    return _GAINS[nonlinearity]


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """`(fan_in, fan_out)` of a weight (out, in, *kernel): inputs read and outputs fed by one unit.

    >>> fans((16, 6, 5, 5))
    (150, 400)
    """
    if len(shape) < 2:
        raise ShapeError(
            f"init: expected a weight of two axes or more (out, in, *kernel); got shape={shape}. "
            "Use uniform_ or zeros_ for a bias."
        )
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


def _fan(shape: tuple[int, ...], mode: str) -> int:
    if mode not in ("fan_in", "fan_out"):
        raise OptionError(f"init: expected mode 'fan_in' or 'fan_out'; got mode={mode!r}.")
    return max(1, fans(shape)[mode == "fan_out"])


def kaiming_uniform_(
    tensor: T,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> T:
    """Fill with `U(−r, r)`, `r = gain·√(3/fan)`.

    Source: He et al., Delving Deep into Rectifiers, arXiv:1502.01852.
    """
    fan = _fan(tensor.shape, mode)
    bound = calculate_gain(nonlinearity, a) * math.sqrt(3.0 / fan)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: T,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> T:
    """Fill with `N(0, gain²/fan)`.

    Source: He et al., Delving Deep into Rectifiers, arXiv:1502.01852.
    """
    fan = _fan(tensor.shape, mode)
    return normal_(tensor, 0.0, calculate_gain(nonlinearity, a) / math.sqrt(fan), generator)


def xavier_uniform_(tensor: T, gain: float = 1.0, generator: Generator | None = None) -> T:
    """Fill with `U(−r, r)`, `r = gain·√(6/(fan_in + fan_out))`.

    Source: Glorot & Bengio, Understanding the difficulty of training deep feedforward networks.
    """
    bound = gain * math.sqrt(6.0 / max(1, sum(fans(tensor.shape))))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: T, gain: float = 1.0, generator: Generator | None = None) -> T:
    """Fill with `N(0, 2·gain²/(fan_in + fan_out))`.

    Source: Glorot & Bengio, Understanding the difficulty of training deep feedforward networks.
    """
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / max(1, sum(fans(tensor.shape)))), generator)


def trunc_normal_(
    tensor: T,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> T:
    """Fill with `N(mean, std²)`, drawn again where a number is outside [a, b].

    >>> weight = trunc_normal_(np.empty((20, 30), np.float32), std=3.0)
    >>> bool(abs(weight).max() <= 2)
    True
    """
    if not std >= 0 or not a < b:
        raise OptionError(f"trunc_normal_: expected std >= 0 and a < b; got std={std}, {a}, {b}.")
    if mean < a - 2 * std or mean > b + 2 * std or (std == 0 and not a <= mean <= b):
        raise OptionError(
            f"trunc_normal_: expected a mean within 2·std of [a, b]; got mean={mean}, std={std}, "
            f"[{a}, {b}]. Hardly a number would be inside."
        )
    source = generator or next_generator()
    values = source.normal(mean, std, tensor.shape)
    outside = (values < a) | (values > b)
    while outside.any():
        values[outside] = source.normal(mean, std, int(outside.sum()))
        outside = (values < a) | (values > b)
    return _fill(tensor, values)


def eye_(tensor: T) -> T:
    """Fill a matrix with 1 on its diagonal and 0 elsewhere.

    >>> eye_(np.empty((2, 3), np.float32))
    array([[1., 0., 0.],
           [0., 1., 0.]], dtype=float32)
    """
    if len(tensor.shape) != 2:
        raise ShapeError(f"eye_: expected a matrix; got shape={tuple(tensor.shape)}.")
    return _fill(tensor, np.eye(*tensor.shape))


def dirac_(tensor: T, groups: int = 1) -> T:
    """Fill a convolution's weight so that it passes as many channels on as it can.

    Output channel o of each group has a 1 in the middle of the kernel of input channel o.

    >>> weight = dirac_(np.empty((2, 3, 3, 3), np.float32))
    >>> [tuple(map(int, place)) for place in np.argwhere(weight)]
    [(0, 0, 1, 1), (1, 1, 1, 1)]
    """
    shape = tuple(tensor.shape)
    if not 3 <= len(shape) <= 5:
        raise ShapeError(
            f"dirac_: expected a weight (out, in/groups, *kernel) of 3 to 5 axes; got {shape}."
        )
    if groups < 1 or shape[0] % groups:
        raise OptionError(
            f"dirac_: expected groups to divide the {shape[0]} output channels; got {groups}."
        )
    values, per = np.zeros(shape), shape[0] // groups
    middle: list[int] = [k // 2 for k in shape[2:]]
    for group in range(groups):
        for channel in range(min(per, shape[1])):
            place = (group * per + channel, channel, *middle)
            values[place] = 1.0
    return _fill(tensor, values)


def orthogonal_(tensor: T, gain: float = 1.0, generator: Generator | None = None) -> T:
    """Fill so that the rows (or columns, of a tall matrix) are orthogonal, of length `gain`.

    A weight (out, in, *kernel) counts as a matrix (out, in·kernel).

    Source: Saxe, McClelland, Ganguli, Exact solutions to the nonlinear dynamics of learning in
        deep linear neural networks, arXiv:1312.6120.

    >>> weight = orthogonal_(np.empty((3, 5)))
    >>> bool(np.allclose(weight @ weight.T, np.eye(3)))
    True
    """
    shape = tuple(tensor.shape)
    if len(shape) < 2:
        raise ShapeError(f"orthogonal_: expected two axes or more; got shape={shape}.")
    return _fill(tensor, gain * _orthogonal(shape, generator))


def _orthogonal(shape: tuple[int, ...], generator: Generator | None) -> Array:
    """A random matrix with orthogonal rows or columns, uniformly distributed."""
    rows, columns = shape[0], math.prod(shape[1:])
    drawn = (generator or next_generator()).normal(size=(max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(drawn)
    q = q * np.sign(np.diag(r))  # without this the distribution depends on the algorithm
    return (q.T if rows < columns else q).reshape(shape)


def sparse_(tensor: T, sparsity: float, std: float = 0.01, generator: Generator | None = None) -> T:
    """Fill a matrix with `N(0, std²)`, but a share `sparsity` of each column with 0.

    Source: Martens, Deep learning via Hessian-free optimization (2010).
    """
    if len(tensor.shape) != 2:
        raise ShapeError(f"sparse_: expected a matrix; got shape={tuple(tensor.shape)}.")
    if not 0 <= sparsity <= 1:
        raise OptionError(f"sparse_: expected sparsity from 0 to 1; got sparsity={sparsity}.")
    rows, columns = tensor.shape
    source = generator or next_generator()
    values = source.normal(0.0, std, (rows, columns))
    for column in range(columns):
        values[source.permutation(rows)[: math.ceil(sparsity * rows)], column] = 0.0
    return _fill(tensor, values)


# ---- from data -------------------------------------------------------------------------------


def lsuv_(
    net: Any,
    data: Any,
    tolerance: float = 0.05,
    most: int = 10,
    generator: Generator | None = None,
) -> Any:
    """Layer-sequential unit variance: what every layer with a weight gives has variance 1.

    Each convolution and linear layer gets an orthogonal weight; then, from the first to the last,
    its weight is divided by the standard deviation of its output on `data` until that is 1.

    Args:
        net: a module; its weights are changed in place.
        data: a batch (n, …), or one for each input of the network; a few hundred samples.
        tolerance: how far a variance may be from 1.
        most: divisions of a layer.
    Returns:
        The network.
    Source: Mishkin & Matas, All you need is a good init, arXiv:1511.06422.

    >>> from striate import nn
    >>> net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))
    >>> x = np.random.default_rng(0).normal(size=(256, 8))
    >>> bool(abs(lsuv_(net, x)(x).var() - 1) < 0.05)
    True
    """
    batches = data if isinstance(data, (tuple, list)) else (data,)
    shapes = tuple(np.shape(x)[1:] for x in batches)
    graph = net.to_graph(shapes[0] if len(shapes) == 1 else shapes)
    weights = {name: array for name, array in net.state_dict().items() if array.ndim >= 2}
    layers = [(node, node.inputs[1]) for node in graph.steps if _has_weight(node, weights)]
    for name in dict.fromkeys(weight for _, weight in layers):
        orthogonal_(weights[name], generator=generator)
    done: set[str] = set()
    for node, name in layers:
        if name not in done:
            done.add(name)
            _unit_variance(net, graph, node.name, weights[name], batches, (tolerance, most))
    return net


def _has_weight(node: Any, weights: dict[str, Array]) -> bool:
    kinds = ("conv", "true_conv", "local", "tiled_conv", "linear", "dense")
    return node.op.startswith(kinds) and len(node.inputs) > 1 and node.inputs[1] in weights


def _unit_variance(
    net: Any, graph: Any, output: str, weight: Array, batches: Any, limits: tuple[float, int]
) -> None:
    """Divide a weight until its layer's output has variance 1."""
    from striate.graph.graph import Graph
    from striate.program import build_inference  # late: initialisers are needed by every layer

    program = build_inference(Graph(graph.nodes.values(), (output,)).pruned())
    arrays, inputs = net.state_dict(), tuple(np.asarray(x, np.float32) for x in batches)
    for _ in range(limits[1]):
        values = program.run(inputs[0] if len(inputs) == 1 else inputs, arrays)
        variance = float(np.var(values, dtype=np.float64))
        if not variance > 0:
            raise OptionError(
                f"lsuv_: expected layers whose outputs vary; {output} gives one number for all "
                "samples. Pass data that differs, and check the activations before that layer."
            )
        if abs(variance - 1) <= limits[0]:
            return
        weight /= np.float32(math.sqrt(variance))
