"""How kernels for large images are called: routines, the items of work that they are cut into.

Values of these programs hold the whole batch, sample after sample, in one of two layouts:

- *blocked*: (⌈channels/width⌉, rows, cols, width): channels in lanes, `width` of them a block.
  Lanes beyond the last channel hold anything; no kernel lets them reach a real channel.
- *plain*: numbers in C order. Flat values (features,) are plain with room for whole vectors.

A program calls a routine's kernel once an item, on any thread and in any order; items write
different memory. An item is a part of the work (which channels, which rows …) for some samples.
What a kernel's arguments are is told by their names, see `Routine`.
"""

from __future__ import annotations

from dataclasses import dataclass

from striate.codegen.targets import Target
from striate.kernels.kernel import Kernel


@dataclass(frozen=True)
class Routine:
    """A kernel and its items: `parts` · (groups of `samples` samples; one where that is 0).

    Argument names with a meaning: "part:i64" is the item's part; "scratch" points at `scratch`
    floats that belong to the thread; "samples:i64" is how many samples the item has, and
    "<name>_step:i64" the floats from one sample of the argument <name> to the next. Every other
    pointer to a value of the batch is that of the item's first sample; packed weights, statistics
    and gradients of parameters are one for all samples. Further tail arguments are as in `Tail`.

    Attributes:
        kernel: the function.
        parts: parts that the work on some samples is cut into.
        samples: samples an item takes on: one, at most so many, or 0: the whole batch.
        scratch: floats of the thread's own memory that it needs, on a cache line.
        samples_first: do all samples of a part before the next part (its weights stay in the
            cache), instead of all parts of a sample.
    """

    kernel: Kernel
    parts: int = 1
    samples: int = 1
    scratch: int = 0
    samples_first: bool = False


@dataclass(frozen=True)
class Buffer:
    """Memory between a recipe's steps: floats a sample, and floats in all besides."""

    name: str
    per_sample: int = 0
    fixed: int = 0


@dataclass(frozen=True)
class Recipe:
    """Routines run one after the other (all items of one before the next), and their buffers."""

    steps: tuple[Routine, ...]
    buffers: tuple[Buffer, ...] = ()


def recipe(routine: Routine) -> Recipe:
    """A recipe of one step."""
    return Recipe((routine,))


def blocks(channels: int, target: Target) -> int:
    """Vectors that hold one position's channels."""
    return -(-channels // target.width)


def whole_vectors(count: int, target: Target) -> int:
    """`count` floats rounded up to whole vectors."""
    return blocks(count, target) * target.width
