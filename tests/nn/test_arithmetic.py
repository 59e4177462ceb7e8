"""Broadcasting, reductions, products and shapes inside networks, natively, and on arrays."""

from __future__ import annotations

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.errors import OptionError, ShapeError, TraceError
from striate.nn import functional as F
from striate.nn import scalar


class Net(nn.Module):
    """A network of one function, with a few parameters."""

    def __init__(self, function, **parameters):
        super().__init__()
        self.function = function
        for name, array in parameters.items():
            setattr(self, name, nn.Parameter(array))

    def forward(self, *tensors):
        return self.function(self, *tensors)


RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 4, 5, 6)).astype(np.float32)
MATRIX, LEFT, ONE4 = RNG.normal(size=(6, 3)), RNG.normal(size=(2, 5)), RNG.normal(size=4)
P = {"c": RNG.normal(size=(4, 1, 1)), "last": RNG.normal(size=6), "one": RNG.normal(size=())}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# Each computes on NumPy arrays what the network computes on traced tensors.
ARITHMETIC = {
    "channels by a parameter": (lambda s, x: x * s.c, lambda x: x * P["c"]),
    "parameter first": (lambda s, x: s.c - x, lambda x: P["c"] - x),
    "last axis": (lambda s, x: (x + s.last) / 2, lambda x: (x + P["last"]) / 2),
    "a single number": (lambda s, x: x * s.one, lambda x: x * P["one"]),
    "squeeze and excite": (
        lambda s, x: x * x.mean((2, 3), keepdim=True).sigmoid(),
        lambda x: x * sigmoid(x.mean((2, 3), keepdims=True)),
    ),
    "rows and columns": (
        lambda s, x: x[:, :, :, :1] * x[:, :, :1],
        lambda x: x[:, :, :, :1] * x[:, :, :1],
    ),
    "any formula": (
        lambda s, x: F.scalar(lambda a, b: scalar.exp(-a * a) * b, x, s.c),
        lambda x: np.exp(-x * x) * P["c"],
    ),
    "functions": (
        lambda s, x: F.div(F.sub(F.add(x, s.c, alpha=2), x[:, :1]), 2.0),
        lambda x: (x + 2 * P["c"] - x[:, :1]) / 2,
    ),
    "extremes of two": (
        lambda s, x: F.maximum(x, s.c) + x.minimum(0.5),
        lambda x: np.maximum(x, P["c"]) + np.minimum(x, 0.5),
    ),
    "sum": (lambda s, x: x.sum((1, 3)), lambda x: x.sum((1, 3))),
    "mean": (lambda s, x: x.mean(2), lambda x: x.mean(2)),
    "mean of channels kept": (lambda s, x: x.mean(1, True), lambda x: x.mean(1, keepdims=True)),
    "amax": (lambda s, x: x.amax((2, 3), keepdim=True), lambda x: x.max((2, 3), keepdims=True)),
    "amin": (lambda s, x: F.amin(x, -1), lambda x: x.min(-1)),
    "var": (lambda s, x: x.var((2, 3)), lambda x: x.var((2, 3), ddof=1)),
    "std": (lambda s, x: x.std(1, correction=0), lambda x: x.std(1)),
    "norm": (lambda s, x: x.norm(2, 1), lambda x: np.sqrt((x * x).sum(1))),
    "norm 3": (lambda s, x: x.norm(3, (1, 2)), lambda x: (abs(x) ** 3).sum((1, 2)) ** (1 / 3)),
    "norm 1": (lambda s, x: x.norm(1, 3, True), lambda x: abs(x).sum(3, keepdims=True)),
    "logsumexp": (lambda s, x: x.logsumexp((1, 2)), lambda x: np.log(np.exp(x).sum((1, 2)))),
    "prod": (lambda s, x: x.prod(2), lambda x: x.prod(2)),
    "prod kept": (lambda s, x: x.prod(3, True), lambda x: x.prod(3, keepdims=True)),
    "cumsum": (lambda s, x: x.cumsum(3), lambda x: x.cumsum(3)),
    "einsum": (
        lambda s, x: F.einsum("nchw,ndhw->ncd", x, x),
        lambda x: np.einsum("nchw,ndhw->ncd", x, x),
    ),
    "einsum with a parameter": (
        lambda s, x: F.einsum("nbcd,b->ncd", x, s.one4),
        lambda x: np.einsum("nbcd,b->ncd", x, ONE4),
    ),
    "matmul": (lambda s, x: x @ s.matrix, lambda x: x @ MATRIX),
    "matmul of two": (lambda s, x: x @ x.transpose(2, 3), lambda x: x @ x.swapaxes(2, 3)),
    "matmul from the left": (lambda s, x: s.left @ x, lambda x: LEFT @ x),
    "matmul by a vector": (lambda s, x: x @ s.last, lambda x: x @ P["last"]),
    "bmm": (
        lambda s, x: F.bmm(x[:, 0], x[:, 1].transpose(1, 2)),
        lambda x: x[:, 0] @ x[:, 1].swapaxes(1, 2),
    ),
    "linear": (
        lambda s, x: F.linear(x.transpose(2, 3), s.left, s.two),
        lambda x: x.swapaxes(2, 3) @ LEFT.T + [1, 2],
    ),
    "flip": (lambda s, x: x.flip((2, 3)), lambda x: x[:, :, ::-1, ::-1]),
    "roll": (lambda s, x: x.roll(-2, 3), lambda x: np.roll(x, -2, 3)),
    "roll two": (lambda s, x: x.roll((1, 9), (1, 2)), lambda x: np.roll(x, (1, 9), (1, 2))),
    "repeat": (lambda s, x: x.repeat(1, 2, 1, 3), lambda x: np.tile(x, (1, 2, 1, 3))),
    "tile": (lambda s, x: x.tile(2), lambda x: np.tile(x, 2)),
    "expand": (
        lambda s, x: x[:, :1].expand(-1, 4, -1, 6),
        lambda x: np.repeat(x[:, :1], 4, 1),
    ),
    "expand by size": (
        lambda s, x: x[:, :1].expand(x.size(0), 4, 5, 6),
        lambda x: np.repeat(x[:, :1], 4, 1),
    ),
    "stack": (lambda s, x: F.stack([x, 2 * x], 2), lambda x: np.stack([x, 2 * x], 2)),
    "split": (lambda s, x: x.split((1, 3), 1)[1], lambda x: x[:, 1:]),
    "chunk": (lambda s, x: x.chunk(4, 3)[2] + x.chunk(3, 3)[0], lambda x: x[..., 4:] + x[..., :2]),
    "unflatten": (lambda s, x: x.unflatten(3, (-1, 2)), lambda x: x.reshape(3, 4, 5, 3, 2)),
    "squeeze": (
        lambda s, x: x.unsqueeze(-1).unsqueeze(1).squeeze(),
        lambda x: x,
    ),
    "squeeze one": (lambda s, x: x.sum(2, True).squeeze(2), lambda x: x.sum(2)),
}


