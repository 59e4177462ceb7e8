"""Cases of the convolution family: true, transposed, locally connected, tiled; pad and permute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Case = tuple[str, dict[str, Any], list[NDArray[Any]]]


def normal(*shapes: tuple[int, ...]) -> list[NDArray[Any]]:
    rng = np.random.default_rng(sum(sum(shape) for shape in shapes))
    return [rng.normal(size=shape) for shape in shapes]


def conv(rank: int, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1) -> Any:
    """A convolution's attributes; a number counts for every axis, a pair of padding too."""
    sides = [padding, padding] if isinstance(padding, int) else padding
    each = sides if isinstance(sides[0], (list, tuple)) else [sides] * rank
    return {
        "stride": [stride] * rank if isinstance(stride, int) else list(stride),
        "padding": [list(side) for side in each],
        "dilation": [dilation] * rank if isinstance(dilation, int) else list(dilation),
        "groups": groups,
    }


def transposed(rank: int, more: Any = 0, **settings: Any) -> Any:
    extra = [more] * rank if isinstance(more, int) else list(more)
    return {**conv(rank, **settings), "output_padding": extra}


def _true_cases() -> dict[str, Case]:
    return {
        "true conv": (
            "true_conv2d",
            conv(2, (1, 2), ((1, 2), (0, 1)), (2, 1)),
            normal((2, 3, 7, 6), (4, 3, 3, 2), (4,)),
        ),
        "true conv, groups": (
            "true_conv2d",
            conv(2, padding=1, groups=3),
            normal((2, 3, 5, 4), (6, 1, 3, 3)),
        ),
        "true conv 3×3": (
            "true_conv2d",
            conv(2, padding=1),
            normal((2, 17, 9, 8), (18, 17, 3, 3), (18,)),
        ),
        "true conv of sequences": (
            "true_conv1d",
            conv(1, padding=3),
            normal((2, 2, 6), (3, 2, 4), (3,)),
        ),
        "true conv of volumes": (
            "true_conv3d",
            conv(3, (1, 2, 1), ((1, 0), (1, 1), (0, 0))),
            normal((1, 2, 3, 4, 5), (2, 2, 2, 3, 2)),
        ),
        "true conv of a pixel": ("true_conv2d", conv(2), normal((3, 2, 1, 1), (2, 2, 1, 1))),
    }


def _transposed_cases() -> dict[str, Case]:
    return {
        "transposed conv of sequences": (
            "conv_transpose1d",
            transposed(1, 1, stride=3, padding=1),
            normal((2, 3, 4), (3, 2, 4), (2,)),
        ),
        "transposed conv of sequences, groups": (
            "conv_transpose1d",
            transposed(1, stride=1, padding=((1, 2),), dilation=2, groups=2),
            normal((2, 4, 5), (4, 3, 3)),
        ),
        "transposed conv of volumes": (
            "conv_transpose3d",
            transposed(3, (0, 1, 0), stride=(1, 2, 2), padding=((1, 0), (0, 1), (0, 0))),
            normal((2, 2, 2, 3, 2), (2, 3, 2, 3, 2), (3,)),
        ),
        "transposed conv of volumes, depthwise": (
            "conv_transpose3d",
            transposed(3, stride=2, groups=2),
            normal((1, 2, 2, 1, 3), (2, 1, 1, 2, 2)),
        ),
        "transposed conv, stride beyond the kernel": (
            "conv_transpose2d",
            transposed(2, (0, 1), stride=(2, 3)),
            normal((1, 2, 3, 2), (2, 2, 1, 2)),
        ),
    }


