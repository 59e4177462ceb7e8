"""Layers that drop numbers or whole channels in training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from striate.nn import functional as F
from striate.nn.arguments import probability
from striate.nn.module import Module


class _Dropout(Module):
    """Keeps the share and asks `function` to drop it, in training."""

    one_node = True
    function: Callable[..., Any]

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        self.p, self.inplace = probability(p, type(self).__name__), bool(inplace)

    def forward(self, x: Any) -> Any:
        """x, in training with a share p dropped."""
        return type(self).function(x, self.p, self.training, self.inplace)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_Dropout):
    """In training `x/(1 − p)` where a uniform number is ≥ p, else 0; in evaluation x itself.

    Args:
        p: the share that is dropped, from 0 to below 1.
        inplace: inside a network the input itself becomes the output, as in torch.
    Source: Srivastava et al., Dropout, Journal of Machine Learning Research 15 (2014).
    """

    function = staticmethod(F.dropout)


class Dropout1d(_Dropout):
    """Whole channels of (n, c, length) become 0 in training, the others are divided by 1 − p.

    Args:
        p: the share of the channels that is dropped, from 0 to below 1.
        inplace: inside a network the input itself becomes the output, as in torch.
    Source: Tompson et al., Efficient object localization using convolutional networks (2015).
    """

    function = staticmethod(F.dropout1d)


class Dropout2d(_Dropout):
    """Whole channels of (n, c, h, w) become 0 in training, the others are divided by 1 − p.

    Args:
        p: the share of the channels that is dropped, from 0 to below 1.
        inplace: inside a network the input itself becomes the output, as in torch.
    Source: Tompson et al., Efficient object localization using convolutional networks (2015).

    >>> import numpy as np
    >>> y = Dropout2d(0.5)(np.ones((2, 3, 4, 4)))
    >>> sorted(set(y.std((2, 3)).ravel().tolist()))  # a channel is kept or dropped as a whole
    [0.0]
    """

    function = staticmethod(F.dropout2d)


class Dropout3d(_Dropout):
    """Whole channels of (n, c, d, h, w) become 0 in training, the others are divided by 1 − p.

    Args:
        p: the share of the channels that is dropped, from 0 to below 1.
        inplace: inside a network the input itself becomes the output, as in torch.
    Source: Tompson et al., Efficient object localization using convolutional networks (2015).
    """

    function = staticmethod(F.dropout3d)


class AlphaDropout(_Dropout):
    """Dropout for SELU networks: what is dropped becomes −λα, and mean and variance are kept.

    Args:
        p: the share that is dropped, from 0 to below 1.
        inplace: inside a network the input itself becomes the output, as in torch.
    Source: Klambauer et al., Self-normalizing neural networks, arXiv:1706.02515.
    """

    function = staticmethod(F.alpha_dropout)


class FeatureAlphaDropout(_Dropout):
    """`AlphaDropout` of whole channels of (n, c, …).

    Args:
        p: the share of the channels that is dropped, from 0 to below 1.
        inplace: inside a network the input itself becomes the output, as in torch.
    Source: Klambauer et al., Self-normalizing neural networks, arXiv:1706.02515.
    """

    function = staticmethod(F.feature_alpha_dropout)
