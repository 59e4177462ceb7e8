"""A check of gradients for users: central differences in float64 against what was derived.

Every tensor that is learned or given is moved a little, number by number where it is small, else
some numbers and some random directions. Where the function has a kink between the two points, no
difference can tell; such places are counted and left out.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import OptionError
from striate.formula.operation import Operation
from striate.formula.operations import find_operation
from striate.graph.graph import Graph, Node
from striate.nn.gradients import Target, learned

if TYPE_CHECKING:
    from rich.table import Table

Array = NDArray[Any]
Values = dict[str, Array]
_STEP = 1e-5  # of a number near 1
_SMALL = 64  # numbers of a tensor that are all checked
_SOME, _DIRECTIONS = 24, 4  # numbers and directions of a larger one
TOLERANCE, NATIVE_TOLERANCE = 1e-5, 2e-4
_COLUMNS = ("tensor", "shape", "checked", "kinks", "error", "at", "numeric", "derived", "native")


@dataclass(frozen=True)
class TensorCheck:
    """What was found for one tensor.

    Attributes:
        name, shape: of the tensor.
        checked: differences taken; `kinks`: of them those with a kink in between.
        error: the largest difference from the derived gradient, as a share of its largest number.
        at: where that is: an index, or "direction 2".
        numeric, derived: the two numbers there.
        native_error: of the native float32 gradient against the derived one; None: not computed.
        verdict: "ok", or what is wrong.
    """

    name: str
    shape: tuple[int, ...]
    checked: int = 0
    kinks: int = 0
    error: float = 0.0
    at: str = ""
    numeric: float = 0.0
    derived: float = 0.0
    native_error: float | None = None
    verdict: str = "nothing to check"


@dataclass(frozen=True)
class GradientCheck:
    """The report of `check_gradient`: `ok`, a row for each tensor, and its text."""

    title: str
    rows: tuple[TensorCheck, ...]

    @property
    def ok(self) -> bool:
        """Whether every tensor's gradient is right (and there was something to check)."""
        return bool(self.rows) and all(row.verdict == "ok" for row in self.rows)

    def __bool__(self) -> bool:
        return self.ok

    def __rich__(self) -> Table:
        from rich.table import Table

        table = Table(title=f"{self.title}: {'ok' if self.ok else 'NOT ok'}", title_justify="left")
        for name in _COLUMNS:
            table.add_column(name, justify="left" if name in ("tensor", "at") else "right")
        table.add_column("verdict")
        for r in self.rows:
            native = "–" if r.native_error is None else f"{r.native_error:.1e}"
            numbers = (f"{r.error:.1e}", r.at, f"{r.numeric:.6g}", f"{r.derived:.6g}", native)
            table.add_row(r.name, str(r.shape), str(r.checked), str(r.kinks), *numbers, r.verdict)
        return table

    def __str__(self) -> str:
        from rich.console import Console

        text = io.StringIO()
        Console(file=text, width=120, color_system=None).print(self)
        return "\n".join(line.rstrip() for line in text.getvalue().rstrip().splitlines())


@dataclass
class _Subject:
    """What is checked: a function of named tensors, and gradients of ⟨upstream, its value⟩."""

    title: str
    tensors: Values
    checked: list[str]
    value: Callable[[Values], Array]
    derived: Callable[[Array], Mapping[str, Any]]
    native: Callable[[Array], Mapping[str, Array]] | None


def check_gradient(
    what: Any,
    inputs: Any,
    *,
    attributes: Mapping[str, Any] | None = None,
    gradient: Callable[..., Any] | None = None,
    upstream: Any = None,
    native: bool = True,
    tolerance: float = TOLERANCE,
    seed: int = 0,
) -> GradientCheck:
    """Compare gradients with central differences, `(f(x + h) − f(x − h))/2h`, in float64.

    The derived gradient (of the reference, in float64) is held against the differences, and the
    native float32 gradient against the derived one.

    Args:
        what: a network (in its present mode), a function of tensors made of
            `striate.nn.functional`, the name of an operation of graphs or an `Operation`; or, with
            `gradient`, a function of NumPy arrays.
        inputs: a batch or a tuple of them; of an operation all its arguments.
        attributes: an operation's.
        gradient: `gradient(upstream, *inputs)` of a function of arrays: an array for each input.
        upstream: the gradient to the output; by default random numbers.
        native: whether to check the native gradient too.
        tolerance: the largest error of a difference, as a share of the tensor's largest gradient.
        seed: of the random numbers.
    Returns:
        The report: print it, or ask `.ok`.

    >>> from striate import nn
    >>> bool(check_gradient(nn.Linear(3, 2), np.ones((4, 3))))
    True
    >>> cube = lambda x: x**3
    >>> check_gradient(cube, np.ones((1, 2)), gradient=lambda u, x: [2 * u * x]).ok
    False
    """
    rng = np.random.default_rng(seed)
    given = inputs if isinstance(inputs, tuple) else (inputs,)
    if gradient is not None:
        subject = _of_arrays(what, given, gradient)
    elif isinstance(what, (str, Operation)):
        subject = _of_operation(what, given, dict(attributes or {}), native)
    else:
        subject = _of_network(what, inputs, native, seed)
    y = subject.value(subject.tensors)
    up = rng.normal(size=y.shape) if upstream is None else np.asarray(upstream, np.float64)
    if up.shape != y.shape:
        raise OptionError(
            f"check_gradient: expected an upstream gradient of the output's shape {y.shape}; got "
            f"{up.shape}."
        )
    derived = subject.derived(up)
    found = subject.native(up) if subject.native is not None else {}
    check = _Check(subject, up, tolerance, rng)
    rows = [check.tensor(n, np.asarray(derived[n]), found.get(n)) for n in subject.checked]
    return GradientCheck(f"gradient of {subject.title}", tuple(rows))


