"""Embedding: rows of a table, in networks and on arrays; LeNet-5's own layers."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.errors import DataError, OptionError, ShapeError
from striate.nn import functional as F
from striate.program import build_gradient

NUMBERS = np.random.default_rng(0).integers(0, 7, (5, 4))


class Tokens(nn.Module):
    def __init__(self, padding_idx=None):
        super().__init__()
        self.table = nn.Embedding(7, 3, padding_idx)
        self.fc = nn.Linear(12, 2)

    def forward(self, x):
        return self.fc(self.table(x).flatten(1))


def test_rows_are_looked_up():
    st.manual_seed(0)
    layer = nn.Embedding(7, 3)
    expected = layer.weight.data[NUMBERS]
    for numbers in (NUMBERS, NUMBERS.astype(np.float32), NUMBERS.astype(np.uint8)):
        assert np.array_equal(layer(numbers), expected)
        assert np.array_equal(F.embedding(numbers, layer.weight), expected)
    assert layer(NUMBERS[:0]).shape == (0, 4, 3)
    assert layer(NUMBERS[:, 0]).shape == (5, 3)
    assert nn.Embedding(7, 20)(NUMBERS[:, :, None]).shape == (5, 4, 1, 20)
    assert copy.deepcopy(layer).state_dict()["weight"].shape == (7, 3)
    assert repr(nn.Embedding(7, 3, padding_idx=-1)) == "Embedding(7, 3, padding_idx=6)"


@pytest.mark.parametrize("padding", [None, 2])
def test_gradient_is_the_reference_s(padding):
    st.manual_seed(0)
    net = Tokens(padding)
    graph, x = net.to_graph((4,)), NUMBERS.astype(np.float32)
    wanted = ["table.weight", "fc.weight"]
    both = [
        build_gradient(graph, wanted=wanted, backend=backend).run(x, net.state_dict())
        for backend in ("native", "reference")
    ]
    for native, reference in zip(*both, strict=True):
        for key, value in native.items():
            np.testing.assert_allclose(value, reference[key], rtol=1e-4, atol=1e-5)
    assert np.any(both[0][1]["table.weight"][2]) == (padding is None)


def test_training_natively_is_training_by_the_reference():
    x, labels = NUMBERS.astype(np.float32), np.array([0, 1, 0, 1, 1])
    weights = []
    for backend in ("native", "reference"):
        st.manual_seed(0)
        net = Tokens(padding_idx=2)
        optimizer = st.optim.SGD(lr=0.5)
        st.fit(
            net,
            (x, labels),
            epochs=3,
            batch_size=2,
            optimizer=optimizer,
            backend=backend,
            progress=False,
        )
        weights.append(net.state_dict())
    for name, native in weights[0].items():
        np.testing.assert_allclose(native, weights[1][name], rtol=1e-4, atol=1e-5)
    assert not weights[0]["table.weight"][2].any()


def test_what_counts_no_row():
    net = nn.Sequential(nn.Embedding(3, 2), nn.Identity())
    y = net(np.array([[0.0, 3.0, -1.0, 0.5]]))
    assert np.isnan(y[0, 1:]).all()
    assert not np.isnan(y[0, 0]).any()
    with pytest.raises(DataError, match="from 0 to 2; got 0 to 3"):
        F.embedding(np.array([0, 3]), np.ones((3, 2)))
    with pytest.raises(DataError, match="expected whole numbers"):
        F.embedding(np.array([0.5]), np.ones((3, 2)))


def test_options():
    assert np.array_equal(nn.Embedding(3, 2, 1).weight.data[1], [0, 0])
    table = np.arange(6.0).reshape(3, 2)
    assert np.array_equal(nn.Embedding.from_pretrained(table).weight.data, table)
    with pytest.raises(OptionError, match="freeze=False; got freeze=True"):
        nn.Embedding.from_pretrained(table, freeze=True)
    with pytest.raises(OptionError, match=r"\(num_embeddings, embedding_dim\); got shape"):
        nn.Embedding.from_pretrained(table[0])
    with pytest.raises(OptionError, match=r"max_norm=1\.0 is not supported\. Scale the rows"):
        nn.Embedding(3, 2, max_norm=1.0)
    with pytest.raises(OptionError, match="sparse=True is not supported"):
        F.embedding(np.zeros(1), table, sparse=True)
    with pytest.raises(OptionError, match="padding_idx from -3 to 2; got 3"):
        nn.Embedding(3, 2, 3)
    with pytest.raises(OptionError, match="num_embeddings to be a whole number from 1"):
        nn.Embedding(0, 2)
    with pytest.raises(OptionError, match=r"a weight of shape \(3, 2\); got \(2, 3\)"):
        nn.Embedding(3, 2, _weight=table.T)


@pytest.mark.peer
def test_against_torch():
    torch = pytest.importorskip("torch")
    ours, theirs = nn.Embedding(7, 3, 1), torch.nn.Embedding(7, 3, 1)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert repr(ours) == repr(theirs)
    ours.load_state_dict(theirs.state_dict())
    expected = theirs(torch.tensor(NUMBERS))
    assert np.array_equal(ours(NUMBERS), expected.detach().numpy())
    upstream = np.random.default_rng(0).normal(size=expected.shape).astype(np.float32)
    expected.backward(torch.tensor(upstream))
    graph = ours.to_graph((4,))
    program = build_gradient(graph, wanted=["weight"])
    given = {graph.outputs[0]: upstream}
    _, slopes = program.run(NUMBERS.astype(np.float32), ours.state_dict(), given)
    np.testing.assert_allclose(slopes["weight"], theirs.weight.grad.numpy(), rtol=1e-5, atol=1e-6)


# ---- LeNet-5's own layers --------------------------------------------------------------------


def test_rbf_measures_distances_to_prototypes():
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(6, 5)).astype(np.float32), rng.normal(size=(4, 5)).astype(np.float32)
    expected = ((x[:, None] - w) ** 2).sum(2)
    for fixed in (False, True):
        layer = nn.RBF(5, 4, w, fixed=fixed)
        np.testing.assert_allclose(layer(x), expected, rtol=1e-5)
        assert len(list(layer.parameters())) == 1 - fixed
    np.testing.assert_allclose(F.rbf(x, w), expected, rtol=1e-5)
    assert set(np.unique(nn.RBF(5, 4).weight.data)) == {-1.0, 1.0}
    assert set(np.unique(nn.RBF(5, 4, fixed=True).weight)) == {-1.0, 1.0}
    with pytest.raises(OptionError, match=r"prototypes of shape \(4, 5\); got \(5, 4\)"):
        nn.RBF(5, 4, w.T)
    with pytest.raises(ShapeError, match=r"expected x of shape \(5,\)"):
        nn.RBF(5, 4)(x[:, :3])


def test_fixed_prototypes_stay_and_travel(tmp_path):
    st.manual_seed(0)
    rng = np.random.default_rng(0)
    w, x = np.where(rng.random((3, 4)) < 0.5, -1, 1), rng.normal(size=(20, 6))
    net = nn.Sequential(
        nn.Linear(6, 4), nn.Tanh(), nn.RBF(4, 3, w, fixed=True), nn.Scalar(lambda d: -d)
    )
    st.fit(net, (x.astype(np.float32), rng.integers(0, 3, 20)), epochs=2, progress=False)
    assert np.array_equal(net[2].weight, w)
    st.save(net, tmp_path / "net.safetensors")
    assert np.array_equal(st.load(tmp_path / "net.safetensors")(x), net(x))


def test_subsample_is_pooling_with_two_numbers_a_map():
    st.manual_seed(0)
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 6)).astype(np.float32)
    layer = nn.Subsample(3, 2)
    total = F.avg_pool2d(x[:, :, :4], 2) * 4
    w, b = layer.weight.data[:, None, None], layer.bias.data[:, None, None]
    np.testing.assert_allclose(layer(x), total * w + b, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(F.subsample(x, layer.weight, layer.bias, 2), layer(x))
    with pytest.raises(ShapeError, match="windows that fit the image; got a kernel of 7x2"):
        nn.Subsample(3, (7, 2))(x)
    with pytest.raises(ShapeError, match=r"w expected shape \(3,\)"):
        nn.Subsample(4)(x)
