"""Rules for gradients in blocked programs: backward steps to stages.

A weight's gradient comes out in the packed layout, is brought back to torch's and the weight is
updated at once, part by part. Gradients of vectors (biases, batch norm) are written where the
optimiser finds them and updated together at the end of the step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from striate.codegen.targets import Target
from striate.errors import CompileError
from striate.formula.expression import Var
from striate.formula.update import UpdateRule
from striate.graph.graph import Graph, Node
from striate.kernels import conv, elementwise, pool
from striate.kernels.depthwise import depthwise_weight_gradient
from striate.kernels.direct_weight import DirectWeight, bias_gradient, weight_gradient
from striate.kernels.embedding import embedding_rows_gradient
from striate.kernels.formula import rows_gradient
from striate.kernels.local import local, local_weight_gradient
from striate.kernels.matmul import (
    linear_input_gradient,
    linear_weight_gradient,
    rows_bias_gradient,
)
from striate.kernels.norm import (
    batch_norm,
    batch_norm_gradient,
    batch_norm_sums,
    batch_statistics,
)
from striate.kernels.packing import Packing, unpack
from striate.kernels.response_norm import local_response_norm_gradient
from striate.kernels.routine import Recipe, Routine, blocks, recipe
from striate.kernels.unpool import max_unpool_gradient
from striate.kernels.update import update
from striate.kernels.winograd_weight import winograd_weight
from striate.program.blocked import BLOCKED, PLAIN, Operand, positions
from striate.program.blocked_channel import (
    function_of,
    lower_to_input,
    lower_to_parameter,
)
from striate.program.blocked_forward import (
    ForwardLowering,
    depthwise_form,
    packing_of,
)
from striate.program.blocked_local import local_form
from striate.program.blocked_loss import loss_stage
from striate.program.blocked_norm import lower_norm_to_input, lower_norm_to_parameter
from striate.program.blocked_update import norm_stages
from striate.program.choose import FORWARD, TO_SOURCE, TO_WEIGHT, winograd_form
from striate.program.convolution import Windows, windows_of
from striate.program.fuse import Fused, Schedule, switches_of
from striate.program.lower import formula_of
from striate.program.memory import aligned
from striate.program.stage import Number, Ref, Stage, Work, followed_by


def weight_form(w: Windows, groups: int, plain: bool) -> DirectWeight:
    """The direct gradient to the weights of these windows."""
    return DirectWeight(w.outputs, w.contracted, groups, w.kernel, w.source, w.rows, w.cols, plain)


_SMALL = 16384  # floats of a parameter that is updated as a whole


class TrainingLowering(ForwardLowering):
    """Forward and backward steps, and the updates.

    Args:
        parts: for each parameter the gradient nodes whose sum its gradient is.
        rule: the optimiser's; without one the gradients stay where they are written.
    """

    training = draws = True

    def __init__(
        self,
        graph: Graph,
        schedule: Schedule,
        target: Target,
        parts: Mapping[str, Sequence[str]],
        rule: UpdateRule | None,
    ) -> None:
        super().__init__(graph, schedule, target)
        self.rule = rule
        self.kept: dict[str, dict[str, Operand]] = {}
        self.owner = {node: p for p, nodes in parts.items() for node in nodes}
        self.parameters = [node.name for node in graph.parameters]
        self.left = {p: len(nodes) for p, nodes in parts.items()}
        self.first = {p: nodes[0] for p, nodes in parts.items()}
        self.late: list[str] = []  # parameters updated together at the end
        self.sums: dict[str, dict[str, Operand]] = {}  # of a batch norm: Σ dy and Σ dy·x̂

    # ---- parameters' gradients ----------------------------------------------------------------

    def gradient(self, node: str) -> tuple[str, Ref]:
        """The parameter of a gradient node, and where to write this part of its gradient."""
        name = self.owner[node]
        if node == self.first[name]:
            return name, Ref("gradient", name)
        return name, self.fixed(f"part:{node}", self._room(name))

    def _room(self, name: str) -> int:
        return aligned(math.prod(self.shape(name)))

    def written(self, node: str, where: Ref) -> None:
        """A part of a parameter's gradient has been written: add it, or note it for the update."""
        name = self.owner[node]
        self.left[name] -= 1
        if where.kind != "gradient":
            self._add(name, where)
        if not self.left[name]:
            self.late.append(name)

    def _add(self, name: str, part: Ref) -> None:
        vectors = self._room(name) // self.target.width
        kernel = elementwise.elementwise(self.target, Var("x") + Var("y"), ("x", "y"), vectors)
        whole = Ref("gradient", name)
        self.append(name, Work(kernel, (whole, whole, part)))

    def append(self, label: str, *calls: Work, parts: int = 1) -> None:
        """Append a stage that does not look at the batch."""
        self.stages.append(Stage(label, calls, parts, 0))

    @property
    def _at_once(self) -> bool:
        """Whether a parameter may change as soon as its gradient is complete."""
        return self.rule is None or not self.rule.needs_norm

    def update(self, name: str, step: int) -> list[Work]:
        """The update of a parameter, `step` floats a part."""
        if self.rule is None:
            return []
        self.updates[name] = self.updates.get(name, 0) + 1
        width = self.target.width
        kinds = ["parameter", "gradient", *(f"state:{s}" for s in self.rule.state)]
        refs = [Ref(kind, name, part=step) for kind in kinds]
        per = step // width
        count = Number(self._room(name) // width, part=-per, limit=per)
        return [Work(update(self.target, self.rule), (*refs, Ref("array", "hyper"), count))]

    def other(self, step: Fused) -> None:
        if step.node.name in self.owner:
            self._formula_gradient(step.node)
        else:
            super().other(step)

    def _formula_gradient(self, node: Node) -> None:
        """The gradient to a parameter of an operation that has nothing but its formula."""
        formula, inputs = formula_of(self.graph, node)
        made = rows_gradient(self.target, formula, node.gradient_of or "")
        name, where = self.gradient(node.name)
        operands: dict[str, Operand] = {"out": where}
        for tensor in made.tensors:
            source = inputs[tensor]
            batched = tensor in made.batched
            operands[tensor] = self.rows(source) if batched else Ref("parameter", source)
        routine = Routine(made.kernel, samples=0, scratch=made.scratch)
        self.run(name, recipe(routine), operands)
        self.written(node.name, where)

    def op_embedding_dw(self, step: Fused) -> None:
        dy, x, w = step.node.inputs
        name, where = self.gradient(step.node.name)
        numbers, padding = math.prod(self.shape(x)), int(step.node.attributes["padding"])
        made = embedding_rows_gradient(self.target, numbers, *self.shape(w), padding)
        operands: dict[str, Operand] = {"out": where}
        operands |= {"upstream": self.value(dy, PLAIN), "x": self.value(x, PLAIN)}
        self.run(name, recipe(Routine(made, samples=0)), operands)
        self.written(step.node.name, where)

    # ---- convolution --------------------------------------------------------------------------

    def _windows(self, node: Node) -> Windows:
        dy, x, w, *_ = node.inputs
        return windows_of(node, self.shape(x), self.shape(w), self.shape(dy))

    def op_conv2d_dx(self, step: Fused) -> None:
        dy, _, weight, *_ = step.node.inputs
        w = self._windows(step.node)
        if step.node.operation.startswith("conv_transpose"):
            self.product(w, step, dy, weight)
        else:
            self.back_product(w, step, dy, weight)

    op_conv1d_dx = op_conv3d_dx = op_conv_transpose1d_dx = op_conv_transpose2d_dx = op_conv2d_dx
    op_true_conv1d_dx = op_true_conv2d_dx = op_true_conv3d_dx = op_conv_transpose3d_dx = (
        op_conv2d_dx
    )

    def op_conv2d_db(self, step: Fused) -> None:
        dy = step.node.inputs[0]
        name, where = self.gradient(step.node.name)
        shape = self.shape(dy)
        made = bias_gradient(self.target, shape[0], positions(shape))
        self.run(name, made, {"db": where, "dy": self.value(dy, BLOCKED)})
        self.written(step.node.name, where)

    op_conv1d_db = op_conv3d_db = op_conv_transpose1d_db = op_conv_transpose2d_db = op_conv2d_db
    op_true_conv1d_db = op_true_conv2d_db = op_true_conv3d_db = op_conv_transpose3d_db = (
        op_conv2d_db
    )

    def op_conv2d_dw(self, step: Fused) -> None:
        node = step.node
        dy, x, *_ = node.inputs
        w = self._windows(node)
        if node.operation.startswith("conv_transpose"):
            dy, x = x, dy
        self._keep_weights(node, w)
        name, where = self.gradient(node.name)
        packing = packing_of(w)
        dw = self.fixed(f"gradient:{node.name}", packing.floats(self.target))
        plain = self._plain_source(x, w)
        operands: dict[str, Operand] = {"dw": dw, "dy": self.value(dy, BLOCKED)}
        operands["x"] = self._image(x) if plain else self.value(x, BLOCKED)
        self.run(name, self._weight_recipe(name, w, plain), operands)
        self._unpack(node.name, packing, dw, where)

    op_conv1d_dw = op_conv3d_dw = op_conv_transpose1d_dw = op_conv_transpose2d_dw = op_conv2d_dw
    op_true_conv1d_dw = op_true_conv2d_dw = op_true_conv3d_dw = op_conv_transpose3d_dw = (
        op_conv2d_dw
    )

    def _keep_weights(self, node: Node, w: Windows) -> None:
        """Pack the weights for the gradient to the input, which comes after the update."""
        op = f"{node.operation}:dx"
        for step in self.schedule.steps:
            if step.node.op == op and step.node.inputs == node.inputs:
                back = not node.operation.startswith("conv_transpose")
                choice = self.choices.find(w, TO_SOURCE if back else FORWARD)
                form = winograd_form(w, choice.winograd, False, self.choices.batch, back)
                weights = self._weights(w, form, node.inputs[2], None, back)
                self.kept[step.node.name] = weights

    def _weight_recipe(self, label: str, w: Windows, plain: bool) -> Recipe:
        if w.depthwise:
            return depthwise_weight_gradient(self.target, depthwise_form(w, False))
        choice = self.choose(label, w, TO_WEIGHT, plain)
        form = winograd_form(w, choice.winograd, False, self.choices.batch)
        if form is not None:
            return winograd_weight(self.target, form, choice.options)
        problem = weight_form(w, packing_of(w).merged(self.target), plain)
        return weight_gradient(self.target, problem, choice.options)

    def _unpack(self, node: str, packing: Packing, dw: Ref, where: Ref) -> None:
        """Bring a packed gradient to torch's layout; update those rows if they are complete."""
        name = self.owner[node]
        step = self.target.width * math.prod(self.shape(name)[1:])
        stages = self.run(name, unpack(self.target, packing), {"weight": where, "packed": dw})
        self.left[name] -= 1
        if where.kind != "gradient":
            self._add(name, where)
        alone = node == self.first[name]
        if self.left[name]:
            return
        if self._at_once and alone and stages[-1].parts == blocks(self.shape(name)[0], self.target):
            self.stages[-1] = followed_by(stages[-1], self.update(name, step))
        else:
            self.late.append(name)

    # ---- locally connected --------------------------------------------------------------------

    def op_local2d_dx(self, step: Fused) -> None:
        dy, x, weight, *_ = step.node.inputs
        w = self.local_windows(step.node, x, weight, dy)
        if w is None:
            self.other(step)
        elif step.node.operation.startswith("local_transpose"):
            operands: dict[str, Operand] = {"source": self.rows(dy)}
            operands["weight"] = Ref("parameter", weight)
            operands["out"] = self.make(step.output, PLAIN)
            self.run(step.output, local(self.target, local_form(w)), operands)
        else:
            self.local_back(step, w, dy, weight)

    op_local1d_dx = op_local3d_dx = op_local2d_dx
    op_local_transpose1d_dx = op_local_transpose2d_dx = op_local_transpose3d_dx = op_local2d_dx

    def op_local2d_dw(self, step: Fused) -> None:
        dy, x, weight, *_ = step.node.inputs
        w = self.local_windows(step.node, x, weight, dy)
        if w is None:
            self.other(step)
            return
        if step.node.operation.startswith("local_transpose"):
            dy, x = x, dy
        name, where = self.gradient(step.node.name)
        operands: dict[str, Operand] = {"dw": where}
        operands |= {"dy": self.rows(dy), "x": self.rows(x)}
        self.run(name, local_weight_gradient(self.target, local_form(w)), operands)
        self.written(step.node.name, where)

    op_local1d_dw = op_local3d_dw = op_local2d_dw
    op_local_transpose1d_dw = op_local_transpose2d_dw = op_local_transpose3d_dw = op_local2d_dw

    def op_local2d_db(self, step: Fused) -> None:
        dy, _, _, b = step.node.inputs
        if len(self.shape(b)) == 1:
            self.other(step)
            return
        name, where = self.gradient(step.node.name)
        made = rows_bias_gradient(self.target, math.prod(self.shape(dy)))
        self.run(name, made, {"db": where, "dy": self.value(dy, PLAIN)})
        self.written(step.node.name, where)

    op_local1d_db = op_local3d_db = op_local2d_db
    op_local_transpose1d_db = op_local_transpose2d_db = op_local_transpose3d_db = op_local2d_db

    # ---- fully connected ----------------------------------------------------------------------

    def op_linear_dx(self, step: Fused) -> None:
        dy, _, w, *_ = step.node.inputs
        outputs, inputs = self.shape(w)
        operands: dict[str, Operand] = {"dy": self.value(dy, PLAIN)}
        operands |= {"weight": Ref("parameter", w), **self.tail(step, PLAIN)}
        operands["out"] = self.make(step.output, PLAIN)
        made = linear_input_gradient(
            self.target, outputs, inputs, step.tail, batch=self.choices.batch
        )
        self.run(step.output, made, operands)

    def op_linear_dw(self, step: Fused) -> None:
        dy, x, w, *_ = step.node.inputs
        outputs, inputs = self.shape(w)
        name, where = self.gradient(step.node.name)
        made = linear_weight_gradient(self.target, outputs, inputs)
        operands: dict[str, Operand] = {"dw": where}
        operands |= {"dy": self.value(dy, PLAIN), "x": self.value(x, PLAIN)}
        stages = self.run(name, made, operands)
        self.left[name] -= 1
        if where.kind != "gradient":
            self._add(name, where)
        if self.left[name]:
            return
        whole_rows = len(stages) == 1 and stages[0].parts == -(-outputs // conv.ROW_BLOCK)
        if self._at_once and whole_rows and step.node.name == self.first[name]:
            work = self.update(name, conv.ROW_BLOCK * inputs)
            self.stages[-1] = followed_by(stages[-1], work)
        else:
            self.late.append(name)

    def op_linear_db(self, step: Fused) -> None:
        dy = step.node.inputs[0]
        name, where = self.gradient(step.node.name)
        made = rows_bias_gradient(self.target, self.shape(dy)[0])
        self.run(name, made, {"db": where, "dy": self.value(dy, PLAIN)})
        self.written(step.node.name, where)

    # ---- normalisation ------------------------------------------------------------------------

    def op_batch_norm_training(self, step: Fused) -> None:
        node = step.node
        x, w, b, mean, variance = node.inputs
        shape = node.shape
        source = self.value(x, BLOCKED)
        floats = self.blocks(node.name) * self.target.width
        operands: dict[str, Operand] = {
            "mean": self.fixed(f"mean:{node.name}", floats),
            "inverse": self.fixed(f"inverse:{node.name}", floats),
            "running_mean": Ref("parameter", mean),
            "running_var": Ref("parameter", variance),
            "x": source,
        }
        a = node.attributes
        made = batch_statistics(
            self.target, shape[0], positions(shape), float(a["eps"]), float(a["momentum"])
        )
        self.run(node.name, made, operands)
        operands = {"x": source, **self._statistics(node.name)}
        operands |= {"weight": self.vector(w), "bias": self.vector(b)}
        operands |= self.tail(step, BLOCKED)
        operands["out"] = self.make(step.output, BLOCKED)
        made = batch_norm(self.target, shape[0], positions(shape), step.tail)
        self.run(step.output, made, operands)

    def _statistics(self, norm: str) -> dict[str, Operand]:
        return {part: Ref("fixed", f"{part}:{norm}") for part in ("mean", "inverse")}

    def _norm_of(self, gradient: Node) -> str:
        """The forward node of a batch norm's gradient."""
        for node in self.graph.nodes.values():
            if node.op == "batch_norm_training" and node.inputs == gradient.inputs[1:]:
                return node.name
        raise CompileError(f"program: {gradient.name!r} is the gradient of no node.")

    def _sums(self, node: Node) -> dict[str, Operand]:
        """Σ dy and Σ dy·x̂ of a batch norm, which are its gradients to bias and weight."""
        dy, x, *_ = node.inputs
        norm = self._norm_of(node)
        if norm not in self.sums:
            shape = self.shape(x)
            found: dict[str, Operand] = {
                part: self._sum_place(node, norm, part) for part in ("dw", "db")
            }
            self.sums[norm] = found
            operands = {**found, **self._statistics(norm)}
            operands |= {"dy": self.value(dy, BLOCKED), "x": self.value(x, BLOCKED)}
            self.run(norm, batch_norm_sums(self.target, shape[0], positions(shape)), operands)
        return self.sums[norm]

    def _sum_place(self, node: Node, norm: str, part: str) -> Ref:
        """Where a batch norm's sum goes: the parameter's gradient itself, if nothing is added."""
        op = f"batch_norm_training:{part}"
        for other in self.graph.nodes.values():
            if other.op == op and other.inputs == node.inputs and other.name in self.owner:
                return self.gradient(other.name)[1]
        floats = blocks(self.shape(node.inputs[1])[0], self.target) * self.target.width
        return self.fixed(f"{part}:{norm}", floats)

    def op_batch_norm_training_dx(self, step: Fused) -> None:
        node = step.node
        dy, x, w, *_ = node.inputs
        operands = {**self._sums(node), **self._statistics(self._norm_of(node))}
        operands |= {"dy": self.value(dy, BLOCKED), "x": self.value(x, BLOCKED)}
        operands |= {"weight": self.vector(w), **self.tail(step, BLOCKED)}
        operands["out"] = self.make(step.output, BLOCKED)
        shape = node.shape
        made = batch_norm_gradient(self.target, shape[0], positions(shape), step.tail)
        self.may_replace(str(operands["out"]), [str(operands["dy"])])
        self.run(step.output, made, operands)

    def _norm_parameter(self, step: Fused, part: str) -> None:
        where = self._sums(step.node)[part]
        if isinstance(where, Ref):
            self.written(step.node.name, where)

    def op_batch_norm_training_dw(self, step: Fused) -> None:
        self._norm_parameter(step, "dw")

    def op_batch_norm_training_db(self, step: Fused) -> None:
        self._norm_parameter(step, "db")

    def op_local_response_norm_dx(self, step: Fused) -> None:
        dy, x = step.node.inputs
        a, shape = step.node.attributes, step.node.shape
        made = local_response_norm_gradient(
            self.target,
            shape[0],
            positions(shape),
            int(a["size"]),
            float(a["alpha"]),
            float(a["beta"]),
            float(a["k"]),
            step.tail,
        )
        operands: dict[str, Operand] = {"dy": self.value(dy, BLOCKED), "x": self.value(x, BLOCKED)}
        operands |= self.tail(step, BLOCKED)
        operands["out"] = self.make(step.output, BLOCKED)
        self.run(step.output, made, operands)

    # ---- norms of single samples --------------------------------------------------------------

    def op_group_norm_dx(self, step: Fused) -> None:
        lower_norm_to_input(self, step)

    def op_group_norm_dw(self, step: Fused) -> None:
        _, where = self.gradient(step.node.name)
        lower_norm_to_parameter(self, step.node, where)
        self.written(step.node.name, where)

    op_layer_norm_dx, op_layer_norm_dw = op_group_norm_dx, op_group_norm_dw
    op_group_norm_db = op_layer_norm_db = op_group_norm_dw

    # ---- functions of each channel ------------------------------------------------------------

    def op_channel_map_dx(self, step: Fused) -> None:
        f = function_of(self, step.node)
        if f is None:
            self.other(step)
        else:
            lower_to_input(self, step, f)

    def _to_channel_parameter(self, step: Fused) -> None:
        f = function_of(self, step.node)
        if f is None:
            self.other(step)
            return
        _, where = self.gradient(step.node.name)
        lower_to_parameter(self, step.node, f, where)
        self.written(step.node.name, where)

    op_channel_map_dp0 = op_channel_map_dp1 = op_channel_map_dp2 = _to_channel_parameter
    op_channel_map_dp3 = op_channel_map_dp4 = op_channel_map_dp5 = _to_channel_parameter
    op_channel_map_dp6 = op_channel_map_dp7 = _to_channel_parameter

    # ---- pooling and slices -------------------------------------------------------------------

    def op_max_pool2d_dx(self, step: Fused) -> None:
        dy, x = step.node.inputs
        operands = {"dy": self.value(dy, BLOCKED), "x": self.value(x, BLOCKED)}
        operands |= {name: str(key) for name, key in self.tail(step, BLOCKED).items()}
        operands["dx"] = self.make(step.output, BLOCKED)
        kernel = pool.max_pool_gradient(self.target, self.pool_of(step.node, x), step.tail)
        self.run_blocks(step.output, kernel, operands, self.blocks(x))

    def op_avg_pool2d_dx(self, step: Fused) -> None:
        dy, x = step.node.inputs
        operands = {"dy": self.value(dy, BLOCKED), "dx": self.make(step.output, BLOCKED)}
        kernel = pool.average_pool_gradient(self.target, self.pool_of(step.node, x))
        self.run_blocks(step.output, kernel, operands, self.blocks(x))

    op_adaptive_avg_pool2d_dx = op_avg_pool2d_dx

    def op_max_unpool_dx(self, step: Fused) -> None:
        dy, x, indices = step.node.inputs
        switches = switches_of(step.node, self.shape(dy), self.shape(x))
        if switches is None:
            self.other(step)
            return
        operands = {"dy": self.value(dy, BLOCKED), "indices": self.value(indices, BLOCKED)}
        operands["dx"] = self.make(step.output, BLOCKED)
        kernel = max_unpool_gradient(self.target, switches)
        self.run_blocks(step.output, kernel, operands, self.blocks(x))

    # ---- losses -------------------------------------------------------------------------------

    def _lanes(self, step: Fused) -> None:
        stage = loss_stage(self, step)
        if stage is None:
            super()._lanes(step)
        else:
            self.stages.append(stage)

    # ---- the end of a step --------------------------------------------------------------------

    def update_rest(self) -> None:
        """Updates of all parameters that were not updated with their gradient."""
        if self.rule is None:
            return
        if self.rule.needs_norm:
            self.stages += norm_stages(self, self.late, self.rule)
        small = [name for name in self.late if self._room(name) <= _SMALL]
        if small:
            works = [work for name in small for work in self.update(name, self._room(name))]
            self.stages.append(Stage("update", tuple(works), 1, 0))
        for name in self.late:
            if name not in small:
                parts = -(-self._room(name) // _SMALL)
                self.append(name, *self.update(name, _SMALL), parts=parts)
        if self.rule.kept:
            self._follow([name for name in self.parameters if name not in self.first])

    def _follow(self, names: Sequence[str]) -> None:
        """Move the states that are kept of arrays without a gradient (running statistics)."""
        rule = self.rule
        if rule is None or not names:
            return
        kinds = ["parameter", "gradient", *(f"state:{s}" for s in rule.state)]
        kernel, width = update(self.target, rule.without_gradient()), self.target.width
        works = [
            Work(
                kernel,
                (
                    *(Ref(kind, name) for kind in kinds),
                    Ref("array", "hyper"),
                    Number(self._room(name) // width),
                ),
            )
            for name in names
        ]
        self.append("running statistics", *works)
