"""`import striate as torch`: sources in torch's style run unchanged, and say what is not there."""

from __future__ import annotations

import importlib.util
import re
import sys
import types
from collections import OrderedDict
from functools import partial
from importlib.abc import Loader, MetaPathFinder
from pathlib import Path

import numpy as np
import pytest

import striate as torch
import striate.utils.checkpoint as cp
from striate import Tensor, nn, torch_names
from striate.errors import AbsentError, ModelError, OptionError, TraceError
from striate.nn import functional as F
from striate.nn import init
from striate.utils.data import DataLoader, Dataset, TensorDataset

X = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)


# ---- a network as people write them --------------------------------------------------------------


class ConvNormActivation(nn.Sequential):
    def __init__(self, inp, out, kernel=3, stride=1, groups=1, norm=None, act=nn.ReLU):
        norm = norm or partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)
        super().__init__(
            OrderedDict(
                conv=nn.Conv2d(inp, out, kernel, stride, kernel // 2, groups=groups, bias=False),
                norm=norm(out),
                act=act(inplace=True),
            )
        )
        self.out_channels = out


class Squeeze(nn.Module):
    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def _scale(self, input: Tensor) -> Tensor:
        return torch.sigmoid(self.fc2(torch.relu(self.fc1(self.avgpool(input)))))

    def forward(self, input: Tensor) -> Tensor:
        return self._scale(input) * input


class Block(nn.Module):
    expansion: int = 1

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = ConvNormActivation(channels, channels, groups=2)
        self.squeeze = Squeeze(channels, 2)

    @torch.jit.unused
    def checkpointed(self, x):
        return cp.checkpoint(self.body, x)

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        out = self.checkpointed(x) if torch.jit.is_scripting() else self.body(x)
        out = self.squeeze(out)
        out += identity
        batch, channels, height, width = out.size()
        out = out.view(batch, 2, channels // 2, height, width).transpose(1, 2).contiguous()
        out = out.view(batch, -1, height, width)
        left, right = out.chunk(2, dim=1)
        return torch.cat((left, F.relu(right, inplace=True)), 1)


class Network(nn.Module):
    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.features = nn.Sequential(ConvNormActivation(3, 8, stride=2), Block(8), Block(8))
        self.heads = nn.ModuleDict({"main": nn.Linear(16, classes)})
        self.blocks = nn.ModuleList([nn.Dropout(0.2), nn.Identity()])
        self.scale = nn.Parameter(torch.ones(8, 1, 1) * 0.5)
        self.register_buffer("mean", torch.tensor([0.1, 0.2, 0.3]))
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
                if m.bias is not None:
                    nn.init.zeros_(m.bias)
            elif isinstance(m, (nn.BatchNorm2d, nn.GroupNorm)):
                nn.init.constant_(m.weight, 1)
                nn.init.constant_(m.bias, 0)
            elif isinstance(m, nn.Linear):
                init.normal_(m.weight, 0, 0.01)
        self.apply(lambda module: None)

    def _forward_impl(self, x: Tensor) -> Tensor:
        if isinstance(x, Tensor):
            prev = [x]
        red = torch.unsqueeze(x[:, 0], 1) * (0.229 / 0.5) + (0.485 - 0.5) / 0.5
        x = torch.cat((red, prev[0][:, 1:]), 1)
        x = self.features(x) * self.scale
        x = x.clamp(-3, 3).mul_(2)
        for block in self.blocks:
            x = block(x)
        most = torch.max(torch.flatten(x, 2), 2)[0]
        mean = x.mean([2, 3])
        return self.heads["main"](torch.cat([most, mean], dim=1))

    def forward(self, x: Tensor) -> Tensor:
        return self._forward_impl(x)


def test_a_source_in_torchs_style_traces_trains_and_runs(monkeypatch):
    monkeypatch.setenv("STRIATE_BACKEND", "reference")
    torch.manual_seed(0)
    net = Network()
    assert [name for name, _ in net.named_children()] == ["features", "heads", "blocks"]
    with torch.no_grad():
        y = net.eval().to("cpu")(X)
    assert y.shape == (2, 5) and np.isfinite(y).all() and np.abs(y).max() > 0
    labels = np.arange(2)
    run = torch.fit(net.train(), (X, labels), epochs=1, progress=False)
    assert np.isfinite(run.history[-1]["loss"])


@torch.no_grad()
def decorated(x):
    return x + 1


def test_switches_do_nothing():
    assert decorated(1) == 2
    with torch.inference_mode(), torch.set_grad_enabled(False), torch.enable_grad():
        assert not torch.is_grad_enabled()
    assert torch.jit.script(decorated) is decorated and torch.jit.export(decorated) is decorated
    assert torch.jit.ignore(drop=True)(decorated) is decorated
    assert torch.fx.wrap("decorated") == "decorated"
    net = nn.ReLU()
    assert torch.compile(net) is net and torch.compile(mode="x")(net) is net
    assert net.to("cpu").cpu().float().requires_grad_() is net
    assert str(torch.device("cuda" if torch.cuda.is_available() else "cpu")) == "cpu"
    assert torch.device("cpu") == torch.device("cpu") and torch.cuda.device_count() == 0


# ---- functions -----------------------------------------------------------------------------------

POSITIVE = abs(X) + 0.5
ONE = {
    **{k: getattr(np, k) for k in ("exp", "log", "sqrt", "abs", "square", "sin", "cos", "floor")},
    **{k: getattr(np, k) for k in ("expm1", "log1p", "sign", "ceil", "reciprocal", "tanh")},
    "atan": np.arctan,
    "neg": np.negative,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "round": lambda x: np.floor(x + 0.5),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "relu": lambda x: np.maximum(x, 0),
}


class Calls(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *x):
        return self.function(*x)


@pytest.mark.parametrize("name", ONE)
def test_functions_of_one_tensor(name):
    function = getattr(torch, name)
    expected = ONE[name](POSITIVE)
    np.testing.assert_allclose(function(POSITIVE), expected, rtol=2e-6, atol=1e-7)
    np.testing.assert_allclose(Calls(function)(POSITIVE), expected, rtol=2e-6, atol=1e-7)


SHAPES = {
    "reshape": lambda x: torch.reshape(x, (x.shape[0], 6, -1)),
    "view_as": lambda x: x.flatten(1).view_as(x) if not isinstance(x, np.ndarray) else x,
    "permute": lambda x: torch.permute(x, (0, 2, 3, 1)),
    "transpose": lambda x: torch.transpose(x, 1, 2),
    "swapaxes": lambda x: torch.swapaxes(x, 1, 3),
    "movedim": lambda x: torch.movedim(x, 1, -1),
    "squeeze": lambda x: torch.squeeze(torch.unsqueeze(x, 2), 2),
    "stack": lambda x: torch.stack([x, x], 1),
    "clamp": lambda x: torch.clamp(x, -0.5, max=0.5),
    "clip": lambda x: torch.clip(x, min=0.1),
    "pow": lambda x: torch.pow(torch.abs(x), 1.5),
    "max": lambda x: (
        torch.max(x, 1, keepdim=True)[0] + torch.min(x, 2)[0][:, None].mean()
        if isinstance(x, np.ndarray)
        else torch.max(x, 1, keepdim=True).values + 0
    ),
    "two": lambda x: torch.max(x, -x) + torch.min(x, x * 2),
    "sum": lambda x: torch.sum(x, (2, 3)) + torch.mean(x, dim=[2, 3]),
    "matmul": lambda x: (
        torch.matmul(x, x.transpose(2, 3))
        if not isinstance(x, np.ndarray)
        else torch.matmul(x, x.transpose(0, 1, 3, 2))
    ),
    "softmax": lambda x: torch.softmax(torch.flatten(x, 1), 1),
    "arithmetic": lambda x: torch.div(torch.sub(torch.add(x, x), 1), 2) + torch.mul(x, x),
}


@pytest.mark.parametrize("name", [k for k in SHAPES if k not in ("max",)])
def test_functions_of_shapes_trace_as_they_compute(name):
    np.testing.assert_allclose(Calls(SHAPES[name])(X), SHAPES[name](X), rtol=1e-5, atol=1e-6)


def test_extremes_have_places_outside_networks_and_values_inside():
    values, places = torch.max(X, 1)
    assert np.array_equal(values, X.max(1)) and np.array_equal(places, X.argmax(1))
    assert torch.max(X) == X.max() and torch.min(X) == X.min()
    assert np.array_equal(torch.min(X, 1, keepdim=True).indices, X.argmin(1, keepdims=True))
    net = Calls(lambda x: torch.max(x, 1)[0] - torch.min(x, 1).values)
    assert np.array_equal(net(X), X.max(1) - X.min(1))
    with pytest.raises(TraceError, match="places have no gradient"):
        Calls(lambda x: torch.max(x, 1).indices + 1)(X)


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div"])
def test_in_place_methods_change_what_the_name_stands_for(name):
    def forward(x):
        y = x.clone()
        assert getattr(y, f"{name}_")(3) is y
        return y

    expected = getattr(torch, name)(X, 3.0)
    np.testing.assert_allclose(Calls(forward)(X), expected, rtol=1e-6)
    chained = Calls(lambda x: x.clone().add_(1).clamp_(min=0).sqrt_())(X)
    np.testing.assert_allclose(chained, np.sqrt(np.maximum(X + 1, 0)), rtol=1e-6)


def test_arrays_from_nothing():
    assert torch.zeros(2, 3).dtype == np.float32 and torch.ones((2, 3)).sum() == 6
    assert torch.full((2,), 7).dtype == np.int64 and torch.full((2,), 0.5).dtype == np.float32
    assert torch.arange(4).dtype == np.int64 and torch.arange(0.0, 1, 0.25).dtype == np.float32
    assert np.array_equal(torch.linspace(0, 1, 5), np.linspace(0, 1, 5, dtype="f4"))
    assert torch.eye(3).shape == (3, 3) and torch.empty(2).shape == (2,)
    assert torch.tensor([1.0]).dtype == np.float32 and torch.tensor([1]).dtype == np.int64
    assert torch.tensor([True]).dtype == bool and torch.tensor(np.ones(1)).dtype == np.float64
    assert torch.zeros(2, dtype=torch.int64, device="cpu").dtype == torch.long
    assert torch.from_numpy(X) is X and torch.as_tensor(X) is X
    assert torch.zeros_like(X).shape == X.shape and torch.numel(X) == X.size
    assert torch.Tensor(2, 3).shape == (2, 3) and torch.Tensor([1, 2]).dtype == np.float32
    assert torch.Size((2, 3)).numel() == 6 and torch.is_tensor(X) and not torch.is_tensor([1])


def test_random_arrays_come_from_the_seed():
    def draw():
        torch.manual_seed(7)
        return [
            torch.randn(2, 3),
            torch.rand(4),
            torch.randint(5, (6,)),
            torch.randint(2, 5, (6,)),
            torch.randperm(9),
            torch.randn_like(X),
        ]

    first, second = draw(), draw()
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert first[0].dtype == np.float32 and sorted(first[4]) == list(range(9))
    assert 2 <= first[3].min() and first[3].max() < 5 and first[5].shape == X.shape


def test_every_name_is_there_and_is_what_is_documented():
    for name in torch_names.NAMES:
        assert getattr(torch, name) is not None
    undocumented = [k for k, v in torch_names.NAMES.items() if callable(v) and not v.__doc__]
    assert undocumented == []


# ---- what is not there ---------------------------------------------------------------------------

ABSENT = {
    "cuda of a net": (lambda: nn.ReLU().cuda(), AbsentError, "networks run on the CPU"),
    "half": (lambda: nn.ReLU().half(), AbsentError, "compute in float32"),
    "zero_grad": (lambda: nn.ReLU().zero_grad(), AbsentError, r"striate.fit\(net, data\)"),
    "to": (lambda: nn.ReLU().to("cuda:0"), OptionError, "'cpu' or float32.*got 'cuda:0'"),
    "frozen": (lambda: nn.ReLU().requires_grad_(False), OptionError, "a network of their own"),
    "device": (lambda: torch.zeros(2, device="cuda"), OptionError, "expected device='cpu'"),
    "device object": (lambda: torch.device("cuda"), OptionError, "runs on the CPU"),
    "gradients": (lambda: torch.ones(1, requires_grad=True), OptionError, "striate.gradient"),
    "dtype": (lambda: torch.zeros(1, dtype="floaty"), OptionError, "expected a dtype"),
    "autograd": (lambda: torch.autograd, AbsentError, "striate.gradient and striate.vjp"),
    "hub": (lambda: torch.hub, AbsentError, "load_torch"),
    "save": (lambda: torch.save({}, "a.pth"), OptionError, r"striate.save_torch\(weights, path"),
    "load": (lambda: torch.load("a.pth"), ModelError, r"load_state_dict\(striate.load_torch"),
    "onnx": (lambda: torch.load("a.onnx"), ModelError, r"striate.import_onnx\(path\)"),
    "loader": (lambda: DataLoader([1], batch_size=4), OptionError, "fit.*batch_size=4"),
    "dataset": (lambda: Dataset()[0], OptionError, "__getitem__"),
    "lengths": (lambda: TensorDataset(X, X[:1]), OptionError, "arrays of equal length"),
    "clamp": (lambda: torch.clamp(X), OptionError, "min, max or both"),
    "assert": (lambda: torch._assert(False, "sizes differ"), OptionError, "sizes differ"),
    "where": (lambda: Calls(lambda x: torch.where(x, x, x))(X), TraceError, "scalar.where"),
    "tensor": (lambda: Calls(lambda x: torch.tensor(x))(X), TraceError, "needs values"),
    "like": (lambda: Calls(lambda x: torch.ones_like(x))(X), TraceError, "x \\* 0"),
    "backward": (lambda: Calls(lambda x: x.backward())(X), TraceError, "striate.fit trains"),
    "cuda inside": (lambda: Calls(lambda x: x.cuda())(X), TraceError, "leave .cuda"),
    "loop": (
        lambda: torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1),
        OptionError,
        r"striate.fit\(net, data, optimizer=SGD\(lr=",
    ),
    "step": (lambda: torch.optim.SGD(lr=0.1).step(), AbsentError, "fit.* does the loop"),
    "gradient of a loss": (
        lambda: nn.MSELoss()(X, X + 1).backward(),
        AbsentError,
        "striate.fit.* does the loop",
    ),
}


@pytest.mark.parametrize("name", ABSENT)
def test_what_is_absent_says_what_to_do_instead(name):
    call, kind, message = ABSENT[name]
    with pytest.raises(kind, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_absent_names_stay_absent_for_hasattr():
    assert not hasattr(nn.ReLU(), "cuda") and not hasattr(torch, "autograd")
    assert not hasattr(torch, "no_such_name")


def test_a_loss_is_still_a_number():
    loss = nn.MSELoss()(X, X + 1)
    assert isinstance(loss, np.float32) and loss == 1 and type(loss * 2) is np.float32
    assert f"{loss:.2f}" == "1.00"


# ---- torchvision's own source --------------------------------------------------------------------

FILES = {
    "alexnet": ("alexnet", {}),
    "vgg11_bn": ("vgg", {"init_weights": False}),
    "googlenet": ("googlenet", {"aux_logits": False, "init_weights": False}),
    "resnet18": ("resnet", {}),
    "resnext50_32x4d": ("resnet", {}),
    "squeezenet1_1": ("squeezenet", {}),
    "mobilenet_v2": ("mobilenetv2", {}),
    "mobilenet_v3_small": ("mobilenetv3", {}),
    "densenet121": ("densenet", {}),
    "mnasnet0_5": ("mnasnet", {}),
    "shufflenet_v2_x0_5": ("shufflenetv2", {}),
    "inception_v3": ("inception", {"aux_logits": False, "init_weights": False}),
    "efficientnet_b0": ("efficientnet", {}),
    "convnext_tiny": ("convnext", {}),
}
COMPARED = ("resnet18", "mobilenet_v2", "squeezenet1_1", "googlenet")


class Enumeration:
    """In the place of torchvision's table of weights, which is not under test."""

    def __init__(self, *args, **more):
        self.meta = {}

    @classmethod
    def verify(cls, weights):
        return weights


def _copies(x, n):
    return tuple(x) if isinstance(x, (tuple, list)) else (x,) * n


STUBS = {
    "utils": {"_log_api_usage_once": lambda net: None, "_make_ntuple": _copies},
    "_utils": {"sequence_to_str": lambda parts, **more: ", ".join(map(str, parts))},
    "transforms._presets": {
        "ImageClassification": dict,
        "InterpolationMode": types.SimpleNamespace(BILINEAR=1, BICUBIC=2),
    },
    "models._api": {
        "register_model": lambda *a, **k: lambda function: function,
        "Weights": Enumeration,
        "WeightsEnum": Enumeration,
    },
    "models._meta": {"_IMAGENET_CATEGORIES": []},
}


class Sources(MetaPathFinder, Loader):
    """Imports `name.models.resnet` from torchvision's files, with another library for torch."""

    def __init__(self, name: str, folder: Path, library: str) -> None:
        self.name, self.folder, self.library = name, folder, library

    def find_spec(self, fullname, path, target=None):
        if fullname.partition(".")[0] != self.name:
            return None
        return importlib.util.spec_from_loader(fullname, self, is_package=fullname.count(".") < 2)

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        inner = module.__name__.partition(".")[2]
        if inner in STUBS:
            vars(module).update(STUBS[inner])
        elif "." in inner:
            file = self.folder.joinpath(*inner.split(".")).with_suffix(".py")
            code = self.rewritten(file.read_text(encoding="utf-8"))
            exec(compile(code, str(file), "exec"), vars(module))

    def rewritten(self, text: str) -> str:
        """The source with the library's name in its imports, and nothing else changed."""
        for old, new in (
            (r"^from torchvision\.ops import", f"from {self.name}.ops.stochastic_depth import"),
            (r"^import torch$", f"import {self.library} as torch"),
            (r"^(import|from) torch\.", rf"\1 {self.library}."),
            (r"^from torch import", f"from {self.library} import"),
        ):
            text = re.sub(old, new, text, flags=re.MULTILINE)
        return text


@pytest.fixture(scope="module")
def sources():
    """torchvision's networks made by either library, from one source."""
    found = importlib.util.find_spec("torchvision")
    if found is None or not found.submodule_search_locations:
        pytest.skip("torchvision's source is not installed (pip install --no-deps torchvision)")
    folder = Path(next(iter(found.submodule_search_locations)))
    finders = [Sources("of_striate", folder, "striate"), Sources("of_torch", folder, "torch")]
    sys.meta_path[:0] = finders

    def make(library: str, name: str, **more):
        file, options = FILES[name]
        module = importlib.import_module(f"of_{library}.models.{file}")
        return getattr(module, name)(**options | more).eval()

    yield make
    for finder in finders:
        sys.meta_path.remove(finder)


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", FILES)
def test_torchvisions_source_traces_unchanged(sources, name, monkeypatch):
    none = types.SimpleNamespace(uniform=lambda *a: np.zeros(()), normal=lambda *a: np.zeros(()))
    monkeypatch.setattr(init, "next_generator", lambda: none)  # numbers do not matter here
    net = sources("striate", name)
    size = 96 if name != "inception_v3" else 128
    graph = net.to_graph((3, size, size))
    assert graph.nodes[graph.outputs[0]].shape == (1000,)


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", COMPARED)
def test_torchvisions_source_gives_torchs_numbers(sources, name, monkeypatch):
    monkeypatch.setenv("STRIATE_BACKEND", "reference")
    theirs_library = pytest.importorskip("torch")
    theirs_library.manual_seed(0)
    theirs, ours = sources("torch", name), sources("striate", name)
    ours.load_state_dict(theirs.state_dict())
    x = np.random.default_rng(1).normal(size=(1, 3, 48, 48)).astype(np.float32)
    with theirs_library.no_grad():
        expected = theirs(theirs_library.from_numpy(x)).numpy()
    assert np.ptp(expected) > 0
    for net in (ours, torch.from_torch(theirs)):
        most = np.abs(expected).max()
        np.testing.assert_allclose(net(x), expected, rtol=2e-3, atol=2e-4 * most)


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchvisions_googlenet_learns_by_its_heads(sources):
    net = sources("striate", "googlenet", aux_logits=True, num_classes=3)
    before = net.aux1.fc2.weight.data.copy()
    x = np.random.default_rng(1).normal(size=(2, 3, 48, 48)).astype(np.float32)
    found = net.train()(x)
    assert type(found).__name__ == "GoogLeNetOutputs"
    assert [part.shape for part in found] == [(2, 3)] * 3
    assert found._fields == ("logits", "aux_logits2", "aux_logits1")
    run = torch.fit(
        net, (x, np.array([0, 2])), loss=nn.DeepSupervisionLoss((1, 0.3, 0.3)), epochs=1,
        batch_size=2, progress=False, backend="reference",
    )  # fmt: skip
    assert np.isfinite(run.history[-1]["loss"]) and net(x).shape == (2, 3)
    assert not np.array_equal(before, net.aux1.fc2.weight.data)
