"""Clipped gradients, noted norms, averaged weights: rules, and the same numbers as torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import striate as st
from striate import nn, optim
from striate.errors import OptionError
from striate.optim.extend import AVERAGE
from striate.program import build_training

SHAPE = (2, 6, 6)
STEPS, BATCH, RATE = 5, 16, 0.1


def plain() -> nn.Module:
    st.manual_seed(1)
    layers = [nn.Conv2d(2, 5, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(45, 130), nn.ReLU(), nn.Linear(130, 4))


def normed() -> nn.Module:
    st.manual_seed(1)
    layers = [nn.Conv2d(2, 5, 3, padding=1, bias=False), nn.BatchNorm2d(5), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(180, 130), nn.ReLU(), nn.Linear(130, 4))


def data() -> Any:
    rng = np.random.default_rng(3)
    return rng.normal(size=(STEPS * BATCH, *SHAPE)).astype("f4"), rng.integers(0, 4, STEPS * BATCH)


def course(net: nn.Module, optimizer: optim.Optimizer, backend: str) -> Any:
    """Some steps; the result, the parameters and the state afterwards."""
    graph = net.train().to_graph(SHAPE)
    program = build_training(
        graph, loss="cross_entropy", rule=optimizer.rule(), backend=backend, batch_size=BATCH
    )
    for name, array in net.graph_arrays(graph).items():
        program.parameters[name][...] = array
    images, labels = data()
    hyper = np.array([optimizer.hyper(s, RATE) for s in range(STEPS)], np.float32)
    order = np.arange(len(images))
    result = program.run(images, labels, order, batch_size=BATCH, hyper=hyper)
    return result, program.parameters, program.state


def sgd(**more: Any) -> optim.SGD:
    return optim.SGD(RATE, momentum=0.9, weight_decay=0.01, **more)


EXTENDED: dict[str, Callable[[], optim.Optimizer]] = {
    "norm": lambda: optim.ClipNorm(sgd(), 0.3),
    "value": lambda: optim.ClipValue(sgd(), 0.01),
    "noted": lambda: optim.GradientNorm(sgd()),
    "all": lambda: optim.Average(optim.ClipNorm(optim.ClipValue(sgd(), 0.05), 0.2), 0.6),
}


@pytest.mark.parametrize("name", EXTENDED)
@pytest.mark.parametrize("make", [plain, normed])
def test_native_is_the_reference(name: str, make: Callable[[], nn.Module]) -> None:
    optimizer = EXTENDED[name]()
    native, reference = (course(make(), optimizer, b) for b in ("native", "reference"))
    for key in reference[1]:
        np.testing.assert_allclose(native[1][key], reference[1][key], rtol=2e-4, atol=2e-6)
    for key in reference[2]:
        np.testing.assert_allclose(native[2][key], reference[2][key], rtol=2e-4, atol=2e-6)
    np.testing.assert_allclose(native[0].gradient_norms, reference[0].gradient_norms, rtol=1e-5)
    assert len(native[0].gradient_norms) == (0 if name == "value" else STEPS)


@pytest.mark.parametrize("make", [plain, normed])
def test_noting_the_norm_changes_no_bit_and_threads_change_none(
    make: Callable[[], nn.Module],
) -> None:
    before = st.get_num_threads()
    without = course(make(), sgd(), "native")
    noted = course(make(), optim.GradientNorm(sgd()), "native")
    st.set_num_threads(1)
    try:
        alone = course(make(), optim.GradientNorm(sgd()), "native")
    finally:
        st.set_num_threads(before)
    for key, array in without[1].items():
        assert array.tobytes() == noted[1][key].tobytes() == alone[1][key].tobytes()
    assert noted[0].gradient_norms.tobytes() == alone[0].gradient_norms.tobytes()


def test_the_average_is_the_formula() -> None:
    seen: list[dict[str, Any]] = []
    optimizer = optim.Average(sgd(), 0.6)
    net = normed()
    graph = net.train().to_graph(SHAPE)
    program = build_training(
        graph, loss="cross_entropy", rule=optimizer.rule(), backend="native", batch_size=BATCH
    )
    for name, array in net.graph_arrays(graph).items():
        program.parameters[name][...] = array
    images, labels = data()
    wanted: dict[str, Any] = {}
    for step in range(STEPS):
        rows = np.arange(step * BATCH, (step + 1) * BATCH)
        hyper = np.array([optimizer.hyper(step, RATE)], np.float32)
        program.run(images, labels, rows, batch_size=BATCH, hyper=hyper, first_step=step)
        decay = min(0.6, step / (10 + step))
        for name, array in program.parameters.items():
            old = wanted.get(name, np.zeros(array.shape))
            wanted[name] = decay * old + (1 - decay) * array.astype(np.float64)
        seen.append({name: a.copy() for name, a in program.parameters.items()})
    statistics = [name for name in wanted if "running" in name]
    assert len(statistics) == 2
    for name, value in wanted.items():
        found = program.state[f"{AVERAGE}:{name}"]
        np.testing.assert_allclose(found, value, rtol=1e-5, atol=1e-6)
        assert np.abs(found - seen[-1][name]).max() > 0


@pytest.mark.peer
@pytest.mark.parametrize("how", ["norm", "value"])
def test_clipping_is_torch(how: str) -> None:
    torch = pytest.importorskip("torch")
    net, images, labels = plain(), *data()
    peer = torch.nn.Sequential(
        *(torch.nn.Conv2d(2, 5, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2)),
        *(torch.nn.Flatten(), torch.nn.Linear(45, 130), torch.nn.ReLU(), torch.nn.Linear(130, 4)),
    )
    peer.load_state_dict({k: torch.tensor(np.array(v)) for k, v in net.state_dict().items()})
    steps = torch.optim.SGD(peer.parameters(), RATE, momentum=0.9, weight_decay=0.01)
    norms = []
    for k in range(STEPS):
        rows = slice(k * BATCH, (k + 1) * BATCH)
        steps.zero_grad()
        loss = torch.nn.functional.cross_entropy(
            peer(torch.tensor(images[rows])), torch.tensor(labels[rows])
        )
        loss.backward()
        if how == "norm":
            norms.append(float(torch.nn.utils.clip_grad_norm_(peer.parameters(), 0.3)))
        else:
            torch.nn.utils.clip_grad_value_(peer.parameters(), 0.01)
        steps.step()
    result, parameters, _ = course(net, EXTENDED[how](), "native")
    for name, value in peer.named_parameters():
        np.testing.assert_allclose(
            parameters[name], value.detach().numpy(), rtol=1e-3, atol=2e-6, err_msg=name
        )
    np.testing.assert_allclose(result.gradient_norms, norms, rtol=1e-4)


def test_a_short_gradient_is_left_alone() -> None:
    """The clipped rule with a bound far above every norm is the plain one."""
    plain_one = course(plain(), sgd(), "reference")
    clipped = course(plain(), optim.ClipNorm(sgd(), 1e6), "reference")
    for name, array in plain_one[1].items():
        assert array.tobytes() == clipped[1][name].tobytes()


def test_settings_are_nested_json() -> None:
    optimizer = optim.Average(optim.ClipNorm(optim.SGD(0.1), 2.0), 0.9)
    assert optimizer.settings() == {
        "name": "Average",
        "decay": 0.9,
        "optimizer": {
            "name": "ClipNorm",
            "max_norm": 2.0,
            "optimizer": optim.SGD(0.1).settings(),
        },
    }
    assert optimizer.lr == 0.1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optim.ClipNorm(optim.SGD(0.1), 0.0), "above 0; got max_norm=0"),
        (lambda: optim.ClipValue(optim.SGD(0.1), -1.0), "at least 0; got max_value=-1.0"),
        (lambda: optim.ClipNorm(0.1, 1.0), r"expected an optimiser of striate.optim; got 0.1"),
        (lambda: optim.Average(optim.SGD(0.1), 1.0), "below 1; got decay=1.0"),
        (lambda: optim.Average(optim.Average(optim.SGD(0.1))), "without an average"),
    ],
)
def test_refusals(make: Callable[[], object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        make()
