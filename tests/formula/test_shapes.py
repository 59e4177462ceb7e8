"""Window sizes and the rows that a stride never reaches."""

from __future__ import annotations

import pytest

from striate.errors import OptionError, ShapeError
from striate.shapes import (
    conv_output_size,
    pair,
    require_output,
    require_reached,
    size_arithmetic,
    unreached,
)


def windows_by_hand(n: int, k: int, s: int, before: int, after: int, d: int) -> list[list[int]]:
    """Slide a window along a padded row and note which places it covers."""
    places, start = [], -before
    while start + d * (k - 1) <= n - 1 + after:
        places.append([start + q * d for q in range(k)])
        start += s
    return places


@pytest.mark.parametrize("n", [1, 2, 5, 7, 8])
@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("s", [1, 2, 3])
@pytest.mark.parametrize("padding", [(0, 0), (1, 1), (0, 1), (2, 0)])
@pytest.mark.parametrize("d", [1, 2])
def test_sizes_and_unread_rows_against_sliding(
    n: int, k: int, s: int, padding: tuple[int, int], d: int
) -> None:
    windows = windows_by_hand(n, k, s, *padding, d)
    size = conv_output_size(n, k, s, sum(padding), d)
    assert max(size, 0) == len(windows)
    read = {row for window in windows for row in window}
    assert unreached(n, k, s, padding, d) == tuple(r for r in range(n) if r not in read)


def test_arithmetic_is_shown() -> None:
    assert size_arithmetic(7, 3, 3) == "⌊(7 + 2·0 − 1·(3−1) − 1)/3⌋ + 1 = 2"
    assert size_arithmetic(7, 3, 1, (0, 1)) == "⌊(7 + 0 + 1 − 1·(3−1) − 1)/1⌋ + 1 = 6"


def test_strict_refuses_unread_rows() -> None:
    message = r"⌊\(7 \+ 2·0 − 1·\(3−1\) − 1\)/3⌋ \+ 1 = 2, and 4/3 is not whole: 1 never read \(6\)"
    with pytest.raises(ShapeError, match=message):
        require_reached("conv2d", "height", 7, 3, s=3)
    require_reached("conv2d", "height", 7, 3, s=2)
    require_reached("conv2d", "height", 224, 7, s=2, p=3)  # only padding is left over


def test_a_window_must_fit_once() -> None:
    with pytest.raises(ShapeError, match=r"output width of at least 1; got ⌊\(2 \+ 2·0 − .*= 0"):
        require_output("conv2d", "width", 2, 3)
    assert require_output("conv2d", "width", 3, 3) == 1


def test_pairs() -> None:
    assert pair(2, "stride") == (2, 2)
    assert pair([1, 2], "stride") == (1, 2)
    with pytest.raises(OptionError, match=r"stride: expected at least 1; got \(1, 0\)"):
        pair((1, 0), "stride", least=1)
    for wrong in ("12", (1, 2, 3), 1.5, True):
        with pytest.raises(OptionError, match="stride: expected a whole number or two"):
            pair(wrong, "stride")  # type: ignore[arg-type]
