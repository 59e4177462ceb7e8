"""GoogLeNet: nine inception modules; 13,004,888 parameters with its auxiliary heads.

Names, sizes and arguments are torchvision's, so its checkpoints load by name: batch norm after
every convolution, and a 3×3 convolution where the paper has 5×5. Other than there `forward` gives
the main logits in training too; `all_logits` gives those of the heads beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from striate import nn
from striate.errors import OptionError
from striate.models.starts import constructor, truncated_normal
from striate.nn import functional as F

Make = Callable[..., nn.Module]


class BasicConv2d(nn.Module):
    """`relu(bn(conv(x)))`, the convolution without bias.

    Args:
        in_channels: channels of x.
        out_channels: channels of the result.
        options: what else `nn.Conv2d` takes.
    """

    def __init__(self, in_channels: int, out_channels: int, **options: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, bias=False, **options)
        self.bn = nn.BatchNorm2d(out_channels, eps=0.001)

    def forward(self, x: Any) -> Any:
        """The result for x."""
        return F.relu(self.bn(self.conv(x)))


class Inception(nn.Module):
    """Four branches side by side, joined along the channels.

    Args:
        in_channels: channels of x.
        ch1x1: channels of the 1×1 branch.
        ch3x3red, ch3x3: channels of the second branch's 1×1 and 3×3 convolution.
        ch5x5red, ch5x5: of the third's, whose second convolution is of 3×3 too.
        pool_proj: channels of the 1×1 convolution after the pooling.
        conv_block: makes a convolution with what follows it.
    Input: (n, in_channels, h, w). Output: (n, ch1x1 + ch3x3 + ch5x5 + pool_proj, h, w).
    """

    def __init__(
        self,
        in_channels: int,
        ch1x1: int,
        ch3x3red: int,
        ch3x3: int,
        ch5x5red: int,
        ch5x5: int,
        pool_proj: int,
        conv_block: Make | None = None,
    ) -> None:
        super().__init__()
        conv = conv_block or BasicConv2d
        self.branch1 = conv(in_channels, ch1x1, kernel_size=1)
        self.branch2 = nn.Sequential(
            conv(in_channels, ch3x3red, kernel_size=1),
            conv(ch3x3red, ch3x3, kernel_size=3, padding=1),
        )
        self.branch3 = nn.Sequential(
            conv(in_channels, ch5x5red, kernel_size=1),
            conv(ch5x5red, ch5x5, kernel_size=3, padding=1),
        )
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1, ceil_mode=True),
            conv(in_channels, pool_proj, kernel_size=1),
        )

    def forward(self, x: Any) -> Any:
        """The joined branches for x."""
        return F.cat((self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)), dim=1)


class InceptionAux(nn.Module):
    """A head on a middle layer, for training: pooling to 4 × 4, 1×1 convolution, two layers.

    Args:
        in_channels: channels of the middle layer.
        num_classes: outputs, one logit a class.
        conv_block: makes a convolution with what follows it.
        dropout: the share that the last layer drops of its inputs.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        conv_block: Make | None = None,
        dropout: float = 0.7,
    ) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d((4, 4))
        self.conv = (conv_block or BasicConv2d)(in_channels, 128, kernel_size=1)
        self.fc1 = nn.Linear(2048, 1024)
        self.fc2 = nn.Linear(1024, num_classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Any) -> Any:
        """Logits (n, num_classes) of a middle layer's output x."""
        x = F.flatten(self.conv(self.avgpool(x)), 1)
        return self.fc2(self.dropout(F.relu(self.fc1(x))))


# The stages' modules: input channels, then the arguments of `Inception` after them.
MODULES = {
    "3a": (192, 64, 96, 128, 16, 32, 32),
    "3b": (256, 128, 128, 192, 32, 96, 64),
    "4a": (480, 192, 96, 208, 16, 48, 64),
    "4b": (512, 160, 112, 224, 24, 64, 64),
    "4c": (512, 128, 128, 256, 24, 64, 64),
    "4d": (512, 112, 144, 288, 32, 64, 64),
    "4e": (528, 256, 160, 320, 32, 128, 128),
    "5a": (832, 256, 160, 320, 32, 128, 128),
    "5b": (832, 384, 192, 384, 48, 128, 128),
}
# What the weights that torchvision publishes expect of a channel, from one with ImageNet's mean
# and deviation taken off: x·scale + shift.
_RESCALED = tuple(
    (deviation / 0.5, (mean - 0.5) / 0.5)
    for mean, deviation in ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))
)