def _local_cases() -> dict[str, Case]:
    return {
        "local": ("local2d", conv(2), normal((2, 3, 6, 5), (4, 3, 3, 2, 4, 4), (4, 4, 4))),
        "local, channel bias": (
            "local2d",
            conv(2, 2, 1),
            normal((3, 2, 5, 4), (3, 2, 3, 3, 3, 2), (3,)),
        ),
        "local, groups": (
            "local2d",
            conv(2, (1, 2), ((0, 1), (2, 1)), (2, 1), groups=2),
            normal((2, 4, 5, 6), (6, 2, 2, 3, 4, 4), (6, 4, 4)),
        ),
        "local of a pixel": ("local2d", conv(2), normal((2, 1, 1, 1), (2, 1, 1, 1, 1, 1))),
        "local, kernel = image": (
            "local2d",
            conv(2),
            normal((2, 2, 4, 3), (3, 2, 4, 3, 1, 1), (3,)),
        ),
        "local, stride beyond the kernel": (
            "local2d",
            conv(2, 3),
            normal((2, 2, 7, 8), (2, 2, 2, 1, 2, 3)),
        ),
        "local of 17 columns": (
            "local2d",
            conv(2, padding=1),
            normal((2, 2, 2, 17), (2, 2, 3, 3, 2, 17), (2,)),
        ),
        "local of sequences": (
            "local1d",
            conv(1, 2, ((1, 2),)),
            normal((2, 3, 8), (4, 3, 3, 5), (4, 5)),
        ),
        "local of sequences, depthwise": (
            "local1d",
            conv(1, dilation=2, groups=3),
            normal((2, 3, 7), (3, 1, 3, 3)),
        ),
        "local of volumes": (
            "local3d",
            conv(3, (1, 2, 1), ((1, 1), (0, 1), (0, 0))),
            normal((2, 2, 3, 4, 4), (2, 2, 2, 3, 2, 4, 2, 3), (2, 4, 2, 3)),
        ),
    }


def _local_transpose_cases() -> dict[str, Case]:
    return {
        "transposed local": (
            "local_transpose2d",
            transposed(2, (1, 0), stride=(2, 1), padding=1),
            normal((2, 3, 3, 4), (3, 2, 3, 2, 3, 4), (2, 6, 3)),
        ),
        "transposed local, groups": (
            "local_transpose2d",
            transposed(2, dilation=(2, 1), groups=2),
            normal((2, 4, 3, 3), (4, 1, 2, 2, 3, 3), (2,)),
        ),
        "transposed local of sequences": (
            "local_transpose1d",
            transposed(1, stride=3),
            normal((3, 2, 4), (2, 3, 2, 4)),
        ),
        "transposed local of volumes": (
            "local_transpose3d",
            transposed(3, stride=(1, 2, 1), padding=((0, 0), (1, 0), (0, 0))),
            normal((1, 2, 2, 3, 2), (2, 2, 2, 2, 1, 2, 3, 2), (2, 3, 5, 2)),
        ),
    }


def _tiled_cases() -> dict[str, Case]:
    return {
        "tiled": ("tiled_conv2d", conv(2), normal((2, 3, 7, 6), (2, 2, 4, 3, 3, 2), (4,))),
        "tiled, uneven": (
            "tiled_conv2d",
            conv(2, (1, 2), ((1, 0), (2, 1)), (2, 1), groups=2),
            normal((2, 4, 6, 9), (2, 3, 2, 2, 2, 3), (2,)),
        ),
        "tiled with more tiles than places": (
            "tiled_conv2d",
            conv(2),
            normal((2, 2, 4, 4), (3, 2, 2, 2, 3, 3)),
        ),
        "tiled of one tile": ("tiled_conv2d", conv(2), normal((1, 2, 3, 3), (1, 1, 2, 2, 3, 3))),
        "tiled of sequences": (
            "tiled_conv1d",
            conv(1, padding=1),
            normal((2, 3, 8), (3, 4, 3, 3), (4,)),
        ),
        "tiled of volumes": (
            "tiled_conv3d",
            conv(3),
            normal((1, 2, 3, 4, 4), (2, 1, 2, 2, 2, 2, 2, 2)),
        ),
    }


def _pad(mode: str, *sides: Any, value: float = 0.0) -> dict[str, Any]:
    return {"padding": [list(pair) for pair in sides], "mode": mode, "value": value}


