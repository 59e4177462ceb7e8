"""Optimisers: against the written formulas in plain NumPy, against torch, and their settings."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from striate import optim
from striate.errors import OptionError
from striate.formula.update import apply_numpy

STEPS, LENGTH = 7, 11
RATES = [0.05 / (1 + step) for step in range(STEPS)]
Array = np.ndarray[Any, Any]


def start() -> tuple[Array, list[Array]]:
    rng = np.random.default_rng(3)
    return rng.normal(size=LENGTH), [rng.normal(size=LENGTH) for _ in range(STEPS)]


def run_rule(optimizer: optim.Optimizer) -> Iterator[Array]:
    """The parameter after each step, by the optimiser's own rule in float64."""
    p, gradients = start()
    rule = optimizer.rule()
    state: dict[str, Array] = {name: np.zeros(LENGTH) for name in rule.state}
    for step, g in enumerate(gradients):
        hyper = optimizer.hyper(step, RATES[step])
        assert len(hyper) == len(rule.hyper)
        p, state = apply_numpy(rule, p, g, state, dict(zip(rule.hyper, hyper, strict=True)))
        yield p


# ---- the same formulas, written once more without expressions ---------------------------------


def plain_sgd(momentum: float, nesterov: bool, decay: float) -> Iterator[Array]:
    p, gradients = start()
    v = np.zeros(LENGTH)
    for lr, g in zip(RATES, gradients, strict=True):
        g = g + decay * p
        v = momentum * v + g
        p = p - lr * (g + momentum * v if nesterov else v)
        yield p


def plain_adam(decay: float, decoupled: bool) -> Iterator[Array]:
    p, gradients = start()
    m, v = np.zeros(LENGTH), np.zeros(LENGTH)
    for t, (lr, g) in enumerate(zip(RATES, gradients, strict=True), start=1):
        if decoupled:
            p = p * (1 - lr * decay)
        else:
            g = g + decay * p
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g * g
        p = p - lr * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        yield p


def plain_rmsprop(decay: float, momentum: float) -> Iterator[Array]:
    p, gradients = start()
    v, b = np.zeros(LENGTH), np.zeros(LENGTH)
    for lr, g in zip(RATES, gradients, strict=True):
        g = g + decay * p
        v = 0.99 * v + 0.01 * g * g
        b = momentum * b + g / (np.sqrt(v) + 1e-8)
        p = p - lr * b
        yield p


CASES: list[tuple[optim.Optimizer, Callable[[], Iterator[Array]]]] = [
    (optim.SGD(0.05), lambda: plain_sgd(0.0, False, 0.0)),
    (optim.SGD(0.05, weight_decay=0.1), lambda: plain_sgd(0.0, False, 0.1)),
    (optim.SGD(0.05, momentum=0.9), lambda: plain_sgd(0.9, False, 0.0)),
    (optim.SGD(0.05, 0.9, True, 0.1), lambda: plain_sgd(0.9, True, 0.1)),
    (optim.Adam(), lambda: plain_adam(0.0, False)),
    (optim.Adam(weight_decay=0.1), lambda: plain_adam(0.1, False)),
    (optim.AdamW(), lambda: plain_adam(0.01, True)),
    (optim.AdamW(weight_decay=0.0), lambda: plain_adam(0.0, True)),
    (optim.RMSProp(), lambda: plain_rmsprop(0.0, 0.0)),
    (optim.RMSProp(weight_decay=0.1, momentum=0.9), lambda: plain_rmsprop(0.1, 0.9)),
]


