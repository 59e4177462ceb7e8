"""RNN, GRU and LSTM, step by step: each step is two linear layers and scalar formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from striate.formats.onnx.lowering import Call
from striate.formats.onnx.operators.structure import cut, joined, permute
from striate.formats.onnx.registry import operator
from striate.formats.onnx.value import Value
from striate.formula.expression import Expr, maximum, minimum, sigmoid, tanh, where

Function = Callable[[Any], Any]
_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
_DEFAULTS = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}
_FUNCTIONS: dict[str, Function] = {
    "sigmoid": sigmoid,
    "tanh": tanh,
    "relu": lambda x: maximum(x, 0),
    "hardsigmoid": lambda x: maximum(0, minimum(1, 0.2 * x + 0.5)),
    "leakyrelu": lambda x: where(x > 0, x, 0.01 * x),
    "softsign": lambda x: x / (1 + abs(x)),
}


class Cell:
    """The weights and settings of one direction."""

    def __init__(self, c: Call, direction: int, directions: int) -> None:
        self.c, self.direction = c, direction
        self.hidden = int(c.attribute("hidden_size"))
        self.gates = _GATES[c.op]
        names = c.attribute("activations", _DEFAULTS[c.op] * directions)
        count = len(_DEFAULTS[c.op])
        self.functions = [self._function(k) for k in names[direction * count :][:count]]
        self.after_reset = bool(c.attribute("linear_before_reset", 0)) if c.op == "GRU" else False
        self.coupled = bool(c.attribute("input_forget", 0)) if c.op == "LSTM" else False
        self.rows = self.gates * self.hidden
        peep = c.maybe(7)
        self.peepholes = None if peep is None else self._part_of(peep, slice(None))

    def _function(self, name: str) -> Function:
        if name.lower() not in _FUNCTIONS:
            self.c.refuse(f"activations expected {', '.join(_FUNCTIONS)}; got {name!r}")
        return _FUNCTIONS[name.lower()]

    def _part_of(self, weights: Value, rows: slice) -> Value:
        """Some rows of this direction's weights; the same value every time."""
        key = ("rows", self.direction, rows.start, rows.stop)
        found = weights.derived(key, lambda a: np.ascontiguousarray(a[self.direction][rows]))
        return Value.of(found.array, True) if not found.constant else found

    def _linear(self, position: int, x: Value, rows: slice) -> Value:
        """`x·wᵀ + b` for each sample, by rows of the weights of an input."""
        weights = [self._part_of(self.c.value(position), rows)]
        bias = self.c.maybe(3)
        if bias is not None:
            first = self.rows * (position - 1)
            weights.append(self._part_of(bias, slice(first + rows.start, first + rows.stop)))
        return self.c.apply("linear", [x, *weights], whole=False)

    def of_input(self, x: Value) -> Value:
        """What a step's input contributes to all gates."""
        return self._linear(1, x, slice(0, self.rows))

    def of_state(self, h: Value, rows: slice | None = None) -> Value:
        """What the state contributes to some rows of the gates, by default to all."""
        return self._linear(2, h, slice(0, self.rows) if rows is None else rows)

    def part(self, value: Value, gate: int) -> Value:
        """The numbers of one gate."""
        return cut(self.c, value, 1, gate * self.hidden, (gate + 1) * self.hidden)

    def step(self, x: Value, h: Value, memory: Value | None) -> tuple[Value, Value | None]:
        """The next state, and for an LSTM the next memory."""
        if self.c.op == "LSTM" and memory is not None:
            return self._lstm(x, h, memory)
        return (self._gru(x, h) if self.c.op == "GRU" else self._rnn(x, h)), None

    def _rnn(self, x: Value, h: Value) -> Value:
        f = self.functions[0]
        a, b = self.of_input(x), self.of_state(h)
        return self.c.map(lambda p, q: f(p + q), a, b)

    def _gru(self, x: Value, h: Value) -> Value:
        f, g = self.functions
        rows, c = 2 * self.hidden, self.c
        new_rows = slice(rows, self.rows)
        a, b = self.of_input(x), self.of_state(h, slice(0, rows))
        both = c.map(lambda p, q: f(p + q), cut(c, a, 1, 0, rows), b)
        z, reset = self.part(both, 0), self.part(both, 1)
        if self.after_reset:
            inner = self.of_state(h, new_rows)
            new = c.map(lambda p, q, k: g(p + q * k), self.part(a, 2), reset, inner)
        else:
            kept = c.map(lambda p, q: p * q, reset, h)
            inner = self.of_state(kept, new_rows)
            new = c.map(lambda p, q: g(p + q), self.part(a, 2), inner)
        return c.map(lambda k, n, old: (1 - k) * n + k * old, z, new, h)

    def _lstm(self, x: Value, h: Value, memory: Value) -> tuple[Value, Value]:
        f, g, last = self.functions
        c = self.c
        a, b = self.of_input(x), self.of_state(h)
        total = c.map(lambda p, q: p + q, a, b)
        i, o, forget, new = (self.part(total, k) for k in range(4))  # the order of ONNX
        i = self._gate(f, i, memory, 0)
        forget = c.map(lambda k: 1 - k, i) if self.coupled else self._gate(f, forget, memory, 2)
        kept = c.map(lambda p, old, q, n: p * old + q * g(n), forget, memory, i, new)
        o = self._gate(f, o, kept, 1)
        return c.map(lambda p, k: p * last(k), o, kept), kept

    def _gate(self, f: Function, x: Value, memory: Value, hole: int) -> Value:
        """A gate, which may look at the memory through a peephole."""
        if self.peepholes is None:
            return self.c.map(f, x)
        rows = slice(hole * self.hidden, (hole + 1) * self.hidden)
        weight = self.peepholes.derived(hole, lambda a: a[rows])
        return self.c.map(lambda p, k, w: f(p + k * w), x, memory, weight)


