"""Losses with inputs, and what torch calls them; see `conftest`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.formula import loss_scalar as scalars

Case = tuple[str, dict[str, Any], list[NDArray[Any]]]
RNG = np.random.default_rng(11)
WEIGHT = [0.5, 2.0, 1.0, 0.25, 3.0]


def _normal(*shape: int) -> NDArray[Any]:
    return RNG.normal(size=shape)


def _labels(*shape: int, classes: int = 5) -> NDArray[Any]:
    return RNG.integers(0, classes, shape)


def _labelled(**more: Any) -> dict[str, Any]:
    return {"weight": None, "ignore_index": -100, **more}


def _log_softmax(x: NDArray[Any], axis: int) -> NDArray[Any]:
    return np.asarray(x - np.log(np.exp(x).sum(axis, keepdims=True)))


def _class_cases() -> dict[str, Case]:
    ignored = _labels(3, 4, 2)
    ignored[0, :2] = -100
    inner = _labels(6)
    inner[1] = 2
    op, soft = "weighted_cross_entropy", "soft_cross_entropy"
    plain = _labelled(label_smoothing=0.0)
    smooth = _labelled(label_smoothing=0.2)
    probabilities = np.exp(_log_softmax(_normal(3, 5, 2), 1))
    return {
        "nll": ("nll_loss", _labelled(), [_log_softmax(_normal(4, 5), 1), _labels(4)]),
        "nll, dense and weighted": (
            "nll_loss",
            _labelled(weight=WEIGHT),
            [_log_softmax(_normal(2, 5, 3, 2), 1), _labels(2, 3, 2)],
        ),
        "cross entropy, weighted": (
            op,
            {**plain, "weight": WEIGHT},
            [_normal(4, 5), _labels(4)],
        ),
        "cross entropy, dense": (op, plain, [_normal(3, 5, 4, 2), ignored]),
        "cross entropy, smooth": (op, smooth, [_normal(3, 5, 4, 2), ignored]),
        "cross entropy, smooth, a class ignored": (
            op,
            {**smooth, "weight": WEIGHT, "ignore_index": 2},
            [_normal(6, 5), inner],
        ),
        "cross entropy, ignored above": (
            op,
            {**smooth, "ignore_index": 255},
            [_normal(2, 5), np.array([255, 3])],
        ),
        "cross entropy of one class": (op, smooth, [_normal(2, 2, 1), np.array([[0], [1]])]),
        "soft cross entropy": (
            soft,
            {"weight": None, "label_smoothing": 0.0},
            [_normal(3, 5, 2), probabilities],
        ),
        "soft cross entropy, weighted": (
            soft,
            {"weight": WEIGHT, "label_smoothing": 0.3},
            [_normal(3, 5, 2), probabilities],
        ),
        "focal cross entropy": (
            "focal_cross_entropy",
            _labelled(gamma=2.0),
            [_normal(3, 5, 4, 2), ignored],
        ),
        "focal cross entropy, weighted": (
            "focal_cross_entropy",
            _labelled(gamma=0.5, weight=WEIGHT),
            [_normal(3, 5), _labels(3)],
        ),
        "multi-margin": (
            "multi_margin_loss",
            {"p": 1, "margin": 1.0, "weight": None},
            [_normal(4, 5), _labels(4)],
        ),
        "multi-margin, squared": (
            "multi_margin_loss",
            {"p": 2, "margin": 0.5, "weight": WEIGHT},
            [_normal(4, 5), _labels(4)],
        ),
        "three heads": (
            "deep_supervision_loss",
            {"weights": [1.0, 0.3, 0.5], "label_smoothing": 0.0},
            [_normal(4, 5, 3), _labels(4)],
        ),
        "two heads, smooth": (
            "deep_supervision_loss",
            {"weights": [0.7, 2.0], "label_smoothing": 0.2},
            [_normal(3, 5, 2), _labels(3)],
        ),
        "the main head alone": (
            "deep_supervision_loss",
            {"weights": [0.7, 2.0], "label_smoothing": 0.2},
            [_normal(3, 5), _labels(3)],
        ),
    }


def _scalar_cases() -> dict[str, Case]:
    x, t = _normal(3, 4, 2), _normal(3, 4, 2)
    p, q = RNG.uniform(0.05, 0.95, (2, 3, 4, 2))
    zero_one, sign = np.round(q), np.where(t > 0, 1.0, -1.0)
    logits = np.concatenate([x * 30, np.zeros((1, 4, 2))])
    four = np.concatenate([zero_one, np.ones((1, 4, 2))])
    made: dict[str, tuple[Any, NDArray[Any], NDArray[Any]]] = {
        "squared error": (scalars.squared_error(), x, t),
        "absolute error": (scalars.absolute_error(), x, t),
        "smooth l1": (scalars.smooth_l1(0.7), x, t),
        "smooth l1, no bend": (scalars.smooth_l1(0.0), x, t),
        "huber": (scalars.huber(0.6), x, t),
        "poisson": (scalars.poisson_nll(True, False, 1e-8), x, np.abs(t * 3)),
        "poisson, full": (scalars.poisson_nll(False, True, 1e-8), np.abs(x) + 0.1, np.abs(t * 3)),
        "kl divergence": (scalars.kl_divergence(False), np.log(p), q),
        "kl divergence of logarithms": (scalars.kl_divergence(True), np.log(p), np.log(q)),
        "binary cross entropy": (scalars.binary_cross_entropy(), p, q),
        "binary cross entropy of logits": (
            scalars.binary_cross_entropy_with_logits(),
            logits,
            four,
        ),
        "sigmoid focal": (scalars.sigmoid_focal(0.25, 2.0), x, zero_one),
        "sigmoid focal, plain": (scalars.sigmoid_focal(-1, 1.5), x, zero_one),
        "soft margin": (scalars.soft_margin(), x, sign),
        "hinge embedding": (scalars.hinge_embedding(1.0), x, sign),
        "hinge": (scalars.hinge(1.0), x, sign),
    }
    found: dict[str, Case] = {
        name: ("scalar_loss", scalars.scalar_loss(expr), [a, b])
        for name, (expr, a, b) in made.items()
    }
    found["a sum of one number"] = (
        "scalar_loss",
        scalars.scalar_loss(scalars.squared_error(), "sum"),
        [_normal(4), _normal(4)],
    )
    weighted = scalars.binary_cross_entropy_with_logits(True) * scalars.W
    constants = {"w": np.array([[1.0], [0.5], [2.0], [0.1]]), "pos_weight": np.array([3.0, 0.5])}
    attributes = scalars.scalar_loss(weighted, "mean", constants)
    found["weights that broadcast"] = ("scalar_loss", attributes, [x, zero_one])
    attributes = scalars.scalar_loss(scalars.huber(0.5))
    weighed = np.stack([x + _normal(*x.shape), np.abs(_normal(*x.shape)) + 0.1], axis=1)
    found["weights of numbers"] = ("weighted_scalar_loss", attributes, [x, weighed])
    return found


def _overlap(alpha: float, beta: float, smooth: float, **more: Any) -> dict[str, Any]:
    plain = {"per_class": True, "activation": "none", "labels": False}
    return {"alpha": alpha, "beta": beta, "smooth": smooth, **plain, **more}


def _image_cases() -> dict[str, Case]:
    p, t = RNG.uniform(0.1, 0.9, (2, 3, 2, 4, 3))
    op = "overlap_loss"
    return {
        "dice": (op, _overlap(0.5, 0.5, 0.5), [p, np.round(t)]),
        "dice of everything": (op, _overlap(0.5, 0.5, 0.0, per_class=False), [p, t]),
        "tversky of logits": (
            op,
            _overlap(0.3, 0.7, 1.0, activation="sigmoid"),
            [_normal(2, 3, 4), np.round(RNG.uniform(size=(2, 3, 4)))],
        ),
        "jaccard of labels": (
            op,
            _overlap(1.0, 1.0, 0.1, activation="softmax", labels=True),
            [_normal(2, 5, 3, 2), _labels(2, 3, 2)],
        ),
        "dice of classes": (
            op,
            _overlap(0.5, 0.5, 1.0, activation="softmax", labels=True),
            [_normal(3, 5), _labels(3)],
        ),
        "total variation": ("total_variation", {"power": 1}, [_normal(2, 3, 4, 5)]),
        "total variation, squared": ("total_variation", {"power": 2}, [_normal(2, 1, 3, 1)]),
        "total variation of a row": ("total_variation", {"power": 1}, [_normal(2, 2, 1, 4)]),
        "gram matrix": ("gram_matrix", {}, [_normal(2, 3, 4, 5)]),
        "gram matrix of sequences": ("gram_matrix", {}, [_normal(2, 3, 4)]),
        "style": ("style_loss", {}, [_normal(2, 3, 4, 2), _normal(2, 3, 3)]),
    }


def _pair_cases() -> dict[str, Case]:
    a, b, c = (_normal(6, 5) for _ in range(3))
    sign = np.array([1.0, -1, 1, -1, -1, 1])
    triplet = {"margin": 3.0, "p": 2.0, "eps": 1e-6, "swap": False}
    return {
        "cosine embedding": ("cosine_embedding", {"margin": -0.9}, [a, b, sign]),
        "triplet": ("triplet_margin", triplet, [a, b, c]),
        "triplet, swapped": ("triplet_margin", {**triplet, "swap": True, "p": 3.0}, [a, b, c]),
        "triplet of sums": (
            "triplet_margin",
            {**triplet, "p": 1.0, "margin": 6.0},
            [v[:, :2] for v in (a, b, c)],
        ),
    }


def _ctc_cases() -> dict[str, Case]:
    def settings(**more: Any) -> dict[str, Any]:
        return {"blank": 0, "zero_infinity": False, "mean": False, "length": 3, **more}

    targets = np.array([[1, 1, 2], [3, -1, -1], [4, 2, 4]])
    x = _log_softmax(_normal(3, 7, 5), 2)
    lengths = [np.array([7, 4, 5]), np.array([3, 1, 2])]
    return {
        "ctc": ("ctc_loss", settings(), [x, targets]),
        "ctc, mean": ("ctc_loss", settings(mean=True), [x, targets]),
        "ctc with lengths": ("ctc_loss", settings(), [x, targets, *lengths]),
        "ctc, hopeless": (
            "ctc_loss",
            settings(zero_infinity=True),
            [
                x,
                np.array([[1, 1, 2], [1, 1, 1], [2, 2, 2]]),
                np.array([7, 4, 7]),
                lengths[0] * 0 + 3,
            ],
        ),
        "ctc, another blank": (
            "ctc_loss",
            settings(blank=4, length=2),
            [x, np.array([[1, 2], [0, 0], [-1, -1]])],
        ),
    }


CASES: dict[str, Case] = {
    **_class_cases(),
    **_scalar_cases(),
    **_image_cases(),
    **_pair_cases(),
    **_ctc_cases(),
}
LINEAR: dict[str, int] = {}


def _torch() -> Any:
    import torch

    return torch.nn.functional


def _cross_entropy(a: dict[str, Any], x: Any, t: Any) -> Any:
    import torch

    weight = None if a["weight"] is None else torch.tensor(a["weight"], dtype=x.dtype)
    found = _torch().cross_entropy(
        x,
        t,
        weight,
        ignore_index=a.get("ignore_index", -100),
        reduction="none",
        label_smoothing=a["label_smoothing"],
    )
    return found.flatten(1).mean(1) if found.ndim > 1 else found


def _nll(a: dict[str, Any], x: Any, t: Any) -> Any:
    import torch

    weight = None if a["weight"] is None else torch.tensor(a["weight"], dtype=x.dtype)
    found = _torch().nll_loss(x, t, weight, reduction="none")
    return found.flatten(1).mean(1) if found.ndim > 1 else found


def _multi_margin(a: dict[str, Any], x: Any, t: Any) -> Any:
    import torch

    weight = None if a["weight"] is None else torch.tensor(a["weight"], dtype=x.dtype)
    return _torch().multi_margin_loss(x, t, a["p"], a["margin"], weight, reduction="none")


def _deep_supervision(a: dict[str, Any], x: Any, t: Any) -> Any:
    heads = [x[..., k] for k in range(x.shape[2])] if x.ndim == 3 else [x]
    smooth = {"reduction": "none", "label_smoothing": a["label_smoothing"]}
    each = [
        w * _torch().cross_entropy(h, t, **smooth)
        for w, h in zip(a["weights"][: len(heads)], heads, strict=True)
    ]
    return sum(each)


PEERS: dict[str, Callable[..., Any]] = {
    "deep_supervision_loss": _deep_supervision,
    "weighted_cross_entropy": _cross_entropy,
    "soft_cross_entropy": _cross_entropy,
    "nll_loss": _nll,
    "multi_margin_loss": _multi_margin,
    "cosine_embedding": lambda a, x, y, t: _torch().cosine_embedding_loss(
        x, y, t, a["margin"], reduction="none"
    ),
    "triplet_margin": lambda a, x, y, z: _torch().triplet_margin_loss(
        x, y, z, a["margin"], a["p"], a["eps"], a["swap"], reduction="none"
    ),
}
