"""Names for the parameters and nodes of an imported network.

Parameters' names form a tree, "conv1.weight" below "conv1"; the names of a file need not. So a
name that cannot be part of the tree has its dots replaced.
"""

from __future__ import annotations

from striate.nn.module import Module


class Names:
    """Names that are given once, in one tree."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._branches: set[str] = set()
        self._reserved: set[str] = set()

    def reserve(self, name: str) -> None:
        """Keep a name for the parameter that has it."""
        self._reserved.add(name)

    def plain(self, stem: str) -> str:
        """A name for a node."""
        name, count = stem, 0
        while name in self._taken or name in self._reserved:
            count += 1
            name = f"{stem}_{count}"
        self._taken.add(name)
        return name

    def dotted(self, stem: str) -> str:
        """A name for a parameter, a path in the tree of names.

        >>> names = Names()
        >>> [names.dotted(name) for name in ("a.b", "a.b", "a", "a.b.c", "x..y", "forward")]
        ['a.b', 'a.b_1', 'a_1', 'a_b_c', 'x__y', 'forward_1']
        """
        name, count = stem, 0
        if not self._fits(stem, leaf_only=True):
            stem = name = stem.replace(".", "_")
        while not self._fits(name):
            count += 1
            name = f"{stem}_{count}"
        self._taken.add(name)
        parts = name.split(".")
        self._branches |= {".".join(parts[:k]) for k in range(1, len(parts))}
        return name

    def _fits(self, name: str, leaf_only: bool = False) -> bool:
        parts = name.split(".")
        above = {".".join(parts[:k]) for k in range(1, len(parts))}
        good = all(parts) and not above & self._taken
        good = good and not any(hasattr(Module, part) for part in parts[:-1])
        if leaf_only:
            return good
        return good and name not in self._taken | self._branches and not hasattr(Module, parts[-1])
