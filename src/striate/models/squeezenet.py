"""SqueezeNet 1.0 and 1.1: AlexNet's accuracy with fifty times fewer parameters.

Names and sizes are torchvision's, so its checkpoints load.
"""

from __future__ import annotations

from typing import Any

from striate import nn
from striate.errors import OptionError, suggest
from striate.models.starts import constructor
from striate.nn import functional as F
from striate.nn import init

POOL = 0
# Kernel size and channels of the first convolution, then the channels that each fire module
# squeezes to (it expands to eight times as many), and POOL for a pooling.
VERSIONS: dict[str, tuple[int, int, tuple[int, ...]]] = {
    "1_0": (7, 96, (POOL, 16, 16, 32, POOL, 32, 48, 48, 64, POOL, 64)),
    "1_1": (3, 64, (POOL, 16, 16, POOL, 32, 32, POOL, 48, 48, 64, 64)),
}


class Fire(nn.Module):
    """1×1 to few channels, then 1×1 and 3×3 side by side, joined along the channels.

    Args:
        inplanes: channels of x.
        squeeze_planes: channels of the first convolution.
        expand1x1_planes: channels of the 1×1 half.
        expand3x3_planes: channels of the 3×3 half.
    Input: (n, inplanes, h, w). Output: (n, expand1x1_planes + expand3x3_planes, h, w).
    """

    def __init__(
        self, inplanes: int, squeeze_planes: int, expand1x1_planes: int, expand3x3_planes: int
    ) -> None:
        super().__init__()
        self.inplanes = inplanes
        self.squeeze = nn.Conv2d(inplanes, squeeze_planes, 1)
        self.squeeze_activation = nn.ReLU()
        self.expand1x1 = nn.Conv2d(squeeze_planes, expand1x1_planes, 1)
        self.expand1x1_activation = nn.ReLU()
        self.expand3x3 = nn.Conv2d(squeeze_planes, expand3x3_planes, 3, padding=1)
        self.expand3x3_activation = nn.ReLU()

    def forward(self, x: Any) -> Any:
        """The joined halves for x."""
        x = self.squeeze_activation(self.squeeze(x))
        one = self.expand1x1_activation(self.expand1x1(x))
        three = self.expand3x3_activation(self.expand3x3(x))
        return F.cat((one, three), dim=1)


class SqueezeNet(nn.Module):
    """SqueezeNet.

    Args:
        version: "1_0" (1,248,424 parameters) or "1_1" (1,235,496, and 2.4 times fewer
            multiply-adds).
        num_classes: outputs, one logit a class.
        dropout: the share that the last convolution drops of its inputs.
        in_channels: channels of the images.
    Input: (n, in_channels, h, w), h and w from 21; (224, 224) is usual. Output: logits
        (n, num_classes).
    Source: Iandola et al., SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and
        <0.5MB model size, arXiv:1602.07360.
    """

    def __init__(
        self,
        version: str = "1_0",
        num_classes: int = 1000,
        dropout: float = 0.5,
        *,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        if version not in VERSIONS:
            raise OptionError(
                f"SqueezeNet: unknown version {version!r}. {suggest(version, VERSIONS)}"
            )
        kernel_size, channels, stages = VERSIONS[version]
        layers: list[nn.Module] = [nn.Conv2d(in_channels, channels, kernel_size, 2), nn.ReLU()]
        for squeezed in stages:
            if squeezed == POOL:
                layers.append(nn.MaxPool2d(3, stride=2, ceil_mode=True))
            else:
                layers.append(Fire(channels, squeezed, 4 * squeezed, 4 * squeezed))
                channels = 8 * squeezed
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Conv2d(channels, num_classes, 1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d((1, 1)),
        )
        self._start()

    def _start(self) -> None:
        last = self.classifier[1]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                if module is last:
                    init.normal_(module.weight, 0.0, 0.01)
                else:
                    init.kaiming_uniform_(module.weight)
                if module.bias is not None:
                    init.zeros_(module.bias)

    def forward(self, x: Any) -> Any:
        """Logits (n, num_classes) of images x (n, in_channels, h, w)."""
        return F.flatten(self.classifier(self.features(x)), 1)


def _squeezenet(version: str) -> Any:
    def make(**options: Any) -> SqueezeNet:
        return SqueezeNet(version, **options)

    return constructor(f"squeezenet{version}", f"SqueezeNet {version.replace('_', '.')}.", make)


squeezenet1_0, squeezenet1_1 = map(_squeezenet, ("1_0", "1_1"))
