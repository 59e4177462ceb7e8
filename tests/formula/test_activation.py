"""Named activations: known values, and the slope in terms of the output."""

from __future__ import annotations

import numpy as np
import pytest

from striate.errors import OptionError
from striate.formula.activation import ACTIVATIONS, Map, map_attributes
from striate.formula.expression import Var, diff, evaluate, maximum


@pytest.mark.parametrize("name", [n for n, a in ACTIVATIONS.items() if a.gradient_y is not None])
def test_the_slope_by_output_is_the_slope(name: str) -> None:
    activation = ACTIVATIONS[name]
    x = np.linspace(-4, 4, 81)[np.linspace(-4, 4, 81) != 0]
    y = evaluate(activation.expr, {"x": x})
    slope = np.broadcast_to(evaluate(diff(activation.expr, Var("x")), {"x": x}), x.shape)
    assert activation.gradient_y is not None
    np.testing.assert_allclose(evaluate(activation.gradient_y, {"x": x, "y": y}), slope, rtol=1e-9)


def test_scaled_tanh_is_one_at_one() -> None:
    value = Map().reference(map_attributes("scaled_tanh"), [[-1.0, 0.0, 1.0]])
    assert value == pytest.approx([-1, 0, 1], abs=2e-5)


def test_softplus_does_not_overflow() -> None:
    value = Map().reference(map_attributes("softplus"), [[-1e4, 0.0, 1e4]])
    assert value == pytest.approx([0, np.log(2), 1e4])


def test_relu_has_no_slope_at_zero_and_keeps_nan() -> None:
    attributes = map_attributes("relu")
    assert Map().gradient(attributes, [1.0, 1.0], [[0.0, 2.0]])[0].tolist() == [0, 1]
    assert np.isnan(Map().reference(attributes, [[np.nan]])).all()


def test_two_inputs() -> None:
    attributes = map_attributes(maximum(Var("a"), Var("b")), ("a", "b"))
    assert Map().reference(attributes, [[1.0, 5], [3.0, 2]]).tolist() == [3, 5]
    assert "gradient_y" not in attributes


def test_unknown_names() -> None:
    with pytest.raises(OptionError, match=r"unknown function 'rely'. Did you mean 'relu'"):
        map_attributes("rely")
    with pytest.raises(OptionError, match="expression of x; got 'z'"):
        map_attributes(Var("x") + Var("z"))
    with pytest.raises(OptionError, match="gradient_y expected derivatives to x"):
        Map().shape({"inputs": ["x"], "expr": "x", "gradient_y": {"x": "z"}}, [(3,)])


def test_comparisons_are_numbers() -> None:
    x = Var("x")
    sign = map_attributes((x > 0) - (x < 0))
    assert Map().reference(sign, [[-3.0, 0.0, 2.0]]).tolist() == [-1, 0, 1]
    count = map_attributes((x > 0) + (x >= 0) + (x > 1))
    assert Map().reference(count, [[-3.0, 0.0, 0.5, 2.0]]).tolist() == [0, 1, 2, 3]
