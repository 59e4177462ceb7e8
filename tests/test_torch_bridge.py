"""Networks from torch and to torch: the same names and the same numbers."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.errors import ModelError, OptionError
from striate.nn import functional as F

pytestmark = pytest.mark.peer
torch: Any = pytest.importorskip("torch")
T = torch.nn


@pytest.fixture(autouse=True)
def reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIATE_BACKEND", "reference")
    torch.manual_seed(0)


def numbers(*shape: int) -> Any:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def of_torch(module: Any, x: Any) -> Any:
    with torch.no_grad():
        return module(torch.from_numpy(x)).numpy()


def same(a: Any, b: Any) -> None:
    assert np.ptp(b) > 0
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


LAYERS = {
    "Conv1d": ((4, 6, 3), {"dilation": 2, "padding": "same", "bias": False}, (4, 9)),
    "Conv2d": ((4, 6, (3, 2)), {"stride": 2, "padding": (1, 0), "groups": 2}, (4, 9, 8)),
    "ConvTranspose2d": ((4, 6, 3), {"stride": 2, "output_padding": 1}, (4, 5, 5)),
    "Linear": ((12, 5), {"bias": False}, (12,)),
    "BatchNorm2d": ((4,), {"eps": 1e-3}, (4, 5, 5)),
    "GroupNorm": ((2, 4), {}, (4, 5, 5)),
    "LayerNorm": (((5, 6),), {"elementwise_affine": False}, (4, 5, 6)),
    "InstanceNorm2d": ((4,), {"affine": True}, (4, 5, 5)),
    "PReLU": ((4,), {"init": 0.3}, (4, 5, 5)),
    "GELU": (("tanh",), {}, (7,)),
    "Hardtanh": ((-0.5, 0.7), {}, (7,)),
    "Softmax": ((1,), {}, (7,)),
    "MaxPool2d": ((3,), {"stride": 2, "padding": 1, "ceil_mode": True}, (4, 9, 9)),
    "AvgPool2d": ((2,), {"padding": 1, "count_include_pad": False}, (4, 9, 9)),
    "AdaptiveAvgPool2d": (((2, 3),), {}, (4, 7, 7)),
    "LocalResponseNorm": ((3,), {"alpha": 0.1}, (4, 5, 5)),
    "ReflectionPad2d": ((2,), {}, (4, 5, 5)),
    "PixelShuffle": ((2,), {}, (4, 5, 5)),
    "Upsample": ((), {"scale_factor": 2, "mode": "bilinear"}, (4, 5, 5)),
    "Unflatten": ((1, (2, 6)), {}, (12,)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_both_ways(name: str) -> None:
    given, options, shape = LAYERS[name]
    theirs, x = getattr(T, name)(*given, **options).eval(), numbers(2, *shape)
    ours = st.from_torch(theirs)
    assert type(ours) is getattr(nn, name) and not ours.training
    same(ours(x), of_torch(theirs, x))
    back = ours.to_torch()
    assert type(back) is type(theirs) and repr(back) == repr(theirs)
    same(of_torch(back, x), of_torch(theirs, x))


OTHERS = (
    lambda: T.LSTM(3, 4, num_layers=2, batch_first=True, bidirectional=True),
    lambda: T.GRU(3, 4, batch_first=True),
    lambda: T.Embedding(7, 3, padding_idx=0),
    lambda: T.MaxUnpool2d(2),
    lambda: T.CrossEntropyLoss(label_smoothing=0.1),
    lambda: T.ModuleDict({"a": T.Linear(2, 2), "b": T.Dropout2d(0.3)}),
)


@pytest.mark.parametrize("make", OTHERS)
def test_layers_that_are_no_networks_both_ways(make: Any) -> None:
    theirs = make()
    back = st.from_torch(theirs).to_torch()
    assert repr(back) == repr(theirs)
    for name, value in theirs.state_dict().items():
        assert torch.equal(back.state_dict()[name], value)


def row() -> Any:
    return T.Sequential(
        T.Conv2d(3, 8, 3, padding=1),
        T.Sequential(T.BatchNorm2d(8), T.ReLU(inplace=True), T.Dropout(0.3)),
        T.MaxPool2d(2),
        T.Flatten(),
        T.Linear(128, 5),
    )


def test_a_row_of_layers_keeps_names_weights_and_mode() -> None:
    theirs, x = row(), numbers(2, 3, 8, 8)
    theirs[1][0].running_mean += 0.5
    theirs.train()[1].eval()
    ours = st.from_torch(theirs)
    modes = [(name, part.training) for name, part in ours.named_modules()]
    assert modes == [(name, part.training) for name, part in theirs.named_modules()]
    assert list(ours.state_dict()) == list(theirs.state_dict())
    same(ours.eval()(x), of_torch(theirs.eval(), x))
    before = theirs[0].weight.detach().numpy().copy()
    ours[0].weight.data[...] = 0  # a copy: torch's stays
    assert np.array_equal(theirs[0].weight.detach().numpy(), before)
    back = st.from_torch(theirs).train().to_torch()
    assert back.training and repr(back) == repr(theirs)


class Block(T.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = T.Conv2d(channels, 8, 3, 2, 1)
        self.norm = T.BatchNorm2d(8)
        self.down = T.Sequential(T.Conv2d(channels, 8, 1, 2))
        self.scale = T.Parameter(torch.randn(8, 1, 1))

    def forward(self, x: Any) -> Any:
        y = torch.nn.functional.relu(self.norm(self.conv(x)), inplace=True) * self.scale
        y += self.down(x)
        left, right = y.chunk(2, 1)
        return torch.cat([left.clamp(-1, 1), torch.sigmoid(right), y[:, :2]], dim=1)


class Net(T.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = T.ModuleList([Block(3), Block(10)])
        self.head = T.Linear(10, 3)

    def forward(self, x: Any) -> Any:
        for block in self.blocks:
            x = block(x)
        x = torch.nn.functional.max_pool2d(x, kernel_size=2)
        x = x.mean([2, 3]).view(x.shape[0], -1)
        x = torch.nn.functional.dropout(x, training=self.training)
        return torch.log_softmax(self.head(x), dim=1)


def test_any_forward_is_followed_runs_trains_and_goes_back(tmp_path: Any) -> None:
    theirs, x = Net().eval(), numbers(2, 3, 16, 16)
    ours = st.from_torch(theirs)
    expected = of_torch(theirs, x)
    same(ours(x), expected)
    assert set(ours.state_dict()) == set(theirs.state_dict())
    same(copy.deepcopy(ours)(x), expected)
    st.save(ours, tmp_path / "net.safetensors")
    same(st.load(tmp_path / "net.safetensors")(x), expected)
    back = ours.to_torch()
    same(of_torch(back, x), expected)
    assert set(back.state_dict()) == {k for k in theirs.state_dict() if "num_batches" not in k}
    loss = back(torch.from_numpy(x)).sum()
    loss.backward()
    assert all(p.grad is not None for p in back.parameters())
    run = st.fit(ours.train(), (x, np.array([0, 1])), epochs=1, progress=False)
    assert np.isfinite(run.history[-1]["loss"])


class Ours(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.conv = nn.GroupNorm(2, 4), nn.Conv1d(4, 4, 3)
        self.scale, self.last = nn.Parameter(np.full((4, 1, 1), 2.0)), nn.LayerNorm(5)

    def forward(self, x: Any) -> Any:
        y = F.pad(self.norm(x).permute(0, 1, 3, 2) * self.scale, (1, 1, 0, 2)).flip(2)
        z = self.conv(y.flatten(2)).softmax(1) + y.mean((2, 3)).unsqueeze(2)
        w = (z @ z.transpose(1, 2)).amax(2)
        w = self.last(w.repeat(1, 2)[:, :5]).roll(1, 1).cumsum(1)
        w = w + F.scalar(lambda t: nn.scalar.where(t > 0, t + 1, nn.scalar.exp(t)), w * 30)
        return F.log_softmax(w, 1) + w.std(1, keepdim=True) + w.logsumexp(1, keepdim=True)


def test_a_forward_of_ours_becomes_a_torch_module() -> None:
    net, x = Ours(), numbers(2, 4, 5, 5)
    with pytest.raises(OptionError, match=r"input_shape=\(3, 224, 224\)"):
        net.to_torch()
    theirs = net.train().to_torch(input_shape=(4, 5, 5))
    assert net.training and not theirs.training
    same(of_torch(theirs, x), net.eval()(x))
    assert set(theirs.state_dict()) == set(net.state_dict())


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v2", "resnet20"])
def test_networks_of_ours_become_torch_modules(name: str) -> None:
    net, x = st.models.build(name, num_classes=10).eval(), numbers(1, 3, 32, 32)
    theirs = net.to_torch(input_shape=(3, 32, 32))
    expected = net(x)
    np.testing.assert_allclose(of_torch(theirs, x), expected, 1e-3, 1e-4 * abs(expected).max())
    assert set(theirs.state_dict()) == {k for k in net.state_dict() if "num_batches" not in k}


class Branches(T.Module):
    def forward(self, x: Any) -> Any:
        return x if x.sum() > 0 else -x


class Odd(T.Module):
    def forward(self, x: Any) -> Any:
        return torch.fft.fft(x)


CANNOT = {
    "layer": (T.MultiheadAttention(4, 2), "MultiheadAttention"),
    "layer in a row": (T.Sequential(T.ReLU(), T.AdaptiveLogSoftmaxWithLoss(4, 9, [2])), r"\(1\)"),
    "branch": (Branches(), "torch.fx can follow; that of Branches gave TraceError"),
    "function": (Odd(), "got torch's 'fft_fft' in the forward of Odd"),
}


@pytest.mark.parametrize("name", CANNOT)
def test_what_cannot_come_from_torch(name: str) -> None:
    module, message = CANNOT[name]
    with pytest.raises(ModelError, match=message) as caught:
        st.from_torch(module)
    assert "\n" not in str(caught.value)


def test_what_cannot_go_to_torch() -> None:
    net = nn.Sequential(nn.LocallyConnected2d(1, 2, (6, 6), 3), nn.ReLU())
    with pytest.raises(ModelError, match="operations that torch has; got 'local2d'"):
        net.to_torch(input_shape=(1, 6, 6))
    with pytest.raises(OptionError, match=r"a torch\.nn\.Module; got ReLU"):
        st.from_torch(nn.ReLU())


def test_without_torch_a_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise ModuleNotFoundError("No module named 'torch'")

    monkeypatch.setattr("striate.torch_bridge.torch_package", absent)
    for call in (lambda: nn.ReLU().to_torch(), lambda: st.from_torch(None)):
        with pytest.raises(OptionError, match="the package torch; it is not installed"):
            call()
