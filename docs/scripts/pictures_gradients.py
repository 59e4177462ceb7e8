"""The picture of docs/operations/gradients.md: gradients of a digit's class.

    python docs/scripts/pictures_gradients.py

A small network is trained on a data set (by default "digits"); then, for some of its images, the
gradient of the right class's output to the image and to the first layer's features.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

import striate as st
from striate import nn

matplotlib.use("Agg")
from matplotlib import pyplot as plt

OUT = Path(__file__).parents[1] / "images" / "gradients.png"


def trained(name: str) -> tuple[nn.Module, np.ndarray, np.ndarray]:
    """A network, and test images with their labels."""
    train, test = st.data.load(name)
    st.manual_seed(0)
    side = train.images.shape[2] // 2
    first = nn.Conv2d(1, 8, 5, padding=2)
    last = nn.Linear(8 * side * side, 10)
    net = nn.Sequential(first, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), last)
    st.fit(net, train, epochs=3, seed=0, progress=False)
    return net, test.images, test.labels


def main(name: str = "digits") -> None:
    """Draw the picture."""
    net, images, labels = trained(name)
    chosen = [int(np.flatnonzero(labels == digit)[0]) for digit in (2, 5, 7)]
    x, up = images[chosen], np.eye(10)[labels[chosen]]
    found = st.gradient(net, x, up, to=["input", "1"])
    figure, axes = plt.subplots(3, 4, figsize=(7.2, 5.2), layout="constrained")
    titles = ("image", "∂ class / ∂ image", "∂ class / ∂ feature 1", "∂ class / ∂ feature 2")
    for row, parts in enumerate(zip(x, found["input"], found["1"], strict=True)):
        strongest = np.argsort(-np.abs(parts[2]).sum((1, 2)))[:2]
        shown = [parts[0][0], parts[1][0], *parts[2][strongest]]
        for k, (panel, ax) in enumerate(zip(shown, axes[row], strict=True)):
            limit = np.abs(panel).max()
            style = {"cmap": "gray"} if k == 0 else {"cmap": "RdBu", "vmin": -limit, "vmax": limit}
            ax.imshow(panel, **style)
            ax.set(xticks=[], yticks=[])
            if row == 0:
                ax.set_title(titles[k], fontsize=10)
    figure.savefig(OUT, dpi=80)
    with Image.open(OUT) as picture:
        picture.convert("RGB").quantize(64, dither=Image.Dither.NONE).save(OUT, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
