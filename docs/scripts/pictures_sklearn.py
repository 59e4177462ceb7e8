"""The picture of the page on scikit-learn: accuracy by the number of training digits.

python docs/scripts/pictures_sklearn.py [--draw]      (some minutes; --draw takes FOUND as it is)
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import striate as st
from striate.sklearn import ConvFeatures, ConvNetClassifier

IMAGES = Path(__file__).parents[1] / "images"
COUNTS = (100, 300, 1000, 3000)
COLOURS = ("#718096", "#2f855a", "#2b6cb0", "#c05621")
FOUND: dict[str, tuple[float, ...]] = {  # what the last run printed
    "logistic regression on pixels": (0.601, 0.722, 0.847, 0.883),
    "… on 64 random filters": (0.683, 0.86, 0.944, 0.96),
    "… on the network's features": (0.64, 0.877, 0.958, 0.98),
    "ConvNetClassifier": (0.636, 0.891, 0.952, 0.98),
}


def linear() -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))


def random_filters() -> ConvFeatures:
    return ConvFeatures(
        "conv5x64-relu-softmax", layer="relu1", pooling="max", grid=4, random_state=0
    )


def accuracies(count: int) -> dict[str, float]:
    """The share of the 1,000 test digits that each way gets right after `count` digits."""
    train, test = st.data.load("digits")
    images, labels = train.images[:count], train.labels[:count]
    net = ConvNetClassifier(epochs=20, random_state=0).fit(images, labels)
    ways = {
        "logistic regression on pixels": (linear(), 784),
        "… on 64 random filters": (make_pipeline(random_filters(), linear()), None),
        "… on the network's features": (make_pipeline(ConvFeatures(net.net_), linear()), None),
    }
    found = {}
    for name, (model, size) in ways.items():
        shapes = [a.reshape(len(a), size) if size else a for a in (images, test.images)]
        found[name] = model.fit(shapes[0], labels).score(shapes[1], test.labels)
    found["ConvNetClassifier"] = net.score(test.images, test.labels)
    return found


def measure() -> dict[str, tuple[float, ...]]:
    rows = []
    for count in COUNTS:
        rows.append(accuracies(count))
        print(count, rows[-1], flush=True)
    return {name: tuple(row[name] for row in rows) for name in rows[0]}


def draw(found: dict[str, tuple[float, ...]]) -> None:
    figure, axes = plt.subplots(figsize=(6.6, 3.6))
    for (name, values), colour in zip(found.items(), COLOURS, strict=True):
        axes.plot(COUNTS, [100 * v for v in values], "o-", color=colour, lw=1.8, ms=5, label=name)
    axes.set_xscale("log")
    axes.set_xticks(COUNTS, [f"{k:,}" for k in COUNTS])
    axes.minorticks_off()
    axes.set(xlabel="training digits", ylabel="test digits right, %")
    axes.grid(axis="y", color="#e2e8f0")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right", fontsize=9)
    figure.savefig(
        IMAGES / "sklearn_digits.png", dpi=110, bbox_inches="tight", metadata={"Software": ""}
    )
    plt.close(figure)


if __name__ == "__main__":
    draw(FOUND if "--draw" in sys.argv else measure())
