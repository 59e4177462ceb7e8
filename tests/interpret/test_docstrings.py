"""The examples in the docstrings of interpret."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import striate.interpret

MODULES = [f"striate.interpret.{m.name}" for m in pkgutil.iter_modules(striate.interpret.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    if name.endswith(".gabor"):
        pytest.importorskip("scipy", reason="SciPy is not installed")
    assert doctest.testmod(importlib.import_module(name)).failed == 0
