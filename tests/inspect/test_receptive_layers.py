"""Regions of every layer of the contract's tables, against how far a NaN spreads."""

from __future__ import annotations

import math

import numpy as np
import pytest

from striate.inspect import input_region, receptive_field, units_reached
from striate.inspect.probe import Probe
from tests.nn.cases import LAYERS, build, class_of, inputs_of

# A NaN times a weight of 0 is NaN, though the number is not read; a comparison swallows it.
OTHERWISE = {"Upsample-linear", "UpsamplingBilinear2d", "BinaryStep"}
LONG = {"Capsules", "GRU", "LSTM", "RNN"}  # hundreds of steps, none of a kind of its own
NAMES = [
    name
    for name in LAYERS
    if name not in OTHERWISE and class_of(name) not in LONG and len(inputs_of(name)) == 1
]


@pytest.mark.parametrize("name", NAMES)
def test_a_layer_reads_what_a_nan_spreads_from(name: str) -> None:
    [x] = inputs_of(name)
    shape, net = x.shape[1:], build(name).eval()
    probe = Probe(net, shape, backend="reference")
    if not probe.layers:
        pytest.skip("nothing is computed in evaluation")
    count, rng = math.prod(shape), np.random.default_rng(0)
    spoilt = np.repeat(x[:1].astype(np.float32), count, 0)
    spoilt.reshape(count, count)[np.arange(count), np.arange(count)] = np.nan
    with np.errstate(all="ignore"):
        spread = np.isnan(probe.values(spoilt, [probe.output])[probe.output])
    for _ in range(2):
        unit = tuple(int(rng.integers(n)) for n in spread.shape[1:])
        region = input_region(probe.graph, None, probe.output, unit)
        truth = spread[(slice(None), *unit)].reshape(shape)
        np.testing.assert_array_equal(region.mask, truth, err_msg=str(unit))
        pixel = tuple(int(rng.integers(n)) for n in shape)
        reached = units_reached(probe.graph, None, pixel, probe.output)
        np.testing.assert_array_equal(reached.mask, spread[np.ravel_multi_index(pixel, shape)])
        if len(shape) > 1:
            spans = receptive_field(probe.graph, None, probe.output).at(unit)
            for (low, high), (first, last) in zip(spans, region.clipped[1:], strict=False):
                assert low <= first and last <= high, unit
