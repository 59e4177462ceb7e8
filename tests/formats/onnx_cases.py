"""ONNX's own backend tests as a list of cases, and what becomes of each. It needs onnx."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from striate.formats.onnx.backend import Backend
from striate.formats.onnx.registry import handlers

SETS = ("node", "simple", "pytorch-converted", "pytorch-operator")  # "real" would download
_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True, eq=False)
class Case:
    """A model with inputs and the outputs that are expected.

    Attributes:
        name, kind: of the case, and of the set that it is from.
        operator: what it tests. Of an expanded function that is the function.
        operators: all that its graph holds, with the domain in front where there is one.
    """

    name: str
    kind: str
    operator: str
    operators: frozenset[str]
    test: Any

    @property
    def covered(self) -> bool:
        """Whether all operators are known."""
        return self.operators <= set(handlers())

    def model(self) -> Any:
        import onnx

        return self.test.model or onnx.load(Path(self.test.model_dir) / "model.onnx")

    def run(self) -> frozenset[str]:
        """Run it and compare; how it was computed. Raises what goes wrong."""
        from onnx.backend.test.runner import Runner

        model = self.model()
        prepared = Backend.prepare(model)
        for inputs, expected in self._data(model):
            found = prepared.run(inputs)
            Runner.assert_similar_outputs(expected, found, self.test.rtol, self.test.atol)
        return prepared.used

    def _data(self, model: Any) -> Iterator[tuple[list[Any], list[Any]]]:
        import onnx

        if self.test.data_sets is not None:
            for pair in self.test.data_sets:
                inputs, expected = (
                    [onnx.numpy_helper.to_array(k) if hasattr(k, "dims") else k for k in part]
                    for part in pair
                )
                yield inputs, expected
            return
        for folder in sorted(Path(self.test.model_dir).glob("test_data_set*")):
            yield _read(folder, "input", model.graph), _read(folder, "output", model.graph)


def _read(folder: Path, stem: str, graph: Any) -> list[Any]:
    """The arrays of a data set, in the order of the model's inputs or outputs."""
    import onnx

    found: list[Any] = []
    for k in range(len(list(folder.glob(f"{stem}_*.pb")))):
        data = (folder / f"{stem}_{k}.pb").read_bytes()
        described = getattr(graph, stem)[k].type
        if described.HasField("sequence_type"):
            found.append(onnx.numpy_helper.to_list(onnx.SequenceProto.FromString(data)))
        else:
            found.append(onnx.numpy_helper.to_array(onnx.TensorProto.FromString(data)))
    return found


@cache
def cases() -> tuple[Case, ...]:
    """All cases, sorted by set and name."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of onnx, which computes the expected outputs
        tests = {kind: load_model_tests(kind=kind) for kind in SETS}
    originals = {t.name: t for t in tests["node"]}
    return tuple(
        _case(kind, test, originals)
        for kind in SETS
        for test in sorted(tests[kind], key=lambda t: str(t.name))
    )


def _case(kind: str, test: Any, originals: dict[str, Any]) -> Case:
    import onnx

    model = test.model or onnx.load(Path(test.model_dir) / "model.onnx")
    base = originals.get(re.sub(r"_expanded.*", "", test.name), test)
    operator = kind if kind != "node" else _name(base.model.graph.node[0])
    return Case(test.name, kind, operator, frozenset(operators(model.graph)), test)


def operators(graph: Any) -> Iterator[str]:
    """The operators of a graph and of the graphs that its nodes hold."""
    for node in graph.node:
        yield _name(node)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from operators(attribute.g)


def _name(node: Any) -> str:
    return str(node.op_type if node.domain in _DOMAINS else f"{node.domain}.{node.op_type}")


@dataclass(frozen=True)
class Outcome:
    """What became of a case: how it was computed, or what went wrong."""

    used: frozenset[str] = frozenset()
    wrong: str = ""


@cache
def outcome(case: Case) -> Outcome:
    """Run a case once a process."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return Outcome(case.run())
    except Exception as error:
        return Outcome(wrong=f"{type(error).__name__}: {error}")
