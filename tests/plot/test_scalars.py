"""Curves of functions of scalars and of their derivatives."""

from __future__ import annotations

import numpy as np
import pytest

from striate import plot
from striate.errors import OptionError
from striate.formula.expression import Const, Var, exp, floor, maximum

X = Var("x")


def test_each_panel_has_the_function_and_its_derivative():
    figure = plot.scalar_functions({"relu": maximum(X, 0), "exp": exp(Var("t"))}, columns=2)
    panels = figure.get_axes()
    assert len(panels) == 2
    slope, curve = (line.get_ydata() for line in panels[0].lines[:2])
    x = np.linspace(-4, 4, len(curve))
    np.testing.assert_array_equal(curve, np.maximum(x, 0))
    known = ~np.isnan(slope)
    np.testing.assert_array_equal(slope[known], (x > 0)[known])
    slope, curve = (line.get_ydata() for line in panels[1].lines[:2])
    np.testing.assert_array_equal(slope[~np.isnan(slope)], curve[~np.isnan(curve)])
    assert [t.get_text() for t in figure.texts][:2] == [
        "Activations",
        "blue: the function; orange: its derivative",
    ]


def test_jumps_are_gaps():
    figure = plot.scalar_functions({"floor": floor(X), "one": Const(1.0)})
    curve = figure.get_axes()[0].lines[1].get_ydata()
    assert np.isnan(curve).sum() == 8
    assert (figure.get_axes()[1].lines[1].get_ydata() == 1).all()


@pytest.mark.parametrize(
    ("functions", "options", "message"),
    [
        ({}, {}, "expected at least one function and one column; got 0"),
        ({"a": X}, {"columns": 0}, "got 1 and columns=0"),
        ({"a": X}, {"span": (1, 1)}, r"span and height as \(lowest, highest\); got \(1, 1\)"),
        ({"a": X * Var("y")}, {}, "a function of one variable for 'a'; got one of x, y"),
    ],
)
def test_what_cannot_be_drawn(functions, options, message):
    with pytest.raises(OptionError, match=message):
        plot.scalar_functions(functions, **options)