def net_of(name):
    parameters = {**P, "matrix": MATRIX, "left": LEFT, "one4": ONE4, "two": [1.0, 2.0]}
    return Net(ARITHMETIC[name][0], **parameters)


@pytest.mark.parametrize("name", ARITHMETIC)
def test_networks_compute_what_numpy_computes(name):
    expected = ARITHMETIC[name][1](X.astype(np.float64))
    found = net_of(name)(X)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-5)
    assert net_of(name)(X[:0]).shape == (0, *expected.shape[1:])


@pytest.mark.parametrize("name", ARITHMETIC)
def test_native_gradients_are_the_reference_s(name):
    from striate.program import build_gradient

    net = net_of(name)
    graph = net.to_graph(X.shape[1:])
    output = graph.outputs[0]
    wanted = ["input", *(p.name for p in graph.parameters)]
    upstream = RNG.normal(size=(3, *graph.nodes[output].shape)).astype(np.float32)
    both = []
    for backend in ("native", "reference"):
        program = build_gradient(graph, wanted=wanted, backend=backend)
        both.append(program.run(X, net.state_dict(), {output: upstream})[1])
    for key in wanted:
        np.testing.assert_allclose(both[0][key], both[1][key], rtol=2e-4, atol=2e-4)
        assert np.count_nonzero(both[0][key])


