"""Layers that pad or crop: zeros, a number, mirrored, repeated, round; and the middle of an image.

One class for each of torch's, made from three that differ in their mode; a subclass says how many
axes of space its input has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from striate.errors import OptionError
from striate.nn.arguments import named_sizes
from striate.nn.data_format import image_sizes
from striate.nn.functional_pad import center_crop, padded
from striate.nn.module import Module


class _Pad(Module):
    one_node = True
    rank = 2
    mode = "constant"
    value: float = 0.0

    def __init__(self, padding: int | Sequence[int]) -> None:
        super().__init__()
        self.padding = _both_ends(padding, self.rank, type(self).__name__)

    def forward(self, x: Any) -> Any:
        """x, padded."""
        image_sizes(x, self.rank, type(self).__name__)
        pairs = [list(self.padding[k : k + 2]) for k in range(0, 2 * self.rank, 2)]
        return padded(x, pairs[::-1], self.mode, float(self.value))

    def extra_repr(self) -> str:
        return f"{self.padding}"


def _both_ends(padding: Any, rank: int, where: str) -> tuple[int, ...]:
    """(left, right, top, bottom, front, back), as many as there are axes."""
    given = padding if isinstance(padding, (Sequence, np.ndarray)) else [padding] * 2 * rank
    whole = all(hasattr(k, "__index__") and not isinstance(k, bool) for k in given)
    if not whole or len(given) != 2 * rank or isinstance(padding, str):
        order = ", ".join(("left", "right", "top", "bottom", "front", "back")[: 2 * rank])
        raise OptionError(
            f"{where}: expected padding to be a whole number or ({order}); got padding={padding!r}."
        )
    return tuple(int(k) for k in given)


class ConstantPad2d(_Pad):
    """`value` put around images; negative numbers crop.

    Args:
        padding: one number for all sides, or (left, right, top, bottom).
        value: the number.
    Input: (n, channels, h, w). Output: (n, channels, top + h + bottom, left + w + right).

    >>> ConstantPad2d((1, 0, 0, 0), 7)(np.zeros((1, 1, 1, 2))).ravel()
    array([7., 0., 0.], dtype=float32)
    """

    def __init__(self, padding: int | Sequence[int], value: float) -> None:
        super().__init__(padding)
        if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
            raise OptionError(
                f"{type(self).__name__}: expected value to be a number; got value={value!r}."
            )
        self.value = value

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(ConstantPad2d):
    """`value` put before and after sequences (n, channels, length); padding (left, right)."""

    rank = 1


class ConstantPad3d(ConstantPad2d):
    """`value` put around volumes; padding (left, right, top, bottom, front, back)."""

    rank = 3


class ZeroPad2d(_Pad):
    """Zeros put around images; negative numbers crop.

    Args:
        padding: one number for all sides, or (left, right, top, bottom).
    Input: (n, channels, h, w). Output: (n, channels, top + h + bottom, left + w + right).

    >>> ZeroPad2d((1, 0, 0, 0))(np.ones((1, 1, 1, 2))).ravel()
    array([0., 1., 1.], dtype=float32)
    """


class ZeroPad1d(ZeroPad2d):
    """Zeros put before and after sequences (n, channels, length); padding (left, right)."""

    rank = 1


class ZeroPad3d(ZeroPad2d):
    """Zeros put around volumes; padding (left, right, top, bottom, front, back)."""

    rank = 3


class ReflectionPad2d(_Pad):
    """Images mirrored about their first and last rows and columns, which come once: 2 1 0 1 2.

    Args:
        padding: one number for all sides, or (left, right, top, bottom), each below the image's
            size.
    Input: (n, channels, h, w). Output: (n, channels, top + h + bottom, left + w + right).

    >>> ReflectionPad2d((2, 0, 0, 0))(np.arange(3.0).reshape(1, 1, 1, 3)).ravel()
    array([2., 1., 0., 1., 2.], dtype=float32)
    """

    mode = "reflect"


class ReflectionPad1d(ReflectionPad2d):
    """Sequences (n, channels, length) mirrored about their ends; padding (left, right)."""

    rank = 1


class ReflectionPad3d(ReflectionPad2d):
    """Volumes mirrored about their ends; padding (left, right, top, bottom, front, back)."""

    rank = 3


class ReplicationPad2d(_Pad):
    """The outermost rows and columns of images repeated: 0 0 0 1 2.

    Args:
        padding: one number for all sides, or (left, right, top, bottom).
    Input: (n, channels, h, w). Output: (n, channels, top + h + bottom, left + w + right).

    >>> ReplicationPad2d((2, 0, 0, 0))(np.arange(3.0).reshape(1, 1, 1, 3)).ravel()
    array([0., 0., 0., 1., 2.], dtype=float32)
    """

    mode = "replicate"


class ReplicationPad1d(ReplicationPad2d):
    """The ends of sequences (n, channels, length) repeated; padding (left, right)."""

    rank = 1


class ReplicationPad3d(ReplicationPad2d):
    """The ends of volumes repeated; padding (left, right, top, bottom, front, back)."""

    rank = 3


class CircularPad2d(_Pad):
    """Images continued by their other end, as on a torus: 1 2 0 1 2.

    Args:
        padding: one number for all sides, or (left, right, top, bottom), each at most the image's
            size.
    Input: (n, channels, h, w). Output: (n, channels, top + h + bottom, left + w + right).

    >>> CircularPad2d((2, 0, 0, 0))(np.arange(3.0).reshape(1, 1, 1, 3)).ravel()
    array([1., 2., 0., 1., 2.], dtype=float32)
    """

    mode = "circular"


class CircularPad1d(CircularPad2d):
    """Sequences (n, channels, length) continued by their other end; padding (left, right)."""

    rank = 1


class CircularPad3d(CircularPad2d):
    """Volumes continued by their other end; padding (left, right, top, bottom, front, back)."""

    rank = 3


class CenterCrop(Module):
    """The middle of each image, sequence or volume.

    Args:
        output_size: what is left: one number for all axes of space, or one for each.
    Input: (n, channels, …). Output: (n, channels, *output_size), from row `⌊(h − oh)/2⌋`.

    >>> CenterCrop((2, 4))(np.zeros((1, 3, 8, 8))).shape
    (1, 3, 2, 4)
    """

    one_node = True

    def __init__(self, output_size: int | Sequence[int]) -> None:
        super().__init__()
        count = 1 if isinstance(output_size, (str, int)) else len(output_size)
        sizes = named_sizes(output_size, count, "CenterCrop", "output_size")
        self.output_size = sizes[0] if count == 1 else sizes

    def forward(self, x: Any) -> Any:
        """The middle of x."""
        return center_crop(x, self.output_size)

    def extra_repr(self) -> str:
        return f"{self.output_size}"
