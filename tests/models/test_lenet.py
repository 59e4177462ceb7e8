"""LeNet-5, modern and as published: sizes, shapes, names, arithmetic; and that it learns."""

from __future__ import annotations

import numpy as np
import pytest

import striate as st
from striate import models, nn
from striate.errors import OptionError, ShapeError
from striate.models.lenet_1998 import CONNECTIONS, MappedConv2d, digit_pictures
from striate.nn import functional as F


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


# ---- as published ----------------------------------------------------------------------------

PUBLISHED = {"c1": 156, "s2": 12, "c3": 1516, "s4": 32, "c5": 48120, "f6": 10164, "output": 0}


def test_parameters_of_every_layer_as_published():
    net = models.lenet5_1998()
    found = {name: sum(p.numel() for p in getattr(net, name).parameters()) for name in PUBLISHED}
    assert found == PUBLISHED
    assert sum(p.numel() for p in net.parameters()) == sum(PUBLISHED.values()) == 60_000
    assert st.summary(net.eval(), (1, 32, 32)).parameters == 60_000


def test_the_connection_table():
    """60 kernels: six maps that read three, nine that read four, one that reads all."""
    assert [len(maps) for maps in CONNECTIONS] == [3] * 6 + [4] * 9 + [6]
    assert sum(map(len, CONNECTIONS)) == 60
    assert [sum(k in maps for maps in CONNECTIONS) for k in range(6)] == [10] * 6
    assert len(set(CONNECTIONS)) == 16


def test_a_mapped_convolution_is_one_with_most_kernels_zero():
    rng = np.random.default_rng(0)
    layer = MappedConv2d(CONNECTIONS, 5)
    weight, bias, row = np.zeros((16, 6, 5, 5), np.float32), np.zeros(16, np.float32), 0
    for conv in layer.convs.values():
        conv.weight.data[...] = rng.integers(-3, 4, conv.weight.shape)
        conv.bias.data[...] = rng.integers(-3, 4, conv.bias.shape)
        for kernels, offset in zip(conv.weight.data, conv.bias.data, strict=True):
            weight[row, list(CONNECTIONS[row])], bias[row] = kernels, offset
            row += 1
    x = rng.integers(-3, 4, (2, 6, 14, 14)).astype(np.float32)
    assert np.array_equal(layer(x), F.conv2d(x, weight, bias))
    for wrong in ([], [(0, 1), (2,)], [()]):
        with pytest.raises(OptionError, match=r"MappedConv2d: expected maps that read rising"):
            MappedConv2d(wrong, 5)


def test_scores_are_negated_distances_to_the_pictures():
    st.manual_seed(0)
    net = models.lenet5_1998().eval()
    x = np.random.default_rng(0).uniform(0, 1, (3, 1, 32, 32)).astype(np.float32)
    names = ("c1", "squash", "s2", "squash_1", "squash_5")
    values = net.program((1, 32, 32)).values(x, net.graph_arrays(net.to_graph((1, 32, 32))), names)
    f6, pictures = values["squash_5"].astype(np.float64), digit_pictures().reshape(10, 84)
    expected = -((f6[:, None] - pictures) ** 2).sum(2)
    assert np.abs(net(x) - expected).max() < 1e-3
    scaled = 1.7159 * np.tanh(2 / 3 * values["c1"].astype(np.float64))
    assert np.abs(values["squash"] - scaled).max() < 1e-5
    sums = values["squash"].reshape(3, 6, 14, 2, 14, 2).sum((3, 5))
    s2 = sums * net.s2.weight.data[:, None, None] + net.s2.bias.data[:, None, None]
    assert np.abs(values["s2"] - s2).max() < 1e-4
    assert len({p.tobytes() for p in pictures}) == 10 and set(pictures.ravel()) == {-1.0, 1.0}


def test_small_images_get_a_border_and_the_papers_range():
    st.manual_seed(0)
    net = models.lenet5_1998().eval()
    x = np.random.default_rng(0).uniform(0, 1, (2, 1, 28, 28)).astype(np.float32)
    framed = np.pad(x, [(0, 0), (0, 0), (2, 2), (2, 2)])
    assert np.array_equal(net(x), net(framed))
    plain = models.LeNet1998(transform_input=False).eval()
    plain.load_state_dict(net.state_dict())
    assert np.abs(plain(framed * np.float32(1.275) - np.float32(0.1)) - net(framed)).max() < 1e-3
    with pytest.raises(ShapeError, match="c5"):
        plain(x)


def test_in_training_a_constant_stands_behind_the_scores():
    net = models.LeNet1998(rubbish=4.0)
    graph = net.train().to_graph((1, 28, 28))
    assert graph.nodes[graph.outputs[0]].shape == (11,)
    x = np.ones((2, 1, 28, 28), np.float32)
    assert net(x)[:, 10].tolist() == [-4.0, -4.0]
    assert np.array_equal(net(x)[:, :10], net.eval()(x))
    with pytest.raises(OptionError, match=r"LeNet1998: expected rubbish above 0; got rubbish=0"):
        models.LeNet1998(rubbish=0)
    assert set(np.unique(models.LeNet1998(num_classes=4).output.weight)) == {-1.0, 1.0}


def test_a_few_steps_of_its_training():
    train, _ = st.data.load("digits")
    st.manual_seed(0)
    net = models.lenet5_1998()
    few = (train.images[:480], train.labels[:480])
    optimizer = st.optim.Adam(lr=3e-3)
    run = st.fit(net, few, epochs=3, batch_size=32, optimizer=optimizer, progress=False)
    losses = [record["loss"] for record in run.history]
    assert losses[2] < losses[1] < losses[0] and losses[2] < 0.7 * losses[0]
    assert isinstance(net.output, nn.RBF)
    assert np.array_equal(net.output.weight, digit_pictures().reshape(10, 84))
