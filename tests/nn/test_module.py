"""Module: attributes, walking, state, modes, calling."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from striate import nn
from striate.errors import ModelError, OptionError, ShapeError
from striate.nn import functional as F


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.gain = nn.Parameter(np.full((2, 2, 1, 1), 2.0))

    def forward(self, x):
        return F.relu(F.conv2d(self.conv(x), self.gain)) + x


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = Block()
        self.second = Block()
        self.again = self.first
        self.fc = nn.Linear(2 * 4 * 4, 3, bias=False)

    def forward(self, x):
        return self.fc(self.again(self.second(self.first(x))).flatten(1))


def test_names_of_parameters_and_modules():
    net = Net()
    names = [name for name, _ in net.named_parameters()]
    block = ["gain", "conv.weight", "conv.bias"]
    assert names == [f"first.{k}" for k in block] + [f"second.{k}" for k in block] + ["fc.weight"]
    assert len(list(net.parameters())) == 7
    assert [name for name, _ in net.named_children()] == ["first", "second", "fc"]
    assert [path for path, _ in net.named_modules()] == [
        "",
        "first",
        "first.conv",
        "second",
        "second.conv",
        "fc",
    ]
    assert len(list(net.modules())) == 6
    assert net.get_submodule("second.conv") is net.second.conv
    assert net.get_parameter("fc.weight") is net.fc.weight
    assert net.fc.bias is None


def test_unknown_paths_suggest_the_nearest():
    with pytest.raises(OptionError, match=r"no module 'secnd'. Did you mean 'second'\?"):
        Net().get_submodule("secnd")
    with pytest.raises(OptionError, match=r"no parameter 'fc.wight'. Did you mean 'fc.weight'\?"):
        Net().get_parameter("fc.wight")
    with pytest.raises(AttributeError, match="'Net' object has no attribute 'nothing'"):
        _ = Net().nothing


def test_state_dict_is_the_storage_and_names_shared_parameters_twice():
    net = Net()
    state = net.state_dict()
    assert state["again.gain"] is state["first.gain"]
    x = np.ones((1, 2, 4, 4), np.float32)
    before = net(x)
    state["fc.weight"][:] = 0
    assert np.any(before)
    assert not np.any(net(x))


def test_changing_a_parameter_in_place_shows_in_the_next_call():
    layer = nn.Linear(2, 1)
    x = np.array([[1.0, 2.0]])
    layer.weight.data[:] = [[3, 4]]
    layer.bias.data[:] = 5
    assert layer(x) == 16
    layer.weight.data *= 2
    assert layer(x) == 27
    layer.bias.data = [0]
    assert layer(x) == 22


def test_load_state_dict_copies():
    first, second = Net(), Net()
    result = second.load_state_dict(first.state_dict())
    assert result == ([], [])
    for name, array in second.state_dict().items():
        assert np.array_equal(array, first.state_dict()[name])
        assert array is not first.state_dict()[name]


def test_load_state_dict_is_all_or_nothing_and_lists_every_fault():
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    before = {name: array.copy() for name, array in net.state_dict().items()}
    state = {**before, "0.weight": np.ones((3, 2)), "1.weight": np.zeros((2, 3)), "2.bias": [1.0]}
    del state["1.bias"]
    with pytest.raises(ModelError, match=r"1.weight has shape") as caught:
        net.load_state_dict(state)
    text = str(caught.value)
    assert "1.weight has shape (2, 3), the network needs (1, 3)" in text
    assert "missing: 1.bias" in text
    assert "unexpected: 2.bias" in text
    for name, array in net.state_dict().items():
        assert np.array_equal(array, before[name])


def test_load_state_dict_not_strict():
    net = nn.Linear(2, 1)
    result = net.load_state_dict({"weight": np.ones((1, 2)), "more": np.ones(1)}, strict=False)
    assert result.missing_keys == ["bias"]
    assert result.unexpected_keys == ["more"]
    assert np.array_equal(net.weight.data, [[1, 1]])
    with pytest.raises(ModelError, match=r"weight has shape \(2,\), the network needs \(1, 2\)"):
        net.load_state_dict({"weight": np.ones(2)}, strict=False)
    with pytest.raises(OptionError, match="load_state_dict: weight: expected an array of real"):
        net.load_state_dict({"weight": ["a", "b"]}, strict=False)


def test_modes():
    net = Net()
    assert net.training
    assert net.eval() is net
    assert not any(module.training for module in net.modules())
    net.second.train()
    assert net.second.conv.training
    assert not net.training
    with pytest.raises(OptionError, match="train: expected True or False; got mode=1"):
        net.train(1)


def test_apply_visits_every_module_children_first():
    seen = []
    Block().apply(lambda module: seen.append(type(module).__name__))
    assert seen == ["Conv2d", "Block"]


def test_init_has_to_be_called_first():
    class Early(nn.Module):
        def __init__(self):
            self.fc = nn.Linear(1, 1)

    with pytest.raises(OptionError, match=r"Early.fc: expected super\(\).__init__\(\) before"):
        Early()


def test_replacing_layers_and_parameters():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    x = np.ones((1, 2))
    assert net(x).shape == (1, 2)
    net[1] = nn.Linear(2, 5)
    assert net(x).shape == (1, 5)
    net[1].bias = None
    assert "1.bias" not in net.state_dict()
    net[1].weight.data[:] = 0
    assert not net(x).any()
    with pytest.raises(
        OptionError, match=r"Linear.weight: expected a parameter or None; got ndarr"
    ):
        net[1].weight = np.ones((5, 2))
    with pytest.raises(OptionError, match="weight: expected a parameter or None; got list"):
        net[1].weight = [1]
    del net[1].weight
    assert "1.weight" not in net.state_dict()


def test_names_that_modules_have_already_are_refused():
    with pytest.raises(OptionError, match="expected a name that is free; got 'forward'"):
        nn.Module().add_module("forward", nn.ReLU())
    with pytest.raises(OptionError, match=r"expected a name without dots; got 'a.b'"):
        nn.Module().add_module("a.b", nn.ReLU())
    with pytest.raises(OptionError, match="add_module: expected a Module; got type"):
        nn.Module().add_module("a", nn.ReLU)
    with pytest.raises(OptionError, match="expected a Parameter or None; got ndarray"):
        nn.Module().register_parameter("a", np.ones(1))


def test_an_attribute_turns_into_a_module_and_back():
    net = nn.Module()
    net.part = None
    net.part = nn.Linear(1, 1)
    assert list(net.state_dict()) == ["part.weight", "part.bias"]
    net.part = None
    assert net.part is None
    assert not net.state_dict()


def test_any_batch_size_and_dtype():
    layer = nn.Linear(3, 2)
    x = np.arange(12).reshape(4, 3)
    expected = layer(x.astype(np.float32))
    for dtype in (np.uint8, np.int64, np.float64, np.float16):
        assert np.array_equal(layer(x.astype(dtype)), expected)
    assert layer(x.tolist()).dtype == np.float32
    assert layer(np.asfortranarray(x)).shape == (4, 2)
    assert layer(x[:0]).shape == (0, 2)
    assert layer(x[:1]).shape == (1, 2)
    assert nn.Linear(1, 1)(np.array([[True], [False]])).shape == (2, 1)


@pytest.mark.parametrize("bad", [None, "text", [["a"]], [[1j]], object()])
def test_what_is_no_array_of_numbers_is_refused(bad):
    with pytest.raises((OptionError, ShapeError), match="Linear: expected"):
        nn.Linear(1, 1)(bad)


def test_a_number_is_no_batch():
    with pytest.raises(ShapeError, match=r"ReLU: expected a batch \(n, ...\); got a single number"):
        nn.ReLU()(3.0)


def test_any_image_size_that_the_layers_allow():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2))
    assert net(np.zeros((1, 1, 8, 8))).shape == (1, 2, 3, 3)
    assert net(np.zeros((5, 1, 12, 9))).shape == (5, 2, 5, 3)
    assert net.last_input_shape == (1, 12, 9)


def test_a_network_is_traced_once_for_a_shape_and_a_mode():
    calls = []

    class Counts(nn.Module):
        def forward(self, x):
            calls.append(self.training)
            self.seen = len(calls)  # assigning in forward must not make it be traced again
            return x * 2

    net = Counts()
    for _ in range(3):
        net(np.ones((2, 3)))
        net(np.ones((4, 3)))
    assert calls == [True]
    net.eval()(np.ones((2, 3)))
    net(np.ones((2, 5)))
    assert calls == [True, False, False]
    net.train()(np.ones((2, 3)))
    assert len(calls) <= 4


def test_forward_may_choose_by_shape_and_mode():
    class Chooses(nn.Module):
        def forward(self, x):
            if self.training:
                return x * 3
            return x * 2 if x.shape[1] == 4 else x.relu()

    net = Chooses()
    assert np.array_equal(net(np.full((1, 4), -1)), np.full((1, 4), -3))
    net.eval()
    assert np.array_equal(net(np.full((1, 4), -1)), np.full((1, 4), -2))
    assert np.array_equal(net(np.full((1, 5), -1)), np.zeros((1, 5)))


def test_setting_an_attribute_is_seen():
    class Scales(nn.Module):
        def __init__(self):
            super().__init__()
            self.factor = 2.0

        def forward(self, x):
            return x * self.factor

    net = nn.Sequential(Scales())
    assert net(np.ones((1, 1))) == 2
    net[0].factor = 5.0
    assert net(np.ones((1, 1))) == 5


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_are_independent(twin):
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    x = np.ones((1, 2))
    net(x)
    other = twin(net)
    assert np.array_equal(other(x), net(x))
    other[0].weight.data[:] = 0
    other[0].bias.data[:] = 0
    assert not other(x).any()
    assert net[0].weight.data.any()


def test_to_graph_takes_the_shape_of_one_sample():
    graph = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).to_graph((1, 2, 2))
    assert list(graph.nodes) == ["input", "0", "1.weight", "1.bias", "1"]
    assert graph.nodes["1"].shape == (2,)
    assert nn.Linear(4, 2).to_graph(4).outputs == ("linear",)
    with pytest.raises(OptionError, match=r"input_shape: expected the shape of one sample"):
        nn.Linear(4, 2).to_graph((0,))


def test_repr():
    assert repr(Block()).splitlines() == [
        "Block(",
        "  (conv): Conv2d(2, 2, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))",
        ")",
    ]


def test_module_without_forward():
    with pytest.raises(OptionError, match=r"Module: expected a method forward\(self, x\)"):
        nn.Module()(np.zeros((1, 1)))


def test_parameter():
    parameter = nn.Parameter([[1, 2], [3, 4]])
    assert parameter.dtype == np.float32
    assert (parameter.shape, parameter.ndim, parameter.numel()) == ((2, 2), 2, 4)
    assert (parameter.size(0), parameter.size(), parameter.dim(), len(parameter)) == (
        2,
        (2, 2),
        2,
        2,
    )
    assert np.asarray(parameter).sum() == 10
    assert np.array(parameter, copy=True) is not parameter.numpy()
    assert "Parameter containing" in repr(parameter)
    with pytest.raises(ShapeError, match=r"expected shape \(2, 2\); got shape=\(3,\)"):
        parameter.data = [1, 2, 3]
    with pytest.raises(OptionError, match="Frozen parameters are not supported"):
        parameter.requires_grad = False
    with pytest.raises(OptionError, match="Parameter: expected an array of real numbers"):
        nn.Parameter("text")


def test_unknown_layers_suggest_the_nearest():
    with pytest.raises(
        AttributeError, match=r"striate.nn has no 'Conv4d'. Did you mean 'Conv[123]d'\?"
    ):
        _ = nn.Conv4d
