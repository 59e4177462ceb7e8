"""The examples in the docstrings of formulas, shapes and random numbers."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import striate.formula

MODULES = [
    "striate.random",
    "striate.shapes",
    "striate.inspect.explain",
    "striate.inspect.explain_gradient",
    "striate.inspect.explain_layout",
    "striate.inspect.explain_rounding",
    "striate.inspect.explain_text",
    "striate.inspect.probe",
    "striate.inspect.scores",
    "striate.program.reference",
    *(f"striate.formula.{m.name}" for m in pkgutil.iter_modules(striate.formula.__path__)),
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0
