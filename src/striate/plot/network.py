"""A network as a drawing: boxes for layers, lines for what flows between them, with its shapes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch
from matplotlib.path import Path

from striate.graph.graph import Graph, Node
from striate.inspect.regions import graph_of
from striate.inspect.summary import Row, summarize
from striate.inspect.summary_text import brief, shape_text
from striate.plot.network_layout import Layout, layout, ranks, split
from striate.plot.page import FAINT, INK, MARGIN, MUTED, Page, plain, styled, text_width

if TYPE_CHECKING:
    from striate.nn.module import Module

_HEAD, _UNDER, _LEGEND = 0.38, 0.24, 0.34
_TALL, _FLAT = 0.38, 0.24  # heights of a box with and without a name
_DOWN, _STUB = 0.36, 0.13  # between rows; how far lines go straight below a box, beside the shape
_BIG, _SMALL = 7.5, 6.2  # sizes of text
_COLUMN, _GUTTER = 9.5, 0.55  # the height from which a drawing is cut, and between columns
_MOST_COLUMNS, _LOWER = 8, 0.85  # one column more must make it at least so much lower,
_WIDE = 1.5  # and not wider than so many times its height

# What a box may be: (kind, fill, edge, how the names of its operations begin or what they hold).
_KINDS = (
    ("pooling", "#fbe3d3", "#d08a5c", ("pool", "subsample")),
    ("normalisation", "#e6e9ee", "#9aa5b4", ("norm",)),
    ("convolution", "#d6e6f4", "#6f9fcc", ("conv", "local", "tiled")),
    ("fully connected", "#e5dcf1", "#a184c9", ("linear", "dense", "einsum", "rbf", "embedding")),
    ("join", "#d7ecdb", "#6fae80", ("concat", "broadcast_map")),
    ("activation", "#fbf2c8", "#cdb24a", ("map", "softmax", "glu", "channel_map")),
)
_REST = ("rearranging", "#f1efea", "#b5ae9f")
_LEAF = ("input", "#ffffff", INK)
_SHORT = {
    "batch_norm": "bn",
    "local_response_norm": "lrn",
    "(x + y)": "add",
    "(x · y)": "multiply",
    "(x · p)": "scale",
    "(x + p)": "shift",
}


@dataclass
class _Item:
    """A box: the nodes that it stands for, its words and its size."""

    nodes: list[Node]
    label: str
    kind: tuple[str, str, str]
    name: str = ""
    more: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return " + ".join([self.label, *self.more])

    @property
    def shape(self) -> str:
        return shape_text(self.nodes[-1].shape)

    @property
    def size(self) -> tuple[float, float]:
        width = max(text_width(self.text, _BIG, "bold"), text_width(self.name, _SMALL))
        return max(0.6, width + 0.2), _TALL if self.name else _FLAT


@styled
def network(
    net: Module | Graph,
    input_shape: Sequence[int] | None = None,
    *,
    fold: bool = True,
    names: bool = True,
    columns: int | None = None,
    title: str = "",
    under: str = "",
) -> Figure:
    """A network's graph from top to bottom: branches side by side, lines past boxes in lanes.

    Args:
        net: a network or a graph.
        input_shape: of one sample, (c, h, w); by default the one it last had.
        fold: draw a layer and the normalisation, activation and dropout after it as one box.
        names: write the layers' names under what they do.
        columns: into how many columns a long drawing is cut; by default as its height asks for.
        title: the headline.
        under: a muted line under it.
    Returns:
        The figure.
    Raises:
        OptionError: the shape is not known.
    Source: Sugiyama, Tagawa & Toda, Methods for visual understanding of hierarchical system
    structures (1981), for the layout.
    """
    graph = graph_of(net, input_shape, "plot.network")
    items = _items(graph, fold, names)
    lines = _lines(items)
    sizes = {key: item.size for key, item in items.items()}
    if columns is None:
        columns = _columns(sizes, lines)
    parts = [_Part(items, lines, keys) for keys in split(sizes, lines, columns)]
    legend = list(dict.fromkeys(item.kind for item in items.values() if item.kind != _LEAF))
    body = sum(part.layout.width for part in parts) + _GUTTER * (len(parts) - 1)
    heading = max(text_width(title, 12, "bold"), text_width(under), _legend_width(legend))
    top = MARGIN + (_HEAD + (_UNDER if under else 0.0) if title else 0.0)
    tallest = max(part.layout.height for part in parts)
    width = 2 * MARGIN + max(body, heading, 2.4)
    page = Page(width, top + _LEGEND + tallest + 0.3 + MARGIN)
    if title:
        page.title(plain(title), plain(under))
    _draw_legend(page, legend, top)
    _draw_parts(page, parts, top + _LEGEND, (page.width - body) / 2)
    return page.figure


def _columns(sizes: dict[str, tuple[float, float]], lines: Sequence[tuple[str, str]]) -> int:
    """As many columns as keep the drawing's height, as long as one more makes it much lower."""
    rank, before = ranks(sizes, lines), math.inf
    width = layout(sizes, lines).width + _GUTTER
    for count in range(1, _MOST_COLUMNS + 1):
        parts = split(sizes, lines, count)
        rows = max(rank[part[-1]] - rank[part[0]] + 1 for part in parts)
        height = rows * (_TALL + _DOWN)
        if rows > _LOWER * before or (count > 1 and count * width > _WIDE * height):
            return count - 1
        if height <= _COLUMN:
            return count
        before = rows
    return _MOST_COLUMNS


