"""Index formulas as data: operations that users write, and that travel in model files.

`formula` is one operation whose attributes are a formula: the index of the output, its body, what
may be read outside a tensor. Reference, shape, gradient and machine code follow, as for every
operation. Operations with a shape rule and attributes of their own are classes, see `register` in
`formula.operations`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from striate.errors import OptionError, ShapeError
from striate.formula.expression import (
    Call,
    Const,
    Expr,
    Index,
    Read,
    Reduce,
    children,
)
from striate.formula.formula import Formula, reads, walk
from striate.formula.functions import ARITY
from striate.formula.operation import Attributes, Operation, Shape, require_attributes

_REDUCTIONS = ("sum", "max")
_MOST = 10_000  # numbers of a table, and parts of a body, in a file that is believed


def formula_attributes(
    output: Sequence[Index],
    body: Expr,
    *,
    sizes: Mapping[str, int] | None = None,
    padding: Mapping[str, Sequence[Sequence[int]]] | None = None,
    outside: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """The attributes of a `formula` node.

    Args:
        output: the index of the number that is defined; its first axis is the batch.
        body: the number. Tensors that are read at the batch's axis first are inputs, the others
            are parameters; both in the order in which the body reads them.
        sizes: sizes of axes that the tensors' shapes do not tell.
        padding: how far outside a tensor may be read, [before, after] for each of its axes.
        outside: what is read there; 0 unless said.

    >>> from striate.formula.expression import Sum, Tensor, axes
    >>> n, i, p = axes("n i p")
    >>> made = formula_attributes((n, i), Sum((p,), Tensor("x")[n, i + p]), sizes={"p": 3})
    >>> IndexFormula().shape(made, [(8,)])
    (6,)
    """
    attributes = {
        "output": [index_to_json(index) for index in output],
        "body": body_to_json(body),
        "sizes": dict(sizes or {}),
        "padding": {k: [list(map(int, s)) for s in v] for k, v in (padding or {}).items()},
        "outside": {k: float(v) for k, v in (outside or {}).items()},
    }
    _Parts(attributes)
    return attributes


class _Parts:
    """A formula's attributes, read and checked."""

    def __init__(self, attributes: Attributes) -> None:
        require_attributes("formula", attributes, IndexFormula.attributes)
        if not isinstance(attributes["output"], list) or not attributes["output"]:
            raise OptionError("formula: expected output as a list of indices; got none.")
        self.output = tuple(index_from_json(k) for k in attributes["output"])
        self.body = body_from_json(attributes["body"])
        batch = self.output[0].axis
        if batch is None:
            raise OptionError(
                f"formula: expected the batch axis alone as the first index of the output; got "
                f"{self.output[0]}. Write e.g. (n, c, i, j)."
            )
        found = list(dict.fromkeys(read.tensor for read in reads(self.body)))
        batched = {r.tensor for r in reads(self.body) if r.index and r.index[0].axis == batch}
        self.inputs = [name for name in found if name in batched]
        self.parameters = [name for name in found if name not in batched]
        if not self.inputs:
            raise OptionError(
                f"formula: expected a body that reads a tensor at the batch axis {batch!r} first; "
                f"got {self.body}."
            )
        self.sizes = _whole_numbers(attributes["sizes"])
        self.padding = _sides(attributes["padding"])
        self.outside = {str(k): float(v) for k, v in attributes["outside"].items()}
        unknown = [k for k in (*self.padding, *self.outside) if k not in found]
        if unknown:
            raise OptionError(
                f"formula: padding and outside expected tensors among {', '.join(found)}; "
                f"got {unknown[0]!r}."
            )

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.inputs, *self.parameters)


def _whole_numbers(data: Any) -> dict[str, int]:
    found = {str(k): v for k, v in data.items()}
    for axis, size in found.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise OptionError(
                f"formula: sizes expected whole numbers from 1; got {size!r} for axis {axis!r}."
            )
    return found


