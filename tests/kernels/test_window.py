"""Tap lists, their reversal, tiles and runs: properties that every kernel relies on."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from striate.kernels.window import reversed_taps, runs, split, taps

_ONE_AXIS = st.tuples(
    st.integers(1, 20),  # size
    st.integers(1, 20),  # outputs
    st.integers(1, 6),  # kernel
    st.integers(1, 4),  # stride
    st.integers(1, 3),  # dilation
    st.integers(0, 6),  # padding before
)


@settings(derandomize=True, deadline=None, database=None)
@given(_ONE_AXIS, st.integers(1, 7))
def test_runs_cover_every_tap_once(axis: tuple[int, ...], most: int) -> None:
    along = taps(*axis)
    rebuilt: dict[int, list[tuple[int, int]]] = {}
    for run in runs(along, split(len(along), most)):
        for t in range(run.count):
            for j, pairs in enumerate(run.pattern):
                place = run.first + t * run.width + j
                assert place not in rebuilt
                rebuilt[place] = [(k, run.base + t * run.advance + s) for k, s in pairs]
    assert [tuple(rebuilt[i]) for i in range(len(along))] == list(along)


@settings(derandomize=True, deadline=None, database=None)
@given(_ONE_AXIS)
def test_reversed_taps_are_the_same_pairs(axis: tuple[int, ...]) -> None:
    size, forward = axis[0], taps(*axis)
    back = reversed_taps(forward, size)
    pairs = {(o, k, s) for o, found in enumerate(forward) for k, s in found}
    assert {(o, k, s) for s, found in enumerate(back) for k, o in found} == pairs
    assert all(0 <= s < size for _, _, s in pairs) and len(back) == size


@settings(derandomize=True, deadline=None, database=None)
@given(st.integers(0, 60), st.integers(1, 20), st.integers(1, 4))
def test_split_is_even(size: int, most: int, multiple: int) -> None:
    parts = split(size, most, multiple)
    assert sum(parts) == size and all(0 < p <= max(most, multiple) for p in parts)
    if multiple > 1:
        assert all(p % multiple == 0 for p in parts[:-1])
    elif parts:
        assert max(parts) - min(parts) <= 1 and len(parts) == -(-size // most)
