"""Blocked layout and packed weights as the tests see them: NumPy references, all parts run."""

from __future__ import annotations

from typing import Any

import numpy as np
from harness import changed, run_kernel

from striate.codegen.targets import Target
from striate.kernels.packing import Packing
from striate.kernels.routine import Recipe


def to_blocked(x: Any, width: int, beyond: float = np.nan) -> Any:
    """(c, …) to (blocks, …, width); lanes that are no channel hold `beyond`."""
    count = -(-x.shape[0] // width)
    padded = np.full((count * width, *x.shape[1:]), beyond, np.float32)
    padded[: x.shape[0]] = x
    return np.moveaxis(padded.reshape(count, width, *x.shape[1:]), 1, -1)


def from_blocked(y: Any, channels: int) -> Any:
    """(blocks, …, width) to (channels, …)."""
    blocks = np.moveaxis(y, -1, 1)
    return blocks.reshape(-1, *blocks.shape[2:])[:channels]


def _dense(p: Packing, w: Any, groups: int) -> Any:
    """w with `groups` instead of its own: (outputs, contracted/groups, taps)."""
    taps = w.reshape(p.outputs, p.contracted // p.groups, -1)
    full = np.zeros((p.outputs, p.contracted, taps.shape[2]), np.float32)
    o, i = p.outputs // p.groups, p.contracted // p.groups
    for g in range(p.groups):
        full[g * o : (g + 1) * o, g * i : (g + 1) * i] = taps[g * o : (g + 1) * o]
    o, i = p.outputs // groups, p.contracted // groups
    return np.stack([full[g * o : (g + 1) * o, g * i : (g + 1) * i] for g in range(groups)])


def packed_weights(p: Packing, w: Any, target: Target, scale: Any = None) -> Any:
    """The reference of `pack`: (blocks, other channels, taps, width)."""
    dense = _dense(p, w, p.merged(target))
    if p.transposed:
        dense = dense.swapaxes(1, 2)
    if scale is not None:
        dense = dense * scale.reshape(dense.shape[0], -1, 1, 1)
    v = target.width
    flat = dense.reshape(-1, *dense.shape[2:])  # channels in lanes first
    padded = np.zeros((-(-len(flat) // v) * v, *flat.shape[1:]), np.float32)
    padded[: len(flat)] = flat
    return np.ascontiguousarray(np.moveaxis(padded.reshape(-1, v, *flat.shape[1:]), 1, -1))


def run_parts(made: Recipe, target: Target, out: Any, *inputs: Any) -> Any:
    """All parts of a recipe of one step after one another, on one output."""
    (routine,) = made.steps
    result = np.full(out, np.nan, np.float32) if isinstance(out, tuple) else out
    for part in range(routine.parts):
        result, *_ = run_kernel(routine.kernel, target, changed(result), *inputs, part)
    return result
