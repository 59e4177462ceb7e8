"""LSTM, GRU and RNN against torch, in networks and on arrays; and they learn."""

from __future__ import annotations

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.errors import OptionError, ShapeError, TraceError
from striate.nn import functional as F
from striate.program import build_gradient

X = np.random.default_rng(0).normal(size=(3, 4, 4)).astype(np.float32)  # (n, t, features)
LAYERS = {
    "LSTM": (nn.LSTM, {}),
    "LSTM of two layers": (nn.LSTM, {"num_layers": 2, "bias": False}),
    "LSTM both ways": (nn.LSTM, {"num_layers": 2, "bidirectional": True}),
    "LSTM projected": (nn.LSTM, {"proj_size": 2, "num_layers": 2, "bidirectional": True}),
    "GRU": (nn.GRU, {}),
    "GRU both ways": (nn.GRU, {"num_layers": 2, "bidirectional": True}),
    "RNN": (nn.RNN, {"num_layers": 2}),
    "RNN relu": (nn.RNN, {"nonlinearity": "relu", "bias": False, "bidirectional": True}),
}


class Whole(nn.Module):
    """Output and last states of a recurrent layer as one vector a sample."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        output, states = self.layer(x)
        lists = states if isinstance(states[0], tuple) else (states,)
        return F.cat([output.flatten(1), *(k for part in lists for k in part)], dim=1)


def flat(output, states):
    """What `Whole` gives, from arrays in torch's layout, batch first."""
    lists = states if isinstance(states, tuple) else (states,)
    parts = [np.asarray(output).reshape(len(output), -1)]
    return np.concatenate([*parts, *(np.asarray(k) for part in lists for k in part)], axis=1)


@pytest.fixture(params=LAYERS, name="case")
def _case(request):
    kind, options = LAYERS[request.param]
    st.manual_seed(1)
    return kind, options, kind(4, 3, batch_first=True, **options)


def test_a_network_computes_what_arrays_give(case):
    _, _, layer = case
    expected = flat(*layer(X))
    np.testing.assert_allclose(Whole(layer)(X), expected, rtol=1e-4, atol=1e-6)
    assert Whole(layer)(X[:0]).shape == (0, expected.shape[1])
    assert np.count_nonzero(expected) > expected.size * 0.4


