"""A small network for 28×28 grey pictures: six convolutions with batch norm, 72,666 parameters.

striate train mnist --net examples/recipes/mnist.py:Net …   (docs/training-recipes.md)
"""

from __future__ import annotations

from striate import nn


def convolution(inputs: int, outputs: int) -> list[nn.Module]:
    """3×3, batch norm, ReLU; the size stays."""
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU()]


class Net(nn.Sequential):
    """Two convolutions, pool, twice; then two more, the mean over the picture, and the classes."""

    def __init__(self, width: int = 16, classes: int = 10) -> None:
        super().__init__(
            *convolution(1, width),
            *convolution(width, width),
            nn.MaxPool2d(2),  # 14 × 14
            nn.Dropout(0.1),
            *convolution(width, 2 * width),
            *convolution(2 * width, 2 * width),
            nn.MaxPool2d(2),  # 7 × 7
            nn.Dropout(0.1),
            *convolution(2 * width, 4 * width),
            *convolution(4 * width, 4 * width),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4 * width, classes),
        )


class Wide(Net):
    """Twice as wide."""

    def __init__(self) -> None:
        super().__init__(width=32)
