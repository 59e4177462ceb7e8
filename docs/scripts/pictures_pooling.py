"""The pictures of the pages on pooling and resizing: what each operation does to one digit.

python docs/scripts/pictures_pooling.py
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from PIL import Image

import striate as st
from striate import nn
from striate.nn import functional as F

IMAGES = Path(__file__).parents[1] / "images"
Panel = tuple[str, Any]  # a title and an image


def digit() -> Any:
    """A digit of the bundled set, (1, 1, 28, 28)."""
    train, _ = st.data.load("digits")
    place = int(np.flatnonzero(train.labels == 8)[3])
    return np.asarray(train.images[place : place + 1], np.float32)


def save(panels: Sequence[Panel], name: str, columns: int) -> None:
    """Panels beside one another, in a palette to keep the file small."""
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(1.55 * columns, 1.95 * rows))
    for axis in axes.flat:
        axis.axis("off")
    for axis, (title, image) in zip(axes.flat, panels, strict=False):
        axis.imshow(image, cmap="gray", interpolation="nearest")
        axis.set_title(title, fontsize=8)
    figure.tight_layout(pad=0.4, h_pad=1.6)
    memory = io.BytesIO()
    figure.savefig(memory, dpi=110)
    plt.close(figure)
    with Image.open(memory) as picture:
        small = picture.convert("RGB").quantize(64, dither=Image.Dither.NONE)
        small.save(IMAGES / f"{name}.png", optimize=True)


def pooling() -> list[Panel]:
    """What each kind of pooling leaves of one image."""
    x = digit()
    st.manual_seed(1)
    pools: list[tuple[str, nn.Module]] = [
        ("max 4×4", nn.MaxPool2d(4)),
        ("average 4×4", nn.AvgPool2d(4)),
        ("L2 4×4", nn.LPPool2d(2, 4)),
        ("Gaussian 4×4, σ = 1", nn.GaussianPool2d(4, 1.0)),
        ("stochastic 4×4", nn.StochasticPool2d(4)),
        ("… in evaluation", nn.StochasticPool2d(4).eval()),
        ("max 3×3, stride 1", nn.MaxPool2d(3, 1, 1)),
        ("fractional, 28 → 17", nn.FractionalMaxPool2d(2, 17)),
        ("adaptive max, 28 → 5", nn.AdaptiveMaxPool2d(5)),
        ("quadrants (average)", nn.AdaptiveAvgPool2d(2)),
    ]
    found = [("image 28×28", x[0, 0])] + [(title, pool(x)[0, 0]) for title, pool in pools]
    labels = nn.DynamicPool2d(7, 28).fit(many()).labels
    return [*found, ("7 regions found in data", labels)]


def many() -> Any:
    """Images whose positions are to be clustered."""
    train, _ = st.data.load("digits")
    return np.asarray(train.images[:200], np.float32)


def unpooling() -> list[Panel]:
    """There and back again."""
    x = digit()
    y, switches = F.max_pool2d(x, 2, return_indices=True)
    small, places = F.max_pool2d(x, 4, return_indices=True)
    return [
        ("image 28×28", x[0, 0]),
        ("max 2×2", y[0, 0]),
        ("max unpooling", F.max_unpool2d(y, switches, 2)[0, 0]),
        ("nearest", F.interpolate(y, scale_factor=2)[0, 0]),
        ("max 4×4", small[0, 0]),
        ("max unpooling", F.max_unpool2d(small, places, 4)[0, 0]),
    ]


def resizing() -> list[Panel]:
    """An eighth of the digit, four times as large; and the digit, shrunk."""
    x = digit()
    part = np.ascontiguousarray(x[:, :, 6:14, 10:18])
    corner = {"align_corners": True}
    large = [
        ("image 8×8", part[0, 0]),
        ("nearest", F.interpolate(part, 32)[0, 0]),
        ("bilinear", F.interpolate(part, 32, mode="bilinear")[0, 0]),
        ("… align_corners", F.interpolate(part, 32, mode="bilinear", **corner)[0, 0]),
        ("bicubic", F.interpolate(part, 32, mode="bicubic")[0, 0]),
    ]
    return [
        *large,
        ("image 28×28", x[0, 0]),
        ("nearest, 11×11", F.interpolate(x, 11)[0, 0]),
        ("bilinear", F.interpolate(x, 11, mode="bilinear")[0, 0]),
        ("… antialias", F.interpolate(x, 11, mode="bilinear", antialias=True)[0, 0]),
        ("area", F.interpolate(x, 11, mode="area")[0, 0]),
    ]


def main() -> None:
    """Draw them all."""
    mpl.use("Agg")
    IMAGES.mkdir(exist_ok=True)
    save(pooling(), "pooling", 6)
    save(unpooling(), "unpooling", 6)
    save(resizing(), "resizing", 5)


if __name__ == "__main__":
    main()
