"""A sliding window as one page for a browser: nothing is loaded, every number is in it.

The window, kernel and products are tables, so that a screen reader reads them; the pictures of
input and output are drawn from the same numbers. Buttons, a slider and keys go through the frames.
"""

from __future__ import annotations

import html
import json
from importlib import resources
from typing import Any

import numpy as np
from matplotlib.colors import to_hex
from numpy.typing import NDArray

from striate.errors import OptionError
from striate.plot.page import POSITIVE, SIGNED
from striate.plot.sliding_frames import Frame, Windows

MOST_BYTES = 16 * 2**20
_STOPS = 33


def page_of(found: Windows, title: str, arithmetic: list[str]) -> str:
    """The page.

    Args:
        found: the frames.
        title: the headline.
        arithmetic: a line of text for each frame.
    Raises:
        OptionError: it would be too large for a browser.
    """
    data = json.dumps(_data(found, arithmetic), separators=(",", ":"), ensure_ascii=False)
    if len(data) > MOST_BYTES:
        raise OptionError(
            f"plot.sliding: expected a page of at most {MOST_BYTES >> 20} MiB; this one would have "
            f"{len(data) / 2**20:.0f} MiB. Ask for fewer frames or a smaller image."
        )
    template = resources.files("striate.plot").joinpath("sliding.html").read_text("utf-8")
    page = template.replace("%TITLE%", html.escape(title))
    page = page.replace("%FORMULA%", html.escape(found.formula))
    return page.replace("%DATA%", data.replace("<", "\\u003c"))


def _data(found: Windows, arithmetic: list[str]) -> dict[str, Any]:
    kernels = [frame.kernel for frame in found.frames if frame.kernel is not None]
    shared = bool(kernels) and all(np.array_equal(kernels[0], k) for k in kernels)
    return {
        "how": found.how,
        "channels": list(found.channels),
        "margin": list(found.margin),
        "x": _numbers(found.x),
        "y": _numbers(found.y),
        "limits": {
            "x": _limits(found.x),
            "y": _limits(found.y),
            "kernel": _limits(np.stack(kernels), True) if kernels else None,
            "products": _limits(np.stack([f.terms for f in found.frames]), True),
        },
        "kernel": _numbers(kernels[0]) if shared else None,
        "frames": [
            _frame(frame, text, not shared)
            for frame, text in zip(found.frames, arithmetic, strict=True)
        ],
        "colours": {
            name: [to_hex(colours(k / (_STOPS - 1))) for k in range(_STOPS)]
            for name, colours in (("signed", SIGNED), ("positive", POSITIVE))
        },
    }


def _frame(frame: Frame, text: str, own_kernel: bool) -> dict[str, Any]:
    cells = [
        [cell for cell in plane.reshape(-1, 2).tolist() if cell[0] > -(10**5)]
        for plane in frame.cells
    ]
    found = {
        "at": list(frame.at),
        "cells": cells,
        "window": _numbers(frame.window),
        "text": text,
    }
    if frame.kernel is not None:
        found["products"] = _numbers(frame.terms)
        if own_kernel:
            found["kernel"] = _numbers(frame.kernel)
    return found


def _numbers(values: NDArray[np.float64]) -> Any:
    """Nested lists of numbers with four figures; null is padding, or no number."""
    if values.ndim:
        return [_numbers(part) for part in values]
    return float(f"{values:.4g}") if np.isfinite(values) else None


def _limits(values: NDArray[np.float64], signed: bool = False) -> list[float]:
    """Where the colours end: symmetric about 0 where a value is below it."""
    finite = values[np.isfinite(values)]
    most = float(np.abs(finite).max()) if finite.size else 0.0
    most = float(f"{most or 1.0:.4g}")
    return [-most if signed or (finite.size and finite.min() < 0) else 0.0, most]
