"""AlexNet in the form that torchvision has: one column, 61,100,840 parameters.

Not the two-column original with grouped convolutions and local response normalisation, but its
author's later single-column form; the names are torchvision's, so its checkpoints load.
"""

from __future__ import annotations

from typing import Any

from striate import nn
from striate.nn import functional as F


class AlexNet(nn.Module):
    """AlexNet: five convolutions, three poolings, three fully connected layers.

    Args:
        num_classes: outputs, one logit a class.
        in_channels: channels of the images.
        dropout: the share that the first two fully connected layers drop of their inputs.
    Input: (n, in_channels, h, w), h and w from 63; (224, 224) is usual. Output: logits
        (n, num_classes).
    Source: Krizhevsky, One weird trick for parallelizing convolutional neural networks,
        arXiv:1404.5997.
    """

    def __init__(self, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 64, 11, stride=4, padding=2),  # (n, 64, 55, 55) of 224
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),  # (n, 64, 27, 27)
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),  # (n, 192, 13, 13)
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),  # (n, 256, 6, 6)
        )
        self.avgpool = nn.AdaptiveAvgPool2d((6, 6))
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(256 * 6 * 6, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Linear(4096, num_classes),
        )

    def forward(self, x: Any) -> Any:
        """Logits (n, num_classes) of images x (n, in_channels, h, w)."""
        x = self.avgpool(self.features(x))
        return self.classifier(F.flatten(x, 1))


def alexnet(num_classes: int = 1000, in_channels: int = 3) -> AlexNet:
    """AlexNet, freshly initialised: 61,100,840 parameters."""
    return AlexNet(num_classes, in_channels)
