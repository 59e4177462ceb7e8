"""Import: an ONNX model as a network that runs, trains, explains itself and is saved.

The model is lowered once, with inputs that stand for any numbers and a batch of a size that is
found nowhere else in it. What is computed from shapes alone is worked out on the way; weights, in
initialisers or in Constant nodes, become parameters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from striate.errors import FileError, ModelError, OptionError, StriateError
from striate.files import StrPath
from striate.formats.onnx.files import (
    array_of,
    first_line,
    import_package,
    read_model,
    require_valid,
)
from striate.formats.onnx.functions import inline
from striate.formats.onnx.lowering import DAMAGED
from striate.formats.onnx.symbolic import SymbolicLowering
from striate.formats.onnx.value import BOOL, FLOAT32, INT64
from striate.graph.graph import Graph, Shape
from striate.nn.graph_module import GraphModule

_DOMAINS = ("", "ai.onnx")
_STATISTICS = slice(3, 5)  # the inputs of a batch norm that are buffers
_TYPES = {1: FLOAT32, 7: INT64, 6: INT64, 9: BOOL, 10: FLOAT32, 11: FLOAT32, 16: FLOAT32}
# the sizes that a batch may have while a model is read: the first that is nowhere in it
_PRIMES = (61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151)


@dataclass(frozen=True)
class Input:
    """An input of the model: its name, its type here, its sizes (None where they are open)."""

    name: str
    dtype: Any
    sizes: tuple[int | None, ...]


def import_onnx(
    path: StrPath,
    *,
    input_shape: Any = None,
    output: str | None = None,
    external_data: bool = False,
) -> GraphModule:
    """The network in an ONNX file, in evaluation mode.

    It can be run, trained, explained, saved and exported again. Initialisers and constants of
    floating-point numbers become parameters, named as in the file; running statistics of batch
    norm become buffers. Everything is computed in float32. Axis 0 of each input is the batch, also
    where the file has a batch of one size.

    Args:
        path: the file.
        input_shape: of one sample, or a list of shapes, one an input; needed where the file leaves
            sizes besides the batch open.
        output: the name of one output, where the model has several and only that is wanted; by
            default the network gives a tuple of all.
        external_data: whether weights may be read from other files in the model's folder.
    Raises:
        ModelError: the file is damaged, has an operator that is unknown here, or mixes the samples
            of a batch.
        FileError: there is no such file, or it cannot be read.
        OptionError: the package onnx is not installed; a shape or an output's name is needed.
    """
    try:
        model, folder = read_model(path, external_data)
        return network_of(model, folder, input_shape, output)
    except ModelError as error:
        text = str(error)
        raise ModelError(text if text.startswith(str(path)) else f"{path}: {text}") from None
    except FileError:
        raise
    except OptionError as error:
        raise OptionError(f"{path}: {error}") from None
    except StriateError as error:
        raise ModelError(f"{path}: expected a network that fits together; {error}") from None
    except DAMAGED as error:
        raise ModelError(
            f"{path}: expected a valid model; got a damaged one ({first_line(error)})."
        ) from error
    except (RecursionError, MemoryError):
        raise ModelError(
            f"{path}: expected a model that fits into memory and is not nested deeply; got more."
        ) from None


def network_of(
    model: Any, folder: Path | None = None, input_shape: Any = None, output: str | None = None
) -> GraphModule:
    """The network of an `onnx.ModelProto`, which is taken apart; see `import_onnx`."""
    _require_known(model)
    weights = _take_weights(model, folder)
    inputs = _inputs(model, weights, input_shape)
    require_valid(model)
    model, kept = inline(model)
    wanted = _outputs(model, output)
    nodes = _needed(model, wanted)
    made: list[_Made] = []
    drops = any(node.op_type == "Dropout" for node in nodes)
    for training in (False, True) if drops else (False,):
        made.append(_lower(model, nodes, weights, inputs, wanted, kept, training))
    evaluation, training_graph = made[0].graph, made[-1].graph
    arrays = {**made[-1].arrays, **made[0].arrays}
    buffers = _statistics(evaluation)
    return GraphModule(
        evaluation,
        {name: array for name, array in arrays.items() if name not in buffers},
        training_graph=training_graph if drops else None,
        description=_description(model),
        notes=_notes(model),
        buffers={name: array for name, array in arrays.items() if name in buffers},
    )


@dataclass(frozen=True)
class _Made:
    graph: Graph
    arrays: dict[str, Any]


def _lower(
    model: Any,
    nodes: list[Any],
    weights: Mapping[str, Any],
    inputs: list[Input],
    wanted: list[str],
    kept: Mapping[str, Any],
    training: bool,
) -> _Made:
    """One run through the nodes: the graph of some outputs, and what it reads."""
    batch = _batch(model, weights, inputs)
    lowering = SymbolicLowering(opset_of(model), batch, kept, training)
    for name, array in weights.items():
        lowering.weigh(name, array)
    for given in inputs:
        lowering.enter(given.name, _shape_of(given, batch), given.dtype)
    for node in nodes:
        lowering.run(node)
    graph = lowering.graph_of(wanted)
    arrays = {node.name: lowering.only.parameters[node.name] for node in graph.parameters}
    return _Made(graph, arrays)


# ---- what the model says -------------------------------------------------------------------------


def opset_of(model: Any) -> int:
    """The version of ONNX's operator set."""
    versions = [o.version for o in model.opset_import if o.domain in _DOMAINS]
    return int(versions[0]) if versions else 1


