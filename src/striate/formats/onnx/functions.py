"""Functions that a model brings along: striate's own are its operations again, others are inlined.

The text of a function that striate wrote says which operation it is. That is believed only where
the operation, exported again, gives the same function to the byte; so a function that was changed
is what its body says.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from striate.errors import ModelError, StriateError
from striate.formats.onnx.files import first_line
from striate.formula.formula import Formula, reads
from striate.formula.operations import find_operation

DOMAIN = "striate"
_LARGEST = 2**16  # of a size or setting in a text
_MOST = 2**24  # numbers of all tables of a function


def inline(model: Any) -> tuple[Any, dict[str, tuple[str, dict[str, Any]]]]:
    """The model without functions, but for those that are operations of striate.

    Returns:
        The model, and for each such function its operation and attributes.
    """
    known: dict[str, tuple[str, dict[str, Any]]] = {}
    for function in model.functions:
        found = _operation(function) if function.domain == DOMAIN else None
        if found is not None:
            known[function.name] = found
    others = [
        (f.domain, f.name) for f in model.functions if f.domain != DOMAIN or f.name not in known
    ]
    if not others:
        return model, known
    inliner = import_module("onnx.inliner")
    try:
        return inliner.inline_selected_functions(model, others), known
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"onnx: a function cannot be inlined: {first_line(error)}.") from None


def _operation(function: Any) -> tuple[str, dict[str, Any]] | None:
    """The operation that a function is, if it is one indeed."""
    from striate.formats.onnx.exporter import make_function

    try:
        data = json.loads(function.doc_string.rpartition("\n")[2])
        op, attributes = str(data["op"]), dict(data["attributes"])
        shapes = [tuple(int(k) for k in shape) for shape in data["shapes"]]
        opset = next(o.version for o in function.opset_import if o.domain in ("", "ai.onnx"))
        if not _small(data) or not _bounded(op, attributes, shapes):
            return None
        made = make_function(function.name, op, attributes, shapes, opset)
    except (ValueError, KeyError, TypeError, StopIteration, StriateError, RecursionError):
        return None
    same = made.SerializeToString(deterministic=True)
    return (op, attributes) if same == function.SerializeToString(deterministic=True) else None


def _small(data: Any) -> bool:
    """Whether no number in JSON data is so large that arrays of it would fill the memory."""
    if isinstance(data, dict):
        return all(map(_small, data.values()))
    if isinstance(data, list):
        return all(map(_small, data))
    return not isinstance(data, int) or abs(data) <= _LARGEST


def _bounded(op: str, attributes: dict[str, Any], shapes: Sequence[tuple[int, ...]]) -> bool:
    """Whether the operation exists, takes these shapes and has tables of bounded size."""
    operation = find_operation(op)
    if not operation.has_formula or any(math.prod(shape) > _MOST for shape in shapes):
        return False
    operation.shape(attributes, shapes)
    formula = operation.formula(attributes, operation.full_shapes(attributes, shapes, batch=3))
    return _tables(formula) <= _MOST


def _tables(formula: Formula) -> int:
    """How many numbers the tables of a formula have."""
    total = 0
    for read in reads(formula.body):
        axes = {axis for index in read.index for axis, _ in index.terms}
        together = sum(len(index.terms) for index in read.index) > len(axes)
        groups = [axes] if together else [{a for a, _ in index.terms} for index in read.index]
        inner = [group - {formula.free[0]} for group in groups]
        total += sum(math.prod(formula.sizes[a] for a in group) for group in inner)
    return total
