"""The course of a training: loss and accuracy by epoch; loss by learning rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator
from numpy.typing import ArrayLike, NDArray

from striate.errors import ShapeError
from striate.plot.page import BLUE, GREEN, INK, MARGIN, MUTED, ORANGE, RULE, Page, plain, styled

_PANEL_W, _PANEL_H, _LABELS, _SPACE = 2.75, 2.15, 0.95, 0.62
_COLOURS = (BLUE, ORANGE, GREEN, INK)


@styled
def curves(
    loss: Mapping[str, ArrayLike],
    accuracy: Mapping[str, ArrayLike] | None = None,
    *,
    title: str = "Training",
    under: str = "",
) -> Figure:
    """Loss and accuracy after each epoch, each line named at its end.

    Args:
        loss: for each line's name ("training", "validation") its values, (epochs,).
        accuracy: the same for accuracies between 0 and 1; left out, there is one panel.
        title: the headline.
        under: a muted line under it.
    Returns:
        The figure.
    Raises:
        ShapeError: a line that is no vector, or no line at all.
    """
    panels = [("loss", loss, False)] + ([("accuracy", accuracy, True)] if accuracy else [])
    step = _PANEL_W + _LABELS + _SPACE
    page = Page(
        max(step * len(panels) - _SPACE + 0.5, 4.6) + 2 * MARGIN, _PANEL_H + 1.25 + 2 * MARGIN
    )
    page.title(title, under)
    for k, (name, lines, percent) in enumerate(panels):
        x = MARGIN + 0.5 + k * step
        page.text(x - 0.45, MARGIN + 0.74, name, size=9, weight="bold")
        axes = page.axes(x, MARGIN + 0.86, _PANEL_W, _PANEL_H)
        _draw_panel(axes, {n: _line(n, v) for n, v in lines.items()}, percent)
    return page.figure


@styled
def learning_rates(
    rates: ArrayLike,
    losses: ArrayLike,
    smoothed: ArrayLike,
    *,
    suggestion: float | None = None,
    title: str = "Learning rates",
) -> Figure:
    """The losses of a sweep over learning rates, as `striate.lr_find` brings them.

    Args:
        rates: (steps,), rising, above 0.
        losses: (steps,), of each step's batch.
        smoothed: (steps,), their running mean.
        suggestion: a rate that is marked.
        title: the headline.
    Returns:
        The figure.
    Raises:
        ShapeError: the three have different lengths.
    """
    x, raw, mean = (_line("learning_rates", v) for v in (rates, losses, smoothed))
    if not len(x) == len(raw) == len(mean):
        raise ShapeError(
            f"plot.learning_rates: expected three lines of one length; got {x.shape}, "
            f"{raw.shape}, {mean.shape}."
        )
    page = Page(4.6 + 2 * MARGIN, _PANEL_H + 1.1 + 2 * MARGIN)
    under = "" if suggestion is None else f"suggestion {suggestion:.1e}"
    page.title(title, under)
    axes = page.axes(MARGIN + 0.5, MARGIN + 0.7, 3.9, _PANEL_H)
    axes.plot(x, raw, color=RULE, linewidth=0.8)
    axes.plot(x, mean, color=BLUE, linewidth=1.6)
    axes.set_xscale("log")
    low, high = float(min(mean.min(), raw.min())), float(mean.max())
    high = min(high, mean[0] + (mean[0] - low))  # what comes after the minimum may be very high
    axes.set_ylim(low - 0.1 * (high - low) - 1e-9, high + 0.15 * (high - low) + 1e-9)
    if suggestion is not None:
        axes.axvline(suggestion, color=ORANGE, linewidth=1.2)
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss")
    return page.figure


def _line(name: str, values: ArrayLike) -> NDArray[np.float64]:
    line = np.asarray(values, np.float64)
    if line.ndim != 1 or not line.size:
        raise ShapeError(
            f"plot.curves: expected values (epochs,) for {name!r}; got shape {line.shape}."
        )
    return line


def _draw_panel(axes: Axes, lines: Mapping[str, NDArray[np.float64]], percent: bool) -> None:
    if not lines:
        raise ShapeError("plot.curves: expected at least one line; got none.")
    epochs = max(map(len, lines.values()))
    for colour, values in zip(_COLOURS, lines.values(), strict=False):
        marker: dict[str, Any] = {"marker": "o", "markersize": 3.2} if epochs <= 30 else {}
        axes.plot(
            range(1, len(values) + 1), values, color=colour, linewidth=1.6, clip_on=False, **marker
        )
    axes.set_xlim(0.7 if epochs > 1 else 0.5, epochs + (0.3 if epochs > 1 else 0.5))
    _set_limits(axes, lines, percent)
    axes.xaxis.set_major_locator(FixedLocator([1]) if epochs == 1 else MaxNLocator(6, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    if percent:
        axes.yaxis.set_major_formatter(FuncFormatter(_as_percent))
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("epoch")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    _name_lines(axes, lines, percent)


def _as_percent(value: float, _: Any) -> str:
    return f"{100 * value:.4g} %"


def _set_limits(axes: Axes, lines: Mapping[str, NDArray[np.float64]], percent: bool) -> None:
    """Loss from 0; accuracy up to what is reached, with the start cut where it is far below."""
    values = np.concatenate(list(lines.values()))
    values = values[np.isfinite(values)]
    if not values.size:
        return
    low, high = float(values.min()), float(values.max())
    if percent:
        room = max(high - low, 0.01) * 0.08
        axes.set_ylim(max(0.0, low - room), min(1.0, high + room) if high < 1 else 1 + room / 2)
    else:
        axes.set_ylim(min(0.0, low), high * 1.06 if high > 0 else 1.0)


def _name_lines(axes: Axes, lines: Mapping[str, NDArray[np.float64]], percent: bool) -> None:
    """Each line's name and last value at its right end, moved apart where they would meet."""
    low, high = axes.get_ylim()
    last = {n: float(v[-1]) for n, v in lines.items() if np.isfinite(v[-1])}
    least = (high - low) * 0.135
    places = _spread(list(last.values()), least, low, high)
    end = max(map(len, lines.values()))
    colours = dict(zip(lines, _COLOURS, strict=False))
    for (name, value), place in zip(last.items(), places, strict=True):
        text = f"{100 * value:.2f} %" if percent else f"{value:.4f}"
        how: dict[str, Any] = {"textcoords": "offset points", "annotation_clip": False}
        axes.annotate(
            plain(name),
            (end, place),
            (14, 1),
            color=colours.get(name, MUTED),
            size=8,
            weight="bold",
            **how,
        )
        axes.annotate(text, (end, place), (14, -8.5), color=MUTED, size=7.5, **how)


def _spread(values: Sequence[float], least: float, low: float, high: float) -> list[float]:
    """The values moved as little as keeps them `least` apart, inside the limits where possible."""
    order = sorted(range(len(values)), key=lambda k: values[k])
    places = [values[k] for k in order]
    for k in range(1, len(places)):
        gap = places[k] - places[k - 1]
        if gap < least:
            places[k - 1] -= (least - gap) / 2
            places[k] = places[k - 1] + least
    if places:
        shift = max(low + least * 0.3 - places[0], 0.0) + min(high - places[-1], 0.0)
        places = [place + shift for place in places]
    result = [0.0] * len(values)
    for k, place in zip(order, places, strict=True):
        result[k] = place
    return result
