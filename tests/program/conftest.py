"""The networks of `networks.BUILDERS`, each as a test's argument `problem`."""

from __future__ import annotations

from functools import cache

import pytest
from networks import BUILDERS, Problem


@cache
def _built(name: str) -> Problem:
    return BUILDERS[name]()


@pytest.fixture(params=list(BUILDERS))
def problem(request: pytest.FixtureRequest) -> Problem:
    return _built(request.param)


@pytest.fixture
def lenet() -> Problem:
    return _built("lenet")
