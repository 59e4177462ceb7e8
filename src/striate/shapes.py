"""Arithmetic of window sizes: how many places a kernel fits in, and which rows it never reads.

One row axis at a time; a padding is `p` zeros on each side, or `(before, after)`. This file holds
no rule of a whole operation (those are in `formula`) and imports only the error tree.
"""

from __future__ import annotations

from collections.abc import Sequence

from striate.errors import OptionError, ShapeError

Padding = int | tuple[int, int]


def pair(value: int | Sequence[int], name: str, least: int = 0) -> tuple[int, int]:
    """`(height, width)` from one number or from two.

    Args:
        value: an int for both axes, or two ints.
        name: what the value is called in an error.
        least: the smallest value allowed.
    Raises:
        OptionError: not one or two whole numbers, or one is below `least`.

    >>> pair(3, "kernel_size"), pair((1, 2), "stride", least=1)
    ((3, 3), (1, 2))
    """
    height, width = several(value, 2, name, least)
    return height, width


def several(value: int | Sequence[int], count: int, name: str, least: int = 0) -> tuple[int, ...]:
    """`count` whole numbers, one for each axis of space, from one number or from `count`.

    Raises:
        OptionError: another count, no whole numbers, or one is below `least`.

    >>> several(3, 1, "kernel_size"), several(2, 3, "stride")
    ((3,), (2, 2, 2))
    """
    parts = tuple(value) if isinstance(value, Sequence) else (value,) * count
    if len(parts) != count or not all(map(_whole, parts)):
        some = {1: "a whole number", 2: "a whole number or two of them"}
        expected = some.get(count, f"a whole number or {count} of them")
        raise OptionError(f"{name}: expected {expected}; got {value!r}.")
    if min(parts) < least:
        raise OptionError(f"{name}: expected at least {least}; got {value!r}.")
    return tuple(int(k) for k in parts)


def _whole(value: object) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool)


def sides(p: Padding) -> tuple[int, int]:
    """A padding as `(before, after)`."""
    return (p, p) if isinstance(p, int) else (p[0], p[1])


def conv_output_size(n: int, k: int, s: int = 1, p_total: int = 0, d: int = 1) -> int:
    """Places at which a window fits: `⌊(n + p_total − d·(k−1) − 1)/s⌋ + 1`, below 1 where none.

    Args:
        n: rows of the input.
        k: rows of the kernel.
        s: stride.
        p_total: rows of padding, both sides together.
        d: dilation, 1 = dense.

    >>> conv_output_size(7, 3, s=3), conv_output_size(32, 5, p_total=4)
    (2, 32)
    """
    return (n + p_total - d * (k - 1) - 1) // s + 1


def size_arithmetic(n: int, k: int, s: int = 1, p: Padding = 0, d: int = 1) -> str:
    """The output size with its arithmetic, for messages.

    >>> size_arithmetic(7, 3, s=3)
    '⌊(7 + 2·0 − 1·(3−1) − 1)/3⌋ + 1 = 2'
    """
    before, after = sides(p)
    padding = f"2·{before}" if before == after else f"{before} + {after}"
    size = conv_output_size(n, k, s, before + after, d)
    return f"⌊({n} + {padding} − {d}·({k}−1) − 1)/{s}⌋ + 1 = {size}"


def unreached(n: int, k: int, s: int = 1, p: Padding = 0, d: int = 1) -> tuple[int, ...]:
    """The rows of the input that no window reads: `{0…n−1} ∖ {i·s + q·d − p}`.

    >>> unreached(7, 3, s=3), unreached(6, 1, s=2), unreached(7, 3, s=2)
    ((6,), (1, 3, 5), ())
    """
    before, after = sides(p)
    places = conv_output_size(n, k, s, before + after, d)
    read = {i * s + q * d - before for i in range(places) for q in range(k)}
    return tuple(row for row in range(n) if row not in read)


def require_output(
    where: str, axis: str, n: int, k: int, s: int = 1, p: Padding = 0, d: int = 1
) -> int:
    """The output size, where it is at least 1.

    Raises:
        ShapeError: the window does not fit even once; the message shows the arithmetic.
    """
    before, after = sides(p)
    size = conv_output_size(n, k, s, before + after, d)
    if size >= 1:
        return size
    reach = d * (k - 1) + 1
    raise ShapeError(
        f"{where}: expected an output {axis} of at least 1; got {size_arithmetic(n, k, s, p, d)} "
        f"(input {axis} {n}, padding {before}+{after}, the kernel reaches over {reach}). "
        f"Use a larger input, more padding or a smaller kernel."
    )


def require_reached(
    where: str, axis: str, n: int, k: int, s: int = 1, p: Padding = 0, d: int = 1
) -> None:
    """Refuse (for `strict=True`) a window that leaves rows of the input unread.

    Raises:
        ShapeError: some row is never read; the message shows the arithmetic and the rows.

    >>> require_reached("conv2d", "height", 7, 3, s=2)
    """
    rows = unreached(n, k, s, p, d)
    if not rows:
        return
    before, after = sides(p)
    span = n + before + after - d * (k - 1) - 1
    some = ", ".join(map(str, rows[:6])) + (", …" if len(rows) > 6 else "")
    whole = "" if span % s == 0 else f", and {span}/{s} is not whole"
    raise ShapeError(
        f"{where}: strict=True expected every one of the {n} rows along {axis} to be read; got "
        f"{size_arithmetic(n, k, s, p, d)}{whole}: {len(rows)} never read ({some}). "
        f"Change kernel_size={k}, stride={s} or padding=({before}, {after}), or the input {axis}."
    )
