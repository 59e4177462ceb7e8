"""LSTM, GRU and RNN: layers over sequences, and their cells, one step at a time.

In a network a sequence is unrolled, so its length is part of the graph; the weights are shared by
all steps. Names, layouts and defaults of the weights are torch's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from striate.errors import OptionError, ShapeError
from striate.nn import functional as F
from striate.nn import init
from striate.nn.arguments import check_kind, probability, whole
from striate.nn.functional_recurrent import (
    State,
    Weights,
    cell_step,
    run_sequence,
    zero_state,
)
from striate.nn.parameter import Parameter, as_float32
from striate.nn.several import SeveralInputs
from striate.nn.symbol import SymbolicTensor, at_line
from striate.nn.trace import find_tracer
from striate.nn.untraceable import untraceable

_GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}


class States(tuple[Any, ...]):
    """The last states of a recurrent layer in a network: for each layer and direction (n, size).

    Where torch has one tensor (layers·directions, n, size), the batch is first here, so the states
    stay apart; `states[-1]` is the last layer's, as in torch.
    """

    def squeeze(self, dim: int) -> Any:
        """The only state, of a layer that has one: `states.squeeze(0)`."""
        if dim != 0 or len(self) != 1:
            raise ShapeError(
                f"squeeze: expected squeeze(0) of a single state; got dim={dim}, {len(self)} "
                f"states{at_line()}. Write states[-1]."
            )
        return self[0]


class _Recurrent(SeveralInputs):
    """What sequence layers share: the weights, the order of layers and directions, the layouts."""

    mode = ""

    def _build(
        self,
        sizes: tuple[int, int, int],
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
    ) -> None:
        """Sizes: input_size, hidden_size and proj_size (0 for none)."""
        name = type(self).__name__
        self.input_size = whole(sizes[0], name, "input_size")
        self.hidden_size = whole(sizes[1], name, "hidden_size")
        self.proj_size = whole(sizes[2], name, "proj_size", 0)
        if self.proj_size >= self.hidden_size:
            raise OptionError(
                f"{name}: expected proj_size below hidden_size={self.hidden_size}; "
                f"got proj_size={self.proj_size}."
            )
        self.num_layers = whole(num_layers, name, "num_layers")
        self.bias, self.batch_first = bool(bias), bool(batch_first)
        self.dropout, self.bidirectional = probability(dropout, name), bool(bidirectional)
        for layer, direction in self._places():
            for part, shape in self._shapes(layer):
                self.register_parameter(
                    part + _suffix(layer, direction), Parameter(np.empty(shape, np.float32))
                )
        self.reset_parameters()

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def _output_size(self) -> int:
        return self.proj_size or self.hidden_size

    def _places(self) -> Iterator[tuple[int, int]]:
        """Every layer and direction, in the order of the states."""
        for layer in range(self.num_layers):
            for direction in range(self._directions):
                yield layer, direction

    def _shapes(self, layer: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Names and shapes of one layer's weights, in torch's order."""
        rows = _GATES[self.mode] * self.hidden_size
        below = self.input_size if layer == 0 else self._output_size * self._directions
        yield "weight_ih", (rows, below)
        yield "weight_hh", (rows, self._output_size)
        if self.bias:
            yield "bias_ih", (rows,)
            yield "bias_hh", (rows,)
        if self.proj_size:
            yield "weight_hr", (self.proj_size, self.hidden_size)

    def _weights(self, layer: int, direction: int) -> Weights:
        suffix = _suffix(layer, direction)
        return Weights(**{part: getattr(self, part + suffix) for part, _ in self._shapes(layer)})

    def reset_parameters(self) -> None:
        """Draw fresh weights from U(−r, r), r = 1/√hidden_size."""
        _reset(self, self.hidden_size)

    # ---- running -----------------------------------------------------------------------------

    def forward(self, input: Any, hx: Any = None) -> Any:
        """The output of every step, and the last states."""
        if find_tracer(input, hx) is not None:
            return self._traced(input, hx)
        return self._on_arrays(input, hx)

    def _run(self, inputs: list[Any], states: Sequence[State]) -> tuple[list[Any], list[State]]:
        """All layers over the steps (n, features) of a sequence."""
        last: list[State] = []
        for layer in range(self.num_layers):
            sides = []
            for direction in range(self._directions):
                outputs, state = run_sequence(
                    cell_step(self.mode),
                    inputs,
                    states[layer * self._directions + direction],
                    self._weights(layer, direction),
                    direction == 1,
                )
                sides.append(outputs)
                last.append(state)
            inputs = [F.cat(k, 1) if len(k) > 1 else k[0] for k in zip(*sides, strict=True)]
            if layer < self.num_layers - 1:
                inputs = [F.dropout(k, self.dropout, self.training) for k in inputs]
        return inputs, last

    def _sizes(self) -> tuple[int, ...]:
        """The sizes of the states of one layer: of h, and for an LSTM of c."""
        own = (self._output_size, self.hidden_size)
        return own if self.mode == "LSTM" else own[:1]

    def _zeros(self, x: Any) -> list[State]:
        zeros = {size: zero_state(x, size) for size in dict.fromkeys(self._sizes())}
        return [tuple(zeros[size] for size in self._sizes()) for _ in self._places()]

    def _traced(self, input: Any, hx: Any) -> Any:
        name = type(self).__name__
        if not self.batch_first:
            raise untraceable(
                f"{name} was made with batch_first=False, and the first axis of a network's "
                "tensors is the batch",
                f"Write {name}(..., batch_first=True) and give it x of shape (n, t, features).",
            )
        self._require(input, input._sample_shape)
        steps = [input[:, t] for t in range(input._sample_shape[0])]
        states = self._zeros(steps[0]) if hx is None else self._given(hx)
        outputs, last = self._run(steps, states)
        h, *c = (States(parts) for parts in zip(*last, strict=True))
        return F.stack(outputs, 1), (h, c[0]) if c else h

    def _given(self, hx: Any) -> list[State]:
        """Initial states in a network: of each layer and direction a tensor (n, size)."""
        parts = hx if self.mode == "LSTM" else (hx,)
        lists = [(k,) if isinstance(k, SymbolicTensor) else tuple(k) for k in parts]
        count = self.num_layers * self._directions
        if len(lists) != len(self._sizes()) or any(len(k) != count for k in lists):
            raise ShapeError(
                f"{type(self).__name__}: expected initial states of {count} layers and "
                f"directions, each (n, size); got {[len(k) for k in lists]}{at_line()}."
            )
        return list(zip(*lists, strict=True))

    def _on_arrays(self, input: Any, hx: Any) -> Any:
        x = as_float32(input, type(self).__name__)
        single = x.ndim == 2  # (t, features): one sequence without a batch
        sequence = x.shape
        if x.ndim == 3:
            sequence = x.shape[1:] if self.batch_first else x.shape[::2]
        self._require(x, sequence)
        if single:
            x = x[:, None]
        elif self.batch_first:
            x = x.swapaxes(0, 1)
        states = self._zeros(x[0]) if hx is None else self._arrays(hx, x.shape[1], single)
        outputs, last = self._run([np.ascontiguousarray(k) for k in x], states)
        output = np.stack(outputs)
        h, *c = (np.stack(parts) for parts in zip(*last, strict=True))
        if single:
            output, h, c = output[:, 0], h[:, 0], [k[:, 0] for k in c]
        elif self.batch_first:
            output = output.swapaxes(0, 1).copy()
        return output, (h, c[0]) if c else h

    def _require(self, input: Any, sequence: Sequence[int]) -> None:
        """Check (t, features), the shape of one sequence of an input."""
        if len(sequence) != 2 or sequence[1] != self.input_size or sequence[0] == 0:
            order = "n, t, features" if self.batch_first else "t, n, features"
            raise ShapeError(
                f"{type(self).__name__}: expected ({order}) with {self.input_size} features and "
                f"at least one step; got shape {tuple(input.shape)}{at_line()}."
            )

    def _arrays(self, hx: Any, batch: int, single: bool) -> list[State]:
        """Initial states from torch's arrays (layers·directions, n, size)."""
        parts = hx if self.mode == "LSTM" else (hx,)
        count, found = self.num_layers * self._directions, []
        for part, size in zip(parts, self._sizes(), strict=False):
            state = as_float32(part, f"{type(self).__name__}: hx")
            state = state[:, None] if single and state.ndim == 2 else state
            if state.shape != (count, batch, size) or len(parts) != len(self._sizes()):
                raise ShapeError(
                    f"{type(self).__name__}: expected initial states of shape "
                    f"{(count, batch, size)}; got {np.shape(part)}."
                )
            found.append(np.ascontiguousarray(state))
        return list(zip(*found, strict=True))

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        for name, default in (
            ("proj_size", 0),
            ("num_layers", 1),
            ("bias", True),
            ("batch_first", False),
            ("dropout", 0.0),
            ("bidirectional", False),
        ):
            value = getattr(self, name)
            text += f", {name}={value}" if value != default else ""
        return text


