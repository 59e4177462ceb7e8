"""U-Net: a contracting and an expanding path, joined level by level; a label for every pixel.

The classic network, without normalisation. Its published form pads nothing (`padding=0`: 572 × 572
in, 388 × 388 out); the default pads, so that the labels cover the image.
"""

from __future__ import annotations

from typing import Any

from striate import nn
from striate.errors import OptionError
from striate.models.starts import constructor, kaiming_fan_out
from striate.nn import functional as F


class DoubleConv(nn.Module):
    """Two 3×3 convolutions, each with ReLU.

    Args:
        in_channels: channels of x.
        out_channels: channels of both results.
        padding: zero pixels on each side: 1 keeps the size, 0 takes 4 rows and columns.
    """

    def __init__(self, in_channels: int, out_channels: int, padding: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=padding)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=padding)
        self.relu2 = nn.ReLU()

    def forward(self, x: Any) -> Any:
        """The result for x."""
        return self.relu2(self.conv2(self.relu1(self.conv1(x))))


class Up(nn.Module):
    """Doubles the image by a transposed convolution, joins the other path's, convolves twice.

    Args:
        in_channels: channels of x; the transposed convolution halves them.
        padding: as in `DoubleConv`.
    """

    def __init__(self, in_channels: int, padding: int) -> None:
        super().__init__()
        half = in_channels // 2
        self.up = nn.ConvTranspose2d(in_channels, half, 2, stride=2)
        self.conv = DoubleConv(in_channels, half, padding)

    def forward(self, x: Any, skip: Any) -> Any:
        """The result for x and the contracting path's `skip`, which is cut to x's size."""
        x = self.up(x)
        top, left = ((skip.shape[k] - x.shape[k]) // 2 for k in (2, 3))
        if (top, left) != (0, 0) or skip.shape[2:] != x.shape[2:]:
            skip = skip[:, :, top : top + x.shape[2], left : left + x.shape[3]]
        return self.conv(F.cat((skip, x), dim=1))


class UNet(nn.Module):
    """U-Net.

    Args:
        num_classes: outputs, one logit a class and pixel.
        in_channels: channels of the images.
        width: channels of the first level; each level below has twice as many.
        depth: how often the image is halved.
        padding: zero pixels on each side of the 3×3 convolutions: 1, or 0 as published.
    Input: (n, in_channels, h, w); with padding, h and w are multiples of 2^depth, or the labels
        leave out the last rows or columns. Output: logits (n, num_classes, h, w); without padding
        some rows and columns fewer on every side.
    Raises:
        OptionError: width, depth or padding is out of range.
    Source: Ronneberger, Fischer, Brox, U-Net: Convolutional Networks for Biomedical Image
        Segmentation, arXiv:1505.04597.
    """

    def __init__(
        self,
        num_classes: int = 2,
        in_channels: int = 1,
        width: int = 64,
        depth: int = 4,
        padding: int = 1,
    ) -> None:
        super().__init__()
        if width < 1 or depth < 1 or padding not in (0, 1):
            raise OptionError(
                f"UNet: expected width and depth from 1 and padding 0 or 1; got width={width}, "
                f"depth={depth}, padding={padding}."
            )
        widths = [width << level for level in range(depth + 1)]
        sources = [in_channels, *widths]
        self.down = nn.ModuleList(
            [DoubleConv(sources[k], widths[k], padding) for k in range(depth + 1)]
        )
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ModuleList([Up(w, padding) for w in reversed(widths[1:])])
        self.out = nn.Conv2d(width, num_classes, 1)
        kaiming_fan_out(self)

    def forward(self, x: Any) -> Any:
        """Logits (n, num_classes, h', w') of images x (n, in_channels, h, w)."""
        x = self.down[0](x)
        skips = []
        for level in list(self.down)[1:]:
            skips.append(x)
            x = level(self.pool(x))
        for level in self.up:
            x = level(x, skips.pop())
        return self.out(x)


unet = constructor("unet", "U-Net: 31,030,658 parameters.", UNet)
