"""The pictures of the tutorials: their cells are run, and the figures that they save are kept.

    python docs/scripts/learned.py                   the LeNet-5 page
    python docs/scripts/learned.py runs/cifar        and the CIFAR-10 page, with that training

The cells run in an empty folder, in one process, as the tests run them.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

DOCS = Path(__file__).parents[1]
_WIDTH, _MOST_BYTES = 900, 110_000
_CELL = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def run(page: str, folder: Path) -> None:
    """Run a page's cells in a folder, printing what they print."""
    text = (DOCS / page).read_text(encoding="utf-8")
    code = "\n".join(_CELL.findall(text))
    path = os.pathsep.join(filter(None, [str(DOCS.parent / "examples"), os.getenv("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path}
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, env=environment)


def keep(file: Path) -> None:
    """A figure as a small PNG in docs/images."""
    with Image.open(file) as whole:
        picture = whole.convert("RGB")
    if picture.width > _WIDTH:
        size = (_WIDTH, round(picture.height * _WIDTH / picture.width))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    place = DOCS / "images" / file.name
    for colours in (256, 128, 64, 32):
        picture.quantize(colours, dither=Image.Dither.NONE).save(place, optimize=True)
        if place.stat().st_size < _MOST_BYTES:
            break


def main() -> None:
    """Run the pages that can be run."""
    trained = Path(sys.argv[1]).absolute() if len(sys.argv) > 1 else None
    for page in ["learned-lenet.md", *(["learned-cifar.md"] if trained else [])]:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            if trained is not None:
                (folder / "runs").mkdir()
                (folder / "runs" / "cifar").symlink_to(trained)
            run(page, folder)
            for file in sorted(folder.glob("learned_*.png")):
                keep(file)


if __name__ == "__main__":
    main()
