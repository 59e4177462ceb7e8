"""The pictures of the page on what units like.

python docs/scripts/pictures_features.py runs/cifar      (some minutes)

`runs/cifar` is the folder of the CIFAR-10 recipe of docs/training-recipes.md; the data set is
found as `cifar10` in $STRIATE_DATA. The filters of the Gabor fits are those of a small network that
is trained here.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

from PIL import Image

import striate as st
from striate import interpret, nn
from striate.cli.interpret_maximize import colours_of

IMAGES = Path(__file__).parents[1] / "images"
INVERTED = ("0.conv", "1.relu", "2.add", "3.relu", "4.relu", "5.add", "9")
UNITS = (2, 9, 11, 14)


def save(figure: Any, name: str, dpi: int = 100, colours: int = 256) -> None:
    """Write a figure as PNG in a palette, to keep it small."""
    memory = io.BytesIO()
    figure.savefig(memory, dpi=dpi)
    with Image.open(memory) as picture:
        small = picture.convert("RGB").quantize(colours, dither=Image.Dither.NONE)
        small.save(IMAGES / f"{name}.png", optimize=True)


def classes(net: Any, train: Any) -> None:
    """An image for each class, as the page's command makes them."""
    found = interpret.maximize(net, units=range(10), colours=colours_of("cifar10"), tv=50.0)
    figure = st.plot.maximized(
        found,
        names=train.classes,
        course=False,
        under="a network trained on CIFAR-10; the score of each image below it",
    )
    save(figure, "features_maximize")


def inversions(net: Any, test: Any) -> None:
    """Two photos, and what layers still know of them."""
    images, _ = test.batch([1263, 7013])
    options = {"fourier": True, "colours": colours_of("cifar10"), "tv": 0.3, "lr": 0.1}
    layers = [interpret.invert(net, images, name, **options) for name in INVERTED]
    save(st.plot.inverted(images, layers), "features_invert")


def patches(net: Any, test: Any) -> None:
    """Units of a layer, and what drives them."""
    found = interpret.top_patches(net, test, "3.relu", UNITS, deconvolve=True, outside=1.0)
    save(st.plot.top_patches(found), "features_patches")


def gabors(train: Any) -> None:
    """Filters of 9×9 of a small network."""
    st.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(3, 32, 9, padding=4, bias=False), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.MaxPool2d(4), nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU()),
        *(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64 * 16, 10)),
    )
    optimizer = st.optim.SGD(lr=0.05, momentum=0.9, nesterov=True, weight_decay=2e-3)
    st.fit(net, train, epochs=3, batch_size=128, optimizer=optimizer, schedule="one-cycle",
           augment="flip,crop4")  # fmt: skip
    fit = interpret.fit_gabor(net.state_dict()["0.weight"].mean(axis=1))
    print(fit)
    title = "Luminance of the first filters as Gabor functions"
    save(st.plot.gabor_fit(fit, most=16, title=title), "features_gabor")


def main(folder: str) -> None:
    train, test = st.data.load("cifar10")
    net = st.load(Path(folder) / "model.safetensors")
    classes(net, train)
    inversions(net, test)
    patches(net, test)
    gabors(train)


if __name__ == "__main__":
    main(sys.argv[1])
