"""Export: a network's graph as an ONNX model.

An operation that ONNX has is one node (or a few); any other is a call of a function of the model
itself, whose body its formula gives, made of standard operators. So what an operation means is
written once, and every runtime of ONNX can run it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from striate.errors import OptionError
from striate.files import StrPath
from striate.formats.onnx.builder import FLOAT, INT64, Builder
from striate.formats.onnx.files import (
    data_path,
    external_entries,
    import_package,
    little,
    require_one_file,
    write_model,
)
from striate.formats.onnx.formula_body import FormulaBody
from striate.formats.onnx.rules.arithmetic import activation_name
from striate.formats.onnx.site import Site, rules
from striate.formula.channel_map import channel_function_name
from striate.formula.expression import from_json
from striate.formula.operations import find_operation
from striate.graph.graph import Graph, Node, Shape
from striate.nn.mode import in_mode
from striate.nn.module import Module
from striate.version import __version__

DOMAIN = "striate"
OLDEST, DEFAULT = 13, 18
_FUNCTIONS_SINCE = 8  # the version of ONNX's file format that has functions of a model
LEFT_OUT = {"dropout": "It does nothing in evaluation, so it is left out."}
REFUSED = {
    "batch_norm_training": (
        "it normalises by the batch at hand, and a network is exported as it is used; call "
        "net.eval(), or use nn.BatchNorm2d with track_running_stats=True"
    ),
    "uniform": "it draws random numbers, which no other runtime would draw alike",
    "ctc_loss": "it sums over paths step by step, for training only; export the network before it",
}


def to_model(
    graph: Graph, arrays: Mapping[str, Any], opset: int = DEFAULT, location: str = ""
) -> Any:
    """The `onnx.ModelProto` of a graph in evaluation mode.

    Args:
        graph: the network.
        arrays: its parameters and buffers by name.
        opset: the version of ONNX's operator set, from 13 to the newest that is known.
        location: the name of the file beside the model that will hold the weights, in the order
            of the graph's parameters; none by default: they are in the model.
    """
    return Exporter(graph, opset).model(arrays, location)


class Exporter:
    """One graph that becomes a model."""

    def __init__(self, graph: Graph, opset: int) -> None:
        self.graph, self.opset = graph, opset
        self.b = Builder(opset, graph.nodes)
        self.values = {n.name: n.name for n in graph.nodes.values()}
        self.functions: dict[str, Any] = {}
        self._names: dict[str, int] = {}

    def model(self, arrays: Mapping[str, Any], location: str = "") -> Any:
        """The whole model; see `to_model`."""
        helper = import_module("onnx").helper
        for node in self.graph.steps:
            self._node(node)
        whole = helper.make_graph(
            self.b.nodes,
            "network",
            [self._described(n.name, n.name) for n in self.graph.inputs],
            self._outputs(),
            self._weights(arrays, location),
        )
        sets = [helper.make_opsetid("", self.opset)]
        if self.functions:
            sets.append(helper.make_opsetid(DOMAIN, 1))
        oldest = _FUNCTIONS_SINCE if self.functions else 7
        version = max(helper.find_min_ir_version_for(sets[:1]), oldest)
        return helper.make_model(
            whole,
            opset_imports=sets,
            functions=list(self.functions.values()),
            ir_version=version,
            producer_name="striate",
            producer_version=__version__,
        )

    def _described(self, name: str, node: str) -> Any:
        shape = ["batch", *self.graph.nodes[node].shape]
        readers = self.graph.consumers(node) if self.graph.nodes[node].op == "input" else []
        whole = readers and all(r.op == "embedding" and r.inputs[0] == node for r in readers)
        kind = INT64 if whole and name == node else FLOAT
        return import_module("onnx").helper.make_tensor_value_info(name, kind, shape)

    def _outputs(self) -> list[Any]:
        """The outputs; one that is an input or a parameter itself gets a node of its own."""
        found = []
        for name in self.graph.outputs:
            value = self.values[name]
            if value != name or self.graph.nodes[name].op == "input":
                value = self.b.rename(self.b.op("Identity", value), self.b.unique("output"))
            found.append(self._described(value, name))
        return found

    def _weights(self, arrays: Mapping[str, Any], location: str) -> list[Any]:
        onnx, found, offset = import_module("onnx"), [], 0
        for node in self.graph.parameters:
            array = little(arrays[node.name]).reshape(node.shape)
            if not location:
                found.append(onnx.numpy_helper.from_array(array, node.name))
                continue
            tensor = onnx.TensorProto(
                name=node.name,
                data_type=FLOAT,
                dims=node.shape,
                data_location=onnx.TensorProto.EXTERNAL,
            )
            for key, value in external_entries(location, offset, array).items():
                tensor.external_data.add(key=key, value=value)
            offset += array.nbytes
            found.append(tensor)
        return found

    def _node(self, node: Node) -> None:
        if node.op in LEFT_OUT:
            self.values[node.name] = self.values[node.inputs[0]]
            return
        if node.op in REFUSED or node.gradient_of is not None:
            why = REFUSED.get(node.op, "gradients belong to training")
            raise OptionError(f"export_onnx: {node.name} ({node.op}) cannot be exported: {why}.")
        inputs = tuple(self.values[name] for name in node.inputs)
        shapes = tuple(self.graph.nodes[name].shape for name in node.inputs)
        site = Site(self.b, node.op, inputs, shapes, node.attributes, node.shape)
        rule = rules().get(node.op)
        found = None if rule is None else rule(site)
        if found is None:
            found = self._call(site)
        self.values[node.name] = self.b.rename(found, node.name)

    # ---- functions ------------------------------------------------------------------------

    def _call(self, site: Site) -> str:
        """A call of a function of the model's own; equal operations share one."""
        key = function_text(site.op, site.attributes, site.shapes)
        if key not in self.functions:
            title = function_title(site.op, site.attributes)
            count = self._names.get(title, 0) + 1
            self._names[title] = count
            name = title if count == 1 else f"{title}_{count}"
            self.functions[key] = make_function(
                name, site.op, site.attributes, site.shapes, self.opset
            )
        return self.b.op(self.functions[key].name, *site.inputs, domain=DOMAIN)


