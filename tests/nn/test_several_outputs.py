"""Networks that return several tensors: called, frozen, saved, exported, trained by their heads."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.errors import OptionError, TraceError
from striate.nn import functional as F

X = np.random.default_rng(4).normal(size=(5, 1, 6, 6)).astype(np.float32)


class Answers(NamedTuple):
    logits: Any
    aux: Any


class Heads(nn.Module):
    """Features, and two heads; how they are returned is a function of all three."""

    def __init__(self, pack=lambda main, side, features: (main, side)):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.main, self.side = nn.Linear(64, 3), nn.Linear(64, 3)
        self.pack = pack

    def forward(self, x):
        features = F.relu(self.conv(x))
        flat = features.flatten(1)
        return self.pack(self.main(flat), self.side(flat), features)


def made(pack=lambda main, side, features: (main, side)):
    st.manual_seed(1)
    return Heads(pack).eval()


def parts(net, x=X):
    features = np.maximum(net.conv(x), 0)
    flat = features.reshape(len(x), -1)
    return net.main(flat), net.side(flat), features


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_what_forward_returns_comes_back(backend, monkeypatch):
    monkeypatch.setenv("STRIATE_BACKEND", backend)
    pack = lambda main, side, features: OrderedDict(  # noqa: E731
        out=main, more=[side, {"features": features}, None], same=main
    )
    net = made(pack)
    found = net(X)
    assert list(found) == ["out", "more", "same"] and isinstance(found, OrderedDict)
    assert found["more"][2] is None
    main, side, features = parts(net)
    np.testing.assert_allclose(found["out"], main, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["more"][0], side, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["more"][1]["features"], features, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found["same"], found["out"])
    empty = net(X[:0])
    assert empty["out"].shape == (0, 3) and empty["more"][1]["features"].shape == (0, 4, 4, 4)


def test_a_named_tuple_and_other_batches():
    net = made(lambda main, side, features: Answers(main, side))
    for count in (1, 5, 40):
        x = np.repeat(X, 8, axis=0)[:count]
        found = net(x)
        assert isinstance(found, Answers)
        np.testing.assert_allclose(found.aux, parts(net, x)[1], rtol=1e-5, atol=1e-6)


def test_an_input_may_be_one_of_them():
    class Both(nn.Module):
        def forward(self, x):
            return x, x * 2

    same, twice = Both()(X)
    np.testing.assert_array_equal(same, X)
    np.testing.assert_array_equal(twice, 2 * X)
    same[...] = 0
    st.freeze(Both())(X)[0][...] = 0
    assert X.any()


def test_in_training_each_call_drops():
    class Dropped(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.drop = nn.BatchNorm2d(1), nn.Dropout(0.5)

        def forward(self, x):
            y = self.norm(x)
            return y, self.drop(y)

    net = Dropped()
    y, dropped = net(X)
    kept = dropped != 0
    assert 0.3 < kept.mean() < 0.7
    np.testing.assert_allclose(dropped[kept], 2 * y[kept], rtol=1e-6)
    assert net.norm.num_batches_tracked == 1


def test_frozen_and_saved(tmp_path):
    net = made(lambda main, side, features: Answers(main, side))
    want = net(X)
    frozen = st.freeze(net)(X)
    assert isinstance(frozen, Answers)
    st.save(net, tmp_path / "net.safetensors", input_shape=(1, 6, 6))
    again = st.load(tmp_path / "net.safetensors")(X)
    assert type(again) is tuple  # the file keeps the order, not the names
    for a, b, c in zip(want, frozen, again, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)


def test_any_number_of_them_is_explained():
    net = made(lambda main, side, features: {"scores": main, "features": features})
    assert st.explain(net, X, "main", (1,)).agrees
    assert st.explain(net, X, "relu", (0, 1, 1)).agrees
    assert st.summary(net, (1, 6, 6)).parameters == 40 + 195  # side is not computed
    assert [row.name for row in st.summary(net, (1, 6, 6)).rows][-1] == "main"


def test_the_heads_learn_without_being_stacked():
    """What `models.WithHeads` stacks may also be returned as it is."""

    class Stacked(Heads):
        def forward(self, x):
            found = super().forward(x)
            return F.stack(found, dim=2) if self.training else found[0]

    class Returned(Heads):
        def forward(self, x):
            found = super().forward(x)
            return Answers(*found) if self.training else found[0]

    labels, weights = np.array([0, 1, 2, 0, 1]), []
    for kind in (Stacked, Returned):
        st.manual_seed(1)
        net = kind()
        st.fit(
            net, (X, labels), loss=nn.DeepSupervisionLoss((1, 0.3)), epochs=2, batch_size=5,
            validation=(X, labels), progress=False,
        )  # fmt: skip
        weights.append(net.state_dict())
    for name, array in weights[0].items():
        np.testing.assert_array_equal(array, weights[1][name])


def test_what_takes_one_tensor_says_so():
    net = made(lambda main, side, features: (main, features))
    labels = np.array([0, 1, 2, 0, 1])
    with pytest.raises(OptionError, match=r"training: expected a network that gives one tensor; g"):
        st.fit(net, (X, labels), epochs=1, progress=False)
    with pytest.raises(OptionError, match=r"gradient: .* gives one tensor; got 2: main, relu"):
        st.gradient(net, X)
    with pytest.raises(OptionError, match=r"network: expected a network that gives one tensor"):
        st.train.evaluate(net, (X, labels))
    net = Heads(lambda main, side, features: (main, features) if net.training else main)
    with pytest.raises(OptionError, match=r"each \(n, classes\); got main \('n', 3\), relu \('n'"):
        st.fit(net, (X, labels), epochs=1, progress=False)


@pytest.mark.parametrize("result", [3, (), [None], "x", {"a": 1.5}])
def test_what_is_no_tensor_is_refused(result):
    net = made(lambda main, side, features: result)
    with pytest.raises(TraceError, match=r"expected it to return a tensor .* in a tuple, list or"):
        net(X)
