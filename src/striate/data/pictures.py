"""One picture file, read for a network: PNG, JPEG, WebP, BMP, GIF or TIFF to an array (c, h, w).

Each conversion on the way is said in `Picture.steps`. Files come from anywhere: the formats are an
allow-list, and the number of pixels is checked before any of them is decoded.
"""

from __future__ import annotations

import io
import os
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from striate.errors import FileError, ImageError, OptionError
from striate.files import StrPath, read_bytes

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
FITS = ("pad", "crop", "stretch")
PIXEL_LIMIT = 50_000_000
FILE_LIMIT = 256 << 20  # bytes
_WHITE = (255, 255, 255, 255)
_ORIENTATION = 0x0112  # of EXIF
_BRIGHT = 0.5  # a border whose median is above this is bright


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture as a network takes it.

    Args:
        array: (c, h, w), float32, values from 0 (black) to 1 (white).
        steps: what was done to the file's picture, in order, as short texts.
    """

    array: NDArray[np.float32]
    steps: list[str]


def read_picture(
    path: StrPath, size: tuple[int, int], channels: int, *, dark_background: bool | None = None
) -> Picture:
    """Read the picture file at `path` and convert it to what a network takes.

    It is turned as its EXIF orientation says, put on white where it is transparent, converted to
    grey (0.299·R + 0.587·G + 0.114·B) or RGB, resized with antialiasing, keeping its proportions
    and padding with the colour of its border, and inverted where `dark_background` asks for it.

    Args:
        path: a PNG, JPEG, WebP, BMP, GIF or TIFF file (of an animation, the first frame).
        size: (h, w), pixels.
        channels: 1 for grey, 3 for RGB.
        dark_background: True for a network that learned bright things on a dark background
            (as MNIST's digits are): a picture with a bright border is inverted. False is the
            opposite; None leaves the picture as it is.
    Returns:
        The picture, (channels, h, w), and the steps of its conversion.
    Raises:
        ImageError: no such file, not a picture, damaged, or with too many pixels.
        OptionError: channels other than 1 and 3, or a size below 1.
    """
    if channels not in (1, 3) or min(size) < 1:
        raise OptionError(
            f"read_picture: expected 1 or 3 channels and a size of at least 1×1; got "
            f"channels={channels}, size={size}. A network with other input needs arrays."
        )
    name = os.fspath(path)
    try:
        content = read_bytes(path, FILE_LIMIT)
    except FileError as error:
        raise ImageError(str(error)) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # e.g. about damaged EXIF data, which do no harm
        pixels, steps = picture_bytes(name, content, size, channels)
    array = np.divide(pixels.transpose(2, 0, 1), np.float32(255), dtype=np.float32, order="C")
    bright = bool(_border(pixels).mean() > _BRIGHT)
    if dark_background is not None and dark_background == bright:
        array = 1 - array
        found, wanted = ("bright", "dark") if bright else ("dark", "bright")
        steps.append(f"inverted: its background is {found}, the network learned on a {wanted} one")
    return Picture(array, steps)


def picture_bytes(
    name: str, content: bytes, size: tuple[int, int] | None, channels: int, fit: str = "pad"
) -> tuple[NDArray[np.uint8], list[str]]:
    """Decode the content of a picture file and bring it to a size; safe to call in threads.

    Args:
        name: of the file, for messages.
        content: the whole file.
        size: (h, w), pixels; None leaves the picture as large as it is.
        channels: 1 for grey, 3 for RGB.
        fit: "pad" keeps the whole picture and pads with the median colour of its border, "crop"
            fills the size and cuts off what is over on both sides, "stretch" ignores proportions.
    Returns:
        The pixels, (h, w, channels), and what was done, in order, as short texts.
    Raises:
        ImageError: not a picture, damaged, or with too many pixels.
    """
    image, steps = _decode(name, content, size)
    try:
        image = _flatten(image, channels, steps)
    except (ValueError, OSError) as error:
        raise ImageError(
            f"{name}: expected grey or colour pixels; got mode {image.mode} ({error}). "
            "Convert it to PNG."
        ) from error
    if size is None or image.size == size[::-1]:
        pixels = np.asarray(image)
    elif fit == "pad":
        pixels = _padded(image, size, steps)
    else:
        pixels = np.asarray(_filled(image, size, fit, steps))
    return pixels.reshape(*pixels.shape[:2], channels), steps


def picture_header(name: str, content: bytes) -> tuple[tuple[int, int], int]:
    """The size (h, w) of an upright picture and its channels, 1 or 3, without decoding it."""
    image = _open(name, content)
    try:
        turned = image.getexif().get(_ORIENTATION, 1) >= 5
    except Exception:  # damaged EXIF data do no harm
        turned = False
    grey = image.mode in ("1", "L", "LA", "F") or image.mode.startswith("I")
    size = image.size if turned else image.size[::-1]
    return size, 1 if grey else 3


# ---- decoding --------------------------------------------------------------------------------


def _decode(
    name: str, content: bytes, size: tuple[int, int] | None
) -> tuple[Image.Image, list[str]]:
    """The upright first frame, decoded; a large JPEG at 1/2, 1/4 or 1/8 where that is enough."""
    from PIL import ImageOps

    image = _open(name, content)
    try:
        steps = [f"{image.format}, {_size(image)}, {image.mode}"]
        if image.format != "JPEG" and getattr(image, "is_animated", False):
            steps.append("first frame of an animation")
        if size is not None:
            _draft(image, size, steps)
        image.load()
        if image.getexif().get(_ORIENTATION, 1) != 1:
            image = ImageOps.exif_transpose(image)
            steps.append("turned upright (EXIF orientation)")
    except Exception as error:  # decoders raise whatever damaged data make them stumble over
        raise _damaged(name, error) from error
    return image, steps


def _open(name: str, content: bytes) -> Image.Image:
    """A picture whose header is read; its pixels are counted before any is decoded."""
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError as error:
        what = "an empty file" if not content else "something else"
        raise ImageError(
            f"{name}: expected a picture ({', '.join(FORMATS)}); got {what}. Convert it to PNG."
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(_too_large(name, "more")) from error
    except Exception as error:
        raise _damaged(name, error) from error
    _check_pixels(name, image.size)
    return image


def _damaged(name: str, error: Exception) -> ImageError:
    return ImageError(
        f"{name}: expected a whole picture; it is truncated or damaged ({error}). "
        "Save it again from its source."
    )


def _draft(image: Image.Image, size: tuple[int, int], steps: list[str]) -> None:
    """Let a JPEG be decoded smaller, but at least twice as large as it is needed."""
    before, side = image.size, 2 * max(size)
    if image.format == "JPEG" and min(before) >= 2 * side:
        image.draft(None, (side, side))
        if image.size != before:
            steps.append(f"decoded at {image.width} × {image.height}")


def _check_pixels(name: str, size: tuple[int, int]) -> None:
    width, height = size
    if width * height > PIXEL_LIMIT:
        raise ImageError(_too_large(name, f"{width} × {height} = {width * height:,}"))


def _too_large(name: str, got: str) -> str:
    return f"{name}: expected at most {PIXEL_LIMIT:,} pixels; got {got}. Make the picture smaller."


def _size(image: Image.Image) -> str:
    return f"{image.width} × {image.height} pixels (width × height)"


# ---- conversion ------------------------------------------------------------------------------


def _flatten(image: Image.Image, channels: int, steps: list[str]) -> Image.Image:
    """Without transparency or palette, as grey or RGB of 8 bits."""
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":  # grey of 16 bits
        values = np.nan_to_num(np.asarray(image, np.float64)) / 257
        image = Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))
        steps.append("reduced from 16 to 8 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, _WHITE)
        image = Image.alpha_composite(white, image)
        steps.append("put on white where it is transparent")
    mode = "L" if channels == 1 else "RGB"
    if image.mode == mode:
        return image
    if image.mode != "1" and (image.mode, mode) != ("RGBA", "RGB"):
        steps.append("converted to grey" if channels == 1 else "converted to RGB")
    return image.convert(mode)


def _padded(image: Image.Image, size: tuple[int, int], steps: list[str]) -> NDArray[np.uint8]:
    """Resized to fit into `size`, in the middle, on the colour of its border."""
    from PIL import Image

    height, width = size
    scale = min(height / image.height, width / image.width)
    new_height = min(height, max(1, round(image.height * scale)))
    new_width = min(width, max(1, round(image.width * scale)))
    if (new_width, new_height) != image.size:
        image = image.resize((new_width, new_height), Image.Resampling.LANCZOS)
        steps.append(f"resized to {new_width} × {new_height} with antialiasing")
    pixels = np.asarray(image)
    if (new_width, new_height) == (width, height):
        return pixels
    steps.append(f"padded to {width} × {height} with the colour of its border")
    whole = np.empty((*size, *pixels.shape[2:]), np.uint8)
    whole[:] = np.rint(255 * _border(pixels))
    top, left = (height - new_height) // 2, (width - new_width) // 2
    whole[top : top + new_height, left : left + new_width] = pixels
    return whole


def _filled(image: Image.Image, size: tuple[int, int], fit: str, steps: list[str]) -> Image.Image:
    """Resized to fill `size`: cropped on both sides, or stretched."""
    from PIL import Image, ImageOps

    height, width = size
    if fit == "crop":
        steps.append(f"resized and cropped to {width} × {height} with antialiasing")
        return ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
    steps.append(f"stretched to {width} × {height} with antialiasing")
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _border(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The median colour of the outermost pixels of (h, w, …), from 0 to 1."""
    edges = (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1])
    colour: NDArray[np.float32] = np.median(np.concatenate(edges), axis=0) / np.float32(255)
    return np.asarray(colour, np.float32)
