"""A network of several inputs as a function of one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.errors import OptionError
from striate.nn.execution import as_batch
from striate.nn.module import Module

_WHERE = "OneInput"


class OneInput:
    """A network of several inputs, looked at as a function of one; the others stay as they are.

    What is about one image (`striate.interpret`) takes it in the place of a network.

    Args:
        net: the network.
        given: for each input in forward's order a batch, of one sample (for all images) or of as
            many as there are images; None for the input that is looked at.
    Raises:
        OptionError: not exactly one is None, none else is there, or there are more of one than of
            another.

    >>> from striate import interpret, nn
    >>> class Product(nn.Module):
    ...     def forward(self, left, right):
    ...         return (left * right).flatten(1).sum(dim=1, keepdim=True)
    >>> right = OneInput(Product(), (np.full((1, 1, 1, 2), 3.0), None))
    >>> interpret.saliency(right, np.ones((1, 1, 1, 2)))
    array([[[[3., 3.]]]], dtype=float32)
    """

    def __init__(self, net: Module, given: Sequence[ArrayLike | None]) -> None:
        if not isinstance(net, Module):
            raise OptionError(f"{_WHERE}: expected a network; got {type(net).__name__}.")
        free = [k for k, part in enumerate(given) if part is None]
        if len(free) != 1 or len(given) < 2:
            raise OptionError(
                f"{_WHERE}: expected a batch for each input but one, and None for that; got "
                f"{len(given)} parts, {len(free)} of them None. Write OneInput(net, (None, other))."
            )
        self.net, self.place = net, free[0]
        self._others = [None if part is None else as_batch(part, _WHERE) for part in given]
        counts = {len(part) for part in self._others if part is not None} - {1}
        if len(counts) > 1:
            raise OptionError(
                f"{_WHERE}: expected one sample of each other input, or as many of each; got "
                f"{', '.join(map(str, sorted(counts)))}."
            )
        self.count: int = max(counts, default=1)

    @property
    def known_input_shape(self) -> tuple[int, ...] | None:
        """The shape of one sample of the input that is looked at, if the network knows it."""
        shapes: Any = self.net.known_input_shape
        return None if shapes is None else shapes[self.place]

    def shapes(self, shape: Sequence[int]) -> tuple[tuple[int, ...], ...]:
        """The shapes of one sample of all inputs, from that of the one that is looked at."""
        return tuple(tuple(shape) if k is None else k.shape[1:] for k in self._others)

    def require_count(self, images: int, where: str) -> None:
        """Refuse more or fewer of the others than there are images."""
        if self.count not in (1, images):
            raise OptionError(
                f"{where}: expected the other inputs of one sample, or of as many as there are "
                f"images, {images}; got {self.count}."
            )

    def filled(
        self, batch: NDArray[np.float32], rows: NDArray[np.intp] | None = None, where: str = _WHERE
    ) -> tuple[NDArray[np.float32], ...]:
        """A batch of the input that is looked at, with the others beside it.

        Args:
            batch: (n, …).
            rows: for each of its rows the sample of the others that belongs to it; by default the
                others' only sample, or the first, the second, ….
            where: who asks, for errors.
        Raises:
            OptionError: without rows there are more or fewer of the others.
        """
        if rows is None:
            self.require_count(len(batch), where)
            rows = np.arange(len(batch))
        return tuple(
            batch if part is None else part[rows if len(part) > 1 else np.zeros_like(rows)]
            for part in self._others
        )

    def of(self, net: Module) -> OneInput:
        """The same of another network with the same inputs."""
        return OneInput(net, self._others)

    def __call__(self, x: ArrayLike) -> Any:
        """What the network gives for a batch of the input that is looked at."""
        return self.net(*self.filled(as_batch(x, _WHERE)))

    def __repr__(self) -> str:
        shapes = ", ".join("…" if k is None else str(k.shape) for k in self._others)
        return f"OneInput({type(self.net).__name__}, ({shapes}))"