class LSTM(_Recurrent):
    """Long short-term memory over a sequence.

    `i, f, g, o = W_ih·x_t + b_ih + W_hh·h_{t−1} + b_hh`, `c_t = σ(f)·c_{t−1} + σ(i)·tanh(g)`,
    `h_t = σ(o)·tanh(c_t)`; with `proj_size` `h_t = W_hr·(σ(o)·tanh(c_t))`.

    Args:
        input_size: features of a step.
        hidden_size: numbers of the state.
        num_layers: layers on top of each other.
        bias: whether there are biases.
        batch_first: x is (n, t, features), as it has to be in a network; else (t, n, features).
        dropout: share dropped between layers, in training.
        bidirectional: a second pass from the end; outputs are joined.
        proj_size: size of the output, where it is to be smaller than the state.
    Returns:
        output (n, t, directions·size), (h, c). On arrays h and c are torch's, (layers·directions,
        n, size); in a network they are `States`, of which `h[-1]` is the last layer's (n, size).
    Source: Hochreiter & Schmidhuber, Long short-term memory, Neural Computation 9 (1997).

    >>> output, (h, c) = LSTM(3, 5, batch_first=True)(np.zeros((2, 7, 3)))
    >>> output.shape, h.shape, c.shape
    ((2, 7, 5), (1, 2, 5), (1, 2, 5))
    """

    mode = "LSTM"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check_kind("LSTM", device, dtype)
        sizes = (input_size, hidden_size, proj_size)
        self._build(sizes, num_layers, bias, batch_first, dropout, bidirectional)


