"""Networks of a hundred million weights without drawing them: only sizes matter here."""

from __future__ import annotations

import pytest

from striate.nn import init


class Zeros:
    """A generator whose every number is 0."""

    def uniform(self, *_: object) -> float:
        return 0.0

    def normal(self, *_: object) -> float:
        return 0.0


@pytest.fixture
def no_draws(monkeypatch):
    monkeypatch.setattr(init, "next_generator", Zeros)
