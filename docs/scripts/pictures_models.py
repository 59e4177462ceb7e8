"""The pictures of the pages on networks: LeNet-5's table and prototypes, a classifier that slides.

python docs/scripts/pictures_models.py
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from PIL import Image

import striate as st
from striate.models.lenet_1998 import CONNECTIONS, digit_pictures

IMAGES = Path(__file__).parents[1] / "images"


def save(figure: Any, name: str) -> None:
    """A figure, in a palette to keep the file small."""
    memory = io.BytesIO()
    figure.savefig(memory, dpi=110)
    plt.close(figure)
    with Image.open(memory) as picture:
        small = picture.convert("RGB").quantize(64, dither=Image.Dither.NONE)
        small.save(IMAGES / f"{name}.png", optimize=True)


def lenet() -> None:
    """Which maps of S2 each map of C3 reads; the pictures that F6 is compared with."""
    figure, (table, digits) = plt.subplots(
        1, 2, figsize=(8.6, 2.7), width_ratios=(1.15, 1), layout="constrained"
    )
    read = np.zeros((6, 16))
    for column, maps in enumerate(CONNECTIONS):
        read[list(maps), column] = 1
    table.imshow(read, cmap="Greys", vmin=0, vmax=1.6)
    table.set_xticks(np.arange(16), labels=[str(k) for k in range(16)], fontsize=7)
    table.set_yticks(np.arange(6), labels=[str(k) for k in range(6)], fontsize=7)
    table.set_xticks(np.arange(17) - 0.5, minor=True)
    table.set_yticks(np.arange(7) - 0.5, minor=True)
    table.grid(which="minor", color="white", linewidth=1.5)
    table.tick_params(which="both", length=0)
    table.set_xlabel("map of C3", fontsize=8)
    table.set_ylabel("map of S2", fontsize=8)
    table.set_title("60 of 96 connections", fontsize=9)
    wide = np.pad(digit_pictures(), [(0, 0), (1, 1), (1, 1)], constant_values=np.nan)
    rows = [np.concatenate(list(wide[k : k + 5]), axis=1) for k in (0, 5)]
    digits.imshow(np.concatenate(rows), cmap="Greys", vmin=-1, vmax=1)
    digits.set_facecolor("#dddddd")
    digits.set_xticks([])
    digits.set_yticks([])
    digits.set_title("the ten prototypes: −1 white, 1 black", fontsize=9)
    save(figure, "models_lenet")


def row_of_digits(images: Any, labels: Any, wanted: str) -> Any:
    """Digits side by side, 20 pixels apart, on a field of 32 rows."""
    field = np.zeros((32, 12 + 20 * len(wanted)), np.float32)
    for place, digit in enumerate(wanted):
        image = images[np.flatnonzero(labels == int(digit))[place], 0]
        left = 2 + 20 * place
        part = field[2:30, left : left + 28]
        np.maximum(part, image[:, : part.shape[1]], out=part)
    return field


def sliding() -> None:
    """LeNet-5's scores along a row of digits."""
    train, test = st.data.load("digits")
    st.manual_seed(0)
    net = st.models.lenet5_1998()
    adam = st.optim.Adam(lr=3e-3)
    st.fit(net, train, epochs=6, batch_size=32, optimizer=adam, schedule="one-cycle")
    wanted = "31415926"
    field = row_of_digits(test.images, test.labels, wanted)
    scores = st.models.convolutionalize(net, (1, 32, 32))(field[None, None])[0, :, 0]
    distances = np.minimum(-scores, 150)
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(7.2, 3.9), sharex=True, height_ratios=(1, 1.7), layout="constrained"
    )
    above.imshow(field, cmap="gray", extent=(0, field.shape[1], 32, 0), aspect="auto")
    above.set_yticks([])
    above.set_title("a field of 32 rows; one call of the network", fontsize=9)
    centres = 16 + 4 * np.arange(distances.shape[1])
    extent = (centres[0] - 2, centres[-1] + 2, 9.5, -0.5)
    shown = below.imshow(distances, cmap="magma_r", extent=extent, aspect="auto")
    best = distances.argmin(0)
    sure = distances.min(0) < 12
    below.plot(centres[sure], best[sure], "o", ms=4, mfc="none", mec="#00b4d8")
    below.set_yticks(range(10))
    below.set_ylabel("class", fontsize=8)
    below.set_xlabel("centre of the window, pixels", fontsize=8)
    below.tick_params(labelsize=7)
    bar = figure.colorbar(shown, ax=below, pad=0.01)
    bar.ax.tick_params(labelsize=7)
    bar.set_label("distance", fontsize=8)
    save(figure, "models_sliding")


if __name__ == "__main__":
    mpl.use("Agg")
    lenet()
    sliding()