class GoogLeNet(nn.Module):
    """GoogLeNet.

    Args:
        num_classes: outputs, one logit a class.
        aux_logits: whether there are auxiliary heads; `forward` gives the main logits all the
            same, `all_logits` those of the heads too.
        transform_input: whether images normalised as ImageNet's are brought to [−1, 1] first.
        init_weights: whether weights are drawn from N(0, 0.01²), as by default.
        blocks: classes in the place of `BasicConv2d`, `Inception` and `InceptionAux`.
        dropout: the share that the last layer drops of its inputs.
        dropout_aux: the share that the heads' last layers drop of theirs.
        in_channels: channels of the images.
    Input: (n, in_channels, h, w) of any size; (224, 224) is usual. Output: logits
        (n, num_classes).
    Source: Szegedy et al., Going Deeper with Convolutions, arXiv:1409.4842.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        aux_logits: bool = True,
        transform_input: bool = False,
        init_weights: bool | None = None,
        blocks: Sequence[Make] | None = None,
        dropout: float = 0.2,
        dropout_aux: float = 0.7,
        *,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        conv, inception, head = blocks or (BasicConv2d, Inception, InceptionAux)
        self.aux_logits, self.transform_input = bool(aux_logits), bool(transform_input)
        self.conv1 = conv(in_channels, 64, kernel_size=7, stride=2, padding=3)
        self.maxpool1 = nn.MaxPool2d(3, stride=2, ceil_mode=True)  # (n, 64, 56, 56) of 224
        self.conv2 = conv(64, 64, kernel_size=1)
        self.conv3 = conv(64, 192, kernel_size=3, padding=1)
        self.maxpool2 = nn.MaxPool2d(3, stride=2, ceil_mode=True)  # (n, 192, 28, 28)
        for name, sizes in MODULES.items():
            self.add_module(f"inception{name}", inception(*sizes))
        self.maxpool3 = nn.MaxPool2d(3, stride=2, ceil_mode=True)  # (n, 480, 14, 14)
        self.maxpool4 = nn.MaxPool2d(2, stride=2, ceil_mode=True)  # (n, 832, 7, 7)
        self.aux1 = head(512, num_classes, dropout=dropout_aux) if aux_logits else None
        self.aux2 = head(528, num_classes, dropout=dropout_aux) if aux_logits else None
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(1024, num_classes)
        if init_weights is None or init_weights:
            truncated_normal(self, 0.01)

    def _stages(self, x: Any) -> tuple[Any, Any, Any]:
        """The outputs of inception 4a, 4d and 5b: what the three heads read."""
        if self.transform_input:
            parts = [x[:, k : k + 1] * a + b for k, (a, b) in enumerate(_RESCALED)]
            x = F.cat(parts, dim=1)
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
        """The logits of the main head, of `aux2` and of `aux1`: (n, num_classes, 3).

        `WithHeads` trains with them.

        Raises:
            OptionError: the network was built without them.
        """
        if self.aux1 is None or self.aux2 is None:
            raise OptionError(
                "GoogLeNet.all_logits: expected auxiliary heads; got aux_logits=False. "
                "Build the network with aux_logits=True."
            )
        first, second, last = self._stages(x)
        return F.stack((self._main(last), self.aux2(second), self.aux1(first)), dim=2)


class WithHeads(nn.Module):
    """A network that learns by its auxiliary heads too, and answers by its main one.

    In training it gives the logits of all heads, (n, num_classes, heads), for
    `nn.DeepSupervisionLoss`; in evaluation those of the main one. It shares the network's
    parameters: what it learns is in `net`.

    Args:
        net: a network with `all_logits`, as `GoogLeNet` has it.
    Raises:
        OptionError: the network has no such heads.

    >>> net = WithHeads(GoogLeNet(10))
    >>> net.train().to_graph((3, 64, 64)).outputs, net.eval().to_graph((3, 64, 64)).outputs
    (('stack',), ('net.fc',))
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        if not hasattr(net, "all_logits"):
            raise OptionError(
                f"WithHeads: expected a network with auxiliary heads (all_logits), as GoogLeNet; "
                f"got {type(net).__name__}."
            )
        if getattr(net, "aux_logits", True) is False:
            raise OptionError(
                f"WithHeads: expected auxiliary heads; got {type(net).__name__} with "
                "aux_logits=False. Build it with aux_logits=True."
            )
        self.net = net

    def forward(self, x: Any) -> Any:
        """Logits of all heads in training, of the main one in evaluation."""
        return self.net.all_logits(x) if self.training else self.net(x)


googlenet = constructor(
    "googlenet",
    "GoogLeNet; aux_logits=False leaves out its auxiliary heads.",
    GoogLeNet,
    without=("aux1.", "aux2."),
)
