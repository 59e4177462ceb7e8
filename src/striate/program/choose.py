"""Which algorithm computes a convolution, and with which options: a cost model, or what was tuned.

The choice depends on the layer's sizes, the pass, the batch's magnitude and the target, never on
the number of threads or on a measurement made on the side: the same program gives the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from striate.codegen.targets import Target
from striate.graph.graph import Graph
from striate.kernels.routine import blocks
from striate.kernels.winograd import Winograd
from striate.kernels.winograd_plan import cost as winograd_cost
from striate.program.convolution import Windows
from striate.program.tuned import kept_choices

FORWARD, TO_SOURCE, TO_WEIGHT = "forward", "source", "weight"
DIRECT = "direct"


@dataclass(frozen=True)
class Choice:
    """An algorithm ("direct", "winograd2", "winograd4") and its kernel's options.

    Options of None are the kernel's own default.
    """

    algorithm: str = DIRECT
    options: Any = None

    @property
    def winograd(self) -> int:
        """The output tile of Winograd, or 0."""
        return int(self.algorithm[-1]) if self.algorithm != DIRECT else 0


def problem_key(w: Windows, direction: str, batch: int, plain: bool = False) -> str:
    """A convolution and a pass, as tuned choices are filed."""
    sizes = f"{w.contracted}x{w.source[0]}x{w.source[1]} to {w.outputs}x{w.out[0]}x{w.out[1]}"
    form = f"kernel {w.kernel} stride {w.stride} dilation {w.dilation} padding {w.padding}"
    form += " flipped" * w.flipped
    return f"{direction} {sizes} {form} groups {w.groups} batch {batch}{' plain' * plain}"


class Choices:
    """Chooses for one program: by what was tuned, else by the cost model.

    Args:
        target: what code is generated for.
        batch: a typical batch.
        tuned: choices by `problem_key`; by default those that `striate tune` has kept.
    """

    def __init__(
        self, target: Target, batch: int, tuned: Mapping[str, Choice] | None = None
    ) -> None:
        self.target, self.batch = target, batch
        self.tuned = kept_choices(target) if tuned is None else tuned

    def find(self, w: Windows, direction: str, plain: bool = False) -> Choice:
        """How to compute a pass of a convolution that is not depthwise."""
        known = self.tuned.get(problem_key(w, direction, self.batch, plain))
        return known or default_choice(self.target, w, direction, self.batch, plain)


def default_choice(target: Target, w: Windows, direction: str, batch: int, plain: bool) -> Choice:
    """What the cost model says."""
    size = 0 if plain else winograd_size(target, w, direction, batch)
    return Choice(f"winograd{size}") if size else Choice()


def winograd_size(target: Target, w: Windows, direction: str, batch: int) -> int:
    """The output tile of Winograd, 2 or 4, or 0 for the direct form: the least estimated cycles."""
    if not w.unit_3x3 or (w.flipped and direction == TO_WEIGHT):
        return 0
    sums = math.prod(w.kernel) * w.contracted * w.outputs * math.prod(w.out)
    costs = {0: sums / (2 * target.width) / _DIRECT_SHARE}
    few = blocks(w.outputs, target) * blocks(w.contracted, target) <= 4
    # Measured: with few channels the gradient to weights gains nothing from the larger tile.
    for size in (2,) if few and direction == TO_WEIGHT else (2, 4):
        form = winograd_form(w, size, False, batch, direction == TO_SOURCE)
        if form is not None:
            costs[size] = winograd_cost(target, form, direction)
    return min(costs, key=lambda size: costs[size])


def winograd_form(
    w: Windows, size: int, bias: bool, batch: int, back: bool = False
) -> Winograd | None:
    """The Winograd convolution of tile `size` that computes the windows or their transpose."""
    if not size:
        return None
    (a, b), (c, d) = w.padding
    if back:
        sides = ((2 - a, 2 - b), (2 - c, 2 - d))
        return Winograd(w.contracted, w.outputs, w.out, sides, size, bias, batch)
    return Winograd(w.outputs, w.contracted, w.source, ((a, b), (c, d)), size, bias, batch)


_BLOCKED_ONLY = frozenset(
    {
        *("batch_norm", "local_response_norm", "adaptive_avg_pool2d", "conv1d", "conv3d"),
        *("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
        *("true_conv1d", "true_conv2d", "true_conv3d"),
    }
)
_DIRECT_SHARE = 0.88  # of the peak that direct kernels reach
_LANES_BYTES = 400_000  # of one value with the batch in lanes, beyond which caches overflow


def blocked_pays(graph: Graph, target: Target) -> bool:
    """Whether a network runs as a blocked program instead of with the batch in lanes.

    The batch in lanes is for small images and few channels, whose values for a vector of samples
    fit the cache; everything else is faster, or only possible, blocked.
    """
    if any(node.op in _BLOCKED_ONLY for node in graph.steps):
        return True
    largest = max((math.prod(n.shape) for n in graph.steps if len(n.shape) > 1), default=0)
    return 4 * largest * target.width > _LANES_BYTES


def batch_magnitude(count: int) -> int:
    """The batch size that choices go by: 1, 4, 16 or 64."""
    return next((size for size in (1, 4, 16) if count < 4 * size), 64)
