"""Agreement with Captum on the same networks; and where Captum sees no ReLU, with arithmetic."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import striate as st
from striate import interpret, nn
from tests.interpret.own_net import Net, Own, images

pytestmark = pytest.mark.peer
torch: Any = pytest.importorskip("torch", reason="torch is not installed")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    attr: Any = pytest.importorskip("captum.attr", reason="captum is not installed")
T = torch.nn


@pytest.fixture(scope="module")
def pair() -> tuple[Any, Any]:
    """A network with a residual block, batch norm and pooling, in torch and here."""

    class Block(T.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = T.Conv2d(8, 8, 3, padding=1), T.BatchNorm2d(8)
            self.relu1, self.relu2 = T.ReLU(), T.ReLU()
            self.conv2 = T.Conv2d(8, 8, 3, padding=1)

        def forward(self, x: Any) -> Any:
            return self.relu2(self.conv2(self.relu1(self.norm(self.conv(x)))) + x)

    torch.manual_seed(0)
    theirs = T.Sequential(
        *(T.Conv2d(3, 8, 3, padding=1), T.ReLU(), T.MaxPool2d(2), Block()),
        *(T.AdaptiveAvgPool2d(2), T.Flatten(), T.Linear(32, 5)),
    ).eval()
    with torch.no_grad():
        theirs[3].norm.running_mean.uniform_(-0.5, 0.5)
        theirs[3].norm.running_var.uniform_(0.5, 2)
    return theirs, st.from_torch(theirs)


X = np.random.default_rng(2).normal(size=(3, 3, 16, 16)).astype(np.float32)
TARGETS = [4, 0, 2]


def compare(found: Any, theirs: Any) -> None:
    expected = theirs.detach().numpy()
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())


def inputs() -> Any:
    return torch.from_numpy(X.copy()).requires_grad_()


@pytest.mark.parametrize(
    ("method", "name", "options"),
    [
        (interpret.saliency, "Saliency", {}),
        (interpret.input_x_gradient, "InputXGradient", {}),
        (interpret.guided_backprop, "GuidedBackprop", {}),
        (interpret.deconvolution, "Deconvolution", {}),
    ],
)
def test_gradients(pair: Any, method: Any, name: str, options: Any) -> None:
    theirs, ours = pair
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that hooks are set
        expected = getattr(attr, name)(theirs).attribute(inputs(), target=TARGETS)
    compare(method(ours, X, TARGETS, **options), expected)


def test_integrated_gradients(pair: Any) -> None:
    theirs, ours = pair
    expected, delta = attr.IntegratedGradients(theirs).attribute(
        inputs(),
        baselines=torch.full((3, 3, 16, 16), 0.1),
        target=TARGETS,
        n_steps=20,
        return_convergence_delta=True,
    )
    found, error = interpret.integrated_gradients(
        ours, X, TARGETS, baseline=0.1, steps=20, return_error=True
    )
    compare(found, expected)
    np.testing.assert_allclose(error, delta.numpy(), atol=1e-5)


@pytest.mark.parametrize(("layer", "upsample"), [("3", False), ("3", True), ("0", False)])
def test_grad_cam(pair: Any, layer: str, upsample: bool) -> None:
    theirs, ours = pair
    block = theirs[int(layer)]
    expected = attr.LayerGradCam(theirs, block).attribute(
        inputs(), target=TARGETS, relu_attributions=True
    )
    name = {"3": "3.relu2", "0": "0"}[layer]
    if upsample:
        expected = attr.LayerAttribution.interpolate(expected, (16, 16), "bilinear")
    found = interpret.grad_cam(ours, X, TARGETS, features=name, upsample=upsample)
    compare(found, expected)


def test_guided_grad_cam(pair: Any) -> None:
    theirs, ours = pair
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = attr.GuidedGradCam(theirs, theirs[3]).attribute(
            inputs(), target=TARGETS, interpolate_mode="bilinear"
        )
    compare(interpret.guided_grad_cam(ours, X, TARGETS, features="3.relu2"), expected)


@pytest.mark.parametrize(("window", "stride"), [(4, 4), (5, 3), (8, 4)])
def test_occlusion(pair: Any, window: int, stride: int) -> None:
    theirs, ours = pair
    expected = attr.Occlusion(theirs).attribute(
        torch.from_numpy(X),
        sliding_window_shapes=(3, window, window),
        strides=(3, stride, stride),
        baselines=0.25,
        target=TARGETS,
    )
    found = interpret.occlusion(ours, X, TARGETS, window=window, stride=stride, baseline=0.25)
    compare(np.broadcast_to(found, X.shape), expected)


class Functional(nn.Module):
    """The network of `own_net`, with ReLU as a function: Captum's hooks do not see it."""

    def __init__(self, like: Net) -> None:
        super().__init__()
        self.conv1, self.conv2, self.fc = like.conv1, like.conv2, like.fc

    def forward(self, x: Any) -> Any:
        F = nn.functional
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        return self.fc(F.relu(self.conv2(x)).flatten(1))


@pytest.mark.parametrize(
    ("method", "name", "rule"),
    [
        (interpret.guided_backprop, "GuidedBackprop", "guided"),
        (interpret.deconvolution, "Deconvolution", "deconvolution"),
    ],
)
def test_relus_that_are_functions_or_used_twice(method: Any, name: str, rule: str) -> None:
    """Captum's rule is bound to ReLU modules: it leaves out functions; ours reads the graph."""
    net, x = Net(), images(1)
    expected = Own(net, x[0]).map(1, rule)
    for ours in (net, Functional(net)):
        np.testing.assert_allclose(method(ours, x, 1)[0], expected, rtol=1e-4, atol=1e-6)

    class Theirs(T.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2, self.fc = T.Conv2d(1, 3, 3), T.Conv2d(3, 2, 2), T.Linear(8, 4)

        def forward(self, x: Any) -> Any:
            x = torch.max_pool2d(torch.relu(self.conv1(x)), 2)
            return self.fc(torch.relu(self.conv2(x)).flatten(1))

    theirs = Theirs()
    theirs.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in net.state_dict().items()})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        given = torch.from_numpy(x.copy()).requires_grad_()
        captum = getattr(attr, name)(theirs).attribute(given, target=1).detach().numpy()
    gradient = Own(net, x[0]).map(1)
    np.testing.assert_allclose(captum[0], gradient, rtol=1e-4, atol=1e-6)
    assert not np.allclose(captum[0], expected, rtol=0.1, atol=1e-3)
