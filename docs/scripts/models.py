"""The table of networks on the page models.md: names, sizes, costs and sources, all computed.

    python docs/scripts/models.py --write

Nothing is drawn: weights are zeros here, only their number matters.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import striate as st
from striate import models
from striate.nn import init

PAGE = Path(__file__).parents[1] / "models.md"
MARKS = ("<!-- networks: begin -->", "<!-- networks: end -->")
SOURCES = {
    "lenet5": "LeCun et al. 1998, with today's activations and pooling",
    "lenet5_1998": "LeCun et al. 1998, as published",
    "small_stack": "an exercise of courses: 39 → 37 → 17 → 7",
    "cifar_vgg": "none: VGG's idea at 32 × 32",
    "alexnet_2012": "Krizhevsky et al. 2012, two groups",
}
FAMILIES = {
    "alexnet": "arXiv:1404.5997",
    "vgg": "arXiv:1409.1556",
    "googlenet": "arXiv:1409.4842",
    "resnext": "arXiv:1611.05431",
    "wide_resnet": "arXiv:1605.07146",
    "resnet": "arXiv:1512.03385",
    "squeezenet": "arXiv:1602.07360",
    "mobilenet": "arXiv:1801.04381",
    "efficientnet": "arXiv:1905.11946",
    "unet": "arXiv:1505.04597",
    "fcn": "arXiv:1411.4038",
}


class _Zeros:
    """A generator whose every number is 0."""

    def uniform(self, _low: float, _high: float, shape: Any = ()) -> Any:
        return np.broadcast_to(0.0, shape)

    normal = uniform


def source(name: str) -> str:
    """Where a network was published."""
    if name in SOURCES:
        return SOURCES[name]
    return next(text for start, text in FAMILIES.items() if name.startswith(start))


def row(name: str) -> str:
    """A network's line of the table."""
    with mock.patch.object(init, "next_generator", _Zeros):
        net = models.build(name)
    shape = models.usual_input(name)
    parameters = sum(p.numel() for p in net.parameters())
    cost = st.summary(net.eval().to_graph(shape)).multiply_adds
    size = "×".join(map(str, shape))
    return f"| `{name}` | {size} | {parameters:,} | {cost / 1e6:,.1f} | {source(name)} |"


def table() -> str:
    """All networks."""
    head = "| name | image | parameters | multiply-adds, millions | source |"
    return "\n".join([head, "|---|---|--:|--:|---|", *map(row, models.MODELS)])


def render(page: str) -> str:
    """The page with its table made anew."""
    before, _, rest = page.partition(MARKS[0])
    return f"{before}{MARKS[0]}\n\n{table()}\n\n{MARKS[1]}{rest.partition(MARKS[1])[2]}"


def listed(page: str) -> list[str]:
    """The names in the page's table."""
    return re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)


def main() -> None:
    page = PAGE.read_text(encoding="utf-8")
    made = render(page)
    if "--write" in sys.argv:
        PAGE.write_text(made, encoding="utf-8")
    elif made != page:
        raise SystemExit(f"{PAGE.name} is out of date; run: python docs/scripts/models.py --write")


if __name__ == "__main__":
    main()
