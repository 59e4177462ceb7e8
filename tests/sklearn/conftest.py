"""Estimators compute on one thread here: the arrays are tiny."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from striate import settings


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with settings.within(threads=1):
        yield