# ---- subjects --------------------------------------------------------------------------------


def _title(what: Any) -> str:
    return str(getattr(what, "__name__", type(what).__name__))


def _of_arrays(
    function: Callable[..., Any], inputs: Sequence[Any], gradient: Callable[..., Any]
) -> _Subject:
    names = [f"input {k}" for k in range(len(inputs))]
    tensors = {name: np.array(x, np.float64) for name, x in zip(names, inputs, strict=True)}

    def derived(up: Array) -> Mapping[str, Any]:
        found = gradient(up, *tensors.values())
        if not isinstance(found, (list, tuple)) or len(found) != len(names):
            raise OptionError(
                f"check_gradient: gradient expected to return a list of {len(names)} arrays, one "
                f"for each input; got {type(found).__name__}."
            )
        return dict(zip(names, found, strict=True))

    def value(t: Values) -> Array:
        return np.asarray(function(*t.values()))

    return _Subject(_title(function), tensors, names, value, derived, None)


def _of_operation(
    what: str | Operation, inputs: Sequence[Any], attributes: Mapping[str, Any], native: bool
) -> _Subject:
    operation = find_operation(what) if isinstance(what, str) else what
    names = operation.argument_names(attributes, len(inputs))
    tensors = {
        name: np.array(x) if _is_whole(x) else np.array(x, np.float64)
        for name, x in zip(names, inputs, strict=True)
    }
    checked = [n for n in names if not _is_whole(tensors[n]) and operation.differentiable(n)]

    def derived(up: Array) -> Mapping[str, Any]:
        wanted = [names.index(n) for n in checked]
        found = operation.gradient(attributes, up, list(tensors.values()), wanted)
        return {n: found[k] for n, k in zip(checked, wanted, strict=True)}

    def value(t: Values) -> Array:
        return operation.reference(attributes, list(t.values()))

    def natively(up: Array) -> Mapping[str, Array]:
        return _native_operation(operation, tensors, attributes, checked, up)

    # What is not registered has no place in a graph; a loss has no upstream there.
    known = native and isinstance(what, str) and not operation.is_loss
    return _Subject(operation.name, tensors, checked, value, derived, natively if known else None)


def _native_operation(
    operation: Operation,
    tensors: Values,
    attributes: Mapping[str, Any],
    checked: Sequence[str],
    up: Array,
) -> Mapping[str, Array]:
    from striate.program import build_gradient

    graph, inputs, parameters = Graph(), {}, {}
    for name, array in tensors.items():
        if name in operation.parameters:
            graph.append(Node(name, "parameter", shape=array.shape, batched=False))
            parameters[name] = array.astype(np.float32)
        else:
            graph.append(Node(name, "input", shape=array.shape[1:]))
            inputs[name] = array
    output = graph.apply(graph.unique("output"), operation.name, tuple(tensors), attributes).name
    graph.outputs = (output,)
    program = build_gradient(graph, None, list(checked), backend="native")
    return program.run(inputs, parameters, {output: up.astype(np.float32)})[1]


def _of_network(what: Any, inputs: Any, native: bool, seed: int) -> _Subject:
    from striate.program import build_gradient
    from striate.program.gradient_program import ReferenceGradient

    target = Target(what, inputs, "check_gradient")
    graph, output = target.graph, target.output
    given = dict(zip(target.inputs, target.given, strict=True))
    checked = [
        n for n in learned(target) if n in graph.nodes and not (n in given and _is_whole(given[n]))
    ]
    known = {n.name: target.arrays()[n.name] for n in graph.parameters}
    tensors = {name: np.array(x, np.float64) for name, x in (given | known).items()}
    exact = ReferenceGradient(graph, None, checked, target.draws, exact=True)

    def split(t: Values) -> tuple[Values, Values]:
        return {n: t[n] for n in given}, {n: t[n] for n in known}

    def value(t: Values) -> Array:
        return exact.start(*split(t), seed=seed).values[output]

    def derived(up: Array) -> Mapping[str, Array]:
        return exact.run(*split(tensors), {output: up}, seed=seed)[1]

    def natively(up: Array) -> Mapping[str, Array]:
        program = build_gradient(graph, None, checked, draws=target.draws, backend="native")
        return program.run(*split(tensors), {output: up.astype(np.float32)}, seed=seed)[1]

    return _Subject(_title(what), tensors, checked, value, derived, natively if native else None)