def _sides(data: Any) -> dict[str, list[tuple[int, int]]]:
    found = {str(k): [tuple(side) for side in v] for k, v in data.items()}
    for name, sides in found.items():
        if not all(len(s) == 2 and all(isinstance(k, int) and k >= 0 for k in s) for s in sides):
            raise OptionError(
                f"formula: padding expected [before, after] of at least 0 for each axis; got "
                f"{sides} for {name!r}."
            )
    return found


class IndexFormula(Operation):
    """`y[output] = body`: any formula over named axes.

    Inputs: the tensors that the body reads at the batch axis, in the order of their first use;
    then the parameters. Output: as the output's index says.
    """

    name = "formula"
    attributes = ("output", "body", "sizes", "padding", "outside")

    def argument_names(self, attributes: Attributes, count: int) -> tuple[str, ...]:
        names = _Parts(attributes).names
        if len(names) != count:
            raise ShapeError(f"formula: expected inputs {', '.join(names)}; got {count} of them.")
        return names

    def shared(self, attributes: Attributes) -> frozenset[str]:
        return frozenset(_Parts(attributes).parameters)

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        return self.formula(attributes, self.full_shapes(attributes, shapes)).shape[1:]

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        parts = _Parts(attributes)
        tensors = {name: tuple(s) for name, s in zip(parts.names, shapes, strict=True)}
        return Formula.infer(
            parts.output,
            parts.body,
            tensors,
            padding=parts.padding,
            sizes=parts.sizes,
            outside=parts.outside,
        )


# ---- JSON --------------------------------------------------------------------------------------


def index_to_json(index: Index) -> list[Any]:
    """An index as [[[axis, coefficient], …], constant, mod, div, table]."""
    terms = [[axis, c] for axis, c in index.terms]
    return [terms, index.const, index.mod, index.div, list(index.table)]


def index_from_json(data: Any) -> Index:
    """The index that `index_to_json` gave; raises OptionError on anything else."""
    try:
        terms, const, mod, div, table = data
        found = Index(
            tuple((str(axis), _int(c)) for axis, c in terms),
            _int(const),
            _int(mod),
            _int(div),
            tuple(_int(k) for k in table),
        )
    except (TypeError, ValueError):
        raise OptionError(f"formula: expected an index; got {data!r}.") from None
    if found.mod < 0 or found.div < 1 or len(found.table) > _MOST:
        raise OptionError(f"formula: expected an index with % ≥ 0 and / ≥ 1; got {data!r}.")
    return found


def _int(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError
    return value


def body_to_json(e: Expr) -> Any:
    """An expression with reads and sums as nested lists: ["sum", ["p"], ["read", "x", […]]]."""
    if isinstance(e, Const):
        return e.value
    if isinstance(e, Read):
        return ["read", e.tensor, [index_to_json(index) for index in e.index]]
    if isinstance(e, Reduce):
        return [e.how, list(e.over), body_to_json(e.body)]
    if isinstance(e, Call):
        return [e.function, *map(body_to_json, children(e))]
    raise OptionError(
        f"formula: expected numbers, reads of tensors, sums and functions; got {e}. Give every "
        f"scalar a value."
    )


def body_from_json(data: Any) -> Expr:
    """The expression that `body_to_json` gave; raises OptionError on anything else."""
    found = _body(data)
    if sum(1 for _ in walk(found)) > _MOST:
        raise OptionError(f"formula: expected a body of at most {_MOST} parts; got more.")
    return found


def _body(data: Any) -> Expr:
    if isinstance(data, (int, float)) and not isinstance(data, bool):
        return Const(float(data))
    if isinstance(data, list) and len(data) > 1 and isinstance(data[0], str):
        name, *parts = data
        if name == "read" and len(parts) == 2 and isinstance(parts[1], list):
            return Read(str(parts[0]), tuple(index_from_json(k) for k in parts[1]))
        if name in _REDUCTIONS and len(parts) == 2 and isinstance(parts[0], list):
            return Reduce(name, tuple(map(str, parts[0])), _body(parts[1]))
        if ARITY.get(name) == len(parts):
            return Call(name, tuple(map(_body, parts)))
    raise OptionError(f"formula: expected a number, a read, a sum or a function; got {data!r}.")
