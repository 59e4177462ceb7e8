"""The operations against PyTorch, values and gradients, in float64."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from striate.formula.activation import ACTIVATIONS, map_attributes
from striate.formula.norm import BatchNormTraining
from striate.formula.operations import find_operation

pytestmark = pytest.mark.peer
torch = pytest.importorskip("torch")
F: Any = torch.nn.functional

Case = tuple[str, dict[str, Any], list[NDArray[Any]]]


def padded(x: Any, padding: Any, value: float = 0.0) -> Any:
    (top, bottom), (left, right) = padding
    return F.pad(x, (left, right, top, bottom), value=value)


def conv2d(a: dict[str, Any], x: Any, w: Any, b: Any = None) -> Any:
    return F.conv2d(padded(x, a["padding"]), w, b, a["stride"], 0, a["dilation"], a["groups"])


def max_pool2d(a: dict[str, Any], x: Any) -> Any:
    x = padded(x, a["padding"], -np.inf)
    return F.max_pool2d(x, a["kernel"], a["stride"], 0, a["dilation"])


def avg_pool2d(a: dict[str, Any], x: Any) -> Any:
    total = F.avg_pool2d(padded(x, a["padding"]), a["kernel"], a["stride"])
    if a["count_include_pad"]:
        return total
    return total / F.avg_pool2d(padded(torch.ones_like(x), a["padding"]), a["kernel"], a["stride"])


def conv1d(a: dict[str, Any], x: Any, w: Any, b: Any = None) -> Any:
    x = F.pad(x, a["padding"][0])
    return F.conv1d(x, w, b, a["stride"], 0, a["dilation"], a["groups"])


def conv3d(a: dict[str, Any], x: Any, w: Any, b: Any = None) -> Any:
    x = F.pad(x, [k for side in reversed(a["padding"]) for k in side])
    return F.conv3d(x, w, b, a["stride"], 0, a["dilation"], a["groups"])


def conv_transpose2d(a: dict[str, Any], x: Any, w: Any, b: Any = None) -> Any:
    padding = [before for before, _ in a["padding"]]
    return F.conv_transpose2d(
        x, w, b, a["stride"], padding, a["output_padding"], a["groups"], a["dilation"]
    )


def local_response_norm(a: dict[str, Any], x: Any) -> Any:
    return F.local_response_norm(x, a["size"], a["alpha"], a["beta"], a["k"])


def batch_norm(a: dict[str, Any], x: Any, w: Any, b: Any, mean: Any, var: Any) -> Any:
    return F.batch_norm(x, mean.detach(), var.detach(), w, b, False, a["momentum"], a["eps"])


def batch_norm_training(a: dict[str, Any], x: Any, w: Any, b: Any, mean: Any, var: Any) -> Any:
    return F.batch_norm(x, None, None, w, b, True, a["momentum"], a["eps"])


PEERS: dict[str, Callable[..., Any]] = {
    "conv1d": conv1d,
    "conv2d": conv2d,
    "conv3d": conv3d,
    "conv_transpose2d": conv_transpose2d,
    "linear": lambda a, *inputs: F.linear(*inputs),
    "max_pool2d": max_pool2d,
    "avg_pool2d": avg_pool2d,
    "adaptive_avg_pool2d": lambda a, x: F.adaptive_avg_pool2d(x, a["output"]),
    "batch_norm": batch_norm,
    "batch_norm_training": batch_norm_training,
    "local_response_norm": local_response_norm,
    "concat": lambda a, *inputs: torch.cat(inputs, a["axis"]),
    "slice": lambda a, x: x.narrow(a["axis"], a["start"], a["stop"] - a["start"]),
    "reshape": lambda a, x: x.reshape(len(x), *a["shape"]),
    "softmax": lambda a, x: F.softmax(x, 1),
    "cross_entropy": lambda a, x, t: F.cross_entropy(x, t, reduction="none"),
    "mse_loss": lambda a, x, t: F.mse_loss(x, t, reduction="none").flatten(1).mean(1),
}


def compare(case: Case, peer: Callable[..., Any]) -> None:
    name, attributes, arrays = case
    operation = find_operation(name)
    inputs = [torch.tensor(a, requires_grad=a.dtype == np.float64) for a in arrays]
    expected = peer(attributes, *inputs)
    value = operation.reference(attributes, arrays)
    upstream = np.random.default_rng(0).normal(size=value.shape)
    expected.backward(torch.tensor(upstream))
    np.testing.assert_allclose(value, expected.detach().numpy(), rtol=1e-12, atol=1e-13)
    found = operation.gradient(attributes, upstream, arrays)
    for slope, tensor in zip(found, inputs, strict=True):
        if tensor.grad is not None and slope is not None:
            np.testing.assert_allclose(slope, tensor.grad.numpy(), rtol=1e-11, atol=1e-13)


_COLLECTED: Any = import_module("tests.formula.conftest")
PEERS |= {k: peer for f in _COLLECTED.FAMILIES for k, peer in getattr(f, "PEERS", {}).items()}


@pytest.mark.parametrize("name", [n for n, case in _COLLECTED.CASES.items() if case[0] in PEERS])
def test_operations(name: str) -> None:
    op, attributes, arrays = _COLLECTED.CASES[name]
    compare((op, attributes, arrays), PEERS[op])


@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 7), (2, 3, 4, 5), (2, 2, 3, 2, 4)])
def test_running_statistics(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x, mean, var = rng.normal(size=shape) + 3, rng.normal(size=shape[1]), rng.random(shape[1])
    expected = [torch.tensor(mean), torch.tensor(var)]
    F.batch_norm(torch.tensor(x), *expected, training=True, momentum=0.3)
    attributes = {"eps": 1e-5, "momentum": 0.3}
    found = BatchNormTraining().running_statistics(attributes, x, mean, var)
    for value, tensor in zip(found, expected, strict=True):
        np.testing.assert_allclose(value, tensor.numpy(), rtol=1e-12)


ACTIVATION_PEERS: dict[str, Callable[[Any], Any]] = {
    "identity": lambda x: x * 1,
    "relu": F.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "scaled_tanh": lambda x: 1.7159 * torch.tanh(2 * x / 3),
    "softplus": F.softplus,
    "silu": F.silu,
    "square": torch.square,
    "relu6": F.relu6,
    "leaky_relu": F.leaky_relu,
    "hard_sigmoid": lambda x: F.relu6(x + 3) / 6,
    "hard_swish": F.hardswish,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "gelu": F.gelu,
    "binary_step": lambda x: (x >= 0) + 0 * x,
    "sqnl": lambda x: (
        torch.clamp(x, -2, 2) - torch.clamp(x, -2, 2) * torch.clamp(x, -2, 2).abs() / 4
    ),
    "arctan": torch.atan,
    "arsinh": torch.asinh,
    "softsign": F.softsign,
    "log_sigmoid": F.logsigmoid,
    "mish": F.mish,
    "selu": F.selu,
    "elish": lambda x: torch.where(x < 0, torch.expm1(x), x) * torch.sigmoid(x),
    "tanhshrink": F.tanhshrink,
    "elu": F.elu,
    "celu": F.celu,
    "isru": lambda x: x / torch.sqrt(1 + x * x),
    "isrlu": lambda x: torch.where(x < 0, x / torch.sqrt(1 + x * x), x),
    "hardtanh": F.hardtanh,
    "hardshrink": F.hardshrink,
    "softshrink": F.softshrink,
}


def test_every_activation_has_a_peer() -> None:
    assert set(ACTIVATION_PEERS) == set(ACTIVATIONS)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name: str) -> None:
    x = np.array([[-30.0, -2.5, -1e-3, 0.0, 1e-3, 0.7, 2.0, 19.0]])
    compare(("map", map_attributes(name), [x]), lambda a, v: ACTIVATION_PEERS[name](v))
