"""The pictures of the page on what a network looks at: LeNet-5 on bundled digits.

python docs/scripts/pictures_interpret.py      (some seconds)
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import striate as st
from striate import interpret, plot

IMAGES = Path(__file__).parents[1] / "images"
SHOWN = (7, 4, 2)  # digits: the first test image of each
COLOURS = 256


def trained() -> Any:
    """LeNet-5 after some epochs, and the digits that it has never seen."""
    train, test = st.data.load("digits")
    st.manual_seed(0)
    net = st.models.lenet5()
    optimizer = st.optim.AdamW(lr=3e-3, weight_decay=0.1)
    st.fit(net, train, epochs=6, batch_size=32, optimizer=optimizer, progress=False)
    return net, test


def main() -> None:
    net, test = trained()
    images, _ = test.batch([int(np.argmax(test.labels == digit)) for digit in SHOWN])
    maps = {
        "saliency": interpret.saliency(net, images),
        "SmoothGrad": abs(interpret.smoothgrad(net, images)),
        "integrated": interpret.integrated_gradients(net, images),
        "guided": interpret.guided_backprop(net, images),
        "Grad-CAM": interpret.grad_cam(net, images),
        "occlusion": interpret.occlusion(net, images, window=6, stride=1),
    }
    figure = plot.attribution(
        images,
        maps,
        overlay=False,
        title="What LeNet-5 looks at",
        under="Digits that it has never seen; each map is of the class that it takes them for",
    )
    write(figure, "interpret_maps.png")
    write(random_weights(net, images[1:2]), "interpret_random.png")


def write(figure: Any, name: str, dpi: int = 130) -> None:
    """Write a figure as PNG in a palette, to keep it small."""
    with tempfile.TemporaryDirectory() as folder:
        with Image.open(plot.save(figure, Path(folder) / name, dpi=dpi)) as picture:
            small = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
        small.save(IMAGES / name, optimize=True)


def random_weights(net: Any, image: Any) -> Any:
    """Rows of maps: saliency and guided backpropagation as the weights become random."""
    rows, layers = [], ()
    for method, options in (
        (interpret.saliency, {"absolute": False}),
        (interpret.guided_backprop, {}),
    ):
        found = interpret.randomization_test(net, image, method, **options)
        maps = found.maps[:, 0]
        rows.append(maps / np.abs(maps).max(axis=(1, 2, 3), keepdims=True))
        layers = found.layers
    names = ["as learned", *(f"… {name}" for name in layers)]
    stacked = {name: [row[k] for row in rows] for k, name in enumerate(names)}
    return plot.attribution(
        image.repeat(2, axis=0),
        stacked,
        names=("saliency", "guided"),
        overlay=False,
        title="Maps when weights become random",
        under="As learned, and with the weights drawn anew from the last layer back to …; each map "
        "divided by its greatest magnitude",
    )


if __name__ == "__main__":
    main()
