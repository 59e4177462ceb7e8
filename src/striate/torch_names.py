"""The functions of `torch` itself: `import striate as torch` finds them at the top of the package.

On NumPy arrays they compute at once; on the tensors of a `forward` being traced they add to the
graph. Tensors outside a network are NumPy arrays, so `torch.zeros` gives one. Where torch has
something that cannot be here (a GPU, gradients of arrays), a sentence says what to do instead.
"""

from __future__ import annotations

import contextlib
from abc import ABC
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from striate.errors import AbsentError, OptionError
from striate.nn import functional as F
from striate.nn import tensor_functions as one
from striate.nn.parameter import Array, Parameter
from striate.nn.symbol import SymbolicTensor
from striate.nn.untraceable import untraceable
from striate.settings import next_generator

Function = TypeVar("Function", bound=Callable[..., Any])

# ---- tensors and their dtypes --------------------------------------------------------------------

float16, float32, float64 = np.float16, np.float32, np.float64
half, double = float16, float64
int8, int16, int32, int64, uint8 = np.int8, np.int16, np.int32, np.int64, np.uint8
short, long = int16, int64


class Tensor(ABC):  # noqa: B024 (it has no methods, only instances)
    """What torch calls a tensor: here a NumPy array, a parameter, or a tensor being traced.

    It is there for annotations and `isinstance`. `Tensor(2, 3)` and `Tensor([1.0, 2.0])` give
    arrays, as in old code.

    >>> isinstance(zeros(2), Tensor), Tensor(2, 3).shape
    (True, (2, 3))
    """

    def __new__(cls, *sizes: Any) -> Any:
        if len(sizes) == 1 and not isinstance(sizes[0], int):
            return np.array(sizes[0], np.float32)
        return np.zeros(sizes, np.float32)


for _kind in (np.ndarray, Parameter, SymbolicTensor):
    Tensor.register(_kind)


class Size(tuple[int, ...]):
    """A shape."""

    def numel(self) -> int:
        """The product of the sizes."""
        return int(np.prod(self, dtype=np.int64))


def is_tensor(obj: Any) -> bool:
    """Whether something is an array, a parameter or a traced tensor."""
    return isinstance(obj, Tensor)


def numel(input: Any) -> int:
    """How many numbers an array holds."""
    return int(np.prod(np.shape(input), dtype=np.int64))


# ---- arrays from nothing -------------------------------------------------------------------------


def _dtype(dtype: Any, default: Any, device: Any, where: str) -> Any:
    if device is not None and str(device) != "cpu":
        raise OptionError(
            f"{where}: expected device='cpu'; got {str(device)!r}. Leave it out: striate runs on "
            "the CPU."
        )
    if dtype is None:
        return default
    try:
        return np.dtype(dtype)
    except TypeError:
        raise OptionError(
            f"{where}: expected a dtype such as torch.float32; got dtype={dtype!r}."
        ) from None


def _sizes(sizes: tuple[Any, ...]) -> tuple[int, ...]:
    packed = len(sizes) == 1 and isinstance(sizes[0], (tuple, list))
    return tuple(int(k) for k in (sizes[0] if packed else sizes))


def _no_gradient(requires_grad: bool, where: str) -> None:
    if requires_grad:
        raise OptionError(
            f"{where}: expected requires_grad=False, since arrays have no gradients of their own; "
            "got True. For a weight write nn.Parameter(array), for the gradient of any function "
            "striate.gradient."
        )


