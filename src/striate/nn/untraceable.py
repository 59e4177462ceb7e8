"""Messages for a `forward` that cannot be traced: which file, which line, why, what instead."""

from __future__ import annotations

import linecache
import sys
from pathlib import Path
from types import CodeType, FrameType

import numpy as np

import striate
from striate.errors import TraceError

_PACKAGE = str(Path(striate.__file__).parent)
_MODELS = str(Path(striate.__file__).parent / "models")
_NUMPY = str(Path(np.__file__).parent)

# Code objects at which the search for the user's line ends: outside them nothing is traced.
boundaries: set[CodeType] = set()


class TraceAttributeError(TraceError, AttributeError):
    """A traced tensor was asked for something that it has not; `hasattr` stays false."""


def user_line() -> str:
    """Where in the user's forward the caller is ("net.py, line 12, in forward: …"), or ""."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code not in boundaries:
        if not _is_inner(frame.f_code.co_filename):
            return _describe(frame, frame.f_lineno)
        frame = frame.f_back
    return ""


def line_of(error: BaseException) -> str:
    """The line of the innermost `forward` that an error came through, described; or "forward"."""
    best = "forward"
    step = error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        if code.co_name == "forward" and not _is_inner(code.co_filename):
            best = _describe(step.tb_frame, step.tb_lineno)
        step = step.tb_next
    return best


def _is_inner(filename: str) -> bool:
    if filename.startswith(_MODELS):
        return False
    return filename.startswith((_PACKAGE, _NUMPY)) or filename.startswith("<__array")


def _describe(frame: FrameType, number: int) -> str:
    name = frame.f_code.co_filename
    source = linecache.getline(name, number, frame.f_globals).strip()
    text = f"{name}, line {number}, in {frame.f_code.co_name}"
    return f"{text}: `{source}`" if source else text


def untraceable(why: str, instead: str) -> TraceError:
    """The error for a step that cannot be traced; `why` and `instead` are whole clauses."""
    return TraceError(_message(why, instead))


def no_attribute(why: str, instead: str) -> TraceAttributeError:
    """The same for an attribute that a traced tensor has not."""
    return TraceAttributeError(_message(why, instead))


def _message(why: str, instead: str) -> str:
    where = user_line() or "forward"
    return f"{where} cannot be traced: {why}. {instead}"
