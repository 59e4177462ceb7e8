"""What one operation adds to the gradient of a number that it reads, as terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.formula import terms_gradient
from striate.formula.operation import Operation
from striate.formula.terms import Reads, Step, Terms
from striate.inspect.explain_numbers import bind


@dataclass(frozen=True)
class Part:
    """What one reader of a number adds to its gradient.

    Attributes:
        node: the node that reads it; "" for the gradient that was given.
        op: its operation.
        argument: the name under which its formula reads the number.
        formula: the rule, as `dw[o, c, p, q] ← Σ[n,i,j] dy[n, o, i, j] · x[n, c, i+p, j+q]`.
        tensors: names in the graph of the tensors that the formula reads.
        step: the sum, with its terms.
        product: whether each term is the product of what it reads.
    """

    node: str
    op: str
    argument: str
    formula: str
    tensors: Mapping[str, str]
    step: Step
    product: bool

    @property
    def value(self) -> float:
        """What it adds."""
        return self.step.value


def parts_of(
    operation: Operation,
    attributes: Mapping[str, Any],
    arrays: Sequence[NDArray[Any]],
    position: int,
    place: Sequence[int],
    upstream: NDArray[Any],
    named: tuple[str, Mapping[str, str]],
) -> list[Part]:
    """What one operation adds to the gradient of a number that it reads.

    Args:
        operation, attributes: what reads the number.
        arrays: its inputs.
        position: which of them the number is in.
        place: and where in that.
        upstream: the gradient to the operation's output.
        named: the node's name, and the graph's names of the tensors of its formula.
    """
    argument = operation.argument_names(attributes, len(arrays))[position]
    node, tensors = named
    if operation.has_formula:
        formula, bound = bind(operation, attributes, arrays)
        made = terms_gradient.terms(formula, argument, place, bound, upstream)
    else:
        made = [_by_rule(operation, attributes, arrays, position, place, upstream)]
    return [
        Part(
            node,
            operation.name,
            argument,
            one.formula,
            tensors,
            Step("sum", one.formula, one.terms.total(), terms=one.terms),
            one.product,
        )
        for one in made
        if len(one.terms)
    ]


def _by_rule(
    operation: Operation,
    attributes: Mapping[str, Any],
    arrays: Sequence[NDArray[Any]],
    position: int,
    place: Sequence[int],
    upstream: NDArray[Any],
) -> terms_gradient.GradientTerms:
    """The terms where there is no formula: numbers that were moved, or a rule of its own.

    The slope of each number of the output is found by the operation's own gradient; only those
    numbers of the output that the number has part in are asked.
    """
    outputs = _outputs_of(operation, attributes, arrays, position, place, upstream.shape)
    slopes = []
    for k in outputs:
        one = np.zeros(upstream.shape)
        one[tuple(k)] = 1.0
        found = operation.gradient(attributes, one, arrays, [position])[position]
        slopes.append(0.0 if found is None else float(found[tuple(place)]))
    slope = np.array(slopes)
    index = tuple(outputs.T)
    values = np.asarray(upstream[index], np.float64)
    read = Reads("dy", index, values, np.ones(len(outputs), bool))
    at = {f"k{k}": places for k, places in enumerate(index)}
    terms = Terms([tuple(at)], (len(outputs),), at, [read], values * slope, slope)
    name = operation.argument_names(attributes, len(arrays))[position]
    rule = f"d{name} ← dy where the number goes" if _only_moves(operation) else (
        f"d{name} ← Σ dy · slope, the slope by a rule of its own ({operation.name})"
    )  # fmt: skip
    return terms_gradient.GradientTerms(rule, terms, _only_moves(operation))


def _only_moves(operation: Operation) -> bool:
    return type(operation).source is not Operation.source or operation.name == "embedding"


def _outputs_of(
    operation: Operation,
    attributes: Mapping[str, Any],
    arrays: Sequence[NDArray[Any]],
    position: int,
    place: Sequence[int],
    shape: tuple[int, ...],
) -> NDArray[np.intp]:
    """The places of the output that a number has part in, (count, axes)."""
    if not _only_moves(operation):
        return np.argwhere(np.ones(shape, bool))
    if operation.name == "embedding":
        hit = arrays[0] == place[0]
        rows = np.argwhere(hit)
        return np.concatenate([rows, np.full((len(rows), 1), place[1])], axis=1)
    marked = [np.zeros(a.shape, bool) for a in arrays]
    marked[position][tuple(place)] = True
    return np.argwhere(operation.reference(attributes, marked) != 0)