def tensor(data: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Array:
    """A NumPy array of the data: floats as float32, whole numbers as int64.

    >>> tensor([1.0, 2.0]).dtype
    dtype('float32')
    """
    _no_gradient(requires_grad, "tensor")
    if isinstance(data, SymbolicTensor):
        raise untraceable(
            "torch.tensor needs values, and a traced tensor has none", "Use it as it is."
        )
    array = np.array(data)
    usual: Any = {"f": np.float32, "i": np.int64}.get(array.dtype.kind, array.dtype)
    if isinstance(data, np.ndarray):
        usual = array.dtype
    return array.astype(_dtype(dtype, usual, device, "tensor"))


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Any:
    """The same as `tensor`, but what is an array or a traced tensor already stays what it is."""
    if isinstance(data, (np.ndarray, SymbolicTensor)) and dtype is None:
        return data
    return tensor(data, dtype, device)


def from_numpy(ndarray: Array) -> Array:
    """The array itself."""
    return ndarray


def _made(name: str, make: Callable[..., Array], doc: str) -> Callable[..., Array]:
    def create(
        *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False
    ) -> Array:
        _no_gradient(requires_grad, name)
        return make(_sizes(size)).astype(_dtype(dtype, np.float32, device, name), copy=False)

    def like(input: Any, dtype: Any = None, device: Any = None) -> Array:
        kind = _dtype(dtype, getattr(input, "dtype", np.float32), device, f"{name}_like")
        if isinstance(input, SymbolicTensor):
            raise untraceable(
                f"torch.{name}_like(x) needs the batch size, which is not known",
                "Compute from the tensor itself: x * 0, or x * 0 + 1.",
            )
        return make(np.shape(input)).astype(kind, copy=False)

    create.__name__ = create.__qualname__ = name
    create.__doc__ = f"A float32 array of a size: {doc}."
    like.__name__ = like.__qualname__ = f"{name}_like"
    like.__doc__ = f"An array of another's shape and dtype: {doc}."
    _LIKE[f"{name}_like"] = like
    return create


_LIKE: dict[str, Callable[..., Array]] = {}
zeros = _made("zeros", lambda size: np.zeros(size, np.float32), "0")
ones = _made("ones", lambda size: np.ones(size, np.float32), "1")
empty = _made("empty", lambda size: np.zeros(size, np.float32), "0 here, any numbers in torch")
rand = _made("rand", lambda size: np.asarray(next_generator().random(size)), "from U(0, 1)")
randn = _made("randn", lambda size: np.asarray(next_generator().normal(size=size)), "from N(0, 1)")
zeros_like, ones_like, empty_like = _LIKE["zeros_like"], _LIKE["ones_like"], _LIKE["empty_like"]
rand_like, randn_like = _LIKE["rand_like"], _LIKE["randn_like"]


def full(size: Any, fill_value: float, dtype: Any = None, device: Any = None) -> Array:
    """An array of one number."""
    usual: Any = np.float32 if isinstance(fill_value, float) else np.asarray(fill_value).dtype
    return np.full(_sizes((size,)), fill_value, _dtype(dtype, usual, device, "full"))


def eye(n: int, m: int | None = None, dtype: Any = None, device: Any = None) -> Array:
    """A matrix with 1 on its diagonal and 0 elsewhere."""
    return np.eye(n, m, dtype=_dtype(dtype, np.float32, device, "eye"))


def arange(*limits: Any, dtype: Any = None, device: Any = None) -> Array:
    """`start, start + step, …` below `end`: int64 of whole numbers, else float32.

    >>> arange(3), arange(0.0, 1.0, 0.5)
    (array([0, 1, 2]), array([0. , 0.5], dtype=float32))
    """
    whole = all(isinstance(k, (int, np.integer)) for k in limits)
    usual = np.int64 if whole else np.float32
    return np.arange(*limits).astype(_dtype(dtype, usual, device, "arange"))


def linspace(start: float, end: float, steps: int, dtype: Any = None, device: Any = None) -> Array:
    """`steps` numbers from `start` to `end`, both included."""
    return np.linspace(start, end, steps, dtype=_dtype(dtype, np.float32, device, "linspace"))


def randint(low: int, high: Any, size: Any = None, dtype: Any = None, device: Any = None) -> Array:
    """Whole numbers from `low` (0 where one limit is given) to below `high`."""
    if size is None:
        low, high, size = 0, low, high
    numbers = next_generator().integers(low, high, _sizes((size,)))
    return numbers.astype(_dtype(dtype, np.int64, device, "randint"))


def randperm(n: int, device: Any = None) -> Array:
    """The numbers from 0 to n − 1 in random order."""
    return next_generator().permutation(n).astype(_dtype(None, np.int64, device, "randperm"))


# ---- switches that change nothing here -----------------------------------------------------------


class no_grad(contextlib.ContextDecorator):
    """Does nothing: networks record nothing that would have to be switched off.

    >>> with no_grad():
    ...     zeros(1)
    array([0.], dtype=float32)
    """

    def __init__(self, mode: Any = True) -> None:
        pass

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: Any) -> None:
        return None

    def __call__(self, func: Function) -> Function:
        return func


class inference_mode(no_grad):
    """Does nothing, as `no_grad`."""


class enable_grad(no_grad):
    """Does nothing: gradients are what `striate.fit` and `striate.gradient` compute."""


class set_grad_enabled(no_grad):
    """Does nothing, as `no_grad`."""


def is_grad_enabled() -> bool:
    """Whether operations are recorded for gradients: never."""
    return False


