"""Workers that compile: refusals, deaths, forks, and objects for CPUs that are not here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from conv_case import ConvCase
from harness import given, run_kernel, wanted

from striate.codegen import compiler
from striate.codegen.compiler import Module, assembly, close_workers, compile_modules, load
from striate.codegen.image import link
from striate.codegen.targets import TARGETS, Target, current_target, runs_here
from striate.errors import CompileError
from striate.formula.expression import Var, exp
from striate.kernels import elementwise
from striate.kernels.layout import gather_samples


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path))


def test_a_refused_module_is_a_compile_error(own_cache: None) -> None:
    with pytest.raises(CompileError, match=r"(?s)compiler: LLVM refused a module: .*expected type"):
        compile_modules([Module("f", "define nonsense")], current_target())
    with pytest.raises(CompileError, match="LLVM refused a module"):
        assembly("define nonsense", current_target())
    # the worker lives on
    kernel = elementwise.clear(current_target(), 3)
    assert len(compile_modules([kernel.module], current_target())[0]) > 100


def test_one_bad_module_among_good_ones(own_cache: None) -> None:
    good = [elementwise.clear(current_target(), n).module for n in range(1, 6)]
    with pytest.raises(CompileError, match="LLVM refused a module"):
        compile_modules([*good, Module("f", "define nonsense" * 500)], current_target())
    assert all(compile_modules(good, current_target()))


def test_a_worker_that_dies_is_a_compile_error(
    own_cache: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    close_workers()
    worker = compiler._Worker()
    os.kill(worker._process.pid, signal.SIGKILL)
    worker._process.wait()
    with pytest.raises(CompileError, match=r"compiling process ended \(status -9\)"):
        worker.compile("", current_target())
    worker.close()
    # a dead one that waits for work is not used
    dead = compiler._Worker()
    os.kill(dead._process.pid, signal.SIGKILL)
    dead._process.wait()
    compiler._give_back(dead)
    kernel = elementwise.clear(current_target(), 4)
    assert compile_modules([kernel.module], current_target())[0]


def test_a_crash_of_llvm_is_a_compile_error(own_cache: None) -> None:
    """Deep nesting of types overflows LLVM's parser stack: the process dies, ours does not."""
    text = "@x = global " + "{" * 2_000_000 + "}" * 2_000_000 + " undef"
    with pytest.raises(CompileError, match=r"compiling process ended|LLVM refused"):
        compile_modules([Module("x", text)], current_target())


def test_no_executable_is_a_compile_error(own_cache: None, monkeypatch: pytest.MonkeyPatch) -> None:
    close_workers()
    monkeypatch.setattr(sys, "executable", "")
    kernel = elementwise.clear(current_target(), 5)
    with pytest.raises(CompileError, match="does not know its own executable"):
        compile_modules([kernel.module], current_target())
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(CompileError, match="/nowhere/python"):
        compile_modules([kernel.module], current_target())


def test_an_undefined_symbol_is_a_compile_error() -> None:
    text = "declare void @absent()\ndefine void @f() {\n  call void @absent()\n  ret void\n}\n"
    with pytest.raises(CompileError, match="nothing defines 'absent'"):
        load([Module("f", text)], current_target())


def test_compiling_from_many_threads(own_cache: None) -> None:
    target = current_target()
    kernels = [elementwise.clear(target, n) for n in range(1, 9)]
    results: dict[int, list[bytes]] = {}

    def work(k: int) -> None:
        results[k] = compile_modules([kernel.module for kernel in kernels], target)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(results) == 4 and all(r == results[0] for r in results.values())


def test_the_same_text_gives_the_same_object(own_cache: None) -> None:
    target = current_target()
    modules = [ConvCase(2, 3, (5, 5)).forward_kernel(target).module]
    first = compile_modules(modules, target)
    close_workers()
    from striate.codegen import cache

    cache.clear()
    assert compile_modules(modules, target) == first


def test_kernels_call_one_another() -> None:
    target = current_target()
    zero = elementwise.clear(target, 2)
    text = (
        f"{zero.declaration}\ndefine void @outer(ptr %out) {{\n"
        f"  call void @{zero.symbol}(ptr %out)\n  ret void\n}}\n"
    )
    import ctypes

    code = load([Module("outer", text), zero.module], target)
    out = np.full(2 * target.width + 16, 7.0, np.float32)
    start = -out.ctypes.data % 64 // 4
    code.function("outer", ctypes.c_void_p)(out.ctypes.data + 4 * start)
    assert not out[start : start + 2 * target.width].any() and out[start + 2 * target.width] == 7


ABSENT = [t for t in TARGETS.values() if not runs_here(t)]


@pytest.mark.skipif(not ABSENT, reason="this CPU runs every target")
@pytest.mark.parametrize("target", ABSENT, ids=lambda t: f"{t.name} compiled and linked, not run")
def test_targets_that_are_not_here_compile_and_link(target: Target) -> None:
    case = ConvCase(3, 5, (6, 7), padding=((1, 1), (1, 1)))
    kernels = [*case.kernels(target), gather_samples(target, 9)]
    kernels.append(elementwise.elementwise(target, exp(Var("x")), ("x",), 3))
    kernels.append(elementwise.dropout(target, 9, 0.5, 1))
    objects = compile_modules([k.module for k in kernels], target)
    image, symbols = link(objects)
    assert {k.symbol for k in kernels} <= set(symbols) and len(image) > 1000


def test_a_forked_child_compiles_and_runs() -> None:
    """In a process of its own, since a fork copies this one's threads' locks."""
    script = Path(__file__).with_name("forking.py")
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", str(script)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["child", "same", "grandchild", "same", "parent", "same"]


def test_ir_names_are_numbers() -> None:
    """Names out of users' expressions and files never reach the code."""
    target = current_target()
    name = 'x") { ret void } ;'
    kernel = elementwise.elementwise(target, Var(name) + 1, (name,), 1)
    (found,) = run_kernel(
        kernel, target, wanted(1, target.width), given(np.ones((1, target.width)))
    )
    assert (found == 2).all()
