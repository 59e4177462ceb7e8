"""Padding and cropping in `striate.nn.functional`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from striate.errors import OptionError, ShapeError
from striate.formula.pad import MODES
from striate.nn.apply import T, apply, sample_shape
from striate.nn.arguments import named_sizes
from striate.nn.symbol import at_line


def pad(input: T, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> T:
    """Numbers put around a tensor, or taken away where a side is negative.

    | mode | 0 1 2 3 with 2 on each side |
    |---|---|
    | constant | v v 0 1 2 3 v v |
    | reflect | 2 1 0 1 2 3 2 1 |
    | symmetric | 1 0 0 1 2 3 3 2 |
    | replicate | 0 0 0 1 2 3 3 3 |
    | circular | 2 3 0 1 2 3 0 1 |

    Args:
        input: (n, …).
        pad: (before, after) of the last axis, then of the one before it, …: (left, right, top,
            bottom) for images. Any axes but the batch.
        mode: as above; "symmetric" is not in torch.
        value: the number v of mode "constant", 0 where None.
    Returns:
        (n, …), each padded axis longer by what is put before and after it.
    Raises:
        OptionError: the mode or the numbers are none.
        ShapeError: more is mirrored than there is, or nothing is left.

    >>> pad(np.arange(4.0).reshape(1, 4), (2, 1), "reflect")
    array([[2., 1., 0., 1., 2., 3., 2.]], dtype=float32)
    """
    where, sides = "pad", _sides(pad)
    if mode not in MODES:
        raise OptionError(
            f"{where}: expected mode {', '.join(map(repr, MODES))}; got mode={mode!r}."
        )
    if value is not None and mode != "constant":
        raise OptionError(
            f"{where}: expected no value with mode={mode!r}, which copies numbers of the input; "
            f"got value={value!r}."
        )
    number = 0.0 if value is None else value
    if isinstance(number, bool) or not isinstance(number, (int, float, np.number)):
        raise OptionError(f"{where}: expected value to be a number; got value={value!r}.")
    shape: tuple[int, ...] = sample_shape(input, where)
    if len(sides) > len(shape):
        raise ShapeError(
            f"{where}: expected at most {2 * len(shape)} numbers, two for each axis besides the "
            f"batch; got pad={tuple(pad)} for shape {('N', *shape)}{at_line()}."
        )
    return padded(input, sides, mode, float(number))


def padded(input: T, sides: list[list[int]], mode: str, value: float = 0.0) -> T:
    """`input` with (before, after) of its last axes, front to back."""
    return cast(T, apply("pad", (input,), {"padding": sides, "mode": mode, "value": value}))


def _sides(given: Any) -> list[list[int]]:
    """torch's flat numbers as pairs, front axis first."""
    numbers = list(given) if isinstance(given, (Sequence, np.ndarray)) else [given]
    whole = all(hasattr(k, "__index__") and not isinstance(k, bool) for k in numbers)
    if not whole or len(numbers) % 2 or not numbers or isinstance(given, str):
        raise OptionError(
            f"pad: expected an even count of whole numbers, (before, after) of the last axis, then "
            f"of the one before it; got pad={given!r}."
        )
    pairs = [[int(a), int(b)] for a, b in zip(numbers[::2], numbers[1::2], strict=True)]
    return pairs[::-1]


def crop(input: T, start: int | Sequence[int], size: int | Sequence[int]) -> T:
    """A part of each image: `size` numbers from `start` along each of the last axes.

    Args:
        input: (n, channels, …), with one to three axes of space.
        start: the first row, column …; one number for all, or one for each axis of space.
        size: how many, likewise.
    Returns:
        (n, channels, *size).

    >>> crop(np.arange(16.0).reshape(1, 1, 4, 4), (1, 2), 2).ravel()
    array([ 6.,  7., 10., 11.], dtype=float32)
    """
    image = _image(input, "crop")
    starts = named_sizes(start, len(image), "crop", "start", 0)
    sizes = named_sizes(size, len(image), "crop", "size")
    return _cropped(input, "crop", image, starts, sizes)


def center_crop(input: T, output_size: int | Sequence[int]) -> T:
    """The middle of each image; of an odd rest the larger half is cut off at the end.

    Args:
        input: (n, channels, …), with one to three axes of space.
        output_size: what is left, one number for all axes of space or one for each.
    Returns:
        (n, channels, *output_size), from row `⌊(h − oh)/2⌋`.

    >>> center_crop(np.arange(25.0).reshape(1, 1, 5, 5), (1, 2)).ravel()
    array([11., 12.], dtype=float32)
    """
    image = _image(input, "center_crop")
    sizes = named_sizes(output_size, len(image), "center_crop", "output_size")
    starts = tuple(max(n - size, 0) // 2 for n, size in zip(image, sizes, strict=True))
    return _cropped(input, "center_crop", image, starts, sizes)


def _image(input: Any, where: str) -> tuple[int, ...]:
    shape = sample_shape(input, where)
    if not 2 <= len(shape) <= 4:
        raise ShapeError(
            f"{where}: expected (n, channels, …) with one to three axes of space; got shape "
            f"{('N', *shape)}{at_line()}."
        )
    return shape[1:]


def _cropped(
    input: T, where: str, image: Sequence[int], starts: Sequence[int], sizes: Sequence[int]
) -> T:
    sides = []
    for axis, (n, start, size) in enumerate(zip(image, starts, sizes, strict=True)):
        if start + size > n:
            raise ShapeError(
                f"{where}: expected {start} + {size} ≤ {n} along axis {axis + 2}; got a part that "
                f"ends outside the image {tuple(image)}{at_line()}. F.pad makes images larger."
            )
        sides.append([-start, start + size - n])
    return padded(input, sides, "constant")
