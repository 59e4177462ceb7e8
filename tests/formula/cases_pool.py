"""Pooling, unpooling, resizing and rearranging: cases, and PyTorch's functions for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Case = tuple[str, dict[str, Any], list[NDArray[Any]]]


def normal(*shape: int) -> NDArray[Any]:
    return np.random.default_rng(sum(shape)).normal(size=shape)


def window(
    kernel: Any, stride: Any, padding: Any = None, dilation: Any = None, **more: Any
) -> dict[str, Any]:
    sides = padding or [[0, 0]] * len(kernel)
    steps = dilation or [1] * len(kernel)
    return {"kernel": kernel, "stride": stride, "padding": sides, "dilation": steps, **more}


def plain(kernel: Any, stride: Any, padding: Any, counted: bool) -> dict[str, Any]:
    return {
        "kernel": kernel,
        "stride": stride,
        "padding": padding,
        "count_include_pad": counted,
    }


# Awkward windows: of one place, as large as the image, with gaps between them, dilated, uneven.
WINDOWS: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "sequences": (window([3], [2], [[1, 0]]), (2, 3, 8)),
    "one place": (window([1], [1]), (2, 2, 1)),
    "gaps": (window([2], [5], dilation=[2]), (2, 2, 14)),
    "images": (window([2, 3], [2, 1], [[1, 1], [0, 1]]), (2, 3, 6, 5)),
    "whole image": (window([4, 5], [4, 5]), (2, 3, 4, 5)),
    "a pixel": (window([1, 1], [1, 1]), (2, 2, 1, 1)),
    "dilated": (window([3, 2], [1, 2], [[2, 1], [0, 0]], [2, 3]), (1, 2, 7, 8)),
    "volumes": (window([2, 1, 3], [1, 2, 2], [[1, 0], [0, 0], [1, 1]]), (2, 2, 3, 4, 5)),
}


def _window_cases() -> dict[str, Case]:
    found: dict[str, Case] = {}
    for what, (settings, shape) in WINDOWS.items():
        rank = len(settings["kernel"])
        x, sides = normal(*shape), settings["padding"]
        counted = [[min(before, 1), 0] for before, _ in sides]
        for op, more in (
            (f"max_pool{rank}d", {}),
            ("max_pool_indices", {}),
            ("sum_pool", {"divisor": 3.0}),
            ("mean_pool", {"counted": counted}),
            ("gaussian_pool", {"counted": [[0, 0]] * rank, "sigma": [0.7] * rank}),
            ("expected_pool", {}),
        ):
            found[f"{op} of {what}"] = (op, {**settings, **more}, [x])
        for norm, absolute in ((2.0, True), (3.0, True), (1.0, False), (2.0, False)):
            more = {"norm": norm, "absolute": absolute, "counted": None}
            name = f"lp_pool {norm:g} {'' if absolute else 'signed '}of {what}"
            found[name] = ("lp_pool", {**settings, **more}, [x])
        for inside in (True, False) if settings["dilation"] == [1] * rank else ():
            attributes = plain(settings["kernel"], settings["stride"], sides, inside)
            name = f"avg_pool{rank}d of {what}{'' if inside else ', inside'}"
            found[name] = (f"avg_pool{rank}d", attributes, [x])
    share = {"norm": 2.0, "absolute": False, "counted": [[0, 0], [0, 0]]}
    ceil = window([2, 3], [2, 2], [[0, 1], [0, 2]], **share)
    found["lp_pool of torch's ceil_mode"] = ("lp_pool", ceil, [normal(2, 2, 5, 6)])
    for what in ("one place", "a pixel"):
        del found[f"max_pool_indices of {what}"]  # all 0, which a test takes for a fault
    del found["expected_pool of one place"]
    return found | _chance_cases()


def _chance_cases() -> dict[str, Case]:
    found: dict[str, Case] = {}
    for what in ("sequences", "images", "a pixel", "dilated", "volumes"):
        settings, shape = WINDOWS[what]
        from striate.formula.operations import find_operation

        output = find_operation("expected_pool").shape(settings, [shape[1:]])
        u = np.random.default_rng(5).random((shape[0], *output))
        found[f"stochastic_pool of {what}"] = ("stochastic_pool", settings, [normal(*shape), u])
    return found


def _adaptive_cases() -> dict[str, Case]:
    found: dict[str, Case] = {}
    for shape, output in (
        ((2, 3, 7), [3]),
        ((2, 3, 1), [2]),
        ((2, 3, 6, 5), [2, 3]),
        ((2, 2, 6, 6), [3, 2]),
        ((1, 2, 3, 4), [1, 1]),
        ((1, 2, 3, 4), [5, 4]),
        ((1, 2, 3, 5, 4), [2, 2, 3]),
    ):
        rank, text = len(output), f"of {shape} to {output}"
        for op in (f"adaptive_max_pool{rank}d", f"adaptive_avg_pool{rank}d"):
            found[f"{op} {text}"] = (op, {"output": output}, [normal(*shape)])
        op = f"adaptive_max_pool{rank}d_indices"
        if shape[2:] != (1,):
            found[f"{op} {text}"] = (op, {"output": output}, [normal(*shape)])
    for op in ("fractional_max_pool", "fractional_max_pool_indices"):
        images = {"kernel": [2, 3], "starts": [[0, 2, 3], [0, 1, 4]]}
        found[f"{op} of images"] = (op, images, [normal(2, 3, 5, 7)])
        volumes = {"kernel": [1, 2, 2], "starts": [[0, 2], [1], [0, 1, 2]]}
        found[f"{op} of volumes"] = (op, volumes, [normal(1, 2, 3, 3, 4)])
    return found


def _unpool_cases() -> dict[str, Case]:
    from striate.formula.operations import find_operation

    found: dict[str, Case] = {}
    for what in ("sequences", "images", "a pixel"):  # in others most is 0, which a test refuses
        settings, shape = WINDOWS[what]
        x = normal(*shape)
        indices = find_operation("max_pool_indices").reference(settings, [x])
        more = {"output": list(shape[2:])}
        value = np.random.default_rng(1).normal(size=indices.shape)
        found[f"max_unpool of {what}"] = ("max_unpool", {**settings, **more}, [value, indices])
    settings = window([1, 3], [1, 3])
    x = normal(2, 3, 4, 6)
    indices = find_operation("max_pool_indices").reference(settings, [x])
    rest = {**settings, "output": [4, 6]}
    found["max_unpool side by side"] = ("max_unpool", rest, [normal(*indices.shape), indices])
    return found


def resize(output: list[int], mode: str, **more: Any) -> dict[str, Any]:
    rest = {"steps": None, "align_corners": False, "antialias": False}
    return {"output": output, "mode": mode, **rest, **more}


def _resize_cases() -> dict[str, Case]:
    found: dict[str, Case] = {}
    for shape, output in (
        ((2, 3, 5), [8]),
        ((1, 2, 1), [3]),
        ((2, 3, 4, 5), [7, 3]),
        ((2, 2, 3, 3), [6, 6]),
        ((1, 2, 2, 3, 4), [3, 5, 2]),
    ):
        modes = [("nearest", False), ("nearest-exact", False), ("linear", False), ("linear", True)]
        modes += [("cubic", False), ("cubic", True)] if len(output) == 2 else []
        for mode, align in modes:
            name = f"resize {mode}{' by corners' if align else ''} of {shape} to {output}"
            attributes = resize(output, mode, align_corners=align)
            found[name] = ("resize", attributes, [normal(*shape)])
    for mode in ("linear", "cubic"):
        smooth = resize([3, 9], mode, antialias=True)
        found[f"resize {mode} smoothed"] = ("resize", smooth, [normal(1, 2, 8, 6)])
    stepped = resize([7, 3], "linear", steps=[0.6, 1.8])
    found["resize by steps"] = ("resize", stepped, [normal(1, 2, 4, 5)])
    return found


def _move_cases() -> dict[str, Case]:
    found: dict[str, Case] = {}
    for shape in ((2, 6, 3), (2, 8, 3, 2), (1, 8, 2, 1, 2)):
        found[f"pixel_shuffle of {shape}"] = ("pixel_shuffle", {"factor": 2}, [normal(*shape)])
    for shape in ((2, 3, 6), (2, 1, 4, 6), (1, 2, 2, 4, 2)):
        found[f"pixel_unshuffle of {shape}"] = ("pixel_unshuffle", {"factor": 2}, [normal(*shape)])
    for shape in ((2, 6), (2, 6, 4), (2, 6, 2, 3), (1, 6, 2, 1, 3)):
        found[f"channel_shuffle of {shape}"] = ("channel_shuffle", {"groups": 3}, [normal(*shape)])
    for what, (settings, shape) in WINDOWS.items():
        found[f"unfold of {what}"] = ("unfold", settings, [normal(*shape)])
        if what != "gaps":
            found[f"fold of {what}"] = _fold_case(settings, shape)
    return found


def _fold_case(settings: dict[str, Any], shape: tuple[int, ...]) -> Case:
    from striate.formula.operations import find_operation

    pooled = find_operation(f"max_pool{len(shape) - 2}d").shape(settings, [shape[1:]])
    channels = shape[1] * int(np.prod(settings["kernel"]))
    x = normal(shape[0], channels, *pooled[1:])
    return ("fold", {**settings, "output": list(shape[2:])}, [x])


def _other_cases() -> dict[str, Case]:
    found: dict[str, Case] = {}
    for shape in ((3, 6), (2, 6, 4), (2, 6, 3, 2), (1, 6, 2, 1, 3)):
        for size, stride in ((2, 2), (3, 1), (6, 1), (1, 1)):
            group = {"size": size, "stride": stride}
            name = f"{size} of {shape}, stride {stride}"
            found[f"channel_max_pool {name}"] = ("channel_max_pool", group, [normal(*shape)])
            found[f"channel_avg_pool {name}"] = ("channel_avg_pool", group, [normal(*shape)])
            normed = {**group, "norm": 3.0 if size == 3 else 2.0}
            found[f"channel_lp_pool {name}"] = ("channel_lp_pool", normed, [normal(*shape)])
    labels = [[0, 0, 1, -1], [2, 0, 1, 1], [2, 2, 2, 0]]
    for how in ("mean", "max", "sum"):
        found[f"region_pool {how}"] = (
            "region_pool",
            {"labels": labels, "how": how},
            [normal(2, 3, 3, 4)],
        )
    line = {"labels": [1, 0, 0, 1, 1], "how": "mean"}
    found["region_pool of sequences"] = ("region_pool", line, [normal(2, 3, 5)])
    for shape in ((2, 3, 5), (2, 3, 4, 5), (1, 2, 2, 3, 4)):
        case: Case = ("learned_pool", {}, [normal(*shape), normal(3, *shape[2:])])
        found[f"learned_pool of {shape}"] = case
    return found


CASES: dict[str, Case] = {
    **_window_cases(),
    **_adaptive_cases(),
    **_unpool_cases(),
    **_resize_cases(),
    **_move_cases(),
    **_other_cases(),
}
LINEAR = {
    **dict.fromkeys((f"avg_pool{r}d" for r in (1, 2, 3)), 1),
    **dict.fromkeys((f"adaptive_avg_pool{r}d" for r in (1, 2, 3)), 1),
    "sum_pool": 1,
    "mean_pool": 1,
    "gaussian_pool": 1,
    "resize": 1,
    "pixel_shuffle": 1,
    "pixel_unshuffle": 1,
    "channel_shuffle": 1,
    "channel_avg_pool": 1,
    "unfold": 1,
    "fold": 1,
    "learned_pool": 2,
}


# ---- PyTorch's functions -----------------------------------------------------------------------


def _torch() -> Any:
    import torch

    return torch


def _padded(x: Any, padding: Any, value: float = 0.0) -> Any:
    sides = [k for side in reversed(padding) for k in side]
    return _torch().nn.functional.pad(x, sides, value=value)


def _pool(name: str) -> Callable[..., Any]:
    """A pooling of torch's on an input that is padded by hand: uneven padding is new to torch."""

    def run(a: dict[str, Any], x: Any) -> Any:
        f = _torch().nn.functional
        rank = x.ndim - 2
        if name == "max":
            x = _padded(x, a["padding"], -np.inf)
            pool = getattr(f, f"max_pool{rank}d")
            return pool(x, a["kernel"], a["stride"], 0, a["dilation"])
        pool = getattr(f, f"avg_pool{rank}d")
        total = pool(_padded(x, a["padding"]), a["kernel"], a["stride"])
        if a["count_include_pad"]:
            return total
        ones = _padded(_torch().ones_like(x), a["padding"])
        return total / pool(ones, a["kernel"], a["stride"])

    return run


