"""Packed weights and changes of layout against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from blocked_case import packed_weights, run_parts
from harness import (
    check_equal,
    compile_ahead,
    given,
    normal_numbers,
    run_kernel,
    wanted,
    whole_numbers,
)

from striate.codegen.targets import Target
from striate.errors import ShapeError
from striate.kernels.kernel import Kernel
from striate.kernels.packing import (
    Packing,
    copy_channels,
    from_blocks,
    pack,
    to_blocks,
    unpack,
)
from striate.kernels.routine import Recipe


def _cases(v: int) -> list[Packing]:
    """Packings with channels around a vector's width, and groups of every kind."""
    found = [
        Packing(o, i, 1, taps)
        for o in (1, v - 1, v, 2 * v + 1)
        for i, taps in ((1, ()), (v - 1, (3, 3)), (v, (1, 1)), (v + 1, (5,)), (2 * v, (1, 2, 2)))
    ]
    found += [
        Packing(2 * v, 4 * v, 2, (3, 3)),  # whole blocks
        Packing(4 * v, 2 * v, 4, (1, 3)),  # two groups together are whole blocks
        Packing(12, 6, 3, (2, 2)),  # all are one
        Packing(5, 5, 5, (3,)),
        Packing(4 * v, 4 * v, 4 * v // 2, (3, 3)),
    ]
    return found


def _kernel(made: Recipe) -> Kernel:
    return made.steps[0].kernel


def _weights(p: Packing) -> Any:
    return normal_numbers(1, p.outputs, p.contracted // p.groups, *p.taps)


@pytest.mark.parametrize("scaled", [False, True], ids=["", "scaled"])
@pytest.mark.parametrize("transposed", [False, True], ids=["", "transposed"])
def test_pack(target: Target, transposed: bool, scaled: bool) -> None:
    cases = [Packing(p.outputs, p.contracted, p.groups, p.taps, transposed)
             for p in _cases(target.width)]  # fmt: skip
    compile_ahead([_kernel(pack(target, p, scaled)) for p in cases], target)
    for p in cases:
        w = _weights(p)
        lanes = p.contracted if transposed else p.outputs
        padded = np.full(-(-lanes // target.width) * target.width, np.nan, np.float32)
        padded[:lanes] = whole_numbers(2, lanes)
        scale = padded[:lanes] if scaled else None
        expected = packed_weights(p, w, target, scale)
        assert expected.size == p.floats(target)
        extra = [given(padded)] if scaled else []
        made = pack(target, p, scaled)
        found = run_parts(made, target, expected.shape, given(w), *extra)
        check_equal(found, expected, dense=0.01)


def test_unpack(target: Target) -> None:
    cases = _cases(target.width)
    compile_ahead([_kernel(unpack(target, p)) for p in cases], target)
    for p in cases:
        w = _weights(p)
        packed = given(packed_weights(p, w, target))
        check_equal(run_parts(unpack(target, p), target, w.shape, packed), w)


def test_merged_groups(target: Target) -> None:
    v = target.width
    assert Packing(64, 64, 1, ()).merged(target) == 1
    assert Packing(2 * v, 4 * v, 2, ()).merged(target) == 2
    assert Packing(4 * v, 2 * v, 4, ()).merged(target) == 2
    assert Packing(12, 6, 3, ()).merged(target) == 1


def test_images(target: Target) -> None:
    v = target.width
    pairs = [(c, n) for c in (1, v - 1, v, 2 * v + 1) for n in (1, v - 1, v, v + 1, 3 * v + 3)]
    recipes = [f(target, c, n) for c, n in pairs for f in (to_blocks, from_blocks)]
    compile_ahead([_kernel(made) for made in recipes], target)
    for c, n in pairs:
        x = normal_numbers(c, c, n)
        expected = packed_weights(Packing(c, n), x, target).reshape(-1, n, v)
        blocked = run_parts(to_blocks(target, c, n), target, expected.shape, given(x))
        check_equal(blocked, expected, dense=0.05)
        real = np.arange(expected.shape[0] * v).reshape(-1, 1, v) < c
        nans = np.where(real, blocked, np.nan)  # the other lanes may hold anything
        check_equal(run_parts(from_blocks(target, c, n), target, x.shape, given(nans)), x)


def test_copy_channels(target: Target) -> None:
    v, n = target.width, 5
    cases = [
        (count, first_from, first_from + count + 3, first_to, first_to + count + over)
        for count in (1, v - 1, v, 2 * v + 3)
        for first_from, first_to, over in ((0, 0, 2), (3, 1, 0), (1, v + 2, 5), (v, 2 * v, 0))
    ]
    recipes = [copy_channels(target, *case, n) for case in cases]
    compile_ahead([_kernel(made) for made in recipes], target)
    for made, (count, first_from, sources, first_to, outs) in zip(recipes, cases, strict=True):
        x = normal_numbers(1, -(-sources // v), n, v)
        before = normal_numbers(2, -(-outs // v), n, v)
        expected = np.moveaxis(before, -1, 1).reshape(-1, n)
        found = np.moveaxis(x, -1, 1).reshape(-1, n)
        expected[first_to : first_to + count] = found[first_from : first_from + count]
        after = run_parts(made, target, before, given(x))
        check_equal(np.moveaxis(after, -1, 1).reshape(-1, n), expected)


def test_channels_that_are_not_there(target: Target) -> None:
    with pytest.raises(ShapeError, match="outside of the source"):
        copy_channels(target, 4, 2, 5, 0, 4, 3)


def test_the_whole_array_is_given(target: Target) -> None:
    """One part of the last block writes nothing else."""
    v = target.width
    p = Packing(v + 1, 3, 1, (2,))
    routine = pack(target, p).steps[0]
    assert routine.parts == 2
    w = _weights(p)
    (found,) = run_kernel(routine.kernel, target, wanted(2, 3, 2, v), given(w), 1)
    assert np.isnan(found[0]).all()
    check_equal(found[1], packed_weights(p, w, target)[1], dense=0.01)
