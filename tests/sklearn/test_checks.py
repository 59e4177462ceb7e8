"""scikit-learn's own contract of an estimator: every check, none excused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from striate.sklearn import ConvFeatures, ConvNetClassifier, ConvNetRegressor
from striate.sklearn.base import NetEstimator


@pytest.fixture(autouse=True)
def _array_api(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")  # else one of the checks is skipped


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataConversionWarning")
@parametrize_with_checks(
    [ConvNetClassifier(), ConvNetRegressor(), ConvFeatures(), ConvFeatures(epochs=2)]
)
def test_scikit_learn_checks(estimator: NetEstimator, check: Callable[[Any], None]) -> None:
    check(estimator)
