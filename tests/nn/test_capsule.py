"""Capsules: squash, routing by agreement, and that they learn."""

from __future__ import annotations

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.errors import OptionError, ShapeError
from striate.nn import functional as F
from striate.program import build_gradient

RNG = np.random.default_rng(0)
U = RNG.normal(size=(3, 6, 4)).astype(np.float32)  # (n, in_capsules, in_dim)


def squashed(s):
    length = np.sqrt((s * s).sum(-1, keepdims=True))
    return length**2 / (1 + length**2) * (s / np.where(length > 0, length, 1))


def routed(u, w, iterations):
    """Procedure 1 of the paper, written down as it is."""
    votes = np.einsum("nik,ijkd->nijd", u, w)
    b = np.zeros(votes.shape[:3])
    for _ in range(iterations):
        c = np.exp(b) / np.exp(b).sum(2, keepdims=True)
        v = squashed((c[..., None] * votes).sum(1))
        b = b + (votes * v[:, None]).sum(3)
    return v


def test_squash():
    s = RNG.normal(size=(2, 3, 5)) * 10
    for value in (F.squash(s), nn.Sequential(nn.Identity(), Squash())(s)):
        np.testing.assert_allclose(value, squashed(s), rtol=1e-5)
    assert np.linalg.norm(F.squash(s), axis=-1).max() < 1
    assert np.array_equal(F.squash(np.zeros((1, 3))), np.zeros((1, 3)))
    np.testing.assert_allclose(F.squash(s, 1), squashed(s.swapaxes(1, 2)).swapaxes(1, 2), rtol=1e-5)


class Squash(nn.Module):
    def forward(self, x):
        return F.squash(x)


@pytest.mark.parametrize("iterations", [1, 2, 3])
def test_routing_is_the_paper_s(iterations):
    st.manual_seed(0)
    layer = nn.Capsules(6, 3, 4, 5, iterations)
    w = layer.weight.data
    expected = routed(U.astype(np.float64), w.astype(np.float64), iterations)
    np.testing.assert_allclose(layer(U), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(F.capsules(U, w, iterations), expected, rtol=1e-4, atol=1e-6)
    lengths = np.linalg.norm(expected, axis=2)
    np.testing.assert_allclose(F.capsule_lengths(layer(U)), lengths, rtol=1e-4)


def test_votes_that_agree_win():
    """All capsules below vote alike for the first above and at random for the second."""
    rng, votes = np.random.default_rng(1), np.zeros((8, 2, 1, 6))
    votes[:, 0, 0] = [1, 0, 0, 0, 0, 0]
    votes[:, 1, 0] = rng.normal(size=(8, 6))
    votes[:, 1, 0] /= np.linalg.norm(votes[:, 1, 0], axis=1, keepdims=True)
    lengths = [F.capsule_lengths(F.capsules(np.ones((1, 8, 1)), votes, k))[0] for k in (1, 3)]
    assert lengths[1][0] > lengths[0][0]
    assert lengths[1][1] < lengths[0][1]


def test_gradients_through_routing_are_the_reference_s():
    st.manual_seed(0)
    net = nn.Sequential(nn.Capsules(6, 3, 4, 5), nn.Flatten())
    graph = net.to_graph(U.shape[1:])
    wanted = ["input", "0.weight"]
    upstream = {graph.outputs[0]: RNG.normal(size=(3, 15)).astype(np.float32)}
    native, reference = (
        build_gradient(graph, wanted=wanted, backend=k).run(U, net.state_dict(), upstream)[1]
        for k in ("native", "reference")
    )
    for name in wanted:
        np.testing.assert_allclose(native[name], reference[name], rtol=1e-3, atol=1e-5)
        assert np.count_nonzero(native[name]) == native[name].size


@pytest.mark.peer
def test_gradients_through_routing_are_torch_s():
    torch = pytest.importorskip("torch")
    st.manual_seed(0)
    layer = nn.Capsules(6, 3, 4, 5)
    u = torch.tensor(U, dtype=torch.float64, requires_grad=True)
    w = torch.tensor(layer.weight.data, dtype=torch.float64, requires_grad=True)
    votes = torch.einsum("nik,ijkd->nijd", u, w)
    b = torch.zeros(votes.shape[:3], dtype=torch.float64)
    for _ in range(3):
        s = (torch.softmax(b, 2)[..., None] * votes).sum(1)
        squared = s.square().sum(2, keepdim=True)
        v = squared / (1 + squared) * s / squared.sqrt()
        b = b + (votes * v[:, None]).sum(3)
    v.square().sum().backward()
    graph = layer.to_graph(U.shape[1:])
    program = build_gradient(graph, wanted=["input", "weight"])
    upstream = {graph.outputs[0]: 2 * layer(U)}
    _, slopes = program.run(U, layer.state_dict(), upstream)
    np.testing.assert_allclose(slopes["input"], u.grad.numpy(), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(slopes["weight"], w.grad.numpy(), rtol=1e-3, atol=1e-5)


def test_primary_capsules_are_channels_of_a_convolution():
    st.manual_seed(0)
    layer = nn.PrimaryCapsules(2, 3, 4, 3, stride=2)
    x = RNG.normal(size=(2, 2, 7, 9)).astype(np.float32)
    y = layer.conv(x)  # (2, 12, 3, 4)
    capsules = y.reshape(2, 3, 4, 3, 4).transpose(0, 1, 3, 4, 2).reshape(2, 36, 4)
    np.testing.assert_allclose(layer(x), squashed(capsules), rtol=1e-4, atol=1e-6)
    assert layer(x[:0]).shape == (0, 36, 4)
    assert list(layer.state_dict()) == ["conv.weight", "conv.bias"]


class Digits(nn.Module):
    """A small capsule network; the lengths of its capsules are the scores."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 16, 5)
        self.primary = nn.PrimaryCapsules(16, 4, 4, 3, stride=2)
        self.digits = nn.Capsules(4 * 9, 10, 4, 6)

    def forward(self, x):
        y = self.primary(F.relu(self.conv(F.avg_pool2d(x, 2)[:, :, 1:13, 1:13])))
        return 8 * F.capsule_lengths(self.digits(y))


def test_a_capsule_network_learns():
    st.manual_seed(0)
    train, test = st.data.load("digits")
    net = Digits()
    size = net.to_graph(train.images.shape[1:])
    assert size.nodes[size.outputs[0]].shape == (10,)
    st.fit(
        net,
        (train.images[:600], train.labels[:600]),
        epochs=5,
        progress=False,
        optimizer=st.optim.Adam(lr=0.005),
    )
    assert np.mean(net(test.images).argmax(1) == test.labels) > 0.75


BAD = [
    (lambda: nn.Capsules(6, 3, 4, 5, iterations=0), OptionError, "Capsules: expected iterations"),
    (lambda: nn.Capsules(0, 3, 4, 5), OptionError, "Capsules: expected in_capsules"),
    (lambda: nn.PrimaryCapsules(2, 0, 4, 3), OptionError, "PrimaryCapsules: expected capsules"),
    (lambda: nn.Capsules(5, 3, 4, 5)(U), ShapeError, r"capsules \(n, in_capsules, in_dim\)"),
    (lambda: F.capsules(U, np.ones((6, 3, 4))), ShapeError, r"and a weight \(in_capsules"),
]


@pytest.mark.parametrize("k", range(len(BAD)))
def test_messages(k):
    call, error, text = BAD[k]
    with pytest.raises(error, match=text):
        call()
