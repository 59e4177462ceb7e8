"""Two networks side by side: which layers they share, what each costs, and how far they differ.

Layers are put beside each other as lines of a text are (difflib): first those of one name and
shape, then those that do the same, then those of one kind. Layers of equal shapes are compared in
their numbers too: how far the weights lie apart, and how far the outputs for the same images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.errors import OptionError
from striate.inspect.probe import Probe
from striate.inspect.regions import graph_of
from striate.inspect.summary import Row, Summary, summarize

if TYPE_CHECKING:
    from striate.nn.module import Module

SAME, CHANGED, LEFT, RIGHT = "=", "≠", "<", ">"


@dataclass(frozen=True)
class Distance:
    """How far two arrays lie apart.

    Attributes:
        relative: `‖a − b‖ / ‖a‖`; 0 where they are equal.
        cosine: of the angle between them; 1 where they point the same way.
    """

    relative: float
    cosine: float

    @classmethod
    def of(cls, a: Sequence[ArrayLike], b: Sequence[ArrayLike]) -> Distance:
        """Of arrays that belong together, all numbers laid end to end.

        >>> Distance.of([[3.0, 4.0]], [[3.0, 3.0]]).relative
        0.2
        """
        left, right = (np.concatenate([np.ravel(x) for x in part]).astype(float) for part in (a, b))
        size, other = float(np.linalg.norm(left)), float(np.linalg.norm(right))
        gap = float(np.linalg.norm(left - right))
        if gap == 0:
            return cls(0.0, 1.0)
        cosine = float(left @ right) / (size * other) if size and other else 0.0
        return cls(gap / size if size else float("inf"), cosine)


@dataclass(frozen=True)
class Pair:
    """A layer of the first network beside one of the second, or beside nothing.

    Attributes:
        mark: "=" the same layer with the same output shape; "≠" one of the same kind; "<" only in
            the first network; ">" only in the second.
        a: the layer of the first network.
        b: the layer of the second.
        weights: how far the parameters lie apart; None where there are none, or of other shapes.
        outputs: how far the outputs for the given images lie apart; None without images.
    """

    mark: str
    a: Row | None
    b: Row | None
    weights: Distance | None = None
    outputs: Distance | None = None


@dataclass(frozen=True)
class Comparison:
    """Two networks side by side.

    Attributes:
        a, b: their summaries.
        pairs: the layers, aligned.
        images: how many images the outputs were compared on.
        agreement: the share of images for which both give the same greatest output; None without
            images, or where the outputs differ in shape.
    """

    a: Summary
    b: Summary
    pairs: tuple[Pair, ...]
    images: int = 0
    agreement: float | None = None

    @property
    def same(self) -> bool:
        """Whether both have the same layers with the same shapes."""
        return all(pair.mark == SAME for pair in self.pairs)

    def totals(self) -> dict[str, tuple[Any, Any]]:
        """What the networks cost, and the receptive field of the last layer that has one."""
        keys = ("parameters", "multiply_adds", "activation_bytes", "bytes_moved")
        found: dict[str, tuple[Any, Any]] = {
            key: (getattr(self.a, key), getattr(self.b, key)) for key in keys
        }
        found["layers"] = (len(self.a.rows), len(self.b.rows))
        found["receptive_field"] = (last_field(self.a), last_field(self.b))
        return found

    def text(self, width: int = 100) -> str:
        """The table and the sums in at most `width` columns."""
        from striate.inspect.compare_text import text

        return text(self, width)

    def __str__(self) -> str:
        return self.text()

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON data."""
        return {
            "same": self.same,
            "totals": {key: list(value) for key, value in self.totals().items()},
            "images": self.images,
            "agreement": self.agreement,
            "layers": [
                {
                    "mark": pair.mark,
                    "a": _row(self.a, pair.a),
                    "b": _row(self.b, pair.b),
                    "weights": None if pair.weights is None else vars(pair.weights),
                    "outputs": None if pair.outputs is None else vars(pair.outputs),
                }
                for pair in self.pairs
            ],
        }


def last_field(found: Summary) -> str:
    """The receptive field of the last layer that does not look at everything, as it is said."""
    fields = found.receptive_fields
    if fields is None:
        return "–"
    listed = [f for f in fields.values() if f.reads and not any(f.everywhere) and len(f.shape) > 1]
    return f"{listed[-1].text} (stride {listed[-1].stride_text})" if listed else "all"


def _row(found: Summary, row: Row | None) -> dict[str, Any] | None:
    if row is None:
        return None
    keys = ("name", "layer", "parameters", "multiply_adds", "bytes")
    data = {key: getattr(row, key) for key in keys} | {"shape": list(row.shape)}
    if found.receptive_fields is not None:
        data["receptive_field"] = found.receptive_fields[row.name].numbers()
    return data


