"""The tensor that `forward` sees while a network is traced: a shape and a node, no numbers.

Its methods bear torch's names and add nodes to the graph. What would need numbers (`if x > 0`,
`float(x)`, NumPy functions) raises TraceError with the line of the user's file.
"""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from striate.errors import ShapeError
from striate.formula import expression
from striate.formula.activation import map_attributes
from striate.formula.broadcast import BATCHED, WEIGHTS, broadcast_attributes
from striate.formula.expression import Expr, Var, substitute
from striate.nn import indexing
from striate.nn.arguments import axis_order, exchanged
from striate.nn.elementwise import RELU, SIGMOID, TANH
from striate.nn.parameter import Parameter
from striate.nn.untraceable import no_attribute, untraceable, user_line

if TYPE_CHECKING:
    from striate.nn.trace import Tracer

_VALUES = "a tensor has no values while its network is traced"
_WHERE = (
    "For a choice by element use F.scalar(lambda x: scalar.where(x > 0, x, 0.1 * x), x); "
    "a choice by shape or by self.training works as it is."
)


class BatchSize:
    """The symbolic length of the batch axis, `x.shape[0]`; prints as N.

    It may be passed on as the first number of `view` and `reshape`; it equals only itself.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "N"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, numbers.Number):
            self._refuse()
        return self is other

    def __hash__(self) -> int:
        return hash(BatchSize)

    def _refuse(self, *_: Any) -> NoReturn:
        raise untraceable(
            "the batch size N is not known while the network is traced, and one graph serves "
            "every batch size",
            "Pass x.size(0) on only as the first number of view or reshape, e.g. "
            "x.view(x.size(0), -1); use x.flatten(1) to flatten.",
        )

    __lt__ = __le__ = __gt__ = __ge__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _refuse
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = _refuse
    __pow__ = __rpow__ = __neg__ = _refuse
    __index__ = __int__ = __float__ = __bool__ = _refuse


N = BatchSize()
Sizes = tuple[Any, ...]  # (N, c, h, w): the batch, then whole numbers


class SymbolicTensor:
    """A tensor of the network being traced.

    Args:
        tracer: the trace that it belongs to.
        node: name of the graph's node that gives it.
        sample_shape: its shape without the batch axis.
    """

    __slots__ = ("_node", "_sample_shape", "_tracer")
    __hash__ = object.__hash__

    def __init__(self, tracer: Tracer, node: str, sample_shape: tuple[int, ...]) -> None:
        self._tracer, self._node, self._sample_shape = tracer, node, sample_shape

    @property
    def shape(self) -> Sizes:
        """(N, c, h, w): N stands for any batch size."""
        return (N, *self._sample_shape)

    @property
    def ndim(self) -> int:
        return 1 + len(self._sample_shape)

    @property
    def dtype(self) -> np.dtype[np.float32]:
        return np.dtype(np.float32)

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the length of one axis (N for the batch)."""
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        """How many axes it has, the batch included."""
        return self.ndim

    def __repr__(self) -> str:
        return f"SymbolicTensor({self._node!r}, shape={self.shape})"

    def _rebind(self, other: SymbolicTensor) -> None:
        """Become `other`, as torch's in-place operations make a tensor do."""
        self._node, self._sample_shape = other._node, other._sample_shape

    # ---- elementwise -------------------------------------------------------------------------

    def _map(self, stem: str, function: Callable[[Expr], Expr]) -> SymbolicTensor:
        return self._tracer.apply("map", (self,), map_attributes(function(Var("x")), ("x",)), stem)

    def _combine(self, stem: str, other: Any, function: Callable[..., Expr]) -> SymbolicTensor:
        if isinstance(other, (SymbolicTensor, Parameter)):
            e = function(Var("x"), Var("y"))
            return apply_scalar(self._tracer, e, ("x", "y"), (self, other), stem)
        value = self._number(other)
        return self._map(stem, lambda x: function(x, value))

    def _number(self, other: Any) -> float:
        if isinstance(other, np.ndarray) and other.ndim:
            raise untraceable(
                f"arithmetic is between tensors and parameters whose shapes broadcast, or with a "
                f"Python number; got a NumPy array of shape {other.shape}",
                "Numbers that belong to the network are parameters: in __init__ write "
                "self.scale = nn.Parameter(array), and x * self.scale.",
            )
        try:
            value = math.nan if isinstance(other, str) else float(other)
        except (TypeError, ValueError):
            value = math.nan
        if not math.isfinite(value):
            raise untraceable(
                f"arithmetic is between tensors and parameters, or with a finite number; "
                f"got {type(other).__name__} {other!r}",
                "Pass a Python number.",
            )
        return value

    def __add__(self, other: Any) -> SymbolicTensor:
        return self._combine("add", other, lambda x, y: x + y)

    def __radd__(self, other: Any) -> SymbolicTensor:
        return self._combine("add", other, lambda x, y: y + x)

    def __sub__(self, other: Any) -> SymbolicTensor:
        return self._combine("sub", other, lambda x, y: x - y)

    def __rsub__(self, other: Any) -> SymbolicTensor:
        return self._combine("sub", other, lambda x, y: y - x)

    def __mul__(self, other: Any) -> SymbolicTensor:
        return self._combine("mul", other, lambda x, y: x * y)

    def __rmul__(self, other: Any) -> SymbolicTensor:
        return self._combine("mul", other, lambda x, y: y * x)

    def __truediv__(self, other: Any) -> SymbolicTensor:
        return self._combine("div", other, lambda x, y: x / y)

    def __rtruediv__(self, other: Any) -> SymbolicTensor:
        return self._combine("div", other, lambda x, y: y / x)

    def __pow__(self, exponent: Any) -> SymbolicTensor:
        if isinstance(exponent, SymbolicTensor):
            raise untraceable(
                "the exponent is a tensor; only constant exponents are powers",
                "Write F.scalar(lambda x, y: scalar.exp(y * scalar.log(x)), x, y).",
            )
        value = self._number(exponent)
        return self._map("pow", lambda x: x**value)

    def __neg__(self) -> SymbolicTensor:
        return self._map("neg", lambda x: -x)

    def __abs__(self) -> SymbolicTensor:
        return self._map("abs", abs)

    add, sub, mul, div, pow = __add__, __sub__, __mul__, __truediv__, __pow__
    neg, abs = __neg__, __abs__

    def __matmul__(self, other: Any) -> Any:
        return _function("matmul")(self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return _function("matmul")(other, self)

    def relu(self) -> SymbolicTensor:
        """`max(x, 0)`."""
        return self._tracer.apply("map", (self,), RELU, "relu")

    def tanh(self) -> SymbolicTensor:
        """`tanh(x)`."""
        return self._tracer.apply("map", (self,), TANH, "tanh")

    def sigmoid(self) -> SymbolicTensor:
        """`1/(1 + exp(−x))`."""
        return self._tracer.apply("map", (self,), SIGMOID, "sigmoid")

    def exp(self) -> SymbolicTensor:
        """`exp(x)`."""
        return self._map("exp", expression.exp)

    def log(self) -> SymbolicTensor:
        """`ln(x)`."""
        return self._map("log", expression.log)

    def sqrt(self) -> SymbolicTensor:
        """`√x`."""
        return self._map("sqrt", expression.sqrt)

    def softmax(self, dim: int) -> SymbolicTensor:
        """`exp(x)/Σ exp(x)` along an axis behind the batch."""
        axis = self.axis(dim, "softmax")
        if axis == 0:
            raise ShapeError(
                f"softmax: expected an axis from 1 (axis 0 is the batch); got dim={dim} for shape "
                f"{self.shape}{at_line()}."
            )
        if self.ndim == 2:
            return self._tracer.apply("softmax", (self,), {}, "softmax")
        return self._tracer.apply("softmax_along", (self,), {"axis": axis}, "softmax")

    # ---- shape -------------------------------------------------------------------------------

    def view(self, *shape: Any) -> SymbolicTensor:
        """The same numbers in another shape; the first number is the batch: `x.size(0)` or −1."""
        parts = (
            tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
        )
        return self._tracer.apply("reshape", (self,), {"shape": self._target(parts)}, "reshape")

    reshape = view

    def _target(self, parts: tuple[Any, ...]) -> list[int]:
        rest = parts[1:]
        if parts and all(_is_whole(k) for k in rest):
            sizes = [int(k) for k in rest]
            if parts[0] is N:
                return sizes
            full = -1 not in sizes and math.prod(sizes) == math.prod(self._sample_shape)
            if _is_whole(parts[0]) and int(parts[0]) == -1 and full:
                return sizes
        raise untraceable(
            f"a shape starts with the batch, and the rest holds one sample; got "
            f"{parts!r} for shape {self.shape}",
            "Write x.view(x.size(0), ...) or x.flatten(1).",
        )

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> SymbolicTensor:
        """Axes `start_dim` … `end_dim` as one; `x.flatten(1)` keeps the batch."""
        first, last = self.axis(start_dim, "flatten"), self.axis(end_dim, "flatten")
        if first == 0:
            raise untraceable(
                "flatten from axis 0 would mix the samples of the batch",
                "Write x.flatten(1).",
            )
        if last < first:
            raise ShapeError(
                f"flatten: expected start_dim <= end_dim; got {start_dim} and {end_dim} "
                f"for shape {self.shape}{at_line()}."
            )
        inner = self._sample_shape
        target = [*inner[: first - 1], -1, *inner[last:]]
        return self._tracer.apply("reshape", (self,), {"shape": target}, "flatten")

    def permute(self, *dims: Any) -> SymbolicTensor:
        """The axes in another order, the batch first: `x.permute(0, 2, 3, 1)`."""
        given = dims[0] if len(dims) == 1 and isinstance(dims[0], (tuple, list)) else dims
        return self._ordered(axis_order(given, self.ndim, "permute", self.shape), "permute")

    def transpose(self, dim0: int, dim1: int) -> SymbolicTensor:
        """Two axes exchanged, neither of them the batch."""
        return self._ordered(exchanged(dim0, dim1, self.ndim, "transpose", self.shape), "transpose")

    def _ordered(self, order: list[int], where: str) -> SymbolicTensor:
        if order[0] != 0:
            raise untraceable(
                f"{where} moves axis 0, the batch, of shape {self.shape}",
                "The batch stays first: write x.permute(0, 2, 3, 1).",
            )
        if order == list(range(self.ndim)):
            return self.clone()
        return self._tracer.apply("permute", (self,), {"order": order[1:]}, where)

    def axis(self, dim: Any, where: str) -> int:
        """`dim` counted from the front; raises ShapeError outside the shape."""
        if not _is_whole(dim) or not -self.ndim <= dim < self.ndim:
            raise ShapeError(
                f"{where}: expected an axis from {-self.ndim} to {self.ndim - 1}; got dim={dim!r} "
                f"for shape {self.shape}{at_line()}."
            )
        return int(dim) % self.ndim

    def contiguous(self, memory_format: Any = None) -> SymbolicTensor:
        """Itself: a traced tensor has no layout."""
        return self

    def to(self, *args: Any, **options: Any) -> SymbolicTensor:
        """Itself: every tensor is float32 and on the CPU."""
        return self

    cpu = type_as = to

    def clone(self) -> SymbolicTensor:
        """A tensor of the same values."""
        return SymbolicTensor(self._tracer, self._node, self._sample_shape)

    def float(self) -> SymbolicTensor:
        """Itself: every tensor is float32."""
        return self

    def __getitem__(self, index: Any) -> SymbolicTensor:
        steps, shape = indexing.steps(index, self._sample_shape)
        result = self
        for step in steps:
            result = self._tracer.apply("slice", (result,), step, "slice")
        if shape != list(result._sample_shape):
            result = self._tracer.apply("reshape", (result,), {"shape": shape}, "reshape")
        return result.clone() if result is self else result

    # ---- what cannot be traced ---------------------------------------------------------------

    def _no_value(self, *_: Any) -> NoReturn:
        raise untraceable(_VALUES, _WHERE)

    def _no_comparison(self, *_: Any) -> NoReturn:
        raise untraceable(f"{_VALUES}, so it cannot be compared", _WHERE)

    __bool__ = _no_value
    __lt__ = __le__ = __gt__ = __ge__ = _no_comparison

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return self._no_comparison()

    def __ne__(self, other: object) -> bool:
        return not self == other

    def _no_number(self, *_: Any) -> NoReturn:
        raise untraceable(
            f"{_VALUES}, so it cannot become a Python number",
            "Keep it a tensor: + - * / ** work on it, and F.scalar takes any formula.",
        )

    __float__ = __int__ = __index__ = __complex__ = __round__ = _no_number
    item = tolist = _no_number

    def _no_iteration(self, *_: Any) -> NoReturn:
        raise untraceable(
            "iterating over a tensor, or its len(), would go through the samples of the batch",
            "Write for all samples at once; take channels apart with x[:, 0:3].",
        )

    __iter__ = __len__ = __contains__ = __reversed__ = _no_iteration

    def _no_assignment(self, *_: Any) -> NoReturn:
        raise untraceable(
            "a tensor cannot be changed in place",
            "Build a new one: F.cat((a, b), dim=1) puts parts together, F.scalar computes "
            "elementwise.",
        )

    __setitem__ = __delitem__ = _no_assignment

    def _no_operator(self, *_: Any) -> NoReturn:
        raise untraceable(
            "tensors have no such operator (there is + - * / @ ** and abs)",
            "Use F.scalar for any other formula.",
        )

    __mod__ = __rmod__ = __floordiv__ = __rfloordiv__ = _no_operator
    __rpow__ = __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = _no_operator
    __invert__ = __lshift__ = __rshift__ = __divmod__ = _no_operator

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NoReturn:
        raise untraceable(
            f"{_VALUES}, so NumPy cannot read it",
            "Use the functions of striate.nn.functional (F.cat, F.relu, F.scalar ...).",
        )

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> NoReturn:
        hint = {"concatenate": "F.cat(tensors, dim=1)", "reshape": "x.view(x.size(0), ...)"}
        name = getattr(function, "__name__", "function")
        instead = hint.get(name, "the functions of striate.nn.functional, or F.scalar")
        raise untraceable(f"numpy.{name} needs values, and {_VALUES}", f"Use {instead}.")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **_: Any) -> Any:
        traced = _UFUNCS.get(ufunc.__name__)
        if traced and method == "__call__":
            # A NumPy scalar becomes a Python number, or its operator would lead back here.
            return traced(
                *(k if isinstance(k, SymbolicTensor) else self._number(k) for k in inputs)
            )
        raise untraceable(
            f"numpy.{ufunc.__name__} needs values, and {_VALUES}",
            "Use striate.nn.functional, or F.scalar(lambda x: scalar.exp(x), x).",
        )

    def _in_place(self, name: str) -> Callable[..., SymbolicTensor]:
        """torch's `x.add_(y)`: the name x then stands for the result."""

        def change(*args: Any, **keywords: Any) -> SymbolicTensor:
            self._rebind(getattr(self, name)(*args, **keywords))
            return self

        return change

    def __getattr__(self, name: str) -> Any:
        if name in METHODS:
            return partial(_function(name), self)
        if name.endswith("_") and name[:-1] in IN_PLACE:
            return self._in_place(name[:-1])
        if name in ABSENT:
            raise no_attribute(f"a traced tensor has no attribute {name!r}", ABSENT[name])
        if name.startswith("__"):
            raise AttributeError(name)
        own = [k for k in dir(type(self)) if not k.startswith("_") and k not in _REFUSING]
        public = [*own, *METHODS]
        instead = f"There is: {', '.join(sorted(public))}; and striate.nn.functional."
        if name.endswith("_") and name[:-1] in public:
            instead = f"Write x = x.{name[:-1]}(...)."
        raise no_attribute(f"a traced tensor has no attribute {name!r}", instead)


