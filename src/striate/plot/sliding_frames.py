"""The arithmetic behind a layer's outputs, one after the other, as an animation shows it.

Which numbers are read and what is summed up comes from the layer's formula, so that stride,
dilation, padding, groups, transposed and locally connected layers and pooling need nothing of
their own. Nothing is drawn here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.errors import ModelError, OptionError
from striate.formula.formula import Formula
from striate.formula.operations import find_operation
from striate.formula.terms import Place, Step, Term
from striate.graph.graph import Node
from striate.inspect.probe import Probe
from striate.nn.module import Module
from striate.plot.page import number

Array = NDArray[np.float64]
LARGEST_INPUT, LARGEST_WINDOW, MOST_TERMS = 512, 15, 2**18
_WHERE = "plot.sliding"


@dataclass(frozen=True)
class Frame:
    """One output and the numbers behind it.

    Attributes:
        at: its place in the layer's output, (o, i, j).
        cells: places that are read, of each channel shown: rows and columns, (channels, kh, kw, 2);
            outside the input they are padding.
        window: the numbers read, (channels, kh, kw); NaN is padding.
        kernel: what they are multiplied by, of the same shape; None where there is no product.
        terms: the terms of the sum or maximum, of the same shape.
        others: the sum of the terms of channels that are not shown.
        total: the sum or maximum of all terms.
        value: the output.
        text: how the total becomes the output, in words.
    """

    at: tuple[int, int, int]
    cells: NDArray[np.int64]
    window: Array
    kernel: Array | None
    terms: Array
    others: float
    total: float
    value: float
    text: str


@dataclass(frozen=True)
class Windows:
    """A layer at work on one input.

    Attributes:
        layer: its name.
        op: its operation.
        formula: as text.
        how: "sum" or "max".
        x: the channels of its input that are shown, (channels, h, w).
        channels: which channels those are.
        hidden: how many others an output reads.
        margin: how many cells of padding there are (above, below, left, right).
        y: the output's channel that is filled in, (oh, ow).
        channel: which that is.
        line: whether the layer is over a line (c, l), drawn as one row.
        frames: outputs in the order of rows, all of them or evenly sampled.
    """

    layer: str
    op: str
    formula: str
    how: str
    x: Array
    channels: tuple[int, ...]
    hidden: int
    margin: tuple[int, int, int, int]
    y: Array
    channel: int
    line: bool
    frames: tuple[Frame, ...] = field(repr=False)


def windows(
    net: Module,
    image: ArrayLike,
    layer: str | None,
    channel: int,
    most_channels: int,
    most_frames: int,
    backend: str | None,
) -> Windows:
    """The frames of a layer for one image; see `plot.sliding`."""
    for name, count in (("channels", most_channels), ("frames", most_frames)):
        if count < 1:
            raise OptionError(f"{_WHERE}: expected {name} from 1; got {name}={count}.")
    array = np.asarray(image, np.float32)
    shape = array.shape[1:] if array.ndim == 4 else array.shape
    probe = Probe(net, shape, _WHERE, backend)
    if len(probe.batch(array)) != 1:
        raise OptionError(f"{_WHERE}: expected one image (c, h, w); got shape {array.shape}.")
    node = _layer(probe, layer)
    formula, tensors, output = _bound(probe, node, array)
    if not 0 <= channel < node.shape[0]:
        raise OptionError(
            f"{_WHERE}: expected a channel from 0 to {node.shape[0] - 1} of {node.name!r}, output "
            f"shape {node.shape}; got channel={channel}."
        )
    steps = _Frames(formula, tensors, channel, most_channels, node)
    places = steps.sampled(most_frames)
    return Windows(
        layer=node.name,
        op=node.operation,
        formula=str(formula),
        how=steps.how,
        x=steps.planes[list(steps.channels)],
        channels=steps.channels,
        hidden=steps.hidden,
        margin=steps.margin(),
        y=_plane(output[channel]),
        channel=channel,
        line=steps.line,
        frames=tuple(steps.frame(place) for place in places),
    )


def _layer(probe: Probe, name: str | None) -> Node:
    """The layer asked for; without a name the only one that slides a window."""
    if name is not None:
        return probe.layer(name)
    sliding = [node for node in probe.graph.steps if _slides(probe, node)]
    if len(sliding) != 1:
        names = ", ".join(node.name for node in sliding) or "none"
        raise ModelError(
            f"{_WHERE}: expected the name of a layer; the network has {len(sliding)} whose outputs "
            f"read a window: {names}."
        )
    return sliding[0]


def _slides(probe: Probe, node: Node) -> bool:
    operation = find_operation(node.op)
    if not operation.has_formula or len(node.shape) not in (2, 3) or operation.is_loss:
        return False
    shapes = [probe.graph.nodes[i].shape for i in node.inputs]
    formula = operation.formula(node.attributes, operation.full_shapes(node.attributes, shapes))
    return len(formula.reduced) >= len(node.shape) - 1


def _bound(
    probe: Probe, node: Node, image: NDArray[np.float32]
) -> tuple[Formula, dict[str, Array], Array]:
    """The layer's formula, the arrays that it reads, and its output for the image."""
    if not _slides(probe, node):
        raise OptionError(
            f"{_WHERE}: expected a layer whose outputs read a window of an input (c, h, w) or "
            f"(c, l), as a convolution or a pooling; {node.name!r} is a {node.operation} of output "
            f"shape {node.shape}."
        )
    leaves = probe.parameters
    wanted = [i for i in node.inputs if i not in leaves]
    values = probe.values(image, [*wanted, node.name])
    arrays = [values[i] if i in values else leaves[i] for i in node.inputs]
    formula, tensors = find_operation(node.op).bind(node.attributes, arrays)
    sides = formula.shapes["x"][2:]
    if max(sides) > LARGEST_INPUT:
        raise OptionError(
            f"{_WHERE}: expected an input of at most {LARGEST_INPUT} pixels a side; that of "
            f"{node.name!r} is {'×'.join(map(str, sides))}. Take a smaller image or a later layer."
        )
    return formula, tensors, np.asarray(values[node.name][0], np.float64)


