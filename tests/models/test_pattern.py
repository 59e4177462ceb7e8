"""Networks from one line of text: what the words make, and what is said of wrong ones."""

from __future__ import annotations

import numpy as np
import pytest

import striate as st
from striate import models, nn
from striate.errors import OptionError


def made(text: str, shape: tuple[int, ...] = (3, 32, 32), **options) -> models.PatternNet:
    return models.from_pattern(text, input=shape, **{"classes": 10, "width": 4, **options})


def kinds(net: models.PatternNet) -> str:
    return "-".join(name.rstrip("0123456789") for name, _ in net.named_children())


def test_the_pattern_of_the_textbooks():
    text = "[(conv-relu)*N-pool?]*M-(fc-relu)*K-softmax"
    net = made(text, N=2, M=3, K=1, width=16)
    stage = "conv-relu-conv-relu-pool"
    assert kinds(net) == f"{stage}-{stage}-{stage}-flatten-fc-relu-fc"
    convs = [layer for layer in net if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in convs] == [16, 16, 32, 32, 64, 64]
    assert all(layer.kernel_size == (3, 3) and layer.padding == (1, 1) for layer in convs)
    assert [(k.in_features, k.out_features) for k in net if isinstance(k, nn.Linear)] == [
        (1024, 256),
        (256, 10),
    ]
    assert net.pattern == text and net.input_shape == (3, 32, 32)
    assert st.summary(net).parameters == sum(p.numel() for p in net.parameters())
    assert net(np.ones((2, 3, 32, 32))).shape == (2, 10)


def test_options_of_a_word():
    net = made(
        "conv5x6s2p1-maxpool3s2p1-CONV x 2".replace(" ", "") + "-avgpool-fc7-tanh", (1, 30, 31)
    )
    first, pool, second = net[0], net[1], net[2]
    assert repr(first) == repr(nn.Conv2d(1, 6, 5, stride=2, padding=1))
    assert repr(pool) == repr(nn.MaxPool2d(3, 2, 1))
    assert repr(second) == repr(nn.Conv2d(6, 2, 3, padding=1))
    assert isinstance(net[3], nn.AvgPool2d)
    assert net[-2].out_features == 7 and isinstance(net[-1], nn.Tanh)
    grouped = made("conv3x6d2g3-lrn-bn-dropout.25-dropout-gap", (3, 9, 9))
    assert repr(grouped[0]) == repr(nn.Conv2d(3, 6, 3, padding=2, dilation=2, groups=3))
    assert [k.p for k in grouped if isinstance(k, nn.Dropout)] == [0.25, 0.5]
    assert grouped(np.ones((2, 3, 9, 9))).shape == (2, 6)


def test_every_activation_makes_a_network():
    words = [w for w, options in models.pattern._OPTIONS.items() if options == ""]
    words = [w for w in words if w in models.pattern._ACTIVATIONS]
    assert len(words) == len(models.pattern._ACTIVATIONS) == 13
    net = made("conv-" + "-".join(words) + "-softmax", (1, 4, 4))
    assert kinds(net) == "-".join(["conv", *words, "flatten", "fc"]).replace("relu6", "relu")


def test_softmax_takes_the_layer_right_before_it():
    assert kinds(made("conv-fc-softmax")) == kinds(made("conv-fc10-softmax")) == "conv-flatten-fc"
    assert made("conv-fc-softmax")[-1].out_features == 10
    assert kinds(made("conv-fc10-relu-softmax")) == "conv-flatten-fc-relu-fc"
    assert kinds(made("conv-fc*2-softmax")) == "conv-flatten-fc-fc"


def test_optional_parts_are_left_out_where_the_image_is_too_small():
    assert kinds(made("[conv-pool?]*5-gap", (1, 9, 9))) == "-".join(
        ["conv-pool"] * 3 + ["conv"] * 2 + ["gap-flatten"]
    )
    whole = made("(conv3p0-relu)?*9-gap", (1, 7, 7))
    assert kinds(whole) == "conv-relu-conv-relu-conv-relu-gap-flatten"
    assert [name for name, _ in whole.named_children()][-2:] == ["gap1", "flatten1"]
    half = made("(conv-conv9p0)?-conv", (1, 7, 7))  # the whole of it goes
    assert [name for name, _ in half.named_children()] == ["conv1"]


def test_widths_by_level():
    net = made("[conv-pool]*4-gap", width=[5, 8])
    assert [k.out_channels for k in net if isinstance(k, nn.Conv2d)] == [5, 8, 8, 8]
    assert kinds(made("conv*0-conv->relu → gap")) == "conv-relu-gap-flatten"


def test_sequences_and_volumes():
    assert made("[conv-bn-relu-pool]*2-softmax", (2, 20))(np.ones((3, 2, 20))).shape == (3, 10)
    volume = made("conv3x2-relu-avgpool-softmax", (1, 4, 4, 4))
    assert isinstance(volume[0], nn.Conv3d)
    assert volume(np.ones((1, 1, 4, 4, 4))).shape == (1, 10)