@pytest.mark.parametrize(("optimizer", "plain"), CASES, ids=[str(case[0]) for case in CASES])
def test_rule_is_the_formula(
    optimizer: optim.Optimizer, plain: Callable[[], Iterator[Array]]
) -> None:
    for ours, theirs in zip(run_rule(optimizer), plain(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-13, atol=1e-14)


@pytest.mark.peer
@pytest.mark.parametrize("optimizer", [case[0] for case in CASES], ids=str)
def test_rule_is_torch(optimizer: optim.Optimizer) -> None:
    torch = pytest.importorskip("torch")
    settings = optimizer.settings()
    name = {"RMSProp": "RMSprop"}.get(settings["name"], settings["name"])
    p, gradients = start()
    parameter = torch.nn.Parameter(torch.tensor(p))
    theirs = getattr(torch.optim, name)(
        [parameter], **{k: v for k, v in settings.items() if k != "name"}
    )
    for step, ours in enumerate(run_rule(optimizer)):
        theirs.param_groups[0]["lr"] = RATES[step]
        parameter.grad = torch.tensor(gradients[step])
        theirs.step()
        np.testing.assert_allclose(ours, parameter.detach().numpy(), rtol=1e-12, atol=1e-13)


@pytest.mark.peer
@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSProp"])
def test_defaults_are_torch(name: str) -> None:
    torch = pytest.importorskip("torch")
    ours = getattr(optim, name)(**({"lr": 1e-3} if name == "SGD" else {})).settings()
    theirs = getattr(torch.optim, {"RMSProp": "RMSprop"}.get(name, name))(
        [torch.nn.Parameter(torch.zeros(1))]
    ).defaults
    for key, value in ours.items():
        if key != "name":
            assert theirs[key] == (tuple(value) if isinstance(value, list) else value), key


def test_zero_gradient_moves_nothing() -> None:
    for optimizer in (optim.SGD(0.1, 0.9), optim.Adam(), optim.RMSProp(momentum=0.5)):
        rule = optimizer.rule()
        hyper = dict(zip(rule.hyper, optimizer.hyper(0, 0.1), strict=True))
        p, _ = apply_numpy(rule, [1.5], [0.0], {n: [0.0] for n in rule.state}, hyper)
        assert p.tolist() == [1.5], optimizer


def test_adam_bias_corrections_in_float64_at_late_steps() -> None:
    *_, root, eps = optim.Adam().hyper(step=10**6, lr=0.1)
    assert (root, eps) == (1.0, 1e-8)
    assert optim.Adam().hyper(step=0, lr=0.1)[0] == pytest.approx(1.0, rel=1e-15)


def test_settings_are_json() -> None:
    for name in optim.OPTIMIZERS:
        settings = optim.make_optimizer(name).settings()
        assert json.loads(json.dumps(settings)) == settings


def test_state_is_only_what_is_needed() -> None:
    assert optim.SGD(0.1).rule().state == ()
    assert optim.SGD(0.1, momentum=0.9).rule().state == ("momentum",)
    assert optim.RMSProp().rule().state == ("mean_square",)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optim.SGD(-0.1), r"SGD: expected a number at least 0; got lr=-0\.1\."),
        (lambda: optim.SGD(float("nan")), "got lr=nan"),
        (lambda: optim.SGD(float("inf")), "got lr=inf"),
        (lambda: optim.SGD("0.1"), "got lr='0.1'"),
        (lambda: optim.SGD(0.1, momentum=-1), "got momentum=-1"),
        (lambda: optim.SGD(0.1, nesterov=True), "expected momentum > 0 with nesterov=True"),
        (lambda: optim.SGD(0.1, 0.9, "yes"), "expected True or False; got nesterov='yes'"),
        (lambda: optim.Adam(betas=(0.9, 1.0)), r"below 1; got betas\[1\]=1\.0"),
        (lambda: optim.Adam(betas=0.9), r"expected two numbers; got betas=0\.9"),
        (lambda: optim.AdamW(weight_decay=-1), "AdamW: .* got weight_decay=-1"),
        (lambda: optim.RMSProp(alpha=1), "below 1; got alpha=1"),
        (lambda: optim.make_optimizer("adm"), "unknown name 'adm'. Did you mean 'adam'"),
    ],
)
def test_bad_settings(make: Callable[[], object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        make()


def test_by_name() -> None:
    assert optim.make_optimizer("sgd", lr=0.5) == optim.SGD(0.5)
    assert optim.make_optimizer("nesterov") == optim.SGD(0.01, 0.9, True)
    assert optim.make_optimizer("adamw", weight_decay=0.1) == optim.AdamW(weight_decay=0.1)
    assert optim.make_optimizer("adamw").settings()["weight_decay"] == 0.01
