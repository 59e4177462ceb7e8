"""Where the windows of a pooling lie: arguments in torch's form to attributes of operations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from striate.errors import DataError, OptionError, ShapeError, suggest
from striate.nn.apply import apply, sample_shape
from striate.nn.arguments import Padding, Sizes, conv_padding, named_sizes, whole
from striate.nn.data_format import channels_are_last, image_sizes, to_first, to_last
from striate.nn.symbol import SymbolicTensor, at_line
from striate.settings import next_generator
from striate.shapes import require_reached

SPACE = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
Attributes = dict[str, Any]


def rank_of(x: Any, where: str) -> int:
    """How many axes of space an input (n, channels, …) has.

    Raises:
        ShapeError: none, or more than three.
    """
    shape = sample_shape(x, where)
    if not 2 <= len(shape) <= 4:
        raise ShapeError(
            f"{where}: expected an input (n, channels, …) with one to three axes of space; got "
            f"shape={('N', *shape)}{at_line()}."
        )
    return len(shape) - 1


@dataclass(frozen=True)
class Window:
    """The arguments of a pooling window, as the functions are given them.

    >>> window = Window(3, 2, ceil_mode=True)
    >>> window.prepare("max_pool1d", 1, np.zeros((1, 1, 6)))[1]["padding"]
    [[0, 1]]
    """

    kernel_size: Sizes
    stride: Sizes | None = None
    padding: Padding = 0
    dilation: Sizes = 1
    ceil_mode: bool = False
    strict: bool = False
    data_format: str = "channels_first"

    def prepare(self, where: str, rank: int, x: Any) -> tuple[Any, Attributes]:
        """The input with its channels first, and kernel, stride, padding and dilation for it."""
        last = channels_are_last(self.data_format, where)
        image = image_sizes(x, rank, where, last)
        kernel, stride, dilation = self._sizes(where, rank)
        padding = self.declared(where, rank, x)
        if self.ceil_mode:
            along = zip(image, kernel, stride, padding, dilation, strict=True)
            padding = [rounded_up(*axis) for axis in along]
        if self.strict:
            for axis, n, k, s, (before, after), d in zip(
                SPACE[rank], image, kernel, stride, padding, dilation, strict=True
            ):
                require_reached(where, axis, n, k, s, (before, after), d)
        attributes = {
            "kernel": list(kernel),
            "stride": list(stride),
            "padding": padding,
            "dilation": list(dilation),
        }
        return to_first(x, rank, where) if last else x, attributes

    def declared(self, where: str, rank: int, x: Any) -> list[list[int]]:
        """The padding that was asked for, before `ceil_mode` adds to it."""
        image = image_sizes(x, rank, where, channels_are_last(self.data_format, where))
        kernel, stride, dilation = self._sizes(where, rank)
        return conv_padding(self.padding, where, kernel, stride, dilation, image)

    def _sizes(self, where: str, rank: int) -> tuple[tuple[int, ...], ...]:
        kernel = named_sizes(self.kernel_size, rank, where, "kernel_size")
        steps = kernel if self.stride is None else self.stride
        stride = named_sizes(steps, rank, where, "stride")
        return kernel, stride, named_sizes(self.dilation, rank, where, "dilation")

    def finish(self, y: Any) -> Any:
        """The result in the format of the input."""
        return to_last(y) if self.data_format == "channels_last" else y


def rounded_up(
    size: int, kernel: int, stride: int, padding: Sequence[int], dilation: int
) -> list[int]:
    """The padding with which windows cover the whole axis, as torch's ceil_mode counts them.

    >>> rounded_up(6, 3, 2, (0, 0), 1), rounded_up(4, 1, 3, (0, 0), 1)
    ([0, 1], [0, 0])
    """
    before, after = padding
    reach = dilation * (kernel - 1) + 1
    last = -(-(size + before + after - reach) // stride) * stride  # where it starts
    if last >= size + before:
        last -= stride
    return [before, max(after, last + reach - size - before)]


def with_indices(y: Any, indices: Any) -> tuple[Any, Any]:
    """Values and switches: whole numbers on arrays."""
    return y, indices if isinstance(indices, SymbolicTensor) else indices.astype(np.int64)


def require_choice(value: Any, known: Sequence[str], where: str, name: str) -> None:
    """Refuse a word that is not one of those known."""
    if value not in known:
        listed = " or ".join(map(repr, known))
        raise OptionError(
            f"{where}: expected {name} to be {listed}; got {name}={value!r}. "
            f"{suggest(str(value), known)}"
        )


def sigmas(sigma: float | Sequence[float], rank: int, where: str) -> list[float]:
    """σ for each axis of space."""
    parts = list(sigma) if isinstance(sigma, Sequence) else [sigma] * rank
    numbers = all(isinstance(k, (int, float, np.number)) for k in parts)
    if len(parts) != rank or not numbers or not all(0 < k < math.inf for k in parts):
        raise OptionError(
            f"{where}: expected sigma above 0, one number or {rank}; got sigma={sigma!r}."
        )
    return [float(k) for k in parts]


# ---- adaptive and fractional -------------------------------------------------------------------


def adaptive_sizes(value: Any, rank: int, where: str) -> tuple[int | None, ...]:
    """The output size of adaptive pooling: a number or None, or one for each axis of space.

    >>> adaptive_sizes((7, None), 2, "pool")
    (7, None)
    """
    parts = tuple(value) if isinstance(value, Sequence) else (value,) * rank
    if len(parts) != rank:
        count = {1: "one number", 2: "one or two numbers"}.get(rank, f"one or {rank} numbers")
        raise OptionError(f"{where}: expected output_size of {count}; got {value!r}.")
    return tuple(None if k is None else whole(k, where, "output_size") for k in parts)


def adaptive(
    name: str, rank: int, x: Any, output_size: Any, data_format: str, return_indices: bool = False
) -> Any:
    """Adaptive pooling by the operation `name`, with its switches if wanted."""
    where = f"{name}{rank}d"
    last = channels_are_last(data_format, where)
    image = image_sizes(x, rank, where, last)
    sizes = adaptive_sizes(output_size, rank, where)
    output = [k if given is None else given for given, k in zip(sizes, image, strict=True)]
    x = to_first(x, rank, where) if last else x

    def run(op: str) -> Any:
        y = apply(op, (x,), {"output": output}, op)
        return to_last(y) if last else y

    return with_indices(run(where), run(f"{where}_indices")) if return_indices else run(where)


def fractional_starts(
    where: str,
    rank: int,
    x: Any,
    kernel_size: Sizes,
    sizes: tuple[Sizes | None, float | Sequence[float] | None],
    samples: Any,
) -> Attributes:
    """Kernel and first places of the windows of fractional max pooling.

    Args:
        sizes: the output's size, or its share of the image; the other one is None.
        samples: (…, rank), a number from [0, 1) for each axis; None draws them.
    """
    image = image_sizes(x, rank, where)
    kernel = named_sizes(kernel_size, rank, where, "kernel_size")
    output = fractional_sizes(where, rank, sizes, image)
    for size, k, count in zip(image, kernel, output, strict=True):
        if count + k - 1 > size:
            raise ShapeError(
                f"{where}: expected output_size + kernel_size − 1 of at most the input's size; "
                f"got {output} windows of {kernel} for an image of {image}{at_line()}."
            )
    drawn = fractional_samples(where, rank, samples)
    starts = [
        fractional_axis(size, k, count, u)
        for size, k, count, u in zip(image, kernel, output, drawn, strict=True)
    ]
    return {"kernel": list(kernel), "starts": starts}


def fractional_sizes(
    where: str, rank: int, sizes: tuple[Any, Any], image: Sequence[int] | None = None
) -> tuple[int, ...]:
    """The output's size, as given or as a share of an image (not known yet: an empty one)."""
    output_size, ratio = sizes
    if (output_size is None) == (ratio is None):
        raise OptionError(
            f"{where}: expected either output_size or output_ratio; got "
            f"output_size={output_size!r}, output_ratio={ratio!r}."
        )
    if output_size is not None:
        return named_sizes(output_size, rank, where, "output_size")
    shares = list(ratio) if isinstance(ratio, Sequence) else [ratio] * rank
    numbers = all(isinstance(k, (int, float)) for k in shares)
    if len(shares) != rank or not numbers or not all(0 < k < 1 for k in shares):
        raise OptionError(
            f"{where}: expected output_ratio between 0 and 1, one number or {rank}; got "
            f"output_ratio={ratio!r}."
        )
    if image is None:
        return ()
    found = tuple(int(size * share) for size, share in zip(image, shares, strict=True))
    if min(found) < 1:
        raise ShapeError(
            f"{where}: expected an output of at least 1 along every axis; got {found}, "
            f"{ratio} of {tuple(image)}. Use a larger output_ratio."
        )
    return found