# Functions of `striate.nn.functional` that are methods of a traced tensor too,
METHODS = (
    *("amax", "amin", "bmm", "chunk", "cumsum", "expand", "flip", "log_softmax", "logsumexp"),
    *("matmul", "max", "maximum", "mean", "min", "minimum", "norm", "prod", "repeat", "roll"),
    *("split", "squeeze", "std", "sum", "tile", "unflatten", "unsqueeze", "var"),
    # and those of `striate.nn.tensor_functions`.
    *("ceil", "clamp", "cos", "erf", "expand_as", "floor", "movedim", "reciprocal", "rsqrt"),
    *("sign", "sin", "square", "swapaxes", "view_as"),
)
IN_PLACE = (
    *("abs", "add", "clamp", "div", "exp", "log", "mul", "neg", "pow", "relu", "sigmoid", "sqrt"),
    *("square", "sub", "squeeze", "tanh", "unsqueeze"),
)
ABSENT = {
    "cuda": "Networks run on the CPU: leave .cuda() out.",
    "backward": "striate.fit trains; striate.gradient gives the gradient of any function.",
    "detach": "Gradients flow through all of a network; make what gets none a network of its own.",
    "data": "Compute with the tensor itself.",
    "numpy": "Values are in what the network gives when it is called on an array.",
    "masked_fill": "Write F.scalar(lambda x, m: scalar.where(m > 0, 0, x), x, mask).",
    "numel": "The batch size is not known; x[0] of x.shape stands for it.",
    "half": "Networks compute in float32.",
    "double": "Networks compute in float32; backend='reference' computes in float64.",
}


