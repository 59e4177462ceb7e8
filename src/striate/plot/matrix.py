"""Linear layers as matrices: Toeplitz, doubly block Toeplitz, and what stride makes of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from striate.errors import OptionError
from striate.inspect import matrix as inspect_matrix
from striate.plot.page import MARGIN, MUTED, RULE, SIGNED, Page, number, plain, styled, text_width

if TYPE_CHECKING:
    from striate.nn.module import Module

Array = NDArray[np.float64]
_WIDTH, _HEIGHT, _HEAD, _NAMES, _GAP, _BELOW, _SIDE = 7.4, 6.0, 0.62, 0.5, 0.45, 0.62, 0.28
_CELL, _LEAST, _MOST_PIXELS, _MOST_LINES = 0.16, 1.0, 1200, 64


@dataclass(frozen=True)
class _Panel:
    name: str
    values: Array  # (rows, columns): outputs by inputs, or what of them fits
    limit: float
    low: float
    high: float
    entries: int
    size: tuple[int, int]
    blocks: tuple[tuple[int, ...], tuple[int, ...]]  # shapes of output and input


@styled
def matrix(
    layers: Module | Mapping[str, tuple[Module, Sequence[int]]],
    shape: Sequence[int] | None = None,
    *,
    node: str | None = None,
    title: str = "",
    under: str = "",
) -> Figure:
    """The matrix A of a linear layer, `y.ravel() = A @ x.ravel() + b`, as a picture.

    A row for each number of the output, a column for each of the input; red above 0, blue below,
    white where nothing is read. Grey lines part the rows of images and, stronger, channels. Of a
    matrix larger than the picture each dot shows the entry of greatest magnitude below it.

    Args:
        layers: a layer or network that is linear; or for each name a pair of such a layer and the
            shape of its sample.
        shape: of one sample, (c, h, w), for a single layer.
        node: one step of a network.
        title: the headline.
        under: a muted line under it.
    Returns:
        The figure.
    Raises:
        OptionError: a layer is not linear, or its shape is missing; SciPy is not installed.

    >>> from striate import nn
    >>> figure = matrix(nn.Conv2d(1, 1, 3), (1, 6, 6))
    """
    if isinstance(layers, Mapping):
        if not layers:
            raise OptionError("plot.matrix: expected at least one layer; got none.")
        panels = [_panel(name, *pair, None) for name, pair in layers.items()]
    else:
        panels = [_panel("", layers, shape, node)]
    cell = _cell(panels)
    widths = [max(p.values.shape[1] * cell, _LEAST) for p in panels]
    heights = [p.values.shape[0] * cell for p in panels]
    width = sum(widths) + (_SIDE + _GAP) * len(panels) - _GAP
    top = MARGIN + _HEAD + (_NAMES if panels[0].name else 0.22)
    page = Page(max(width, 4.6) + 2 * MARGIN, top + max(heights) + _BELOW + MARGIN)
    page.title(title or "A layer as a matrix", under or "y = A·x + b on flattened samples")
    x = MARGIN
    for panel, wide in zip(panels, widths, strict=True):
        _draw(page, panel, (x + _SIDE, top), cell)
        x += wide + _SIDE + _GAP
    return page.figure


def _panel(name: str, layer: Module, shape: Sequence[int] | None, node: str | None) -> _Panel:
    found, _ = inspect_matrix(layer, shape, node=node)
    sparse = found.tocoo()
    values = sparse.data if sparse.nnz else np.zeros(1)
    outputs, inputs = _shapes(layer, shape, node)
    return _Panel(
        name,
        _shrunk(sparse),
        float(np.abs(values).max()) or 1.0,
        float(values.min()),
        float(values.max()),
        int(sparse.nnz),
        (int(sparse.shape[0]), int(sparse.shape[1])),
        (outputs, inputs),
    )


def _shapes(
    layer: Module, shape: Sequence[int] | None, node: str | None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shapes of output and input."""
    graph = layer.to_graph(tuple(shape or layer.last_input_shape or ()))
    if node is None:
        return graph.nodes[graph.outputs[0]].shape, graph.inputs[0].shape
    step = graph.nodes[node]
    source = next(i for i in step.inputs if graph.nodes[i].batched)
    return step.shape, graph.nodes[source].shape


