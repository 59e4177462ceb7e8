"""A network as a table: shapes, parameters, costs, receptive fields, and rows never read.

Everything is read off the graph: the costs come from the operations' formulas, nothing is run and
nothing is measured. Numbers hold for one image.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from striate.errors import OptionError
from striate.formula.activation import ACTIVATIONS, map_expression
from striate.formula.channel_map import channel_function_name
from striate.formula.conv import Convolution
from striate.formula.expression import from_json, to_json
from striate.formula.operations import find_operation
from striate.graph.graph import Graph, Node, Shape
from striate.graph.statistics import buffers
from striate.inspect import summary_text
from striate.inspect.receptive import ReceptiveFields, fields
from striate.inspect.summary_text import shape_text
from striate.nn.trace import sample_shapes_of
from striate.shapes import unreached

if TYPE_CHECKING:
    from striate.nn.module import Module

_FLOAT = 4  # bytes of a float32


@dataclass(frozen=True)
class Row:
    """One layer.

    Attributes:
        name: the node's name in the graph.
        layer: what it does ("conv2d 5×5", "relu").
        shape: of its output, without the batch.
        parameters: how many numbers it learns; shared ones count where they are first used.
        multiply_adds: products that are summed up.
        operations: single additions, multiplications, comparisons and functions.
        bytes: of its output in float32.
        unread_rows: rows of its input that no window reads.
        unread_columns: columns of its input that no window reads.
        bytes_moved: bytes that it reads and writes at least: its inputs, parameters and output
            once each, in float32.
        unread_slices: slices (along the depth of a volume) that no window reads.
    """

    name: str
    layer: str
    shape: Shape
    parameters: int
    multiply_adds: int
    operations: int
    bytes: int
    unread_rows: tuple[int, ...] = ()
    unread_columns: tuple[int, ...] = ()
    bytes_moved: int = 0
    unread_slices: tuple[int, ...] = ()

    @property
    def unread(self) -> str:
        """The slices, rows and columns that are never read, in words; "" where all are read.

        >>> Row("pool", "max_pool2d 2×2", (1, 3, 3), 0, 0, 27, 36, (6,), (6,)).unread
        'row 6, column 6'
        """
        unread = (self.unread_slices, self.unread_rows, self.unread_columns)
        words = map(_words, ("slice", "row", "column"), unread)
        return ", ".join(filter(None, words))


@dataclass(frozen=True)
class Summary:
    """A network's layers and their sums, for one image.

    Attributes:
        input_shape: of the image, (c, h, w); of several inputs a tuple of shapes.
        rows: one for each operation, in order of computation.
        graph: what was summed up.
    """

    input_shape: tuple[Any, ...]
    rows: tuple[Row, ...]
    graph: Graph = field(repr=False, compare=False)

    @property
    def parameters(self) -> int:
        """How many numbers the network learns."""
        return sum(row.parameters for row in self.rows)

    @property
    def multiply_adds(self) -> int:
        """Products that are summed up."""
        return sum(row.multiply_adds for row in self.rows)

    @property
    def operations(self) -> int:
        """Single additions, multiplications, comparisons and functions."""
        return sum(row.operations for row in self.rows)

    @property
    def parameter_bytes(self) -> int:
        """Memory of the parameters in float32."""
        return _FLOAT * self.parameters

    @property
    def activation_bytes(self) -> int:
        """Memory of all layers' outputs in float32; training keeps most of them."""
        return sum(row.bytes for row in self.rows)

    @property
    def bytes_moved(self) -> int:
        """What all layers read and write at least, one after the other, in float32."""
        return sum(row.bytes_moved for row in self.rows)

    @functools.cached_property
    def receptive_fields(self) -> ReceptiveFields | None:
        """Each layer's receptive field, by name; None where there are several inputs."""
        return fields(self.graph) if len(self.graph.inputs) == 1 else None

    def text(self, width: int = 100) -> str:
        """The table and the sums as plain text of at most `width` columns.

        Receptive fields, shares of the multiply-adds and memory are shown where there is room.
        """
        return summary_text.text(self, width)

    def __str__(self) -> str:
        return self.text()

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON data."""
        return {
            "input_shape": _listed(self.input_shape),
            "parameters": self.parameters,
            "multiply_adds": self.multiply_adds,
            "operations": self.operations,
            "parameter_bytes": self.parameter_bytes,
            "activation_bytes": self.activation_bytes,
            "bytes_moved": self.bytes_moved,
            "layers": [self._layer(row) for row in self.rows],
        }

    def _layer(self, row: Row) -> dict[str, Any]:
        data = _as_json(asdict(row))
        data["share"] = row.multiply_adds / max(self.multiply_adds, 1)
        if self.receptive_fields is not None:
            data["receptive_field"] = self.receptive_fields[row.name].numbers()
        return data


def summary(net: Module | Graph, input_shape: Sequence[Any] | None = None) -> Summary:
    """What each layer of a network is and costs.

    Args:
        net: a network or a graph.
        input_shape: of one image, (c, h, w), of several inputs a tuple of such shapes; by default
            the one the network last had.
    Raises:
        OptionError: the shape is not known.
        ShapeError: the layers do not take it.

    >>> from striate import nn
    >>> net = nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU())
    >>> summary(net, (1, 28, 28)).multiply_adds
    117600
    """
    if isinstance(net, Graph):
        shapes = None if input_shape is None else sample_shapes_of(input_shape)
        return summarize(net if shapes is None else net.with_input_shape(*shapes))
    shape = input_shape or net.known_input_shape
    if shape is None:
        raise OptionError(
            f"summary: expected a network whose input shape is known; got a {type(net).__name__} "
            "that was never called. Write summary(net, (1, 28, 28)), the shape of one image."
        )
    return summarize(net.to_graph(shape))


def summarize(graph: Graph) -> Summary:
    """What each operation of a forward graph is and costs."""
    counted = set(buffers(graph))  # running statistics are not learned
    rows = tuple(_row(graph, node, counted) for node in graph.steps)
    return Summary(graph.input_shape, rows, graph)


def _row(graph: Graph, node: Node, counted: set[str]) -> Row:
    inputs = [graph.nodes[name] for name in node.inputs]
    own = {i.name: i for i in inputs if i.op == "parameter" and i.name not in counted}
    counted.update(own)
    cost = find_operation(node.op).cost(node.attributes, [i.shape for i in inputs])
    slices, rows, columns = _unread(node, [i.shape for i in inputs])
    return Row(
        node.name,
        _layer(node, [i.shape for i in inputs]),
        node.shape,
        sum(math.prod(parameter.shape) for parameter in own.values()),
        cost.multiply_adds,
        cost.operations,
        _FLOAT * math.prod(node.shape),
        rows,
        columns,
        _moved(node, [i.shape for i in inputs]),
        slices,
    )


def _moved(node: Node, shapes: Sequence[Shape]) -> int:
    """Bytes read and written at least; a reshape looks at the same numbers."""
    if node.op == "reshape":
        return 0
    return _FLOAT * (math.prod(node.shape) + sum(map(math.prod, shapes)))


# ---- what a layer is -------------------------------------------------------------------------


def _kernel(node: Node, shapes: Sequence[Shape]) -> tuple[int, ...] | None:
    """The size of the window that slides over the input, where there is one."""
    operation = find_operation(node.op)
    if isinstance(operation, Convolution):
        return operation.bank(tuple(shapes[1]))[2:]
    kernel = node.attributes.get("kernel")
    return None if kernel is None else tuple(int(k) for k in kernel)


def _unread(node: Node, shapes: Sequence[Shape]) -> list[tuple[int, ...]]:
    """The slices, rows and columns that no window reads; a sequence has columns only."""
    kernel, a = _kernel(node, shapes), node.attributes
    slides = {"stride", "padding"} <= a.keys() and not {"output", "output_padding"} & a.keys()
    if kernel is None or not slides:
        return [()] * 3
    found = [
        unreached(
            shapes[0][1 + axis],
            size,
            a["stride"][axis],
            tuple(a["padding"][axis]),
            a.get("dilation", (1,) * len(kernel))[axis],
        )
        for axis, size in enumerate(kernel)
    ]
    return [()] * (3 - len(found)) + found


def _layer(node: Node, shapes: Sequence[Shape]) -> str:
    """The operation with what matters of its settings."""
    if node.op == "map":
        return _activation(node.attributes)
    if node.op == "broadcast_map":
        return str(from_json(node.attributes["expr"]))
    if node.op == "channel_map":
        return channel_function_name(node.attributes)
    kernel = _kernel(node, shapes)
    if kernel is not None:
        return f"{node.op} {shape_text(kernel)}" + _window(node.attributes, kernel)
    if "output" in node.attributes and node.op != "formula":
        return f"{node.op} {shape_text(node.attributes['output'])}"
    if node.op == "dropout":
        return f"dropout {node.attributes['p']:g}"
    return node.op


def _window(a: Mapping[str, Any], kernel: tuple[int, ...]) -> str:
    ones = (1,) * len(kernel)
    usual = kernel if "kernel" in a else ones
    parts = []
    if tuple(a.get("stride", usual)) != usual:
        parts.append(f"stride {_sizes(a['stride'])}")
    if any(map(any, a.get("padding", ()))):
        sides = [str(a) if a == b else f"{a}/{b}" for a, b in a["padding"]]
        parts.append(f"padding {_sizes(sides)}")
    if any(a.get("output_padding", ())):
        parts.append(f"output padding {_sizes(a['output_padding'])}")
    if tuple(a.get("dilation", ones)) != ones:
        parts.append(f"dilation {_sizes(a['dilation'])}")
    if a.get("groups", 1) != 1:
        parts.append(f"groups {a['groups']}")
    return "".join(f", {part}" for part in parts)


def _sizes(values: Sequence[int | str]) -> str:
    return str(values[0]) if len(set(values)) == 1 else "×".join(map(str, values))


def _activation(attributes: Mapping[str, Any]) -> str:
    """The activation's usual name, or its expression."""
    names, body = map_expression(attributes)
    if names == ("x",):
        for name, known in ACTIVATIONS.items():
            if to_json(known.expr) == to_json(body):
                return name
    return str(body)


def _words(axis: str, places: tuple[int, ...]) -> str:
    """`row 6`, `rows 1, 3, 5`, `rows 26–27`, `50 rows (1, 3, 5, …)`."""
    if not places:
        return ""
    if len(places) == 1:
        return f"{axis} {places[0]}"
    if places == tuple(range(places[0], places[-1] + 1)):
        return f"{axis}s {places[0]}–{places[-1]}"
    if len(places) <= 4:
        return f"{axis}s {', '.join(map(str, places))}"
    return f"{len(places)} {axis}s ({', '.join(map(str, places[:3]))}, …)"


def _as_json(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _listed(value) for key, value in row.items()}


def _listed(value: Any) -> Any:
    """Tuples as lists, those in them too."""
    return [*map(_listed, value)] if isinstance(value, tuple) else value