# ---- boxes and lines -----------------------------------------------------------------------------


def _items(graph: Graph, fold: bool, names: bool) -> dict[str, _Item]:
    """The boxes by the name of the last node in each, in order of computation."""
    rows = {row.name: row for row in summarize(graph).rows}
    inputs = graph.inputs
    items = {i.name: _Item([i], "input" if len(inputs) == 1 else i.name, _LEAF) for i in inputs}
    readers: dict[str, int] = {}
    for node in graph.steps:
        for name in dict.fromkeys(_data(graph, node)):
            readers[name] = readers.get(name, 0) + 1
    for node in graph.steps:
        come = _data(graph, node)
        if not come:
            continue  # a step on weights alone
        label = _label(rows[node.name])
        before = items.get(come[0])
        joins = fold and len(come) == 1 and readers[come[0]] == 1 and _folds(node)
        if joins and before is not None and before.kind != _LEAF and come[0] not in graph.outputs:
            del items[come[0]]
            before.nodes.append(node)
            before.more.append(label)
            items[node.name] = before
        else:
            items[node.name] = _Item([node], label, _kind(graph, node), node.name if names else "")
    return items


def _data(graph: Graph, node: Node) -> list[str]:
    """The inputs of a node that come from the network's input."""
    return [n for n in node.inputs if graph.nodes[n].op != "parameter" and graph.nodes[n].batched]


def _folds(node: Node) -> bool:
    elementwise = ("map", "channel_map", "broadcast_map", "dropout")
    return node.op in elementwise or node.op.endswith("_norm")


def _kind(graph: Graph, node: Node) -> tuple[str, str, str]:
    if len(_data(graph, node)) > 1 and node.op in ("map", "concat", "broadcast_map"):
        return next(kind[:3] for kind in _KINDS if kind[0] == "join")
    if node.op == "broadcast_map":  # one tensor and numbers: like an activation
        return next(kind[:3] for kind in _KINDS if kind[0] == "activation")
    return next((kind[:3] for kind in _KINDS if any(w in node.op for w in kind[3])), _REST)


def _label(row: Row) -> str:
    words = brief(row.layer)
    for long, short in (
        ("adaptive_", "adaptive "),
        ("_pool2d", " pool"),
        ("_pool", " pool"),
        ("conv_transpose", "conv-T"),
    ):
        words = words.replace(long, short)
    words = _SHORT.get(words, words)
    return words if len(words) <= 40 else words[:39] + "…"


def _lines(items: dict[str, _Item]) -> list[tuple[str, str]]:
    """From box to box."""
    box_of = {node.name: key for key, item in items.items() for node in item.nodes}
    return [
        (box_of[name], key)
        for key, item in items.items()
        for name in item.nodes[0].inputs
        if name in box_of
    ]


# ---- drawing -------------------------------------------------------------------------------------


class _Part:
    """One column: its boxes, and a dot where it goes on from the column before."""

    def __init__(
        self, items: dict[str, _Item], lines: Sequence[tuple[str, str]], keys: Sequence[object]
    ) -> None:
        self.items = {str(key): items[str(key)] for key in keys}
        outside = dict.fromkeys(a for a, b in lines if b in self.items and a not in self.items)
        self.entry = next(iter(outside), None)
        sizes = {self.entry: (0.08, 0.0)} if self.entry is not None else {}
        sizes |= {key: item.size for key, item in self.items.items()}
        self.layout: Layout = layout(
            sizes, [x for x in lines if x[1] in self.items], down=_DOWN, stub=_STUB
        )
        self.last = list(self.items)[-1]


