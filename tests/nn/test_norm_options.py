"""Options of batch norm in programs and files; norms of single samples; messages."""

from __future__ import annotations

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.errors import OptionError, ShapeError, TraceError
from striate.graph.statistics import buffers
from striate.nn import functional as F

OPTIONS = {
    "not affine": {"affine": False},
    "no bias": {"bias": False},
    "no statistics": {"track_running_stats": False},
    "bare": {"affine": False, "track_running_stats": False},
}


def images(*shape):
    return np.random.default_rng(0).normal(1, 2, shape or (6, 2, 5, 4)).astype(np.float32)


def net_with(size, **options):
    st.manual_seed(2)
    norm = nn.BatchNorm2d(3, momentum=0.25, **options)
    last = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))
    return nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, bias=False), norm, nn.ReLU(), *last)


@pytest.mark.parametrize("kind", OPTIONS)
@pytest.mark.parametrize("size", [6, 72])
def test_training_is_the_references(kind, size):
    """In programs of both kinds; what is not learned stays."""
    x, labels, found = images(16, 2, size, size), np.arange(16) % 4, []
    for backend in ("native", "reference"):
        net = net_with(size, **OPTIONS[kind])
        st.fit(net, (x, labels), epochs=2, batch_size=8, progress=False, backend=backend)
        found.append(net.arrays())
        if not net[1].affine:
            assert (net[1]._one == 1).all()
        if net[1].bias is None:
            assert not net[1]._zero.any()
    for name, array in found[0].items():
        np.testing.assert_allclose(array, found[1][name], rtol=2e-3, atol=2e-4, err_msg=name)


@pytest.mark.parametrize("kind", OPTIONS)
def test_files_and_snapshots(kind, tmp_path):
    net, x = net_with(6, **OPTIONS[kind]), images()
    net(x)
    expected = net.eval()(x)
    st.save(net, tmp_path / "net.safetensors")
    np.testing.assert_allclose(st.load(tmp_path / "net.safetensors")(x), expected, atol=1e-6)
    np.testing.assert_allclose(st.freeze(net)(x), expected, atol=1e-6)


def test_what_is_not_learned():
    net = net_with(6, affine=False)
    names = buffers(net.to_graph((2, 5, 4)))
    assert names == ("1.running_mean", "1.running_var", "1._one", "1._zero")
    assert [name for name, _ in net.named_parameters() if name.startswith("1")] == []
    assert "1._one" not in net.state_dict()


def test_the_batchs_statistics_in_evaluation():
    norm, x = nn.BatchNorm2d(2, track_running_stats=False).eval(), images()
    y = norm(x)
    np.testing.assert_allclose(y.mean((0, 2, 3)), 0, atol=1e-5)
    assert not np.allclose(norm(x[:3]), y[:3], atol=1e-2), "a sample depends on the others"
    expected = F.batch_norm(x, None, None, training=True)
    np.testing.assert_allclose(norm.program(x.shape[1:]).run(x, norm.arrays()), expected, atol=1e-5)


def test_the_mean_over_all_batches():
    norm, x = nn.BatchNorm2d(2, momentum=None), images()
    parts = np.split(x, 3)
    for part in parts:
        norm(part)
    means = [part.mean((0, 2, 3)) for part in parts]
    np.testing.assert_allclose(norm.running_mean, np.mean(means, 0), rtol=1e-5)
    net = net_with(6)
    net[1].momentum = None
    with pytest.raises(OptionError, match=r"1: expected momentum to be a number .* trains; got N"):
        st.fit(net, (images(8, 2, 6, 6), np.arange(8) % 4), epochs=1, progress=False)


# ---- of single samples -----------------------------------------------------------------------


