"""The pictures of the page on receptive fields, drawings and comparisons of networks.

python docs/scripts/pictures_inspect.py      (some seconds)
"""

from __future__ import annotations

from pictures_interpret import write

import striate as st
from striate import inspect, plot


def main() -> None:
    block = st.models.googlenet().inception3a
    write(plot.network(block, (192, 28, 28), title="An inception block"), "inspect_inception.png")
    resnet = st.models.resnet18()
    write(plot.network(resnet, (3, 224, 224), title="ResNet-18"), "inspect_resnet18.png", dpi=85)
    write(region(), "inspect_region.png")
    st.manual_seed(0)
    found = inspect.effective_receptive_field(resnet, (3, 224, 224), "layer3.1.relu_1")
    write(
        plot.effective_field(found, under=f"ResNet-18, {found.layer}, untrained"),
        "inspect_effective.png",
    )


def region() -> object:
    """What a unit of LeNet-5 looks at on a digit."""
    net, unit = st.models.lenet5(), (1, 1)
    _, test = st.data.load("digits")
    images, _ = test.batch([17])
    return plot.receptive_field(
        images[0],
        inspect.input_region(net, (1, 28, 28), "pool2", unit),
        inspect.receptive_field(net, (1, 28, 28), "pool2"),
        title="What unit (1, 1) of pool2 looks at",
    )


if __name__ == "__main__":
    main()
