"""`x[:, 2:5, ..., 0]` on a traced tensor as slices of axes and a reshape.

Only what a graph can hold: the whole batch, then plain slices and whole numbers.
"""

from __future__ import annotations

from typing import Any

from striate.errors import ShapeError
from striate.nn.untraceable import untraceable, user_line

_ALL = slice(None)


def steps(index: Any, sample_shape: tuple[int, ...]) -> tuple[list[dict[str, int]], list[int]]:
    """The slices that an index asks for, and the per-sample shape that is left.

    Args:
        index: what stands between the brackets.
        sample_shape: the tensor's shape without the batch.
    Returns:
        Attributes of `slice` nodes one after the other (axes count the batch), and the shape
        after the axes that a whole number picked from are gone.
    Raises:
        TraceError: an index that a graph cannot hold.
        ShapeError: outside the shape, or nothing left.

    >>> steps((slice(None), slice(2, 5), 0), (8, 4))
    ([{'axis': 1, 'start': 2, 'stop': 5}, {'axis': 2, 'start': 0, 'stop': 1}], [3])
    """
    found: list[dict[str, int]] = []
    shape: list[int] = []
    parts = _parts(index, len(sample_shape))
    for axis, (part, size) in enumerate(zip(parts, sample_shape, strict=True), 1):
        start, stop, keeps = _range(part, axis, size)
        if (start, stop) != (0, size):
            found.append({"axis": axis, "start": start, "stop": stop})
        if keeps:
            shape.append(stop - start)
    return found, shape


def _parts(index: Any, count: int) -> list[Any]:
    """One part for each axis after the batch."""
    parts = list(index) if isinstance(index, tuple) else [index]
    dots = [k for k, part in enumerate(parts) if part is Ellipsis]
    if len(dots) > 1 or len(parts) - len(dots) > count + 1:
        raise ShapeError(
            f"index: expected at most {count + 1} indices and one `...`; got {len(parts)}"
            f"{_place()}."
        )
    at = dots[0] if dots else len(parts)
    missing = [_ALL] * (count + 1 - len(parts) + len(dots))
    parts = parts[:at] + missing + parts[at + 1 :]
    if not (isinstance(parts[0], slice) and parts[0] == _ALL):
        raise untraceable(
            "an index into the batch axis would pick samples, and a graph serves every batch size",
            "Leave the batch whole: x[:, ...].",
        )
    return parts[1:]


def _range(part: Any, axis: int, size: int) -> tuple[int, int, bool]:
    """(start, stop, whether the axis stays)."""
    if isinstance(part, slice):
        try:
            start, stop, step = part.indices(size)
        except TypeError:
            step = 0
        if step == 1 and start < stop:
            return start, stop, True
        if step == 1:
            raise ShapeError(
                f"index: expected a slice of axis {axis} that keeps something of its {size}; "
                f"got {start}:{stop}{_place()}."
            )
    elif hasattr(part, "__index__") and not isinstance(part, bool):
        place = part.__index__()
        if not -size <= place < size:
            raise ShapeError(
                f"index: expected axis {axis} to be indexed from {-size} to {size - 1}; "
                f"got {place}{_place()}."
            )
        return place % size, place % size + 1, False
    raise untraceable(
        f"axis {axis} is indexed by {part!r}; only whole numbers and slices of step 1 are traced",
        "Use slices such as x[:, 0:3] and join them with F.cat; nn.MaxPool2d(1, stride=2) "
        "takes every second row and column.",
    )


def _place() -> str:
    line = user_line()
    return f" ({line})" if line else ""
