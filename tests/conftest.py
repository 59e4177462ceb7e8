"""What all tests share: a code cache of their own, settings put back, and the targets to run on.

Modules of helpers (`harness`, `networks`) lie beside the tests that use them most; their folders
are put on the import path here.
"""

from __future__ import annotations

import os
import platform
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import striate as st
from striate import settings
from striate.codegen.targets import TARGETS, Target, runs_here

_HERE = Path(__file__).parent
sys.path[:0] = [str(_HERE / "kernels"), str(_HERE / "program")]


@dataclass(frozen=True)
class Way:
    """One way to run a target's kernels here; `why_not` is empty where there is one.

    A target that the CPU lacks is *legalised*: the generator's output for its width and registers
    is compiled for this CPU, LLVM splitting the wide vectors. That runs the generator's logic with
    the target's tiles, not the target's instructions.
    """

    name: str
    target: Target
    native: bool
    why_not: str = ""

    def __str__(self) -> str:
        if self.why_not:
            return f"{self.name} absent"
        return f"{self.name} {'native' if self.native else 'legalised for this CPU'}"


def _way(name: str) -> Way:
    target = TARGETS[name]
    if runs_here(target):
        return Way(name, target, native=True)
    if target.is_x86 and runs_here(TARGETS["x86-64-v3"]):
        return Way(name, replace(target, cpu="host"), native=False)
    reason = f"{platform.machine()} without what {name} needs; its objects are compiled and linked"
    return Way(name, target, native=False, why_not=reason)


WAYS = [_way(name) for name in TARGETS]


def pytest_configure() -> None:
    """A shell starts what it puts into the background with Ctrl-C ignored; tests send Ctrl-C."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_make_parametrize_id(val: object) -> str | None:
    """Contents of files are named by their size: pytest would write out every byte.

    Some contents hold the time they were made at, and processes that share the tests (xdist)
    have to agree on every name.
    """
    return f"{len(val)} bytes" if isinstance(val, bytes) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Each case runs on the widest native target and on one of the others, in turn.

    STRIATE_TEST_TARGETS=all runs every case on every target.
    """
    if os.environ.get("STRIATE_TEST_TARGETS", "").strip() == "all":
        return
    widest = max((way for way in WAYS if way.native), key=lambda way: way.target.width).name
    cases: dict[object, list[pytest.Item]] = {}
    for item in items:
        call = getattr(item, "callspec", None)
        if call is not None and isinstance(call.params.get("target"), (Way, Target)):
            others = tuple((k, id(v)) for k, v in call.params.items() if k != "target")
            if call.params["target"].name != widest:
                cases.setdefault((item.nodeid.partition("[")[0], others), []).append(item)
    left_out = set()
    for number, group in enumerate(cases.values()):
        left_out |= {item for k, item in enumerate(group) if k != number % len(group)}
    if left_out:
        config.hook.pytest_deselected(items=[item for item in items if item in left_out])
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(params=[pytest.param(way, id=str(way)) for way in WAYS if not way.why_not])
def target(request: pytest.FixtureRequest) -> Target:
    """Each target that can be run here, natively or legalised (the test's id says which)."""
    way: Way = request.param
    return way.target


@pytest.fixture(scope="session")
def targets() -> list[Target]:
    """All targets that can be run here; those of `absent` are only compiled."""
    return [way.target for way in WAYS if not way.why_not]


def pytest_report_header() -> list[str]:
    """Say at the top of the report how each target is covered."""
    return [
        "kernels: "
        + "; ".join(
            f"{way.name} not run ({way.why_not})" if way.why_not else str(way) for way in WAYS
        )
    ]


@pytest.fixture(scope="session", autouse=True)
def code_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder of this session; STRIATE_TEST_CACHE names one to keep between sessions."""
    chosen = os.environ.get("STRIATE_TEST_CACHE", "").strip()
    folder = Path(chosen) if chosen else tmp_path_factory.mktemp("cache")
    before = os.environ.get("STRIATE_CACHE")
    os.environ["STRIATE_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["STRIATE_CACHE"]
    else:
        os.environ["STRIATE_CACHE"] = before


@pytest.fixture(autouse=True)
def put_settings_back() -> Iterator[None]:
    """Threads and seed as they were before the test."""
    threads = settings._Threads.chosen
    seed, drawn = settings._Random.seed, settings._Random.drawn
    yield
    settings._Threads.chosen = threads
    settings._Random.seed, settings._Random.drawn = seed, drawn


@pytest.fixture(autouse=True, scope="module")
def seeded_module() -> None:
    """What a module's tests share begins with the same random numbers, whatever ran before."""
    st.manual_seed(0)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test begins with the same random numbers, in whatever order it runs."""
    st.manual_seed(0)
