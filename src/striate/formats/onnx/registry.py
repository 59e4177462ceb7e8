"""The ONNX operators that can be lowered, by name and by the version that they hold since."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, TypeAlias

from striate.errors import ModelError, suggest

if TYPE_CHECKING:
    from striate.formats.onnx.lowering import Call
    from striate.formats.onnx.value import Value

Result: TypeAlias = "Value | Sequence[Value | None]"
Handler: TypeAlias = "Callable[[Call], Result]"

_FAMILIES = (
    "activation",
    "arithmetic",
    "convolution",
    "data",
    "einsum",
    "loss",
    "normalization",
    "pooling",
    "recurrent",
    "reduction",
    "resize",
    "sampling",
    "structure",
)
_HANDLERS: dict[str, list[tuple[int, Handler]]] = {}


def operator(*names: str, since: int = 1) -> Callable[[Handler], Handler]:
    """Register a handler for operators, from a version of the operator set on."""

    def register(handler: Handler) -> Handler:
        for name in names:
            _HANDLERS.setdefault(name, []).append((since, handler))
        return handler

    return register


def handlers() -> dict[str, list[tuple[int, Handler]]]:
    """All handlers; the families are imported when they are first asked for."""
    for family in _FAMILIES:
        import_module(f"striate.formats.onnx.operators.{family}")
    return _HANDLERS


def find_handler(op: str, opset: int, where: str) -> Handler:
    """The handler of an operator in a version of the operator set.

    Raises:
        ModelError: there is none; what there is is listed.
    """
    known = handlers()
    if op not in known:
        raise ModelError(f"onnx: {where} is the operator {op}, unknown here. {suggest(op, known)}")
    fitting = [(since, handler) for since, handler in known[op] if since <= opset]
    if not fitting:
        first = min(since for since, _ in known[op])
        raise ModelError(
            f"onnx: {where} is {op} of operator set {opset}; expected set {first} or newer. "
            f"Convert the model with onnx.version_converter."
        )
    return max(fitting, key=lambda pair: pair[0])[1]