@operator("RNN", "GRU", "LSTM", since=7)
def recurrent(c: Call) -> list[Value | None]:
    x, batch_first = c.value(0), bool(c.attribute("layout", 0))
    way = c.attribute("direction", "forward")
    if c.attribute("clip") is not None:
        c.refuse("the attribute 'clip' is not supported; leave it out")
    for name in ("activation_alpha", "activation_beta"):
        if c.attribute(name):
            c.refuse(f"the attribute {name!r} is not supported; leave it out")
    if x.rank != 3:
        c.refuse(f"expected x of three axes; got shape {x.shape}")
    x = x if batch_first else permute(c, x, (1, 0, 2))
    count = 2 if way == "bidirectional" else 1
    found = []
    for k in range(count):
        backward = way == "reverse" or k == 1
        found.append(_direction(c, x, Cell(c, k, count), backward, batch_first))
    return _outputs(c, found, batch_first)


def _direction(
    c: Call, x: Value, cell: Cell, backward: bool, batch_first: bool
) -> tuple[list[Value], Value, Value | None]:
    """The states of all steps in order of time, the last state and the last memory."""
    n, steps, width = x.shape
    lengths = c.maybe(4)
    ends = np.full(n, steps) if lengths is None else lengths.array
    if backward and (ends != steps).any():
        c.refuse("sequence_lens are supported in the forward direction only")
    h = _start(c, cell, 5, n, batch_first)
    memory = _start(c, cell, 6, n, batch_first) if c.op == "LSTM" else None
    states = []
    for t in range(steps)[:: -1 if backward else 1]:
        now = c.reshape(cut(c, x, 1, t, t + 1), (n, width))
        h_next, next_memory = cell.step(now, h, memory)
        states.append(_while(c, t, ends, h_next, None))
        h = _while(c, t, ends, h_next, h)
        if memory is not None and next_memory is not None:
            memory = _while(c, t, ends, next_memory, memory)
    return states[::-1] if backward else states, h, memory


def _start(c: Call, cell: Cell, position: int, n: int, batch_first: bool) -> Value:
    """The given first state (n, hidden), or zeros."""
    given = c.maybe(position)
    if given is None:
        return Value.of(np.zeros((n, cell.hidden), c.value(0).dtype))
    state = given if batch_first else permute(c, given, (1, 0, 2))
    return c.reshape(cut(c, state, 1, cell.direction, cell.direction + 1), (n, cell.hidden))


def _while(c: Call, t: int, ends: Any, new: Value, old: Value | None) -> Value:
    """New where the sequence has not ended yet; else old, or 0."""
    if (t < ends).all():
        return new
    alive = Value.of((t < ends).reshape(-1, 1))
    if old is None:
        return c.map(lambda a, p: where(p, a, 0), new, alive)

    def choose(a: Expr, b: Expr, p: Expr) -> Expr:
        return where(p, a, b)

    return c.map(choose, new, old, alive)


def _outputs(
    c: Call, found: list[tuple[list[Value], Value, Value | None]], batch_first: bool
) -> list[Value | None]:
    """Y (steps, directions, n, hidden), Y_h and Y_c (directions, n, hidden), or batch first."""

    def stacked(values: list[Value], order: tuple[int, ...]) -> Value:
        parts = [c.reshape(v, (v.shape[0], 1, v.shape[1])) for v in values]
        together = joined(c, parts, 1)
        return together if batch_first else permute(c, together, order)

    last = [stacked([h for _, h, _ in found], (1, 0, 2))]
    if all(memory is not None for _, _, memory in found):
        last.append(stacked([m for _, _, m in found if m is not None], (1, 0, 2)))
    if not c.wants(0):
        return [None, *last]
    n, hidden = found[0][1].shape
    parts = [c.reshape(v, (n, 1, 1, hidden)) for states, _, _ in found for v in states]
    steps, count = len(found[0][0]), len(found)
    together = c.reshape(joined(c, parts, 1), (n, count, steps, hidden))
    order = (0, 2, 1, 3) if batch_first else (2, 1, 0, 3)
    return [permute(c, together, order), *last]
