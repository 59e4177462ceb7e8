"""Cases of single operations: forward and backward of a layer, arrays in and out.

Ours is `st.vjp` to the input and all parameters; torch's is what its users write, with autograd.
Both get the same arrays and the same upstream gradient; outputs and gradients are compared with
our float64 reference before anything is timed. A row of `CASES` is all that a new case needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import striate as st
from benchmarks.inside import error
from benchmarks.problems import Problem
from benchmarks.result import OURS, Result, Row
from striate import nn
from striate.measure import timing
from striate.measure.machine import Peak
from striate.nn import functional as F

TOLERANCE = 1e-4
SECONDS = 3.0  # of a case, about
Call = Callable[[], list[np.ndarray]]
Shape = tuple[int, ...]
_MAPS = (64, 32, 28, 28)  # of the activations
_IMAGES = (64, 64, 28, 28)  # of the pooling


@dataclass(frozen=True)
class Case:
    """One operation.

    Attributes:
        make: makes our layer.
        shape: of the input, the batch first.
        torch: `torch(t, x, *parameters)`: what torch's users write, t being the module torch.
    """

    make: Callable[[], nn.Module]
    shape: Shape
    torch: Callable[..., Any]


class Unpool(nn.Module):
    """Max pooling, and its numbers put back to where they came from."""

    def forward(self, x: Any) -> Any:
        """x where it is the largest of its window, else 0."""
        y, places = F.max_pool2d(x, 2, return_indices=True)
        return F.max_unpool2d(y, places, 2)


# ---- what torch's users write ----------------------------------------------------------------


def _locally_connected(t: Any, x: Any, weight: Any, bias: Any) -> Any:
    o, c, kh, kw, oh, ow = weight.shape
    patches = t.nn.functional.unfold(x, (kh, kw)).view(len(x), c * kh * kw, oh * ow)
    y = t.einsum("nkp,okp->nop", patches, weight.reshape(o, c * kh * kw, oh * ow))
    return y.view(len(x), o, oh, ow) + bias


def _gaussian_pool(size: int, sigma: float, stride: int) -> Callable[..., Any]:
    """A depthwise convolution with fixed weights."""

    def call(t: Any, x: Any) -> Any:
        offset = t.arange(size, dtype=x.dtype) - (size - 1) / 2
        row = t.exp(-(offset**2) / (2 * sigma**2))
        kernel = t.outer(row, row)
        weight = (kernel / kernel.sum()).expand(x.shape[1], 1, size, size)
        return t.nn.functional.conv2d(x, weight, stride=stride, groups=x.shape[1])

    return call


def _unpool(t: Any, x: Any) -> Any:
    y, places = t.nn.functional.max_pool2d(x, 2, return_indices=True)
    return t.nn.functional.max_unpool2d(y, places, 2)


def _sqnl(t: Any, x: Any) -> Any:
    inner = t.where(x < 0, x + x * x / 4, x - x * x / 4)
    return t.where(x < -2, -t.ones_like(x), t.where(x > 2, t.ones_like(x), inner))


def _srelu(t: Any, x: Any, *parameters: Any) -> Any:
    tl, al, tr, ar = (p.view(1, -1, 1, 1) for p in parameters)
    return t.where(x >= tr, tr + ar * (x - tr), t.where(x <= tl, tl + al * (x - tl), x))


def _apl(t: Any, x: Any, a: Any, b: Any) -> Any:
    y = t.relu(x)
    for s in range(len(a)):
        y = y + a[s].view(1, -1, 1, 1) * t.relu(-x + b[s].view(1, -1, 1, 1))
    return y


CASES: dict[str, Case] = {
    "locally_connected2d": Case(
        lambda: nn.LocallyConnected2d(16, 32, 16, 3), (64, 16, 16, 16), _locally_connected
    ),
    "gaussian_pool2d": Case(
        lambda: nn.GaussianPool2d(3, 1.0, 2), _IMAGES, _gaussian_pool(3, 1.0, 2)
    ),
    "l2_pool2d": Case(
        lambda: nn.LPPool2d(2, 2), _IMAGES, lambda t, x: t.nn.functional.lp_pool2d(x, 2.0, 2)
    ),
    "max_unpool2d": Case(Unpool, _IMAGES, _unpool),
    "sqnl": Case(nn.SQNL, _MAPS, _sqnl),
    "isru": Case(nn.ISRU, _MAPS, lambda t, x: x / t.sqrt(1 + x * x)),
    "isrlu": Case(nn.ISRLU, _MAPS, lambda t, x: t.where(x < 0, x / t.sqrt(1 + x * x), x)),
    "srelu": Case(lambda: nn.SReLU(32), _MAPS, _srelu),
    "apl": Case(lambda: nn.APL(2, 32), _MAPS, _apl),
    "relu": Case(nn.ReLU, _MAPS, lambda t, x: t.relu(x)),
}


# ---- measuring -------------------------------------------------------------------------------


def run(problem: Problem, rounds: int) -> Result:
    """Measure one case; with `against=relu` beside that operation of ours instead of torch's."""
    st.set_num_threads(problem.threads)
    case = CASES[problem.name]
    net, arrays = _network(case)
    expected = [np.asarray(a) for a in _ours(net, *arrays, backend="reference")()]
    calls: dict[str, Call] = {OURS: _ours(net, *arrays)}
    absent: list[str] = []
    other = problem.settings.get("against")
    if other is None:
        try:
            calls["torch"] = _torch(case, net, *arrays, threads=problem.threads)
        except ImportError:
            absent.append("torch")
    errors = {
        name: max(error(*pair) for pair in zip(call(), expected, strict=True))
        for name, call in calls.items()
    }
    if other is not None:
        beside, same = _network(CASES[other])
        calls[f"our {other}"] = _ours(beside, *same)
        errors[f"our {other}"] = 0.0
    return _timed(problem, calls, errors, absent, rounds)


