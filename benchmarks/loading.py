"""`python -m benchmarks.loading`: decoding, augmentation and the loader beside a training step.

Pictures are CIFAR-10's where `STRIATE_DATA` has them, else JPEGs of noise of the same size. What is
compared is the time of preparing a sample with that of learning from it (ResNet-20, batches of
128): a loader on a core of its own must take less; one that shares a core takes this share away.
"""

from __future__ import annotations

import argparse
import io
import os
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

import striate as st
from striate.data import ArraySource, ImageFolder, augmentation
from striate.data.tar import open_tar

RECIPE = "flip,crop4"
CHAINS = (
    "",
    "flip",
    RECIPE,
    "flip,crop4,cutout8",
    "colour0.2",
    "rotate15",
    "rotate15,scale0.1,shift2,elastic34",
    "flip,crop4,mixup0.2",
    "flip,crop4,cutmix1",
)
BATCH, ROUNDS = 128, 7
Line = tuple[str, float, str]


def pictures(folder: Path, count: int) -> str:
    """Write `count` JPEGs of 32×32 to two classes in `folder`; says what they are."""
    archive = Path(os.environ.get("STRIATE_DATA", ""), "cifar10", "cifar10-jpeg.tar.xz")
    if archive.is_file():
        with open_tar(archive) as (stream, _):
            files = (m for m in stream if not m.is_folder)
            contents = [stream.read(m.size, 1 << 20) for m in islice(files, count)]
        what = "JPEGs of CIFAR-10"
    else:
        noise = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8)
        contents = [_jpeg(pixels) for pixels in noise]
        what = "JPEGs of noise, 32×32"
    for k, content in enumerate(contents):
        file = folder / "ab"[k % 2] / f"{k:05d}.jpg"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)
    return what


def _jpeg(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG")
    return out.getvalue()


def photos(folder: Path, count: int) -> None:
    """Write JPEGs of 640×480, smooth with a little noise as photographs are."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:480, :640] / 100
    (folder / "a").mkdir(parents=True)
    for k in range(count):
        waves = [127 + 100 * np.sin(rows * (k % 7) + columns + c) for c in range(3)]
        pixels = np.stack(waves, axis=-1) + random.normal(0, 8, (480, 640, 1))
        file = folder / "a" / f"{k:03d}.jpg"
        file.write_bytes(_jpeg(np.clip(pixels, 0, 255).astype(np.uint8)))


def decoding(folder: Path, rounds: int, size: tuple[int, int] = (32, 32)) -> list[Line]:
    """Pictures a second that are decoded, on one thread and on two."""
    lines = []
    what = "x".join(map(str, size))
    for threads in (1, 2):

        def read(threads: int = threads) -> None:
            ImageFolder(folder, size=size, channels=3, threads=threads, progress=False)

        count = len(list(folder.rglob("*.jpg")))
        lines.append(
            (f"decoding to {what}, {threads} threads", count / _best(read, rounds), "pictures/s")
        )
    return lines


def augmenting(source: ArraySource, rounds: int) -> list[Line]:
    """Microseconds a sample of each chain, scaling of bytes included, on one thread."""
    order, out = np.arange(len(source)), np.empty((BATCH, *source.shape), np.float32)
    lines = []
    for text in CHAINS:
        chain = augmentation(text)

        def run() -> None:
            for start in range(0, len(order) - BATCH + 1, BATCH):
                chain.batch(source, order[start : start + BATCH], order, 0, 1, out)  # noqa: B023

        used = len(order) // BATCH * BATCH
        lines.append((text or "(bytes to float)", 1e6 * _best(run, rounds) / used, "µs/sample"))
    return lines


def training(source: ArraySource, preparing: float) -> list[Line]:
    """An epoch of ResNet-20 on one thread, and how long it waits for the loader.

    Args:
        source: the pictures.
        preparing: microseconds of augmenting a sample.
    """
    st.set_num_threads(1)
    net = st.models.build("resnet20")
    run = st.fit(
        net, source, epochs=2, batch_size=BATCH, optimizer="sgd", augment=RECIPE, progress=False
    )
    record = run.history[-1]  # the first epoch compiles
    sample = 1e6 / record["images_per_second"]
    return [
        ("ResNet-20 learning, 1 thread", sample, "µs/sample"),
        (f"preparing {RECIPE}", 100 * preparing / sample, "% of it"),
        ("waiting for the loader", 100 * record["loader_share"], "% of it"),
    ]


def _best(function: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return min(times)


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loading", description=__doc__)
    parser.add_argument("--count", type=int, default=4096, help="pictures")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of each, the best is shown")
    parser.add_argument("--no-training", action="store_true", help="leave ResNet-20 out")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"{options.count} {pictures(folder, options.count)}")
        lines = decoding(folder, min(options.rounds, 3))
        whole = ImageFolder(folder, size=(32, 32), channels=3, progress=False)
        photos(folder / "photos", max(1, options.count // 64))
        for side in ((224, 224), (64, 64)):
            lines += decoding(folder / "photos", min(options.rounds, 3), side)
    images, labels = whole.batch(np.arange(len(whole)))
    source = ArraySource(np.rint(255 * images).astype(np.uint8), labels, whole.classes)
    lines += augmenting(source, options.rounds)
    if not options.no_training:
        costs = {what: value for what, value, _ in lines}
        lines += training(source, costs[RECIPE])
    for what, value, unit in lines:
        print(f"{what:36s} {value:10,.1f} {unit}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
