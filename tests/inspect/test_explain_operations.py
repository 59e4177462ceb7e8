"""Every operation explains itself: its numbers, what they owe to what they read, its gradients."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from striate.formula.operations import OPERATIONS, find_operation
from striate.graph.graph import Graph, Node
from striate.inspect.explain import explain_node
from striate.inspect.explain_parts import parts_of

Case = tuple[str, dict[str, Any], list[NDArray[Any]]]
ALL: dict[str, Case] = import_module("tests.formula.conftest").CASES
_MOST = 2  # cases of one operation: the formulas' own tests have them all


def _some() -> dict[str, Case]:
    """The first cases of every operation."""
    found: dict[str, Case] = {}
    for name, case in ALL.items():
        if sum(other[0] == case[0] for other in found.values()) < _MOST:
            found[name] = case
    return found


CASES = _some()
EVERY = pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))


def graph_of(case: Case) -> tuple[Graph, dict[str, Any], dict[str, Any]]:
    """The operation as a graph of its own, its parameters, and its inputs with its output."""
    op, attributes, arrays = case
    operation = find_operation(op)
    names = operation.argument_names(attributes, len(arrays))
    shared = operation.shared(attributes)
    graph = Graph()
    for name, array in zip(names, arrays, strict=True):
        batched = name not in shared
        shape = array.shape[1:] if batched else array.shape
        graph.append(Node(name, "input" if batched else "parameter", (), {}, shape, batched))
    graph.apply("out", op, names, attributes)
    graph.outputs = ("out",)
    given = dict(zip(names, arrays, strict=True))
    parameters = {name: array for name, array in given.items() if name in shared}
    values = {name: array for name, array in given.items() if name not in shared}
    return graph, parameters, {**values, "out": operation.reference(attributes, arrays)}


def places(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The last place, and one that is drawn."""
    rng = np.random.default_rng(7)
    return [tuple(n - 1 for n in shape), tuple(int(rng.integers(n)) for n in shape)]


def test_every_operation_has_a_case() -> None:
    assert {case[0] for case in CASES.values()} == set(OPERATIONS)


@EVERY
def test_a_number_of_every_operation(case: Case) -> None:
    graph, parameters, values = graph_of(case)
    for at in places(values["out"].shape):
        found = explain_node(graph, parameters, values, "out", at[1:], sample=at[0])
        expected = values["out"][at]
        assert found.value == pytest.approx(expected, rel=1e-9, abs=1e-12, nan_ok=True)
        assert found.agrees and found.text() and found.to_dict()["agrees"]
        rounded = np.float32(expected)
        if abs(expected) > 1e-3 and np.isfinite(rounded):
            assert found.stages[-1].ordered.value == pytest.approx(rounded, rel=1e-3)


@EVERY
def test_what_a_number_owes_to_what_it_reads(case: Case) -> None:
    """Contributions are value · slope, and the slopes are those of the operation's gradient."""
    op, attributes, arrays = case
    graph, parameters, values = graph_of(case)
    operation = find_operation(op)
    at = places(values["out"].shape)[-1]
    found = explain_node(graph, parameters, values, "out", at[1:], sample=at[0]).contributions()
    one = np.zeros(values["out"].shape)
    one[at] = 1.0
    slopes = operation.gradient(attributes, one, arrays)
    names = operation.argument_names(attributes, len(arrays))
    for name, array, slope in zip(names, arrays, slopes, strict=True):
        if slope is None or name in parameters or op == "ctc_loss":
            continue
        own = np.zeros(array.shape[1:])
        for part in found:
            assert part.amount == pytest.approx(part.value * part.slope)
            if part.node == name:
                own[part.at] += part.slope
        if graph.nodes["out"].op == "batch_norm_training":
            continue  # it reads other samples, too
        np.testing.assert_allclose(own, slope[at[0]], rtol=1e-8, atol=1e-10)


@EVERY
def test_a_gradient_of_every_operation(case: Case) -> None:
    """The terms that are shown add up to the operation's gradient."""
    op, attributes, arrays = case
    operation = find_operation(op)
    shape = operation.reference(attributes, arrays).shape
    upstream = np.random.default_rng(3).normal(size=shape)
    gradients = operation.gradient(attributes, upstream, arrays)
    for k, gradient in enumerate(gradients):
        if gradient is None:
            continue
        for at in places(gradient.shape):
            parts = parts_of(operation, attributes, arrays, k, at, upstream, ("out", {}))
            total = sum(part.value for part in parts)
            assert total == pytest.approx(gradient[at], rel=1e-8, abs=1e-9, nan_ok=True)
            for part in parts:
                terms = part.step.terms
                products = terms.reads[0].values * terms.slopes
                np.testing.assert_allclose(terms.values, products, rtol=1e-12)
