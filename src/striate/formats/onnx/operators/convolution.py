"""Convolution and its transpose, of one to three axes of space; columns put back into images."""

from __future__ import annotations

import math
from collections.abc import Sequence

from striate.formats.onnx.lowering import Call
from striate.formats.onnx.registry import operator
from striate.formats.onnx.value import Value

Pairs = list[tuple[int, int]]


def sizes(c: Call, name: str, rank: int) -> list[int]:
    """An attribute of a number for each axis of space; 1 where it is left out."""
    found = c.attribute(name, [1] * rank)
    if len(found) != rank:
        c.refuse(f"{name} expected {rank} numbers, one an axis of space; got {list(found)}")
    return [int(k) for k in found]


def explicit_pads(c: Call, rank: int) -> Pairs:
    """`pads`, [begins…, ends…], as pairs."""
    found = [int(k) for k in c.attribute("pads", [0] * (2 * rank))]
    if len(found) != 2 * rank:
        c.refuse(f"pads expected {2 * rank} numbers, two an axis of space; got {found}")
    return list(zip(found[:rank], found[rank:], strict=True))


def padding(
    c: Call, image: Sequence[int], kernel: Sequence[int], stride: Sequence[int], step: Sequence[int]
) -> Pairs:
    """The padding of each axis of space, from `pads` or `auto_pad`."""
    given, auto = explicit_pads(c, len(image)), c.attribute("auto_pad", "NOTSET")
    if auto in ("NOTSET", ""):
        return given
    if auto == "VALID":
        return [(0, 0)] * len(image)
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        c.refuse(f"auto_pad expected NOTSET, SAME_UPPER, SAME_LOWER or VALID; got {auto!r}")
    needed = (
        max((-(-size // s) - 1) * s + d * (k - 1) + 1 - size, 0)
        for size, k, s, d in zip(image, kernel, stride, step, strict=True)
    )
    return [split(total, auto) for total in needed]


def split(total: int, auto: str) -> tuple[int, int]:
    """A padding cut in two; the odd one goes to the end for SAME_UPPER."""
    small, large = total // 2, total - total // 2
    return (large, small) if auto == "SAME_LOWER" else (small, large)


def images(c: Call) -> tuple[Value, Value, int]:
    """x, w and the number of axes of space."""
    x, w = c.value(0), c.value(1)
    if x.rank < 3 or w.rank != x.rank:
        c.refuse(f"expected x (n, channels, …) and w of as many axes; got {x.shape} and {w.shape}")
    kernel = c.attribute("kernel_shape", w.shape[2:])
    if tuple(kernel) != w.shape[2:]:
        c.refuse(f"kernel_shape expected {list(w.shape[2:])}, as w has; got {list(kernel)}")
    return x, w, x.rank - 2


def _inputs(c: Call, x: Value, w: Value) -> list[Value]:
    bias = c.maybe(2)
    return [x, w] if bias is None else [x, w, bias]


@operator("Conv")
def conv(c: Call) -> Value:
    x, w, rank = images(c)
    stride, dilation = sizes(c, "strides", rank), sizes(c, "dilations", rank)
    settings = {
        "stride": stride,
        "padding": padding(c, x.shape[2:], w.shape[2:], stride, dilation),
        "dilation": dilation,
        "groups": int(c.attribute("group", 1)),
    }
    return c.apply(f"conv{rank}d", _inputs(c, x, w), settings, whole=False)


@operator("ConvTranspose")
def conv_transpose(c: Call) -> Value:
    x, w, rank = images(c)
    stride, dilation = sizes(c, "strides", rank), sizes(c, "dilations", rank)
    more = [int(k) for k in c.attribute("output_padding", [0] * rank)]
    settings = {
        "stride": stride,
        "padding": _transposed_padding(c, x.shape[2:], w.shape[2:], stride, dilation, more),
        "output_padding": more,
        "dilation": dilation,
        "groups": int(c.attribute("group", 1)),
    }
    return c.apply(f"conv_transpose{rank}d", _inputs(c, x, w), settings, whole=False)


def _transposed_padding(
    c: Call,
    image: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    step: Sequence[int],
    more: list[int],
) -> Pairs:
    """From `pads`, or so that the output has `output_shape` (SAME: stride times the input)."""
    given, auto = explicit_pads(c, len(image)), c.attribute("auto_pad", "NOTSET")
    wanted = c.attribute("output_shape")
    if wanted is None and auto in ("NOTSET", "", "VALID"):
        return given if auto != "VALID" else [(0, 0)] * len(image)
    goal = wanted or [size * s for size, s in zip(image, stride, strict=True)]
    found: Pairs = []
    for axis, size in enumerate(goal[-len(image) :]):
        reach = step[axis] * (kernel[axis] - 1) + 1
        total = stride[axis] * (image[axis] - 1) + more[axis] + reach - int(size)
        if total < 0:  # longer than the transpose gives: the rest is padding of the output
            more[axis] -= total
            total = 0
        found.append(split(total, "SAME_LOWER" if auto != "SAME_UPPER" else auto))
    return found


@operator("Col2Im", since=18)
def columns_to_image(c: Call) -> Value:
    x, image, kernel = c.value(0), c.integers(1), c.integers(2)
    rank = len(image)
    stride, dilation = sizes(c, "strides", rank), sizes(c, "dilations", rank)
    pads = explicit_pads(c, rank)
    counts = [
        (size + before + after - d * (k - 1) - 1) // s + 1
        for size, k, s, d, (before, after) in zip(
            image, kernel, stride, dilation, pads, strict=True
        )
    ]
    if x.rank != 3 or math.prod(counts) != x.shape[2]:
        c.refuse(f"expected {counts} blocks along the last of three axes; got shape {x.shape}")
    settings = {
        "kernel": kernel,
        "stride": stride,
        "padding": pads,
        "dilation": dilation,
        "output": image,
    }
    columns = c.reshape(x, (*x.shape[:2], *counts))
    return c.apply("fold", [columns], settings, whole=False)