def test_functions_on_arrays():
    x = X.astype(np.float64)
    close = np.testing.assert_allclose
    close(F.sum(X), x.sum(), rtol=1e-6)
    close(F.sum(X, 0), x.sum(0), rtol=1e-5, atol=1e-6)
    close(F.mean(X, (0, 2, 3), True), x.mean((0, 2, 3), keepdims=True), rtol=1e-5, atol=1e-6)
    close(F.amax(X, 0), x.max(0))
    close(F.amin(X, (1, 2)), x.min((1, 2)))
    close(F.var(X, 0), x.var(0, ddof=1), rtol=1e-5)
    close(F.std(X), x.std(ddof=1), rtol=1e-5)
    close(F.norm(X, float("inf"), 1), abs(x).max(1))
    close(F.norm(X, "fro"), np.sqrt((x * x).sum()), rtol=1e-6)
    close(F.logsumexp(X, (0, 1), True), np.log(np.exp(x).sum((0, 1), keepdims=True)), rtol=1e-5)
    close(F.prod(X, 0), x.prod(0), rtol=1e-5)
    close(F.cumsum(X, 0), x.cumsum(0), rtol=1e-5, atol=1e-6)
    assert np.array_equal(F.argmax(X, 1), x.argmax(1))
    assert np.array_equal(F.argmax(X), x.argmax())
    close(F.einsum("nchw,nchw->", X, X), (x * x).sum(), rtol=1e-5)
    close(F.matmul(X[0], X[1].swapaxes(1, 2)), x[0] @ x[1].swapaxes(1, 2), rtol=1e-4, atol=1e-5)
    assert F.unsqueeze(X, 0).shape == (1, 3, 4, 5, 6)
    assert F.squeeze(X[:1, :1]).shape == (5, 6)
    assert F.expand(X[0, 0], 2, 5, 6).shape == (2, 5, 6)
    assert [k.shape[0] for k in F.split(X, 2)] == [2, 1]
    assert np.array_equal(F.stack((X, X)), np.stack((X, X)))
    assert np.array_equal(F.flip(X, 0, 1), X[::-1, ::-1])
    assert np.array_equal(F.roll(X, 1, 0), np.roll(X, 1, 0))
    for value in (F.sum(X), F.mean(X, 1), F.add(X, P["c"]), F.one_hot(np.array([0, 2]))):
        assert value.dtype == np.float32


def test_dropouts_keep_whole_channels_and_the_mean():
    st.manual_seed(0)
    x = np.ones((400, 5, 4, 3), np.float32)
    y = F.dropout2d(x, 0.25)
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
    assert np.array_equal(y.max((2, 3)), y.min((2, 3)))
    assert 0.2 < np.mean(y == 0) < 0.3
    assert F.dropout3d(x[..., None], training=False) is not None
    assert np.array_equal(F.dropout1d(x[..., 0], 0.0), x[..., 0])
    normal = np.random.default_rng(0).normal(size=(500, 40)).astype(np.float32)
    selu = F.selu(normal)
    dropped = F.alpha_dropout(selu, 0.3, training=True)
    assert abs(dropped.mean() - selu.mean()) < 0.02
    assert abs(dropped.std() - selu.std()) < 0.02
    whole = F.feature_alpha_dropout(np.ones((50, 6, 7)), 0.5, training=True)
    assert np.array_equal(whole.max(2), whole.min(2))
    assert len(np.unique(whole)) == 2


def test_dropout_of_channels_in_training_is_the_reference_s():
    from striate.program import build_gradient

    for layer in (nn.Dropout2d(0.4), nn.AlphaDropout(0.4), nn.FeatureAlphaDropout(0.3)):
        graph = nn.Sequential(layer, nn.Identity()).to_graph(X.shape[1:])
        both = [
            build_gradient(graph, wanted=["input"], draws=True, backend=backend).run(
                X, {}, seed=3, step=5
            )
            for backend in ("native", "reference")
        ]
        for native, reference in zip(*both, strict=True):
            for key, value in native.items():
                np.testing.assert_allclose(value, reference[key], rtol=1e-5, atol=1e-6)
        assert not np.array_equal(both[0][0][graph.outputs[0]], X)


def test_two_inputs():
    st.manual_seed(0)
    x, y = X[:, 0, :, :4], X[:, 1, :, 1:]
    layer = nn.Bilinear(4, 5, 3)
    w, b = layer.weight.data, layer.bias.data
    expected = np.einsum("nik,okl,nil->nio", x, w, y) + b
    np.testing.assert_allclose(layer(x, y), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(F.bilinear(x, y, w, b), expected, rtol=1e-4, atol=1e-5)
    a, c = X[:, 0, 0], X[:, 1, 1]
    cosine = (a * c).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(c, axis=1))
    np.testing.assert_allclose(nn.CosineSimilarity()(a, c), cosine, rtol=1e-5)
    apart = np.linalg.norm(a - c + 1e-6, axis=1)
    np.testing.assert_allclose(nn.PairwiseDistance()(a, c), apart, rtol=1e-5)
    assert nn.PairwiseDistance(p=1, keepdim=True)(a, c).shape == (3, 1)


