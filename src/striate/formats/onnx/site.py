"""A node of a graph while it is exported, and the rules that have an operator of ONNX for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from striate.formats.onnx.builder import Builder
from striate.graph.graph import Shape


@dataclass(frozen=True)
class Site:
    """One operation of the network.

    Attributes:
        b: takes the nodes.
        op: the operation's name.
        inputs: the names of its inputs in the model.
        shapes: of its inputs: of those with a batch without it, of parameters in full.
        attributes: the operation's.
        shape: of the output, without the batch.
    """

    b: Builder
    op: str
    inputs: tuple[str, ...]
    shapes: tuple[Shape, ...]
    attributes: Mapping[str, Any]
    shape: Shape

    @property
    def x(self) -> str:
        return self.inputs[0]

    @property
    def image(self) -> Shape:
        """The axes of space of x."""
        return self.shapes[0][1:]

    def pads(self, key: str = "padding") -> list[int]:
        """Pairs (before, after) as ONNX writes them: all befores, then all afters."""
        pairs = self.attributes[key]
        return [int(before) for before, _ in pairs] + [int(after) for _, after in pairs]

    def windows(self) -> dict[str, Any]:
        """The attributes that ONNX's poolings have."""
        return {
            "kernel_shape": list(self.attributes["kernel"]),
            "strides": list(self.attributes["stride"]),
            "pads": self.pads(),
        }


Rule = Callable[[Site], "str | None"]
_FAMILIES = ("arithmetic", "layers", "structure")
_RULES: dict[str, Rule] = {}


def exports(*ops: str) -> Callable[[Rule], Rule]:
    """Register how operations are exported; the rule gives None where ONNX lacks the case."""

    def register(rule: Rule) -> Rule:
        for op in ops:
            _RULES[op] = rule
        return rule

    return register


def rules() -> Mapping[str, Rule]:
    """The rules by operation; the families are imported when they are first asked for."""
    for family in _FAMILIES:
        import_module(f"striate.formats.onnx.rules.{family}")
    return _RULES
