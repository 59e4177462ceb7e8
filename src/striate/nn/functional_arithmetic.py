"""Arithmetic of tensors whose shapes broadcast, matrix products and einsum.

In a network an axis of size 1 stands for any size, the batch stays the first axis, and parameters
take part.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

from striate.errors import OptionError, ShapeError
from striate.formula import einsum as notation
from striate.formula.activation import map_attributes
from striate.formula.expression import Expr, Operand, Var, evaluate
from striate.formula.expression import maximum as larger
from striate.formula.expression import minimum as smaller
from striate.nn.apply import T, apply
from striate.nn.elementwise import scalar_expression
from striate.nn.parameter import Array, Parameter, as_float32
from striate.nn.symbol import SymbolicTensor, apply_scalar, at_line
from striate.nn.trace import find_tracer
from striate.nn.untraceable import untraceable


def scalar(fn_or_expr: Callable[..., Operand] | Expr, *tensors: Any) -> Any:
    """Your own formula of scalars, applied to each element of tensors whose shapes broadcast.

    Its gradient and its machine code follow from it.

    Args:
        fn_or_expr: a function of as many scalars as there are tensors, written with + - * / **
            and the functions of `striate.nn.scalar`; or an expression of that many variables.
        tensors: (n, …), of one shape or with axes of size 1; parameters may be among them.
    Returns:
        (n, …).

    >>> from striate.nn.scalar import where
    >>> scalar(lambda x: where(x > 0, x, 0.1 * x), np.array([[-10.0, 2.0]]))
    array([[-1.,  2.]], dtype=float32)
    >>> scalar(lambda x, s: x * s, np.ones((1, 2, 2)), np.array([[[2.0], [3.0]]]))
    array([[[2., 2.],
            [3., 3.]]], dtype=float32)
    """
    e, names = scalar_expression(fn_or_expr, len(tensors), "F.scalar")
    return _elementwise("scalar", e, names, tensors)


def _elementwise(stem: str, e: Expr, names: Sequence[str], tensors: Sequence[Any]) -> Any:
    tracer = find_tracer(*tensors)
    if tracer is not None:
        return apply_scalar(tracer, e, names, tensors, stem)
    arrays = [as_float32(k, stem) for k in tensors]
    if len({a.shape for a in arrays}) == 1 and arrays[0].ndim:
        return apply("map", arrays, map_attributes(e, names), stem)
    try:
        wide = np.broadcast_shapes(*(a.shape for a in arrays))
    except ValueError:
        listed = ", ".join(str(a.shape) for a in arrays)
        raise ShapeError(
            f"{stem}: expected shapes whose sizes are equal or 1, from the last axis on; "
            f"got {listed}."
        ) from None
    values = {k: a.astype(np.float64) for k, a in zip(names, arrays, strict=True)}
    with np.errstate(all="ignore"):
        return np.array(np.broadcast_to(evaluate(e, values), wide), np.float32)


def _two(stem: str, function: Callable[..., Expr], input: Any, other: Any) -> Any:
    """A formula of two tensors, or of one and a number."""
    plain = (int, float, np.number)
    if isinstance(other, plain):
        value = float(other)
        return _elementwise(stem, function(Var("x"), value), ("x",), (input,))
    if isinstance(input, plain):
        value = float(input)
        return _elementwise(stem, function(value, Var("x")), ("x",), (other,))
    return _elementwise(stem, function(Var("x"), Var("y")), ("x", "y"), (input, other))


def add(input: T, other: Any, *, alpha: float = 1) -> T:
    """`x + alpha·y` for tensors whose shapes broadcast, or a tensor and a number."""
    return cast(T, _two("add", lambda x, y: x + (y if alpha == 1 else alpha * y), input, other))


def sub(input: T, other: Any, *, alpha: float = 1) -> T:
    """`x − alpha·y` for tensors whose shapes broadcast, or a tensor and a number."""
    return cast(T, _two("sub", lambda x, y: x - (y if alpha == 1 else alpha * y), input, other))


def mul(input: T, other: Any) -> T:
    """`x · y` for tensors whose shapes broadcast, or a tensor and a number.

    >>> mul(np.ones((1, 2, 2)), np.array([[[2.0], [3.0]]]))[0, :, 0]
    array([2., 3.], dtype=float32)
    """
    return cast(T, _two("mul", lambda x, y: x * y, input, other))


def div(input: T, other: Any) -> T:
    """`x / y` for tensors whose shapes broadcast, or a tensor and a number."""
    return cast(T, _two("div", lambda x, y: x / y, input, other))


def maximum(input: T, other: Any) -> T:
    """The larger of two, element by element; NaN if one is."""
    return cast(T, _two("maximum", larger, input, other))


def minimum(input: T, other: Any) -> T:
    """The smaller of two, element by element; NaN if one is."""
    return cast(T, _two("minimum", smaller, input, other))


# ---- products of matrices --------------------------------------------------------------------


def einsum(equation: str, *operands: Any) -> Any:
    """The product of the operands, summed over the letters that the output lacks.

    `einsum("nchw,oc->nohw", x, w)` is `y[n,o,h,w] = Σ_c x[n,c,h,w]·w[o,c]`.

    Args:
        equation: letters for each operand, `->`, letters of the output; without the arrow the
            letters that occur once, in the order of the alphabet.
        operands: in a network tensors, the first letter of which is the batch, also of the
            output; and parameters, which do not have it.

    >>> einsum("ij,jk->ik", np.ones((2, 3)), np.ones((3, 2)))
    array([[3., 3.],
           [3., 3.]], dtype=float32)
    """
    equation = _explicit(equation, len(operands))
    tracer = find_tracer(*operands)
    if tracer is None:
        arrays = [as_float32(k, "einsum").astype(np.float64) for k in operands]
        try:
            return np.asarray(np.einsum(equation, *arrays), np.float32)
        except ValueError as error:
            shapes = ", ".join(str(a.shape) for a in arrays)
            raise ShapeError(
                f"einsum: expected arrays that fit {equation!r}; got shapes {shapes} ({error})."
            ) from None
    return tracer.apply("einsum", operands, _einsum_attributes(equation, operands), "einsum")


def _einsum_attributes(equation: str, operands: Sequence[Any]) -> dict[str, Any]:
    batched, weights = iter(notation.BATCHED), iter(notation.WEIGHTS)
    try:
        names = [next(batched if isinstance(k, SymbolicTensor) else weights) for k in operands]
    except StopIteration:
        raise OptionError(
            f"einsum: expected at most three tensors and three parameters; got {len(operands)} "
            "operands. Multiply some of them first."
        ) from None
    return {"equation": equation, "inputs": names}


def _explicit(equation: str, count: int) -> str:
    """The equation with an arrow and without blanks."""
    text = str(equation).replace(" ", "")
    left, arrow, _ = text.partition("->")
    if not set(text) <= set(string.ascii_letters + ",->") or left.count(",") + 1 != count:
        raise OptionError(
            f"einsum: expected letters for each of the {count} operands, such as "
            f"'nchw,oc->nohw'; got {equation!r}. Write every axis out, without '...'."
        )
    if arrow:
        return text
    letters = left.replace(",", "")
    return f"{left}->{''.join(sorted(k for k in set(letters) if letters.count(k) == 1))}"


def matmul(input: Any, other: Any) -> Any:
    """The product of matrices that lie along the last two axes: `y = x @ z`.

    In a network each sample is multiplied by its own: (n, …, i, k) @ (n, …, k, j); or by a
    parameter, (n, …, k) @ (k, j).

    >>> matmul(np.ones((5, 2, 3)), np.ones((5, 3, 4))).shape
    (5, 2, 4)
    """
    tracer = find_tracer(input, other)
    if tracer is None:
        left, right = (as_float32(k, "matmul") for k in (input, other))
        try:
            return np.matmul(left, right)
        except ValueError:
            raise ShapeError(
                f"matmul: expected (…, i, k) and (…, k, j); got {left.shape} and {right.shape}."
            ) from None
    equation = _matmul_equation(input, other)
    attributes = _einsum_attributes(equation, (input, other))
    return tracer.apply("einsum", (input, other), attributes, "matmul")


def bmm(input: T, mat2: Any) -> T:
    """The product of each sample's matrices: (n, i, k) and (n, k, j) give (n, i, j).

    >>> bmm(np.ones((5, 2, 3)), np.ones((5, 3, 4))).shape
    (5, 2, 4)
    """
    for value in (input, mat2):
        if np.ndim(value) != 3 if not isinstance(value, SymbolicTensor) else value.ndim != 3:
            raise ShapeError(f"bmm: expected two tensors of 3 axes; got shape {value.shape}.")
    return cast(T, matmul(input, mat2))


def _matmul_equation(x: Any, y: Any) -> str:
    """`nbik,nbkj->nbij` for what x and y are."""
    letters = [k for k in string.ascii_lowercase if k not in "nijk"]
    first, second = (isinstance(k, SymbolicTensor) for k in (x, y))
    if not all(isinstance(k, (SymbolicTensor, Parameter)) for k in (x, y)):
        raise untraceable(
            f"@ is between tensors and parameters; got {type(x).__name__} @ {type(y).__name__}",
            "Numbers that belong to the network are parameters: in __init__ write "
            "self.weight = nn.Parameter(array).",
        )
    inner = [k.ndim - b for k, b in ((x, first), (y, second))]
    least = 2 if first and second else 1
    if min(inner) < least or (second and inner[1] < 2):
        raise ShapeError(
            f"matmul: expected matrices besides the batch, (n, …, i, k) @ (n, …, k, j), or a "
            f"parameter (k, j) on the right; got {x.shape} and {y.shape}{at_line()}."
        )
    more = max(inner[0], inner[1]) - 2
    leads = [("".join(letters[:more])[more - max(k - 2, 0) :] if more > 0 else "") for k in inner]
    left = leads[0] + ("ik" if inner[0] > 1 else "k")
    right = leads[1] + ("kj" if inner[1] > 1 else "k")
    output = max(leads, key=len) + ("i" if inner[0] > 1 else "") + ("j" if inner[1] > 1 else "")
    return f"{'n' * first}{left},{'n' * second}{right}->n{output}"


def one_hot(input: Array, num_classes: int = -1) -> Array:
    """1 at the place that each whole number names, 0 elsewhere; on arrays.

    Args:
        input: whole numbers from 0, of any shape.
        num_classes: the length of the new last axis; −1 for one more than the largest number.
    Returns:
        (…, num_classes), float32.

    >>> one_hot(np.array([1, 0]), 3)
    array([[0., 1., 0.],
           [1., 0., 0.]], dtype=float32)
    """
    numbers = np.asarray(input)
    if find_tracer(input) is not None or numbers.dtype.kind not in "iu":
        raise OptionError(
            f"one_hot: expected an array of whole numbers; got {type(input).__name__}"
            f"{'' if numbers.dtype == object else f' of dtype={numbers.dtype}'}."
        )
    count = int(numbers.max(initial=-1)) + 1 if num_classes == -1 else int(num_classes)
    if numbers.size and not 0 <= numbers.min() <= numbers.max() < count:
        raise OptionError(
            f"one_hot: expected numbers from 0 to {count - 1}; got {numbers.min()} to "
            f"{numbers.max()}."
        )
    found: Array = np.eye(count, dtype=np.float32)[numbers]
    return found
