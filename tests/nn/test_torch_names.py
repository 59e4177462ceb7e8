"""Names, shapes, texts and values against torch, where it is installed."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from striate import nn
from striate.nn import functional as F

pytestmark = pytest.mark.peer
torch = pytest.importorskip("torch")

MORE = (
    ("ConvTranspose2d", (2, 6, 3, 2, 1, 1, 2), {"dilation": 2}),
    ("LocalResponseNorm", (3,), {"alpha": 0.5}),
    ("LeakyReLU", (0.2,), {}),
    ("ConvTranspose2d", (6, 3, 2), {"stride": (1, 2), "bias": False}),
    ("SiLU", (), {}),
    ("Flatten", (2,), {}),
    ("Conv1d", (3, 4, 5), {"stride": 2, "padding": 3, "dilation": 2}),
    ("Hardswish", (), {}),
    ("Hardsigmoid", (), {}),
    ("ReLU6", (), {}),
    ("GELU", ("tanh",), {}),
)
PARTS = (
    ("Conv2d", (2, 6, 3), {"padding": 1}),
    ("BatchNorm2d", (6,), {"momentum": 0.3, "eps": 1e-3}),
    ("ReLU", (), {}),
    ("MaxPool2d", (3, 2), {"ceil_mode": True}),
    ("AdaptiveAvgPool2d", ((4, 3),), {}),
    ("Flatten", (), {}),
    ("BatchNorm1d", (72,), {}),
)
LENET = (
    ("Conv2d", (1, 6, 5), {"padding": 2}),
    ("ReLU", (), {}),
    ("MaxPool2d", (2,), {}),
    ("Conv2d", (6, 16, 5), {}),
    ("Tanh", (), {}),
    ("AvgPool2d", (2,), {}),
    ("Flatten", (), {}),
    ("Dropout", (0.25,), {}),
    ("Linear", (400, 120), {"bias": False}),
    ("Sigmoid", (), {}),
    ("Identity", (), {}),
    ("Linear", (120, 10), {}),
    ("Softmax", (1,), {}),
)


def stacks(layers=LENET):
    return [
        library.Sequential(*(getattr(library, kind)(*a, **k) for kind, a, k in layers)).eval()
        for library in (nn, torch.nn)
    ]


def test_state_dict_names_shapes_and_order():
    ours, theirs = stacks()
    expected = [(name, tuple(tensor.shape)) for name, tensor in theirs.state_dict().items()]
    assert [(name, array.shape) for name, array in ours.state_dict().items()] == expected


def test_more_layers_agree():
    ours, theirs = stacks(MORE)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert repr(ours) == repr(theirs)
    ours.load_state_dict(theirs.state_dict())
    x = np.random.default_rng(0).normal(0, 3, size=(3, 2, 5, 6)).astype(np.float32)
    with torch.no_grad():
        for mine, other in zip(ours, theirs, strict=True):
            expected = other(torch.from_numpy(x)).numpy()
            np.testing.assert_allclose(mine(x), expected, rtol=1e-4, atol=1e-5)
            x = expected


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("padding", [(1, 0, 2), "same", "valid"])
def test_conv3d_agrees(padding):
    theirs = torch.nn.Conv3d(4, 6, (2, 3, 1), dilation=(1, 2, 1), padding=padding, groups=2)
    ours = nn.Conv3d(4, 6, (2, 3, 1), dilation=(1, 2, 1), padding=padding, groups=2)
    assert repr(ours) == repr(theirs)
    ours.load_state_dict({k: v.detach() for k, v in theirs.state_dict().items()})
    x = np.random.default_rng(0).normal(size=(2, 4, 5, 6, 7)).astype(np.float32)
    expected = theirs(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(ours(x), expected, rtol=1e-4, atol=1e-5)


def test_networks_with_batch_norm_agree_in_both_modes():
    ours, theirs = stacks(PARTS)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    rng = np.random.default_rng(0)
    for training in (True, True, False):
        ours.train(training)
        theirs.train(training)
        x = rng.normal(2, 3, size=(5, 2, 12, 11)).astype(np.float32)
        with torch.no_grad():
            expected = theirs(torch.from_numpy(x)).numpy()
        np.testing.assert_allclose(ours(x), expected, rtol=1e-3, atol=2e-5)
    for name, tensor in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[name], tensor.numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("size", range(3, 12))
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(3, 2, 0), (2, 2, 0), (3, 3, 1), (2, 3, 1)]
)
def test_ceil_mode_agrees(size, kernel, stride, padding):
    x = np.random.default_rng(0).normal(size=(1, 2, size, size)).astype(np.float32)
    expected = torch.nn.functional.max_pool2d(
        torch.from_numpy(x), kernel, stride, padding, ceil_mode=True
    )
    ours = F.max_pool2d(x, kernel, stride, padding, ceil_mode=True)
    assert np.array_equal(ours, expected.numpy())


@pytest.mark.parametrize("output", [1, 3, (2, None), (None, None), (7, 5)])
def test_adaptive_pooling_agrees(output):
    x = np.random.default_rng(0).normal(size=(2, 3, 6, 5)).astype(np.float32)
    expected = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(x), output)
    np.testing.assert_allclose(
        F.adaptive_avg_pool2d(x, output), expected.numpy(), rtol=1e-5, atol=1e-6
    )


def test_text():
    ours, theirs = stacks()
    assert repr(ours) == repr(theirs)
    for library in (nn, torch.nn):
        layers = [
            library.Conv2d(4, 4, 3, 2, 1, 2, 2, False),
            library.Conv2d(4, 4, 3, padding="same"),
            library.Linear(2, 3, bias=False),
            library.ReLU(inplace=True),
        ]
        text = "\n".join(map(repr, layers))
        if library is nn:
            mine = text
    assert mine == text


def test_outputs_agree_with_torchs_weights():
    ours, theirs = stacks()
    ours.load_state_dict(theirs.state_dict())
    x = np.random.default_rng(0).normal(size=(5, 1, 28, 28)).astype(np.float32)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(ours(x), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        {"stride": 2, "padding": (1, 2)},
        {"dilation": (2, 1), "groups": 2},
        {"padding": "same"},
        {"padding": "same", "dilation": 3},
        {"padding": "valid", "bias": False},
    ],
)
@pytest.mark.parametrize("size", [3, (2, 5), 4])
@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_conv2d_settings_agree(settings, size):
    theirs = torch.nn.Conv2d(4, 6, size, **settings)
    ours = nn.Conv2d(4, 6, size, **settings)
    ours.load_state_dict({k: v.detach() for k, v in theirs.state_dict().items()})
    x = np.random.default_rng(0).normal(size=(2, 4, 13, 14)).astype(np.float32)
    expected = theirs(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(ours(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        "Conv2d",
        "Linear",
        "MaxPool2d",
        "AvgPool2d",
        "AdaptiveAvgPool2d",
        "Conv1d",
        "Conv3d",
        "ConvTranspose1d",
        "ConvTranspose2d",
        "ConvTranspose3d",
        "LocalResponseNorm",
        "ReLU6",
        "SiLU",
        "LeakyReLU",
        "Hardsigmoid",
        "Hardswish",
        "GELU",
        "ReLU",
        "Flatten",
        "Dropout",
        "Softmax",
        "CrossEntropyLoss",
        "MSELoss",
        "NLLLoss",
        "BCELoss",
        "BCEWithLogitsLoss",
        "L1Loss",
        "SmoothL1Loss",
        "HuberLoss",
        "HingeEmbeddingLoss",
        "MultiMarginLoss",
        "MultiLabelSoftMarginLoss",
        "SoftMarginLoss",
        "KLDivLoss",
        "PoissonNLLLoss",
        "CTCLoss",
        "CosineEmbeddingLoss",
        "TripletMarginLoss",
    ],
)
def test_signatures_of_layers(name):
    theirs = inspect.signature(getattr(torch.nn, name).__init__).parameters
    ours = inspect.signature(getattr(nn, name).__init__).parameters
    more = {key for key, p in ours.items() if p.kind is p.KEYWORD_ONLY and key not in theirs}
    assert [key for key in ours if key not in more] == list(theirs)
    for key in theirs:
        assert ours[key].default == theirs[key].default, key


@pytest.mark.parametrize(
    "name",
    [
        "relu",
        "relu6",
        "silu",
        "leaky_relu",
        "hardswish",
        "hardsigmoid",
        "batch_norm",
        "local_response_norm",
        "dropout",
        "softmax",
        "cross_entropy",
        "mse_loss",
        "nll_loss",
        "binary_cross_entropy",
        "binary_cross_entropy_with_logits",
        "l1_loss",
        "smooth_l1_loss",
        "huber_loss",
        "hinge_embedding_loss",
        "multi_margin_loss",
        "multilabel_soft_margin_loss",
        "soft_margin_loss",
        "kl_div",
        "poisson_nll_loss",
        "ctc_loss",
        "cosine_embedding_loss",
        "triplet_margin_loss",
    ],
)
def test_signatures_of_functions(name):
    theirs = inspect.signature(getattr(torch.nn.functional, name)).parameters
    ours = inspect.signature(getattr(F, name)).parameters
    assert list(ours) == [key for key in theirs if key not in ("_stacklevel", "dtype")]
    for key, parameter in ours.items():
        assert parameter.default == theirs[key].default, key


def test_losses_agree():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(7, 5)), rng.integers(0, 5, 7)
    for reduction in ("mean", "sum", "none"):
        ours = F.cross_entropy(logits, labels, reduction=reduction)
        theirs = torch.nn.functional.cross_entropy(
            torch.from_numpy(logits), torch.from_numpy(labels), reduction=reduction
        )
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-6)
        ours = F.mse_loss(logits, logits[::-1], reduction=reduction)
        theirs = torch.nn.functional.mse_loss(
            torch.from_numpy(logits), torch.from_numpy(logits[::-1].copy()), reduction=reduction
        )
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-6)