def _moving_cases() -> dict[str, Case]:
    found: dict[str, Case] = {}
    for mode in ("constant", "reflect", "replicate", "circular", "symmetric"):
        (image,) = normal((2, 3, 4, 5))
        found[f"pad {mode}"] = ("pad", _pad(mode, (2, 1), (0, 3)), [image])
        found[f"pad {mode}, crop"] = ("pad", _pad(mode, (-1, 2), (2, -2)), [image])
        found[f"pad {mode} of sequences"] = ("pad", _pad(mode, (2, 3)), normal((2, 2, 4)))
        found[f"pad {mode} of volumes"] = (
            "pad",
            _pad(mode, (1, 0), (0, 1), (1, 2)),
            normal((1, 2, 2, 3, 4)),
        )
    found["pad a value"] = ("pad", _pad("constant", (1, 0), (1, 1), value=-1.5), normal((2, 3, 4)))
    found["pad channels"] = ("pad", _pad("constant", (1, 2), (0, 0), (0, 0)), normal((2, 3, 2, 2)))
    found["pad a pixel"] = ("pad", _pad("replicate", (2, 1), (0, 1)), normal((2, 2, 1, 1)))
    found["crop"] = ("pad", _pad("constant", (-1, -2), (0, -1)), normal((2, 2, 5, 4)))
    found["crop, reflect"] = ("pad", _pad("reflect", (-1, 0), (-2, -1)), normal((2, 2, 5, 4)))
    orders = {"last": [2, 3, 1], "first": [3, 1, 2], "same": [1, 2, 3], "back": [3, 2, 1]}
    for name, order in orders.items():
        found[f"permute {name}"] = ("permute", {"order": order}, normal((2, 3, 4, 5)))
    found["permute two"] = ("permute", {"order": [2, 1]}, normal((3, 17, 5)))
    return found


CASES: dict[str, Case] = {
    **_true_cases(),
    **_transposed_cases(),
    **_local_cases(),
    **_local_transpose_cases(),
    **_tiled_cases(),
    **_moving_cases(),
}
LINEAR = {
    **{f"true_conv{rank}d": 2 for rank in (1, 2, 3)},
    **{f"conv_transpose{rank}d": 2 for rank in (1, 3)},
    **{f"local{rank}d": 2 for rank in (1, 2, 3)},
    **{f"local_transpose{rank}d": 2 for rank in (1, 2, 3)},
    **{f"tiled_conv{rank}d": 2 for rank in (1, 2, 3)},
    "permute": 1,
}


# ---- torch's functions -------------------------------------------------------------------------


def _torch() -> Any:
    import torch

    return torch.nn.functional


def _zeros(x: Any, sides: Any) -> Any:
    """x with zeros around it, or cut."""
    return _torch().pad(x, [k for side in reversed(sides) for k in side])


def _true(rank: int) -> Callable[..., Any]:
    def function(a: Any, x: Any, w: Any, b: Any = None) -> Any:
        same = getattr(_torch(), f"conv{rank}d")
        flipped = w.flip(list(range(2, 2 + rank)))
        return same(_zeros(x, a["padding"]), flipped, b, a["stride"], 0, a["dilation"], a["groups"])

    return function


def _transposed(rank: int) -> Callable[..., Any]:
    def function(a: Any, x: Any, w: Any, b: Any = None) -> Any:
        same = getattr(_torch(), f"conv_transpose{rank}d")
        bare = same(x, w, None, a["stride"], 0, 0, a["groups"], a["dilation"])
        cut = [
            (-before, more - after)
            for (before, after), more in zip(a["padding"], a["output_padding"], strict=True)
        ]
        y = _zeros(bare, cut)
        return y if b is None else y + b.reshape(-1, *[1] * rank)

    return function


def patches(rank: int, a: Any, x: Any, kernel: Any) -> Any:
    """(n, channels, *output, *kernel): the windows of x, with torch."""
    windows = _zeros(x, a["padding"])
    for axis in range(rank):
        reach = a["dilation"][axis] * (kernel[axis] - 1) + 1
        windows = windows.unfold(2 + axis, reach, a["stride"][axis])
    steps = tuple(slice(None, None, d) for d in a["dilation"])
    return windows[(..., *steps)]