def test_the_small_stack():
    """n⁰ = 39; (window, stride, filters) = (3, 1, 10), (5, 2, 20), (5, 2, 40)."""
    graph = models.build("small_stack").to_graph((3, 39, 39))
    shapes = [node.shape for node in graph.steps if node.op == "conv2d"]
    assert shapes == [(10, 37, 37), (20, 17, 17), (40, 7, 7)]
    assert graph.nodes["flatten1"].shape == (1960,)
    assert st.summary(graph).parameters == 280 + 5_020 + 20_040 + 19_610


def test_it_learns():
    st.manual_seed(0)
    net = made("[conv-bn-relu-pool]*2-softmax", (1, 28, 28))
    train, _ = st.data.load("digits")
    run = st.fit(net, (train.images[:640], train.labels[:640]), epochs=2, progress=False)
    assert run.history[-1]["loss"] < 0.8 * run.history[0]["loss"]


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("", 1, "a layer or a bracket at column 1; got the end"),
        ("conv-", 6, "a layer or a bracket at column 6; got the end"),
        ("(conv-relu", 11, r"'-' or the '\)' of column 1 at column 11; got the end"),
        ("conv-relu)*2", 10, r"'-' or the end at column 10; got '\)'"),
        ("[conv)*2", 6, r"'-' or the '\]' of column 1 at column 6; got '\)'"),
        ("conv relu", 6, "'-' or the end at column 6; got 'relu'"),
        ("conv-relou", 6, r"a layer at column 6; got 'relou'. Did you mean 'relu'\?"),
        ("conv-conv5y", 6, "conv, conv5, conv5x64 or conv5x64s2p0 at column 6; got 'conv5y'"),
        ("conv-relu3", 6, "relu without options at column 6; got 'relu3'"),
        ("conv;relu", 5, r"a layer, a bracket, '-', '\*' or '\?' at column 5; got ';'"),
        ("conv-fc-pool", 9, "layers of images before fc, gap and flatten at column 9; got 'pool'"),
        ("conv-pool*M", 11, "a whole number at column 11; got 'M'. Give its value: M=2."),
        ("conv*2*3", 7, "one count behind a part at column 7; got another"),
        ("conv-pool*9", 6, r"a layer that fits at column 6; got 'pool' on \(4, 1, 1\)"),
        ("conv99p0", 1, r"a layer that fits at column 1; got 'conv99p0' on \(3, 32, 32\)"),
        ("softmax-relu", 9, "nothing behind softmax at column 9; got 'relu'"),
        ("conv-fc7-softmax", 10, "an fc of classes=10 before softmax, or an activation"),
        ("conv0", 1, "sizes from 1 to 1,048,576 at column 1; got 'conv0', 4 maps"),
        ("conv-pool2s0", 6, "sizes from 1, and padding of at most half the window at column 6"),
        ("fc0", 1, "outputs from 1 to 1,048,576 at column 1; got 'fc0'"),
        ("conv3x7g2", 1, "groups that divide 3 and 7 maps at column 1; got 'conv3x7g2'"),
        ("conv3s1s2", 1, "'s' once at column 1; got 'conv3s1s2'"),
        ("dropout2", 1, "dropout or dropout0.3 at column 1; got 'dropout2'"),
        ("conv*99999999", 1, "at most 10,000 layers at column 1; got more"),
        ("((conv)*0)*99999999", 2, "at most 10,000 layers"),
        ("(" * 51 + "conv", 51, "at most 50 brackets in one another at column 51"),
    ],
)
def test_what_is_wrong_is_shown_at_its_place(text, column, message):
    with pytest.raises(OptionError, match=message) as caught:
        made(text)
    assert str(caught.value).startswith("from_pattern: expected ")
    if "10,000" not in message:
        assert str(caught.value).splitlines()[-1] == "  " + " " * (column - 1) + "^"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": None}, "expected classes=… with softmax at column 6; got none"),
        ({"N": 2}, "expected every count in the pattern; got N=2"),
        ({"classes": 0}, "expected a whole number from 1 to 1,048,576; got classes=0"),
        ({"width": 1.5}, r"got width\[0\]=1.5"),
        ({"width": []}, "expected at least one width"),
        ({"width": [4, "8"]}, r"got width\[1\]='8'"),
        ({"input": (32,)}, r"expected input as \(c, h, w\), \(c, length\) or \(c, d, h, w\)"),
        ({"input": (3, 0, 4)}, r"got input\[1\]=0"),
        ({"hidden": True}, "got hidden=True"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(OptionError, match=message):
        models.from_pattern("conv-softmax", **{"input": (3, 8, 8), "classes": 10, **options})
    with pytest.raises(OptionError, match="expected a text; got int"):
        models.from_pattern(3, input=(3, 8, 8))
    with pytest.raises(OptionError, match="expected layers with weights; got 'relu-pool'"):
        made("relu-pool")