def test_layouts_on_arrays(case):
    kind, options, layer = case
    other = kind(4, 3, **options)
    other.load_state_dict(layer.state_dict())
    output, states = layer(X)
    turned, same = other(X.swapaxes(0, 1))
    assert np.array_equal(turned.swapaxes(0, 1), output)
    single, alone = layer(X[1])
    np.testing.assert_allclose(single, output[1], rtol=1e-5, atol=1e-6)
    for a, b, c in zip(
        *(k if isinstance(k, tuple) else (k,) for k in (states, same, alone)), strict=True
    ):
        assert np.array_equal(a, b)
        np.testing.assert_allclose(c, a[:, 1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [k for k, (_, more) in LAYERS.items() if "bidir" not in str(more)])
def test_a_sequence_in_two_halves(name):
    kind, options = LAYERS[name]
    layer = kind(4, 3, batch_first=True, **options)
    output, states = layer(X)
    first, between = layer(X[:, :2])
    second, end = layer(X[:, 2:], between)
    np.testing.assert_allclose(np.concatenate([first, second], 1), output, rtol=1e-5, atol=1e-6)
    for a, b in zip(states, end, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["LSTM projected", "GRU both ways", "RNN relu"])
def test_gradients_are_the_reference_s(name):
    st.manual_seed(1)
    kind, options = LAYERS[name]
    net = Whole(kind(4, 3, batch_first=True, **options))
    graph = net.to_graph(X.shape[1:])
    wanted = ["input", *(p.name for p in graph.parameters)]
    rng = np.random.default_rng(1)
    upstream = rng.normal(size=(3, *graph.nodes[graph.outputs[0]].shape)).astype(np.float32)
    both = [
        build_gradient(graph, wanted=wanted, backend=backend).run(
            X, net.state_dict(), {graph.outputs[0]: upstream}
        )[1]
        for backend in ("native", "reference")
    ]
    for name in wanted:
        np.testing.assert_allclose(both[0][name], both[1][name], rtol=1e-3, atol=1e-5)
        assert np.count_nonzero(both[0][name]) > both[0][name].size / 2


# torch says that it has no fast code for projections.
@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.peer
def test_torch_s_weights_give_torch_s_values_and_gradients(case):
    torch = pytest.importorskip("torch")
    kind, options, layer = case
    theirs = getattr(torch.nn, kind.__name__)(4, 3, batch_first=True, **options)
    expected = [(name, tuple(tensor.shape)) for name, tensor in theirs.state_dict().items()]
    assert [(name, array.shape) for name, array in layer.state_dict().items()] == expected
    layer.load_state_dict(theirs.state_dict())
    x = torch.tensor(X, requires_grad=True)
    output, states = theirs(x)
    lists = states if isinstance(states, tuple) else (states,)
    whole = torch.cat([output.flatten(1), *(k for part in lists for k in part)], 1)
    np.testing.assert_allclose(flat(*layer(X)), whole.detach().numpy(), rtol=1e-4, atol=1e-6)
    rng = np.random.default_rng(2)
    upstream = rng.normal(size=whole.shape).astype(np.float32)
    whole.backward(torch.tensor(upstream))
    net = Whole(layer)
    graph = net.to_graph(X.shape[1:])
    names = {"input": x, **{f"layer.{k}": p for k, p in theirs.named_parameters()}}
    program = build_gradient(graph, wanted=list(names))
    _, slopes = program.run(X, net.state_dict(), {graph.outputs[0]: upstream})
    for name, tensor in names.items():
        np.testing.assert_allclose(slopes[name], tensor.grad.numpy(), rtol=2e-3, atol=1e-5)


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.peer
def test_initial_states_as_torch_takes_them(case):
    torch = pytest.importorskip("torch")
    kind, options, layer = case
    theirs = getattr(torch.nn, kind.__name__)(4, 3, batch_first=True, **options)
    layer.load_state_dict(theirs.state_dict())
    rng, count = np.random.default_rng(3), layer.num_layers * (2 if layer.bidirectional else 1)
    h = rng.normal(size=(count, 3, layer.proj_size or 3)).astype(np.float32)
    c = rng.normal(size=(count, 3, 3)).astype(np.float32)
    ours = layer(X, (h, c) if kind is nn.LSTM else h)
    given = (torch.tensor(h), torch.tensor(c)) if kind is nn.LSTM else torch.tensor(h)
    with torch.no_grad():
        output, states = theirs(torch.tensor(X), given)
    expected = flat(output.numpy(), states)
    np.testing.assert_allclose(flat(*ours), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.peer
@pytest.mark.parametrize("name", ["LSTMCell", "GRUCell", "RNNCell"])
def test_cells_are_torch_s(name):
    torch = pytest.importorskip("torch")
    ours, theirs = getattr(nn, name)(4, 3), getattr(torch.nn, name)(4, 3)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert repr(ours) == repr(theirs)
    ours.load_state_dict(theirs.state_dict())
    state, other = None, None
    for t in range(3):
        state = ours(X[:, t], state)
        with torch.no_grad():
            other = theirs(torch.tensor(X[:, t]), other)
    pairs = zip(state, other, strict=True) if name == "LSTMCell" else [(state, other)]
    for found, expected in pairs:
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-6)


def test_a_cell_in_a_loop_of_one_s_own():
    class Steps(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.LSTMCell(4, 3)

        def forward(self, x):
            h, c = self.cell(x[:, 0])
            for t in range(1, 4):
                h, c = self.cell(x[:, t], (h, c))
            return h

    st.manual_seed(0)
    net, lstm = Steps(), nn.LSTM(4, 3, batch_first=True)
    lstm.load_state_dict({f"{k}_l0": v for k, v in net.cell.state_dict().items()})
    np.testing.assert_allclose(net(X), lstm(X)[1][0][-1], rtol=1e-4, atol=1e-6)


def test_initial_states_in_a_network():
    class Carried(nn.Module):
        def __init__(self):
            super().__init__()
            self.start = nn.Linear(4, 6)
            self.lstm = nn.LSTM(4, 6, batch_first=True)
            self.gru = nn.GRU(6, 6, batch_first=True)

        def forward(self, x):
            h = self.start(x[:, 0])
            y, (h, c) = self.lstm(x, (h, h))
            y, h = self.gru(y, h)
            return y[:, -1] + h.squeeze(0) + c[0]

    st.manual_seed(0)
    net = Carried()
    h = net.start(X[:, 0])[None]
    y, (h, c) = net.lstm(X, (h, h))
    y, h = net.gru(y, h)
    np.testing.assert_allclose(net(X), y[:, -1] + h[0] + c[0], rtol=1e-4, atol=1e-6)


def test_dropout_between_layers():
    st.manual_seed(0)
    layer = nn.LSTM(4, 30, num_layers=2, dropout=0.5, batch_first=True)
    assert not np.array_equal(layer(X)[0], layer(X)[0])
    layer.eval()
    assert np.array_equal(layer(X)[0], layer(X)[0])


class Parity(nn.Module):
    """Whether the two marked numbers of a sequence have one sign."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(2, 16, batch_first=True)
        self.fc = nn.Linear(16, 2)

    def forward(self, x):
        _, (h, _) = self.lstm(x.squeeze(1))  # (n, 1, t, 2): pictures of one channel
        return self.fc(h[-1])


def marked(count, seed):
    rng = np.random.default_rng(seed)
    x = np.zeros((count, 1, 8, 2), np.float32)
    x[:, 0, :, 0] = rng.choice([-1, 1], (count, 8))
    first, second = rng.integers(0, 4, count), rng.integers(4, 8, count)
    rows = np.arange(count)
    x[rows, 0, first, 1] = x[rows, 0, second, 1] = 1
    same = x[rows, 0, first, 0] == x[rows, 0, second, 0]
    return x, same.astype(np.int64)


def test_an_lstm_learns_what_lies_apart():
    st.manual_seed(0)
    net, (x, y), (unseen, truth) = Parity(), marked(2048, 0), marked(512, 1)
    st.fit(net, (x, y), epochs=25, batch_size=64, optimizer=st.optim.Adam(lr=0.01), progress=False)
    assert np.mean(net(unseen).argmax(1) == truth) > 0.95


def test_files_and_copies(tmp_path):
    st.manual_seed(0)
    net = Parity()
    x = marked(4, 0)[0]
    st.save(net, tmp_path / "net.safetensors", input_shape=x.shape[1:])
    np.testing.assert_allclose(st.load(tmp_path / "net.safetensors")(x), net(x), rtol=1e-6)


@pytest.mark.peer
def test_texts_and_bounds():
    torch = pytest.importorskip("torch")
    for name, (kind, options) in LAYERS.items():
        theirs = getattr(torch.nn, kind.__name__)(4, 3, batch_first=True, **options)
        assert repr(kind(4, 3, batch_first=True, **options)) == repr(theirs), name
    for parameter in nn.LSTM(4, 25, num_layers=2).parameters():
        assert 0.15 < np.abs(parameter.data).max() <= 0.2


BAD = [
    (lambda: nn.LSTM(0, 3), OptionError, "LSTM: expected input_size to be a whole number from 1"),
    (lambda: nn.LSTM(4, 3, proj_size=3), OptionError, "proj_size below hidden_size=3; got proj"),
    (lambda: nn.GRU(4, 3, dropout=1), OptionError, "GRU: expected a probability"),
    (lambda: nn.RNN(4, 3, nonlinearity="elu"), OptionError, "'tanh' or 'relu'; got nonlinearity"),
    (lambda: nn.LSTM(4, 3, device="cuda"), OptionError, "LSTM: device='cuda' is not supported"),
    (lambda: nn.LSTM(5, 3)(X), ShapeError, r"\(t, n, features\) with 5 features"),
    (
        lambda: nn.GRU(4, 3)(X, np.zeros((1, 2, 3))),
        ShapeError,
        r"initial states of shape \(1, 4, 3",
    ),
    (lambda: Whole(nn.LSTM(4, 3)).to_graph((5, 4)), TraceError, "batch_first=True"),
    (lambda: Whole(nn.LSTM(4, 3, batch_first=True)).to_graph((4,)), ShapeError, "n, t, features"),
    (lambda: nn.LSTMCell(4, 3)(X), ShapeError, r"LSTMCell: expected \(n, 4\); got shape"),
]


@pytest.mark.parametrize("k", range(len(BAD)))
def test_messages(k):
    call, error, text = BAD[k]
    with pytest.raises(error, match=text):
        call()
