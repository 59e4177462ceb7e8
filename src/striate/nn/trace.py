"""Turning a module's `forward` into a graph: it is called once with symbolic tensors.

A `Tracer` lives for one such call. It owns the growing graph, knows the path of every module
(for the nodes' names) and the name of every parameter and buffer. It runs no arithmetic.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from striate.errors import OptionError, ShapeError, TraceError
from striate.graph.graph import Graph, Node, Shape
from striate.nn.parameter import Array, Float32, Parameter
from striate.nn.result import Place, nodes_of, rebuilt
from striate.nn.symbol import SymbolicTensor, at_line
from striate.nn.untraceable import boundaries, line_of, untraceable

INPUT = "input"
BATCH_COUNT = "num_batches_tracked"
_STATISTICS = slice(3, 5)  # the inputs of a batch norm that are buffers
_LAYERS, _CONTAINERS = "striate.nn.", "striate.nn.container"
_NORMS = ("batch_norm", "batch_norm_training")


class Traceable(Protocol):
    """What a tracer needs of a module."""

    one_node: bool

    def forward(self, *inputs: Any, **keywords: Any) -> Any: ...

    def named_modules(self) -> Iterable[tuple[str, Any]]: ...

    def named_parameters(self) -> Iterable[tuple[str, Parameter]]: ...

    def named_buffers(self) -> Iterable[tuple[str, Array]]: ...


@dataclass(frozen=True)
class Traced:
    """A module as a graph, and what goes with it.

    Attributes:
        graph: the network.
        arrays: the live arrays of the parameters and buffers that the graph reads, by name.
        inputs: the names of the graph's inputs, in the order of forward's arguments.
        result: what forward returns, with `Place`s for the tensors.
        by_batch: the batch norms that a plain call computes with the batch's statistics; for each
            the array that counts the batches, or None.
    """

    graph: Graph
    arrays: Mapping[str, Float32]
    inputs: tuple[str, ...]
    result: Any
    by_batch: Mapping[str, Array | None]


class Tracer:
    """One call of `forward` with symbolic tensors."""

    def __init__(self, root: Traceable) -> None:
        self.graph = Graph()
        self.arrays: dict[str, Float32] = {}
        self.by_batch: dict[str, Array | None] = {}
        self._buffers = dict(root.named_buffers())
        self._paths = {id(module): path for path, module in root.named_modules()}
        self._names = {id(p): name for name, p in root.named_parameters()}
        self._names |= {id(array): name for name, array in self._buffers.items()}
        self._reserved = {INPUT, *self._names.values()}
        self._scope: list[tuple[str, bool]] = []
        self._sites = 0
        self._active = True

    def run(self, root: Traceable, shapes: Sequence[Shape]) -> Traced:
        """The graph of `root` on samples of these shapes, one for each input."""
        _require_arguments(root, len(shapes))
        symbols = []
        for shape in shapes:
            node = self.graph.append(Node(self.graph.unique(INPUT), "input", shape=shape))
            symbols.append(SymbolicTensor(self, node.name, shape))
        inputs = tuple(self.graph.nodes)
        self._reserved |= set(inputs)
        try:
            result = self.call(root, tuple(symbols), {})
        except TypeError as error:
            if isinstance(error, TraceError) or "SymbolicTensor" not in str(error):
                raise
            raise TraceError(
                f"{line_of(error)} cannot be traced: a function of another library was given a "
                f"traced tensor ({error}). Use the functions of striate.nn.functional."
            ) from error
        finally:
            self._active = False
        result = rebuilt(result, lambda found: self._place(root, found))
        self.graph.outputs = nodes_of(result)
        if not self.graph.outputs:
            raise self._no_tensor(root, result)
        graph = self.graph.pruned()
        used = {n.name: self.arrays[n.name] for n in graph.parameters}
        by_batch = {name: k for name, k in self.by_batch.items() if name in graph.nodes}
        return Traced(graph, used, inputs, result, by_batch)

    def _place(self, root: Traceable, found: Any) -> Place:
        if isinstance(found, SymbolicTensor) and found._tracer is self:
            return Place(found._node)
        raise self._no_tensor(root, found)

    def _no_tensor(self, root: Traceable, found: Any) -> TraceError:
        return TraceError(
            f"forward of {type(root).__name__}: expected it to return a tensor computed from its "
            f"input, or several in a tuple, list or dict; got {type(found).__name__}."
        )

    def call(self, module: Traceable, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Run a module's forward; the nodes that it adds are named by its path."""
        path = self._path(module)
        self._scope.append((path, module.one_node))
        try:
            with layer_named(module, path):
                return module.forward(*inputs, **keywords)
        finally:
            self._scope.pop()

    def _path(self, module: Traceable) -> str:
        if id(module) in self._paths:
            return self._paths[id(module)]
        parent = self._scope[-1][0] if self._scope else ""
        return ".".join(filter(None, (parent, type(module).__name__.lower())))

    def apply(
        self, op: str, inputs: Sequence[Any], attributes: Mapping[str, Any], stem: str
    ) -> SymbolicTensor:
        """Add an operation to the graph.

        Args:
            op: the operation's name in graphs ("conv2d").
            inputs: symbolic tensors and parameters.
            attributes: the operation's, JSON values.
            stem: what the node is called where no layer gives it a name ("relu").
        """
        if not self._active:
            raise TraceError(
                f"{stem}: expected a tensor of the forward being traced; got one kept from an "
                "earlier call. Do not store tensors on the module between calls."
            )
        statistics = [k for k in inputs[1:] if isinstance(k, np.ndarray)] if op in _NORMS else ()
        names = tuple(
            self._statistic(value, stem)
            if any(value is k for k in statistics)
            else self._operand(value, stem)
            for value in inputs
        )
        try:
            node = self.graph.apply(self._unique(stem), op, names, attributes)
        except ShapeError as error:
            raise ShapeError(f"{error}{at_line()}") from None
        return SymbolicTensor(self, node.name, node.shape)

    def use_batch_statistics(self, norm: SymbolicTensor) -> None:
        """Let plain calls compute a batch norm, just added, as in training."""
        mean = self.graph.nodes[norm._node].inputs[_STATISTICS][0]
        counter = ".".join((*mean.split(".")[:-1], BATCH_COUNT))
        self.by_batch[norm._node] = self._buffers.get(counter)

    def dropout_site(self) -> int:
        """A number for the next dropout: each place in the graph drops other elements."""
        self._sites += 1
        return self._sites - 1

    def _unique(self, stem: str) -> str:
        path, one_node = self._scope[-1]
        wanted = path if one_node and path else ".".join(filter(None, (path, stem)))
        name, count = wanted, 0
        while name in self.graph.nodes or name in self._reserved:
            count += 1
            name = f"{wanted}_{count}"
        return name

    def _operand(self, value: Any, where: str) -> str:
        if isinstance(value, SymbolicTensor):
            if value._tracer is not self:
                raise TraceError(
                    f"{where}: expected a tensor of the forward being traced; got one of another "
                    "network's. Do not store tensors on the module between calls."
                )
            return value._node
        if isinstance(value, Parameter):
            return self._parameter(value, where)
        kind = f"a {type(value).__name__}"
        if isinstance(value, np.ndarray):
            kind = f"a plain NumPy array of shape {value.shape}"
        raise untraceable(
            f"{where} was given {kind} beside a traced tensor",
            "Numbers that belong to the network are parameters: in __init__ write "
            "self.weight = nn.Parameter(array), and pass self.weight.",
        )

    def _parameter(self, parameter: Parameter, where: str) -> str:
        name = self._names.get(id(parameter))
        if name is None:
            raise untraceable(
                f"{where} was given a parameter of shape {parameter.shape} that the network does "
                "not know",
                "Assign it, or the layer that holds it, to an attribute of the module in "
                "__init__; layers in a plain list or dict go into nn.ModuleList or "
                "nn.ModuleDict.",
            )
        return self._leaf(name, parameter.data)

    def _leaf(self, name: str, array: Float32) -> str:
        if name not in self.graph.nodes:
            self.graph.append(Node(name, "parameter", shape=array.shape, batched=False))
            self.arrays[name] = array
        return name

    def _statistic(self, value: Any, where: str) -> str:
        """The name of a running statistic or a constant, which has to be a buffer."""
        name = self._names.get(id(value))
        if name is None or not isinstance(value, np.ndarray) or value.dtype != np.float32:
            raise untraceable(
                f"{where} was given running statistics that are no buffers of the network",
                "In __init__ write self.register_buffer('running_mean', array), or use the layer "
                "nn.BatchNorm2d.",
            )
        return self._leaf(name, value)


