"""Batch norm in networks: modes, running statistics, buffers, files."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.errors import ModelError, OptionError, ShapeError, TraceError
from striate.graph.statistics import buffers
from striate.nn import functional as F

NAMES = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(3, momentum=0.25)
        self.fc = nn.Linear(3, 4)

    def forward(self, x):
        x = F.relu(self.norm(self.conv(x)))
        return self.fc(F.flatten(F.adaptive_avg_pool2d(x, 1), 1))


def images(count=6, shape=(2, 5, 4)):
    return np.random.default_rng(0).normal(1, 2, (count, *shape)).astype(np.float32)


def trained_norm():
    norm = nn.BatchNorm2d(2)
    rng = np.random.default_rng(1)
    for array in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
        array[...] = rng.random(2) + 0.5
    return norm


def test_state_in_torchs_order():
    norm = nn.BatchNorm2d(3)
    assert list(norm.state_dict()) == NAMES
    assert [name for name, _ in norm.named_parameters()] == NAMES[:2]
    assert [name for name, _ in norm.named_buffers()] == NAMES[2:]
    assert norm.num_batches_tracked.dtype == np.int64 and norm.num_batches_tracked.shape == ()
    assert list(Net().state_dict()) == [
        "conv.weight",
        *(f"norm.{name}" for name in NAMES),
        "fc.weight",
        "fc.bias",
    ]
    assert len(list(Net().buffers())) == 3


def test_training_mode_takes_the_statistics_of_the_batch_and_keeps_them():
    norm, x = trained_norm(), images()
    mean, var = norm.running_mean.copy(), norm.running_var.copy()
    y = norm(x)
    w, b = norm.weight.data[:, None, None], norm.bias.data[:, None, None]
    inner = (y - b) / w
    assert np.allclose(inner.mean((0, 2, 3)), 0, atol=1e-5)
    assert np.allclose(inner.var((0, 2, 3)), 1, atol=1e-3)
    assert np.allclose(norm.running_mean, 0.9 * mean + 0.1 * x.mean((0, 2, 3)), rtol=1e-5)
    unbiased = x.transpose(1, 0, 2, 3).reshape(2, -1).var(axis=1, ddof=1)
    assert np.allclose(norm.running_var, 0.9 * var + 0.1 * unbiased, rtol=1e-5)
    assert norm.num_batches_tracked == 1
    norm(x)
    assert norm.num_batches_tracked == 2


def test_evaluation_mode_takes_the_running_statistics_and_keeps_them():
    norm, x = trained_norm().eval(), images()
    before = {name: array.copy() for name, array in norm.state_dict().items()}
    mean, var, w, b = (
        array[:, None, None]
        for array in (norm.running_mean, norm.running_var, norm.weight.data, norm.bias.data)
    )
    assert np.allclose(norm(x), (x - mean) / np.sqrt(var + 1e-5) * w + b, rtol=1e-4, atol=1e-5)
    for name, array in norm.state_dict().items():
        assert np.array_equal(array, before[name])


def test_in_a_network():
    net, x = Net(), images()
    assert buffers(net.to_graph(x.shape[1:])) == ("norm.running_mean", "norm.running_var")
    first = net(x)
    assert net.norm.num_batches_tracked == 1
    assert np.allclose(first, net(x), atol=1e-5)
    assert net.norm.num_batches_tracked == 2
    quiet = net.eval()(x)
    assert not np.allclose(first, quiet, atol=1e-3)
    net.norm.running_mean[...] += 1
    assert not np.allclose(net(x), quiet, atol=1e-3)
    assert net.norm.num_batches_tracked == 2


def test_a_part_in_evaluation_mode_keeps_its_statistics():
    net, x = Net(), images()
    net.norm.eval()
    net(x)
    assert net.norm.num_batches_tracked == 0 and not net.norm.running_mean.any()


def test_fit_keeps_the_running_statistics():
    st.manual_seed(0)
    net, x = Net(), images(24)
    labels = np.arange(24) % 4
    st.fit(net, (x, labels), epochs=2, batch_size=7, progress=False, backend="reference")
    assert net.norm.num_batches_tracked == 8
    assert net.norm.running_mean.any() and (net.norm.running_var != 1).all()
    again = Net()
    again.load_state_dict(net.state_dict())
    assert np.array_equal(again.eval()(x), net(x))


def test_training_goes_on_with_the_same_bits(tmp_path):
    x, labels = images(16), np.arange(16) % 4

    def fit(net, epochs, folder, resume=False):
        options = {"batch_size": 8, "progress": False, "backend": "reference"}
        st.fit(net, (x, labels), epochs=epochs, out=folder, resume=resume, **options)
        return net.state_dict()

    start = Net()
    whole = fit(copy.deepcopy(start), 3, tmp_path / "whole")
    fit(copy.deepcopy(start), 1, tmp_path / "parts")
    parts = fit(copy.deepcopy(start), 3, tmp_path / "parts", resume=True)
    for name, array in whole.items():
        assert np.array_equal(array, parts[name]), name


def test_files_hold_buffers(tmp_path):
    net, x = Net(), images()
    net(x)
    expected = net.eval()(x)
    st.save(net, tmp_path / "net.safetensors")
    loaded = st.load(tmp_path / "net.safetensors")
    assert np.array_equal(loaded(x), expected)
    assert list(loaded.state_dict()) and set(loaded.state_dict()) == set(net.state_dict())
    assert loaded.get_buffer("norm.num_batches_tracked") == 1
    assert [name for name, _ in loaded.named_parameters()] == [
        "conv.weight",
        "norm.weight",
        "norm.bias",
        "fc.weight",
        "fc.bias",
    ]
    trained = loaded.train()(x)
    assert np.allclose(trained, net.train()(x), atol=1e-5)
    assert loaded.get_buffer("norm.num_batches_tracked") == 2
    assert np.allclose(loaded.get_buffer("norm.running_mean"), net.norm.running_mean)


def test_copies_and_pickles_have_their_own_buffers():
    net, x = Net(), images()
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        twin(x)
        assert twin.norm.num_batches_tracked == 1 and twin.norm.running_mean.any()
    assert net.norm.num_batches_tracked == 0 and not net.norm.running_mean.any()


def test_a_state_dict_without_counts_loads():
    net, other = Net(), Net()
    state = {k: v for k, v in net.state_dict().items() if "num_batches" not in k}
    assert other.load_state_dict(state) == ([], [])
    del state["norm.running_var"]
    with pytest.raises(ModelError, match=r"missing: norm.running_var"):
        other.load_state_dict(state)
    with pytest.raises(OptionError, match=r"num_batches_tracked: expected whole numbers; got"):
        other.load_state_dict({"norm.num_batches_tracked": 1.5}, strict=False)


def test_buffers_of_ones_own():
    module = nn.Module()
    module.register_buffer("scale", [1.0, 2.0])
    module.register_buffer("count", 3)
    module.register_buffer("nothing", None)
    assert module.scale.dtype == np.float32 and module.count.dtype == np.int64
    assert module.nothing is None and list(module.state_dict()) == ["scale", "count"]
    assert "scale" in dir(module)
    module.scale = [5.0]
    assert module.state_dict()["scale"].tolist() == [5]
    del module.scale
    assert list(module.state_dict()) == ["count"]
    module.register_buffer("a", [1.0], persistent=False)
    assert list(module.state_dict()) == ["count"] and "a" in dict(module.named_buffers())
    module.a = [2.0]
    assert list(module.state_dict()) == ["count"] and list(module.arrays()) == ["count", "a"]
    with pytest.raises(OptionError, match="expected a name that is free; got 'forward'"):
        module.register_buffer("forward", [1.0])
    with pytest.raises(OptionError, match=r"no buffer 'cout'. Did you mean 'count'\?"):
        module.get_buffer("cout")


def test_a_changed_buffer_is_seen():
    norm, x = nn.BatchNorm2d(2).eval(), images()
    before = norm(x)
    norm.running_mean = np.array([1.0, -1.0])
    shift = before - norm(x)
    assert np.allclose(shift[:, 0], 1, atol=1e-3) and np.allclose(shift[:, 1], -1, atol=1e-3)
    norm.reset_running_stats()
    assert np.allclose(norm(x), before)


def test_shapes_that_do_not_fit():
    with pytest.raises(
        ShapeError, match=r"BatchNorm2d: expected x \(n, c, h, w\); got shape=\(N, 3"
    ):
        nn.BatchNorm2d(3)(np.zeros((2, 3)))
    with pytest.raises(ShapeError, match=r"Make the layer with num_features=2"):
        nn.BatchNorm2d(3)(images())
    with pytest.raises(ShapeError, match=r"one number a channel, shape \(2,\); got shape=\(3,\)"):
        F.batch_norm(images(), np.zeros(3), np.ones(3))
    with pytest.raises(OptionError, match="running_mean and running_var with training=False"):
        F.batch_norm(images(), None, None)


def test_running_statistics_have_to_be_buffers():
    class Wrong(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.bias = nn.Parameter(np.ones(2)), nn.Parameter(np.zeros(2))
            self.mean = np.zeros(2, np.float32)

        def forward(self, x):
            return F.batch_norm(x, self.mean, self.mean, self.weight, self.bias)

    with pytest.raises(TraceError, match=r"running statistics that are no buffers .*register_buf"):
        Wrong()(images())

    class Bare(nn.Module):
        def forward(self, x):
            return F.batch_norm(x, None, None, training=True)

    with pytest.raises(TraceError, match=r"got None for weight, bias, running_mean, running_var"):
        Bare()(images())
