"""Each family beside the same arithmetic written in torch, weights by name; and weights of files.

torchvision is not needed: its networks are written down here once more, as functions of a state
dict, so that the wiring is not tested against itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import striate as st
from striate import models, nn
from striate.errors import ModelError, OptionError
from striate.formats.safetensors_file import save_tensors
from striate.models.efficientnet import MBConvConfig
from striate.models.resnet import BasicBlock, Bottleneck
from striate.models.vgg import make_layers
from striate.program import build_inference


class Twin:
    """A state dict as torch tensors, and the layers that read it."""

    def __init__(self, net: nn.Module, torch: Any) -> None:
        self.torch, self.f = torch, torch.nn.functional
        self.state = {k: torch.tensor(np.array(v)) for k, v in net.state_dict().items()}

    def has(self, name: str) -> bool:
        return any(key.startswith(f"{name}.") for key in self.state)

    def conv(self, x: Any, name: str, stride: int = 1, padding: int = 0, groups: int = 1) -> Any:
        weight, bias = self.state[f"{name}.weight"], self.state.get(f"{name}.bias")
        return self.f.conv2d(x, weight, bias, stride, padding, 1, groups)

    def bn(self, x: Any, name: str, eps: float = 1e-5) -> Any:
        at = [self.state[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias")]
        return self.f.batch_norm(x, *at, eps=eps)

    def fc(self, x: Any, name: str) -> Any:
        return self.f.linear(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def relu(self, x: Any) -> Any:
        return self.f.relu(x)

    def mean(self, x: Any) -> Any:
        return x.mean((2, 3))


def resnet(t: Twin, x: Any) -> Any:
    x = t.relu(t.bn(t.conv(x, "conv1", 2, 3), "bn1"))
    x = t.f.max_pool2d(x, 3, 2, 1)
    for stage in range(1, 5):
        for block in range(2):
            at, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            if not t.has(at):
                continue
            if t.has(f"{at}.conv3"):
                y = t.relu(t.bn(t.conv(x, f"{at}.conv1"), f"{at}.bn1"))
                groups = y.shape[1] // t.state[f"{at}.conv2.weight"].shape[1]
                y = t.relu(t.bn(t.conv(y, f"{at}.conv2", stride, 1, groups), f"{at}.bn2"))
                y = t.bn(t.conv(y, f"{at}.conv3"), f"{at}.bn3")
            else:
                y = t.relu(t.bn(t.conv(x, f"{at}.conv1", stride, 1), f"{at}.bn1"))
                y = t.bn(t.conv(y, f"{at}.conv2", 1, 1), f"{at}.bn2")
            if t.has(f"{at}.downsample"):
                x = t.bn(t.conv(x, f"{at}.downsample.0", stride), f"{at}.downsample.1")
            x = t.relu(x + y)
    return t.fc(t.mean(x), "fc")


def fire(t: Twin, x: Any, at: str) -> Any:
    x = t.relu(t.conv(x, f"{at}.squeeze"))
    parts = (t.conv(x, f"{at}.expand1x1"), t.conv(x, f"{at}.expand3x3", 1, 1))
    return t.relu(t.torch.cat(parts, 1))


def squeezenet(t: Twin, x: Any) -> Any:
    x = t.relu(t.conv(x, "features.0", 2))
    for place in range(2, 13):
        if t.has(f"features.{place}.squeeze"):
            x = fire(t, x, f"features.{place}")
        else:
            x = t.f.max_pool2d(x, 3, 2, ceil_mode=True)
    return t.mean(t.relu(t.conv(x, "classifier.1")))


def mobilenet(t: Twin, x: Any) -> Any:
    x = t.f.relu6(t.bn(t.conv(x, "features.0.0", 2, 1), "features.0.1"))
    strides = [1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1]
    for place, stride in enumerate(strides, 1):
        at, y = f"features.{place}.conv", x
        first = t.has(f"{at}.3")  # it widens, then is depthwise
        if first:
            y = t.f.relu6(t.bn(t.conv(y, f"{at}.0.0"), f"{at}.0.1"))
        deep, last = (f"{at}.1", f"{at}.2") if first else (f"{at}.0", f"{at}.1")
        y = t.f.relu6(t.bn(t.conv(y, f"{deep}.0", stride, 1, y.shape[1]), f"{deep}.1"))
        y = t.bn(t.conv(y, last), f"{at}.{int(last[-1]) + 1}")
        x = x + y if stride == 1 and x.shape == y.shape else y
    x = t.f.relu6(t.bn(t.conv(x, "features.18.0"), "features.18.1"))
    return t.fc(t.mean(x), "classifier.1")


def efficientnet(t: Twin, x: Any) -> Any:
    x = t.f.silu(t.bn(t.conv(x, "features.0.0", 2, 1), "features.0.1"))
    for stage, stride in ((1, 1), (2, 2)):
        for block in range(2):
            at, y = f"features.{stage}.{block}.block", x
            if not t.has(at):
                continue
            k, step = 0, stride if block == 0 else 1
            if t.has(f"{at}.3"):
                y, k = t.f.silu(t.bn(t.conv(y, f"{at}.0.0"), f"{at}.0.1")), 1
            padding = t.state[f"{at}.{k}.0.weight"].shape[2] // 2
            y = t.conv(y, f"{at}.{k}.0", step, padding, y.shape[1])
            y = t.f.silu(t.bn(y, f"{at}.{k}.1"))
            scale = t.f.silu(t.conv(y.mean((2, 3), True), f"{at}.{k + 1}.fc1"))
            y = y * t.torch.sigmoid(t.conv(scale, f"{at}.{k + 1}.fc2"))
            y = t.bn(t.conv(y, f"{at}.{k + 2}.0"), f"{at}.{k + 2}.1")
            x = x + y if step == 1 and x.shape == y.shape else y
    x = t.f.silu(t.bn(t.conv(x, "features.3.0"), "features.3.1"))
    return t.fc(t.mean(x), "classifier.1")


def googlenet(t: Twin, x: Any) -> Any:
    def basic(x: Any, at: str, stride: int = 1, padding: int = 0) -> Any:
        return t.relu(t.bn(t.conv(x, f"{at}.conv", stride, padding), f"{at}.bn", 0.001))

    x = t.f.max_pool2d(basic(x, "conv1", 2, 3), 3, 2, ceil_mode=True)
    x = t.f.max_pool2d(basic(basic(x, "conv2"), "conv3", 1, 1), 3, 2, ceil_mode=True)
    for name in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"):
        at = f"inception{name}"
        pooled = t.f.max_pool2d(x, 3, 1, 1)
        x = t.torch.cat(
            (
                basic(x, f"{at}.branch1"),
                basic(basic(x, f"{at}.branch2.0"), f"{at}.branch2.1", 1, 1),
                basic(basic(x, f"{at}.branch3.0"), f"{at}.branch3.1", 1, 1),
                basic(pooled, f"{at}.branch4.1"),
            ),
            1,
        )
        if name == "3b":
            x = t.f.max_pool2d(x, 3, 2, ceil_mode=True)
        if name == "4e":
            x = t.f.max_pool2d(x, 2, 2, ceil_mode=True)
    return t.fc(t.mean(x), "fc")


def vgg_features(t: Twin, x: Any) -> Any:
    for place in (0, 4, 7):
        x = t.relu(t.bn(t.conv(x, str(place), 1, 1), str(place + 1)))
        x = x if place == 4 else t.f.max_pool2d(x, 2)
    return x


def alexnet_2012_features(t: Twin, x: Any) -> Any:
    def norm(x: Any) -> Any:
        return t.f.local_response_norm(x, 5, 5e-4, 0.75, 2.0)

    x = t.f.max_pool2d(norm(t.relu(t.conv(x, "0", 4))), 3, 2)
    x = t.f.max_pool2d(norm(t.relu(t.conv(x, "4", 1, 2, 2))), 3, 2)
    x = t.relu(t.conv(x, "8", 1, 1))
    x = t.relu(t.conv(x, "10", 1, 1, 2))
    return t.f.max_pool2d(t.relu(t.conv(x, "12", 1, 1, 2)), 3, 2)


def alexnet_features(t: Twin, x: Any) -> Any:
    x = t.f.max_pool2d(t.relu(t.conv(x, "0", 4, 2)), 3, 2)
    x = t.f.max_pool2d(t.relu(t.conv(x, "3", 1, 2)), 3, 2)
    for place in ("6", "8", "10"):
        x = t.relu(t.conv(x, place, 1, 1))
    return t.f.max_pool2d(x, 3, 2)


def unet(t: Twin, x: Any) -> Any:
    def double(x: Any, at: str) -> Any:
        x = t.relu(t.conv(x, f"{at}.conv1", 1, 1))
        return t.relu(t.conv(x, f"{at}.conv2", 1, 1))

    first = double(x, "down.0")
    second = double(t.f.max_pool2d(first, 2), "down.1")
    x = double(t.f.max_pool2d(second, 2), "down.2")
    for place, skip in enumerate((second, first)):
        weight, bias = (t.state[f"up.{place}.up.{k}"] for k in ("weight", "bias"))
        x = t.torch.cat((skip, t.f.conv_transpose2d(x, weight, bias, 2)), 1)
        x = double(x, f"up.{place}.conv")
    return t.conv(x, "out")


def fcn8s(t: Twin, x: Any) -> Any:
    height, width = x.shape[2:]

    def enlarge(x: Any, name: str, stride: int) -> Any:
        return t.f.conv_transpose2d(x, t.state[f"{name}.weight"], None, stride)

    def cut(x: Any, corner: int, like: Any) -> Any:
        return x[:, :, corner : corner + like[0], corner : corner + like[1]]

    pools = []
    places = iter((0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28))
    for count in (2, 2, 3, 3, 3):
        for _ in range(count):
            place = next(places)
            x = t.relu(t.conv(x, f"features.{place}", 1, 1 if place else 100))
        x = t.f.max_pool2d(x, 2, ceil_mode=True)
        pools.append(x)
    x = t.conv(t.relu(t.conv(t.relu(t.conv(x, "fc6")), "fc7")), "score_fr")
    x = enlarge(x, "upscore2", 2)
    x = x + cut(t.conv(pools[3], "score_pool4"), 5, x.shape[2:])
    x = enlarge(x, "upscore_pool4", 2)
    x = x + cut(t.conv(pools[2], "score_pool3"), 9, x.shape[2:])
    return cut(enlarge(x, "upscore", 8), 31, (height, width))


STAGES = [MBConvConfig(1, 3, 1, 16, 8, 1), MBConvConfig(4, 5, 2, 8, 16, 2)]
CASES: dict[str, tuple[Any, Any, tuple[int, ...]]] = {
    "resnet": (lambda: models.ResNet(BasicBlock, (1, 2, 1, 1), 5), resnet, (3, 40, 33)),
    "resnext": (
        lambda: models.ResNet(Bottleneck, (1, 1, 1, 1), 5, groups=4, width_per_group=4),
        resnet,
        (3, 33, 40),
    ),
    "squeezenet1_0": (lambda: models.SqueezeNet("1_0", 5), squeezenet, (3, 64, 50)),
    "squeezenet1_1": (lambda: models.SqueezeNet("1_1", 5), squeezenet, (3, 50, 64)),
    "mobilenet": (lambda: models.MobileNetV2(5, width_mult=0.25), mobilenet, (3, 65, 40)),
    "efficientnet": (
        lambda: models.EfficientNet(STAGES, 0.2, num_classes=5),
        efficientnet,
        (3, 33, 26),
    ),
    "googlenet": (lambda: models.GoogLeNet(5, False), googlenet, (3, 65, 70)),
    "vgg": (lambda: make_layers((4, "M", 8, 8, "M"), True), vgg_features, (3, 22, 17)),
    "alexnet_2012": (lambda: models.AlexNet2012().features, alexnet_2012_features, (3, 67, 99)),
    "alexnet": (lambda: models.AlexNet().features, alexnet_features, (3, 64, 70)),
    "unet": (lambda: models.UNet(3, 2, width=4, depth=2), unet, (2, 20, 12)),
    "fcn8s": (lambda: models.FCN(3, width=2, hidden=6), fcn8s, (3, 45, 38)),
}


NATIVE = ("resnext", "efficientnet", "vgg", "unet")  # of the others only the wiring is in question


def numbers(net: nn.Module) -> nn.Module:
    """Weights that let every part of a network matter, and running statistics of its own."""
    rng = np.random.default_rng(1)
    for name, array in net.state_dict().items():
        if not array.ndim:
            continue
        fan = np.prod(array.shape[1:]) if array.ndim > 1 else 4
        array[...] = rng.normal(0, np.sqrt(2 / fan), array.shape)
        if name.endswith("running_var") or (array.ndim == 1 and name.endswith("weight")):
            array[...] = rng.uniform(0.7, 1.3, array.shape)
    return net.eval()


@pytest.mark.peer
@pytest.mark.usefixtures("no_draws")
@pytest.mark.parametrize("name", CASES)
def test_as_in_torch(name):
    torch = pytest.importorskip("torch")
    make, twin, shape = CASES[name]
    net = numbers(make())
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    with torch.no_grad():
        expected = twin(Twin(net, torch), torch.tensor(x)).numpy()
    backend = None if name in NATIVE else "reference"
    found = build_inference(net.to_graph(shape), backend=backend).run(x, net.state_dict())
    assert found.shape == expected.shape
    assert expected.std() > 1e-3 * np.abs(expected).max() > 0
    assert np.abs(found - expected).max() < 2e-4 * np.abs(expected).max()


def test_weights_from_a_file(tmp_path):
    """A file of weights loads by name; heads that the network lacks are passed over."""
    st.manual_seed(5)
    whole = models.squeezenet1_1(num_classes=3)
    save_tensors(tmp_path / "squeeze.safetensors", whole.state_dict())
    again = models.squeezenet1_1(weights=tmp_path / "squeeze.safetensors", num_classes=3)
    assert all(np.array_equal(k, whole.state_dict()[n]) for n, k in again.state_dict().items())
    with pytest.raises(ModelError, match="load_state_dict: expected the parameters of SqueezeNet"):
        models.squeezenet1_0(weights=str(tmp_path / "squeeze.safetensors"), num_classes=3)


@pytest.mark.usefixtures("no_draws")
def test_heads_that_a_file_has_are_left_out(tmp_path):
    heads = models.googlenet(num_classes=2)
    heads.fc.bias.data[...] = [1, 2]
    save_tensors(tmp_path / "google.safetensors", heads.state_dict())
    without = models.googlenet(
        weights=tmp_path / "google.safetensors", aux_logits=False, num_classes=2
    )
    assert without.state_dict()["fc.bias"].tolist() == [1, 2]
    assert without.aux1 is None


@pytest.mark.peer
def test_weights_from_a_checkpoint_of_torch(tmp_path):
    torch = pytest.importorskip("torch")
    net = models.mobilenet_v2(width_mult=0.1, num_classes=2)
    state = {name: torch.tensor(np.array(k)) for name, k in net.state_dict().items()}
    torch.save(state, tmp_path / "mobile.pth")
    st.manual_seed(9)
    again = models.mobilenet_v2(weights=tmp_path / "mobile.pth", width_mult=0.1, num_classes=2)
    assert all(np.array_equal(k, net.state_dict()[n]) for n, k in again.state_dict().items())


@pytest.mark.parametrize("name", ["lenet5", "lenet5_1998", "small_stack", "resnet20", "cifar_vgg"])
def test_small_networks_take_weights_too(name, tmp_path):
    st.manual_seed(5)
    save_tensors(tmp_path / "net.safetensors", models.build(name).state_dict())
    again = models.build(name, weights=tmp_path / "net.safetensors").state_dict()
    st.manual_seed(5)
    assert all(np.array_equal(k, again[n]) for n, k in models.build(name).state_dict().items())


def test_what_is_no_file_of_weights():
    for weights in ("DEFAULT", True, object()):
        with pytest.raises(OptionError, match="resnet18: expected weights=None or a file of weig"):
            models.resnet18(weights=weights)
    with pytest.raises(ModelError, match="no-such"):
        models.squeezenet1_1(weights="no-such.safetensors", num_classes=2)
    with pytest.raises(OptionError, match=r"resnet18: expected options .* unexpected .* 'classes'"):
        models.resnet18(classes=3)
    with pytest.raises(OptionError, match="resnet18: expected options of the network; takes 0 pos"):
        models.resnet18(10)


def test_an_fcn_takes_the_weights_of_a_classifier():
    """Its wide layers are the classifier's fully connected ones as kernels of 7×7 and 1×1."""
    net = models.FCN(3, width=2, hidden=6)
    state = {name: np.array(k) for name, k in net.state_dict().items() if "features" in name}
    rng = np.random.default_rng(0)
    state["classifier.0.weight"] = rng.normal(size=(6, 16 * 7 * 7)).astype(np.float32)
    state["classifier.0.bias"], state["classifier.3.bias"] = np.arange(6.0), np.ones(6)
    state["classifier.3.weight"] = rng.normal(size=(6, 6)).astype(np.float32)
    net.load_vgg16(state)
    found = net.state_dict()
    assert np.array_equal(found["fc6.weight"].reshape(6, -1), state["classifier.0.weight"])
    assert found["fc6.bias"].tolist() == list(range(6))
    assert np.array_equal(found["fc7.weight"][:, :, 0, 0], state["classifier.3.weight"])
    del state["classifier.3.weight"]
    with pytest.raises(ModelError, match=r"classifier.3.weight with the 36 numbers .* got none"):
        net.load_vgg16(state)
    with pytest.raises(OptionError, match=r"FCN: expected stride 32, 16 or 8 .* got stride=4"):
        models.FCN(stride=4)