def fractional_samples(where: str, rank: int, samples: Any) -> list[float]:
    """One number for each axis of space, in the axes' order.

    PyTorch's hold the horizontal one first for images, and the axes' order for volumes.
    """
    if samples is None:
        return [float(u) for u in next_generator().random(rank)]
    rows = np.asarray(samples, np.float64)
    if rows.ndim < 1 or rows.shape[-1] != rank or not rows.size:
        raise OptionError(f"{where}: expected _random_samples (…, {rank}); got shape={rows.shape}.")
    rows = rows.reshape(-1, rank)
    if (rows != rows[0]).any() or rows.min() < 0 or rows.max() >= 1:
        raise OptionError(
            f"{where}: expected _random_samples from [0, 1), the same for all images and channels; "
            "got others. Give one row."
        )
    return [float(u) for u in (rows[0][::-1] if rank == 2 else rows[0])]


def fractional_axis(size: int, kernel: int, count: int, u: float) -> list[int]:
    """Where the windows of an axis begin.

    >>> fractional_axis(9, 2, 4, 0.5)
    [0, 2, 4, 7]
    """
    step = (size - kernel) / (count - 1) if count > 1 else 0.0
    starts = [int((k + u) * step) - int(u * step) for k in range(count - 1)]
    return [*starts, size - kernel]


