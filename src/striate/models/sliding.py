"""A classifier that slides over larger images: one prediction for every place.

What is computed for neighbouring windows is computed once: fully connected layers become
convolutions. Layers that need the whole window more than once (squeeze-and-excitation) cannot.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from striate.errors import OptionError, ShapeError, TraceError
from striate.formula.expression import Index, Sum, Tensor, axes
from striate.formula.formula import reads
from striate.formula.own import body_from_json, formula_attributes, index_from_json
from striate.graph.graph import Graph, Node, Shape
from striate.nn.graph_module import GraphModule
from striate.nn.mode import in_mode
from striate.nn.module import Module

_CONVOLUTIONS = ("conv1d", "conv2d", "conv3d", "true_conv1d", "true_conv2d", "true_conv3d")
_POOLINGS = (
    *("max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d"),
    *("lp_pool", "sum_pool", "mean_pool", "gaussian_pool", "expected_pool", "subsample"),
)
# Each number of the result comes from one place of the image, whatever its size.
_POINTWISE = (
    *("map", "broadcast_map", "channel_map", "batch_norm", "local_response_norm", "dropout"),
    *("concat", "slice", "softmax_along", "log_softmax", "channel_shuffle", "formula"),
    *("channel_max_pool", "channel_avg_pool", "channel_lp_pool"),
)
_ELEMENTWISE = ("map", "dropout")
_WHERE = "convolutionalize"


class SlidingClassifier(GraphModule):
    """What `convolutionalize` gives: scores (n, classes, rows, columns), one for each window.

    Attributes:
        window: the sizes of a window, what the classifier takes.
        stride: pixels between neighbouring windows, vertical and horizontal.
        exact: whether the scores are the classifier's at every window. They are not where a layer
            pads: the classifier sees zeros around its window, this network the image.
    Input: (n, c, h, w), h and w at least the window's. Output: (n, classes, rows, columns); the
        scores at (i, j) are those of the window whose corner is (i·stride[0], j·stride[1]).
    """

    window: tuple[int, ...]
    stride: tuple[int, ...]
    exact: bool

    def forward(self, *inputs: Any) -> Any:
        """Scores for every window of the images."""
        for x in inputs[:1]:
            sizes = tuple(np.shape(x) if isinstance(x, np.ndarray) else x.shape)[2:]
            if len(sizes) == len(self.window) and any(
                size < least for size, least in zip(sizes, self.window, strict=True)
            ):
                raise ShapeError(
                    f"SlidingClassifier: expected images of at least {_sizes(self.window)}, the "
                    f"classifier's; got {_sizes(sizes)}. Enlarge or pad them."
                )
        return super().forward(*inputs)


def convolutionalize(net: Module, input_shape: Sequence[int] | None = None) -> SlidingClassifier:
    """A classifier as a network that slides over images of any size from its own.

    Fully connected layers become convolutions: the first one behind the image of the window's
    size, the others of 1×1; a pooling of the whole window becomes a pooling of stride 1. Weights
    are copied and keep their names.

    Args:
        net: a classifier (n, c, h, w) → (n, classes), of images, sequences or volumes.
        input_shape: the shape of one of its samples; by default the one it last had.
    Returns:
        The sliding network, in evaluation mode.
    Raises:
        OptionError: no shape is known, or a layer cannot slide; the message names it.
    Source: LeCun, Bottou, Bengio, Haffner, Gradient-based learning applied to document
        recognition (1998), section VII, space displacement networks; Sermanet et al., OverFeat,
        arXiv:1312.6229.

    >>> from striate.models import from_pattern
    >>> net = from_pattern("conv5x4p0-relu-pool-fc8-relu-softmax", input=(1, 12, 12), classes=3)
    >>> sliding = convolutionalize(net)
    >>> sliding(np.zeros((1, 1, 16, 20))).shape, sliding.stride, sliding.exact
    ((1, 3, 3, 5), (2, 2), True)
    """
    shape: Any = input_shape or net.known_input_shape
    if shape is None:
        raise OptionError(
            f"{_WHERE}: expected a network whose input shape is known; got a "
            f"{type(net).__name__} that was never called. Write convolutionalize(net, (1, 28, 28))."
        )
    with in_mode(net, training=False):
        made = _Sliding(net.to_graph(tuple(shape)), net.arrays())
    with in_mode(net, training=True):
        training = _training(net, tuple(shape))
    buffers = {n for n, _ in net.named_buffers(remove_duplicate=False)}
    arrays = made.arrays if training is None else {**training.arrays, **made.arrays}
    found = SlidingClassifier(
        made.graph,
        {name: array for name, array in arrays.items() if name not in buffers},
        training_graph=None if training is None else training.graph,
        description=f"sliding {type(net).__name__}",
        notes={"window": list(made.window), "stride": list(made.stride)},
        buffers={name: array for name, array in arrays.items() if name in buffers},
    )
    found.__dict__.update(window=made.window, stride=made.stride, exact=made.exact)
    return found


def _training(net: Module, shape: Shape) -> _Sliding | None:
    """The network in training mode, where that can slide too."""
    try:
        return _Sliding(net.to_graph(shape), net.arrays())
    except (TraceError, OptionError):
        return None


class _Sliding:
    """The graph of a classifier, rewritten node by node.

    A vector (k,) becomes an image (k, 1, 1) of the window; a flattened image stays an image until
    a fully connected layer reads it.
    """

    def __init__(self, graph: Graph, arrays: Mapping[str, Any]) -> None:
        self.old, self.held, self.graph = graph, arrays, Graph()
        self.arrays: dict[str, Any] = {}
        self.names: dict[str, str] = {}  # old node -> new one
        self.jumps: dict[str, tuple[int, ...]] = {}  # new node -> pixels between its places
        self.exact = True
        (source,) = self._inputs()
        self.window: tuple[int, ...] = source.shape[1:]
        self.rank = len(self.window)
        for node in graph.steps:
            self.step(node)
        output = graph.only_output(_WHERE).name
        last = self.graph.nodes[self.names[output]]
        if len(graph.nodes[output].shape) != 1 or last.shape[1:] != (1,) * self.rank:
            raise OptionError(
                f"{_WHERE}: expected a classifier, with one row of scores; got a network with "
                f"output {graph.nodes[output].shape}. A fully convolutional network takes any "
                "size as it is."
            )
        self.graph.outputs = (last.name,)
        self.stride = self.jumps[last.name]

    def _inputs(self) -> list[Node]:
        inputs = self.old.inputs
        if len(inputs) != 1 or len(inputs[0].shape) < 2:
            raise OptionError(
                f"{_WHERE}: expected a network with one input of images (c, h, w); got "
                f"{[node.shape for node in inputs]}."
            )
        (source,) = inputs
        self.graph.append(source)
        self.names[source.name] = source.name
        self.jumps[source.name] = (1,) * (len(source.shape) - 1)
        return inputs

    # ---- nodes -------------------------------------------------------------------------------

    def step(self, node: Node) -> None:
        """Add what one node of the classifier becomes."""
        special = {
            "linear": self.linear,
            "rbf": self.rbf,
            "reshape": self.reshape,
            "softmax": self.softmax,
        }
        if node.op in special:
            special[node.op](node)
        elif node.op.startswith("adaptive_"):
            self.adaptive(node)
        elif node.op in _CONVOLUTIONS or node.op in _POOLINGS:
            self.window_layer(node)
        elif node.op in _POINTWISE:
            self.pointwise(node)
        elif node.op == "pad":
            self.exact = False
            self.add(node)
        else:
            raise self.refusal(node, f"{node.op} is not known to slide")

    def refusal(self, node: Node, why: str) -> OptionError:
        return OptionError(f"{_WHERE}: expected layers that slide; got {node.name}: {why}.")

    def flat(self, name: str) -> bool:
        """Whether an old node is a vector of more than one place of an image."""
        new = self.graph.nodes[self.names[name]]
        return len(self.old.nodes[name].shape) == 1 and math.prod(new.shape[1:]) > 1

    def add(
        self,
        node: Node,
        op: str | None = None,
        inputs: Sequence[str] | None = None,
        attributes: Mapping[str, Any] | None = None,
        stride: Sequence[int] | None = None,
    ) -> None:
        """Append a node under the old one's name; its inputs are the old one's unless given."""
        names = self.translated(node) if inputs is None else list(inputs)
        images = [name for name in names if name in self.jumps]
        jumps = {self.jumps[name] for name in images}
        sizes = {self.graph.nodes[name].shape[1:] for name in images}
        if len(jumps) > 1 or len(sizes) > 1:
            raise self.refusal(node, "it joins what the whole window gives with single places")
        settings = dict(node.attributes if attributes is None else attributes)
        made = self.graph.apply(node.name, op or node.op, tuple(names), settings)
        (jump,) = jumps
        steps = (1,) * self.rank if stride is None else tuple(stride)
        self.names[node.name] = made.name
        self.jumps[made.name] = tuple(a * b for a, b in zip(jump, steps, strict=True))

    def translated(self, node: Node) -> list[str]:
        """The new names of a node's inputs; its parameters come along."""
        return [self.names.get(name) or self.parameter(name) for name in node.inputs]

    def parameter(self, name: str, array: Any = None) -> str:
        """A parameter, in another shape where an array is given."""
        value = np.asarray(self.held[name] if array is None else array)
        if name in self.arrays and self.arrays[name].shape != value.shape:
            raise OptionError(
                f"{_WHERE}: expected a weight of one shape; got {name}, which layers share as "
                f"{self.arrays[name].shape} and {value.shape}."
            )
        if name not in self.arrays:
            self.arrays[name] = np.array(value)
            self.graph.append(Node(name, "parameter", shape=value.shape, batched=False))
        return name

    # ---- kinds of layers ---------------------------------------------------------------------

    def window_layer(self, node: Node) -> None:
        """A convolution or a pooling: it slides already."""
        if any(map(any, node.attributes.get("padding", ()))):
            self.exact = False
        self.add(node, stride=node.attributes.get("stride", node.attributes.get("kernel")))

    def pointwise(self, node: Node) -> None:
        if node.op not in _ELEMENTWISE and any(map(self.flat, self.images(node))):
            raise self.refusal(node, f"{node.op} of flattened images")
        if node.op in ("concat", "slice", "softmax_along", "log_softmax"):
            if node.attributes.get("axis") != 1:
                raise self.refusal(node, f"{node.op} along axis {node.attributes.get('axis')}")
        if node.op == "formula" and not self.stays(node):
            raise self.refusal(node, "a formula that reads other places than its own")
        self.add(node)

    def images(self, node: Node) -> list[str]:
        return [name for name in node.inputs if name in self.names]

    def stays(self, node: Node) -> bool:
        """Whether a formula reads each tensor of images at the place that it gives."""
        place = tuple(index_from_json(k) for k in node.attributes["output"])[-self.rank :]
        found = reads(body_from_json(node.attributes["body"]))
        batched = [read.index for read in found if len(read.index) == self.rank + 2]
        plain = not any(map(any, (s for v in node.attributes["padding"].values() for s in v)))
        return plain and all(index[-self.rank :] == place for index in batched)

    def adaptive(self, node: Node) -> None:
        """A pooling to a fixed size: of windows as large as the one that the classifier has."""
        (name,) = self.images(node)
        shape, output = self.graph.nodes[self.names[name]].shape[1:], node.attributes["output"]
        if tuple(output) == shape:
            self.names[node.name] = self.names[name]
            return
        if any(n % o for n, o in zip(shape, output, strict=True)):
            got = f"{_sizes(shape)} pooled to {_sizes(output)}, windows of several sizes"
            raise self.refusal(node, got)
        kernel = [n // o for n, o in zip(shape, output, strict=True)]
        whole = set(output) == {1}
        kind = "max" if "max" in node.op else "avg"
        attributes: dict[str, Any] = {
            "kernel": kernel,
            "stride": [1] * self.rank if whole else kernel,
            "padding": [[0, 0]] * self.rank,
        }
        attributes |= (
            {"dilation": [1] * self.rank} if kind == "max" else {"count_include_pad": True}
        )
        op = f"{kind}_pool{self.rank}d"
        self.add(node, op, attributes=attributes, stride=attributes["stride"])

    def reshape(self, node: Node) -> None:
        """Flattening; nothing is moved yet."""
        before = self.old.nodes[node.inputs[0]].shape
        if len(node.shape) != 1 and node.shape != before:
            raise self.refusal(node, f"a reshape of {before} to {node.shape}")
        self.names[node.name] = self.names[node.inputs[0]]

    def linear(self, node: Node) -> None:
        """A convolution whose kernel is what the layer sees of the window."""
        name, weight, *bias = node.inputs
        seen = self.graph.nodes[self.names[name]].shape
        kernel = self.parameter(weight, np.reshape(self.held[weight], (-1, *seen)))
        ones = [1] * self.rank
        attributes = {"stride": ones, "padding": [[0, 0]] * self.rank, "dilation": ones}
        inputs = [self.names[name], kernel, *map(self.parameter, bias)]
        self.add(node, f"conv{self.rank}d", inputs, {**attributes, "groups": 1})

    def rbf(self, node: Node) -> None:
        """Distances to prototypes at every place."""
        name, *weight = node.inputs
        if self.flat(name):
            raise self.refusal(node, "radial basis functions of flattened images")
        given = node.attributes["prototypes"]
        held = self.held[weight[0]] if given is None else given
        own = weight[0] if given is None else f"{node.name}.prototypes"
        prototypes = self.parameter(own, np.asarray(held, np.float32))
        n, o, k, *spots = axes("n o k h i j")
        place = spots[: self.rank]
        read: tuple[Index, ...] = (n, k, *place)
        difference = Tensor("x")[read] - Tensor("w")[o, k]
        attributes = formula_attributes((n, o, *place), Sum((k,), difference * difference))
        self.add(node, "formula", [self.names[name], prototypes], attributes)

    def softmax(self, node: Node) -> None:
        if any(map(self.flat, self.images(node))):
            raise self.refusal(node, "softmax of a flattened image")
        self.add(node, "softmax_along", attributes={"axis": 1})


def _sizes(sizes: Sequence[int]) -> str:
    return " × ".join(map(str, sizes))
