"""The published data sets that `load` knows by name: their files, digests, mirrors and classes.

Facts only; finding, fetching and reading the files is in `named` and `download`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedFile:
    """One IDX file: its name without .gz, and size and SHA-256 digest of the unpacked content."""

    name: str
    size: int
    digest: str


@dataclass(frozen=True)
class PublishedSet:
    """A data set of four IDX files: training images and labels, test images and labels."""

    name: str
    classes: tuple[str, ...]
    mirrors: tuple[str, ...]
    files: tuple[PublishedFile, PublishedFile, PublishedFile, PublishedFile]


FILE_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_SIZES = (47_040_016, 60_008, 7_840_016, 10_008)

DIGITS = tuple("0123456789")


def _files(*digests: str) -> tuple[PublishedFile, PublishedFile, PublishedFile, PublishedFile]:
    a, b, c, d = map(PublishedFile, FILE_NAMES, _SIZES, digests)
    return a, b, c, d


MNIST = PublishedSet(
    name="mnist",
    classes=DIGITS,
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    files=_files(
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
)

FASHION_MNIST = PublishedSet(
    name="fashion-mnist",
    classes=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    mirrors=(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
    files=_files(
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
)

PUBLISHED = {published.name: published for published in (MNIST, FASHION_MNIST)}