def _is_whole(x: Any) -> bool:
    return np.asarray(x).dtype.kind in "iub"


# ---- one tensor ------------------------------------------------------------------------------


@dataclass
class _Check:
    """Compares tensor by tensor, for one upstream gradient."""

    subject: _Subject
    up: Array
    tolerance: float
    rng: np.random.Generator

    def tensor(self, name: str, derived: Array, native: Array | None) -> TensorCheck:
        """The row of a tensor."""
        x = self.subject.tensors[name]
        row: dict[str, Any] = {"name": name, "shape": x.shape}
        if not x.size or not self.up.size:
            return TensorCheck(**row)
        if derived.shape != x.shape:
            return TensorCheck(**row, verdict=f"has shape {derived.shape}")
        if not np.isfinite(derived).all():
            at = tuple(int(k) for k in np.argwhere(~np.isfinite(derived))[0])
            row |= {"at": str(at), "derived": float(derived[at]), "error": float("nan")}
            return TensorCheck(**row, verdict="not finite")
        scale = max(float(np.abs(derived).max()), 1e-12)
        if native is not None:
            # Where gradients cancel, what is left natively is rounding of the upstream's size.
            whole = max(scale, 1e-2 * float(np.abs(self.up).max()))
            row["native_error"] = float(np.max(np.abs(native - derived))) / whole
        found, wrong = self._differences(name, derived, scale)
        row |= found
        return TensorCheck(**row, verdict=_verdict(row, wrong))

    def _differences(self, name: str, derived: Array, scale: float) -> tuple[dict[str, Any], bool]:
        """The worst of the differences of a tensor, and whether any of them is too large."""
        x = self.subject.tensors[name]
        moves = _moves(x, self.rng)
        here, kinks, worst, wrong = self._total(name, x), 0, -1.0, False
        found: dict[str, Any] = {}
        for label, move in moves:
            step = _STEP * max(1.0, float(np.abs(x[move != 0]).max(initial=0.0)))
            ahead, behind = (self._total(name, x + sign * step * move) for sign in (1, -1))
            # Rounding of the sums, as a slope: no difference can be trusted below it.
            noise = 1e-14 * float(np.abs(self.up).sum() + abs(here)) / step
            if _is_kink((ahead - here) / step, (here - behind) / step, scale, noise):
                kinks += 1
                continue
            numeric, expected = (ahead - behind) / (2 * step), float((derived * move).sum())
            error = abs(numeric - expected) / scale
            error = error if np.isfinite(error) else float("inf")
            wrong |= error > self.tolerance + noise / scale
            if error > worst:
                worst = error
                found = {"error": error, "at": label, "numeric": numeric, "derived": expected}
        return {"checked": len(moves), "kinks": kinks, **found, "error": max(worst, 0.0)}, wrong

    def _total(self, name: str, array: Array) -> float:
        values = self.subject.value({**self.subject.tensors, name: array})
        return float((values * self.up).sum())


def _is_kink(ahead: float, behind: float, scale: float, noise: float) -> bool:
    """Whether the slopes of the two sides differ by more than a smooth function's."""
    return abs(ahead - behind) > 1e-3 * max(abs(ahead), abs(behind), 1e-3 * scale) + noise


def _verdict(row: Mapping[str, Any], wrong: bool) -> str:
    if not np.isfinite(row["error"]):
        return "not finite"
    if row["checked"] == row["kinks"]:
        return "kinks only"
    if wrong:
        return "wrong"
    native = row.get("native_error")
    return "ok" if native is None or native <= NATIVE_TOLERANCE else "native is wrong"


def _moves(x: Array, rng: np.random.Generator) -> list[tuple[str, Array]]:
    """Every number of a small tensor; of a larger one some numbers and some directions."""
    every = x.size <= _SMALL
    chosen = np.arange(x.size) if every else rng.choice(x.size, _SOME, replace=False)
    moves = []
    for flat in chosen:
        move = np.zeros(x.shape)
        at = tuple(int(k) for k in np.unravel_index(flat, x.shape))
        move[at] = 1
        moves.append((str(at), move))
    if not every:
        for k in range(_DIRECTIONS):
            move = rng.normal(size=x.shape)
            moves.append((f"direction {k}", move / np.linalg.norm(move)))
    return moves
