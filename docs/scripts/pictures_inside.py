"""The pictures of the pages on pictures and on equivariance.

python docs/scripts/pictures_inside.py runs/cifar      (a minute; measures this machine)

`runs/cifar` is the training of the recipe for CIFAR-10; the digits' network is trained here.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pictures_interpret import IMAGES, trained, write

import striate as st
from striate import interpret, plot


def main(cifar: Path) -> None:
    digits, test = trained()
    images, _ = test.batch(range(64))
    write(of_digits(digits, images), "inside_equivariance.png")
    slide(digits, images[17])
    net = st.load(cifar / "model.safetensors")
    write(learned(net), "inside_filters.png")
    pictures, _ = st.data.load("cifar10")[1].batch(range(32))
    write(of_cifar(net, pictures), "inside_shifts.png")
    st.set_num_threads(1)
    write(
        plot.roofline(st.models.resnet18(), (3, 224, 224), seconds=5, title="Roofline: ResNet-18"),
        "inside_roofline.png",
    )


def learned(net: Any) -> Any:
    """The first kernels of a network that learned CIFAR-10, and some of the second layer."""
    weights = {name: net.state_dict()[f"{name}.weight"] for name in ("0.conv", "1.conv")}
    return plot.filters(
        weights, colour=True, most_filters=32, most_channels=6, title="What CIFAR-10 taught"
    )


def slide(net: Any, image: Any) -> None:
    """LeNet-5's second convolution, which has no padding and six channels."""
    found = plot.sliding(net, image, "conv2", channel=3, frames=25)
    found.save(IMAGES / "inside_slide.gif", seconds=0.4, dpi=80)


def of_digits(net: Any, images: Any) -> Any:
    """LeNet-5 under rotation."""
    layers = ["conv1", "pool1", "conv2", "pool2", "fc1", "fc2", "fc3"]
    found = interpret.equivariance(
        net, images, transform="rotate", amounts=[0, 5, 10, 20, 45, 90], layers=layers
    )
    return plot.equivariance(found, images[0], title="LeNet-5 under rotation")


def of_cifar(net: Any, pictures: Any) -> Any:
    """A network of nine layers under shifts: strides break them, averages mend them."""
    names = [s.name for s in net.graph.steps if s.op in ("conv2d", "max_pool2d", "linear")]
    found = interpret.equivariance(
        net, pictures, amounts=[0, 1, 2, 4, 8], layers=names, borders=False
    )
    return plot.equivariance(found, pictures[3], title="A network for CIFAR-10 under shifts")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
