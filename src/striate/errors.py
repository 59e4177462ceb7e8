"""Every error that striate raises on purpose, as one tree.

    StriateError
    ├── ShapeError      arrays or layers that do not fit together (also a ValueError)
    ├── OptionError     an argument or option with a value that cannot be (also a ValueError)
    ├── TraceError      a `forward` that cannot be turned into a graph
    ├── DataError       a data set that is missing, damaged or out of range
    ├── FileError       a file that cannot be read or written
    │   └── ModelError  a model file that is none, is damaged, or does not fit
    ├── ImageError      a picture that cannot be used
    ├── AbsentError     a name of torch's that is not here (also an AttributeError)
    └── CompileError    code generation or linking failed

A message is one sentence: `where: expected …; got name=value. What to do.`
This module imports nothing of the package.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class StriateError(Exception):
    """Base of all errors that striate raises on purpose.

    Attributes:
        layer: the layer of a network that raised it, by its path or class; "" where none did.
    """

    layer = ""


class ShapeError(StriateError, ValueError):
    """Arrays or layers that do not fit together."""


class OptionError(StriateError, ValueError):
    """An argument or option with a value that cannot be."""


class TraceError(StriateError):
    """A `forward` that cannot be turned into a graph."""


class DataError(StriateError):
    """A data set that is missing, damaged or out of range."""


class FileError(StriateError):
    """A file that cannot be read or written."""


class ModelError(FileError):
    """A model file that is none, is damaged, or does not fit the network."""


class ImageError(StriateError):
    """A picture that cannot be used."""


class AbsentError(StriateError, AttributeError):
    """A name of torch's that is not here; the message says what to do instead."""


class CompileError(StriateError):
    """Code generation or linking failed."""


_MOST = 24  # names that a message lists


def suggest(word: str, known: Iterable[str]) -> str:
    """Say what `word` could have meant: ` Did you mean 'x'?`, or the list of what there is.

    A long list is left out; the nearest names of it are given.
    """
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    if len(names) > _MOST:
        names = difflib.get_close_matches(word, names, n=6, cutoff=0.3)
        listed = f"Near to it are: {', '.join(names)}." if len(names) > 1 else ""
    else:
        listed = f"There is: {', '.join(names)}."
    return f"Did you mean {near[0]!r}? {listed}".rstrip() if near else listed
