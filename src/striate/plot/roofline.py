"""The roofline of a network: its layers' speeds under what the machine allows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from striate.errors import OptionError
from striate.nn.module import Module
from striate.plot.page import (
    BLUE,
    GREEN,
    INK,
    MARGIN,
    MUTED,
    ORANGE,
    RULE,
    Page,
    plain,
    styled,
)

if TYPE_CHECKING:
    from striate.measure.roofline import Point, Roofline

_WIDTH, _HEIGHT, _TOP, _SIDE = 6.6, 3.6, 0.75, 0.55
_KINDS = {
    "convolution": (BLUE, "o"),
    "fully connected": (ORANGE, "s"),
    "others": (GREEN, "^"),
}
_NAMED = 6  # layers that are named, by their share of the time


@styled
def roofline(
    found: Roofline | Module,
    shape: Sequence[int] | None = None,
    *,
    batch: int = 1,
    seconds: float = 2.0,
    title: str = "Roofline",
    under: str = "",
) -> Figure:
    """Every layer's speed over its operations a byte, under the machine's measured roof.

    The roof is the speed of multiply-adds alone, and left of it that of memory (of a cache: dashed)
    times the intensity. A mark's area is its share of the time; the layers that take most of it are
    named. A network that runs as one piece of code has no times of its layers: hollow marks then
    lie where the machine would allow them.

    Args:
        found: what `measure.roofline` gave; or a network, which is then measured.
        shape: of one image, (c, h, w), for a network.
        batch: images a call, for a network.
        seconds: to measure for, about, for a network.
        title: the headline.
        under: a muted line under it.
    Returns:
        The figure.
    Raises:
        OptionError: a network without a shape, or one that computes nothing.
    """
    if isinstance(found, Module):
        if shape is None:
            raise OptionError(
                "plot.roofline: expected the shape of an image with a network, as in "
                "roofline(net, (3, 224, 224)); got none."
            )
        from striate.measure.roofline import roofline as measured

        found = measured(found, shape, batch=batch, seconds=seconds)
    if not found.points:
        raise OptionError("plot.roofline: expected a network that computes something; got none.")
    page = Page(_WIDTH + _SIDE + 2 * MARGIN, _HEIGHT + _TOP + 1.0 + 2 * MARGIN)
    page.title(title, under or _machine(found))
    axes = page.axes(MARGIN + _SIDE, MARGIN + _TOP, _WIDTH, _HEIGHT)
    ends, heights = _limits(found)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set(xlim=ends, ylim=heights)
    axes.grid(True, which="major", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", length=0)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("operations a byte")
    axes.set_ylabel("GFLOP/s")
    _draw_roof(axes, found, ends)
    _draw_points(axes, found.points)
    _draw_legend(page, found, MARGIN + _TOP + _HEIGHT + 0.68)
    return page.figure


def _machine(found: Roofline) -> str:
    size = "×".join(map(str, found.input_shape))
    threads = f"{found.threads} thread{'s' if found.threads != 1 else ''}"
    return (
        f"images of {size}, batch {found.batch}, {threads}: {1e3 * found.seconds:.3g} ms; "
        f"peak {found.peak:.0f} GFLOP/s, memory {found.bandwidth:.1f} GB/s"
    )


def _limits(found: Roofline) -> tuple[tuple[float, float], tuple[float, float]]:
    """The ends of both axes: all points, and the roof's corner."""
    corner = found.peak / found.bandwidth
    across = [p.intensity for p in found.points] + [corner]
    up = [p.gflops or p.bound for p in found.points] + [found.peak]
    low, high = min(up) / 2, max(up) * 2.2
    return (min(across) / 1.8, max(across) * 2.2), (min(low, high / 30), high)


def _draw_roof(axes: Axes, found: Roofline, ends: tuple[float, float]) -> None:
    peak = found.peak
    how: dict[str, Any] = {"size": 7.5, "color": INK, "va": "bottom"}
    axes.plot([peak / found.cache_bandwidth, ends[1]], [peak, peak], color=INK, linewidth=1.3)
    corner = peak / found.bandwidth * 1.1
    axes.text(corner, peak * 1.05, f"multiply-adds {peak:.0f} GFLOP/s", **how)
    lines = (("memory", found.bandwidth, "-"), ("cache", found.cache_bandwidth, "--"))
    for name, speed, line in lines:
        top = peak / speed
        axes.plot([ends[0], top], [ends[0] * speed, peak], line, color=INK, linewidth=1.3)
        turned: dict[str, Any] = {"rotation_mode": "anchor", "transform_rotates_text": True}
        x = max(ends[0], axes.get_ylim()[0] / speed) * 1.15
        if x < top / 1.5:
            angle = math.degrees(math.atan(speed))
            text = f"{name} {speed:.0f} GB/s"
            axes.text(x, x * speed * 1.12, text, rotation=angle, **turned, **how)


def _kind(point: Point) -> str:
    if "conv" in point.operation:
        return "convolution"
    return "fully connected" if point.operation == "linear" else "others"


def _draw_points(axes: Axes, points: Sequence[Point]) -> None:
    for point in points:
        colour, marker = _KINDS[_kind(point)]
        share = 0.02 if point.share is None else point.share
        hollow = point.gflops is None
        axes.scatter(
            [point.intensity], [point.gflops or point.bound], s=16 + 900 * share, marker=marker,
            color="none" if hollow else colour, edgecolors=colour if hollow else "white",
            linewidths=1.0 if hollow else 0.6, alpha=0.85, zorder=3,
        )  # fmt: skip
    largest = sorted(points, key=lambda p: p.share or 0.0, reverse=True)[:_NAMED]
    taken: list[tuple[float, float]] = []
    for point in largest:
        place = point.intensity, point.gflops or point.bound
        spot = axes.transAxes.inverted().transform(axes.transData.transform(place))
        if any(abs(spot[1] - y) < 0.05 and abs(spot[0] - x) < 0.25 for x, y in taken):
            continue
        taken.append((float(spot[0]), float(spot[1])))
        left = spot[0] > 0.72
        above = 7 if point.gflops is None else 0
        radius = math.sqrt((16 + 900 * (point.share or 0.02)) / math.pi) + 2
        axes.annotate(
            plain(point.name.split(" + ")[0]), place, (-radius if left else radius, above),
            textcoords="offset points", size=7, color=INK, va="center",
            ha="right" if left else "left", zorder=4,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6},
        )  # fmt: skip


def _draw_legend(page: Page, found: Roofline, y: float) -> None:
    used = [kind for kind in _KINDS if any(_kind(p) == kind for p in found.points)]
    for k, kind in enumerate(used):
        colour, marker = _KINDS[kind]
        x = MARGIN + _SIDE + 1.35 * k
        page.sheet.plot([x + 0.05], [y], marker=marker, color=colour, markersize=5)
        page.text(x + 0.16, y, kind, size=7.5, color=MUTED, va="center")
    note = "area: share of the time; Winograd does fewer multiplications than are counted"
    if all(p.gflops is None for p in found.points):
        note = "hollow: the network runs as one piece of code; this is what the machine allows"
    page.text(MARGIN + _SIDE, y + 0.22, note, size=7.5, color=MUTED, va="center")
