"""CPU targets: how wide a vector is, how many registers there are, what LLVM is told.

Kernel generators read width and register count from here; nothing in them names an instruction
set. `STRIATE_TARGET` forces a target, so one machine can test several.
"""

from __future__ import annotations

import functools
import hashlib
import platform
from dataclasses import dataclass, replace

from striate.errors import OptionError, suggest
from striate.settings import target_name


@dataclass(frozen=True)
class Target:
    """What code is generated for.

    Attributes:
        name: the psABI level of the instruction set ("x86-64-v3"), or "aarch64".
        width: float32 lanes of a vector.
        registers: vector registers.
        fma: whether a multiply-add is one instruction.
        cpu: LLVM's name of the CPU; "host" is looked up by the compiling process.
        triple: LLVM's target triple. Objects are ELF on every system; `image` loads them.
    """

    name: str
    width: int
    registers: int
    fma: bool
    cpu: str
    triple: str = "x86_64-unknown-linux-gnu"

    @property
    def is_x86(self) -> bool:
        return self.triple.startswith("x86_64")


TARGETS = {
    t.name: t
    for t in (
        Target("x86-64-v2", 4, 16, False, "x86-64-v2"),
        Target("x86-64-v3", 8, 16, True, "x86-64-v3"),
        Target("x86-64-v4", 16, 32, True, "x86-64-v4"),
        Target("aarch64", 4, 32, True, "generic", "aarch64-unknown-linux-gnu"),
    )
}
_NEEDS = {
    "x86-64-v4": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
    "x86-64-v3": {"avx2", "fma", "bmi1", "bmi2", "f16c"},
    "x86-64-v2": {"sse4_2", "ssse3", "popcnt"},
}


@functools.cache
def host_features() -> frozenset[str]:
    """The CPU's feature flags as Linux names them; empty where they cannot be read."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith(("flags", "Features")):
                    return frozenset(line.partition(":")[2].split())
    except OSError:
        pass
    return _features_elsewhere()


def _features_elsewhere() -> frozenset[str]:
    """Features on systems without /proc: asked of LLVM, in a process of its own."""
    import subprocess
    import sys

    code = (
        "import llvmlite.binding as b; "
        "print(' '.join(k for k, v in dict(b.get_host_cpu_features()).items() if v))"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return frozenset()
    names = done.stdout.replace("bmi ", "bmi1 ").replace("sse4.2", "sse4_2")
    return frozenset(names.split())


@functools.cache
def host_identity() -> str:
    """A digest that changes with the CPU that code was compiled for."""
    fields = ("vendor_id", "cpu family", "model\t", "stepping", "CPU implementer", "CPU part")
    parts = [platform.machine(), platform.processor(), *sorted(host_features())]
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if not line.strip():
                    break
                if line.startswith(fields):
                    parts.append(line.strip())
    except OSError:
        pass
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def runs_here(target: Target) -> bool:
    """Whether this machine can execute the target's code."""
    machine = platform.machine().lower()
    if target.name == "aarch64":
        return machine in ("aarch64", "arm64")
    if machine not in ("x86_64", "amd64"):
        return False
    return _NEEDS[target.name] <= host_features()


@functools.cache
def _host_target() -> Target | None:
    for name in ("x86-64-v4", "x86-64-v3", "x86-64-v2", "aarch64"):
        if runs_here(TARGETS[name]):
            return replace(TARGETS[name], cpu="host")
    return None


def current_target() -> Target:
    """The target in force: `STRIATE_TARGET`, or the best that this CPU has.

    Raises:
        OptionError: an unknown target, one that this CPU cannot run, or no target fits it.
    """
    wanted = target_name() or ""
    wanted = f"x86-64-{wanted}" if wanted in ("v2", "v3", "v4") else wanted
    if not wanted or wanted == "host":
        found = _host_target()
        if found is None:
            raise OptionError(
                f"target: expected an x86-64-v2 or newer, or an aarch64 CPU; got "
                f"{platform.machine()!r}. STRIATE_BACKEND=reference runs anywhere, slowly."
            )
        return found
    if wanted not in TARGETS:
        raise OptionError(f"STRIATE_TARGET: unknown target {wanted!r}. {suggest(wanted, TARGETS)}")
    if not runs_here(TARGETS[wanted]):
        raise OptionError(
            f"STRIATE_TARGET: this CPU cannot run {wanted}; unset it to use the best that it can."
        )
    return TARGETS[wanted]
