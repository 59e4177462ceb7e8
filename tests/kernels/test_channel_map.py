"""Functions with parameters of each channel, in blocked layout, against their formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from blocked_case import from_blocked, run_parts, to_blocked
from harness import check_close, given, run_kernel, wanted

from striate.codegen.targets import Target
from striate.formula.channel_map import apl, bipolar_relu, prelu, srelu
from striate.formula.expression import from_json
from striate.formula.operations import find_operation
from striate.kernels.channel_map import (
    ChannelFunction,
    Numbers,
    channel_map,
    channel_map_gradient,
    channel_map_sums,
    parameter_gradient,
)
from striate.kernels.routine import Recipe, blocks

SINGLE = tuple((f"p{k}",) for k in range(4))
# attributes, the scalars of each parameter
FUNCTIONS: dict[str, tuple[dict[str, Any], tuple[tuple[str, ...], ...]]] = {
    "prelu": (prelu(), SINGLE[:1]),
    "srelu": (srelu(), SINGLE),
    "apl": (apl(2), (("p0_0", "p0_1"), ("p1_0", "p1_1"))),
    "brelu": (bipolar_relu(), ()),
}
# channels, height, width; samples
CASES = [(3, 5, 1, 2), (16, 7, 7, 1), (17, 9, 15, 2), (20, 65, 63, 1)]


def problem(name: str, case: tuple[int, int, int, int], shared: bool) -> Any:
    attributes, scalars = FUNCTIONS[name]
    channels, height, width, samples = case
    rng = np.random.default_rng(5)
    numbers = tuple(Numbers(s, shared) for s in scalars)
    rows = attributes["constants"]
    constants = tuple((f"k{k}", tuple(map(float, row))) for k, row in enumerate(rows))
    expr = from_json(attributes["expr"])
    f = ChannelFunction(expr, channels, height * width, numbers, constants)
    x, g = (rng.normal(size=(samples, channels, height, width)).astype("f4") for _ in range(2))
    wide = 1 if shared else channels
    shapes = [(wide,) if s[0] in ("p0", "p1", "p2", "p3") else (len(s), wide) for s in scalars]
    parameters = [rng.normal(size=shape).astype("f4") for shape in shapes]
    return attributes, f, x, g, parameters


def in_lanes(batch: Any, target: Target, beyond: float) -> Any:
    return np.stack([to_blocked(sample, target.width, beyond) for sample in batch])


def run_on_samples(made: Recipe, target: Target, batch: list[Any], parameters: list[Any]) -> Any:
    """A pointwise recipe on each sample."""
    return np.stack(
        [
            run_parts(made, target, sample[0].shape, *map(given, (*sample, *parameters)))
            for sample in zip(*batch, strict=True)
        ]
    )


def channels_of(values: Any, channels: int) -> Any:
    return np.stack([from_blocked(sample, channels) for sample in values])


@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_against_the_formula(name: str, shared: bool, target: Target) -> None:
    for case in CASES:
        attributes, f, x, g, parameters = problem(name, case, shared)
        operation = find_operation("channel_map")
        arrays = [k.astype(np.float64) for k in (x, *parameters)]
        expected = operation.reference(attributes, arrays)
        slopes = operation.gradient(attributes, g, arrays)
        lanes = [in_lanes(k, target, 0.5) for k in (x, g)]
        dense = 0.1 if x.size > 1 else 0
        found = run_on_samples(channel_map(target, f), target, lanes[:1], parameters)
        check_close(channels_of(found, f.channels), expected, dense=dense)
        found = run_on_samples(channel_map_gradient(target, f), target, lanes[::-1], parameters)
        check_close(channels_of(found, f.channels), slopes[0], dense=dense)
        if parameters:
            check_parameters(f, target, lanes, parameters, slopes[1:])


def check_parameters(
    f: ChannelFunction, target: Target, lanes: list[Any], parameters: list[Any], slopes: Any
) -> None:
    x, g = (in_lanes(channels_of(k, f.channels), target, np.nan) for k in lanes)
    (routine,) = channel_map_sums(target, f).steps
    assert (routine.parts, routine.samples) == (blocks(f.channels, target), 0)
    sums = np.full((len(f.scalars), routine.parts, target.width), np.nan, np.float32)
    step = x[0].size
    inputs = [given(k) for k in (g, x, *parameters)]
    for part in range(routine.parts):
        (new,) = run_kernel(
            routine.kernel, target, wanted(*sums.shape), *inputs, len(x), step, step, part
        )
        sums = np.where(np.isnan(sums), new, sums)
    assert not np.isnan(sums).any(), "lanes beyond the channels are 0"
    for which, slope in enumerate(slopes):
        (last,) = parameter_gradient(target, f, which).steps
        room = blocks(slope.size, target) * target.width
        (found,) = run_kernel(last.kernel, target, wanted(room), given(sums))
        check_close(found[: slope.size], slope.ravel(), factor=30, dense=0.0)
        assert not found[slope.size :].any()
