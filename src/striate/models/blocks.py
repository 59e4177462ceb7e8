"""Building blocks of several families: convolution with norm, squeeze-and-excitation, drop path.

Names of classes, arguments and parameters are those of torchvision.ops.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from striate import nn
from striate.errors import OptionError
from striate.nn import functional as F
from striate.nn.arguments import probability

Layer = Callable[..., nn.Module]


def whole_eights(channels: float, divisor: int = 8) -> int:
    """The multiple of a divisor nearest to a number of channels, not less than 0.9 of it.

    >>> whole_eights(24.0), whole_eights(18.0), whole_eights(3.0)
    (24, 24, 8)
    """
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * channels else nearest


class Conv2dNormActivation(nn.Sequential):
    """A convolution, normalisation and an activation in a row, the size kept at stride 1.

    Args:
        in_channels: channels of the images.
        out_channels: channels of the result.
        kernel_size: pixels.
        stride: pixels.
        padding: pixels; what keeps the size at stride 1 where None.
        groups: independent groups of channels.
        norm_layer: makes the normalisation of a number of channels; None for none.
        activation_layer: makes the activation; None for none.
        dilation: pixels between taps.
        inplace: passed on to an activation that takes it; it changes nothing here.
        bias: whether the convolution has one; by default where there is no normalisation.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        padding: int | None = None,
        groups: int = 1,
        norm_layer: Layer | None = nn.BatchNorm2d,
        activation_layer: Layer | None = nn.ReLU,
        dilation: int = 1,
        inplace: bool | None = True,
        bias: bool | None = None,
    ) -> None:
        if padding is None:
            padding = (kernel_size - 1) // 2 * dilation
        with_bias = norm_layer is None if bias is None else bias
        sizes = (in_channels, out_channels, kernel_size, stride, padding, dilation, groups)
        layers: list[nn.Module] = [nn.Conv2d(*sizes, bias=with_bias)]
        if norm_layer is not None:
            layers.append(norm_layer(out_channels))
        if activation_layer is not None:
            layers.append(activation_layer())
        super().__init__(*layers)
        self.out_channels = out_channels


class SqueezeExcitation(nn.Module):
    """`x · σ(W₂·f(W₁·mean(x) + b₁) + b₂)`: each channel times a number between 0 and 1.

    Args:
        input_channels: channels of x.
        squeeze_channels: numbers in the middle.
        activation: makes f.
        scale_activation: makes σ.
    Input and output: (n, input_channels, h, w).
    Source: Hu, Shen, Albanie, Sun, Wu, Squeeze-and-Excitation Networks, arXiv:1709.01507.
    """

    def __init__(
        self,
        input_channels: int,
        squeeze_channels: int,
        activation: Layer = nn.ReLU,
        scale_activation: Layer = nn.Sigmoid,
    ) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(input_channels, squeeze_channels, 1)
        self.fc2 = nn.Conv2d(squeeze_channels, input_channels, 1)
        self.activation = activation()
        self.scale_activation = scale_activation()

    def forward(self, x: Any) -> Any:
        """The scaled channels of x."""
        scale = self.activation(self.fc1(self.avgpool(x)))
        return x * self.scale_activation(self.fc2(scale))


class StochasticDepth(nn.Module):
    """In training `x/(1 − p)`, or 0 for a share p of the samples; in evaluation x itself.

    What stands before it in a residual block is so left out for some samples.

    Args:
        p: the share of the samples, from 0 to below 1.
        mode: "row", a draw for each sample ("batch", one for all, is not there).
    Source: Huang, Sun, Liu, Sedra, Weinberger, Deep Networks with Stochastic Depth,
        arXiv:1603.09382.
    """

    def __init__(self, p: float, mode: str = "row") -> None:
        super().__init__()
        if mode != "row":
            raise OptionError(
                f"StochasticDepth: expected mode='row'; got mode={mode!r}. One draw for a whole "
                "batch would mix its samples."
            )
        self.p, self.mode = probability(p, "StochasticDepth"), mode

    def forward(self, x: Any) -> Any:
        """x, in training without some samples."""
        if not self.training or self.p == 0:
            return x
        shape = x.shape[1:]
        # The whole sample as one channel, which dropout2d drops or keeps as a whole.
        dropped = F.dropout2d(F.unsqueeze(F.flatten(x, 2), 1), self.p, True)
        return F.unflatten(F.flatten(dropped, 1), 1, shape)

    def extra_repr(self) -> str:
        return f"p={self.p}, mode={self.mode}"
