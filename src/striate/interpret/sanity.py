"""Does a map depend on what the network has learned? Weights are randomised, maps compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.errors import OptionError, ShapeError, suggest
from striate.filters import apply, gaussian
from striate.graph.graph import Graph
from striate.graph.statistics import buffers
from striate.inspect.one_input import OneInput
from striate.inspect.probe import Probe
from striate.interpret.target import Float32, Target, look_at
from striate.nn.graph_module import GraphModule
from striate.nn.module import Module
from striate.random import key_of

Float64 = NDArray[np.float64]
Method = Callable[..., Any]
MODES = ("cascading", "independent")
_K1, _K2, _WINDOW, _SIGMA = 0.01, 0.03, 11, 1.5


@dataclass(frozen=True, eq=False)
class Randomization:
    """How alike maps are before and after weights were randomised: 1 is the same, 0 unrelated.

    A number is nan where one of the two maps is constant.

    Attributes:
        layers: the layers, in the order in which they were randomised, from the output back.
        rank: rank correlation of the maps' numbers, (layers, n).
        rank_of_magnitudes: the same of their magnitudes, (layers, n).
        ssim: structural similarity of their magnitudes, (layers, n).
        maps: the map as it was, and after each of the layers, (1 + layers, n, …).
        mode: "cascading" or "independent".
    """

    layers: tuple[str, ...]
    rank: Float64
    rank_of_magnitudes: Float64
    ssim: Float64
    maps: Float32
    mode: str

    def text(self) -> str:
        """A table: a row for each layer, means over the images."""
        width = max(len(name) for name in ("randomised", *self.layers))
        told = "up to here" if self.mode == "cascading" else "alone"
        lines = [f"{'randomised':<{width}}  rank corr.  of magnitudes    SSIM   ({told})"]
        for k, name in enumerate(self.layers):
            parts = (self.rank[k], self.rank_of_magnitudes[k], self.ssim[k])
            numbers = [_mean(part) for part in parts]
            lines.append(
                f"{name:<{width}}  {numbers[0]:>10.2f}  {numbers[1]:>13.2f}  {numbers[2]:>6.2f}"
            )
        return "\n".join(lines)


def randomization_test(
    net: Module | OneInput,
    x: ArrayLike,
    method: Method,
    target: Any = None,
    *,
    layer: str | None = None,
    mode: str = "cascading",
    layers: Sequence[str] | None = None,
    seed: int = 0,
    backend: str | None = None,
    **options: Any,
) -> Randomization:
    """Randomise the weights layer by layer, and tell how much the map changes.

    A map that stays as it was does not show what the network has learned. The weights of a layer
    are drawn anew, normal with their own mean and standard deviation, in a copy of the network.

    Args:
        net: the network; it is left as it is.
        x: images (n, c, h, w), or one (c, h, w).
        method: what makes the map: called as method(net, x, target, …), as those of
            `striate.interpret` are.
        target: which number, chosen on the network as it is: see `striate.interpret.target`.
        layer: the layer that it lies in.
        mode: "cascading" randomises from the last layer back to the first, one after the other;
            "independent" one layer at a time, the others as they are.
        layers: those to randomise, in this order; by default all with weights that the target
            depends on, from the last to the first.
        seed: of the weights.
        backend: "native" or "reference".
        options: further arguments of the method.
    Returns:
        Similarities for each layer and image, and the maps.
    Raises:
        ModelError: there is no such layer.
        OptionError: a layer without weights, another mode, or a method that is none.
    Source: J. Adebayo, J. Gilmer, M. Muelly, I. Goodfellow, M. Hardt, B. Kim: Sanity checks for
        saliency maps. 2018, arXiv:1810.03292.

    >>> from striate import interpret, nn
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    >>> x = np.random.default_rng(0).normal(size=(2, 1, 8, 8))
    >>> found = randomization_test(net, x, interpret.saliency)
    >>> found.layers, found.rank.shape, found.maps.shape
    (('3', '0'), (2, 2), (3, 2, 1, 8, 8))
    """
    where = "randomization_test"
    if mode not in MODES:
        raise OptionError(f"{where}: unknown mode={mode!r}. {suggest(str(mode), MODES)}")
    if not callable(method):
        raise OptionError(
            f"{where}: expected a method, as interpret.saliency; got {type(method).__name__}."
        )
    key_of(seed)
    probe, batch = look_at(where, net, x, backend)
    aim = Target(probe, target, count=len(batch), layer=layer)
    places = [tuple(place) for place in aim.resolved(batch).tolist()]
    chosen = _chosen(probe, layered_weights(probe.graph, aim.layer), layers)
    given: dict[str, Any] = {**options, "backend": backend} if backend else dict(options)
    if layer is not None:
        given["layer"] = layer

    copy = copied(probe)
    arrays = copy.graph_arrays(copy.graph)
    seen = copy if probe.one is None else probe.one.of(copy)

    def made() -> Float32:
        return np.array(method(seen, batch, places, **given), np.float32)

    maps = [made()]
    for parameters in chosen.values():
        for name in parameters:
            arrays[name][...] = _redrawn(probe.parameters[name], name, seed)
        maps.append(made())
        if mode == "independent":
            for name in parameters:
                arrays[name][...] = probe.parameters[name]
    return _compared(tuple(chosen), np.stack(maps), mode)


def layered_weights(graph: Graph, layer: str) -> dict[str, list[str]]:
    """Layers and the names of their own parameters, from `layer` back to the input.

    A parameter that several layers share belongs to the last of them; running statistics are none.
    """
    running, taken = buffers(graph), set()
    found: dict[str, list[str]] = {}
    for node in reversed(graph.pruned([layer]).steps):
        if not node.batched:
            continue
        own, ahead = [], list(node.inputs)
        while ahead:
            name = ahead.pop(0)
            inner = graph.nodes[name]
            if inner.batched or name in running or name in taken:
                continue
            taken.add(name)
            if inner.op == "parameter":
                own.append(name)
            ahead += inner.inputs
        if own:
            found[node.name] = own
    return found


def copied(probe: Probe) -> GraphModule:
    """A copy of the network with arrays of its own."""
    running = buffers(probe.graph)
    held = {node.name: np.array(probe.parameters[node.name]) for node in probe.graph.parameters}
    learned = {name: array for name, array in held.items() if name not in running}
    return GraphModule(probe.graph, learned, buffers={name: held[name] for name in running})


def _chosen(
    probe: Probe, known: dict[str, list[str]], layers: Sequence[str] | None
) -> dict[str, list[str]]:
    if layers is None:
        layers = list(known)
    for name in layers:
        probe.layer(name)  # refuses what is none
        if name not in known:
            raise OptionError(
                f"{probe.where}: expected layers with weights that the target depends on; got "
                f"{name!r}. {suggest(name, known)}"
            )
    if not layers:
        raise OptionError(f"{probe.where}: expected a network with weights; got none.")
    return {name: known[name] for name in layers}


def _redrawn(array: Float32, name: str, seed: int) -> Float32:
    """Normal numbers with the mean and the deviation of an array; the same in either mode."""
    random = np.random.default_rng((seed, *name.encode()))
    mean, deviation = float(array.mean()), float(array.std())
    return np.asarray(random.normal(mean, deviation, array.shape), np.float32)


# ---- how alike two maps are ------------------------------------------------------------------


def _compared(layers: tuple[str, ...], maps: Float32, mode: str) -> Randomization:
    before = maps[0]
    pairs = [(before, after) for after in maps[1:]]

    def table(measure: Callable[[Any, Any], float], *, magnitudes: bool) -> Float64:
        view = np.abs if magnitudes else np.asarray
        rows = [[measure(view(a), view(b)) for a, b in zip(*p, strict=True)] for p in pairs]
        return np.array(rows, np.float64).reshape(len(pairs), len(before))

    return Randomization(
        layers,
        table(rank_correlation, magnitudes=False),
        table(rank_correlation, magnitudes=True),
        table(lambda a, b: ssim(_plane(a), _plane(b)), magnitudes=True),
        maps,
        mode,
    )


def _plane(magnitudes: Float64) -> Float64:
    """A map (c, …, w) of magnitudes as one plane with greatest value 1."""
    total = magnitudes.sum(axis=0, dtype=np.float64)
    plane: Float64 = total.reshape(-1, total.shape[-1]) / (total.max() or 1.0)
    return plane


def rank_correlation(a: ArrayLike, b: ArrayLike) -> float:
    """Spearman's rank correlation of two arrays; equal numbers share their mean rank.

    Returns:
        From −1 to 1; nan where all numbers of an array are equal.

    >>> rank_correlation([1, 2, 3], [1, 10, 100]), rank_correlation([1, 2], [5, 5])
    (1.0, nan)
    """
    ranks = [_ranks(np.ravel(np.asarray(each))) for each in (a, b)]
    if ranks[0].shape != ranks[1].shape:
        raise ShapeError(
            f"rank_correlation: expected arrays of one size; got shapes {np.shape(a)} and "
            f"{np.shape(b)}."
        )
    centred = [each - each.mean() for each in ranks]
    scale = float(np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum()))
    if scale == 0:
        return float("nan")
    return float((centred[0] * centred[1]).sum() / scale)


def _ranks(values: NDArray[Any]) -> Float64:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    ranks: Float64 = (last - (count - 1) / 2)[place.reshape(-1)]
    return ranks


def ssim(a: ArrayLike, b: ArrayLike) -> float:
    """Structural similarity of two planes of numbers in [0, 1], the mean over all places.

    `(2 μa μb + c1)(2 σab + c2) / ((μa² + μb² + c1)(σa² + σb² + c2))` with c1 = 0.01², c2 = 0.03²,
    mean, variance and covariance under a Gaussian window of 11×11 with σ = 1.5.

    Args:
        a: (h, w).
        b: (h, w).
    Returns:
        1 for equal planes; about 0 for unrelated ones.
    Raises:
        ShapeError: two shapes, or no planes.
    Source: Z. Wang, A. C. Bovik, H. R. Sheikh, E. P. Simoncelli: Image quality assessment: from
        error visibility to structural similarity. IEEE TIP 13(4), 2004.

    >>> ssim(np.eye(16), np.eye(16))
    1.0
    """
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if x.shape != y.shape or x.ndim != 2 or not x.size:
        raise ShapeError(
            f"ssim: expected two planes (h, w) of one shape; got shapes {x.shape} and {y.shape}."
        )
    stack = np.stack([x, y, x * x, y * y, x * y])
    mx, my, xx, yy, xy = apply(stack, gaussian(_SIGMA, _WINDOW)).astype(np.float64)
    c1, c2 = _K1**2, _K2**2
    above = (2 * mx * my + c1) * (2 * (xy - mx * my) + c2)
    below = (mx**2 + my**2 + c1) * (xx - mx**2 + yy - my**2 + c2)
    return float((above / below).mean())


def _mean(values: Float64) -> float:
    """The mean without nan; nan where there is nothing else."""
    kept = values[~np.isnan(values)]
    return float(kept.mean()) if kept.size else float("nan")
