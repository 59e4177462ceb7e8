"""Export of layers: convolutions, products, poolings, norms, softmax and recurrent ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from striate.formats.onnx.builder import INT64
from striate.formats.onnx.site import Site, exports


@exports("conv1d", "conv2d", "conv3d")
def conv(s: Site) -> str:
    a = s.attributes
    return s.b.op(
        "Conv",
        *s.inputs,
        kernel_shape=list(s.shapes[1][2:]),
        strides=list(a["stride"]),
        pads=s.pads(),
        dilations=list(a["dilation"]),
        group=int(a["groups"]),
    )


@exports("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def conv_transpose(s: Site) -> str:
    a = s.attributes
    return s.b.op(
        "ConvTranspose",
        *s.inputs,
        kernel_shape=list(s.shapes[1][2:]),
        strides=list(a["stride"]),
        pads=s.pads(),
        output_padding=list(a["output_padding"]),
        dilations=list(a["dilation"]),
        group=int(a["groups"]),
    )


@exports("linear")
def linear(s: Site) -> str:
    return s.b.op("Gemm", *s.inputs, transB=1)


@exports("dense")
def dense(s: Site) -> str:
    product = s.b.op("MatMul", s.x, s.b.transpose(s.inputs[1], [1, 0]))
    return s.b.op("Add", product, s.inputs[2]) if len(s.inputs) > 2 else product


@exports("einsum")
def einsum(s: Site) -> str:
    return s.b.op("Einsum", *s.inputs, equation=str(s.attributes["equation"]))


@exports("embedding")
def embedding(s: Site) -> str:
    return s.b.op("Gather", s.inputs[1], s.b.op("Cast", s.x, to=INT64), axis=0)


# ---- pooling -----------------------------------------------------------------------------------


@exports("max_pool1d", "max_pool2d", "max_pool3d")
def max_pool(s: Site) -> str:
    return s.b.op("MaxPool", s.x, **s.windows(), dilations=list(s.attributes["dilation"]))


@exports("avg_pool1d", "avg_pool2d", "avg_pool3d")
def avg_pool(s: Site) -> str:
    counted = int(s.attributes["count_include_pad"])
    return s.b.op("AveragePool", s.x, **s.windows(), count_include_pad=counted)


@exports("mean_pool")
def mean_pool(s: Site) -> str | None:
    a = s.attributes
    counted = [tuple(pair) for pair in a["counted"]]
    padding = [tuple(pair) for pair in a["padding"]]
    plain = not any(map(any, counted))
    if any(k > 1 for k in a["dilation"]) or not (plain or counted == padding):
        return None
    return s.b.op("AveragePool", s.x, **s.windows(), count_include_pad=int(not plain))


@exports("lp_pool")
def lp_pool(s: Site) -> str | None:
    a = s.attributes
    norm, fits = float(a["norm"]), a["absolute"] and a["counted"] is None
    if not fits or norm != int(norm) or norm < 1 or any(k > 1 for k in a["dilation"]):
        return None
    return s.b.op("LpPool", s.x, **s.windows(), p=int(norm))


@exports(*(f"adaptive_{kind}_pool{rank}d" for kind in ("avg", "max") for rank in (1, 2, 3)))
def adaptive_pool(s: Site) -> str | None:
    output, kind = list(s.attributes["output"]), "Average" if "avg" in s.op else "Max"
    if all(k == 1 for k in output):
        return s.b.op(f"Global{kind}Pool", s.x)
    if any(size % k for size, k in zip(s.image, output, strict=True)):
        return None
    kernel = [size // k for size, k in zip(s.image, output, strict=True)]
    return s.b.op(f"{kind}Pool", s.x, kernel_shape=kernel, strides=kernel)


# ---- norms -------------------------------------------------------------------------------------


@exports("batch_norm")
def batch_norm(s: Site) -> str:
    a = s.attributes
    momentum = 0.9 if a["momentum"] is None else 1 - float(a["momentum"])
    return s.b.op("BatchNormalization", *s.inputs, epsilon=float(a["eps"]), momentum=momentum)


@exports("local_response_norm")
def local_response_norm(s: Site) -> str | None:
    a = s.attributes
    if a["size"] % 2 == 0:  # ONNX puts the odd neighbour on the other side
        return None
    numbers: dict[str, Any] = {
        "alpha": float(a["alpha"]),
        "beta": float(a["beta"]),
        "bias": float(a["k"]),
    }
    return s.b.op("LRN", s.x, size=int(a["size"]), **numbers)


def _scale(s: Site, shape: tuple[int, ...]) -> list[str]:
    """x and the weight, which ONNX wants even where there is none; and the bias."""
    weight = s.inputs[1:2] or (s.b.constant(np.ones(shape, np.float32)),)
    return [s.x, *weight, *s.inputs[2:]]


@exports("layer_norm", "rms_norm")
def layer_norm(s: Site) -> str | None:
    count = int(s.attributes["axes"])
    kind, since = ("LayerNormalization", 17) if s.op == "layer_norm" else ("RMSNormalization", 23)
    if s.b.opset < since:
        return None
    inputs = _scale(s, s.shapes[0][len(s.shapes[0]) - count :])
    return s.b.op(kind, *inputs, axis=-count, epsilon=float(s.attributes["eps"]))


@exports("group_norm")
def group_norm(s: Site) -> str | None:
    channels, groups = s.shapes[0][0], int(s.attributes["groups"])
    inputs, eps = _scale(s, (channels,)), float(s.attributes["eps"])
    if len(inputs) == 2:
        inputs.append(s.b.constant(np.zeros(channels, np.float32)))
    if groups == channels:
        return s.b.op("InstanceNormalization", *inputs, epsilon=eps)
    if s.b.opset < 21:  # before that ONNX has one weight a group
        return None
    return s.b.op("GroupNormalization", *inputs, epsilon=eps, num_groups=groups)


# ---- softmax -----------------------------------------------------------------------------------


@exports("softmax", "softmax_along", "log_softmax")
def softmax(s: Site) -> str:
    kind = "LogSoftmax" if s.op == "log_softmax" else "Softmax"
    return s.b.op(kind, s.x, axis=int(s.attributes.get("axis", 1)))


@exports("softmin")
def softmin(s: Site) -> str:
    return s.b.op("Softmax", s.b.op("Neg", s.x), axis=int(s.attributes["axis"]))


@exports("glu")
def glu(s: Site) -> str:
    axis = int(s.attributes["axis"])
    half = s.shapes[0][axis - 1] // 2
    a, gate = s.b.split(s.x, axis, [half, half])
    return s.b.op("Mul", a, s.b.op("Sigmoid", gate))


@exports("cross_entropy")
def cross_entropy(s: Site) -> str:
    """Minus the logarithm of the right class's probability, looked up by its label."""
    b = s.b
    places = b.unsqueeze(b.op("Cast", s.inputs[1], to=INT64), [1])
    found = b.op("GatherElements", b.op("LogSoftmax", s.x, axis=1), places, axis=1)
    return b.op("Neg", b.op("Squeeze", found, b.integers([1])))