boundaries.add(Tracer.run.__code__)


@contextmanager
def layer_named(layer: Any, path: str = "") -> Iterator[None]:
    """Let an error's message begin with the layer that raised it: its path, and its class.

    Only the innermost layer counts (and the one that was called, where that is made of others),
    and only one of this package: what somebody's own `forward` calls is named by its function and
    line. A function called as its layer is ("conv2d", "Conv2d") is not named twice.
    """
    try:
        yield
    except (ShapeError, OptionError) as error:
        home, name = type(layer).__module__, type(layer).__name__
        if home.startswith(_LAYERS) and home != _CONTAINERS:
            if not error.layer:
                error.layer, error.args = path or name, (_named(str(error), name, path),)
            elif not path:
                error.args = (f"{name}: {error}",)
        raise


def _named(text: str, name: str, path: str) -> str:
    """A message that begins with the layer: "conv2d: expected …" as "0: Conv2d: expected …"."""
    head, colon, rest = text.partition(": ")
    if colon and path and (head == path or head.startswith(f"{path}.")):
        text = rest
    head, colon, rest = text.partition(": ")
    if colon and len(head) > 2 and name.lower().startswith(head.replace("_", "").lower()):
        text = rest
    return f"{path}: {name}: {text}" if path else f"{name}: {text}"


