"""What a traced forward turns into: the graph's nodes, names and values."""

from __future__ import annotations

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.errors import OptionError, ShapeError, TraceError
from striate.nn import functional as F
from striate.nn import scalar


def test_the_mean_of_images():
    class Mean(nn.Module):
        def __init__(self, *arguments):
            super().__init__()
            self.arguments = arguments

        def forward(self, x):
            return x.mean(*self.arguments)

    for arguments, shape in (((((2, 3)),), (4,)), (([-1, -2], True), (4, 1, 1))):
        graph = Mean(*arguments).to_graph((4, 3, 5))
        assert graph.nodes[graph.outputs[0]].shape == shape
        assert graph.steps[0].op == "adaptive_avg_pool2d"
    for wrong in ((0,), ((0, 1),), ()):
        with pytest.raises(TraceError, match=r"mean .* would mix the samples of the batch"):
            Mean(*wrong).to_graph((4, 3, 5))


def net_of(function, **layers):
    """A network with these layers and a forward of `function(self, x)`."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            for name, layer in layers.items():
                setattr(self, name, layer)

        def forward(self, x):
            return function(self, x)

    return Net()


def steps(net, shape):
    return [(n.name, n.op) for n in net.to_graph(shape).steps]


def test_layers_are_named_by_their_path_and_functions_by_what_they_do():
    class Inner(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3)

        def forward(self, x):
            return F.relu(F.relu(self.conv(x)) * 2)

    net = nn.Sequential(Inner(), nn.ReLU())
    assert steps(net, (1, 5, 5)) == [
        ("0.conv", "conv2d"),
        ("0.relu", "map"),
        ("0.mul", "map"),
        ("0.relu_1", "map"),
        ("1", "map"),
    ]
    assert [n.name for n in net.to_graph((1, 5, 5)).parameters] == ["0.conv.weight", "0.conv.bias"]


def test_functions_at_the_root():
    net = net_of(lambda self, x: F.relu(F.relu(x) + x))
    assert [name for name, _ in steps(net, (3,))] == ["relu", "add", "relu_1"]


def test_a_layer_used_twice_shares_its_parameters():
    net = net_of(lambda self, x: self.fc(self.fc(x)), fc=nn.Linear(2, 2))
    graph = net.to_graph((2,))
    assert [n.name for n in graph.steps] == ["fc", "fc_1"]
    assert [n.name for n in graph.parameters] == ["fc.weight", "fc.bias"]
    w, b = net.fc.weight.data.astype(float), net.fc.bias.data.astype(float)
    x = np.array([[1.0, 2.0]])
    np.testing.assert_allclose(net(x), (x @ w.T + b) @ w.T + b, rtol=1e-5)


def test_node_names_never_take_the_name_of_a_parameter_or_of_the_input():
    net = net_of(lambda self, x: self.input(F.linear(x, self.relu)).relu())
    net.input, net.relu = nn.ReLU(), nn.Parameter(np.eye(2))
    graph = net.to_graph((2,))
    assert [n.name for n in graph.nodes.values()] == [
        "input",
        "relu",
        "linear",
        "input_1",
        "relu_1",
    ]


def test_branches_additions_concatenation_and_reshape():
    def forward(self, x):
        left, right = self.left(x), self.right(x)
        y = F.cat((left + right, left - 2 * right, x), dim=1)
        y = y.view(y.size(0), -1)
        return y.reshape(x.shape[0], 5, 16).flatten(1)

    net = net_of(forward, left=nn.Conv2d(1, 2, 3, padding=1), right=nn.Conv2d(1, 2, 1))
    x = np.random.default_rng(0).normal(size=(3, 1, 4, 4))
    left, right = net.left(x), net.right(x)
    expected = np.concatenate([left + right, left - 2 * right, x], axis=1).reshape(3, 80)
    np.testing.assert_allclose(net(x), expected, rtol=1e-5, atol=1e-6)


OPERATORS = [
    (lambda x: x + 1, lambda x: x + 1),
    (lambda x: 1 - x, lambda x: 1 - x),
    (lambda x: x * 2.5, lambda x: x * 2.5),
    (lambda x: 1 / x, lambda x: 1 / x),
    (lambda x: x / 2, lambda x: x / 2),
    (lambda x: -x, lambda x: -x),
    (abs, abs),
    (lambda x: x**2, lambda x: x**2),
    (lambda x: x.pow(3), lambda x: x**3),
    (lambda x: x - x * x, lambda x: x - x * x),
    (lambda x: x / (x + 5), lambda x: x / (x + 5)),
    (lambda x: np.float32(2) * x, lambda x: 2 * x),
    (lambda x: np.add(x, 1), lambda x: x + 1),
    (lambda x: x + np.array(1.5), lambda x: x + 1.5),
    (lambda x: x.abs().sqrt(), lambda x: np.sqrt(abs(x))),
    (lambda x: x.abs().log(), lambda x: np.log(abs(x))),
    (lambda x: x.exp(), np.exp),
    (lambda x: x.tanh(), np.tanh),
    (lambda x: x.sigmoid(), lambda x: 1 / (1 + np.exp(-x))),
    (lambda x: x.relu().float().contiguous().clone(), lambda x: np.maximum(x, 0)),
    (lambda x: x.add(1).mul(2).sub(3).div(4).neg(), lambda x: -((x + 1) * 2 - 3) / 4),
]


@pytest.mark.parametrize("k", range(len(OPERATORS)))
def test_operators_and_methods(k):
    traced, direct = OPERATORS[k]
    x = np.array([[-2.0, -0.5, 0.25, 3.0]])
    np.testing.assert_allclose(
        net_of(lambda self, x: traced(x))(x), direct(x), rtol=2e-6, atol=1e-6
    )


def test_augmented_assignment_binds_a_new_tensor():
    def forward(self, x):
        y = x
        y += 1
        return y * x

    assert np.array_equal(net_of(forward)(np.array([[3.0]])), [[12.0]])


INDICES = [
    np.s_[:, 1:3],
    np.s_[:, :, 1:-1],
    np.s_[..., 2],
    np.s_[:, 0],
    np.s_[:, -1, 1:, ::1],
    np.s_[:, 1, 2, 3],
    np.s_[:],
    np.s_[...],
]


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_indexing(index):
    x = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    assert np.array_equal(net_of(lambda self, x: x[index])(x), x[index])


@pytest.mark.parametrize("shape", [(3, 4), (-1,), (4, -1), (2, 6)])
def test_views(shape):
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    net = net_of(lambda self, x: x.view(x.shape[0], *shape))
    assert np.array_equal(net(x), x.reshape(2, *shape))
    assert np.array_equal(net_of(lambda self, x: x.view((x.size(0), 12)))(x), x.reshape(2, 12))
    assert np.array_equal(net_of(lambda self, x: x.reshape(-1, 12))(x), x.reshape(2, 12))


@pytest.mark.parametrize(("start", "end"), [(1, -1), (1, 2), (2, 3), (-2, -1), (2, 2)])
def test_flatten(start, end):
    x = np.arange(120, dtype=np.float32).reshape(2, 3, 4, 5)
    expected = F.flatten(x, start, end)
    assert np.array_equal(net_of(lambda self, x: x.flatten(start, end))(x), expected)
    assert np.array_equal(nn.Flatten(start, end)(x), expected)


def test_the_shape_knows_its_batch():
    seen = []

    def forward(self, x):
        seen.extend([x.shape, x.size(), x.shape == x.shape, x.dim(), x.ndim, x.size(-1), x.dtype])
        return x

    net_of(forward)(np.zeros((2, 3, 4)))
    assert repr(seen[0]) == repr(seen[1]) == "(N, 3, 4)"
    assert seen[2:] == [True, 3, 3, 4, np.float32]


def test_in_place_relu_changes_its_argument_as_in_torch():
    def forward(self, x):
        y = x * 1
        self.relu(y)
        return y

    net = net_of(forward, relu=nn.ReLU(inplace=True))
    assert np.array_equal(net(np.array([[-1.0, 2.0]])), [[0, 2]])
    x = np.array([[-1.0, 2.0]], np.float32)
    nn.ReLU(inplace=True)(x)
    assert np.array_equal(x, [[-1, 2]])  # a call of a network leaves its input alone


def test_work_without_an_effect_is_left_out():
    net = net_of(lambda self, x: (self.unused(x), x * 2)[1], unused=nn.Linear(2, 2))
    graph = net.to_graph((2,))
    assert [n.name for n in graph.nodes.values()] == ["input", "mul"]


def test_scalar_of_several_tensors():
    net = net_of(lambda self, x: F.scalar(lambda a, b: scalar.maximum(a, b) * a, x, -x))
    x = np.array([[-2.0, 3.0]])
    assert np.array_equal(net(x), [[-4.0, 9.0]])


def test_keyword_arguments_and_lists_of_tensors():
    class Joins(nn.Module):
        def forward(self, parts, *, factor):
            return F.cat(parts, dim=1) * factor

    net = net_of(lambda self, x: self.joins([x, x], factor=2), joins=Joins())
    assert np.array_equal(net(np.array([[1.0]])), [[2.0, 2.0]])


def test_a_network_called_on_arrays_inside_forward_computes_them():
    net = net_of(lambda self, x: x * float(self.fc(np.ones((1, 1)))[0, 0]), fc=nn.Linear(1, 1))
    net.fc.weight.data[:], net.fc.bias.data[:] = 2, 1
    assert net(np.array([[5.0]])) == 15


def test_module_list_in_forward():
    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.heads["a"](x)

    layers = nn.ModuleList([nn.Linear(2, 3), nn.Linear(3, 4)])
    net = net_of(forward, layers=layers, heads=nn.ModuleDict({"a": nn.Linear(4, 1)}))
    assert [name for name, _ in steps(net, (2,))] == ["layers.0", "layers.1", "heads.a"]


class _Gated(nn.Module):
    """Two inputs of different shapes."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, padding=1)
        self.fc = nn.Linear(4, 75)

    def forward(self, x, y):
        return F.relu(self.conv(x)) * self.fc(y).reshape(-1, 3, 5, 5)