def _shrunk(sparse: Any) -> Array:
    """A sparse matrix as a dense one of at most so many dots, each the greatest below it."""
    rows, columns = sparse.shape
    factor = math.ceil(max(rows, columns) / _MOST_PIXELS)
    dense = np.zeros((math.ceil(rows / factor), math.ceil(columns / factor)))
    order = np.argsort(np.abs(sparse.data), kind="stable")  # the greatest is written last
    dense[sparse.row[order] // factor, sparse.col[order] // factor] = sparse.data[order]
    return dense


def _cell(panels: Sequence[_Panel]) -> float:
    """The side of a dot in inches, the same in all panels."""
    columns = sum(p.values.shape[1] for p in panels)
    room = _WIDTH - (_SIDE + _GAP) * len(panels) + _GAP
    rows = max(p.values.shape[0] for p in panels)
    return float(min(_CELL, room / columns, _HEIGHT / rows))


def _draw(page: Page, panel: _Panel, corner: tuple[float, float], cell: float) -> None:
    x, top = corner
    rows, columns = panel.values.shape
    size = (columns * cell, rows * cell)
    if panel.name:
        page.text(x, top - 0.3, plain(panel.name), size=8.5, weight="bold")
    share = panel.entries / (panel.size[0] * panel.size[1])
    note = f"{panel.entries:,} of {panel.size[0] * panel.size[1]:,} entries ({100 * share:.3g} %)"
    page.text(x, top - 0.12, note, size=7, color=MUTED)
    image = page.picture(
        corner, size, panel.values, -panel.limit, panel.limit, SIGNED.with_extremes(bad="white")
    )
    scale = (rows / panel.size[0], columns / panel.size[1])
    _draw_blocks(page, panel, corner, (cell * scale[0], cell * scale[1]))
    inputs, outputs = (_said(shape) for shape in (panel.blocks[1], panel.blocks[0]))
    page.text(x, top + size[1] + 0.15, f"inputs {inputs} →", size=7.5, color=MUTED)
    how: dict[str, Any] = {"rotation": 90, "va": "top", "ha": "right", "color": MUTED}
    label = f"← outputs {outputs}"
    if text_width(label, 7.5) > size[1]:
        label = outputs
    page.text(x - 0.07, top, label, size=7.5, **how)
    page.scale(x + 0.1, top + size[1] + 0.28, 0.9, image)
    span = f"{number(panel.low)} … {number(panel.high)}"
    page.text(x + 1.15, top + size[1] + 0.36, span, size=7, color=MUTED)


def _said(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


def _draw_blocks(
    page: Page, panel: _Panel, corner: tuple[float, float], cell: tuple[float, float]
) -> None:
    """Lines between the rows of the images, and stronger ones between channels."""
    (outputs, inputs), (x, y) = panel.blocks, corner
    height, width = panel.size[0] * cell[0], panel.size[1] * cell[1]
    for shape, along, across in ((outputs, cell[0], width), (inputs, cell[1], height)):
        for block, strong in ((shape[-1], False), (math.prod(shape[1:]), True)):
            count = math.prod(shape) // max(block, 1)
            if len(shape) < 2 or count > _MOST_LINES or block < 2:
                continue
            thick = 0.012 if strong else 0.006
            colour = MUTED if strong else RULE
            for k in range(1, count):
                at = k * block * along - thick / 2
                if shape is outputs:
                    page.bar((x, y + at), (across, thick), colour)
                else:
                    page.bar((x + at, y), (thick, across), colour)
