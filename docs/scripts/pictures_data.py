"""What each step of augmentation does to a picture: `docs/images/augmentation.png`."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from striate import plot
from striate.data import ArraySource, preview

IMAGES = Path(__file__).parents[1] / "images"
SIDE, SCALE, COPIES, SEED = 56, 4, 7, 4
STEPS = (
    "flip",
    "crop8",
    "rotate25,scale0.25,shift4",
    "elastic50",
    "colour0.4",
    "cutout20",
    "mixup1",
    "cutmix1",
)


def house() -> Image.Image:
    """A house with a sun and a tree."""
    image = Image.new("RGB", (SIDE * SCALE,) * 2, "#9fc9ea")
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 168, 224, 224), fill="#7fae5c")
    draw.ellipse((168, 16, 208, 56), fill="#f7d154")
    draw.rectangle((48, 112, 136, 184), fill="#e9dcc3")
    draw.polygon(((36, 112), (92, 60), (148, 112)), fill="#b5472f")
    draw.rectangle((60, 136, 80, 184), fill="#6b4a2f")
    draw.rectangle((96, 128, 124, 152), fill="#4f7ea8")
    draw.rectangle((172, 136, 180, 184), fill="#6b4a2f")
    draw.ellipse((152, 92, 200, 144), fill="#3d7a3d")
    return image


def boat() -> Image.Image:
    """A boat on the sea, to mix with."""
    image = Image.new("RGB", (SIDE * SCALE,) * 2, "#f2c9a1")
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 136, 224, 224), fill="#2f6f8f")
    draw.polygon(((32, 152), (192, 152), (164, 188), (60, 188)), fill="#5a3a29")
    draw.line((112, 152, 112, 32), fill="#333333", width=6)
    draw.polygon(((118, 36), (118, 140), (184, 140)), fill="#fafafa")
    draw.polygon(((106, 52), (106, 140), (56, 140)), fill="#d8483a")
    return image


def source() -> ArraySource:
    """The two pictures, 3 × 56 × 56."""
    small = [image.resize((SIDE, SIDE), Image.Resampling.LANCZOS) for image in (house(), boat())]
    images = np.stack([np.asarray(image) for image in small]).transpose(0, 3, 1, 2)
    return ArraySource(np.ascontiguousarray(images), np.array([0, 1]), ("house", "boat"))


def main() -> None:
    """Draw the figure in 64 colours, which is enough for it and makes it small."""
    data = source()
    grid = np.concatenate(
        [preview(data, step, samples=[0], copies=COPIES, seed=SEED)[0] for step in STEPS]
    )
    heads = ["as it is", *(f"epoch {k}" for k in range(1, COPIES + 1))]
    figure = plot.pictures(
        grid, STEPS, heads, title="Steps of augmentation", under="one picture, seven epochs"
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    path = IMAGES / "augmentation.png"
    with Image.open(buffer) as image:
        image.convert("RGB").quantize(96).save(path, optimize=True)
    print(f"written: {path}, {path.stat().st_size // 1024} kB")


if __name__ == "__main__":
    main()