def _network(case: Case) -> tuple[nn.Module, tuple[np.ndarray, np.ndarray]]:
    """Our layer, and numbers for its input and the gradient to its output."""
    st.manual_seed(0)
    net, rng = case.make(), np.random.default_rng(0)
    x = rng.standard_normal(case.shape, np.float32)
    return net, (x, rng.standard_normal(net(x[:1]).shape[1:], np.float32)[None].repeat(len(x), 0))


def _ours(net: nn.Module, x: np.ndarray, up: np.ndarray, backend: str | None = None) -> Call:
    to = ["input", *dict(net.named_parameters())]

    def call() -> list[np.ndarray]:
        y, pullback = st.vjp(net, x, to=to, backend=backend)
        return [y, *pullback(up).values()]

    return call


def _torch(case: Case, net: nn.Module, x: np.ndarray, up: np.ndarray, threads: int) -> Call:
    import torch

    torch.set_num_threads(threads)
    leaves = [torch.from_numpy(a.copy()) for a in (x, *(p.data for p in net.parameters()))]
    for leaf in leaves:
        leaf.requires_grad_()
    upstream = torch.from_numpy(up.copy())

    def call() -> list[np.ndarray]:
        y = case.torch(torch, *leaves)
        found: Sequence[Any] = torch.autograd.grad(y, leaves, upstream)
        return [y.detach().numpy(), *(g.numpy() for g in found)]

    return call


def _timed(
    problem: Problem,
    calls: dict[str, Call],
    errors: dict[str, float],
    absent: list[str],
    rounds: int,
) -> Result:
    limit = problem.number("tolerance") or TOLERANCE
    contenders = {}
    for name, call in calls.items():
        if errors[name] <= limit:
            count = timing.repeated(call)
            contenders[name] = (timing.times(call, count), count)
    timed, peak = timing.interleave(contenders, rounds, Peak(problem.threads).run, SECONDS)
    rows = []
    for name, wrong in errors.items():
        if name in timed:
            t = timed[name]
            rows.append(
                Row(name, seconds=t.median, fastest=t.fastest, rounds=t.rounds, error=wrong)
            )
        else:
            rows.append(Row(name, error=wrong, note="wrong, not timed"))
    return Result(problem, rows, absent, {"peak_gflops": peak})