# ---- unpooling ---------------------------------------------------------------------------------


def unpool_attributes(
    where: str,
    rank: int,
    x: Any,
    indices: Any,
    settings: tuple[Any, ...],
    output_size: Sequence[int] | None,
) -> Attributes:
    """The attributes of `max_unpool`; settings: kernel, stride, padding, dilation.

    Raises:
        OptionError: an output size that no pooling gives this input for.
        ShapeError: in a network, the size of another image than the indices come from.
        DataError: on arrays, an index that is outside its window.
    """
    places = image_sizes(x, rank, where)
    if sample_shape(indices, where) != sample_shape(x, where):
        raise ShapeError(
            f"{where}: expected an index for each number; got input {sample_shape(x, where)} and "
            f"indices {sample_shape(indices, where)} besides the batch{at_line()}."
        )
    kernel = named_sizes(settings[0], rank, where, "kernel_size")
    steps = kernel if settings[1] is None else settings[1]
    stride = named_sizes(steps, rank, where, "stride")
    padding = named_sizes(settings[2], rank, where, "padding", 0)
    dilation = named_sizes(settings[3], rank, where, "dilation")
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    default = tuple(
        (n - 1) * s + r - 2 * p for n, s, r, p in zip(places, stride, reach, padding, strict=True)
    )
    output = _unpooled_size(where, rank, output_size, default, stride)
    sides = [
        [p, max(p, (n - 1) * s + r - p - size)]
        for p, n, s, r, size in zip(padding, places, stride, reach, output, strict=True)
    ]
    attributes = {
        "kernel": list(kernel),
        "stride": list(stride),
        "padding": sides,
        "dilation": list(dilation),
        "output": list(output),
    }
    _require_own_indices(where, indices, attributes)
    return attributes


def _unpooled_size(
    where: str,
    rank: int,
    output_size: Sequence[int] | None,
    default: tuple[int, ...],
    stride: tuple[int, ...],
) -> tuple[int, ...]:
    given = default if output_size is None else tuple(output_size)[-rank:]
    output = named_sizes(given, rank, where, "output_size")
    for size, usual, step in zip(output, default, stride, strict=True):
        if not usual - step < size < usual + step:
            raise OptionError(
                f"{where}: expected output_size within less than a stride of {default}; got "
                f"output_size={output}, stride={stride}."
            )
    return output


def _require_own_indices(where: str, indices: Any, attributes: Attributes) -> None:
    """Refuse indices that come from an image of another size or other windows."""
    output = tuple(attributes["output"])
    if isinstance(indices, SymbolicTensor):
        source = indices._tracer.graph.nodes[indices._node]
        if source.op == "max_pool_indices":
            pooled = indices._tracer.graph.nodes[source.inputs[0]].shape[1:]
            if tuple(pooled) != output:
                raise ShapeError(
                    f"{where}: expected output_size={tuple(pooled)}, the size of the image that "
                    f"the indices come from; got {output}{at_line()}."
                )
        return
    places = np.asarray(indices)
    inside = (places >= 0) & (places < math.prod(output))
    rest = np.where(inside, places, 0).astype(np.int32)
    for axis in reversed(range(len(output))):
        rest, spot = np.divmod(rest, np.int32(output[axis]))
        k, s, d = (attributes[key][axis] for key in ("kernel", "stride", "dilation"))
        windows = np.arange(places.shape[2 + axis], dtype=np.int32).reshape(
            [-1 if a == 2 + axis else 1 for a in range(places.ndim)]
        )
        spot += attributes["padding"][axis][0]
        spot -= windows * s  # places from the window's first element
        inside &= (spot >= 0) & (spot < d * k)
        if d > 1:
            inside &= spot % d == 0
    if not inside.all():
        at = tuple(int(k) for k in np.argwhere(~inside)[0])
        raise DataError(
            f"{where}: expected every index inside its own window of an image of {output}; got "
            f"{places[at]} at {at}. Give the size, kernel, stride and padding of the pooling that "
            "the indices come from."
        )