def test_a_network_with_two_inputs(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(3, 2, 5, 5)), rng.normal(size=(3, 4))
    net = _Gated()
    expected = F.relu(net.conv(x)) * net.fc(y).reshape(-1, 3, 5, 5)
    assert np.allclose(net(x, y), expected, atol=1e-6)
    assert net(x[:0], y[:0]).shape == (0, 3, 5, 5)
    assert np.allclose(st.freeze(net)(x, y), expected, atol=1e-6)
    assert np.allclose(nn.Sequential(nn.Flatten())(net(x, y)).shape, (3, 75))
    assert net.last_input_shape == ((2, 5, 5), (4,))
    graph = net.to_graph([(2, 5, 5), (4,)])
    assert [node.name for node in graph.inputs] == ["input", "input_1"]
    st.save(net, tmp_path / "two.safetensors")
    loaded = st.load(tmp_path / "two.safetensors")
    assert loaded.input_shape == ((2, 5, 5), (4,))
    assert np.array_equal(loaded(x, y), net(x, y))
    net.train()
    assert np.allclose(net(x, y), expected, atol=1e-6)


def test_a_wrong_number_of_inputs():
    net, x = _Gated(), np.zeros((3, 2, 5, 5))
    with pytest.raises(OptionError, match=r"_Gated: .* argument of forward\(x, y\); got 1"):
        net(x)
    with pytest.raises(OptionError, match=r"argument of forward\(x, y\); got 1"):
        st.summary(net, (2, 5, 5))
    with pytest.raises(
        ShapeError, match=r"same number of samples; got shapes \(3, 2, 5, 5\), \(2,"
    ):
        net(x, np.zeros((2, 4)))
    with pytest.raises(OptionError, match=r"argument of forward\(x, y\); got 1"):
        st.fit(net, (np.zeros((4, 2, 5, 5), np.float32), np.zeros(4, np.int64)), epochs=1)
