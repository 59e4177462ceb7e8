"""Maps of networks with several inputs: one is looked at, the others stay as they are."""

from __future__ import annotations

import numpy as np
import pytest

import striate as st
from striate import interpret, nn
from striate.errors import OptionError
from striate.inspect import OneInput, Probe
from striate.nn import functional as F

RNG = np.random.default_rng(6)
LEFT = RNG.normal(size=(3, 1, 8, 8)).astype(np.float32)
RIGHT = RNG.normal(size=(3, 2, 8, 8)).astype(np.float32)


class Two(nn.Module):
    """Two pictures, whose features are multiplied: a map of one depends on the other."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 4, 3), nn.Conv2d(2, 4, 3)
        self.fc = nn.Linear(4 * 36, 3)

    def forward(self, left, right):
        return self.fc((F.relu(self.a(left)) * self.b(right)).flatten(1))


class Bound(nn.Module):
    """The same network with the right picture built in: what maps are compared with."""

    def __init__(self, net, right):
        super().__init__()
        self.a, self.fc = net.a, net.fc
        self.features = nn.Parameter(net.b(right)[0])

    def forward(self, left):
        return self.fc((F.relu(self.a(left)) * self.features).flatten(1))


@pytest.fixture(scope="module")
def net():
    st.manual_seed(2)
    return Two()


METHODS = {
    "saliency": interpret.saliency,
    "input_x_gradient": interpret.input_x_gradient,
    "smoothgrad": lambda n, x, t: interpret.smoothgrad(n, x, t, samples=3, seed=1),
    "integrated_gradients": lambda n, x, t: interpret.integrated_gradients(n, x, t, steps=7),
    "guided_backprop": interpret.guided_backprop,
    "deconvolution": interpret.deconvolution,
    "grad_cam": lambda n, x, t: interpret.grad_cam(n, x, t, features="relu"),
    "occlusion": lambda n, x, t: interpret.occlusion(n, x, t, window=3, stride=2, batch=4),
}


@pytest.mark.parametrize("name", METHODS)
def test_a_map_is_that_of_the_network_with_the_other_input_built_in(net, name):
    """Each image has an other input of its own, also where many copies go through together."""
    method = METHODS[name]
    together = method(OneInput(net, (None, RIGHT)), LEFT, [0, 1, 2])
    if name == "smoothgrad":  # its noise is drawn for all images
        assert together.shape == LEFT.shape
        first = method(OneInput(net, (None, RIGHT[:1])), LEFT[:1], [0])
        np.testing.assert_allclose(first, method(Bound(net, RIGHT[:1]), LEFT[:1], [0]), atol=1e-6)
        return
    for k in range(3):
        alone = method(Bound(net, RIGHT[k : k + 1]), LEFT[k : k + 1], [k])
        np.testing.assert_allclose(together[k : k + 1], alone, rtol=1e-4, atol=1e-6)
    assert np.ptp(together) > 0


def test_the_second_input_and_one_other_for_all(net):
    seen = OneInput(net, (LEFT[:1], None))
    found = interpret.saliency(seen, RIGHT, 1, absolute=False)
    assert found.shape == RIGHT.shape
    want = st.vjp(net, (np.repeat(LEFT[:1], 3, axis=0), RIGHT))[1](np.eye(3)[[1, 1, 1]])[1]
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(seen(RIGHT), net(np.repeat(LEFT[:1], 3, axis=0), RIGHT))
    assert repr(seen) == "OneInput(Two, ((1, 1, 8, 8), …))"


def test_checks_and_made_images(net):
    seen = OneInput(net, (None, RIGHT))
    maps = interpret.saliency(seen, LEFT, 0)
    curves = interpret.deletion_insertion(seen, LEFT, maps, 0, of="score", steps=5)
    np.testing.assert_allclose(curves.insertion[:, -1], net(LEFT, RIGHT)[:, 0], rtol=1e-4)
    drawn = interpret.randomization_test(seen, LEFT, interpret.saliency, 0)
    assert drawn.layers == ("fc", "b", "a") and drawn.maps.shape == (4, *LEFT.shape)
    made = interpret.maximize(OneInput(net, (None, RIGHT[:1])), "a", 2, shape=(1, 8, 8), steps=5)
    assert made.images.shape == (1, 1, 8, 8)


def test_bad_input(net):
    for given in ((None, None), (LEFT, RIGHT), (None,)):
        with pytest.raises(OptionError, match=r"OneInput: expected a batch for each input but one"):
            OneInput(net, given)
    for method in (interpret.saliency, interpret.occlusion):
        with pytest.raises(
            OptionError, match=r"one sample, or of as many as there are images, 2; "
        ):
            method(OneInput(net, (None, RIGHT)), LEFT[:2], 0)
    with pytest.raises(OptionError, match=r"OneInput: expected one sample of each .* got 2, 3\."):
        OneInput(net, (None, RIGHT, LEFT[:2]))
    with pytest.raises(OptionError, match=r"OneInput: expected a network; got function"):
        OneInput(lambda a, b: a, (None, RIGHT))
    with pytest.raises(OptionError, match=r"takes left, right. Write striate.inspect.OneInput\("):
        interpret.saliency(net, LEFT)
    probe = Probe(OneInput(net, (None, RIGHT)), (1, 8, 8))
    assert probe.input == "input" and probe.inputs == ("input", "input_1")
