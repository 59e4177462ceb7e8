"""Cases of embeddings and of LeNet-5's own operations."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Case = tuple[str, dict[str, Any], list[NDArray[Any]]]


def _normal(*shapes: tuple[int, ...]) -> list[NDArray[Any]]:
    rng = np.random.default_rng(sum(sum(shape) for shape in shapes))
    return [rng.normal(size=shape) for shape in shapes]


def _numbers(shape: tuple[int, ...], below: int) -> NDArray[Any]:
    return np.random.default_rng(below).integers(0, below, shape).astype(np.float32)


CASES: dict[str, Case] = {
    "rbf": ("rbf", {"prototypes": None}, _normal((3, 5), (4, 5))),
    "rbf of one": ("rbf", {"prototypes": None}, _normal((1, 1), (1, 1))),
    "rbf fixed": ("rbf", {"prototypes": [[1.0, -1.0], [1, 1], [-1, 1]]}, _normal((3, 2))),
    "subsample": ("subsample", {"kernel": [2, 2]}, _normal((2, 3, 4, 6), (3,), (3,))),
    "subsample with a rest": ("subsample", {"kernel": [2, 3]}, _normal((2, 3, 5, 7), (3,), (3,))),
    "lstm state": ("lstm_state", {}, _normal((2, 12), (2, 12), (2, 3))),
    "lstm output": ("lstm_output", {}, _normal((3, 4), (3, 4), (3, 1))),
    "gru state": ("gru_state", {}, _normal((2, 15), (2, 15), (2, 5))),
    "embedding": ("embedding", {"padding": -1}, [_numbers((3, 4), 5), *_normal((5, 6))]),
    "embedding of images": (
        "embedding",
        {"padding": -1},
        [_numbers((4, 2, 3), 4), *_normal((4, 17))],
    ),
}


def _rbf(a: dict[str, Any], x: Any, w: Any = None) -> Any:
    import torch

    w = torch.tensor(a["prototypes"]) if w is None else w
    return (x[:, None] - w).square().sum(2)


def _subsample(a: dict[str, Any], x: Any, w: Any, b: Any) -> Any:
    from torch.nn import functional as F

    total = F.avg_pool2d(x, a["kernel"]) * (a["kernel"][0] * a["kernel"][1])
    return total * w[:, None, None] + b[:, None, None]


def _embedding(a: dict[str, Any], x: Any, w: Any) -> Any:
    from torch.nn import functional as F

    return F.embedding(x.long(), w, a["padding"] if a["padding"] >= 0 else None)


PEERS = {
    "rbf": _rbf,
    "subsample": _subsample,
    "embedding": _embedding,
}
