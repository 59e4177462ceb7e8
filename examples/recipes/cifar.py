"""A residual network for 32×32 colour pictures: nine layers, 1.6 M parameters at width 32.

    striate train FOLDER --net examples/recipes/cifar.py:Net …   (docs/training-recipes.md)

The form is that of Page's ResNet-9 ("How to train your ResNet", 2018), half as wide.
"""

from __future__ import annotations

from typing import Any

from striate import nn


class Convolution(nn.Module):
    """3×3, batch norm, ReLU; with `pool` half the size."""

    def __init__(self, inputs: int, outputs: int, pool: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(2) if pool else None

    def forward(self, x: Any) -> Any:
        y = self.relu(self.norm(self.conv(x)))
        return y if self.pool is None else self.pool(y)


class Residual(nn.Module):
    """x + f(x), f being two convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = Convolution(channels, channels)
        self.second = Convolution(channels, channels)

    def forward(self, x: Any) -> Any:
        return x + self.second(self.first(x))


class Scale(nn.Module):
    """factor · x: smaller scores at the beginning, so that high rates do no harm."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Any) -> Any:
        return x * self.factor


class Net(nn.Sequential):
    """Width w: w, 2w with a residual block, 4w, 8w with a residual block, the classes."""

    def __init__(self, width: int = 32, classes: int = 10) -> None:
        super().__init__(
            Convolution(3, width),
            Convolution(width, 2 * width, pool=True),  # 16 × 16
            Residual(2 * width),
            Convolution(2 * width, 4 * width, pool=True),  # 8 × 8
            Convolution(4 * width, 8 * width, pool=True),  # 4 × 4
            Residual(8 * width),
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.1),
            nn.Linear(8 * width, classes),
            Scale(0.125),
        )
