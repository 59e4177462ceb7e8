"""How much memory a cache may take: a share of what the machine or its container has left."""

from __future__ import annotations

import os
from pathlib import Path

SHARE = 0.3  # of the available memory, the most that decoded pictures take unless told otherwise
_UNKNOWN = 1 << 30  # bytes, where the system does not say
_CGROUP = Path("/sys/fs/cgroup")


def available_memory(meminfo: Path = Path("/proc/meminfo"), cgroup: Path = _CGROUP) -> int:
    """The bytes that can be taken without swapping, within a container's limit.

    Args:
        meminfo: Linux's account of the memory.
        cgroup: the folder of the control groups.
    """
    bounds = [_free(meminfo)]
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        most, taken = _number(cgroup / limit), _number(cgroup / used)
        if most is not None and taken is not None:
            bounds.append(max(0, most - taken))
    return min(bounds)


def _free(meminfo: Path) -> int:
    try:
        for line in meminfo.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    names = getattr(os, "sysconf_names", {})
    if "SC_AVPHYS_PAGES" in names:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return _UNKNOWN


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None  # "max", or no such group
