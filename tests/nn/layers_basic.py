"""The layers that most networks are made of, for the contract: (how to make one, input, output)."""

from __future__ import annotations

from striate import nn

IMAGES = (2, 4, 6, 5)
LAYERS = {
    "Conv2d": (lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), IMAGES, (6, 3, 3)),
    "Conv2d-same": (lambda: nn.Conv2d(4, 3, (2, 3), padding="same"), IMAGES, (3, 6, 5)),
    "Linear": (lambda: nn.Linear(7, 3), (2, 7), (3,)),
    "Linear-no-bias": (lambda: nn.Linear(7, 3, bias=False), (2, 7), (3,)),
    "MaxPool2d": (lambda: nn.MaxPool2d(2), IMAGES, (4, 3, 2)),
    "MaxPool2d-dilated": (lambda: nn.MaxPool2d((2, 1), 1, dilation=2), IMAGES, (4, 4, 5)),
    "AvgPool2d": (lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False), IMAGES, (4, 3, 3)),
    "MaxPool2d-ceil": (lambda: nn.MaxPool2d(2, ceil_mode=True), IMAGES, (4, 3, 3)),
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d((4, None)), IMAGES, (4, 4, 5)),
    "Conv1d": (lambda: nn.Conv1d(3, 4, 3, 2, padding=1), (2, 3, 9), (4, 5)),
    "Conv3d": (lambda: nn.Conv3d(2, 3, (1, 2, 3), groups=1), (2, 2, 3, 4, 5), (3, 3, 3, 3)),
    "ConvTranspose2d": (
        lambda: nn.ConvTranspose2d(4, 6, 3, 2, 1, output_padding=1, groups=2),
        IMAGES,
        (6, 12, 10),
    ),
    "LocalResponseNorm": (lambda: nn.LocalResponseNorm(3, alpha=0.5), IMAGES, IMAGES[1:]),
    "ReLU6": (lambda: nn.ReLU6(), IMAGES, IMAGES[1:]),
    "SiLU": (lambda: nn.SiLU(), IMAGES, IMAGES[1:]),
    "LeakyReLU": (lambda: nn.LeakyReLU(0.2), IMAGES, IMAGES[1:]),
    "Hardsigmoid": (lambda: nn.Hardsigmoid(), IMAGES, IMAGES[1:]),
    "Hardswish": (lambda: nn.Hardswish(), IMAGES, IMAGES[1:]),
    "GELU": (lambda: nn.GELU("tanh"), IMAGES, IMAGES[1:]),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(4), IMAGES, IMAGES[1:]),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(7), (2, 7), (7,)),
    "BatchNorm1d-sequence": (lambda: nn.BatchNorm1d(3), (2, 3, 5), (3, 5)),
    "BatchNorm3d": (lambda: nn.BatchNorm3d(3), (2, 3, 2, 4, 3), (3, 2, 4, 3)),
    "ReLU": (lambda: nn.ReLU(), IMAGES, IMAGES[1:]),
    "Tanh": (lambda: nn.Tanh(), IMAGES, IMAGES[1:]),
    "Sigmoid": (lambda: nn.Sigmoid(), IMAGES, IMAGES[1:]),
    "ScaledTanh": (lambda: nn.ScaledTanh(), IMAGES, IMAGES[1:]),
    "Scalar": (lambda: nn.Scalar(lambda x: x / (1 + abs(x)), name="softsign"), IMAGES, IMAGES[1:]),
    "Softmax": (lambda: nn.Softmax(dim=1), (2, 7), (7,)),
    "Flatten": (lambda: nn.Flatten(), IMAGES, (120,)),
    "Flatten-part": (lambda: nn.Flatten(2), IMAGES, (4, 30)),
    "Dropout": (lambda: nn.Dropout(0.4), IMAGES, IMAGES[1:]),
    "Identity": (lambda: nn.Identity(3, any="thing"), IMAGES, IMAGES[1:]),
}
