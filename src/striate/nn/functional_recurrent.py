"""One step of recurrent layers in `striate.nn.functional`, and sequences of steps.

A sequence is unrolled: each step adds its nodes to the graph, and all share the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from striate.formula.activation import map_attributes
from striate.formula.expression import Const
from striate.nn.apply import apply
from striate.nn.functional_activation import relu, tanh
from striate.nn.functional_arithmetic import add
from striate.nn.functional_linear import linear
from striate.nn.functional_shape import cat
from striate.nn.symbol import SymbolicTensor


@dataclass(frozen=True)
class Weights:
    """The weights of one layer in one direction; biases and the projection may be None."""

    weight_ih: Any
    weight_hh: Any
    bias_ih: Any = None
    bias_hh: Any = None
    weight_hr: Any = None


State = tuple[Any, ...]  # (h,) or (h, c)
Step = Callable[[Any, State, Weights], State]


def lstm_step(x: Any, state: State, w: Weights) -> State:
    """One step of an LSTM.

    `i, f, g, o = W_ih·x + b_ih + W_hh·h + b_hh`, `c′ = σ(f)·c + σ(i)·tanh(g)`,
    `h′ = σ(o)·tanh(c′)`, with a projection `h′ = W_hr·(σ(o)·tanh(c′))`.

    Args:
        x: (n, input_size).
        state: h (n, hidden or projected size) and c (n, hidden_size).
    Returns:
        The new h and c.
    """
    h, c = state
    gates = (linear(x, w.weight_ih, w.bias_ih), linear(h, w.weight_hh, w.bias_hh))
    c = apply("lstm_state", (*gates, c), {}, "state")
    h = apply("lstm_output", (*gates, c), {}, "output")
    return (h if w.weight_hr is None else linear(h, w.weight_hr)), c


def gru_step(x: Any, state: State, w: Weights) -> State:
    """One step of a GRU: `h′ = (1 − z)·n + z·h`.

    `r = σ(W_ir·x + b_ir + W_hr·h + b_hr)`, z likewise,
    `n = tanh(W_in·x + b_in + r·(W_hn·h + b_hn))`.
    """
    (h,) = state
    gates = (linear(x, w.weight_ih, w.bias_ih), linear(h, w.weight_hh, w.bias_hh))
    return (apply("gru_state", (*gates, h), {}, "state"),)


def rnn_tanh_step(x: Any, state: State, w: Weights) -> State:
    """One step of an Elman network: `h′ = tanh(W_ih·x + b_ih + W_hh·h + b_hh)`."""
    return (tanh(_elman(x, state, w)),)


def rnn_relu_step(x: Any, state: State, w: Weights) -> State:
    """One step of an Elman network with ReLU."""
    return (relu(_elman(x, state, w)),)


def _elman(x: Any, state: State, w: Weights) -> Any:
    return add(linear(x, w.weight_ih, w.bias_ih), linear(state[0], w.weight_hh, w.bias_hh))


def zero_state(x: Any, size: int) -> Any:
    """(n, size) of zeros, for the samples that x (n, features) has."""
    if not isinstance(x, SymbolicTensor):
        return np.zeros((len(x), size), np.float32)
    tracer, features = x._tracer, x._sample_shape[0]
    while features < size:
        x, features = cat([x, x], 1), 2 * features
    part = x if features == size else x[:, :size]
    return tracer.apply("map", (part,), map_attributes(Const(0.0), ("x",)), "zeros")


def run_sequence(
    step: Step, inputs: Sequence[Any], state: State, w: Weights, reverse: bool
) -> tuple[list[Any], State]:
    """The outputs of every step, in the order of the inputs, and the last state."""
    outputs: list[Any] = []
    for x in reversed(inputs) if reverse else inputs:
        state = step(x, state, w)
        outputs.append(state[0])
    return outputs[::-1] if reverse else outputs, state


def cell_step(mode: str) -> Step:
    """The step function: of "LSTM", "GRU", "RNN_TANH" or "RNN_RELU"."""
    steps: dict[str, Step] = {"LSTM": lstm_step, "GRU": gru_step}
    return (steps | {"RNN_TANH": rnn_tanh_step, "RNN_RELU": rnn_relu_step})[mode]
