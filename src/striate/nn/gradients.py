"""Gradients of anything: of a network or a function, to inputs, inner nodes and parameters.

A gradient is computed by a program made from the traced graph (`program.build_gradient`), kept
beside the network's plan. Parameters and running statistics are read, never changed.
"""

from __future__ import annotations

import inspect
import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from striate.errors import ModelError, OptionError, ShapeError
from striate.formula.operations import find_operation
from striate.graph.graph import Graph
from striate.graph.losses import TrainingLoss, as_loss
from striate.graph.statistics import buffers, with_batch_statistics
from striate.nn.execution import Plan, as_batch
from striate.nn.module import Module
from striate.nn.parameter import Array, Parameter

if TYPE_CHECKING:
    from striate.program.gradient_program import GradientProgram

PARAMETERS, INPUT = "parameters", "input"
To = str | Sequence[str]
_MOST_JACOBIAN = 10_000_000
_ROWS = 4096  # of a Jacobian that are computed together
_programs: weakref.WeakKeyDictionary[Plan, dict[Any, GradientProgram]] = weakref.WeakKeyDictionary()


class FunctionModule(Module):
    """A function of traced tensors as a network; those arguments that are parameters are its own.

    Args:
        function: of tensors, made of `striate.nn.functional` and layers.
        arguments: what it is called with; parameters among them keep their place.
    """

    def __init__(self, function: Callable[..., Any], arguments: Sequence[Any]) -> None:
        super().__init__()
        self.__dict__["_function"] = function
        self._places: list[str | None] = []
        for name, value in zip(_names(function, len(arguments)), arguments, strict=True):
            held = isinstance(value, Parameter)
            self._places.append(name if held else None)
            if held:
                self.register_parameter(name, value)

    def forward(self, *inputs: Any) -> Any:
        """The function of the inputs and the parameters, each in its place."""
        left = iter(inputs)
        given = [next(left) if k is None else self._parameters[k] for k in self._places]
        return self.__dict__["_function"](*given)


