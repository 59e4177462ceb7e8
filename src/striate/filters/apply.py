"""One kernel over whole images: every plane by itself, borders as wished, by any algorithm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.errors import OptionError, ShapeError, suggest
from striate.filters import fourier
from striate.filters.borders import BORDERS as _RULES
from striate.filters.borders import continued, padded_array, sides, spread
from striate.filters.cost import choose
from striate.filters.separate import separate
from striate.filters.winograd import channels_winograd
from striate.program import backend_name
from striate.program import image as native
from striate.program.image import Padded

Float32 = NDArray[np.float32]
BORDERS = tuple(_RULES)
"""How an image may go on beyond its border; see `apply`."""
ALGORITHMS = (*("auto", "direct", "separable", "column_fft", "fft", "overlap_add", "winograd"),)
"""What `apply` may be told to use."""
_MODES, _PADDINGS = ("correlate", "convolve"), ("same", "valid", "full")
_FORMATS = ("channels_first", "channels_last")
_FEW = 4  # numbers of a pixel in a photo


def apply(
    image: ArrayLike,
    kernel: ArrayLike,
    mode: str = "correlate",
    border: str = "reflect",
    padding: str = "same",
    algorithm: str = "auto",
    *,
    fill: float = 0.0,
    data_format: Literal["channels_first", "channels_last"] | None = None,
) -> Float32:
    """Filter images with one kernel; every channel of every image by itself.

    correlate: `y[i, j] = Σ_{p,q} x[i + p − P, j + q − Q] · w[p, q]`;
    convolve: the kernel flipped, `y[i, j] = Σ_{p,q} x[i − p + P, j − q + Q] · w[p, q]`.

    Args:
        image: (h, w), or with any axes before: (c, h, w), (n, c, h, w); or photos (h, w, c),
            (n, h, w, c). Whole numbers and floats of any kind.
        kernel: (kh, kw).
        mode: "correlate" or "convolve".
        border: how the image goes on outside, as in SciPy: beyond the row a b c d stands
            "reflect" d c b a, "mirror" c b a, "nearest" d d d, "wrap" a b c, "constant" `fill`.
        padding: "same" keeps the size (the kernel's middle is element (k − 1)//2), "valid" gives
            the places where the kernel fits inside, "full" all where it touches the image.
        algorithm: "auto" takes the one that a cost model measured on this machine expects to be
            fastest; or "direct", "separable" (a sum of passes along rows and columns),
            "column_fft" (blocks, by transforms down the columns; kernels of more than 256 rows go
            by "overlap_add"), "fft", "overlap_add", "winograd" (3×3 only). Their results agree
            within rounding; those with transforms round relative to the largest numbers near.
        fill: the value outside, for the border "constant".
        data_format: where the channels are; by default last for photos (3 or 4 axes, of which
            the last has at most 4 numbers and the one that "channels_first" would take has more).
    Returns:
        float32, the axes as in `image`: h and w, h − kh + 1 …, or h + kh − 1 ….
    Raises:
        ShapeError: no image, no kernel, or the kernel does not fit inside.
        OptionError: an unknown name; "winograd" for another size than 3×3.

    >>> apply([[1, 2, 4, 8]], [[-1, 1]], padding="valid")
    array([[1., 2., 4.]], dtype=float32)
    >>> apply(np.ones((4, 4)), np.ones((3, 3)), border="constant")[0]
    array([4., 6., 6., 4.], dtype=float32)
    """
    for name, value, known in (
        ("mode", mode, _MODES),
        ("border", border, BORDERS),
        ("padding", padding, _PADDINGS),
        ("algorithm", algorithm, ALGORITHMS),
    ):
        _require_known(name, value, known)
    weight = _kernel(kernel)
    x = _image(image)
    last = _is_last(x, data_format)
    if mode == "convolve":
        weight = weight[::-1, ::-1]
    h, w = x.shape[-3:-1] if last else x.shape[-2:]
    step = x.shape[-1] if last else 1
    if padding == "valid" and (h < weight.shape[0] or w < weight.shape[1]):
        raise ShapeError(
            f"filters.apply: expected an image of at least the kernel's size {weight.shape}; got "
            f'{h}×{w}. Use padding="same" or "full".'
        )
    planes = x.reshape(-1, h, w * step)
    flipped = mode == "convolve"
    rows = continued(h, sides(weight.shape[0], padding, flipped), border)
    cols = continued(w, sides(weight.shape[1], padding, flipped), border)
    padded = Padded(planes, rows, spread(cols, step), float(fill), step)
    out = _filtered(padded, weight, algorithm)
    tail = (x.shape[-1],) if last else ()
    lead = x.shape[:-3] if last else x.shape[:-2]
    return out.reshape(*lead, out.shape[1], out.shape[2] // step, *tail)


def _filtered(image: Padded, weight: NDArray[np.float64], algorithm: str) -> Float32:
    if algorithm == "winograd" and weight.shape != (3, 3):
        raise OptionError(
            f"filters.apply: winograd expected a 3×3 kernel; got {weight.shape}. "
            'Use algorithm="auto".'
        )
    planes, rows, cols = image.planes, image.rows.size, image.cols.size
    kh, kw = weight.shape
    if not planes.size:
        return np.empty((len(planes), rows - kh + 1, cols - (kw - 1) * image.step), np.float32)
    if backend_name() == "reference":
        return _reference(image, weight)
    if algorithm == "auto":
        size = (rows - kh + 1, cols - (kw - 1) * image.step)
        algorithm = choose(size, weight, planes=len(planes), step=image.step).algorithm
    return _ALGORITHMS[algorithm](image, weight)


def _reference(image: Padded, weight: NDArray[np.float64]) -> Float32:
    """Every tap in float64."""
    x = padded_array(image).astype(np.float64)
    rows, columns = (
        x.shape[1] - weight.shape[0] + 1,
        x.shape[2] - (weight.shape[1] - 1) * image.step,
    )
    total = np.zeros((len(x), rows, columns))
    for (p, q), w in np.ndenumerate(weight):
        total += w * x[:, p : p + rows, q * image.step : q * image.step + columns]
    return total.astype(np.float32)


def _separable(image: Padded, weight: NDArray[np.float64]) -> Float32:
    terms = [(c.astype(np.float32), r.astype(np.float32)) for c, r in separate(weight)]
    return native.separable(image, terms)


def _by_plane(
    function: Callable[[Float32, NDArray[np.float64]], Float32],
) -> Callable[[Padded, NDArray[np.float64]], Float32]:
    """An algorithm that wants written-out planes of one number a pixel."""

    def run(image: Padded, weight: NDArray[np.float64]) -> Float32:
        padded, step = padded_array(image), image.step
        if step == 1:
            return function(padded, weight)
        count, rows, _ = padded.shape
        split = padded.reshape(count, rows, -1, step).transpose(0, 3, 1, 2)
        done = function(np.ascontiguousarray(split).reshape(count * step, rows, -1), weight)
        whole = done.reshape(count, step, *done.shape[1:]).transpose(0, 2, 3, 1)
        return np.ascontiguousarray(whole).reshape(count, done.shape[1], -1)

    return run


def _winograd(padded: Float32, weight: NDArray[np.float64]) -> Float32:
    return channels_winograd(padded[:, None], weight[None, None])[:, 0]


def _column_fft(image: Padded, weight: NDArray[np.float64]) -> Float32:
    if not native.has_column_fft(weight.shape[0]):
        return _by_plane(fourier.overlap_add)(image, weight)
    return native.column_fft(image, weight)


_ALGORITHMS: dict[str, Callable[[Padded, NDArray[np.float64]], Float32]] = {
    "direct": lambda image, weight: native.direct(image, weight.astype(np.float32)),
    "separable": _separable,
    "column_fft": _column_fft,
    "fft": _by_plane(fourier.fft),
    "overlap_add": _by_plane(fourier.overlap_add),
    "winograd": _by_plane(_winograd),
}


# ---- arguments -----------------------------------------------------------------------------------


def _require_known(name: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        raise OptionError(f"filters.apply: unknown {name} {value!r}. {suggest(str(value), known)}")


def _kernel(kernel: ArrayLike) -> NDArray[np.float64]:
    weight = np.asarray(kernel, np.float64)
    if weight.ndim != 2 or not weight.size:
        raise ShapeError(
            f"filters.apply: expected a kernel (rows, columns); got shape={weight.shape}. "
            "A row of taps is kernel[None]."
        )
    if not np.isfinite(weight).all():
        raise OptionError("filters.apply: expected a kernel of finite numbers; got inf or nan.")
    return weight


def _image(image: ArrayLike) -> Float32:
    x = np.asarray(image)
    if x.dtype.kind not in "buif":
        raise OptionError(f"filters.apply: expected an image of numbers; got dtype={x.dtype}.")
    if x.ndim < 2 or 0 in x.shape[-2:]:
        raise ShapeError(
            f"filters.apply: expected an image (…, rows, columns) or (rows, columns, channels); "
            f"got shape={x.shape}."
        )
    return np.ascontiguousarray(x, np.float32)


def _is_last(x: Float32, data_format: str | None) -> bool:
    """Whether the channels are the last axis."""
    if data_format is not None:
        _require_known("data_format", data_format, _FORMATS)
        if data_format == "channels_last" and x.ndim < 3:
            raise ShapeError(
                f"filters.apply: channels_last expected (…, rows, columns, channels); "
                f"got shape={x.shape}."
            )
        return data_format == "channels_last"
    return x.ndim in (3, 4) and x.shape[-1] <= _FEW < x.shape[-3]
