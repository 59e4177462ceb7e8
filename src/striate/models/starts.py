"""How the classic networks draw their first weights: the ways that more than one family uses.

Not the layers' own defaults, which `nn` has.
"""

from __future__ import annotations

from striate import nn
from striate.nn import init


def kaiming_fan_out(net: nn.Module) -> None:
    """Convolutions from `N(0, 2/fan_out)` with no bias at first, as for ReLU networks.

    Args:
        net: the network; its other layers stay as they are.
    Source: He, Zhang, Ren, Sun, Delving Deep into Rectifiers, arXiv:1502.01852.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                init.zeros_(module.bias)


def normal_linear(net: nn.Module, std: float) -> None:
    """Fully connected layers from `N(0, std²)`, with no bias at first."""
    for module in net.modules():
        if isinstance(module, nn.Linear):
            init.normal_(module.weight, 0.0, std)
            if module.bias is not None:
                init.zeros_(module.bias)
