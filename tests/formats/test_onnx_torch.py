"""What PyTorch writes as ONNX, by its older and its newer exporter, is read as the same network."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import striate as st

pytestmark = pytest.mark.peer
torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("onnxscript", reason="onnxscript is not installed")
pytest.importorskip("onnx", reason="onnx is not installed")
nn, F = torch.nn, torch.nn.functional


class Of(nn.Module):
    """A function of x and of a module's output."""

    def __init__(self, function: Callable[..., Any], module: Any = None) -> None:
        super().__init__()
        self.function, self.module = function, module or nn.Identity()

    def forward(self, x: Any) -> Any:
        return self.function(self.module(x))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv, self.out = nn.LayerNorm(8), nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: Any) -> Any:
        n, t, width = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(n, t, 3, 2, 4).permute(2, 0, 3, 1, 4)
        a = (q @ k.transpose(-2, -1) / 2).softmax(-1)
        return x + self.out((a @ v).transpose(1, 2).reshape(n, t, width))


class Shuffled(nn.Module):
    """Channels shuffled, split and joined, with a gate: of ShuffleNet and MobileNet-v3."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 1)

    def forward(self, x: Any) -> Any:
        y = self.conv(x)
        n, c, h, w = y.shape
        y = y.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, -1, h, w)
        a, b = y.chunk(2, 1)
        y = torch.cat([F.hardswish(b), F.relu6(a)], 1)
        return y * F.hardsigmoid(self.gate(F.adaptive_avg_pool2d(y, 1)))


def recurrent(kind: Any, **more: Any) -> Any:
    return Of(lambda pair: pair[0], kind(6, 5, batch_first=True, **more))


def _activations(x: Any) -> Any:
    plain = (F.elu, F.selu, F.celu, F.mish, F.silu, F.gelu, F.softplus, F.softsign, F.logsigmoid)
    more = F.leaky_relu(x, 0.2) + F.hardtanh(x) + F.softshrink(x) + F.hardshrink(x)
    return sum(f(x) for f in plain) + more


def _reductions(x: Any) -> Any:
    over = (2, 3)
    return x.mean(over) + x.amax(over) + x.norm(dim=over) + torch.logsumexp(x, over) + x.var(over)


IMAGES, ROWS = (2, 3, 8, 8), (2, 4, 6)
NETS: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "plain": (
        lambda: nn.Sequential(
            *(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Dropout(0.3), nn.Flatten(), nn.Linear(72, 4)),
        ),
        IMAGES,
    ),
    "shuffled": (Shuffled, IMAGES),
    "attention": (Attention, (2, 5, 8)),
    "upward": (
        lambda: nn.Sequential(
            *(nn.ConvTranspose2d(3, 4, 3, 2, 1, 1), nn.InstanceNorm2d(4, affine=True)),
            *(nn.GroupNorm(2, 4), nn.PReLU(4), nn.Upsample(scale_factor=2, mode="bilinear")),
            *(nn.Upsample(scale_factor=2), nn.PixelShuffle(2)),
        ),
        IMAGES,
    ),
    "activations": (lambda: Of(_activations), IMAGES),
    "reductions": (lambda: Of(_reductions), IMAGES),
    "padding": (lambda: Of(lambda x: F.pad(F.pad(x, (1, 2, 0, 1), "reflect"), (1, 1))), IMAGES),
    "parts": (lambda: Of(lambda x: x[:, 1:, 1:-1:2].clamp(-1, 1).flip(3).unsqueeze(1)), IMAGES),
    "ceil": (lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False), IMAGES),
    "lstm": (lambda: recurrent(nn.LSTM, num_layers=2), ROWS),
    "gru both ways": (lambda: recurrent(nn.GRU, bidirectional=True), ROWS),
    "grid": (
        lambda: Of(lambda x: F.grid_sample(x, x[:, :2].permute(0, 2, 3, 1), align_corners=True)),
        IMAGES,
    ),
    "argmax": (lambda: Of(lambda x: x.argmax(1)), IMAGES),
}
BY_DYNAMO = ("plain", "attention")


def exported(net: Any, x: Any, path: Path, dynamo: bool, open_batch: bool) -> None:
    more: dict[str, Any] = {}
    if open_batch and dynamo:
        more["dynamic_shapes"] = ({0: torch.export.Dim("batch")},)
    elif open_batch:
        more["dynamic_axes"] = {"x": {0: "batch"}}
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            with redirect_stderr(io.StringIO()):
                warnings.simplefilter("ignore")
                given = (x if open_batch else x[:1],)
                torch.onnx.export(
                    net, given, path, input_names=["x"], dynamo=dynamo, external_data=False, **more
                )
    finally:
        logging.disable(logging.NOTSET)


def compare(name: str, path: Path, dynamo: bool, open_batch: bool) -> Any:
    torch.manual_seed(0)
    net, x = NETS[name][0]().eval(), torch.randn(NETS[name][1])
    exported(net, x, path, dynamo, open_batch)
    found = st.import_onnx(path)
    with torch.no_grad():
        expected = net(x).numpy()
    np.testing.assert_allclose(found(x.numpy()), expected, rtol=1e-4, atol=2e-5)
    return found


@pytest.mark.parametrize("open_batch", [False, True], ids=["one", "any"])
@pytest.mark.parametrize("name", NETS)
def test_the_older_exporter(name: str, open_batch: bool, tmp_path: Path) -> None:
    compare(name, tmp_path / "net.onnx", False, open_batch)


@pytest.mark.parametrize("name", BY_DYNAMO)
def test_the_newer_exporter(name: str, tmp_path: Path) -> None:
    found = compare(name, tmp_path / "net.onnx", True, True)
    if name == "plain":  # the exporter folds the norm into the convolution
        assert set(found.state_dict()) == {"0.weight", "0.bias", "6.weight", "6.bias"}
