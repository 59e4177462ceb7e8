"""Pictures of the pages on recurrent layers, capsules and initialisers, into `docs/images`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt

import striate as st
from striate.nn import functional as F
from striate.nn import init

IMAGES = Path(__file__).parents[1] / "images"
INK, BLUE, ORANGE, GREEN = "#222222", "#2b6cb0", "#c05621", "#2f855a"


def save(figure: Any, name: str) -> None:
    figure.savefig(IMAGES / f"{name}.png", dpi=110, bbox_inches="tight", metadata={"Software": ""})
    plt.close(figure)


def box(axes: Any, x: float, y: float, text: str, colour: str) -> None:
    style = {"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": colour, "lw": 1.6}
    axes.text(x, y, text, ha="center", va="center", fontsize=11, color=INK, bbox=style)


def arrow(axes: Any, *points: tuple[float, float]) -> None:
    xs, ys = zip(*points, strict=True)
    axes.plot(xs[:-1], ys[:-1], color=INK, lw=1.2, solid_joinstyle="round")
    style = {"arrowstyle": "-|>", "color": INK, "lw": 1.2, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", points[-1], points[-2], arrowprops=style)


def lstm() -> None:
    """One step: the state along the top, the gates below."""
    figure, axes = plt.subplots(figsize=(8.4, 4.2))
    gates = {"f": 1.8, "i": 3.4, "g": 4.8, "o": 6.6}
    arrow(axes, (-0.3, 4), (1.55, 4))
    arrow(axes, (2.05, 4), (3.85, 4))
    arrow(axes, (4.35, 4), (8.6, 4))
    for name, x in gates.items():
        function = "tanh" if name == "g" else "σ"
        arrow(axes, (x, 0.9), (x, 1.45))
        box(axes, x, 1.75, f"{function}({name})", ORANGE if name == "g" else BLUE)
    arrow(axes, (1.8, 2.05), (1.8, 3.72))
    arrow(axes, (3.4, 2.05), (3.4, 2.9), (3.85, 2.9))
    arrow(axes, (4.8, 2.05), (4.8, 2.9), (4.35, 2.9))
    arrow(axes, (4.1, 3.15), (4.1, 3.72))
    arrow(axes, (6.6, 2.05), (6.6, 2.42))
    arrow(axes, (6.6, 4), (6.6, 3.7))
    box(axes, 6.6, 3.45, "tanh", ORANGE)
    arrow(axes, (6.6, 3.2), (6.6, 2.98))
    arrow(axes, (6.85, 2.7), (8.6, 2.7))
    for x, y, sign in ((1.8, 4, "·"), (4.1, 4, "+"), (4.1, 2.9, "·"), (6.6, 2.7, "·")):
        axes.add_patch(
            plt.Circle((x, y), 0.25, facecolor="white", edgecolor=GREEN, lw=1.6, zorder=3)
        )
        axes.text(x, y, sign, ha="center", va="center", fontsize=13, zorder=4)
    axes.plot([0.6, 0.6, 6.6], [0.45, 0.9, 0.9], color=INK, lw=1.2)
    box(axes, 0.6, 0.2, "W_ih·x + b_ih + W_hh·h + b_hh", GREEN)
    axes.text(-0.4, 4, "c", ha="right", va="center", fontsize=13)
    axes.text(-2.35, 0.2, "x, h", ha="right", va="center", fontsize=13)
    arrow(axes, (-2.25, 0.2), (-1.8, 0.2))
    axes.text(8.7, 4, "c′", ha="left", va="center", fontsize=13)
    axes.text(8.7, 2.7, "h′", ha="left", va="center", fontsize=13)
    axes.set(xlim=(-3.0, 9.2), ylim=(-0.2, 4.5), aspect="equal")
    axes.axis("off")
    save(figure, "lstm")


def couplings(iterations: int) -> np.ndarray:
    """How much of eight capsules goes to two others in each round; half of them vote alike."""
    rng = np.random.default_rng(2)
    votes = rng.normal(size=(8, 2, 6))
    votes /= np.linalg.norm(votes, axis=2, keepdims=True)
    votes[:4, 0] = votes[0, 0]
    b, found = np.zeros((8, 2)), []
    for _ in range(iterations):
        c = np.exp(b) / np.exp(b).sum(1, keepdims=True)
        found.append(c[:, 0])
        v = F.squash((c[:, :, None] * votes).sum(0))
        b = b + 3 * (votes * v).sum(2)
    return np.array(found)


def capsules() -> None:
    """The squash function of a length, and couplings round by round."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.1))
    length = np.linspace(0, 6, 200)
    left.plot(length, length**2 / (1 + length**2), color=BLUE, lw=2)
    left.axhline(1, color="#999999", lw=0.8, ls="--")
    left.set(xlabel="length before, ‖s‖", ylabel="length after, ‖v‖", ylim=(0, 1.08), xlim=(0, 6))
    found = couplings(4)
    for k in range(8):
        colour = GREEN if k < 4 else "#aaaaaa"
        label = {0: "vote alike", 4: "vote at random"}.get(k)
        right.plot(range(1, 5), found[:, k], "o-", color=colour, lw=1.5, ms=4, label=label)
    right.set(xlabel="round of routing", ylabel="coupling c", xticks=range(1, 5), ylim=(0, 1))
    right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    save(figure, "capsules")


def initialisers() -> None:
    """Histograms of a weight (64, 32, 3, 3), whose fan_in is 288 and fan_out 576."""
    st.manual_seed(0)
    shape = (64, 32, 3, 3)
    fills = {
        "default of layers: U(−1/√fan_in, …)": lambda t: init.kaiming_uniform_(t, a=5**0.5),
        "kaiming_normal_, relu": lambda t: init.kaiming_normal_(t, nonlinearity="relu"),
        "xavier_uniform_": init.xavier_uniform_,
        "xavier_normal_": init.xavier_normal_,
        "trunc_normal_, std 0.1, [−0.15, 0.15]": lambda t: init.trunc_normal_(
            t, std=0.1, a=-0.15, b=0.15
        ),
        "orthogonal_": init.orthogonal_,
    }
    figure, grid = plt.subplots(2, 3, figsize=(8.4, 3.9), sharex=True)
    for axes, (title, fill) in zip(grid.flat, fills.items(), strict=True):
        axes.hist(fill(np.empty(shape)).ravel(), 70, range=(-0.3, 0.3), color=BLUE, density=True)
        axes.set_title(title, fontsize=8.5)
        axes.set_yticks([])
        axes.spines[["top", "right", "left"]].set_visible(False)
    figure.tight_layout()
    save(figure, "initialisers")


if __name__ == "__main__":
    lstm()
    capsules()
    initialisers()
