"""The pictures of docs/explain.md: a number taken apart, a gradient, and the way to the pixels.

    python docs/scripts/pictures_explain.py

LeNet-5 is trained on a data set (by default "digits") for two epochs; the image is a test digit.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import striate as st

OUT = Path(__file__).parents[1] / "images"
DPI = 96


def save(figure: object, name: str) -> None:
    """A PNG with few colours."""
    path = OUT / name
    st.plot.save(figure, path, dpi=DPI)
    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(96, dither=Image.Dither.NONE)
    small.save(path, optimize=True)


def main(name: str = "digits") -> None:
    """Draw the pictures."""
    st.manual_seed(0)
    net = st.models.lenet5()
    train, test = st.data.load(name)
    st.fit(net, train, epochs=2, optimizer=st.optim.Adam(lr=4e-3), seed=0, progress=False)
    image = test.images[int(np.flatnonzero(test.labels == 7)[0])]
    save(st.plot.explanation(st.explain(net, image, "conv2")), "explain_number.png")
    gradient = st.explain_gradient(net, image, "conv2.weight", (3, 1, 2, 2), target=7)
    save(st.plot.explanation(gradient), "explain_gradient.png")
    save(st.plot.trace(st.explain(net, image, "fc3", 7).to_pixels(3), image), "explain_pixels.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