def _names(function: Callable[..., Any], count: int) -> list[str]:
    """The names of a function's arguments, as far as they are known."""
    try:
        found = [
            p.name
            for p in inspect.signature(function).parameters.values()
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
    except (TypeError, ValueError):
        found = []
    taken = dir(Module)
    return [
        found[k] if k < len(found) and found[k] not in taken else f"argument{k}"
        for k in range(count)
    ]


class Target:
    """A network in its present mode with inputs: what gradients are taken of.

    Args:
        net: a module, or a function of tensors.
        x: a batch, or a tuple of batches (and, of a function, of parameters).
        where: who asks, for errors.
    """

    def __init__(self, net: Any, x: Any, where: str) -> None:
        given = x if isinstance(x, tuple) else (x,)
        if not isinstance(net, Module):
            if not callable(net):
                raise OptionError(
                    f"{where}: expected a network or a function; got {type(net).__name__}."
                )
            net = FunctionModule(net, given)
            given = tuple(k for k in given if not isinstance(k, Parameter))
        if not given:
            raise OptionError(f"{where}: expected a batch, an array (n, ...); got no array.")
        self.net: Module = net
        self.given = given
        batches = [as_batch(k, where) for k in given]
        if len({len(k) for k in batches}) > 1:
            raise ShapeError(
                f"{where}: expected arrays with the same number of samples; got shapes "
                f"{', '.join(str(k.shape) for k in batches)}."
            )
        self.batches = tuple(batches)
        self.plan = net.plan([k.shape[1:] for k in batches])
        traced = self.plan.traced
        self.inputs = traced.inputs
        self.graph: Graph = with_batch_statistics(self.plan.graph, set(traced.by_batch))
        self.output = self.graph.only_output(where).name
        self.draws = any(find_operation(n.op).draws for n in self.graph.steps)
        self.by_batch = any(n.op == "batch_norm_training" for n in self.graph.steps)

    @property
    def count(self) -> int:
        return len(self.batches[0])

    def arrays(self) -> Mapping[str, Array]:
        """The parameters and buffers, live."""
        known: Mapping[str, Array] = self.plan.parameters()
        return known

    def parameters(self) -> list[str]:
        """The names of the network's parameters, those that no output reads included."""
        return [name for name, _ in self.net.named_parameters()]

    def wanted(self, to: To) -> list[str]:
        """The names that `to` stands for."""
        found: list[str] = []
        for name in [to] if isinstance(to, str) else list(to):
            if name == PARAMETERS:
                found += self.parameters()
            elif name == INPUT:
                found += self.inputs
            else:
                found.append(name)
        return list(dict.fromkeys(found))

    def program(self, wanted: Sequence[str], backend: str | None) -> GradientProgram:
        """The program of these gradients, built once for the network's plan."""
        from striate.program import backend_name, build_gradient  # late: import stays light

        name = backend_name(backend)
        known = _programs.setdefault(self.plan, {})
        key = (tuple(wanted), name)
        if key not in known:
            nodes = [w for w in wanted if w in self.graph.nodes or w not in self.parameters()]
            known[key] = build_gradient(self.graph, None, nodes, draws=self.draws, backend=name)
        return known[key]

    def shaped(self, to: To, found: Mapping[str, Array]) -> Any:
        """What was asked for, in the form that `to` says."""
        names = self.wanted(to)
        if isinstance(to, str) and to != PARAMETERS:
            return found[names[0]] if len(names) == 1 else tuple(found[k] for k in names)
        known = self.net.arrays()
        return {k: found[k] if k in found else np.zeros_like(known[k]) for k in names}


def vjp(
    net: Any, x: Any, *, to: To = INPUT, seed: int = 0, backend: str | None = None
) -> tuple[Array, Callable[[Any], Any]]:
    """The output of a network, and the function that pulls gradients back through it.

    `pullback(u) = uᵀ · ∂y/∂…`: the product of the upstream gradient and the Jacobian, which is
    never formed.

    Args:
        net: a network, in the mode it is in (batch norm by the batch's statistics, dropout by
            `seed` in training mode; the running statistics stay as they are), or a function of
            tensors made of `striate.nn.functional`.
        x: a batch (n, …); of several inputs a tuple of batches. A function's arguments that are
            parameters are `nn.Parameter`s in that tuple. It and the parameters must not change
            until the last call of `pullback`.
        to: "input", "parameters", the name of a parameter or of a node of the graph, or a list.
        seed: of the random numbers.
        backend: "native" or "reference"; by default that in force.
    Returns:
        y (n, …), and `pullback(upstream)`, upstream of y's shape. It gives an array for "input"
        (a tuple of them where there are several inputs) and for a single name, else a dict by
        name. A parameter's gradient is the sum over the batch.
    Raises:
        ModelError: the network has no such node.

    >>> y, pullback = vjp(lambda x: x * x, np.array([[1.0, 3.0]]))
    >>> pullback([[1.0, 10.0]])
    array([[ 2., 60.]], dtype=float32)
    """
    target = Target(net, x, "vjp")
    program = target.program(target.wanted(to), backend)
    passage = program.start(target.batches, target.arrays(), seed=seed)
    y = passage.values[target.output]

    def pullback(upstream: Any) -> Any:
        up = np.asarray(upstream)
        if up.shape != y.shape:
            raise ShapeError(
                f"vjp: expected an upstream gradient of the output's shape {y.shape}; got "
                f"{up.shape}."
            )
        return target.shaped(to, passage.pull({target.output: up}))

    return y, pullback


def gradient(
    net: Any,
    x: Any,
    upstream: Any = None,
    *,
    to: To = PARAMETERS,
    loss: Any = None,
    targets: Any = None,
    seed: int = 0,
    backend: str | None = None,
) -> Any:
    """The gradient of `Σ upstream · y`, or of a loss, to parameters, inputs or inner nodes.

    Args:
        net, x, to, seed, backend: as for `vjp`.
        upstream: the gradient to the output, of its shape; by default 1 everywhere.
        loss: "cross_entropy", "mse" or a loss of `nn`: that of the batch is differentiated.
        targets: what the loss compares the output with.
    Returns:
        As `vjp`'s pullback gives it: by default a dict, parameter's name -> array.
    Raises:
        OptionError: an upstream gradient and a loss, or a loss without targets.

    >>> from striate import nn
    >>> net = nn.Linear(2, 1)
    >>> x = np.array([[1.0, 2.0], [3.0, 5.0]])
    >>> gradient(net, x)["weight"]
    array([[4., 7.]], dtype=float32)
    >>> bool((gradient(net, x, to="input") == net.weight.data).all())
    True
    """
    if (loss is None) != (targets is None) or (loss is not None and upstream is not None):
        raise OptionError(
            "gradient: expected an upstream gradient, or a loss with targets, or nothing (ones); "
            f"got upstream={_given(upstream)}, loss={_given(loss)}, targets={_given(targets)}."
        )
    target = Target(net, x, "gradient")
    program = target.program(target.wanted(to), backend)
    passage = program.start(target.batches, target.arrays(), seed=seed)
    given = None
    if upstream is not None:
        given = {target.output: np.asarray(upstream)}
    elif loss is not None:
        given = {target.output: loss_gradient(loss, passage.values[target.output], targets)}
    return target.shaped(to, passage.pull(given))


def _given(value: Any) -> str:
    return "None" if value is None else "given"


def resolved_loss(
    loss: Any, shape: tuple[int, ...], targets: Any, where: str = "gradient"
) -> tuple[TrainingLoss, Array]:
    """A loss for predictions of a shape (without the batch) as data, and its targets, checked."""
    given = np.asarray(targets)
    if isinstance(loss, (str, TrainingLoss)):
        spec = as_loss(loss)
    elif hasattr(loss, "for_training"):
        spec = loss.for_training(shape, given)
    else:
        raise OptionError(
            f"{where}: loss expected a name or a loss of striate.nn; got {type(loss).__name__}."
        )
    labels = spec.operation.labels
    if labels and given.dtype.kind not in "iu":
        raise OptionError(f"{where}: {spec.op} expected labels, whole numbers; got {given.dtype}.")
    wanted = given.astype(np.int64 if labels else np.float64)
    spec.check(shape, wanted)
    return spec, wanted


def loss_gradient(loss: Any, y: Array, targets: Any) -> Array:
    """The gradient of a batch's loss to the predictions y (n, …), computed in float64."""
    spec, wanted = resolved_loss(loss, y.shape[1:], targets)
    if not len(y):
        return np.zeros(y.shape, np.float32)
    scale = spec.scales(y.shape[1:], wanted, np.arange(len(y)), len(y))[0]
    up = np.full(len(y), scale, np.float64)
    found = spec.operation.gradient(spec.attributes, up, [y, wanted], [0])[0]
    if found is None:
        raise ModelError(f"gradient: the loss {spec.op!r} has no gradient to the predictions.")
    return found.astype(np.float32)


def jacobian(net: Any, x: Any, *, to: To = INPUT, backend: str | None = None) -> Any:
    """The Jacobian itself, each output's gradient written out: for small tensors only.

    `J[n, o…, i…] = ∂y[n, o…]/∂x[n, i…]`, and to a parameter `J[n, o…, p…] = ∂y[n, o…]/∂w[p…]`.

    Args:
        net: a network whose samples do not depend on each other: in `eval()` mode where it has
            batch norm or dropout; or a function, as for `vjp`.
        x, to, backend: as for `vjp`.
    Returns:
        float32 arrays (n, *output, *input), in the form that `vjp`'s pullback has.
    Raises:
        OptionError: it would have more than 10⁷ numbers, or samples depend on each other.

    >>> jacobian(lambda x: x * x, np.array([[1.0, 3.0]]))
    array([[[2., 0.],
            [0., 6.]]], dtype=float32)
    """
    target = Target(net, x, "jacobian")
    if target.draws or target.by_batch:
        raise OptionError(
            "jacobian: expected samples that do not depend on each other or on chance; got a "
            "network in training mode with batch norm or random numbers. Call net.eval() first."
        )
    wanted = target.wanted(to)
    program = target.program(wanted, backend)
    output = target.graph.nodes[target.output].shape
    places = math.prod(output)
    total = sum(target.count * places * math.prod(_shape(target, name)) for name in wanted)
    if total > _MOST_JACOBIAN:
        raise OptionError(
            f"jacobian: expected at most {_MOST_JACOBIAN:,} numbers; got {total:,}: "
            f"{target.count} samples of {places} outputs to {', '.join(wanted)}. "
            "Take vector–Jacobian products (vjp) instead."
        )
    known = {}
    for name in wanted:
        known[name] = np.zeros((target.count * places, *_shape(target, name)), np.float32)
        if name in program.wanted:
            _fill_rows(target, program, name, known[name])
        known[name] = known[name].reshape(target.count, *output, *_shape(target, name))
    return target.shaped(to, known)


def _shape(target: Target, name: str) -> tuple[int, ...]:
    known = target.graph.nodes.get(name)
    return target.net.arrays()[name].shape if known is None else known.shape


def _fill_rows(target: Target, program: GradientProgram, name: str, rows: Array) -> None:
    """A row for each sample and output: its gradient, (n · outputs, …)."""
    output = target.graph.nodes[target.output].shape
    places = math.prod(output)
    # A parameter's gradient is a sum over the batch, so its rows are taken one by one.
    step = _ROWS if target.graph.nodes[name].batched else 1
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        sample, place = np.divmod(np.arange(start, start + len(part)), places)
        up = np.zeros((len(part), places), np.float32)
        up[np.arange(len(part)), place] = 1
        batches = tuple(b[sample] for b in target.batches)
        upstream = {target.output: up.reshape(-1, *output)}
        part[...] = program.run(batches, target.arrays(), upstream)[1][name]


def learned(target: Target) -> list[str]:
    """The names of the inputs and parameters that a gradient is checked to."""
    running = buffers(target.graph)
    return [*target.inputs, *(n for n in target.parameters() if n not in running)]
