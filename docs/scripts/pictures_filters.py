"""The pictures of the pages on filters, algorithms and matrices.

python docs/scripts/pictures_filters.py
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from striate import filters, nn, plot
from striate.filters import cost

IMAGES = Path(__file__).parents[1] / "images"


def save(figure: Any, name: str, dpi: int = 110, colours: int = 128) -> None:
    """Write a figure as PNG in a palette, to keep it small."""
    memory = io.BytesIO()
    figure.savefig(memory, dpi=dpi, bbox_inches="tight")
    with Image.open(memory) as picture:
        small = picture.convert("RGB").quantize(colours, dither=Image.Dither.NONE)
        small.save(IMAGES / f"{name}.png", optimize=True)


def scene(side: int = 160) -> np.ndarray:
    """A made-up photo in grey: sky, sun, hills, a house with a tiled roof, a fence, grain."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:side, 0:side] / side
    picture = 0.85 - 0.25 * y
    picture[(x - 0.8) ** 2 + (y - 0.2) ** 2 < 0.008] = 1.0
    hills = 0.55 + 0.08 * np.sin(7 * x) + 0.04 * np.sin(17 * x + 1)
    picture = np.where(
        y > hills, 0.45 - 0.15 * (y - hills) + 0.03 * np.sin(60 * x + 40 * y), picture
    )
    walls = (np.abs(x - 0.35) < 0.18) & (y > 0.45) & (y < 0.8)
    picture[walls] = 0.75
    roof = (np.abs(x - 0.35) < 0.24 * (y - 0.27) / 0.18) & (y > 0.27) & (y < 0.45)
    picture = np.where(roof, 0.3 + 0.12 * np.sign(np.sin(150 * (x + y))), picture)
    window = (np.abs(x - 0.28) < 0.05) & (np.abs(y - 0.57) < 0.05)
    picture[window] = 0.15
    door = (np.abs(x - 0.43) < 0.04) & (y > 0.6) & (y < 0.8)
    picture[door] = 0.25
    fence = (y > 0.82) & (y < 0.92) & (np.sin(110 * x) > 0.2)
    picture[fence] = 0.9
    soft = filters.apply(rng.normal(size=(side, side)), filters.gaussian(0.8))
    return np.clip(picture + 0.012 * soft, 0, 1).astype(np.float32)


def gallery() -> None:
    """Every kind of kernel on one image; derivatives grey where they are 0."""
    from matplotlib import pyplot as plt

    photo = scene()
    shown: dict[str, np.ndarray] = {"the image": photo}
    shown |= {name: filters.apply(photo, make()) for name, make in filters.KERNELS.items()}
    shown["gradient magnitude"] = filters.gradient_magnitude(photo)
    figure, places = plt.subplots(3, 6, figsize=(10, 5.6))
    for place in places.ravel():
        place.axis("off")
    for place, (name, picture) in zip(places.ravel(), shown.items(), strict=False):
        around = filters.KERNELS[name]().sum() if name in filters.KERNELS else 1.0
        if abs(around) < 0.5 or name == "gabor":
            most = float(np.quantile(np.abs(picture), 0.995))
            place.imshow(picture, cmap="gray", vmin=-most, vmax=most)
        else:
            place.imshow(picture, cmap="gray", vmin=0, vmax=0.4 if name.endswith("tude") else 1)
        place.set_title(name, fontsize=8)
    figure.tight_layout(pad=0.4)
    save(figure, "filters_gallery", dpi=80, colours=12)


def crossover() -> None:
    """What the model expects of each algorithm, by the kernel's size."""
    from matplotlib import pyplot as plt

    sizes = np.unique(np.round(np.geomspace(1, 201, 40)).astype(int))
    rng = np.random.default_rng(0)
    seconds: dict[str, list[float]] = {name: [] for name in cost.BUILT_IN}
    one: list[float] = []
    for k in sizes:
        found = filters.choose((1024, 1024), rng.normal(size=(k, k))).seconds
        for name, times in seconds.items():
            times.append(1e3 * found[name] if name != "separable" else np.nan)
        line = rng.normal(size=k)
        one.append(1e3 * filters.choose((1024, 1024), np.outer(line, line)).seconds["separable"])
    seconds["separable"] = one
    figure, place = plt.subplots(figsize=(6.4, 3.6))
    for name, times in seconds.items():
        label = "separable (one term)" if name == "separable" else name
        place.plot(sizes, times, label=label, linestyle="--" if name == "separable" else "-")
    place.set(xscale="log", yscale="log", ylim=(0.2, 300))
    place.set(xlabel="rows and columns of the kernel", ylabel="expected ms, 1024×1024, one thread")
    place.set_xticks([1, 3, 5, 10, 20, 50, 100, 200], [1, 3, 5, 10, 20, 50, 100, 200])
    place.grid(alpha=0.3)
    place.legend(fontsize=8)
    save(figure, "filters_crossover")


def toeplitz() -> None:
    """The matrices of a convolution of a sequence, of an image, with stride, and of a pooling."""
    sequence, image = nn.Conv1d(1, 1, 3, bias=False), nn.Conv2d(1, 1, 3, bias=False)
    strided = nn.Conv2d(1, 1, 3, stride=2, padding=1, bias=False)
    sequence.weight.data[...] = np.arange(1.0, 4.0)
    for layer in (image, strided):
        layer.weight.data[...] = np.arange(-4.0, 5.0).reshape(1, 1, 3, 3)
    cases = {
        "Conv1d, 3 taps": (sequence, (1, 12)),
        "Conv2d 3×3": (image, (1, 6, 6)),
        "stride 2, padding 1": (strided, (1, 6, 6)),
        "AvgPool2d(2)": (nn.AvgPool2d(2), (1, 6, 6)),
    }
    under = (
        "Toeplitz; blocks of Toeplitz matrices; every other row of blocks; one number everywhere"
    )
    figure = plot.matrix(cases, title="Layers as matrices", under=under)
    save(figure, "matrix_toeplitz", dpi=150)


if __name__ == "__main__":
    import matplotlib

    matplotlib.use("agg")
    gallery()
    crossover()
    toeplitz()
