"""LeNet-5: its size, its shapes, its names."""

from __future__ import annotations

import numpy as np
import pytest

from striate import models
from striate.errors import OptionError, ShapeError


def test_parameters_and_names():
    net = models.LeNet5()
    assert sum(p.numel() for p in net.parameters()) == 61_706
    shapes = {name: array.shape for name, array in net.state_dict().items()}
    assert shapes == {
        "conv1.weight": (6, 1, 5, 5),
        "conv1.bias": (6,),
        "conv2.weight": (16, 6, 5, 5),
        "conv2.bias": (16,),
        "fc1.weight": (120, 400),
        "fc1.bias": (120,),
        "fc2.weight": (84, 120),
        "fc2.bias": (84,),
        "fc3.weight": (10, 84),
        "fc3.bias": (10,),
    }


def test_shapes_of_every_layer():
    graph = models.lenet5().to_graph((1, 28, 28))
    assert [(n.name, n.shape) for n in graph.steps] == [
        ("conv1", (6, 28, 28)),
        ("relu1", (6, 28, 28)),
        ("pool1", (6, 14, 14)),
        ("conv2", (16, 10, 10)),
        ("relu2", (16, 10, 10)),
        ("pool2", (16, 5, 5)),
        ("flatten", (400,)),
        ("fc1", (120,)),
        ("relu3", (120,)),
        ("fc2", (84,)),
        ("relu4", (84,)),
        ("fc3", (10,)),
    ]


def test_it_computes():
    y = models.lenet5(num_classes=7, in_channels=3)(np.ones((2, 3, 28, 28), np.uint8))
    assert y.shape == (2, 7)
    assert np.array_equal(y[0], y[1])
    with pytest.raises(ShapeError, match=r"^fc1: "):
        models.lenet5()(np.zeros((1, 1, 32, 32)))


def test_by_name():
    assert isinstance(models.build("lenet5", num_classes=3), models.LeNet5)
    with pytest.raises(OptionError, match=r"unknown network 'lenet'. Did you mean 'lenet5'\?"):
        models.build("lenet")