class device:
    """The CPU, the only device there is.

    >>> device("cpu")
    device(type='cpu')
    """

    type = "cpu"
    index = None

    def __init__(self, type: Any = "cpu", index: int | None = None) -> None:
        _dtype(None, None, getattr(type, "type", type), "device")

    def __str__(self) -> str:
        return "cpu"

    def __repr__(self) -> str:
        return "device(type='cpu')"

    def __eq__(self, other: object) -> bool:
        return str(other) == "cpu"

    def __hash__(self) -> int:
        return hash("cpu")


class cuda:
    """There is none: `torch.cuda.is_available()` is false."""

    @staticmethod
    def is_available() -> bool:
        """False."""
        return False

    @staticmethod
    def device_count() -> int:
        """0."""
        return 0


def compile(model: Any = None, **options: Any) -> Any:
    """The network itself: it is compiled when it is first called."""
    return (lambda net: net) if model is None else model


def _assert(condition: Any, message: str) -> None:
    """Refuse what a source asks for with `torch._assert`."""
    if not condition:
        raise OptionError(f"_assert: {message}")


# ---- all of them by torch's names ----------------------------------------------------------------

_FUNCTIONAL = (
    *("add", "amax", "amin", "argmax", "bmm", "cat", "chunk", "concat", "cumsum", "div", "einsum"),
    *("flatten", "flip", "logsumexp", "log_softmax", "matmul", "max", "maximum", "mean", "min"),
    *("minimum", "mul", "norm", "permute", "prod", "relu", "roll", "sigmoid", "softmax", "split"),
    *("squeeze", "stack", "std", "sub", "sum", "tanh", "tile", "transpose", "unflatten"),
    *("unsqueeze", "var", "conv1d", "conv2d", "conv3d", "dropout", "batch_norm", "layer_norm"),
    *("group_norm", "max_pool1d", "max_pool2d", "pixel_shuffle", "cosine_similarity", "selu"),
)
_OF_ONE = (
    *("exp", "expm1", "log", "log1p", "sqrt", "rsqrt", "neg", "square", "reciprocal", "sin", "cos"),
    *("atan", "erf", "floor", "ceil", "sign", "clamp", "reshape", "swapaxes", "movedim", "where"),
)
_OWN = (
    *("Size", "Tensor", "arange", "as_tensor", "compile", "cuda", "device", "double", "empty"),
    *("empty_like", "enable_grad", "eye", "float16", "float32", "float64", "from_numpy", "full"),
    *("half", "inference_mode", "int16", "int32", "int64", "int8", "is_grad_enabled", "is_tensor"),
    *("linspace", "long", "no_grad", "numel", "ones", "ones_like", "rand", "rand_like", "randint"),
    *("randn", "randn_like", "randperm", "set_grad_enabled", "short", "tensor", "uint8", "zeros"),
    *("zeros_like", "_assert"),
)
NAMES: dict[str, Any] = {
    **{name: getattr(F, name) for name in _FUNCTIONAL},
    **{name: getattr(one, name) for name in _OF_ONE},
    **{name: globals()[name] for name in _OWN},
    **{"abs": one.abs_, "absolute": one.abs_, "pow": one.pow_, "round": one.round_},
    **{"negative": one.neg, "arctan": one.atan, "clip": one.clamp, "concatenate": F.cat},
    **{"subtract": F.sub, "multiply": F.mul, "divide": F.div, "true_divide": F.div},
    **{"float": float32, "int": int32, "bool": np.bool_, "strided": "strided"},
    **{"channels_last": "channels_last", "contiguous_format": "contiguous_format"},
}
ABSENT = {
    "Generator": "call striate.manual_seed(seed), or pass numpy.random.default_rng(seed).",
    "autograd": "gradients of any function are striate.gradient and striate.vjp.",
    "backends": "every run gives the same bits on the CPU: leave the line out.",
    "bfloat16": "networks compute in float32, and load_torch reads bfloat16 as that.",
    "complex64": "networks compute in float32.",
    "distributed": "training uses all cores of one machine: leave it out.",
    "get_rng_state": "call striate.manual_seed(seed).",
    "hub": "read weights from a file with striate.load_torch(path).",
    "profiler": "run `striate bench`, or use striate.measure.",
}


def find(name: str) -> Any:
    """What `torch.name` is here.

    Raises:
        AttributeError: there is none; where torch has one, the message says what to do instead.
    """
    if name in NAMES:
        return NAMES[name]
    if name in ABSENT:
        raise AbsentError(f"striate: expected no {name}, which torch has; {ABSENT[name]}")
    raise AttributeError(f"module 'striate' has no attribute {name!r}")
