"""Every method on a network that was read from an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import striate as st
from striate import interpret
from tests.interpret.own_net import METHODS, SHAPE, Net, images

pytest.importorskip("onnx", reason="onnx is not installed")
X = images(2)


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path: Path = tmp_path_factory.mktemp("onnx") / "net.onnx"
    st.export_onnx(Net(softmax=True), path, input_shape=SHAPE)
    return st.import_onnx(path)


@pytest.mark.parametrize("method", METHODS)
def test_maps_are_those_of_the_network(imported: Any, method: Any) -> None:
    """Softmax included in the file, whose scores lie before it."""
    expected = method(Net(), X, [3, 1])
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(method(imported, X, [3, 1]), expected, rtol=1e-4, atol=1e-6)


def test_tests_of_maps(imported: Any) -> None:
    before = {name: array.copy() for name, array in imported.state_dict().items()}
    found = interpret.randomization_test(imported, X, interpret.grad_cam)
    assert len(found.layers) == 3
    for name, array in imported.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    curves = interpret.deletion_insertion(imported, X, interpret.saliency(imported, X), steps=4)
    assert curves.deletion.shape == (2, 5) and np.ptp(curves.deletion) > 0