def _plane(values: Array) -> Array:
    """Rows and columns; a line is one row."""
    return values[np.newaxis] if values.ndim == 1 else values


class _Frames:
    """Reads the frames of one layer off its formula."""

    def __init__(
        self, formula: Formula, tensors: dict[str, Array], channel: int, most: int, node: Node
    ) -> None:
        self.formula, self.tensors, self.channel, self.node = formula, tensors, channel, node
        x = tensors["x"][0]
        self.planes = x if x.ndim == 3 else x[:, np.newaxis]
        self.line = x.ndim == 2
        first = self._reduction(self._explained(self._places()[0]))
        self.how = first.kind
        self.kernel_size = self._kernel_size(first)
        read = list(dict.fromkeys(_read(term, "x").index[1] for term in first.terms))
        self.channels = tuple(c for c in read if 0 <= c < len(self.planes))[:most]
        self.hidden = len(read) - len(self.channels)
        self.multiplies = any(place.tensor == "w" for place in first.terms[0].places)

    def _places(self) -> list[tuple[int, ...]]:
        return list(np.ndindex(*self.node.shape[1:]))

    def sampled(self, most: int) -> list[tuple[int, ...]]:
        """Places of the output in the order of rows, at most so many, evenly spread."""
        places = self._places()
        terms = math.prod(self.formula.sizes[axis] for axis in self.formula.reduced)
        count = max(1, min(most, len(places), MOST_TERMS // terms))
        chosen = np.linspace(0, len(places) - 1, count).astype(int)
        return [places[k] for k in chosen]

    def _explained(self, place: Sequence[int]) -> Step:
        return self.formula.explain((0, self.channel, *place), **self.tensors)

    def _reduction(self, step: Step) -> Step:
        found = step.find("sum") or step.find("max")
        reads = found.terms[0].places if found is not None and found.terms else ()
        axes = found.terms[0].at if found is not None and reads else ()
        if found is None or len(axes) < 2 - self.line or all(p.tensor != "x" for p in reads):
            raise OptionError(
                f"{_WHERE}: expected a layer that sums up, or takes the greatest of, a window of "
                f"its input; {self.node.name!r} is {self.formula}."
            )
        return found

    def _kernel_size(self, first: Step) -> tuple[int, int]:
        sizes = [k + 1 for k in first.terms[-1].at.values()]
        found = (1, sizes[-1]) if self.line else (sizes[-2], sizes[-1])
        if max(found) > LARGEST_WINDOW:
            raise OptionError(
                f"{_WHERE}: expected a window of at most {LARGEST_WINDOW} a side; that of "
                f"{self.node.name!r} is {found[0]}×{found[1]}."
            )
        return found

    def margin(self) -> tuple[int, int, int, int]:
        """The cells of padding above, below, left and right that some output reads."""
        last = tuple(n - 1 for n in self.node.shape[1:])
        sides = []
        for axis, size in enumerate(self.tensors["x"].shape[2:], start=2):
            ends = [
                self.formula.region("x", (0, self.channel, *place))[axis]
                for place in ((0,) * len(last), last)
            ]
            reach = max(self.kernel_size)
            sides += [
                min(max(0, -min(low for low, _ in ends)), reach),
                min(max(0, max(high for _, high in ends) - size + 1), reach),
            ]
        above, below, left, right = sides if len(sides) == 4 else (0, 0, *sides)
        return above, below, left, right

    def frame(self, place: tuple[int, ...]) -> Frame:
        step = self._explained(place)
        found = self._reduction(step)
        shape = (len(self.channels), *self.kernel_size)
        cells = np.full((*shape, 2), -(10**6), np.int64)
        window, terms = np.full(shape, np.nan), np.zeros(shape)
        kernel = np.zeros(shape) if self.multiplies else None
        others = 0.0
        for term, at in self._located(found.terms):
            if at is None:
                others += term.value
                continue
            read = _read(term, "x")
            cells[at] = (0, read.index[2]) if self.line else read.index[2:]
            window[at] = read.value if read.inside else np.nan
            terms[at] = term.value
            if kernel is not None:
                kernel[at] = _read(term, "w").value
        row, column = (0, *place) if self.line else place
        return Frame(
            at=(self.channel, row, column),
            cells=cells, window=window, kernel=kernel, terms=terms, others=others,
            total=found.value, value=step.value, text=_told(step, found),
        )  # fmt: skip

    def _located(self, terms: Sequence[Term]) -> Iterator[tuple[Term, tuple[int, int, int] | None]]:
        """Each term and where it lies in the window; None where its channel is not shown."""
        for term in terms:
            runs = tuple(term.at.values())
            row, column = (0 if self.line else runs[-2]), runs[-1]
            channel = _read(term, "x").index[1]
            shown = channel in self.channels
            yield term, (self.channels.index(channel), row, column) if shown else None


def _read(term: Term, tensor: str) -> Place:
    return next(place for place in term.places if place.tensor == tensor)


def _told(step: Step, found: Step) -> str:
    """How the sum or maximum becomes the output."""
    if step is found:
        return ""
    if step.kind == "add":
        reads = [part for part in step.parts if part.kind == "read"]
        if len(reads) == 1 and len(step.parts) == 2:
            return f"+ bias {number(reads[0].value)}"
    if step.kind == "div" and step.parts[0] is found:
        return f"/ {number(step.parts[1].value)}"
    return f"then {step.text}" if len(step.text) < 40 else "then the rest of the formula"
