"""The code cache believes nothing: foreign, damaged and open folders, two processes at once."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from striate.codegen import cache
from striate.codegen.builder import Builder
from striate.codegen.compiler import compile_modules
from striate.codegen.targets import TARGETS, current_target
from striate.kernels.kernel import Kernel, make_kernel


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache of the test's own."""
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path))
    cache._warn_once.cache_clear()
    yield tmp_path / "code"
    cache._warn_once.cache_clear()


def kernel(number: float = 1.5) -> Kernel:
    def build(b: Builder, arguments: list[str]) -> None:
        b.store(b.const(number), arguments[0])

    return make_kernel(current_target(), "constant", ["out"], build)


def entry(number: float = 1.5) -> str:
    return cache.key(kernel(number).module.text, current_target())


def compiled(number: float = 1.5) -> bytes:
    return compile_modules([kernel(number).module], current_target())[0]


def test_what_was_compiled_is_kept(folder: Path) -> None:
    assert cache.read(entry()) is None
    first = compiled()
    assert first[:4] == b"\x7fELF" and cache.read(entry()) == first
    assert folder.stat().st_mode & 0o777 == 0o700
    usage = cache.usage()
    assert (usage.folder, usage.entries) == (folder, 1) and usage.size > len(first)
    assert [p.name for p in folder.iterdir()] == [f"{entry()}.o"]
    assert cache.clear() == usage
    assert cache.read(entry()) is None and cache.usage().entries == 0


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:20],
        lambda data: data[:-1],
        lambda data: data + b"x",
        lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:],
        lambda data: b"\x7fELF" + data,
        lambda data: b"#!/bin/sh\n",
    ],
    ids=["empty", "cut in the head", "cut", "longer", "one bit", "no head", "foreign"],
)
def test_damaged_entries_are_made_anew(folder: Path, damage) -> None:  # type: ignore[no-untyped-def]
    good = compiled()
    path = folder / f"{entry()}.o"
    path.write_bytes(damage(path.read_bytes()))
    assert cache.read(entry()) is None
    assert compiled() == good and cache.read(entry()) == good


def test_an_entry_under_another_name_is_foreign(folder: Path) -> None:
    compiled(1.5)
    (folder / f"{entry(1.5)}.o").rename(folder / f"{entry(2.5)}.o")
    assert cache.read(entry(2.5)) is None


def test_an_unreadable_entry_is_made_anew(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    (folder / f"{entry()}.o").mkdir()
    assert cache.read(entry()) is None
    assert compiled()[:4] == b"\x7fELF"
    assert not [p for p in folder.iterdir() if p.name.startswith(".new-")]


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o777, 0o720])
def test_a_folder_open_to_others_is_not_used(folder: Path, mode: int) -> None:
    compiled()
    folder.chmod(mode)
    with pytest.warns(RuntimeWarning, match="must belong to you alone"):
        assert cache.read(entry()) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once, not each time
        assert compiled()[:4] == b"\x7fELF"
    assert len(list(folder.iterdir())) == 1
    folder.chmod(0o700)
    assert cache.read(entry()) is not None


def test_a_folder_of_another_user_is_not_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled()
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    with pytest.warns(RuntimeWarning, match="must belong to you alone"):
        assert cache.read(entry()) is None
    cache.write("00", b"code")
    assert len(list(folder.iterdir())) == 1


def test_a_link_in_its_place_is_not_followed(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    folder.symlink_to(elsewhere)
    assert compiled()[:4] == b"\x7fELF" and not list(elsewhere.iterdir())


def test_a_file_in_its_place(folder: Path) -> None:
    folder.write_text("no folder")
    assert compiled()[:4] == b"\x7fELF" and folder.read_text() == "no folder"
    assert cache.usage().entries == 0 and cache.clear().entries == 0


def test_keys_tell_everything_apart() -> None:
    text, target = kernel().module.text, TARGETS["x86-64-v3"]
    keys = {
        cache.key(text, target),
        cache.key(text + " ", target),
        cache.key(text, TARGETS["x86-64-v2"]),
        cache.key(text, replace(target, cpu="host")),
        cache.key(text, TARGETS["aarch64"]),
    }
    assert len(keys) == 5 and cache.key(text, target) in keys


def test_the_compilers_version_is_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = entry()
    monkeypatch.setattr(cache, "_llvm_version", lambda: "0.0.1")
    assert entry() != before


_FILL = """
from striate.codegen import cache
from striate.codegen.builder import Builder
from striate.codegen.compiler import compile_modules
from striate.codegen.targets import current_target
from striate.kernels.kernel import make_kernel

def kernel(number):
    return make_kernel(
        current_target(), "c", ["out"], lambda b, a: b.store(b.const(number), a[0])
    ).module

modules = [kernel(k + 0.5) for k in range(12)]
objects = compile_modules(modules, current_target())
for module, data in zip(modules, objects):
    assert cache.read(cache.key(module.text, current_target())) == data
"""


def test_many_processes_at_once(folder: Path) -> None:
    running = [
        subprocess.Popen([sys.executable, "-c", _FILL], stderr=subprocess.PIPE) for _ in range(3)
    ]
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
    assert cache.usage().entries == 12
    assert not list(folder.glob(".new-*"))
