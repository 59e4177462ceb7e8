"""Schedules: values by hand, against torch's schedulers, and their settings."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from striate import optim
from striate.errors import OptionError
from striate.optim.schedule import Schedule

EPOCHS, PER_EPOCH = 6, 5
TOTAL = EPOCHS * PER_EPOCH


def rates(schedule: Schedule, lr: float = 0.1, total: int = TOTAL) -> list[float]:
    return [schedule.at(lr, step, total, PER_EPOCH) for step in range(total)]


def test_constant() -> None:
    assert rates(optim.Constant()) == [0.1] * TOTAL


def test_step_is_counted_in_epochs() -> None:
    got = rates(optim.Step(step_size=2, gamma=0.5))
    assert got == [0.1] * 10 + [0.05] * 10 + [0.025] * 10


def test_cosine_ends_near_its_minimum_and_never_rises() -> None:
    got = rates(optim.Cosine(min_lr=0.01))
    assert got[0] == 0.1
    assert got[TOTAL // 2] == pytest.approx(0.055)
    assert got == sorted(got, reverse=True)
    assert 0.01 < got[-1] < 0.011


def test_warmup_rises_in_a_line_and_reaches_the_rate() -> None:
    got = rates(optim.Cosine(warmup=1))
    assert got[:6] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1, 0.1])
    # A warm-up longer than the training only ever rises.
    assert rates(optim.Cosine(warmup=99)) == pytest.approx(
        [0.1 * (t + 1) / TOTAL for t in range(TOTAL)]
    )


@pytest.mark.parametrize("total", [1, 2, 3])
def test_short_trainings_have_finite_rates(total: int) -> None:
    for name in optim.SCHEDULES:
        for rate in rates(optim.make_schedule(name), total=total):
            assert 0 <= rate <= 0.1, name


def torch_rates(make: Callable[[Any, Any], Any], steps: int) -> list[float]:
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = make(torch.optim.lr_scheduler, optimizer)
    got = []
    for _ in range(steps):
        got.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return got


@pytest.mark.peer
@pytest.mark.parametrize("rise", [0.3, 0.5, 0.25])
def test_one_cycle_is_torch(rise: float) -> None:
    theirs = torch_rates(
        lambda s, o: s.OneCycleLR(o, 0.4, total_steps=TOTAL, pct_start=rise, cycle_momentum=False),
        TOTAL - 1,
    )
    ours = rates(optim.OneCycle(max_lr=0.4, rise=rise))
    assert ours[: TOTAL - 1] == pytest.approx(theirs, rel=1e-12)
    assert ours[-1] == pytest.approx(0.4 / 25 / 1e4, rel=1e-9)


@pytest.mark.peer
def test_cosine_is_torch() -> None:
    theirs = torch_rates(lambda s, o: s.CosineAnnealingLR(o, TOTAL, eta_min=0.01), TOTAL)
    assert rates(optim.Cosine(min_lr=0.01)) == pytest.approx(theirs, rel=1e-12)


@pytest.mark.peer
def test_step_is_torch() -> None:
    theirs = torch_rates(lambda s, o: s.StepLR(o, 2 * PER_EPOCH, gamma=0.3), TOTAL)
    assert rates(optim.Step(2, 0.3)) == pytest.approx(theirs, rel=1e-12)


def plateau_losses() -> list[float]:
    rng = np.random.default_rng(4)
    return (1 / (1 + np.arange(60) / 6) + 0.2 * rng.random(60)).tolist()


@pytest.mark.peer
@pytest.mark.parametrize("settings", [{}, {"patience": 1, "cooldown": 3}, {"threshold": 0.2}])
def test_plateau_is_torch(settings: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    given = {"factor": 0.5, "patience": 3, "min_lr": 1e-3, **settings}
    peer_optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    peer = torch.optim.lr_scheduler.ReduceLROnPlateau(peer_optimizer, **given)
    history: list[dict[str, float]] = []
    for loss in plateau_losses():
        rate = optim.Plateau(**given).after(history, 0.1, 0, 600, 10)
        assert rate == pytest.approx(peer_optimizer.param_groups[0]["lr"], rel=1e-12)
        history.append({"loss": 9.0, "validation_loss": loss})
        peer.step(loss)
    assert rate < 0.05


def test_warmup_lowers_the_first_rates_of_any_schedule() -> None:
    found = rates(optim.Warmup(optim.Step(step_size=2, gamma=0.5), epochs=1.5))
    plain = rates(optim.Step(step_size=2, gamma=0.5))
    warm = round(1.5 * PER_EPOCH)
    expected = [min(1.0, (k + 1) / warm) * rate for k, rate in enumerate(plain)]
    assert found == expected
    assert found[0] < found[warm - 1] == plain[warm - 1]
    history = [{"loss": 1.0}] * 9
    schedule = optim.Warmup(optim.Plateau(factor=0.5, patience=3), epochs=1)
    assert schedule.after(history, 0.1, 9 * PER_EPOCH, TOTAL, PER_EPOCH) == 0.025
    assert optim.Warmup(optim.Cosine()).needs_end
    assert not optim.Warmup(optim.Constant()).needs_end
    assert schedule.settings()["schedule"]["name"] == "Plateau"


def test_one_cycle_takes_the_optimizers_rate() -> None:
    assert max(rates(optim.OneCycle(), lr=0.7)) == pytest.approx(0.7)


def test_settings_are_json() -> None:
    for name in optim.SCHEDULES:
        settings = optim.make_schedule(name).settings()
        assert json.loads(json.dumps(settings)) == settings


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optim.Step(step_size=0), "Step: expected a number at least 1; got step_size=0"),
        (lambda: optim.Step(step_size=1.5), "expected a whole number of epochs"),
        (lambda: optim.Step(gamma=-1), "got gamma=-1"),
        (lambda: optim.Cosine(min_lr=-1), "got min_lr=-1"),
        (lambda: optim.Cosine(warmup=-1), "got warmup=-1"),
        (lambda: optim.OneCycle(rise=1.0), r"below 1; got rise=1\.0"),
        (lambda: optim.OneCycle(div_factor=0), "expected a number above 0; got div_factor=0"),
        (lambda: optim.Warmup("cosine"), "expected a schedule of striate.optim; got 'cosine'"),
        (lambda: optim.Warmup(optim.Step(), -1), "got epochs=-1"),
        (lambda: optim.Plateau(factor=1.0), r"below 1; got factor=1\.0"),
        (lambda: optim.Plateau(patience=-1), "got patience=-1"),
        (lambda: optim.make_schedule("cosin"), "unknown name 'cosin'. Did you mean 'cosine'"),
        (lambda: optim.make_schedule("step", size=3), "step does not take these settings"),
    ],
)
def test_bad_settings(make: Callable[[], object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        make()
