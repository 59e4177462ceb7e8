"""Classifiers that slide: equal to the classifier at every window. And any image size."""

from __future__ import annotations

import numpy as np
import pytest

import striate as st
from striate import models, nn
from striate.errors import OptionError, ShapeError

RNG = np.random.default_rng(0)


def classifier(text: str, shape: tuple[int, ...]) -> nn.Module:
    """A network with running statistics of its own and whole weights."""
    st.manual_seed(0)
    net = models.from_pattern(text, input=shape, classes=3)
    for name, array in net.state_dict().items():
        if "running_var" in name:
            array[...] = RNG.uniform(0.5, 2, array.shape)
        elif array.ndim:
            array[...] = RNG.integers(-2, 3, array.shape)
    return net.eval()


def require_equal(net: nn.Module, sliding: models.SlidingClassifier, x, tolerance=1e-5) -> int:
    """Compare with the classifier at every window that lies in the images; how many there are."""
    found, count = sliding(x), 0
    for place in np.ndindex(found.shape[2:]):
        starts = [k * s for k, s in zip(place, sliding.stride, strict=True)]
        ends = [a + w for a, w in zip(starts, sliding.window, strict=True)]
        if any(end > size for end, size in zip(ends, x.shape[2:], strict=True)):
            continue
        window = x[(..., *(slice(a, b) for a, b in zip(starts, ends, strict=True)))]
        expected = net(np.ascontiguousarray(window))
        scale = max(1.0, np.abs(expected).max())
        assert np.abs(found[(..., *place)] - expected).max() <= tolerance * scale
        count += 1
    return count


@pytest.mark.parametrize(
    ("text", "shape", "size", "stride"),
    [
        ("conv5x4p0-relu-pool-fc8-relu-softmax", (1, 12, 12), (17, 20), (2, 2)),
        (
            "conv3x4p0-bn-relu-avgpool-conv3p0-tanh-maxpool3s1-dropout-fc8-bn-relu-dropout-softmax",
            (2, 20, 18),
            (27, 31),
            (2, 2),
        ),
        ("conv3x8s2p0-lrn-relu-conv3x4s2p0-gap-softmax", (2, 16, 17), (25, 24), (4, 4)),
        ("[conv3x4p0-relu-pool]*2-flatten-relu-softmax", (1, 13), (30,), (4,)),
        ("conv2x3p0-relu-avgpool-fc4-relu-softmax", (1, 5, 5, 5), (7, 6, 8), (2, 2, 2)),
    ],
)
def test_equal_to_the_classifier_at_every_window(text, shape, size, stride):
    net = classifier(text, shape)
    sliding = models.convolutionalize(net, shape)
    assert (sliding.window, sliding.stride, sliding.exact) == (shape[1:], stride, True)
    x = RNG.integers(-3, 4, (2, shape[0], *size)).astype(np.float32)
    assert require_equal(net, sliding, x) >= 3
    assert set(sliding.state_dict()) == {
        name for name in net.state_dict() if not name.endswith("num_batches_tracked")
    }


def test_windows_of_the_published_lenet():
    """Its connection table and its distances to prototypes slide too."""
    st.manual_seed(0)
    net = models.lenet5_1998().eval()
    sliding = models.convolutionalize(net, (1, 32, 32))
    x = RNG.uniform(0, 1, (1, 1, 36, 41)).astype(np.float32)
    assert sliding.stride == (4, 4) and sliding.exact
    assert require_equal(net, sliding, x) == 6


def test_the_networks_of_files_slide_and_slid_ones_go_into_files(tmp_path):
    net = classifier("conv3x4p0-relu-pool-softmax", (1, 8, 8))
    st.save(net, tmp_path / "net.safetensors", input_shape=(1, 8, 8))
    sliding = models.convolutionalize(st.load(tmp_path / "net.safetensors"))
    x = RNG.integers(-3, 4, (1, 1, 11, 12)).astype(np.float32)
    assert require_equal(net, sliding, x) == 6
    st.save(sliding, tmp_path / "sliding.safetensors")
    loaded = st.load(tmp_path / "sliding.safetensors")
    assert np.array_equal(loaded(x), sliding(x))
    assert loaded.notes == {"window": [8, 8], "stride": [2, 2]}


def test_its_copy_of_the_weights_trains_on():
    net = classifier("conv3x4p0-relu-dropout-softmax", (1, 6, 6))
    sliding = models.convolutionalize(net)
    assert [n.op for n in sliding.training_graph.steps].count("dropout") == 1
    before = {name: array.copy() for name, array in net.state_dict().items()}
    x = RNG.uniform(0, 1, (8, 1, 6, 6)).astype(np.float32)
    loss = nn.CrossEntropyLoss()
    labels = RNG.integers(0, 3, (8, 1, 1))
    st.fit(sliding, (x, labels), epochs=1, loss=loss, progress=False)
    assert all(np.array_equal(net.state_dict()[name], before[name]) for name in before)
    assert any(
        not np.array_equal(sliding.state_dict()[name].ravel(), before[name].ravel())
        for name in before
    )


