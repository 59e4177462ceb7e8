"""`Normalize` as a layer: what a network does with its input travels with the network.

Apart from `augment_colour`, since importing striate.data must not import the layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from striate.nn import functional
from striate.nn.module import Module

if TYPE_CHECKING:
    from striate.nn.symbol import SymbolicTensor


class NormalizeLayer(Module):
    """(x[c] − mean[c]) / std[c], with numbers that are not trained.

    Args:
        mean: of each channel.
        std: of each channel.
    """

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.mean, self.std = mean, std

    def forward(self, x: SymbolicTensor) -> SymbolicTensor:
        """Pictures (n, c, h, w), normalised."""
        pairs = list(zip(self.mean, self.std, strict=True))
        if len(set(pairs)) == 1:
            return (x - pairs[0][0]) * (1 / pairs[0][1])
        parts = [(x[:, k : k + 1] - m) * (1 / s) for k, (m, s) in enumerate(pairs)]
        return functional.cat(parts, dim=1)

    def extra_repr(self) -> str:
        return f"mean={self.mean}, std={self.std}"
