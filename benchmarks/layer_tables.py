"""The tables of single layers: every case by network, and the kinds of layers summed up."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from benchmarks.layer import Layer
from benchmarks.problems import PASSES
from benchmarks.result import OURS, Result
from benchmarks.text import names, reached, time_text

_PASS = {"forward": "forward", "input": "to the input", "weight": "to the weights"}
KINDS = (
    "3×3, images from 14²",
    "3×3, images of 7² and 8²",
    "3×3, stride 2",
    "first layers",
    "1×1",
    "depthwise 3×3",
    "fully connected, batch 64",
    "fully connected, batch 1",
    "others",
)


def kind_of(layer: Layer) -> str:
    """Which of `KINDS` a layer belongs to."""
    if layer.linear:
        return "fully connected, batch 64" if layer.n > 1 else "fully connected, batch 1"
    if layer.c <= 4:
        return "first layers"
    if layer.g > 1:
        return "depthwise 3×3"
    if layer.transposed or layer.k not in (1, 3):
        return "others"
    if layer.k == 1:
        return "1×1"
    if layer.s > 1:
        return "3×3, stride 2"
    return "3×3, images from 14²" if min(layer.h, layer.w) >= 14 else "3×3, images of 7² and 8²"


def layers_of(results: Iterable[Result]) -> list[Result]:
    """Those results that are layers', computed as the program chooses."""
    return [
        r for r in results if r.problem.kind == "layer" and "algorithm" not in r.problem.settings
    ]


def direct_of(results: Iterable[Result]) -> list[Result]:
    """Those results that are of the direct kernels."""
    return [r for r in results if r.problem.settings.get("algorithm") == "direct"]


def summary_table(results: Sequence[Result]) -> list[str]:
    """A row for each kind of layer and number of threads: the ratios of the three passes."""
    lines = [
        "| layers | threads | forward | gradient to the input | gradient to the weights |",
        "|---|---:|---|---|---|",
    ]
    cells: dict[tuple[str, int], dict[str, list[Result]]] = {}
    for result in layers_of(results):
        layer = Layer.of(result.problem.settings)
        row = cells.setdefault((kind_of(layer), result.problem.threads), {})
        row.setdefault(layer.which, []).append(result)
    for kind, threads in sorted(cells, key=lambda key: (KINDS.index(key[0]), key[1])):
        row = cells[kind, threads]
        shown = [_cell(row.get(which, [])) for which in PASSES]
        lines.append(f"| {kind} | {threads} | {' | '.join(shown)} |")
    return lines


def _cell(results: Sequence[Result]) -> str:
    ratios = sorted(r.ratio for r in results if r.ratio is not None)
    if not ratios:
        return "–"
    judged = [reached(r) for r in results if reached(r) is not None]
    text = f"**{statistics.median(ratios):.2f}×** ({ratios[0]:.2f} … {ratios[-1]:.2f})"
    return f"{text}, {sum(map(bool, judged))} of {len(judged)}" if judged else text


def page_sections(results: Sequence[Result]) -> list[str]:
    """The section of the documentation's page: a table for each network and number of threads."""
    found = layers_of(results)
    if not found:
        return []
    parts = [HEAD, "\n".join(summary_table(found)) + "\n"]
    groups: dict[tuple[str, int], list[Result]] = {}
    for result in found:
        network = result.problem.name.partition(".")[0]
        groups.setdefault((network, result.problem.threads), []).append(result)
    for (network, threads), members in groups.items():
        plural = "s" if threads > 1 else ""
        parts.append(f"### Layers of {names(network)}, {threads} thread{plural}\n")
        parts.append("\n".join(_table(members)) + "\n")
    return parts


def direct_section(results: Sequence[Result]) -> list[str]:
    """The direct kernels beside the loop of multiply-adds."""
    found = direct_of(results)
    if not found:
        return []
    lines = [
        "| layer | | pass | n | of peak, best round | to reach | of peak, median | best peer | × |",
        "|---|---|---|---:|---:|---:|---:|---|---:|",
    ]
    for result in found:
        layer, ours, best = Layer.of(result.problem.settings), result.row(OURS), result.best_rival
        if ours is None or ours.percent_of_peak is None:
            continue
        share = f"{result.extra['best_of_peak']:.0f} %"
        cells = (
            result.problem.name,
            layer.title,
            _PASS[layer.which],
            str(layer.n),
            f"**{share}**" if reached(result) is False else share,
            f"{result.problem.number('peak'):g} %",
            f"{ours.percent_of_peak:.0f} %",
            "–" if best is None else best.name,
            "–" if result.ratio is None else f"{result.ratio:.2f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return [DIRECT, "\n".join(lines) + "\n"]


def _table(results: Sequence[Result]) -> list[str]:
    lines = [
        "| layer | | pass | n | striate | best peer | | × | to reach | of peak | of copy | error |",
        "|---|---|---|---:|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    return [*lines, *map(_line, results)]


def _line(result: Result) -> str:
    layer, ours, best = Layer.of(result.problem.settings), result.row(OURS), result.best_rival
    name = result.problem.name.partition(".")[2]
    fused = f" + {' + '.join(layer.fused)}" if layer.fused else ""
    head = f"| {name} | {layer.title}{fused} | {_PASS[layer.which]} | {layer.n} "
    if ours is None or ours.seconds is None:
        wrong = "–" if ours is None else f"{ours.error:.0e}"
        return f"{head}| wrong, not timed | | | | | | | {wrong} |"
    goal = result.problem.number("goal")
    rival = ("–", "–") if best is None else (best.name, time_text(best.seconds))
    ratio = "–" if result.ratio is None else f"{result.ratio:.2f}"
    if reached(result) is False:
        ratio = f"**{ratio}**"
    cells = (
        time_text(ours.seconds),
        *rival,
        ratio,
        "–" if goal is None else f"{goal:g}",
        f"{ours.percent_of_peak:.0f} %",
        f"{ours.percent_of_bandwidth:.0f} %",
        f"{ours.error:.0e}",
    )
    return f"{head}| {' | '.join(cells)} |"


DIRECT = """\
### Direct kernels

The same layers without Winograd: how much of the speed of multiply-adds alone the kernels reach.
“Best round” is the fastest round of theirs over the fastest of that loop.
"""
HEAD = """\
## Layers

Every kind of layer of AlexNet, VGG-16, GoogLeNet, ResNet-18 and 50, MobileNet-v2, U-Net, and of
small networks. “×” is the speed of the fastest peer's median times over; in the first table its
median over the layers, the lowest and the highest, and how many reach what they were to reach;
bold in the others: not reached.

A forward pass has fused into it what the table says, and the peers do the same work (torch calls
one function after the other, in place where it can). A gradient is one gradient alone: torch's
`convolution_backward` with only that output asked for. Inputs are where an earlier layer of the
same network would have left them, in each contender's own layout; of striate, what a training step
does to the weights before a gradient is inside the time. ONNX Runtime and OpenVINO get a model of
that one layer, so what they do to change its layout counts against them; torch does not need that.

“Of copy” is the bytes that the pass must move at least (input, weights, output, once each), as a
share of the speed of a copy of as many bytes in the same rounds; “of peak” the share of the
multiply-add loop. Winograd does fewer multiplications than are counted, so it can pass 100 %.

![Every layer's speed over its arithmetic a byte](images/roofline.png)
"""