def compare(
    a: Module,
    b: Module,
    input_shape: Sequence[Any] | None = None,
    images: Any = None,
    *,
    shape_b: Sequence[Any] | None = None,
    backend: str | None = None,
) -> Comparison:
    """Two networks layer by layer: shapes, costs, receptive fields, weights, outputs.

    Args:
        a: a network.
        b: another.
        input_shape: of one sample, (c, h, w); by default that of the images, else what the
            networks last had; of several inputs a tuple of shapes.
        images: (n, c, h, w) for which to compare the outputs of layers that stand beside each
            other and have the same shape; of several inputs a tuple with a batch of each.
        shape_b: of one sample of the second network where it differs; then no images.
        backend: "native" or "reference".
    Raises:
        OptionError: a shape is not known, or images are given for networks of different inputs.
        ShapeError: a network does not take the shape.

    >>> from striate import nn
    >>> a = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
    >>> b = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3))
    >>> [pair.mark for pair in compare(a, b, (1, 12, 12)).pairs]
    ['=', '=', '>', '≠']
    """
    shape: Any = input_shape
    if shape is None and isinstance(images, tuple):
        shape = tuple(np.shape(one)[1:] for one in images)
    elif shape is None and images is not None:
        shape = np.shape(images)[1:]
    graphs = graph_of(a, shape, "compare"), graph_of(b, shape_b or shape, "compare")
    found = tuple(summarize(graph) for graph in graphs)
    aligned = align(*found)
    weights = _weights(found, aligned, (a.state_dict(), b.state_dict()))
    outputs: list[Distance | None] = [None] * len(aligned)
    agreement, count = None, 0
    if images is not None:
        if found[0].input_shape != found[1].input_shape:
            raise OptionError(
                f"compare: expected networks that take the same images; got inputs of shape "
                f"{found[0].input_shape} and {found[1].input_shape}. Leave out the images."
            )
        outputs, agreement, count = _outputs((a, b), found, aligned, images, backend)
    pairs = [
        Pair(mark, left, right, weight, output)
        for (mark, left, right), weight, output in zip(aligned, weights, outputs, strict=True)
    ]
    return Comparison(found[0], found[1], tuple(pairs), count, agreement)


_Aligned = tuple[str, Row | None, Row | None]


def align(a: Summary, b: Summary) -> list[_Aligned]:
    """The layers of two networks beside each other, with their marks."""
    return _aligned(a.rows, b.rows, _KEYS)


# What makes two layers belong together; each key for what the one before leaves over.
_KEYS: tuple[Callable[[Row], Any], ...] = (
    lambda row: (row.name, row.layer, row.shape),
    lambda row: (row.layer, row.shape),
    lambda row: row.layer.split(" ")[0],
)


def _aligned(
    a: Sequence[Row], b: Sequence[Row], keys: Sequence[Callable[[Row], Any]]
) -> list[_Aligned]:
    if not keys:
        return [(LEFT, x, None) for x in a] + [(RIGHT, None, y) for y in b]
    matcher = SequenceMatcher(None, [*map(keys[0], a)], [*map(keys[0], b)], autojunk=False)
    aligned: list[_Aligned] = []
    for tag, i, j, k, m in matcher.get_opcodes():
        if tag != "equal":
            aligned += _aligned(a[i:j], b[k:m], keys[1:])
            continue
        for x, y in zip(a[i:j], b[k:m], strict=True):
            same = (x.layer, x.shape) == (y.layer, y.shape)
            aligned.append((SAME if same else CHANGED, x, y))
    return aligned


def _weights(
    found: Sequence[Summary],
    aligned: Sequence[_Aligned],
    states: Sequence[Mapping[str, NDArray[np.float32]]],
) -> list[Distance | None]:
    """How far the parameters of layers beside each other lie apart."""
    distances: list[Distance | None] = []
    for _, left, right in aligned:
        if left is None or right is None:
            distances.append(None)
            continue
        own = [
            [states[k][name] for name in _parameters(found[k], row)]
            for k, row in enumerate((left, right))
        ]
        equal = [x.shape for x in own[0]] == [y.shape for y in own[1]]
        distances.append(Distance.of(*own) if own[0] and equal else None)
    return distances


def _parameters(found: Summary, row: Row) -> list[str]:
    """The names of the parameters and running statistics that a layer reads."""
    nodes = found.graph.nodes
    return [n for n in nodes[row.name].inputs if nodes[n].op == "parameter"]


def _outputs(
    nets: tuple[Module, Module],
    found: Sequence[Summary],
    aligned: Sequence[_Aligned],
    images: Any,
    backend: str | None,
) -> tuple[list[Distance | None], float | None, int]:
    """How far the outputs lie apart, layer by layer, and how often the greatest one agrees."""
    probes = [
        Probe(net, own.input_shape, "compare", backend)
        for net, own in zip(nets, found, strict=True)
    ]
    batch = probes[0].batches(images)
    count = probes[0].count(batch)
    if not count:
        raise OptionError("compare: expected at least one image; got none.")
    names = [[row.name for row in own.rows] for own in found]
    values = [probe.values(batch, listed) for probe, listed in zip(probes, names, strict=True)]
    distances: list[Distance | None] = []
    for _, left, right in aligned:
        if left is None or right is None or left.shape != right.shape:
            distances.append(None)
        else:
            distances.append(Distance.of([values[0][left.name]], [values[1][right.name]]))
    ends = [value[probe.output] for probe, value in zip(probes, values, strict=True)]
    if ends[0].shape != ends[1].shape:
        return distances, None, count
    best = [end.reshape(count, -1).argmax(axis=1) for end in ends]
    return distances, float((best[0] == best[1]).mean()), count
