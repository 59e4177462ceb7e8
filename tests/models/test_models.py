"""The classic networks: their sizes, their shapes at several inputs, torchvision's names."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import striate as st
from striate import models, nn
from striate.errors import OptionError
from striate.nn import functional as F
from striate.program import build_inference

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
PARAMETERS = {  # as published with torchvision's weights
    "alexnet": 61_100_840,
    "vgg11": 132_863_336,
    "vgg13": 133_047_848,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "vgg11_bn": 132_868_840,
    "vgg13_bn": 133_053_736,
    "vgg16_bn": 138_365_992,
    "vgg19_bn": 143_678_248,
    "googlenet": 13_004_888,  # with the auxiliary heads
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "squeezenet1_0": 1_248_424,
    "squeezenet1_1": 1_235_496,
    "resnext50_32x4d": 25_028_904,
    "wide_resnet50_2": 68_883_240,
    "mobilenet_v2": 3_504_872,
    "efficientnet_b0": 5_288_548,
    "efficientnet_b1": 7_794_184,
    "efficientnet_b2": 9_109_994,
    "efficientnet_b3": 12_233_232,
    "efficientnet_b4": 19_341_616,
    "efficientnet_b5": 30_389_784,
    "efficientnet_b6": 43_040_704,
    "efficientnet_b7": 66_347_960,
    "alexnet_2012": 60_965_224,
    "small_stack": 44_950,
    "lenet5": 61_706,
    "lenet5_1998": 60_000,
    "resnet20": 272_474,
    "resnet32": 466_906,
    "resnet56": 855_770,
    "cifar_vgg": 307_498,
    "unet": 31_030_658,
    "fcn32s": 136_152_917,
    "fcn16s": 134_815_994,
    "fcn8s": 134_489_759,
}
BILLIONS = {  # of multiply-adds, as published with torchvision's weights
    "alexnet": 0.714,
    "vgg11": 7.609,
    "vgg13": 11.308,
    "vgg16": 15.470,
    "vgg19": 19.632,
    "vgg16_bn": 15.470,
    "googlenet": 1.498,
    "resnet18": 1.814,
    "resnet34": 3.664,
    "resnet50": 4.089,
    "resnet101": 7.801,
    "resnet152": 11.514,
    "resnext50_32x4d": 4.230,
    "wide_resnet50_2": 11.398,
    "squeezenet1_0": 0.819,
    "squeezenet1_1": 0.349,
    "mobilenet_v2": 0.301,
    "efficientnet_b0": 0.386,
}
DENSE = {"unet": (2, 256, 256)} | dict.fromkeys(("fcn32s", "fcn16s", "fcn8s"), (21, 500, 500))
ENTRIES = {  # of torchvision's state dicts, counters of batch norm included
    "alexnet": 16,
    "vgg16": 32,
    "vgg16_bn": 97,
    "googlenet": 364,
    "efficientnet_b0": 360,
    "resnet18": 122,
    "resnet50": 320,
    "mobilenet_v2": 314,
    "resnet152": 932,
    "squeezenet1_1": 52,
}

pytestmark = pytest.mark.usefixtures("no_draws")


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def output_shape(net: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...]:
    graph = net.eval().to_graph(shape)
    return graph.nodes[graph.outputs[0]].shape


def test_every_network_is_counted():
    assert set(PARAMETERS) == set(models.MODELS)
    page = PAGE.read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == list(models.MODELS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_and_usual_shape(name):
    net = models.build(name)
    assert count(net) == PARAMETERS[name]
    shape = models.usual_input(name)
    graph = net.eval().to_graph(shape)
    classes = 1000 if shape[-1] > 200 else 10
    assert graph.nodes[graph.outputs[0]].shape == DENSE.get(name, (classes,))
    cost = st.summary(graph).multiply_adds
    if name in BILLIONS:
        assert cost == pytest.approx(BILLIONS[name] * 1e9, rel=0.01)
    line = f"| `{name}` | {'×'.join(map(str, shape))} | {count(net):,} | {cost / 1e6:,.1f} | "
    assert line in PAGE.read_text(encoding="utf-8"), "run: python docs/scripts/models.py --write"


@pytest.mark.parametrize("name", ENTRIES)
def test_as_many_entries_as_torchvision(name):
    assert len(models.build(name).state_dict()) == ENTRIES[name]


@pytest.mark.parametrize(
    ("name", "entries"),
    [
        ("alexnet", {"features.10.weight": (256, 256, 3, 3), "classifier.6.bias": (1000,)}),
        ("vgg16", {"features.28.weight": (512, 512, 3, 3), "classifier.0.weight": (4096, 25088)}),
        ("vgg16_bn", {"features.41.running_var": (512,), "features.40.bias": (512,)}),
        (
            "resnet18",
            {
                "conv1.weight": (64, 3, 7, 7),
                "bn1.running_mean": (64,),
                "layer2.0.downsample.0.weight": (128, 64, 1, 1),
                "layer2.0.downsample.1.weight": (128,),
                "layer4.1.bn2.num_batches_tracked": (),
                "fc.weight": (1000, 512),
            },
        ),
        (
            "resnet50",
            {
                "layer1.0.conv3.weight": (256, 64, 1, 1),
                "layer1.0.downsample.0.weight": (256, 64, 1, 1),
                "layer4.2.conv2.weight": (512, 512, 3, 3),
                "layer3.5.bn3.bias": (1024,),
            },
        ),
        (
            "mobilenet_v2",
            {
                "features.0.0.weight": (32, 3, 3, 3),
                "features.1.conv.0.0.weight": (32, 1, 3, 3),
                "features.1.conv.1.weight": (16, 32, 1, 1),
                "features.1.conv.2.running_mean": (16,),
                "features.17.conv.1.0.weight": (960, 1, 3, 3),
                "features.17.conv.2.weight": (320, 960, 1, 1),
                "features.18.1.bias": (1280,),
                "classifier.1.weight": (1000, 1280),
            },
        ),
        (
            "googlenet",
            {
                "conv1.conv.weight": (64, 3, 7, 7),
                "inception4e.branch3.1.conv.weight": (128, 32, 3, 3),
                "inception5b.branch4.1.bn.running_var": (128,),
                "aux1.fc1.weight": (1024, 2048),
                "aux2.conv.conv.weight": (128, 528, 1, 1),
                "fc.weight": (1000, 1024),
            },
        ),
        (
            "squeezenet1_1",
            {
                "features.0.weight": (64, 3, 3, 3),
                "features.12.expand3x3.weight": (256, 64, 3, 3),
                "classifier.1.bias": (1000,),
            },
        ),
        (
            "resnext50_32x4d",
            {"layer1.0.conv2.weight": (128, 4, 3, 3), "layer4.2.conv3.weight": (2048, 1024, 1, 1)},
        ),
        ("wide_resnet50_2", {"layer1.0.conv2.weight": (128, 128, 3, 3)}),
        (
            "squeezenet1_0",
            {
                "features.3.squeeze.weight": (16, 96, 1, 1),
                "features.12.expand1x1.weight": (256, 64, 1, 1),
            },
        ),
        (
            "efficientnet_b0",
            {
                "features.0.0.weight": (32, 3, 3, 3),
                "features.0.1.running_var": (32,),
                "features.1.0.block.0.0.weight": (32, 1, 3, 3),
                "features.1.0.block.1.fc1.weight": (8, 32, 1, 1),
                "features.1.0.block.2.0.weight": (16, 32, 1, 1),
                "features.2.0.block.0.0.weight": (96, 16, 1, 1),
                "features.2.1.block.2.fc2.bias": (144,),
                "features.7.0.block.3.1.num_batches_tracked": (),
                "features.8.0.weight": (1280, 320, 1, 1),
                "classifier.1.weight": (1000, 1280),
            },
        ),
        (
            "alexnet_2012",
            {"features.4.weight": (256, 48, 5, 5), "classifier.0.weight": (4096, 9216)},
        ),
        (
            "fcn8s",
            {
                "features.28.weight": (512, 512, 3, 3),
                "fc6.weight": (4096, 512, 7, 7),
                "score_pool3.weight": (21, 256, 1, 1),
                "upscore.weight": (21, 21, 16, 16),
            },
        ),
        ("resnet20", {"layer3.0.downsample.0.weight": (64, 32, 1, 1), "fc.bias": (10,)}),
        ("unet", {"down.4.conv2.weight": (1024, 1024, 3, 3), "up.3.up.weight": (128, 64, 2, 2)}),
    ],
)
def test_names(name, entries):
    state = models.build(name).state_dict()
    assert {key: state[key].shape for key in entries} == entries


@pytest.mark.parametrize(
    ("name", "height", "width"),
    [
        ("alexnet", 63, 63),
        ("alexnet", 227, 300),
        ("vgg11", 32, 32),
        ("vgg11", 225, 200),
        ("resnet18", 33, 47),
        ("resnet18", 256, 256),
        ("mobilenet_v2", 160, 191),
        ("googlenet", 90, 129),
        ("squeezenet1_1", 21, 64),
        ("squeezenet1_0", 230, 225),
    ],
)
def test_photographs_of_other_sizes(name, height, width):
    net = models.build(name, num_classes=7, in_channels=2)
    assert output_shape(net, (2, height, width)) == (7,)


def test_resnet18_halves_the_image_five_times():
    graph = models.build("resnet18").eval().to_graph((3, 224, 224))
    shapes = {n.name: n.shape for n in graph.steps}
    assert shapes["conv1"] == (64, 112, 112)
    assert shapes["maxpool"] == (64, 56, 56)
    assert shapes["layer2.0.conv1"] == (128, 28, 28)
    assert shapes["layer4.1.conv2"] == (512, 7, 7)
    assert [n.op for n in graph.steps].count("conv2d") == 20


def test_the_stride_of_a_bottleneck_is_on_its_middle():
    graph = models.build("resnet50").eval().to_graph((3, 224, 224))
    assert graph.nodes["layer2.0.conv1"].shape == (128, 56, 56)
    assert graph.nodes["layer2.0.conv2"].shape == (128, 28, 28)


def test_googlenet_rounds_its_poolings_up():
    graph = models.build("googlenet").eval().to_graph((3, 224, 224))
    sizes = [graph.nodes[f"maxpool{k}"].shape[1] for k in (1, 2, 3, 4)]
    assert sizes == [56, 28, 14, 7]


def test_auxiliary_heads():
    without = models.googlenet(aux_logits=False)
    assert count(without) == 6_624_904
    with pytest.raises(OptionError, match=r"^GoogLeNet.all_logits: expected auxiliary heads; got"):
        without.all_logits(None)
    net = models.GoogLeNet()
    assert output_shape(net, (3, 224, 224)) == (1000,)

    class Training(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net.all_logits(x)

    assert output_shape(Training(), (3, 224, 224)) == (1000, 3)


def test_unet_as_published():
    net = models.UNet(padding=0)
    assert output_shape(net, (1, 572, 572)) == (2, 388, 388)
    small = models.UNet(num_classes=3, in_channels=2, width=4, depth=2)
    assert output_shape(small, (2, 20, 12)) == (3, 20, 12)
    assert output_shape(small, (2, 23, 18)) == (3, 20, 16)
    with pytest.raises(OptionError, match=r"^UNet: expected width and depth from 1"):
        models.UNet(depth=0)


def test_what_is_not_there():
    with pytest.raises(OptionError, match=r"unknown network 'resnet19'. Did you mean"):
        models.build("resnet19")
    with pytest.raises(OptionError, match=r"unknown network 'vgg'"):
        models.usual_input("vgg")
    with pytest.raises(OptionError, match=r"^VGG: expected features as a module; got 12"):
        models.VGG(12)
    with pytest.raises(OptionError, match=r"^SqueezeNet: unknown version '2'"):
        models.SqueezeNet("2")


def test_mobilenet_of_other_widths():
    net = models.MobileNetV2(width_mult=0.5, num_classes=5)
    assert net.state_dict()["features.1.conv.0.0.weight"].shape == (16, 1, 3, 3)
    assert net.state_dict()["classifier.1.weight"].shape == (5, 1280)


def test_residuals_are_added():
    """With all weights 0 a block passes its input on, and the networks compute."""
    block = models.resnet.BasicBlock(3, 3).eval()
    x = np.abs(np.random.default_rng(0).integers(-3, 4, (2, 3, 5, 5))).astype(np.float32)
    assert np.array_equal(block(x), x)
    inverted = models.mobilenet.InvertedResidual(3, 3, 1, 2).eval()
    assert np.array_equal(inverted(x - 1), x - 1)


def test_a_block_in_numbers():
    st.manual_seed(1)
    block = models.squeezenet.Fire(3, 2, 8, 8)
    for k, parameter in enumerate(block.parameters()):
        parameter.data[...] = k - 2
    x = np.ones((1, 3, 2, 2), np.float32)
    w = block.state_dict()
    squeezed = F.relu(F.conv2d(x, w["squeeze.weight"], w["squeeze.bias"]))
    expected = [
        F.relu(F.conv2d(squeezed, w[f"expand{k}.weight"], w[f"expand{k}.bias"], padding=p))
        for k, p in (("1x1", 0), ("3x3", 1))
    ]
    assert np.array_equal(block(x), np.concatenate(expected, axis=1))


# ---- torchvision's options -------------------------------------------------------------------


def test_residual_networks_that_start_as_their_shortcuts():
    net = models.ResNet(models.resnet.Bottleneck, (1, 1, 1, 1), zero_init_residual=True)
    state = net.state_dict()
    assert not state["layer3.0.bn3.weight"].any() and state["layer3.0.bn2.weight"].all()
    small = models.ResNet(models.resnet.BasicBlock, (1, 1, 1, 1), 5, True)
    assert not small.state_dict()["layer1.0.bn2.weight"].any()


def test_strides_replaced_by_dilation():
    """As segmentation networks have it: the last stages keep the image's size."""
    net = models.resnet50(replace_stride_with_dilation=[False, True, True])
    graph = net.eval().to_graph((3, 224, 224))
    shapes = {node.name: node for node in graph.steps}
    assert shapes["layer4.2.conv3"].shape == (2048, 28, 28)
    taps = {k: shapes[f"{k}.conv2"].attributes["dilation"] for k in ("layer3.0", "layer3.1")}
    assert taps == {"layer3.0": [1, 1], "layer3.1": [2, 2]}
    assert shapes["layer4.0.conv2"].attributes["dilation"] == [2, 2]
    assert shapes["layer4.2.conv2"].attributes["dilation"] == [4, 4]
    assert count(net) == PARAMETERS["resnet50"]
    with pytest.raises(OptionError, match=r"ResNet: expected replace_stride_with_dilation as thr"):
        models.resnet18(replace_stride_with_dilation=[True])
    with pytest.raises(OptionError, match=r"BasicBlock: expected groups=1, base_width=64, dilat"):
        models.resnet18(groups=2)


