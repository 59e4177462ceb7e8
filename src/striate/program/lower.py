"""Graph steps to kernel calls, with the batch in lanes.

One function an operation; each returns the kernel and what its arguments are. What an argument
is (a value in the workspace, a parameter, a piece of a gradient …) is said by a `Slot`; the
driver turns slots into addresses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from striate.codegen.targets import Target
from striate.errors import CompileError
from striate.formula.expression import from_json
from striate.formula.formula import Formula
from striate.formula.nests import UPSTREAM
from striate.formula.operations import find_operation
from striate.graph.graph import Graph, Node, Shape
from striate.graph.losses import TrainingLoss
from striate.kernels import conv, ctc, elementwise, embedding, loss, loss_places, pool, unpool
from striate.kernels.formula import formula_kernel
from striate.kernels.kernel import Kernel, Tail
from striate.kernels.window import Taps, reversed_taps, taps
from striate.program.fuse import Fused, pool_of, switches_of


@dataclass(frozen=True)
class Slot:
    """What a kernel's argument is: a kind, and a name or number.

    Kinds: "value" (of this group), "scratch" (`number` floats for this call alone), "parameter",
    "gradient" (of a parameter, this piece's part),
    "whole" (a value of all groups), "lane" (a small table of the group: labels, scale, …),
    "result" (where the group's results go: losses, correct), "rows" (a value of all groups, sample
    by sample), "sample" (a row of the caller's arrays, `step` floats each) and "number";
    `driver.Items` has more.
    """

    kind: str
    name: str = ""
    number: int = 0
    step: int = 0


@dataclass(frozen=True)
class Call:
    """A kernel call, and which step it came from."""

    kernel: Kernel
    slots: tuple[Slot, ...]
    step: Fused


def value(name: str) -> Slot:
    return Slot("value", name)


def number(n: int) -> Slot:
    return Slot("number", number=n)


@dataclass(frozen=True)
class Context:
    """What lowering needs to know: the graph, the target, and whose gradients nodes hold."""

    graph: Graph
    target: Target
    gradients: tuple[tuple[str, str], ...] = ()  # (gradient node, parameter)
    training: bool = False  # whether random numbers are drawn

    def shape(self, name: str) -> Shape:
        return self.graph.nodes[name].shape

    def parameter_of(self, gradient: str) -> str:
        return dict(self.gradients)[gradient]


def lower(context: Context, step: Fused) -> Call:
    """The kernel call of a step."""
    kernel, slots = _RULES.get(step.node.op, _formula)(context, step)
    return Call(kernel, tuple(slots), step)


_Lowered = tuple[Kernel, list[Slot]]


def _rest(step: Fused) -> list[Slot]:
    """The tail's arguments: the kept value, then the extras."""
    if step.tail is None:
        return []
    kept = [value(step.node.name)] if step.tail.keep else []
    return kept + [value(e) for e in step.extras]


# ---- convolution and fully connected ----------------------------------------------------------


@dataclass(frozen=True)
class ConvShape:
    """A convolution's sizes; a fully connected layer is one on a 1×1 image."""

    groups: int
    outputs: int  # per group
    contracted: int  # per group
    kernel: tuple[int, int]
    source: tuple[int, int]
    stride: tuple[int, int]
    rows: Taps
    cols: Taps
    row_map: tuple[int, int, int]

    @property
    def positions(self) -> int:
        return len(self.rows) * len(self.cols)


def conv_shape(node: Node, source: Shape, weight: Shape) -> ConvShape:
    """The sizes of a conv2d or linear node (or of a gradient of one)."""
    if node.operation == "linear":
        one: Taps = (((0, 0),),)
        rule = (1, 1, 0)
        return ConvShape(1, weight[0], weight[1], (1, 1), (1, 1), (1, 1), one, one, rule)
    a, along = node.attributes, []
    for axis in (0, 1):
        size, k = source[1 + axis], weight[2 + axis]
        s, d, (before, after) = a["stride"][axis], a["dilation"][axis], a["padding"][axis]
        out = (size + before + after - d * (k - 1) - 1) // s + 1
        along.append(taps(size, out, k, s, d, before))
    groups = int(a["groups"])
    return ConvShape(
        groups,
        weight[0] // groups,
        weight[1],
        (weight[2], weight[3]),
        (source[1], source[2]),
        (a["stride"][0], a["stride"][1]),
        along[0],
        along[1],
        (a["stride"][0], a["dilation"][0], a["padding"][0][0]),
    )


def _forward(c: Context, step: Fused) -> _Lowered:
    x, w, *bias = step.node.inputs
    s = conv_shape(step.node, c.shape(x), c.shape(w))
    kh, kw = s.kernel
    per = s.contracted * kh * kw
    strides = (s.outputs * per, per, kh * kw, kw, 1)
    problem = conv.Gather(
        s.groups, s.outputs, s.contracted, s.source, s.rows, s.cols, strides, bool(bias)
    )
    slots = [value(step.output), value(x), Slot("parameter", w)]
    slots += [Slot("parameter", name) for name in bias]
    return conv.gather(c.target, problem, step.tail), slots + _rest(step)


def _to_input(c: Context, step: Fused) -> _Lowered:
    dy, x, w, *_ = step.node.inputs
    s = conv_shape(step.node, c.shape(x), c.shape(w))
    kh, kw = s.kernel
    per = s.contracted * kh * kw
    strides = (s.outputs * per, kh * kw, per, kw, 1)
    rows, cols = reversed_taps(s.rows, s.source[0]), reversed_taps(s.cols, s.source[1])
    out = (len(s.rows), len(s.cols))
    problem = conv.Gather(
        s.groups, s.contracted, s.outputs, out, rows, cols, strides, period=s.stride[1]
    )
    slots = [value(step.output), value(dy), Slot("parameter", w)]
    return conv.gather(c.target, problem, step.tail), slots + _rest(step)


def _to_weight(c: Context, step: Fused) -> _Lowered:
    """This group's part of the gradient to the weights, added to the piece's."""
    dy, x, w, *_ = step.node.inputs
    s = conv_shape(step.node, c.shape(x), c.shape(w))
    kernel = conv.weight_gradient(c.target, weight_problem(s, accumulate=True))
    blocks = -(-s.outputs // conv.ROW_BLOCK) * s.groups
    gradient = Slot("gradient", c.parameter_of(step.node.name))
    sizes = [number(0), number(blocks), number(1), number(0), number(0)]
    return kernel, [gradient, value(x), value(dy), *sizes]


def weight_problem(s: ConvShape, accumulate: bool) -> conv.WeightGradient:
    return conv.WeightGradient(
        s.groups, s.outputs, s.contracted, s.kernel, s.source, s.rows, s.cols, s.row_map, accumulate
    )


def _to_bias(c: Context, step: Fused) -> _Lowered:
    dy, x, w, *_ = step.node.inputs
    s = conv_shape(step.node, c.shape(x), c.shape(w))
    kernel = conv.bias_gradient(c.target, s.groups * s.outputs, s.positions)
    gradient = Slot("gradient", c.parameter_of(step.node.name))
    return kernel, [gradient, value(dy), number(1), number(0)]


# ---- pooling ----------------------------------------------------------------------------------


def _pool(c: Context, step: Fused) -> _Lowered:
    (x,) = step.node.inputs
    kernel = pool_kernel(step.node)(c.target, pool_of(step.node, c.shape(x)), step.tail)
    return kernel, [value(step.output), value(x), *_rest(step)]


def pool_kernel(node: Node) -> Callable[[Target, pool.Pool, Tail | None], Kernel]:
    """The generator for a pooling node."""
    return pool.max_pool if node.op == "max_pool2d" else pool.average_pool


def _max_pool_gradient(c: Context, step: Fused) -> _Lowered:
    dy, x = step.node.inputs
    kernel = pool.max_pool_gradient(c.target, pool_of(step.node, c.shape(x)), step.tail)
    return kernel, [value(step.output), value(dy), value(x), *_rest(step)]


def _average_pool_gradient(c: Context, step: Fused) -> _Lowered:
    dy, x = step.node.inputs
    kernel = pool.average_pool_gradient(c.target, pool_of(step.node, c.shape(x)))
    return kernel, [value(step.output), value(dy)]


def _switch_kernel(
    make: Callable[[Target, unpool.Switches], Kernel], image: int, pooled: int, read: Sequence[int]
) -> Callable[[Context, Fused], _Lowered]:
    """A rule: which nodes (−1: its own, k: input k) have the image's and the pooled shape."""

    def rule(c: Context, step: Fused) -> _Lowered:
        names = (*step.node.inputs, step.node.name)
        whole, small = c.shape(names[image]), c.shape(names[pooled])
        switches = switches_of(step.node, whole, small, whole[0])
        if switches is None:
            return _formula(c, step)
        return make(c.target, switches), [value(step.output), *(value(names[k]) for k in read)]

    return rule


# ---- elementwise, structure, losses -----------------------------------------------------------


def _map(c: Context, step: Fused) -> _Lowered:
    names = tuple(step.node.attributes["inputs"])
    expr = from_json(step.node.attributes["expr"])
    elements = math.prod(step.node.shape)
    kernel = elementwise.elementwise(c.target, expr, names, elements)
    return kernel, [value(step.output), *(value(i) for i in step.node.inputs)]


def _dropout(c: Context, step: Fused) -> _Lowered:
    a = step.node.attributes
    kernel = elementwise.dropout(
        c.target, math.prod(step.node.shape), float(a["p"]), int(a["site"]), step.tail
    )
    lanes = [Slot("lane", "samples"), Slot("lane", "key")]
    return kernel, [value(step.output), value(step.node.inputs[0]), *lanes, *_rest(step)]


def _uniform(c: Context, step: Fused) -> _Lowered:
    elements = math.prod(step.node.shape)
    if not c.training:
        return elementwise.fill(c.target, elements, 0.5), [value(step.output)]
    kernel = elementwise.uniform(c.target, elements, int(step.node.attributes["site"]))
    return kernel, [value(step.output), Slot("lane", "samples"), Slot("lane", "key")]


def _embedding(c: Context, step: Fused) -> _Lowered:
    x, w = step.node.inputs
    kernel = embedding.embedding(c.target, math.prod(c.shape(x)), *c.shape(w))
    return kernel, [value(step.output), value(x), Slot("parameter", w)]


def _embedding_gradient(c: Context, step: Fused) -> _Lowered:
    dy, x, w = step.node.inputs
    padding = int(step.node.attributes["padding"])
    kernel = embedding.embedding_gradient(c.target, math.prod(c.shape(x)), *c.shape(w), padding)
    return kernel, [Slot("gradient", c.parameter_of(step.node.name)), value(dy), value(x)]


def slice_calls(c: Context, step: Fused) -> list[Call]:
    """Concatenation, slicing and its gradient: copies of blocks."""
    node = step.node
    if node.op == "concat":
        return _concat(c, step)
    axis, start = int(node.attributes["axis"]) - 1, int(node.attributes["start"])
    inner_shape = c.shape(node.inputs[1] if node.op == "slice:dx" else node.inputs[0])
    inner = math.prod(inner_shape[axis + 1 :])
    whole, outer = inner_shape[axis] * inner, math.prod(inner_shape[:axis])
    size = (int(node.attributes["stop"]) - start) * inner
    if node.op == "slice":
        kernel = elementwise.copy_blocks(c.target, outer, size, whole, size, start * inner, 0)
        return [Call(kernel, (value(step.output), value(node.inputs[0])), step)]
    cleared = elementwise.clear(c.target, outer * whole)
    kernel = elementwise.copy_blocks(c.target, outer, size, size, whole, 0, start * inner)
    return [
        Call(cleared, (value(step.output),), step),
        Call(kernel, (value(step.output), value(node.inputs[0])), step),
    ]


def _concat(c: Context, step: Fused) -> list[Call]:
    axis, calls, at = int(step.node.attributes["axis"]) - 1, [], 0
    shape = step.node.shape
    inner, outer = math.prod(shape[axis + 1 :]), math.prod(shape[:axis])
    for name in step.node.inputs:
        size = c.shape(name)[axis] * inner
        whole = shape[axis] * inner
        kernel = elementwise.copy_blocks(c.target, outer, size, size, whole, 0, at)
        calls.append(Call(kernel, (value(step.output), value(name)), step))
        at += size
    return calls


def _softmax(c: Context, step: Fused) -> _Lowered:
    kernel = loss.softmax(c.target, math.prod(step.node.shape))
    return kernel, [value(step.output), value(step.node.inputs[0])]


def _softmax_gradient(c: Context, step: Fused) -> _Lowered:
    dy, x = step.node.inputs
    kernel = loss.softmax_gradient(c.target, math.prod(step.node.shape))
    return kernel, [value(step.output), value(dy), value(x)]


def _cross_entropy_gradient(c: Context, step: Fused) -> _Lowered:
    x, _ = step.node.inputs
    kernel = loss.cross_entropy(c.target, math.prod(c.shape(x)))
    results = [Slot("result", "losses"), Slot("result", "correct")]
    lanes = [Slot("lane", "labels"), Slot("lane", "scale")]
    return kernel, [value(step.output), *results, value(x), *lanes]


def _squared_error_gradient(c: Context, step: Fused) -> _Lowered:
    x, wanted = step.node.inputs
    kernel = loss.squared_error(c.target, math.prod(c.shape(x)))
    slots = [value(step.output), Slot("result", "losses"), value(x), value(wanted)]
    return kernel, [*slots, Slot("lane", "scale")]


def _ctc_gradient(c: Context, step: Fused) -> _Lowered:
    (x, t), a = step.node.inputs[:2], step.node.attributes
    time, classes = c.shape(x)
    sizes = (time, classes, int(a["length"]), int(a["blank"]))
    problem = ctc.Ctc(*sizes, bool(a["mean"]), bool(a["zero_infinity"]))
    room = Slot("scratch", f"{step.output}@scratch", problem.scratch(c.target.width))
    slots = [value(step.output), Slot("result", "losses"), value(x), value(t)]
    return ctc.ctc(c.target, problem), [*slots, Slot("lane", "scale"), room]


# ---- everything else: kernels made from formulas ----------------------------------------------


def _formula(c: Context, step: Fused) -> _Lowered:
    node = step.node
    formula, inputs = formula_of(c.graph, node)
    made = formula_kernel(c.target, formula, node.gradient_of)
    out = value(step.output)
    if node.gradient_of is not None and not node.batched:
        out = Slot("gradient", c.parameter_of(node.name))
    slots = [_tensor(c.graph, inputs, name) for name in made.tensors]
    return made.kernel, [out, *slots, Slot("scratch", f"{step.output}@scratch", made.scratch)]


def _tensor(graph: Graph, inputs: Mapping[str, str], name: str) -> Slot:
    if name not in inputs:  # the gradient of a loss has no upstream but a sample's share
        return Slot("lane", "scale")
    node = graph.nodes[inputs[name]]
    return value(node.name) if node.batched else Slot("parameter", node.name)


def formula_of(graph: Graph, node: Node) -> tuple[Formula, dict[str, str]]:
    """A node's formula (of its operation, where it is a gradient), and its inputs by name.

    Raises:
        CompileError: the operation has none, and no kernel of its own.
    """
    operation = find_operation(node.operation)
    if not operation.has_formula:
        raise CompileError(f"program: no kernel for the operation {node.op!r}.")
    given, inputs = list(node.inputs), {}
    if node.gradient_of is not None and not operation.is_loss:
        inputs[UPSTREAM] = given.pop(0)
    names = operation.argument_names(node.attributes, len(given))
    shapes = operation.full_shapes(node.attributes, [graph.nodes[i].shape for i in given])
    inputs |= zip(names, given, strict=True)
    return operation.formula(node.attributes, shapes), inputs


_RULES: dict[str, Callable[[Context, Fused], _Lowered]] = {
    "conv2d": _forward,
    "conv2d:dx": _to_input,
    "conv2d:dw": _to_weight,
    "conv2d:db": _to_bias,
    "linear": _forward,
    "linear:dx": _to_input,
    "linear:dw": _to_weight,
    "linear:db": _to_bias,
    "max_pool2d": _pool,
    "max_pool2d:dx": _max_pool_gradient,
    "avg_pool2d": _pool,
    "avg_pool2d:dx": _average_pool_gradient,
    "max_pool_indices": _switch_kernel(unpool.max_switches, 0, -1, (0,)),
    "max_unpool": _switch_kernel(unpool.max_unpool, -1, 0, (0, 1)),
    "max_unpool:dx": _switch_kernel(unpool.max_unpool_gradient, 0, 1, (0, 2)),
    "map": _map,
    "dropout": _dropout,
    "uniform": _uniform,
    "embedding": _embedding,
    "embedding:dw": _embedding_gradient,
    "softmax": _softmax,
    "softmax:dx": _softmax_gradient,
    "cross_entropy:dx": _cross_entropy_gradient,
    "mse_loss:dx": _squared_error_gradient,
    "ctc_loss:dx": _ctc_gradient,
}
COPIES = ("concat", "slice", "slice:dx")


def _weighted_cross_entropy(c: Context, step: Fused, losses: Slot) -> Call:
    (x, t), a = step.node.inputs[:2], step.node.attributes
    classes, *places = c.shape(x)
    weights = None if a["weight"] is None else tuple(float(w) for w in a["weight"])
    sizes = (classes, math.prod(places))
    problem = loss_places.Weighted(
        *sizes, weights, int(a["ignore_index"]), float(a["label_smoothing"])
    )
    kernel = loss_places.weighted_cross_entropy(c.target, problem)
    slots = (value(step.output), losses, value(x), value(t), Slot("lane", "scale"))
    return Call(kernel, slots, step)


def _loss_calls(c: Context, step: Fused) -> list[Call]:
    """A loss that keeps its values in floats: its gradient, its values, and what was right."""
    node, width = step.node, c.target.width
    found = Slot("scratch", f"{step.output}@losses", width)
    if node.operation == "weighted_cross_entropy":
        calls = [_weighted_cross_entropy(c, step, found)]
    else:
        formula, inputs = formula_of(c.graph, node)
        made = formula_kernel(c.target, formula)
        tensors = [_tensor(c.graph, inputs, name) for name in made.tensors]
        room = Slot("scratch", f"{step.output}@forward", made.scratch)
        calls = [lower(c, step), Call(made.kernel, (found, *tensors, room), step)]
    calls.append(Call(loss.store_result(c.target), (Slot("result", "losses"), found), step))
    x, t = node.inputs[:2]
    if TrainingLoss(node.operation, node.attributes).classifies(c.shape(x)):
        kernel = loss.classified(c.target, math.prod(c.shape(x)))
        calls.append(Call(kernel, (Slot("result", "correct"), value(x), value(t)), step))
    return calls


def calls_of(context: Context, step: Fused) -> list[Call]:
    """All kernel calls of a step, in order."""
    if step.node.op in COPIES:
        return slice_calls(context, step)
    op = step.node.op
    if op not in _RULES and ":d" in op and find_operation(step.node.operation).is_loss:
        return _loss_calls(context, step)
    return [lower(context, step)]