def _require_known(model: Any) -> None:
    newest = int(import_package("import_onnx").defs.onnx_opset_version())
    if opset_of(model) > newest:
        raise ModelError(
            f"onnx: expected an operator set up to {newest}, the newest that the package onnx here "
            f"knows; got {opset_of(model)}. Upgrade onnx."
        )
    if model.graph.sparse_initializer:
        raise ModelError("onnx: expected dense weights; got a sparse one. Store it as dense.")


def _take_weights(model: Any, folder: Path | None) -> dict[str, Any]:
    """The initialisers as arrays; in the model only their shapes stay, as inputs."""
    helper = import_module("onnx").helper
    found: dict[str, Any] = {}
    listed = {k.name for k in model.graph.input}
    for tensor in model.graph.initializer:
        if tensor.name in found:
            raise ModelError(f"onnx: expected one initialiser {tensor.name!r}; got two.")
        found[tensor.name] = array_of(tensor, folder)
        if tensor.name not in listed:
            described = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            model.graph.input.append(described)
    del model.graph.initializer[:]
    for tensor in _tensors(model):
        if tensor.external_data:
            array = array_of(tensor, folder)
            tensor.CopyFrom(import_module("onnx").numpy_helper.from_array(array, tensor.name))
    return found


def _tensors(model: Any) -> Iterator[Any]:
    """The tensors that nodes hold, also those of functions."""
    for node in (*model.graph.node, *(node for f in model.functions for node in f.node)):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _inputs(model: Any, weights: Mapping[str, Any], input_shape: Any) -> list[Input]:
    found = [_input(k) for k in model.graph.input if k.name not in weights]
    if not found:
        raise ModelError("onnx: expected a model with an input; got none.")
    if input_shape is None:
        return found
    shapes = list(input_shape) if _several(input_shape) else [input_shape]
    if len(shapes) != len(found):
        raise OptionError(
            f"import_onnx: expected an input_shape for each of the inputs "
            f"{', '.join(k.name for k in found)}; got {len(shapes)}."
        )
    return [_with_shape(given, tuple(shape)) for given, shape in zip(found, shapes, strict=True)]


def _several(shape: Any) -> bool:
    return len(shape) > 0 and not hasattr(shape[0], "__index__")


