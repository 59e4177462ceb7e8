"""The roofline: every layer's speed over its arithmetic a byte, under what the machine allows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.layer import Layer
from benchmarks.layer_tables import KINDS, kind_of, layers_of
from benchmarks.problems import PASSES
from benchmarks.result import OURS, Result

_INK, _QUIET, _GRID = "#22262b", "#6b7280", "#e5e7eb"
# Distinct hues for colour-blind readers too; the shape says it a second time.
_STYLES = {
    "3×3, images from 14²": ("#0b62a4", "o"),
    "3×3, images of 7² and 8²": ("#5ba4d6", "o"),
    "3×3, stride 2": ("#0f9d8a", "s"),
    "first layers": ("#8a5bb5", "D"),
    "1×1": ("#d97706", "^"),
    "depthwise 3×3": ("#c2255c", "v"),
    "fully connected, batch 64": ("#4d7c0f", "P"),
    "fully connected, batch 1": ("#a3b916", "P"),
    "others": ("#9aa1ab", "o"),
}
_TITLES = {
    "forward": "forward",
    "input": "gradient to the input",
    "weight": "gradient to the weights",
}


def draw(results: Sequence[Result], machine: dict[str, Any], path: Path) -> None:
    """Draw the layers that ran on one thread (on the fewest there were) into a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found = [r for r in layers_of(results) if _point(r) is not None]
    threads = min(r.problem.threads for r in found)
    found = [r for r in found if r.problem.threads == threads]
    peak = max(r.extra["peak_gflops"] for r in found)
    speeds = machine.get("memory_gbytes", {})
    every = [p for r in found if (p := _point(r)) is not None]
    ends = min(x for x, _ in every) / 1.6, max(x for x, _ in every) * 1.6
    figure = Figure(figsize=(12.5, 5.0), dpi=144, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(PASSES), sharex=True, sharey=True)
    for axis, which in zip(axes, PASSES, strict=True):
        chosen = [r for r in found if Layer.of(r.problem.settings).which == which]
        _panel(axis, chosen)
        _roof(axis, ends, peak, speeds)
        axis.set_xlim(*ends)
        axis.set_title(_TITLES[which], fontsize=11, color=_INK, loc="left")
        axis.set_xlabel("operations a byte", fontsize=9, color=_QUIET)
    axes[0].set_ylabel("GFLOP/s", fontsize=9, color=_QUIET)
    _legend(figure)
    many = "" if threads == 1 else "s"
    figure.suptitle(
        f"Layers on {threads} thread{many}: speed, and what the machine allows",
        fontsize=13,
        color=_INK,
        x=0.01,
        ha="left",
    )
    _write(figure, path)


def _write(figure: Any, path: Path) -> None:
    """As PNG in a palette, a third of the size."""
    import io

    from PIL import Image

    whole = io.BytesIO()
    figure.savefig(whole, format="png", metadata={"Software": None})
    path.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(whole) as picture:
        small = picture.convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE)
        small.save(path, optimize=True)


def _point(result: Result) -> tuple[float, float] | None:
    """Operations a byte, GFLOP/s; None where ours was not timed."""
    ours = result.row(OURS)
    if ours is None or ours.gflops is None:
        return None
    return Layer.of(result.problem.settings).intensity, ours.gflops


def _panel(axis: Any, results: Sequence[Result]) -> None:
    axis.set_xscale("log", base=2)
    axis.set_yscale("log", base=2)
    axis.grid(True, color=_GRID, linewidth=0.8)
    axis.set_axisbelow(True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axis.spines[side].set_color(_GRID)
    axis.tick_params(colors=_QUIET, labelsize=8, length=0)
    points = {kind: [] for kind in KINDS}  # type: dict[str, list[tuple[float, float]]]
    for result in results:
        point = _point(result)
        if point is not None:
            points[kind_of(Layer.of(result.problem.settings))].append(point)
    for kind, places in points.items():
        if places:
            colour, shape = _STYLES[kind]
            axis.scatter(
                *zip(*places, strict=True),
                s=34,
                color=colour,
                marker=shape,
                alpha=0.85,
                linewidths=0.6,
                edgecolors="white",
                zorder=3,
            )


def _roof(axis: Any, ends: tuple[float, float], peak: float, speeds: dict[str, float]) -> None:
    """The lines of what the machine allows: multiply-adds, memory, and its caches."""
    from matplotlib.ticker import FuncFormatter

    low, high = ends
    note: dict[str, Any] = {"fontsize": 8, "color": _INK, "zorder": 4}
    axis.plot([low, high], [peak, peak], color=_INK, linewidth=1.2, zorder=2)
    axis.text(low * 1.1, peak * 1.06, f"multiply-adds {peak:.0f} GFLOP/s", va="bottom", **note)
    for key, label, line in (("copy", "memory", "-"), ("cache copy", "cache", "--")):
        if key not in speeds:
            continue
        speed = speeds[key]
        places = [low, peak / speed]
        axis.plot(places, [x * speed for x in places], line, color=_INK, linewidth=1.2, zorder=2)
        x = low * 1.25
        angle = math.degrees(math.atan(speed))  # of y = speed·x, which the axes then turn
        text = f"{label} {speed:.0f} GB/s"
        turned = {"rotation": angle, "rotation_mode": "anchor", "transform_rotates_text": True}
        axis.text(x, x * speed * 1.15, text, va="bottom", **turned, **note)
    for scale in (axis.xaxis, axis.yaxis):
        scale.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _legend(figure: Any) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], linestyle="", marker=shape, color=colour, markersize=6, label=kind)
        for kind, (colour, shape) in _STYLES.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False, fontsize=9)
