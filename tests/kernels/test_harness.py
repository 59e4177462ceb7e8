"""The harness itself: it must see a stray read, a stray write, a changed input, a wrong number."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from harness import (
    changed,
    check_close,
    check_equal,
    from_lanes,
    given,
    run_kernel,
    to_lanes,
    wanted,
    whole_numbers,
)

from striate.codegen.builder import Builder
from striate.codegen.targets import current_target
from striate.kernels.kernel import make_kernel

_STRAY = """
import sys
sys.path[:0] = [{folder!r}]
from harness import given, run_kernel, wanted
from striate.codegen.targets import current_target
from striate.kernels.kernel import make_kernel
import numpy as np

target = current_target()
w = target.width

def build(b, arguments):
    out, source = arguments
    {body}

kernel = make_kernel(target, "stray", ["out", "source"], build)
run_kernel(kernel, target, wanted(2, w), given(np.ones((2, w))))
"""


@pytest.mark.parametrize(
    ("body", "stray"),
    [
        ("b.store(b.load(source), out); b.store(b.load(source), out, w)", False),
        ("b.store(b.load(source, 2 * w), out)", True),
        ("b.store(b.load(source, -w), out)", True),
        ("b.store(b.load(source), out, 2 * w)", True),
        ("b.store(b.load(source), out, -w)", True),
        ("b.store(b.zero, source)", True),
    ],
    ids=["inside", "read behind", "read before", "write behind", "write before", "write to input"],
)
def test_stray_accesses_are_faults(body: str, stray: bool) -> None:
    script = _STRAY.format(folder=str(Path(__file__).parent), body=body)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == (-signal.SIGSEGV if stray else 0), done.stderr


def test_outputs_are_poisoned_and_inputs_kept() -> None:
    target = current_target()
    w = target.width

    def build(b: Builder, arguments: list[str]) -> None:
        out, both, source = arguments
        b.store(b.fadd(b.load(both), b.load(source)), both)
        b.store(b.load(source), out)

    kernel = make_kernel(target, "partial", ["out", "both", "source"], build)
    x = np.arange(2.0 * w).reshape(2, w)
    out, both = run_kernel(kernel, target, wanted(2, w), changed(x), given(x))
    assert np.array_equal(out[0], x[0]) and np.isnan(out[1]).all()
    assert np.array_equal(both, np.stack([2 * x[0], x[1]]))


def test_checkers_see_what_is_wrong() -> None:
    good = whole_numbers(0, 3, 5)
    for check in (check_equal, check_close):
        check(good, good.astype(float))
        wrong = good.copy()
        wrong[1, 2] += 1
        with pytest.raises(AssertionError, match=r"1 of 15 differ, first at \(1, 2\)"):
            check(wrong, good)
        wrong[1, 2] = np.nan
        with pytest.raises(AssertionError, match=r"1 of 15 differ, first at \(1, 2\)"):
            check(wrong, good)
        with pytest.raises(AssertionError, match=r"1 of 15 differ"):
            check(good, wrong)
        with pytest.raises(AssertionError, match="nothing to compare"):
            check(good[:0], good[:0])
        with pytest.raises(AssertionError, match="shape"):
            check(good[:2], good)
        with pytest.raises(AssertionError, match="a weak test"):
            check(0 * good, 0 * good)
    check_close(good * np.float32(1 + 1e-6), good)
    with pytest.raises(AssertionError, match="differ"):
        check_close(good * np.float32(1 + 1e-4), good)
    infinite = np.array([1, np.inf], np.float32)
    with pytest.raises(AssertionError, match="1 of 2 differ"):
        check_close(infinite, np.array([1.0, 2.0]))
    with pytest.raises(AssertionError, match="1 of 2 differ"):
        check_close(np.ones(2, np.float32), infinite)


def test_lanes_and_back() -> None:
    x = whole_numbers(1, 4, 2, 3)
    assert to_lanes(x).shape == (2, 3, 4) and np.array_equal(from_lanes(to_lanes(x)), x)