BAD = {
    "no broadcast": (lambda s, x: x + x[:, :2], ShapeError, "sizes that are equal or 1"),
    "ranks": (lambda s, x: x * x.sum(2), ShapeError, "equally many axes"),
    "batch": (lambda s, x: x.sum(0), TraceError, "mix the samples of the batch"),
    "all": (lambda s, x: x.sum(), TraceError, "Name the axes"),
    "max": (lambda s, x: x.max(1).indices + 1, TraceError, r"F.amax\(x, dim\)"),
    "min": (lambda s, x: x.min(), TraceError, "Name the axes"),
    "argmax": (lambda s, x: F.argmax(x, 1), TraceError, "have no gradient"),
    "twice": (lambda s, x: x.mean((1, 1)), ShapeError, "different axes"),
    "axis": (lambda s, x: x.sum(4), ShapeError, "an axis from -4 to 3; got dim=4"),
    "variance of one": (lambda s, x: x[:, :1].var(1), ShapeError, "more than 1 numbers"),
    "norm": (lambda s, x: x.norm(-1, 1), OptionError, "p from 0, inf or -inf"),
    "repeat": (lambda s, x: x.repeat(2, 1, 1, 1), TraceError, "1 for the batch"),
    "expand": (lambda s, x: x.expand(-1, 8, -1, -1), ShapeError, "expand: expected sizes"),
    "unsqueeze": (lambda s, x: x.unsqueeze(0), TraceError, "before the batch"),
    "unflatten": (lambda s, x: x.unflatten(1, (3, 2)), ShapeError, "product is 4"),
    "split": (lambda s, x: x.split((1, 1), 1), ShapeError, "add up to 4"),
    "chunk": (lambda s, x: x.chunk(0, 1), OptionError, "chunks to be a whole number"),
    "stack": (lambda s, x: F.stack([x, x[:, :1]], 1), ShapeError, "tensors of one shape"),
    "einsum": (lambda s, x: F.einsum("n...->n", x), OptionError, "Write every axis out"),
    "einsum batch": (lambda s, x: F.einsum("nchw->chw", x), OptionError, "batch's letter first"),
    "einsum sizes": (
        lambda s, x: F.einsum("nchw,oc->nohw", x, s.matrix),
        ShapeError,
        "one size for the axis 'c'",
    ),
    "matmul": (lambda s, x: x[:, 0, 0] @ x[:, 0, 0], ShapeError, "matrices besides the batch"),
    "roll": (lambda s, x: x.roll(1, (1, 2)), OptionError, "a shift for each axis"),
    "flip": (lambda s, x: x.flip(0), TraceError, "mix the samples"),
    "dropout2d": (lambda s, x: F.dropout2d(x[:, 0]), ShapeError, r"\(n, channels, h, w\)"),
}


@pytest.mark.parametrize("name", BAD)
def test_messages(name):
    function, error, text = BAD[name]
    with pytest.raises(error, match=text):
        Net(function, matrix=MATRIX).to_graph(X.shape[1:])


def test_one_hot_checks_its_numbers():
    assert np.array_equal(F.one_hot(np.array([[1], [0]])), [[[0, 1]], [[1, 0]]])
    with pytest.raises(OptionError, match="array of whole numbers"):
        F.one_hot(np.ones(2))
    with pytest.raises(OptionError, match="from 0 to 1; got 0 to 2"):
        F.one_hot(np.array([0, 2]), 2)


@pytest.mark.peer
def test_reductions_are_torch_s():
    torch = pytest.importorskip("torch")
    hypothesis = pytest.importorskip("hypothesis")
    strategies = hypothesis.strategies
    names = ("sum", "mean", "amax", "amin", "var", "std", "norm", "logsumexp")

    @hypothesis.settings(max_examples=30, deadline=None, derandomize=True)
    @hypothesis.given(
        strategies.sampled_from(names),
        strategies.lists(strategies.integers(1, 5), min_size=1, max_size=4),
        strategies.data(),
    )
    def check(name, sizes, data):
        axes = strategies.lists(
            strategies.integers(1, len(sizes)), min_size=1, unique=True, max_size=len(sizes)
        )
        dim, keepdim = tuple(data.draw(axes)), data.draw(strategies.booleans())
        count = np.prod([sizes[k - 1] for k in dim])
        if name in ("var", "std") and count < 2:
            return
        x = np.random.default_rng(len(sizes)).normal(size=(2, *sizes)).astype(np.float32)
        order = {"norm": (3,)}.get(name, ())
        net = Net(lambda s, t: getattr(t, name)(*order, dim=dim, keepdim=keepdim))
        from striate.program import build_gradient

        graph = net.to_graph(tuple(sizes))
        values, slopes = build_gradient(graph, wanted=["input"]).run(x, {})
        tensor = torch.tensor(x, dtype=torch.float64, requires_grad=True)
        function = torch.linalg.vector_norm if name == "norm" else getattr(torch, name)
        expected = function(tensor, *order, dim=dim, keepdim=keepdim)
        expected.sum().backward()
        close = np.testing.assert_allclose
        close(values[graph.outputs[0]], expected.detach().numpy(), rtol=1e-4, atol=1e-5)
        close(slopes["input"], tensor.grad.numpy(), rtol=1e-3, atol=1e-4)

    check()