def _input(described: Any) -> Input:
    kind = described.type.tensor_type
    if not described.type.HasField("tensor_type") or kind.elem_type not in _TYPES:
        raise ModelError(
            f"onnx: the input {described.name!r} expected a tensor of numbers; got another type."
        )
    sizes = tuple(
        d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in kind.shape.dim
    )
    if not sizes:
        raise ModelError(
            f"onnx: the input {described.name!r} expected a batch axis; got a single number, or no "
            "shape."
        )
    return Input(described.name, _TYPES[kind.elem_type], sizes)


def _with_shape(given: Input, shape: Shape) -> Input:
    fits = len(shape) == len(given.sizes) - 1 and all(
        hasattr(k, "__index__") and k >= 1 and known in (None, k)
        for k, known in zip(shape, given.sizes[1:], strict=True)
    )
    if not fits:
        raise OptionError(
            f"import_onnx: the input {given.name!r} expected a sample of shape "
            f"{given.sizes[1:]} (None is open); got {shape}."
        )
    return Input(given.name, given.dtype, (given.sizes[0], *(int(k) for k in shape)))


def _shape_of(given: Input, batch: int) -> Shape:
    sizes = given.sizes[1:]
    if any(k is None for k in sizes):
        raise OptionError(
            f"import_onnx: expected the sizes that the input {given.name!r} leaves open, "
            f"{sizes} (None is open); got none. Give input_shape, the shape of one sample."
        )
    return (batch, *(k for k in sizes if k is not None))


def _batch(model: Any, weights: Mapping[str, Any], inputs: list[Input]) -> int:
    """The size of a batch while the model is read: its own, or one that is nowhere else in it."""
    fixed = {k.sizes[0] for k in inputs}
    if len(fixed) == 1 and None not in fixed:
        return next(k for k in fixed if k is not None)
    if fixed != {None}:
        raise ModelError(
            "onnx: expected inputs with one batch axis in front; got first sizes "
            f"{', '.join(f'{k.name} {k.sizes[0]}' for k in inputs)} (None is open)."
        )
    taken = {size for array in weights.values() for size in array.shape}
    taken |= {size for k in inputs for size in k.sizes if size}
    taken |= {
        int(k) for a in weights.values() if a.dtype.kind == "i" and a.size < 99 for k in a.flat
    }
    return next((prime for prime in _PRIMES if prime not in taken), 1009)


def _outputs(model: Any, wanted: str | None) -> list[str]:
    names = [k.name for k in model.graph.output]
    if wanted is not None and wanted not in names:
        raise OptionError(
            f"import_onnx: expected an output among {', '.join(names)}; got {wanted!r}."
        )
    if not names:
        raise ModelError("onnx: expected a model with outputs; got none.")
    return names if wanted is None else [wanted]


def _needed(model: Any, wanted: list[str]) -> list[Any]:
    """The nodes that the outputs need, in their order."""
    needed, found = set(wanted), []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            needed.update(_read_by(node))
            found.append(node)
    return found[::-1]


def _read_by(node: Any) -> Iterator[str]:
    """What a node reads, also in the graphs that it holds."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from _read_by(inner)
            yield from (output.name for output in graph.output)


def _statistics(graph: Graph) -> set[str]:
    """The names of the running statistics of batch norms."""
    norms = (node for node in graph.steps if node.op == "batch_norm")
    return {name for node in norms for name in node.inputs[_STATISTICS]}


def _description(model: Any) -> str:
    made = " ".join(k for k in (model.producer_name, model.producer_version) if k)
    by = f", made by {made}" if made else ""
    return f"{model.graph.name or 'network'}: ONNX, operator set {opset_of(model)}{by}"


def _notes(model: Any) -> dict[str, Any]:
    """What else the model says about itself."""
    found = {entry.key: entry.value for entry in model.metadata_props}
    if model.doc_string:
        found["doc_string"] = model.doc_string
    return found
