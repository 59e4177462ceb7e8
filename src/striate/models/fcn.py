"""Fully convolutional networks of VGG-16: FCN-32s, FCN-16s and FCN-8s, a class for every pixel.

The convolutions bear torchvision's names for VGG-16 (`features.0.weight` …), so that its weights
load; the two layers behind them are VGG's fully connected ones as convolutions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from striate import nn
from striate.errors import ModelError, OptionError
from striate.models.starts import constructor
from striate.models.vgg import STAGES
from striate.nn import init

_FIRST_PADDING = 100  # so that an image of any size has an output
# Where an image's corner lies in the enlarged scores: it follows from the paddings.
_CORNERS = {32: 19, 16: 27, 8: 31}
_POOL3, _POOL4 = 16, 23  # places in `features`


class FCN(nn.Module):
    """VGG-16 without its last layer, scores of 1×1 convolutions, enlarged to the image's size.

    FCN-32s enlarges the scores of the last layer 32 times. FCN-16s doubles them, adds scores of the
    fourth pooling and enlarges the sum 16 times; FCN-8s does so once more with the third pooling.

    Args:
        num_classes: outputs, one logit a class and pixel.
        stride: 32, 16 or 8: how many times the last enlargement enlarges.
        dropout: the share that the two wide layers drop of their outputs.
        in_channels: channels of the images.
        width: channels of the first layer, 64 in VGG-16; the others' in proportion.
        hidden: channels of the two wide layers.
    Input: (n, in_channels, h, w) of any size. Output: logits (n, num_classes, h, w).
    Raises:
        OptionError: another stride, or width or hidden is below 1.
    Source: Long, Shelhamer, Darrell, Fully Convolutional Networks for Semantic Segmentation,
        arXiv:1411.4038.
    """

    def __init__(
        self,
        num_classes: int = 21,
        stride: int = 8,
        dropout: float = 0.5,
        *,
        in_channels: int = 3,
        width: int = 64,
        hidden: int = 4096,
    ) -> None:
        super().__init__()
        if stride not in _CORNERS or width < 1 or hidden < 1:
            raise OptionError(
                "FCN: expected stride 32, 16 or 8 and width and hidden from 1; got "
                f"stride={stride!r}, width={width!r}, hidden={hidden!r}."
            )
        self.stride = stride
        self.features = _features(in_channels, width)
        self.fc6 = nn.Conv2d(8 * width, hidden, 7)
        self.relu6 = nn.ReLU()
        self.drop6 = nn.Dropout2d(dropout)
        self.fc7 = nn.Conv2d(hidden, hidden, 1)
        self.relu7 = nn.ReLU()
        self.drop7 = nn.Dropout2d(dropout)
        self.score_fr = nn.Conv2d(hidden, num_classes, 1)
        if stride <= 16:
            self.upscore2 = _enlarge(num_classes, 2)
            self.score_pool4 = nn.Conv2d(8 * width, num_classes, 1)
        if stride == 8:
            self.upscore_pool4 = _enlarge(num_classes, 2)
            self.score_pool3 = nn.Conv2d(4 * width, num_classes, 1)
        self.upscore = _enlarge(num_classes, stride)
        for name, layer in self.named_modules():
            if name.startswith("score"):
                init.zeros_(layer.weight)
                init.zeros_(layer.bias)

    def forward(self, x: Any) -> Any:
        """Logits (n, num_classes, h, w) of images x (n, in_channels, h, w)."""
        height, width = x.shape[2], x.shape[3]
        pools = {}
        for place, layer in enumerate(self.features):
            x = layer(x)
            pools[place] = x
        x = self.drop6(self.relu6(self.fc6(x)))
        x = self.score_fr(self.drop7(self.relu7(self.fc7(x))))
        if self.stride <= 16:
            x = self.upscore2(x)
            x = x + _cut(self.score_pool4(pools[_POOL4]), 5, x.shape[2], x.shape[3])
        if self.stride == 8:
            x = self.upscore_pool4(x)
            x = x + _cut(self.score_pool3(pools[_POOL3]), 9, x.shape[2], x.shape[3])
        return _cut(self.upscore(x), _CORNERS[self.stride], height, width)

    def load_vgg16(self, state_dict: Mapping[str, Any]) -> None:
        """Take a VGG-16 classifier's weights: its convolutions, and its wide layers as kernels.

        Args:
            state_dict: of `vgg16()`: torchvision's names.
        Raises:
            ModelError: an array is missing, or of another shape.
        """
        own = self.state_dict()
        names = {name: name for name in own if name.startswith("features.")}
        for layer, source in (("fc6", "classifier.0"), ("fc7", "classifier.3")):
            names.update({f"{layer}.{k}": f"{source}.{k}" for k in ("weight", "bias")})
        for name, source in names.items():
            found = np.shape(state_dict[source]) if source in state_dict else None
            if found is None or int(np.prod(found)) != own[name].size:
                raise ModelError(
                    f"load_vgg16: expected {source} with the {own[name].size} numbers of {name} "
                    f"{own[name].shape}; got {'none' if found is None else found}. Give the state "
                    "dict of a vgg16 of this width."
                )
        for name, source in names.items():
            own[name][...] = np.asarray(state_dict[source]).reshape(own[name].shape)


def _features(in_channels: int, width: int) -> nn.Sequential:
    """VGG-16's convolutions, the first padded widely, its poolings rounded up."""
    layers: list[nn.Module] = []
    channels = in_channels
    for stage in STAGES[16]:
        if isinstance(stage, str):
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
            continue
        wide = stage * width // 64
        padding = 1 if layers else _FIRST_PADDING
        layers += [nn.Conv2d(channels, wide, 3, padding=padding), nn.ReLU()]
        channels = wide
    return nn.Sequential(*layers)


def _enlarge(classes: int, times: int) -> nn.ConvTranspose2d:
    """A transposed convolution that interpolates linearly at first, each class alone."""
    layer = nn.ConvTranspose2d(classes, classes, 2 * times, stride=times, bias=False)
    ramp = 1 - np.abs(np.arange(2 * times) - (times - 0.5)) / times
    layer.weight.data[...] = np.eye(classes)[:, :, None, None] * np.outer(ramp, ramp)
    return layer


def _cut(x: Any, corner: int, height: int, width: int) -> Any:
    return x[:, :, corner : corner + height, corner : corner + width]


def _fcn(stride: int) -> Any:
    def make(**options: Any) -> FCN:
        return FCN(**{"stride": stride, **options})

    return constructor(f"fcn{stride}s", f"FCN-{stride}s of VGG-16.", make)


fcn32s, fcn16s, fcn8s = map(_fcn, (32, 16, 8))
