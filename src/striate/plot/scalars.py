"""Functions of one scalar as curves, each with its derivative: activations, mostly."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from striate.errors import OptionError, suggest
from striate.formula.activation import ACTIVATIONS
from striate.formula.expression import Expr, Var, diff, evaluate, variables
from striate.plot.page import BLUE, MARGIN, ORANGE, RULE, Page, number, plain, styled

_PANEL, _GAP, _HEAD, _NAME = 1.15, 0.2, 0.62, 0.2
_POINTS = 801
Array = NDArray[np.float64]


@styled
def scalar_functions(
    functions: Mapping[str, Expr],
    *,
    span: tuple[float, float] = (-4.0, 4.0),
    height: tuple[float, float] = (-2.0, 3.0),
    columns: int = 6,
    title: str = "Activations",
) -> Figure:
    """A panel for each function: the function in blue, its derivative in orange.

    Args:
        functions: for each name an expression of one variable, `nn.Scalar(…).expression` say.
        span: the numbers on the horizontal axis, lowest and highest.
        height: those on the vertical axis.
        columns: panels beside each other.
        title: the headline.
    Returns:
        The figure.
    Raises:
        OptionError: no function, one of several variables, or an empty span.
    """
    if not functions or columns < 1:
        raise OptionError(
            f"plot.scalar_functions: expected at least one function and one column; got "
            f"{len(functions)} and columns={columns}."
        )
    if not span[0] < span[1] or not height[0] < height[1]:
        raise OptionError(
            "plot.scalar_functions: expected span and height as (lowest, highest); "
            f"got {span}, {height}."
        )
    rows = math.ceil(len(functions) / columns)
    width = columns * (_PANEL + _GAP) - _GAP + 2 * MARGIN
    page = Page(max(width, 4.2), _HEAD + rows * (_PANEL + _NAME + _GAP) + 2 * MARGIN)
    page.title(title, "blue: the function; orange: its derivative")
    for k, (name, expression) in enumerate(functions.items()):
        row, column = divmod(k, columns)
        x = MARGIN + column * (_PANEL + _GAP)
        y = MARGIN + _HEAD + row * (_PANEL + _NAME + _GAP)
        page.text(x, y + 0.1, plain(name), size=7.5, weight="bold")
        axes = page.axes(x, y + _NAME, _PANEL, _PANEL)
        _draw(axes, expression, name, span)
        below = k + columns >= len(functions)
        _dress(axes, span, height, (below, column == 0))
    return page.figure


def activations(
    names: Sequence[str] | None = None,
    *,
    span: tuple[float, float] = (-4.0, 4.0),
    height: tuple[float, float] = (-2.0, 3.0),
    columns: int = 6,
    title: str = "Activations and their derivatives",
) -> Figure:
    """The named activation functions with their derivatives; see `scalar_functions`.

    Args:
        names: as "relu"; by default all that there are.
        span: the numbers on the horizontal axis, lowest and highest.
        height: those on the vertical axis.
        columns: panels beside each other, at most.
        title: the headline.
    Returns:
        The figure.
    Raises:
        OptionError: there is no such activation.

    >>> figure = activations(["relu", "gelu"])
    """
    chosen = list(ACTIVATIONS) if names is None else list(names)
    for name in chosen:
        if name not in ACTIVATIONS:
            raise OptionError(
                f"plot.activations: unknown activation {name!r}. {suggest(name, ACTIVATIONS)}"
            )
    functions = {name: ACTIVATIONS[name].expr for name in chosen}
    columns = min(columns, max(len(chosen), 1))
    return scalar_functions(functions, span=span, height=height, columns=columns, title=title)


def _draw(axes: Axes, expression: Expr, name: str, span: tuple[float, float]) -> None:
    names = variables(expression)
    if len(names) > 1:
        raise OptionError(
            f"plot.scalar_functions: expected a function of one variable for {name!r}; got one of "
            f"{', '.join(names)}."
        )
    x = np.linspace(*span, _POINTS)
    values = {names[0] if names else "x": x}
    slope = diff(expression, Var(names[0] if names else "x"))
    for part, colour, wide in ((slope, ORANGE, 0.9), (expression, BLUE, 1.6)):
        with np.errstate(all="ignore"):
            y = np.broadcast_to(np.asarray(evaluate(part, values), np.float64), x.shape)
        above = 3 if part is slope else 2  # the thin line stays visible on the wide one
        how: dict[str, Any] = {"color": colour, "linewidth": wide, "zorder": above}
        axes.plot(x, _torn(x, y), solid_capstyle="round", **how)


def _torn(x: Array, y: Array) -> Array:
    """The curve with a gap where it jumps."""
    jump = np.abs(np.diff(y)) > 20 * (x[1] - x[0])
    torn = np.array(y)
    torn[1:][jump] = np.nan
    return torn


def _dress(
    axes: Axes,
    span: tuple[float, float],
    height: tuple[float, float],
    labelled: tuple[bool, bool],
) -> None:
    """Thin lines through 0; numbers along the axes that are labelled, (horizontal, vertical)."""
    axes.axhline(0, color=RULE, linewidth=0.6, zorder=0)
    axes.axvline(0, color=RULE, linewidth=0.6, zorder=0)
    axes.set(xlim=span, ylim=height)
    sides = ((axes.set_xticks, span), (axes.set_yticks, height))
    for shown, (place, (low, high)) in zip(labelled, sides, strict=True):
        ticks = [low, 0.0, high] if low < 0 < high else [low, high]
        place(ticks, [number(t) if shown else "" for t in ticks])
    axes.tick_params(length=2, pad=1.5, labelsize=6)
