"""GoogLeNet: nine inception modules; 6,624,904 parameters, 13,004,888 with the auxiliary heads.

Names and sizes are torchvision's, so its checkpoints load: batch norm after every convolution,
and a 3×3 convolution where the paper has 5×5. The auxiliary heads are off unless asked for.
"""

from __future__ import annotations

from typing import Any

from striate import nn
from striate.errors import OptionError
from striate.nn import functional as F


class BasicConv2d(nn.Module):
    """`relu(bn(conv(x)))`, the convolution without bias.

    Args:
        in_channels: channels of x.
        out_channels: channels of the result.
        kernel_size: pixels.
        stride: pixels.
        padding: zero pixels on each side.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, eps=0.001)

    def forward(self, x: Any) -> Any:
        """The result for x."""
        return F.relu(self.bn(self.conv(x)))


class Inception(nn.Module):
    """Four branches side by side, joined along the channels.

    Args:
        in_channels: channels of x.
        widths: channels of the 1×1 branch; of the second branch's 1×1 and 3×3; of the third's
            1×1 and 3×3; of the 1×1 after the pooling.
    Input: (n, in_channels, h, w). Output: (n, w₀ + w₂ + w₄ + w₅, h, w).
    """

    def __init__(self, in_channels: int, widths: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        one, narrow2, wide2, narrow3, wide3, pooled = widths
        self.branch1 = BasicConv2d(in_channels, one, 1)
        self.branch2 = nn.Sequential(
            BasicConv2d(in_channels, narrow2, 1), BasicConv2d(narrow2, wide2, 3, padding=1)
        )
        self.branch3 = nn.Sequential(
            BasicConv2d(in_channels, narrow3, 1), BasicConv2d(narrow3, wide3, 3, padding=1)
        )
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1), BasicConv2d(in_channels, pooled, 1)
        )

    def forward(self, x: Any) -> Any:
        """The joined branches for x."""
        return F.cat((self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)), dim=1)


class InceptionAux(nn.Module):
    """A head on a middle layer, for training: pooling to 4 × 4, 1×1 convolution, two layers.

    Args:
        in_channels: channels of the middle layer.
        num_classes: outputs, one logit a class.
        dropout: the share that the last layer drops of its inputs.
    """

    def __init__(self, in_channels: int, num_classes: int, dropout: float = 0.7) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d((4, 4))
        self.conv = BasicConv2d(in_channels, 128, 1)
        self.fc1 = nn.Linear(2048, 1024)
        self.dropout = nn.Dropout(dropout)
        self.fc2 = nn.Linear(1024, num_classes)

    def forward(self, x: Any) -> Any:
        """Logits (n, num_classes) of a middle layer's output x."""
        x = F.flatten(self.conv(self.avgpool(x)), 1)
        return self.fc2(self.dropout(F.relu(self.fc1(x))))


class GoogLeNet(nn.Module):
    """GoogLeNet.

    Args:
        num_classes: outputs, one logit a class.
        in_channels: channels of the images.
        aux_logits: whether there are auxiliary heads; `forward` gives the main logits all the
            same, `all_logits` those of the heads too.
        dropout: the share that the last layer drops of its inputs.
    Input: (n, in_channels, h, w) of any size; (224, 224) is usual. Output: logits
        (n, num_classes).
    Source: Szegedy et al., Going Deeper with Convolutions, arXiv:1409.4842.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        aux_logits: bool = False,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.conv1 = BasicConv2d(in_channels, 64, 7, stride=2, padding=3)
        self.maxpool1 = nn.MaxPool2d(3, stride=2, ceil_mode=True)  # (n, 64, 56, 56) of 224
        self.conv2 = BasicConv2d(64, 64, 1)
        self.conv3 = BasicConv2d(64, 192, 3, padding=1)
        self.maxpool2 = nn.MaxPool2d(3, stride=2, ceil_mode=True)  # (n, 192, 28, 28)
        self.inception3a = Inception(192, (64, 96, 128, 16, 32, 32))
        self.inception3b = Inception(256, (128, 128, 192, 32, 96, 64))
        self.maxpool3 = nn.MaxPool2d(3, stride=2, ceil_mode=True)  # (n, 480, 14, 14)
        self.inception4a = Inception(480, (192, 96, 208, 16, 48, 64))
        self.inception4b = Inception(512, (160, 112, 224, 24, 64, 64))
        self.inception4c = Inception(512, (128, 128, 256, 24, 64, 64))
        self.inception4d = Inception(512, (112, 144, 288, 32, 64, 64))
        self.inception4e = Inception(528, (256, 160, 320, 32, 128, 128))
        self.maxpool4 = nn.MaxPool2d(2, stride=2, ceil_mode=True)  # (n, 832, 7, 7)
        self.inception5a = Inception(832, (256, 160, 320, 32, 128, 128))
        self.inception5b = Inception(832, (384, 192, 384, 48, 128, 128))
        self.aux1 = InceptionAux(512, num_classes) if aux_logits else None
        self.aux2 = InceptionAux(528, num_classes) if aux_logits else None
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(1024, num_classes)

    def _stages(self, x: Any) -> tuple[Any, Any, Any]:
        """The outputs of inception 4a, 4d and 5b: what the three heads read."""
        x = self.maxpool1(self.conv1(x))
        x = self.maxpool2(self.conv3(self.conv2(x)))
        x = self.maxpool3(self.inception3b(self.inception3a(x)))
        first = self.inception4a(x)  # (n, 512, 14, 14)
        second = self.inception4d(self.inception4c(self.inception4b(first)))  # (n, 528, 14, 14)
        x = self.maxpool4(self.inception4e(second))
        return first, second, self.inception5b(self.inception5a(x))  # last: (n, 1024, 7, 7)

    def _main(self, x: Any) -> Any:
        return self.fc(self.dropout(F.flatten(self.avgpool(x), 1)))

    def forward(self, x: Any) -> Any:
        """Logits (n, num_classes) of images x (n, in_channels, h, w)."""
        return self._main(self._stages(x)[2])

    def all_logits(self, x: Any) -> Any:
        """The logits of the main head, of `aux2` and of `aux1`, joined: (n, 3·num_classes).

        For the forward of a network that trains with the heads.

        Raises:
            OptionError: the network was built without them.
        """
        if self.aux1 is None or self.aux2 is None:
            raise OptionError(
                "GoogLeNet.all_logits: expected auxiliary heads; got aux_logits=False. "
                "Build the network with aux_logits=True."
            )
        first, second, last = self._stages(x)
        return F.cat((self._main(last), self.aux2(second), self.aux1(first)), dim=1)


googlenet = GoogLeNet