def _resize(a: dict[str, Any], x: Any) -> Any:
    modes = {
        "linear": {3: "linear", 4: "bilinear", 5: "trilinear"}[x.ndim],
        "cubic": "bicubic",
    }
    mode = modes.get(a["mode"], a["mode"])
    align = None if mode.startswith("nearest") else a["align_corners"]
    keywords = {"mode": mode, "align_corners": align, "antialias": a["antialias"]}
    if a["steps"] is None:
        return _torch().nn.functional.interpolate(x, a["output"], **keywords)
    scales = [1 / step for step in a["steps"]]
    low = _torch()._C._nn.upsample_bilinear2d
    return low(x, a["output"], a["align_corners"], *scales)


def _columns(a: dict[str, Any], x: Any) -> Any:
    """Windows as columns of any rank, by torch's own views."""
    x = _padded(x, a["padding"])
    for axis, (k, s, d) in enumerate(zip(a["kernel"], a["stride"], a["dilation"], strict=True)):
        x = x.unfold(2 + axis, d * (k - 1) + 1, s)[..., ::d]
    rank = len(a["kernel"])
    order = [0, 1, *range(2 + rank, 2 + 2 * rank), *range(2, 2 + rank)]
    x = x.permute(order)
    return x.reshape(x.shape[0], x.shape[1] * int(np.prod(a["kernel"])), -1)