def takes(root: Traceable, count: int) -> bool:
    """Whether `forward` takes this number of inputs."""
    try:
        inspect.signature(root.forward).bind(*range(count))
    except TypeError:
        return False
    return True


def arguments(root: Traceable) -> list[str]:
    """The names of what `forward` takes."""
    return [
        f"*{p.name}" if p.kind is p.VAR_POSITIONAL else p.name
        for p in inspect.signature(root.forward).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL)
    ]


def _require_arguments(root: Traceable, count: int) -> None:
    """Refuse a number of inputs that `forward` does not take."""
    if takes(root, count):
        return
    raise OptionError(
        f"{type(root).__name__}: expected an input for each argument of "
        f"forward({', '.join(arguments(root))}); got {count}. Call it with as many arrays; where "
        "a shape is asked for, give a list of shapes, one an input."
    )


def trace(root: Traceable, sample_shape: Any) -> Traced:
    """The graph of a module on samples of a shape.

    Args:
        root: the module; its `forward` is called once.
        sample_shape: (c, h, w), without the batch axis; or one number for (k,); or for several
            inputs a sequence of such shapes.
    Raises:
        OptionError: forward takes another number of inputs.
        TraceError: forward does something that a graph cannot hold.
        ShapeError: the layers do not fit each other.
    """
    return Tracer(root).run(root, sample_shapes_of(sample_shape))


def sample_shapes_of(given: Any) -> tuple[Shape, ...]:
    """Per-sample shapes from one shape, or from a sequence of them."""
    several = isinstance(given, Sequence) and len(given) > 0 and isinstance(given[0], Sequence)
    if several and not isinstance(given, str):
        return tuple(sample_shape_of(shape) for shape in given)
    return (sample_shape_of(given),)


def sample_shape_of(shape: Any) -> Shape:
    """A per-sample shape, checked: whole numbers of at least 1."""
    parts = tuple(shape) if isinstance(shape, Sequence) else (shape,)
    for k in parts:
        if isinstance(k, (bool, str)) or not hasattr(k, "__index__") or k.__index__() < 1:
            raise OptionError(
                f"input_shape: expected the shape of one sample, e.g. (1, 28, 28), of numbers "
                f"from 1; got {shape!r}. Leave the batch axis out."
            )
    return tuple(int(k) for k in parts)


def find_tracer(*values: Any) -> Tracer | None:
    """The trace that any of the values (or what lists, tuples and dicts hold) belongs to."""
    for value in values:
        if isinstance(value, SymbolicTensor):
            return value._tracer
        if isinstance(value, (list, tuple)):
            found = find_tracer(*value)
        elif isinstance(value, dict):
            found = find_tracer(*value.values())
        else:
            continue
        if found is not None:
            return found
    return None
