"""The examples in the docstrings of filters."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import striate.filters

MODULES = [f"striate.filters.{m.name}" for m in pkgutil.iter_modules(striate.filters.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0
