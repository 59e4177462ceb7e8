"""ONNX: networks read and written, and ONNX's operators mapped on striate's operations.

    from striate.formats.onnx import read, write

The package `onnx` (the extra `striate[onnx]`) is imported only when a model is read or written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from striate.files import StrPath

if TYPE_CHECKING:
    from striate.nn.graph_module import GraphModule
    from striate.nn.module import Module


def read(
    path: StrPath,
    *,
    input_shape: Any = None,
    output: str | None = None,
    external_data: bool = False,
) -> GraphModule:
    """The network in an ONNX file; see `striate.import_onnx`."""
    from striate.formats.onnx.importer import import_onnx

    return import_onnx(path, input_shape=input_shape, output=output, external_data=external_data)


def write(
    net: Module,
    path: StrPath,
    *,
    input_shape: Any = None,
    opset: int | None = None,
    external_data: bool = False,
) -> None:
    """Write a network to an ONNX file; see `striate.export_onnx`."""
    from striate.formats.onnx.exporter import export_onnx

    export_onnx(net, path, input_shape=input_shape, opset=opset, external_data=external_data)