def _draw_parts(page: Page, parts: Sequence[_Part], top: float, left: float) -> None:
    tail: tuple[float, float] | None = None
    for number, part in enumerate(parts):
        found = part.layout
        for (_, to), points in found.lines.items():
            _draw_line(page, [(left + x, top + y) for x, y in points], arrow=to in part.items)
        for key, item in part.items.items():
            x, y = found.boxes[key]
            _draw_box(page, item, (left + x, top + y))
            _draw_shape(page, item, (left + x, top + y + item.size[1] / 2))
        if tail is not None and part.entry is not None:
            x, y = found.boxes[part.entry]
            _draw_connector(page, tail, (left + x, top + y), left - _GUTTER / 2)
        x, y = found.boxes[part.last]
        bottom = y + part.items[part.last].size[1] / 2
        tail = (left + x, top + bottom)
        if number == len(parts) - 1:
            _draw_line(page, [tail, (tail[0], tail[1] + 0.2)], arrow=True)
        left += found.width + _GUTTER


def _draw_box(page: Page, item: _Item, centre: tuple[float, float]) -> None:
    (x, y), (width, height) = centre, item.size
    corner = 0.06 if item.name or item.kind == _LEAF else height / 2
    page.sheet.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - height / 2),
            width,
            height,
            boxstyle=f"round,pad=0,rounding_size={corner}",
            facecolor=item.kind[1],
            edgecolor=item.kind[2],
            linewidth=0.8,
            zorder=3,
        )
    )
    _draw_words(page, item, x, y - (0.075 if item.name else 0.0))
    if item.name:
        page.text(x, y + 0.09, plain(item.name), size=_SMALL, color=MUTED, ha="center", va="center")


def _draw_words(page: Page, item: _Item, x: float, y: float) -> None:
    """What the layer does in bold, what was folded into it not."""
    if not item.more:
        page.text(x, y, plain(item.label), size=_BIG, weight="bold", ha="center", va="center")
        return
    more = " ".join(f"+ {word}" for word in item.more)
    bold = text_width(item.label, _BIG, "bold")
    between = x + (bold - text_width(more, _BIG)) / 2  # where the one ends and the other begins
    page.text(
        between - 0.03, y, plain(item.label), size=_BIG, weight="bold", ha="right", va="center"
    )
    page.text(between + 0.03, y, plain(more), size=_BIG, va="center")


def _draw_shape(page: Page, item: _Item, below: tuple[float, float]) -> None:
    """What comes out of a box, beside the line under it."""
    page.text(
        below[0] - 0.05,
        below[1] + 0.075,
        item.shape,
        size=_SMALL,
        color=MUTED,
        ha="right",
        va="center",
    )


def _draw_line(page: Page, points: Sequence[tuple[float, float]], arrow: bool) -> None:
    """Straight where x stays, bent where it changes; an arrowhead at its end."""
    vertices, codes = [points[0]], [Path.MOVETO]
    for (xa, ya), (xb, yb) in itertools.pairwise(points):
        if xa == xb:
            vertices.append((xb, yb))
            codes.append(Path.LINETO)
        else:
            half = (ya + yb) / 2
            vertices += [(xa, half), (xb, half), (xb, yb)]
            codes += [Path.CURVE4] * 3
    page.sheet.add_patch(
        PathPatch(Path(vertices, codes), facecolor="none", edgecolor=MUTED, linewidth=0.9, zorder=1)
    )
    if arrow:
        _draw_head(page, points[-1])


def _draw_head(page: Page, tip: tuple[float, float]) -> None:
    (x, y), side = tip, 0.035
    shape = Path([(x, y), (x - side, y - 2 * side), (x + side, y - 2 * side), (x, y)])
    page.sheet.add_patch(PathPatch(shape, facecolor=MUTED, edgecolor="none", zorder=2))


def _draw_connector(
    page: Page, start: tuple[float, float], end: tuple[float, float], gutter: float
) -> None:
    """From the foot of a column to the head of the next, between the two."""
    low, high = start[1] + 0.22, end[1] - 0.12
    corners = [start, (start[0], low), (gutter, low), (gutter, high), (end[0], high), end]
    page.sheet.add_patch(
        PathPatch(
            Path(corners),
            facecolor="none",
            edgecolor=FAINT,
            linewidth=0.9,
            joinstyle="round",
            zorder=1,
        )
    )


def _legend_width(kinds: Sequence[tuple[str, str, str]]) -> float:
    return sum(text_width(kind[0], _BIG) + 0.38 for kind in kinds)


def _draw_legend(page: Page, kinds: Sequence[tuple[str, str, str]], top: float) -> None:
    x = MARGIN
    for kind, fill, edge in kinds:
        page.bar((x, top + 0.02), (0.13, 0.1), fill, edgecolor=edge, linewidth=0.8)
        page.text(x + 0.19, top + 0.075, kind, size=_BIG, color=MUTED, va="center")
        x += text_width(kind, _BIG) + 0.38