def _lp(a: dict[str, Any], x: Any) -> Any:
    counted = a["counted"] is not None
    powers = (x.abs() if a["absolute"] else x) ** a["norm"]
    columns = _columns({**a}, powers).reshape(*x.shape[:2], int(np.prod(a["kernel"])), -1)
    total = columns.sum(2)
    if counted:
        ones = _columns({**a}, _torch().ones_like(x)).reshape(columns.shape).sum(2)
        total = total * (columns.shape[2] / ones)
    from striate.formula.operations import find_operation

    shape = find_operation("lp_pool").shape(a, [tuple(x.shape[1:])])
    return (total ** (1 / a["norm"])).reshape(len(x), *shape)


def _fractional(a: dict[str, Any], x: Any) -> Any:
    torch = _torch()
    for axis, (k, starts) in enumerate(zip(a["kernel"], a["starts"], strict=True)):
        parts = [x.narrow(2 + axis, start, k).amax(2 + axis, keepdim=True) for start in starts]
        x = torch.cat(parts, 2 + axis)
    return x


def _channels(a: dict[str, Any], x: Any) -> Any:
    return x.unfold(1, a["size"], a["stride"])


PEERS: dict[str, Callable[..., Any]] = {
    **{f"max_pool{r}d": _pool("max") for r in (1, 3)},
    **{f"avg_pool{r}d": _pool("avg") for r in (1, 3)},
    **{
        f"adaptive_{how}_pool{r}d": lambda a, x, name=f"adaptive_{how}_pool{r}d": getattr(
            _torch().nn.functional, name
        )(x, a["output"])
        for r in (1, 2, 3)
        for how in ("max", "avg")
    },
    "sum_pool": lambda a, x: (
        _columns(a, x).reshape(*x.shape[:2], int(np.prod(a["kernel"])), -1).sum(2) / a["divisor"]
    ).reshape(_like("sum_pool", a, x)),
    "lp_pool": _lp,
    "resize": _resize,
    "unfold": _columns,
    "fractional_max_pool": _fractional,
    "pixel_shuffle": lambda a, x: (
        _torch().nn.functional.pixel_shuffle(x, 2) if x.ndim == 4 else _shuffled(x)
    ),
    "channel_max_pool": lambda a, x: _channels(a, x).amax(-1),
    "channel_avg_pool": lambda a, x: _channels(a, x).mean(-1),
    "channel_lp_pool": lambda a, x: _channels(a, x).norm(a["norm"], -1),
    "channel_shuffle": lambda a, x: (
        _torch()
        .nn.functional.channel_shuffle(x if x.ndim > 2 else x[..., None], a["groups"])
        .reshape(x.shape)
    ),
    "learned_pool": lambda a, x, w: x.flatten(2) @ w.flatten(1).T,
}


def _like(name: str, a: dict[str, Any], x: Any) -> tuple[int, ...]:
    from striate.formula.operations import find_operation

    return (len(x), *find_operation(name).shape(a, [tuple(x.shape[1:])]))


def _shuffled(x: Any) -> Any:
    """Pixel shuffle by 2 along any axes of space: torch has it for images."""
    n, c, *space = x.shape
    rank = len(space)
    x = x.reshape(n, c // 2**rank, *[2] * rank, *space)
    order = [0, 1, *(k for a in range(rank) for k in (2 + rank + a, 2 + a))]
    return x.permute(order).reshape(n, c // 2**rank, *(2 * k for k in space))
