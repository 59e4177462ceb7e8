"""Networks that answer otherwise in training: several heads learn, one is judged by."""

from __future__ import annotations

import numpy as np
import pytest

import striate as st
from striate import models, nn
from striate.errors import OptionError, ShapeError
from striate.nn import functional as F

RNG = np.random.default_rng(2)
LABELS = np.arange(48) % 3
IMAGES = RNG.normal(size=(48, 1, 6, 6)).astype(np.float32) + LABELS[:, None, None, None]
WEIGHTS = (1.0, 0.4)


class Heads(nn.Module):
    """Two heads behind one convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.main, self.side = nn.Linear(64, 3), nn.Linear(64, 3)

    def forward(self, x):
        x = F.relu(self.conv(x)).flatten(1)
        return F.stack((self.main(x), self.side(x)), dim=2) if self.training else self.main(x)


def trained(backend=None, **more):
    st.manual_seed(5)
    net = Heads()
    settings = {"epochs": 3, "batch_size": 12, "progress": False, "backend": backend, **more}
    loss = settings.pop("loss", nn.DeepSupervisionLoss(WEIGHTS))
    run = st.fit(net, (IMAGES, LABELS), loss=loss, optimizer=st.optim.Adam(lr=0.01), **settings)
    return net, run


def test_native_is_the_reference():
    nets = [trained(backend) for backend in ("native", "reference")]
    (ours, run), (theirs, other) = nets
    for name, array in ours.state_dict().items():
        np.testing.assert_allclose(array, theirs.state_dict()[name], rtol=1e-4, atol=1e-5)
    assert run.history[-1]["loss"] == pytest.approx(other.history[-1]["loss"], rel=1e-4)
    assert run.history[-1]["loss"] < 0.7 * run.history[0]["loss"]


def test_the_first_step_by_hand():
    st.manual_seed(5)
    net, before = Heads(), {}
    both = net(IMAGES)  # in training
    before = {name: array.copy() for name, array in net.state_dict().items()}
    x = np.maximum(net.conv(IMAGES), 0).reshape(48, -1)
    st.fit(
        net, (IMAGES, LABELS), loss=nn.DeepSupervisionLoss(WEIGHTS), epochs=1, batch_size=48,
        optimizer=st.optim.SGD(lr=0.5), progress=False,
    )  # fmt: skip
    for k, (head, weight) in enumerate(zip(("main", "side"), WEIGHTS, strict=True)):
        scores = both[:, :, k].astype(np.float64)
        share = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        gradient = weight * (share - np.eye(3)[LABELS]).T @ x / 48
        moved = before[f"{head}.weight"] - net.state_dict()[f"{head}.weight"]
        np.testing.assert_allclose(moved, 0.5 * gradient, rtol=1e-3, atol=1e-6)


def test_it_is_judged_by_the_main_head():
    net, run = trained(validation=(IMAGES, LABELS))
    net.eval()
    right = (net(IMAGES).argmax(axis=1) == LABELS).mean()
    assert run.history[-1]["validation_accuracy"] == pytest.approx(right)
    want = float(nn.CrossEntropyLoss()(net(IMAGES), LABELS))
    assert run.history[-1]["validation_loss"] == pytest.approx(want, rel=1e-5)
    assert "accuracy" not in run.history[-1]
    assert net(IMAGES).shape == (48, 3)


def test_saved_and_read_it_learns_on(tmp_path):
    net, _ = trained()
    st.save(net, tmp_path / "heads.safetensors", input_shape=(1, 6, 6))
    again = st.load(tmp_path / "heads.safetensors")
    np.testing.assert_array_equal(again.eval()(IMAGES), net.eval()(IMAGES))
    loss = nn.DeepSupervisionLoss(WEIGHTS)
    runs = [
        st.fit(each, (IMAGES, LABELS), loss=loss, epochs=1, progress=False).history[-1]["loss"]
        for each in (net, again)
    ]
    assert runs[0] == runs[1]


def test_rates_are_looked_for_with_all_heads():
    st.manual_seed(5)
    net, loss = Heads(), nn.DeepSupervisionLoss(WEIGHTS)
    want = float(loss(net(IMAGES), LABELS))
    net.eval()
    found = st.train.lr_find(
        net, (IMAGES, LABELS), loss=loss, steps=10, lowest=1e-9, highest=1e-8, batch_size=48
    )
    assert found.losses[0] == pytest.approx(want, rel=1e-4) and not net.training


def test_googlenet_learns_by_its_heads():
    net = models.googlenet(num_classes=3, in_channels=1)
    heads = models.WithHeads(net)
    before = net.aux1.fc2.weight.data.copy()
    x = np.random.default_rng(0).normal(size=(2, 1, 32, 32))
    run = st.fit(
        heads, (x, np.array([0, 2])), loss=nn.DeepSupervisionLoss(), epochs=1, batch_size=2,
        optimizer=st.optim.SGD(lr=0.01), progress=False, backend="reference",
    )  # fmt: skip
    assert run.history[-1]["loss"] == pytest.approx(1.6 * np.log(3), rel=0.5)
    assert not np.array_equal(before, net.aux1.fc2.weight.data)
    np.testing.assert_array_equal(heads(x), net(x))


def test_bad_input():
    with pytest.raises(ShapeError, match=r"output in training, \('n', 3, 2\), and else.*DeepSup"):
        trained(loss="mse")
    with pytest.raises(ShapeError, match=r"expected \(n, classes, 3\), a column for each of 3 w"):
        trained(loss=nn.DeepSupervisionLoss())
    with pytest.raises(ShapeError, match=r"fit: expected a loss that takes .* got weighted_cross"):
        trained(loss="cross_entropy", label_smoothing=0.1)
    with pytest.raises(OptionError, match=r"a weight for each head; got weights=\(\)"):
        nn.DeepSupervisionLoss(())
    with pytest.raises(OptionError, match=r"label_smoothing from 0 to 1; got label_smoothing=2"):
        nn.DeepSupervisionLoss(label_smoothing=2)
    with pytest.raises(OptionError, match=r"WithHeads: expected a network with auxiliary heads"):
        models.WithHeads(nn.Linear(2, 2))
    with pytest.raises(OptionError, match=r"got GoogLeNet with aux_logits=False"):
        models.WithHeads(models.googlenet(aux_logits=False))
    with pytest.raises(ShapeError, match=r"expected targets \(n,\) for predictions"):
        F.deep_supervision_loss(np.zeros((2, 3, 2)), np.zeros((2, 2), int), (1, 1))