def test_equalities():
    x = images(3, 4, 2, 3)
    np.testing.assert_allclose(F.group_norm(x, 1), F.layer_norm(x, (4, 2, 3)), atol=1e-6)
    np.testing.assert_allclose(F.group_norm(x, 4), F.instance_norm(x), atol=1e-6)
    alone = np.concatenate([F.batch_norm(k[None], None, None, training=True) for k in x])
    np.testing.assert_allclose(F.instance_norm(x), alone, atol=1e-5)
    flat = x.reshape(3, -1)
    np.testing.assert_allclose(
        F.rms_norm(flat - flat.mean(1, keepdims=True), 24, eps=1e-5),
        F.layer_norm(flat, 24),
        atol=1e-5,
    )


def test_adaptive_instance_norm_takes_the_styles_statistics():
    x, style = images(3, 4, 6, 5), images(3, 4, 3, 7) * 3 + 1
    y = F.adain(x, style)
    np.testing.assert_allclose(y.mean((2, 3)), style.mean((2, 3)), atol=1e-4)
    np.testing.assert_allclose(y.std((2, 3)), style.std((2, 3)), rtol=1e-4)
    scale, shift = images(3, 4), images(3, 4) + 1
    found = F.adain(x, scale=scale, shift=shift)
    expected = F.instance_norm(x) * scale[..., None, None] + shift[..., None, None]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(F.adain(x, x), x, atol=1e-4)


class Styled(nn.Module):
    """The second half of the channels is the style of the first."""

    def __init__(self, by_numbers):
        super().__init__()
        self.by_numbers, self.norm = by_numbers, nn.AdaptiveInstanceNorm()
        self.scale, self.shift = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x):
        half = x[:, :2]
        if not self.by_numbers:
            return self.norm(half, x[:, 2:])
        code = F.flatten(F.adaptive_avg_pool2d(x[:, 2:], 1), 1)
        return self.norm(half, self.scale(code), self.shift(code))


@pytest.mark.parametrize("by_numbers", [False, True])
def test_adaptive_instance_norm_in_a_network(by_numbers):
    net, x = Styled(by_numbers), images(3, 4, 5, 5)
    y = net(x)
    if by_numbers:
        code = x[:, 2:].mean((2, 3))
        expected = F.adain(x[:, :2], scale=net.scale(code), shift=net.shift(code))
    else:
        expected = F.adain(x[:, :2], x[:, 2:])
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


ERRORS = [
    (
        lambda: nn.GroupNorm(3, 4),
        OptionError,
        "num_groups to divide num_channels; got num_groups=3",
    ),
    (lambda: nn.LayerNorm(()), OptionError, "LayerNorm: expected normalized_shape of at least one"),
    (
        lambda: nn.LayerNorm(5)(images()),
        ShapeError,
        r"x \(n, …, 5\), as normalized_shape says; got",
    ),
    (
        lambda: F.group_norm(images(), 3),
        ShapeError,
        "groups to divide the channels; got 3 groups f",
    ),
    (lambda: nn.GroupNorm(2, 4)(images()), ShapeError, r"w expected shape \(2,\) for x \(2, 5, 4"),
    (lambda: nn.InstanceNorm2d(2)(images(2, 2)), ShapeError, r"InstanceNorm2d: expected x \(n, c"),
    (lambda: F.instance_norm(images(2, 3)), ShapeError, "at least one axis of space; got shape"),
    (lambda: F.adain(images()), OptionError, "adain: expected a style, or both scale and shift; g"),
    (lambda: F.adain(images(), scale=images(6, 2)), OptionError, "both scale and shift; got scale"),
    (lambda: F.adain(images(), images(6, 3, 2)), ShapeError, "style expected 2 channels and at le"),
    (lambda: F.layer_norm(images(), 4, eps=-1.0), OptionError, "eps expected a number of at least"),
    (
        lambda: nn.InstanceNorm2d(2, track_running_stats=True)(images()),
        TraceError,
        "keeps no running statistics while it trains.*call eval",
    ),
]


@pytest.mark.parametrize("k", range(len(ERRORS)))
def test_what_does_not_fit(k):
    call, kind, message = ERRORS[k]
    with pytest.raises(kind, match=message):
        call()
