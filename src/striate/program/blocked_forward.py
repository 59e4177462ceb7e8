"""Rules for forward operations in blocked programs: steps to stages.

An operation without a rule here runs through the kernels with the batch in lanes (`_lanes`):
samples are gathered into lanes in the thread's own memory and scattered again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

from striate.formula.expression import from_json
from striate.graph.graph import Node
from striate.kernels import elementwise, pool
from striate.kernels.depthwise import Depthwise, depthwise
from striate.kernels.direct import Direct, direct
from striate.kernels.kernel import Kernel, Tail
from striate.kernels.lanes import lanes_to_rows, rows_to_lanes
from striate.kernels.matmul import linear
from striate.kernels.matmul_packed import linear_packed
from striate.kernels.norm import affine, fold
from striate.kernels.packing import Packing, copy_channels
from striate.kernels.response_norm import local_response_norm
from striate.kernels.routine import blocks
from striate.kernels.samples import lane_tables
from striate.kernels.window import Taps
from striate.kernels.winograd import Winograd, transform_weights, u_floats, winograd
from striate.program.blocked import BLOCKED, PLAIN, Operand, positions
from striate.program.blocked_channel import function_of, lower_forward
from striate.program.blocked_local import LocalRules
from striate.program.blocked_norm import lower_norm
from striate.program.blocked_switches import SwitchRules
from striate.program.choose import FORWARD, TO_SOURCE, Choice, winograd_form
from striate.program.convolution import Windows, flat_image, windows_of
from striate.program.driver import LANE_TABLES
from striate.program.fuse import Fused, pool_of
from striate.program.lower import Call, Context, Slot, calls_of
from striate.program.memory import aligned
from striate.program.stage import Argument, Number, Ref, Stage, Work

_CHUNK = 1024  # vectors of an elementwise item
_ONCE = 4_000_000  # weights of a fully connected layer that are not worth packing for one sample


class ForwardLowering(LocalRules, SwitchRules):
    """One method an operation; `lower` finds it by the operation's name."""

    labels = False  # whether the caller's targets are labels
    folds: Mapping[str, Node] = MappingProxyType({})
    """Of a convolution (by its new name): the batch norm folded into it."""
    kept: Mapping[str, dict[str, Operand]] = MappingProxyType({})
    """Of a gradient to an input: weights packed before they were updated."""

    def lower(self, step: Fused) -> None:
        """Append the stages of a step."""
        rule = getattr(self, "op_" + step.node.op.replace(":", "_"), self.other)
        rule(step)

    def other(self, step: Fused) -> None:
        """An operation without a rule: the batch in lanes."""
        self._lanes(step)

    # ---- convolution --------------------------------------------------------------------------

    def op_conv2d(self, step: Fused) -> None:
        node = step.node
        x, weight = node.inputs[:2]
        w = windows_of(node, self.shape(x), self.shape(weight), node.shape)
        scale, bias = self._folded(node)
        if node.operation.startswith("conv_transpose"):
            self.back_product(w, step, x, weight, bias)
        else:
            self.product(w, step, x, weight, bias, scale)

    op_conv1d = op_conv3d = op_conv2d
    op_conv_transpose1d = op_conv_transpose2d = op_conv_transpose3d = op_conv2d
    op_true_conv1d = op_true_conv2d = op_true_conv3d = op_conv2d

    def _folded(self, node: Node) -> tuple[Ref | None, Ref | None]:
        """The scale and bias of a convolution, with the batch norm behind it folded in."""
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        norm = self.folds.get(node.name)
        if norm is None:
            return None, self.vector(bias) if bias else None
        return self.folded_norm(norm, bias)

    def folded_norm(self, norm: Node, bias: str | None = None) -> tuple[Ref, Ref]:
        """Scale and shift of a batch norm with running statistics."""
        channels = self.shape(norm.inputs[1])[0]
        keys = [f"{part}:{norm.name}" for part in ("scale", "shift")]
        if keys[0] not in self.places.fixed:
            floats = blocks(channels, self.target) * self.target.width
            refs: dict[str, Operand] = {
                key.partition(":")[0]: self.fixed(key, floats, lasting=True) for key in keys
            }
            names = ("weight", "b", "mean", "var")
            for name, given in zip(names, norm.inputs[1:], strict=True):
                refs[name] = Ref("parameter", given)
            if bias:
                refs["bias"] = Ref("parameter", bias)
            made = fold(self.target, channels, float(norm.attributes["eps"]), bool(bias))
            self.run(norm.name, made, refs, prepare=True)
        return Ref("fixed", keys[0]), Ref("fixed", keys[1])

    def product(
        self,
        w: Windows,
        step: Fused,
        source: str,
        weight: str,
        bias: Ref | None = None,
        scale: Ref | None = None,
    ) -> None:
        """The windows' convolution of `source` into the step's output."""
        plain = self._plain_source(source, w)
        if plain:
            x: Operand = self._image(source)
        else:
            x = self.value(source, BLOCKED)
        operands: dict[str, Operand] = {"source": x}
        if bias is not None:
            operands["bias"] = bias
        choice = self.choose(step.output, w, FORWARD, plain)
        form = winograd_form(w, choice.winograd, bias is not None, self.choices.batch)
        operands |= self.kept.get(step.node.name) or self._weights(w, form, weight, scale)
        if form is not None:
            self._winograd(form, step, operands, choice)
            return
        self._direct(w, step, operands, False, plain, choice)

    def back_product(
        self, w: Windows, step: Fused, source: str, weight: str, bias: Ref | None = None
    ) -> None:
        """The transpose of the windows' convolution: from its output (`source`) to its source."""
        operands: dict[str, Operand] = {"source": self.value(source, BLOCKED)}
        if bias is not None:
            operands["bias"] = bias
        choice = self.choose(step.output, w, TO_SOURCE)
        form = winograd_form(w, choice.winograd, bias is not None, self.choices.batch, True)
        kept = self.kept.get(step.node.name)
        operands |= kept or self._weights(w, form, weight, None, back=True)
        if form is not None:
            self._winograd(form, step, operands, choice)
            return
        self._direct(w, step, operands, True, False, choice)

    def _weights(
        self,
        w: Windows,
        form: Winograd | None,
        weight: str,
        scale: Ref | None,
        back: bool = False,
    ) -> dict[str, Operand]:
        """The weights as the kernel of a product reads them."""
        packing = packing_of(w, transposed=back)
        if form is None:
            return {"weight": self.packed(weight, packing, scale)}
        return {"u": self._transformed(form, packing, weight, scale, back, back != w.flipped)}

    def _direct(
        self,
        w: Windows,
        step: Fused,
        operands: dict[str, Operand],
        back: bool,
        plain: bool,
        choice: Choice,
    ) -> None:
        bias, packing = "bias" in operands, packing_of(w, transposed=back)
        if w.depthwise:
            made = depthwise(self.target, depthwise_form(w, bias, back), step.tail)
        else:
            groups = packing.merged(self.target)
            problem = direct_form(w, groups, bias, plain, back)
            made = direct(self.target, problem, step.tail, choice.options)
        operands |= self.tail(step, BLOCKED)
        operands["out"] = self.make(step.output, BLOCKED)
        self._replace_extra(step, operands)
        self.run(step.output, made, operands)

    def _winograd(
        self,
        form: Winograd,
        step: Fused,
        operands: dict[str, Operand],
        choice: Choice,
    ) -> None:
        made = winograd(self.target, form, step.tail, choice.options)
        operands |= self.tail(step, BLOCKED)
        operands["out"] = self.make(step.output, BLOCKED)
        if len(made.steps) == 1:
            self._replace_extra(step, operands)
        self.run(step.output, made, operands)

    def _transformed(
        self,
        form: Winograd,
        packing: Packing,
        weight: str,
        scale: Ref | None,
        back: bool,
        flipped: bool,
    ) -> Ref:
        """The transformed weights of a Winograd convolution."""
        way = f"{int(back)}{int(flipped)}"
        key = f"winograd{form.m}:{weight}:{way}:{scale.name if scale else ''}"
        key = self.version(key, weight)
        if key not in self.places.fixed:
            source = self.packed(weight, packing, scale, lasting=False)
            out = self.fixed(key, u_floats(self.target, form), lasting=not self.training)
            made = transform_weights(self.target, form, flipped)
            self.run(weight, made, {"u": out, "packed": source}, prepare=not self.training)
        return Ref("fixed", key)

    def _replace_extra(self, step: Fused, operands: dict[str, Operand]) -> None:
        """The output may take the place of what the tail reads, unless the windows read it, too:
        in `conv(y) + y` they still need the rows above when a row is done.
        """
        tail = {f"e{k}": operands[f"e{k}"] for k in range(len(step.extras))}
        read = [operand for name, operand in operands.items() if name not in (*tail, "out")]
        extras = [str(operand) for operand in tail.values() if operand not in read]
        self.may_replace(str(operands["out"]), extras)

    def _plain_source(self, source: str, w: Windows) -> bool:
        """Whether to read an image as it came: with few channels the lanes would be empty."""
        name = self.schedule.root[source]
        given = name in self.arrays or (self.has(name, PLAIN) and not self.has(name, BLOCKED))
        few = w.contracted <= self.target.width
        return given and few and w.groups == 1 and len(self.shape(name)) > 1

    def _image(self, source: str) -> Operand:
        name = self.schedule.root[source]
        if name in self.arrays:
            return Ref("array", name, step=self.arrays[name])
        return self.value(name, PLAIN)

    # ---- fully connected, normalisation, pooling ----------------------------------------------

    def op_linear(self, step: Fused) -> None:
        x, w, *bias = step.node.inputs
        outputs, inputs = self.shape(w)
        operands: dict[str, Operand] = {"source": self.value(x, PLAIN)}
        if bias:
            operands["bias"] = self.vector(bias[0])
        operands |= self.tail(step, PLAIN)
        operands["out"] = self.make(step.output, PLAIN)
        batch = self.choices.batch
        sizes = (self.target, outputs, inputs, bool(bias), step.tail)
        if not self.training and (batch > 1 or outputs * inputs < _ONCE):
            operands["weight"] = self.packed(w, Packing(outputs, inputs))
            made = linear_packed(*sizes, batch)
        else:
            operands["weight"] = Ref("parameter", w)
            made = linear(*sizes)
        self.run(step.output, made, operands)

    def op_batch_norm(self, step: Fused) -> None:
        x = step.node.inputs[0]
        scale, shift = self.folded_norm(step.node)
        operands: dict[str, Operand] = {"x": self.value(x, BLOCKED)}
        operands |= {"scale": scale, "shift": shift, **self.tail(step, BLOCKED)}
        operands["out"] = self.make(step.output, BLOCKED)
        self.may_replace(str(operands["out"]), [str(operands["x"])])
        shape = step.node.shape
        made = affine(self.target, shape[0], positions(shape), step.tail)
        self.run(step.output, made, operands)

    def op_local_response_norm(self, step: Fused) -> None:
        a, shape = step.node.attributes, step.node.shape
        made = local_response_norm(
            self.target,
            shape[0],
            positions(shape),
            int(a["size"]),
            float(a["alpha"]),
            float(a["beta"]),
            float(a["k"]),
            step.tail,
        )
        operands: dict[str, Operand] = {"x": self.value(step.node.inputs[0], BLOCKED)}
        operands |= self.tail(step, BLOCKED)
        operands["out"] = self.make(step.output, BLOCKED)
        self.run(step.output, made, operands)

    def op_max_pool2d(self, step: Fused) -> None:
        self._pool(step, pool.max_pool)

    def op_avg_pool2d(self, step: Fused) -> None:
        self._pool(step, pool.average_pool)

    op_adaptive_avg_pool2d = op_avg_pool2d

    def _pool(self, step: Fused, make: Callable[[object, pool.Pool, Tail | None], Kernel]) -> None:
        x = step.node.inputs[0]
        operands = {"x": self.value(x, BLOCKED)}
        operands |= {name: str(key) for name, key in self.tail(step, BLOCKED).items()}
        operands["y"] = self.make(step.output, BLOCKED)
        kernel = make(self.target, self.pool_of(step.node, x), step.tail)
        self.run_blocks(step.output, kernel, operands, self.blocks(x))

    def pool_of(self, node: Node, source: str) -> pool.Pool:
        """The windows of a pooling node over one block of `source`."""
        shape = self.shape(source)
        if node.operation != "adaptive_avg_pool2d":
            return pool_of(node, (1, *shape[1:]))
        rows, cols = map(adaptive_taps, shape[1:], node.attributes["output"])
        return pool.Pool(1, flat_image(shape[1:]), rows, cols)

    # ---- elementwise and structure ------------------------------------------------------------

    def op_map(self, step: Fused) -> None:
        node = step.node
        layout = self._map_layout(node)
        keys = [self.value(name, layout) for name in node.inputs]
        names = tuple(node.attributes["inputs"])
        out = self.make(step.output, layout)
        self.may_replace(out, keys)
        count = self.places.values[out].floats // self.target.width
        parts = self._even_parts(count)
        kernel = elementwise.elementwise(
            self.target, from_json(node.attributes["expr"]), names, count // parts
        )
        chunk = count // parts * self.target.width
        refs = tuple(Ref("value", key, part=chunk) for key in (out, *keys))
        self.stages.append(Stage(step.output, (Work(kernel, refs),), parts))

    def _map_layout(self, node: Node) -> str:
        if len(node.shape) < 2:
            return PLAIN
        names = [self.schedule.root[i] for i in node.inputs]
        blocked = positions(node.shape) > 1 or any(self.has(n, BLOCKED) for n in names)
        return BLOCKED if blocked else PLAIN

    def _even_parts(self, vectors: int) -> int:
        """The fewest equal parts of at most `_CHUNK` vectors, if they come out even."""
        for parts in range(max(-(-vectors // _CHUNK), 1), max(vectors // 64, 1) + 1):
            if vectors % parts == 0:
                return parts
        return 1

    def op_group_norm(self, step: Fused) -> None:
        lower_norm(self, step)

    op_layer_norm = op_group_norm

    def op_channel_map(self, step: Fused) -> None:
        f = function_of(self, step.node)
        if f is None:
            self.other(step)
        else:
            lower_forward(self, step, f)

    def op_reshape(self, step: Fused) -> None:
        name = self.schedule.root[step.node.inputs[0]]
        key = self.value(name, PLAIN)
        self.view(step.node.name, PLAIN, key)

    def op_concat(self, step: Fused) -> None:
        node = step.node
        if node.attributes["axis"] != 1 or len(node.shape) < 2:
            self._lanes(step)
            return
        self._home(node.name)
        key = f"{node.name}@{BLOCKED}"
        at = 0
        for given in node.inputs:
            name = self.schedule.root[given]
            channels = self.shape(name)[0]
            if self.claims.get(name) != (node.name, at * positions(node.shape)):
                source = self.value(name, BLOCKED)
                self._copy(node.name, key, source, (channels, 0, channels, at, node.shape[0]))
            at += channels

    def op_slice(self, step: Fused) -> None:
        node = step.node
        a, x = node.attributes, self.schedule.root[node.inputs[0]]
        if a["axis"] != 1 or len(node.shape) < 2:
            self._lanes(step)
            return
        source, start = self.value(x, BLOCKED), int(a["start"])
        if start % self.target.width == 0:
            self.view(node.name, BLOCKED, source, start * positions(node.shape))
            return
        key, channels = self.make(node.name, BLOCKED), node.shape[0]
        self._copy(node.name, key, source, (channels, start, self.shape(x)[0], 0, channels))

    def _copy(
        self, label: str, out: str, source: str, channels: tuple[int, int, int, int, int]
    ) -> None:
        places = positions(self.graph.nodes[label].shape)
        made = copy_channels(self.target, *channels, places)
        self.run(label, made, {"out": out, "source": source})

    # ---- everything else: batch in lanes ------------------------------------------------------

    def _lanes(self, step: Fused) -> None:
        """Run a step through the kernels with the batch in lanes, a vector of samples an item."""
        context = Context(self.graph, self.target, training=self.draws)
        calls = calls_of(context, step)
        item = _LaneItem(self, step)
        for call in calls:
            item.add(call)
        self.stages.append(item.stage())


class _LaneItem:
    """Builds the stage of a step that runs with the batch in lanes."""

    def __init__(self, low: ForwardLowering, step: Fused) -> None:
        self.low, self.step, self.target = low, step, low.target
        self.room = 0
        self.places: dict[str, Ref] = {}
        self.before: list[Work] = []
        self.calls: list[Work] = []
        self.after: list[Work] = []

    def add(self, call: Call) -> None:
        self.calls.append(Work(call.kernel, tuple(map(self._argument, call.slots))))

    def _argument(self, slot: Slot) -> Argument:
        if slot.kind == "value":
            return self._value(slot.name, slot.name in self.step.writes)
        if slot.kind == "parameter":
            return Ref("parameter", slot.name)
        if slot.kind == "lane":
            return Ref("array", "key") if slot.name == "key" else self._table(slot.name)
        if slot.kind == "scratch":
            if slot.name not in self.places:
                self.places[slot.name] = self._take(slot.number)
            return self.places[slot.name]
        if slot.kind == "result":
            return Ref("array", slot.name, step=4)
        return Number(slot.number)

    def _take(self, floats: int) -> Ref:
        ref = Ref("scratch", offset=self.room)
        self.room += aligned(floats)
        return ref

    def _value(self, name: str, write: bool) -> Ref:
        if name in self.places:
            return self.places[name]
        elements = math.prod(self.low.shape(name))
        place = self.places[name] = self._take(elements * self.target.width)
        samples = Number(batch=1, group=-self.target.width, limit=self.target.width)
        if write:
            kernel = lanes_to_rows(self.target, elements)
            out, step = self._out(name)
            known: dict[str, Argument] = {"out": out, "source": place}
            known |= {"out_step": step, "samples": samples}
            self.after.append(_named(kernel, known))
        else:
            kernel = rows_to_lanes(self.target, elements)
            source, step = self._source(name)
            known = {"out": place, "source": source}
            known |= {"source_step": step, "samples": samples}
            self.before.append(_named(kernel, known))
        return place

    def _out(self, name: str) -> tuple[Ref, Number]:
        """Where the rows of a value go, and floats from one to the next."""
        direct = self.low.caller_place(name)
        if direct is not None:
            return direct, Number(direct.step // 4)
        key = self.low.make(name, PLAIN)
        return Ref("value", key), Number(self.low.places.step(key))

    def _source(self, name: str) -> tuple[Ref, Number]:
        """Where the rows of a value are, and floats from one to the next."""
        found = self.low.rows(name)
        if isinstance(found, Ref):
            return found, Number(found.step // 4)
        return Ref("value", found), Number(self.low.places.step(found))

    def _table(self, name: str) -> Ref:
        """One of the group's lane tables, filled at the item's beginning."""
        if "tables" not in self.places:
            labels = self.low.labels
            self.places["tables"] = base = self._take(16 * len(LANE_TABLES))
            tables: dict[str, Argument] = {
                k: Ref("scratch", offset=base.offset + 16 * at)
                for at, k in enumerate(("positions", "scale", "labels"))
            }
            tables |= {"targets": Ref("array", "targets"), "order": Ref("array", "order")}
            tables |= {"first": Number(group=self.target.width), "batch": Number(batch=1)}
            tables["share"] = Ref("array", "scales")
            self.before.append(_named(lane_tables(self.target, labels), tables))
        at = ("samples", "scale", "labels").index(name)
        return Ref("scratch", offset=self.places["tables"].offset + 16 * at)

    def stage(self) -> Stage:
        calls = (*self.before, *self.calls, *self.after)
        return Stage(self.step.output, calls, 1, self.target.width, scratch=self.room)


def _named(kernel: Kernel, known: dict[str, Argument]) -> Work:
    return Work(kernel, tuple(known[a.partition(":")[0]] for a in kernel.arguments))


def direct_form(w: Windows, groups: int, bias: bool, plain: bool, back: bool = False) -> Direct:
    """The direct convolution that computes the windows or their transpose."""
    if back:
        return Direct(
            w.contracted,
            w.outputs,
            groups,
            w.out,
            w.back_rows,
            w.back_cols,
            w.kernel,
            bias,
            plain,
            w.stride[-1],
        )
    return Direct(
        w.outputs, w.contracted, groups, w.source, w.rows, w.cols, w.kernel, bias, plain, 1
    )


def depthwise_form(w: Windows, bias: bool, back: bool = False) -> Depthwise:
    """The depthwise convolution that computes the windows or their transpose."""
    if back:
        along = (w.back_rows, w.back_cols)
        return Depthwise(w.outputs, w.out, *along, w.kernel, bias, w.stride[-1])
    return Depthwise(w.outputs, w.source, w.rows, w.cols, w.kernel, bias, 1)


def packing_of(w: Windows, transposed: bool = False) -> Packing:
    """How a convolution's weight is packed; a depthwise one has one order for both passes."""
    if w.depthwise:
        return Packing(w.outputs, 1, 1, w.kernel)
    return Packing(w.outputs, w.contracted, w.groups, w.kernel, transposed)


def adaptive_taps(size: int, out: int) -> Taps:
    """The windows of adaptive pooling: ⌊i·size/out⌋ … ⌈(i+1)·size/out⌉."""
    ends = [(i * size // out, -(-(i + 1) * size // out)) for i in range(out)]
    return tuple(tuple((k, start + k) for k in range(stop - start)) for start, stop in ends)