def _function(name: str) -> Callable[..., Any]:
    from striate.nn import functional, tensor_functions  # late: made of functions of this class

    found: Callable[..., Any] = getattr(functional, name, None) or getattr(tensor_functions, name)
    return found


def apply_scalar(
    tracer: Tracer, e: Expr, names: Sequence[str], tensors: Sequence[Any], stem: str
) -> SymbolicTensor:
    """Add a formula of scalars to the graph, on tensors and parameters whose shapes broadcast.

    Args:
        tracer: of the tensors.
        e: a formula of `names`, one for each of `tensors`.
        stem: what the node is called.
    """
    shapes = {k._sample_shape if isinstance(k, SymbolicTensor) else None for k in tensors}
    if len(shapes) == 1:
        return tracer.apply("map", tensors, map_attributes(e, names), stem)
    batched, weights = iter(BATCHED), iter(WEIGHTS)
    called = [next(batched if isinstance(k, SymbolicTensor) else weights) for k in tensors]
    e = substitute(e, {old: Var(new) for old, new in zip(names, called, strict=True)})
    return tracer.apply("broadcast_map", tensors, broadcast_attributes(e, called), stem)


_UFUNCS: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "negative": operator.neg,
    "absolute": abs,
    "power": operator.pow,
    "matmul": operator.matmul,
}
_REFUSING = ("axis", "item", "tolist")


def _is_whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def at_line() -> str:
    """` (net.py, line 12, in forward: `…`)` for the end of a sentence, or ""."""
    line = user_line()
    return f" ({line})" if line else ""