@pytest.mark.usefixtures("no_draws")
@pytest.mark.parametrize(
    ("name", "stride", "places"),
    [("alexnet", 32, (3, 4)), ("resnet18", 32, (3, 4)), ("squeezenet1_1", 16, (5, 7))],
)
def test_padded_networks_slide_and_say_that_they_see_past_the_window(name, stride, places):
    sliding = models.convolutionalize(models.build(name), (3, 224, 224))
    assert (sliding.stride, sliding.exact) == ((stride, stride), False)
    graph = sliding.graph.with_input_shape((3, 288, 320))
    assert graph.nodes[graph.outputs[0]].shape == (1000, *places)


def test_at_the_windows_own_size_padding_makes_no_difference():
    st.manual_seed(0)
    net = models.lenet5().eval()
    sliding = models.convolutionalize(net, (1, 28, 28))
    x = RNG.uniform(0, 1, (3, 1, 28, 28)).astype(np.float32)
    assert not sliding.exact
    assert np.abs(sliding(x)[:, :, 0, 0] - net(x)).max() < 1e-5


@pytest.mark.usefixtures("no_draws")
@pytest.mark.parametrize(
    ("net", "shape", "message"),
    [
        (
            lambda: models.build("efficientnet_b0"),
            (3, 64, 64),
            "block.1.mul: it joins",
        ),
        (models.UNet, (1, 32, 32), "conv_transpose2d is not known to slide"),
        (lambda: nn.Conv2d(1, 2, 3), (1, 8, 8), r"got a network with output \(2, 6, 6\)"),
        (lambda: nn.Linear(4, 2), (4,), r"one input of images \(c, h, w\); got \[\(4,\)\]"),
        (
            lambda: nn.Sequential(nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(9, 2)),
            (1, 8, 8),
            "8 × 8 pooled to 3 × 3, windows of several sizes",
        ),
        (
            lambda: nn.Sequential(nn.Flatten(), nn.LayerNorm(16), nn.Linear(16, 2)),
            (1, 4, 4),
            "got 1: layer_norm is not known to slide",
        ),
        (
            lambda: nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16), nn.Linear(16, 2)),
            (1, 4, 4),
            "got 1: batch_norm of flattened images",
        ),
        (lambda: nn.Sequential(nn.Linear(4, 3), nn.Flatten()), (2, 4), "got 0: dense is not known"),
    ],
)
def test_what_cannot_slide_is_named(net, shape, message):
    with pytest.raises(OptionError, match=message):
        models.convolutionalize(net(), shape)
    with pytest.raises(OptionError, match="expected a network whose input shape is known"):
        models.convolutionalize(net())


def test_images_smaller_than_the_window():
    sliding = models.convolutionalize(classifier("conv3x4p0-softmax", (1, 8, 8)))
    with pytest.raises(ShapeError, match="images of at least 8 × 8, the classifier's; got 7 × 9"):
        sliding(np.zeros((1, 1, 7, 9)))


# ---- any size --------------------------------------------------------------------------------


def test_a_fully_convolutional_network_takes_any_size():
    """One network, several sizes one after the other; each as a network of its own gives it."""

    def made() -> nn.Module:
        st.manual_seed(3)
        return models.UNet(2, 1, width=2, depth=1).eval()

    net = made()
    for height, width in [(16, 16), (20, 34), (16, 16)]:
        x = RNG.normal(size=(1, 1, height, width)).astype(np.float32)
        found = net(x)
        assert found.shape == (1, 2, height, width) and found.std() > 0
        assert np.array_equal(found, made()(x))


@pytest.mark.parametrize("stride", [32, 16, 8])
def test_an_fcn_labels_every_pixel_of_any_image(stride):
    net = models.FCN(3, stride, width=1, hidden=2).eval()
    for size in [(1, 1), (16, 47), (33, 64), (101, 95), (224, 500)]:
        graph = net.to_graph((3, *size))
        assert graph.nodes[graph.outputs[0]].shape == (3, *size)


@pytest.mark.usefixtures("no_draws")
@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("alexnet", (3, 20, 63), r"^features\.\d+: .*expected an output height of at least 1"),
        ("vgg11", (3, 31, 64), r"^features\.\d+: .*expected an output height of at least 1"),
        ("squeezenet1_0", (3, 64, 9), r"^features\.\d+: .*expected an output width of at least 1"),
        ("lenet5", (1, 32, 32), r"^fc1: .*400"),
        ("small_stack", (3, 43, 43), "^fc1: .*1960"),
    ],
)
def test_a_size_that_does_not_fit_is_told_by_the_layer(name, shape, message):
    with pytest.raises(ShapeError, match=message) as caught:
        models.build(name).eval().to_graph(shape)
    assert "\n" not in str(caught.value)