def test_other_normalisation():
    for net in (
        models.resnet18(norm_layer=lambda channels: nn.GroupNorm(4, channels)),
        models.mobilenet_v2(norm_layer=lambda channels: nn.GroupNorm(8, channels)),
    ):
        kinds = {type(module) for module in net.modules()}
        assert nn.GroupNorm in kinds and nn.BatchNorm2d not in kinds
    b5 = models.efficientnet_b5()
    norms = [k for k in b5.modules() if isinstance(k, nn.BatchNorm2d)]
    assert {(k.eps, k.momentum) for k in norms} == {(0.001, 0.01)}


def test_wrong_settings_of_stages():
    with pytest.raises(OptionError, match=r"MobileNetV2: expected inverted_residual_setting as ro"):
        models.MobileNetV2(inverted_residual_setting=[(1, 2, 3)])
    with pytest.raises(OptionError, match=r"InvertedResidual: expected stride 1 or 2; got st"):
        models.MobileNetV2(inverted_residual_setting=[(1, 16, 1, 3)])
    with pytest.raises(OptionError, match=r"EfficientNet: expected inverted_residual_setting as a"):
        models.EfficientNet([], 0.2)


def test_stochastic_depth_leaves_out_whole_samples():
    st.manual_seed(0)
    layer = models.blocks.StochasticDepth(0.5)
    x = np.ones((64, 2, 3, 3), np.float32)
    y = layer.train()(x)
    assert all(len(np.unique(sample)) == 1 for sample in y)
    assert set(np.unique(y)) == {0.0, 2.0} and 0.6 < y.mean() < 1.4
    assert np.array_equal(layer.eval()(x), x)
    with pytest.raises(OptionError, match=r"StochasticDepth: expected mode='row'; got mode"):
        models.blocks.StochasticDepth(0.5, "batch")
    net = models.efficientnet_b0()
    shares = [k.p for k in net.modules() if isinstance(k, models.blocks.StochasticDepth)]
    assert shares == pytest.approx([0.2 * k / 16 for k in range(16)])
    assert "dropout" in {node.op for node in net.train().to_graph((3, 32, 32)).steps}


def test_images_brought_to_the_range_of_the_published_weights():
    net = models.GoogLeNet(2, False, transform_input=True).eval()
    graph = net.to_graph((3, 64, 64))
    x = np.full((1, 3, 64, 64), 2, np.float32)
    name = next(node.name for node in graph.steps if node.op == "concat")
    values = build_inference(graph.pruned([name])).run(x, net.state_dict())
    published = zip((0.229, 0.224, 0.225), (0.485, 0.456, 0.406), strict=True)
    expected = [(2 * deviation + mean) * 2 - 1 for deviation, mean in published]
    assert np.allclose(values[0, :, 5, 5], expected, atol=1e-6)
