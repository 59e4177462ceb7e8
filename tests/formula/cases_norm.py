"""Cases of normalisation, each sample by itself, and torch's functions for them."""

from __future__ import annotations

from typing import Any

import numpy as np

RNG = np.random.default_rng(12)


def _of(*shapes: tuple[int, ...]) -> list[Any]:
    return [RNG.normal(size=shape) for shape in shapes]


def _layer(axes: int, eps: float = 1e-3) -> dict[str, Any]:
    return {"eps": eps, "axes": axes}


def _group(groups: int, eps: float = 1e-3) -> dict[str, Any]:
    return {"eps": eps, "groups": groups}


CASES: dict[str, Any] = {
    "layer norm": ("layer_norm", _layer(1), _of((3, 7), (7,), (7,))),
    "layer norm without parameters": ("layer_norm", _layer(2), _of((2, 3, 5))),
    "layer norm of images": ("layer_norm", _layer(3), _of((2, 3, 4, 5), (3, 4, 5), (3, 4, 5))),
    "layer norm of rows": ("layer_norm", _layer(1), _of((2, 3, 2, 5), (5,))),
    "rms norm": ("rms_norm", _layer(1), _of((3, 2, 7), (7,))),
    "rms norm without weight": ("rms_norm", _layer(2), _of((3, 2, 5))),
    "group norm": ("group_norm", _group(2), _of((2, 6, 3, 4), (6,), (6,))),
    "group norm of vectors": ("group_norm", _group(2, 0.3), _of((3, 8), (8,))),
    "group norm of one group": ("group_norm", _group(1), _of((2, 3, 5))),
    "instance norm": ("group_norm", _group(5), _of((2, 5, 4, 3), (5,), (5,))),
    "instance norm of volumes": ("group_norm", _group(2), _of((2, 2, 2, 3, 2))),
    "styled instance norm": (
        "styled_instance_norm",
        {"eps": 1e-3},
        _of((2, 3, 4, 5), (2, 3), (2, 3)),
    ),
    "styled instance norm of sequences": (
        "styled_instance_norm",
        {"eps": 1e-3},
        _of((2, 2, 7), (2, 2), (2, 2)),
    ),
    "adaptive instance norm": (
        "adaptive_instance_norm",
        {"eps": 1e-3},
        _of((2, 3, 4, 5), (2, 3, 3, 2)),
    ),
    "adaptive instance norm, other rank": (
        "adaptive_instance_norm",
        {"eps": 1e-3},
        _of((2, 2, 5), (2, 2, 2, 2, 3)),
    ),
}
LINEAR: dict[str, int] = {}


def _layer_norm(a: Any, x: Any, w: Any = None, b: Any = None) -> Any:
    import torch.nn.functional as F

    return F.layer_norm(x, x.shape[x.ndim - a["axes"] :], w, b, a["eps"])


def _rms_norm(a: Any, x: Any, w: Any = None) -> Any:
    import torch.nn.functional as F

    return F.rms_norm(x, x.shape[x.ndim - a["axes"] :], w, a["eps"])


def _group_norm(a: Any, x: Any, w: Any = None, b: Any = None) -> Any:
    import torch.nn.functional as F

    return F.group_norm(x, a["groups"], w, b, a["eps"])


def _deviation(x: Any, eps: float) -> tuple[Any, Any]:
    flat = x.flatten(2)
    mean = flat.mean(2)
    deviation = (flat.var(2, unbiased=False) + eps).sqrt()
    for _ in range(x.ndim - 2):
        mean, deviation = mean[..., None], deviation[..., None]
    return mean, deviation


def _styled(a: Any, x: Any, scale: Any, shift: Any) -> Any:
    mean, deviation = _deviation(x, a["eps"])
    for _ in range(x.ndim - 2):
        scale, shift = scale[..., None], shift[..., None]
    return (x - mean) / deviation * scale + shift


def _adaptive(a: Any, x: Any, style: Any) -> Any:
    mean, deviation = (k.flatten(2)[:, :, 0] for k in _deviation(style, a["eps"]))
    return _styled(a, x, deviation, mean)


PEERS: dict[str, Any] = {
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "group_norm": _group_norm,
    "styled_instance_norm": _styled,
    "adaptive_instance_norm": _adaptive,
}
