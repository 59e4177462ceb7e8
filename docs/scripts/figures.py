"""The pictures of the documentation: figures of `striate demo`, in a palette to keep them small.

striate demo --out demo && python docs/scripts/figures.py demo
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

IMAGES = Path(__file__).parents[1] / "images"
NAMES = ("feature_maps", "filters", "mistakes", "confusion")


def main(demo: Path) -> None:
    """Copy the figures of a demo's folder."""
    IMAGES.mkdir(exist_ok=True)
    for name in NAMES:
        with Image.open(demo / f"{name}.png") as picture:
            small = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
            small.save(IMAGES / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
