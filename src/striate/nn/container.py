"""Modules that hold modules: Sequential, ModuleList, ModuleDict."""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn, TypeVar, overload

from striate.errors import OptionError, suggest
from striate.nn.module import Module

S = TypeVar("S", bound="_Numbered")


def _checked(module: Any, where: str) -> Module:
    if not isinstance(module, Module):
        name = module.__name__ if isinstance(module, type) else type(module).__name__
        hint = f" Write {name}(...), with parentheses." if isinstance(module, type) else ""
        raise OptionError(f"{where}: expected modules; got {name}.{hint}")
    return module


class _Numbered(Module):
    """Modules named "0", "1", … with the methods of a list."""

    def _entries(self) -> list[Module]:
        return [m for m in self._modules.values() if m is not None]

    def _renumber(self, modules: Iterable[Module]) -> None:
        names = list(self._modules)
        entries = list(modules)
        for name in names:
            delattr(self, name)
        for k, module in enumerate(entries):
            self.add_module(str(k), module)

    def _name(self, index: Any) -> str:
        names = list(self._modules)
        place = operator.index(index)
        if not -len(names) <= place < len(names):
            raise IndexError(f"{type(self).__name__}: index {place} of {len(names)} modules")
        return names[place]

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._entries())

    @overload
    def __getitem__(self: S, index: slice) -> S: ...
    @overload
    def __getitem__(self, index: int) -> Any: ...
    def __getitem__(self: S, index: int | slice) -> Any:
        if isinstance(index, slice):
            part = type(self)()
            for name in list(self._modules)[index]:
                part.add_module(name, self._modules[name])
            if isinstance(part, ModuleList):  # as in torch, a part of a Sequential keeps its names
                part._renumber(part._entries())
            return part
        return self._modules[self._name(index)]

    def __setitem__(self, index: int, module: Module) -> None:
        self.add_module(self._name(index), _checked(module, type(self).__name__))

    def __delitem__(self, index: int | slice) -> None:
        names = list(self._modules)[index] if isinstance(index, slice) else [self._name(index)]
        for name in names:
            delattr(self, name)
        self._renumber(self._entries())

    def append(self: S, module: Module) -> S:
        """Add a module at the end."""
        self.add_module(str(len(self)), _checked(module, type(self).__name__))
        return self

    def extend(self: S, modules: Iterable[Module]) -> S:
        """Add modules at the end."""
        for module in list(modules):
            self.append(module)
        return self

    def insert(self: S, index: int, module: Module) -> S:
        """Add a module before the one at `index`; those behind it get new numbers."""
        entries = self._entries()
        entries.insert(index, _checked(module, type(self).__name__))
        self._renumber(entries)
        return self


class Sequential(_Numbered):
    """Modules run one after the other.

    Args:
        args: the modules, named "0", "1", …; or one ordered dict of name -> module.

    >>> import numpy as np
    >>> from striate import nn
    >>> nn.Sequential(nn.Flatten(), nn.Linear(4, 2))(np.zeros((3, 1, 2, 2))).shape
    (3, 2)
    """

    def __init__(self, *args: Any) -> None:
        super().__init__()
        single = args[0] if len(args) == 1 else None
        named = isinstance(single, (dict, OrderedDict))
        items = single.items() if named and single is not None else enumerate(args)
        for name, module in items:
            self.add_module(str(name), _checked(module, "Sequential"))

    def forward(self, x: Any) -> Any:
        """The last module of … of the first module of x."""
        for module in self:
            x = module(x)
        return x


class _Holder:
    """What a list or dict of modules says when it is called."""

    def forward(self, *inputs: Any, **keywords: Any) -> NoReturn:
        """Refused: there is no order of computation."""
        name = type(self).__name__
        raise OptionError(
            f"{name}: expected its modules to be called one by one; got a call of the {name} "
            "itself. Use nn.Sequential to run them in a row."
        )


class ModuleList(_Holder, _Numbered):
    """A list of modules whose parameters belong to the network.

    >>> from striate import nn
    >>> layers = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
    >>> len(layers), sorted(layers.state_dict())[0]
    (2, '0.bias')
    """

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        self.extend(modules or [])


class ModuleDict(_Holder, Module):
    """A dict of modules whose parameters belong to the network.

    >>> from striate import nn
    >>> heads = nn.ModuleDict({"digit": nn.Linear(4, 10)})
    >>> "digit" in heads, list(heads)
    (True, ['digit'])
    """

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        super().__init__()
        self.update(modules or {})

    def __getitem__(self, key: str) -> Any:
        if key not in self._modules:
            raise KeyError(f"ModuleDict: no module {key!r}. {suggest(key, self._modules)}")
        return self._modules[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, _checked(module, "ModuleDict"))

    def __delitem__(self, key: str) -> None:
        delattr(self, key)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, key: object) -> bool:
        return key in self._modules

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._modules.keys()

    def values(self) -> list[Any]:
        """The modules."""
        return list(self._modules.values())

    def items(self) -> Iterable[tuple[str, Any]]:
        """(name, module)."""
        return self._modules.items()

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Add modules by name."""
        for key, module in dict(modules).items():
            self[key] = module