class GRU(_Recurrent):
    """Gated recurrent units over a sequence; the arguments are those of `LSTM`.

    `r, z = σ(W_ih·x_t + b_ih + W_hh·h_{t−1} + b_hh)`, `n = tanh(W_in·x_t + b_in + r·(W_hn·h_{t−1} +
    b_hn))`, `h_t = (1 − z)·n + z·h_{t−1}`.

    Returns:
        output (n, t, directions·size), h; see `LSTM`.
    Source: Cho et al., Learning phrase representations using RNN encoder-decoder,
        arXiv:1406.1078.

    >>> output, h = GRU(3, 5, batch_first=True)(np.zeros((2, 7, 3)))
    >>> output.shape, h.shape
    ((2, 7, 5), (1, 2, 5))
    """

    mode = "GRU"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check_kind("GRU", device, dtype)
        sizes = (input_size, hidden_size, 0)
        self._build(sizes, num_layers, bias, batch_first, dropout, bidirectional)


class RNN(_Recurrent):
    """An Elman network over a sequence: `h_t = tanh(W_ih·x_t + b_ih + W_hh·h_{t−1} + b_hh)`.

    Args:
        nonlinearity: "tanh" or "relu".
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional: as of
            `LSTM`.
    Returns:
        output (n, t, directions·size), h; see `LSTM`.
    Source: Elman, Finding structure in time, Cognitive Science 14 (1990).
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check_kind("RNN", device, dtype)
        self.nonlinearity, self.mode = nonlinearity, _elman_mode(nonlinearity)
        sizes = (input_size, hidden_size, 0)
        self._build(sizes, num_layers, bias, batch_first, dropout, bidirectional)


# ---- cells -----------------------------------------------------------------------------------


class _Cell(SeveralInputs):
    """One step: the weights, and a state that is zero where none is given."""

    mode = ""

    def _build(self, input_size: int, hidden_size: int, bias: bool) -> None:
        name = type(self).__name__
        self.input_size = whole(input_size, name, "input_size")
        self.hidden_size = whole(hidden_size, name, "hidden_size")
        self.bias, rows = bool(bias), _GATES[self.mode] * self.hidden_size
        shapes = {"weight_ih": (rows, self.input_size), "weight_hh": (rows, self.hidden_size)}
        for part, shape in shapes.items():
            self.register_parameter(part, Parameter(np.empty(shape, np.float32)))
        for part in ("bias_ih", "bias_hh"):
            fresh = Parameter(np.empty(rows, np.float32)) if bias else None
            self.register_parameter(part, fresh)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw fresh weights from U(−r, r), r = 1/√hidden_size."""
        _reset(self, self.hidden_size)

    def _step(self, input: Any, state: State | None) -> State:
        count = 2 if self.mode == "LSTM" else 1
        if find_tracer(input) is None:
            input = as_float32(input, type(self).__name__)
        if len(input.shape) != 2 or input.shape[1] != self.input_size:
            raise ShapeError(
                f"{type(self).__name__}: expected (n, {self.input_size}); got shape "
                f"{tuple(input.shape)}{at_line()}."
            )
        if state is None:
            state = (zero_state(input, self.hidden_size),) * count
        self._require_states(state, count)
        w = Weights(self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        return cell_step(self.mode)(input, state, w)

    def _require_states(self, state: State, count: int) -> None:
        shapes = [k.shape if isinstance(k, SymbolicTensor) else np.shape(k) for k in state]
        if len(shapes) != count or any(k[1:] != (self.hidden_size,) for k in shapes):
            raise ShapeError(
                f"{type(self).__name__}: expected {'h and c' if count == 2 else 'a state h'} of "
                f"shape (n, {self.hidden_size}); got {', '.join(str(tuple(k)) for k in shapes)}"
                f"{at_line()}."
            )

    def extra_repr(self) -> str:
        bias = "" if self.bias else ", bias=False"
        return f"{self.input_size}, {self.hidden_size}{bias}"


class LSTMCell(_Cell):
    """One step of an `LSTM`: x (n, input_size) and (h, c), both (n, hidden_size), give (h, c).

    Args:
        input_size: features of a step.
        hidden_size: numbers of the state.
        bias: whether there are biases.

    >>> h, c = LSTMCell(3, 5)(np.zeros((2, 3)))
    >>> h.shape
    (2, 5)
    """

    mode = "LSTM"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check_kind("LSTMCell", device, dtype)
        self._build(input_size, hidden_size, bias)

    def forward(self, input: Any, hx: tuple[Any, Any] | None = None) -> tuple[Any, Any]:
        """The new (h, c)."""
        h, c = self._step(input, None if hx is None else (hx[0], hx[1]))
        return h, c


class GRUCell(_Cell):
    """One step of a `GRU`: x (n, input_size) and h (n, hidden_size) give h.

    Args:
        input_size, hidden_size, bias: as of `LSTMCell`.
    """

    mode = "GRU"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check_kind("GRUCell", device, dtype)
        self._build(input_size, hidden_size, bias)

    def forward(self, input: Any, hx: Any = None) -> Any:
        """The new h."""
        return self._step(input, None if hx is None else (hx,))[0]


class RNNCell(_Cell):
    """One step of an `RNN`: x (n, input_size) and h (n, hidden_size) give h.

    Args:
        input_size, hidden_size, bias: as of `LSTMCell`.
        nonlinearity: "tanh" or "relu".
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check_kind("RNNCell", device, dtype)
        self.nonlinearity, self.mode = nonlinearity, _elman_mode(nonlinearity)
        self._build(input_size, hidden_size, bias)

    def forward(self, input: Any, hx: Any = None) -> Any:
        """The new h."""
        return self._step(input, None if hx is None else (hx,))[0]


def _elman_mode(nonlinearity: str) -> str:
    if nonlinearity not in ("tanh", "relu"):
        raise OptionError(
            f"RNN: expected nonlinearity 'tanh' or 'relu'; got nonlinearity={nonlinearity!r}."
        )
    return f"RNN_{nonlinearity.upper()}"


def _suffix(layer: int, direction: int) -> str:
    return f"_l{layer}{'_reverse' if direction else ''}"


def _reset(module: SeveralInputs, hidden_size: int) -> None:
    bound = 1 / math.sqrt(hidden_size)
    for parameter in module.parameters():
        init.uniform_(parameter, -bound, bound)
