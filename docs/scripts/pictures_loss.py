"""The pictures of docs/operations/losses.md; run with no arguments from the repository's root."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np

from striate.formula import loss_scalar as losses
from striate.formula.ctc import Alignments
from striate.formula.expression import Expr, evaluate

matplotlib.use("Agg")
import matplotlib.pyplot as plt

IMAGES = Path(__file__).parents[1] / "images"
ERRORS = np.linspace(-3, 3, 601)


def draw(axes: plt.Axes, curves: dict[str, Expr], target: float) -> None:
    for name, expr in curves.items():
        axes.plot(
            ERRORS, evaluate(expr, {"x": ERRORS, "t": np.full_like(ERRORS, target)}), label=name
        )
    axes.set_ylim(-0.1, 4)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)


def curves() -> None:
    """Losses of a number, over the error; and losses of a margin, over the score."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    draw(
        left,
        {
            "MSELoss": losses.squared_error(),
            "L1Loss": losses.absolute_error(),
            "SmoothL1Loss, β = 1": losses.smooth_l1(1.0),
            "HuberLoss, δ = ½": losses.huber(0.5),
        },
        0.0,
    )
    left.set(xlabel="x − t", title="regression")
    draw(
        right,
        {
            "HingeLoss": losses.hinge(1.0),
            "SoftMarginLoss": losses.soft_margin(),
            "SigmoidFocalLoss, γ = 2": losses.sigmoid_focal(-1, 2.0),
            "HingeLoss, margin 2": losses.hinge(2.0),
        },
        1.0,
    )
    right.set(xlabel="score x of a sample with t = 1", title="two classes")
    figure.savefig(IMAGES / "loss_curves.png", dpi=80)


def alignment() -> None:
    """Where each character of "CAT" is, as a network's guess and as the target allows."""
    rng = np.random.default_rng(4)
    time, letters = 24, "·CAT"
    logits = rng.normal(0, 0.7, (time, 4))
    for k, middle in ((1, 5), (2, 11), (3, 18)):
        logits[:, k] += 3.2 * np.exp(-((np.arange(time) - middle) ** 2) / 4)
    logits[:, 0] += 1.6
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    paths = Alignments.of(
        log_p[None], np.array([[1, 2, 3]]), np.array([time]), np.array([3]), blank=0
    )
    figure, (above, below) = plt.subplots(2, 1, figsize=(8, 3.6), layout="constrained", sharex=True)
    shown = {"cmap": "viridis", "aspect": "auto", "vmin": 0, "vmax": 1}
    above.imshow(np.exp(log_p).T, **shown)
    above.set(yticks=range(4), yticklabels=letters, title="p(character) at each time step")
    image = below.imshow(paths.occupancy()[:, 0].T, **shown)
    below.set(
        yticks=range(7),
        yticklabels="·C·A·T·",
        xlabel="time step",
        title="p(place in the target | the target is CAT): the paths that CTC sums up",
    )
    figure.colorbar(image, ax=(above, below), shrink=0.8)
    figure.savefig(IMAGES / "loss_ctc.png", dpi=80)


if __name__ == "__main__":
    curves()
    alignment()