def _grouped(groups: int, x: Any) -> Any:
    return x.reshape(len(x), groups, -1, *x.shape[2:])


def _local(rank: int) -> Callable[..., Any]:
    import string

    place, tap = string.ascii_uppercase[:rank], string.ascii_uppercase[rank : 2 * rank]

    def function(a: Any, x: Any, w: Any, b: Any = None) -> Any:
        import torch

        groups = a["groups"]
        windows = _grouped(groups, patches(rank, a, x, w.shape[2 : 2 + rank]))
        kernels = w.reshape(groups, -1, *w.shape[1:])
        term = f"ngc{place}{tap},goc{tap}{place}->ngo{place}"
        y = torch.einsum(term, windows, kernels).flatten(1, 2)
        if b is None:
            return y
        return y + (b if b.ndim > 1 else b.reshape(-1, *[1] * rank))

    return function


def _local_transpose(rank: int) -> Callable[..., Any]:
    """The gradient of the locally connected layer, which torch finds by itself."""

    def function(a: Any, x: Any, w: Any, b: Any = None) -> Any:
        import torch

        sizes = [
            (n - 1) * s - sum(p) + d * (k - 1) + 1 + more
            for n, s, p, d, k, more in zip(
                x.shape[2:],
                a["stride"],
                a["padding"],
                a["dilation"],
                w.shape[2 : 2 + rank],
                a["output_padding"],
                strict=True,
            )
        ]
        channels = w.shape[1] * a["groups"]
        image = torch.zeros(len(x), channels, *sizes, dtype=x.dtype, requires_grad=True)
        y = _local(rank)(a, image, w)
        (back,) = torch.autograd.grad(y, image, x, create_graph=True)
        if b is None:
            return back
        return back + (b if b.ndim > 1 else b.reshape(-1, *[1] * rank))

    return function


def _tiled(rank: int) -> Callable[..., Any]:
    def function(a: Any, x: Any, w: Any, b: Any = None) -> Any:
        kernel = w.shape[rank + 2 :]
        output = patches(rank, a, x, kernel).shape[2 : 2 + rank]
        for axis, size in enumerate(output):  # to a kernel for each position
            w = w[(slice(None),) * axis + ([k % w.shape[axis] for k in range(size)],)]
        order = [*range(rank, w.ndim), *range(rank)]
        return _local(rank)(a, x, w.permute(order), b)

    return function


def _padded(a: Any, x: Any) -> Any:
    """torch's pad knows no mode "symmetric": that one is NumPy's."""
    import torch

    mode, sides = a["mode"], [k for side in reversed(a["padding"]) for k in side]
    if mode == "constant":
        return _torch().pad(x, sides, value=a["value"])
    if mode == "symmetric" or min(sides) < 0:
        for axis, (before, after) in enumerate(reversed(a["padding"])):
            places = np.pad(
                np.arange(x.shape[-1 - axis]),
                (max(before, 0), max(after, 0)),
                {"replicate": "edge", "circular": "wrap"}.get(mode, mode),
            )
            places = places[max(-before, 0) : len(places) - max(-after, 0)]
            x = x.index_select(x.ndim - 1 - axis, torch.tensor(places))
        return x
    return _torch().pad(x, sides, mode)


PEERS: dict[str, Callable[..., Any]] = {
    **{f"true_conv{rank}d": _true(rank) for rank in (1, 2, 3)},
    **{f"conv_transpose{rank}d": _transposed(rank) for rank in (1, 2, 3)},
    **{f"local{rank}d": _local(rank) for rank in (1, 2, 3)},
    **{f"local_transpose{rank}d": _local_transpose(rank) for rank in (1, 2, 3)},
    **{f"tiled_conv{rank}d": _tiled(rank) for rank in (1, 2, 3)},
    "pad": _padded,
    "permute": lambda a, x: x.permute(0, *a["order"]),
}
