"""Kernels of filters on aarch64, emulated: a few of the cases that the other targets meet."""

from __future__ import annotations

import emulated
import pytest
import test_image as image_cases
from emulated import AARCH64

pytestmark = pytest.mark.skipif(not emulated.emulator(), reason=emulated.ABSENT)


@pytest.fixture(autouse=True)
def _emulate(monkeypatch: pytest.MonkeyPatch) -> None:
    emulated.emulate(monkeypatch, image_cases)


@pytest.mark.parametrize("case", image_cases.CASES[1:5], ids=str)
def test_kernels(case: image_cases.Strips) -> None:
    image_cases.test_direct(case, AARCH64)
    image_cases.test_separable(case, 2, AARCH64)
    image_cases.test_column_fft(case, 32, AARCH64)
