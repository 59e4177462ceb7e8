"""Named activations: known values, and the slope in terms of the output."""

from __future__ import annotations

import numpy as np
import pytest

from striate.errors import OptionError, ShapeError
from striate.formula.activation import ACTIVATIONS, Map, map_attributes
from striate.formula.channel_map import (
    apl,
    bipolar_relu,
    channel_function_name,
    channel_map_attributes,
    prelu,
    srelu,
)
from striate.formula.expression import Var, diff, evaluate, maximum
from striate.formula.operations import find_operation


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


def test_functions_of_channels_have_names() -> None:
    known = {"prelu": prelu(), "srelu": srelu(), "apl": apl(3), "bipolar relu": bipolar_relu()}
    for name, attributes in known.items():
        assert channel_function_name(attributes) == name
    own = channel_map_attributes(Var("x") * Var("p0"))
    assert channel_function_name(own) == "(x · p0)"


def test_functions_of_channels_that_cannot_be() -> None:
    operation = find_operation("channel_map")
    with pytest.raises(ShapeError, match=r"p0 expected shape \(4,\) or \(1,\), or rows of these"):
        operation.shape(prelu(), [(4, 5), (3,)])
    with pytest.raises(ShapeError, match=r"x expected channels besides the batch; got shape \(\)"):
        operation.shape(bipolar_relu(), [()])
    with pytest.raises(OptionError, match="an expression of x, p0; got 'p1'"):
        operation.shape(channel_map_attributes(Var("p1")), [(4,), (4,)])
    with pytest.raises(OptionError, match="constants expected lists of numbers; got"):
        operation.shape({"expr": "x", "constants": [[]]}, [(4,)])


def test_uniform_that_cannot_be() -> None:
    operation = find_operation("uniform")
    with pytest.raises(OptionError, match="shape expected a list of whole numbers; got 'ab'"):
        operation.shape({"site": 0, "shape": "ab"}, [(4,)])
    with pytest.raises(OptionError, match="shape expected a whole number of at least 1; got 0"):
        operation.shape({"site": 0, "shape": [0]}, [(4,)])
