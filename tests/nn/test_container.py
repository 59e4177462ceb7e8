"""Sequential, ModuleList, ModuleDict."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest

from striate import nn
from striate.errors import OptionError


def names(module):
    return list(module.state_dict())


def test_sequential_by_number_and_by_name():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    assert names(net) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    named = nn.Sequential(OrderedDict(hidden=nn.Linear(2, 3), out=nn.Linear(3, 1)))
    assert names(named) == ["hidden.weight", "hidden.bias", "out.weight", "out.bias"]
    assert named.hidden is named[0]
    assert named(np.zeros((4, 2))).shape == (4, 1)
    assert len(net) == 3
    assert [type(m).__name__ for m in net] == ["Linear", "ReLU", "Linear"]
    assert net[-1] is net[2]


def test_sequential_slices_keep_names_and_share_layers():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    tail = net[1:]
    assert names(tail) == ["2.weight", "2.bias"]
    assert tail[1] is net[2]
    assert net[:2](np.zeros((1, 2))).shape == (1, 3)


def test_sequential_changes():
    net = nn.Sequential(nn.Linear(2, 2)).append(nn.ReLU()).extend([nn.Linear(2, 1)])
    net.insert(1, nn.Tanh())
    assert [type(m).__name__ for m in net] == ["Linear", "Tanh", "ReLU", "Linear"]
    del net[1]
    assert names(net) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    with pytest.raises(IndexError, match="Sequential: index 3 of 3 modules"):
        _ = net[3]


def test_empty_sequential_is_the_identity():
    x = np.ones((2, 3), np.float32)
    y = nn.Sequential()(x)
    assert np.array_equal(y, x)
    assert y is not x


def test_what_is_no_module_is_refused():
    with pytest.raises(OptionError, match=r"Sequential: expected modules; got ReLU. Write ReLU\("):
        nn.Sequential(nn.ReLU)
    with pytest.raises(OptionError, match="ModuleList: expected modules; got int"):
        nn.ModuleList([1])
    with pytest.raises(OptionError, match="ModuleDict: expected modules; got function"):
        nn.ModuleDict({"a": names})


def test_module_list():
    layers = nn.ModuleList([nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1)])
    assert names(layers) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert names(layers[1:]) == ["1.weight", "1.bias"]
    with pytest.raises(
        OptionError, match="ModuleList: expected its modules to be called one by one"
    ):
        layers(np.zeros((1, 1)))


def test_module_dict():
    heads = nn.ModuleDict({"digit": nn.Linear(1, 2)})
    heads["sign"] = nn.Linear(1, 1)
    heads.update({"plain": nn.ReLU()})
    assert names(heads) == ["digit.weight", "digit.bias", "sign.weight", "sign.bias"]
    assert (list(heads), len(heads), "sign" in heads) == (["digit", "sign", "plain"], 3, True)
    assert list(heads.keys()) == [key for key, _ in heads.items()]
    assert heads.values()[0] is heads["digit"]
    del heads["plain"]
    with pytest.raises(KeyError, match=r"no module 'sgn'. Did you mean 'sign'\?"):
        _ = heads["sgn"]
    with pytest.raises(OptionError, match="ModuleDict: expected its modules to be called"):
        heads(np.zeros((1, 1)))
