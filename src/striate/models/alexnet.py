"""AlexNet: the single-column form that torchvision has, and the two-group original of 2012.

The names of the former are torchvision's, so its checkpoints load by name.
"""

from __future__ import annotations

from typing import Any

from striate import nn
from striate.models.starts import constructor
from striate.nn import functional as F
from striate.nn import init


class AlexNet(nn.Module):
    """AlexNet in one column: five convolutions, three poolings, three fully connected layers.

    Args:
        num_classes: outputs, one logit a class.
        dropout: the share that the first two fully connected layers drop of their inputs.
        in_channels: channels of the images.
    Input: (n, in_channels, h, w), h and w from 63; (224, 224) is usual. Output: logits
        (n, num_classes).
    Source: Krizhevsky, One weird trick for parallelizing convolutional neural networks,
        arXiv:1404.5997.
    """

    def __init__(
        self, num_classes: int = 1000, dropout: float = 0.5, *, in_channels: int = 3
    ) -> None:
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


class AlexNet2012(nn.Module):
    """AlexNet as published: the second, fourth and fifth convolution in two groups of channels.

    Each group was on a graphics card of its own. Local response normalisation `x / (2 + 10⁻⁴ ·
    Σ x²)^0.75` over five channels follows the first two convolutions.

    Args:
        num_classes: outputs, one logit a class.
        dropout: the share that the first two fully connected layers drop of their outputs.
        in_channels: channels of the images.
    Input: (n, in_channels, 227, 227). Output: logits (n, num_classes).
    Source: Krizhevsky, Sutskever, Hinton, ImageNet Classification with Deep Convolutional Neural
        Networks, NIPS 2012; its images of 224 × 224 have to be of 227 for its layers' sizes.
    """

    def __init__(
        self, num_classes: int = 1000, dropout: float = 0.5, *, in_channels: int = 3
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 96, 11, stride=4),  # (n, 96, 55, 55)
            nn.ReLU(),
            _response_norm(),
            nn.MaxPool2d(3, stride=2),  # (n, 96, 27, 27)
            nn.Conv2d(96, 256, 5, padding=2, groups=2),
            nn.ReLU(),
            _response_norm(),
            nn.MaxPool2d(3, stride=2),  # (n, 256, 13, 13)
            nn.Conv2d(256, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 384, 3, padding=1, groups=2),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1, groups=2),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),  # (n, 256, 6, 6)
        )
        self.classifier = nn.Sequential(
            nn.Linear(256 * 6 * 6, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, num_classes),
        )
        self._start()

    def _start(self) -> None:
        """Weights from N(0, 0.01²); biases 1 where ReLUs follow late, 0 elsewhere."""
        layers: list[Any] = [k for k in self.modules() if isinstance(k, (nn.Conv2d, nn.Linear))]
        ones = (1, 3, 4, 5, 6)  # the second, fourth and fifth convolution, the hidden layers
        for place, layer in enumerate(layers):
            init.normal_(layer.weight, 0.0, 0.01)
            layer.bias.data[...] = 1.0 if place in ones else 0.0

    def forward(self, x: Any) -> Any:
        """Logits (n, num_classes) of images x (n, in_channels, 227, 227)."""
        return self.classifier(F.flatten(self.features(x), 1))


def _response_norm() -> nn.Module:
    size, alpha = 5, 1e-4  # torch divides alpha by the size, the paper does not
    return nn.LocalResponseNorm(size, alpha=alpha * size, beta=0.75, k=2.0)


alexnet = constructor("alexnet", "AlexNet in one column: 61,100,840 parameters.", AlexNet)
alexnet_2012 = constructor("alexnet_2012", "AlexNet as published: 60,965,224.", AlexNet2012)