def function_title(op: str, attributes: Mapping[str, Any]) -> str:
    """What the function of an operation is called: a scalar function by its own name.

    >>> from striate.formula.activation import map_attributes
    >>> function_title("map", map_attributes("silu")), function_title("local2d", {})
    ('silu', 'local2d')
    """
    if op == "map":
        return activation_name(from_json(attributes["expr"])) or "scalar"
    if op == "channel_map":
        name = channel_function_name(attributes).replace(" ", "_")
        return name if name.isidentifier() else "channel_scalar"
    return op


def function_text(op: str, attributes: Mapping[str, Any], shapes: Sequence[Shape]) -> str:
    """What an operation is, as JSON: it stands in the function's text."""
    data = {"op": op, "attributes": dict(attributes), "shapes": [list(s) for s in shapes]}
    return json.dumps(data, sort_keys=True)


def make_function(
    name: str, op: str, attributes: Mapping[str, Any], shapes: Sequence[Shape], opset: int
) -> Any:
    """The function of the model that computes an operation, by its formula."""
    helper = import_module("onnx").helper
    operation = find_operation(op)
    if not operation.has_formula:
        raise OptionError(f"export_onnx: the operation {op} has neither a rule nor a formula.")
    names = operation.argument_names(attributes, len(shapes))
    shared = operation.shared(attributes)
    full = operation.full_shapes(attributes, shapes, batch=3)
    formula = operation.formula(attributes, full)
    b = Builder(opset, names)
    batched = next(name for name in names if name not in shared)
    body = FormulaBody(b, formula, {name: name for name in names}, batched)
    result = b.rename(body.write(), b.unique("result"))
    return helper.make_function(
        DOMAIN,
        name,
        list(names),
        [result],
        b.nodes,
        [helper.make_opsetid("", opset)],
        doc_string=f"{formula}\n{function_text(op, attributes, shapes)}",
    )


# ---- files -------------------------------------------------------------------------------------


def export_onnx(
    net: Module,
    path: StrPath,
    *,
    input_shape: Any = None,
    opset: int | None = None,
    external_data: bool = False,
) -> None:
    """Write a network to an ONNX file, as it is used: in evaluation mode, for any batch.

    Operations that ONNX has become its nodes, all others functions of the model itself, made of
    standard operators. Parameters keep their state-dict names.

    Args:
        net: the network.
        path: the file; written whole or not at all.
        input_shape: of one sample, e.g. (3, 224, 224), or a list of them, one an input; by default
            the one that the network was last called, trained or traced on.
        opset: version of ONNX's operator set, from 13 to the newest that the package `onnx` has;
            18 by default.
        external_data: write the weights to a second file beside it, `path` with `.data` behind,
            as models of more than 2 GiB need.
    Raises:
        OptionError: the shape is not known, the version does not exist, or an operation cannot be
            exported.
        FileError: the file cannot be written.

    >>> import tempfile, numpy as np, striate as st
    >>> net = st.nn.Sequential(st.nn.Conv2d(3, 8, 3), st.nn.ReLU())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export_onnx(net, f"{folder}/net.onnx", input_shape=(3, 16, 16))
    ...     st.import_onnx(f"{folder}/net.onnx")(np.zeros((2, 3, 16, 16))).shape
    (2, 8, 14, 14)
    """
    if not isinstance(net, Module):
        raise OptionError(f"export_onnx: expected a Module; got {type(net).__name__}.")
    version = checked_opset(opset)
    graph, arrays = evaluation(net, input_shape)
    if external_data:
        data = [arrays[node.name] for node in graph.parameters]
        location = Path(data_path(path)).name
        write_model(to_model(graph, arrays, version, location), path, data)
        return
    require_one_file(4 * sum(math.prod(n.shape) for n in graph.parameters))
    write_model(to_model(graph, arrays, version), path)


def checked_opset(opset: int | None) -> int:
    """The version of the operator set that was asked for, or the default."""
    newest = int(import_package("export_onnx").defs.onnx_opset_version())
    found = DEFAULT if opset is None else opset
    if isinstance(found, bool) or not isinstance(found, int) or not OLDEST <= found <= newest:
        raise OptionError(
            f"export_onnx: expected opset from {OLDEST} to {newest}, the newest that the package "
            f"onnx here knows; got {opset!r}."
        )
    return found


def evaluation(net: Module, input_shape: Any) -> tuple[Graph, dict[str, Any]]:
    """The network's graph in evaluation mode, and the arrays that it reads."""
    shape = input_shape if input_shape is not None else net.known_input_shape
    if shape is None:
        raise OptionError(
            f"export_onnx: expected a network whose input shape is known; got a "
            f"{type(net).__name__} that was never called. Give input_shape=(3, 224, 224), the "
            "shape of one sample."
        )
    with in_mode(net, training=False):
        plan = net.plan(shape)
    return plan.graph, dict(plan.parameters())
