"""One picture file, read for a network: any PNG, JPEG, WebP, BMP or GIF to an array (c, h, w).

Each conversion on the way is said in `Picture.steps`. Files come from anywhere: the formats are an
allow-list, and the number of pixels is checked before any of them is decoded.
"""

from __future__ import annotations

import io
import os
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import FileError, ImageError, OptionError
from striate.files import StrPath, read_bytes

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
PIXEL_LIMIT = 50_000_000
FILE_LIMIT = 256 << 20  # bytes
_WHITE = (255, 255, 255, 255)
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
        path: a PNG, JPEG, WebP, BMP or GIF file (of an animation, the first frame).
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
    image, steps = _decode(path)
    image = _flatten(image, channels, steps)
    scaled, offset = _fit(image, size, steps)
    pixels = np.asarray(scaled, np.float32) / np.float32(255)
    if pixels.ndim == 2:
        pixels = pixels[:, :, np.newaxis]
    border = _border(pixels)  # (c,)
    array = np.empty((*size, channels), np.float32)
    array[:] = border
    top, left = offset
    array[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    bright = bool(border.mean() > _BRIGHT)
    if dark_background is not None and dark_background == bright:
        array = 1 - array
        found, wanted = ("bright", "dark") if bright else ("dark", "bright")
        steps.append(f"inverted: its background is {found}, the network learned on a {wanted} one")
    return Picture(np.ascontiguousarray(array.transpose(2, 0, 1)), steps)


# ---- decoding --------------------------------------------------------------------------------


def _decode(path: StrPath) -> tuple[Image.Image, list[str]]:
    """The upright first frame, decoded."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    name = os.fspath(path)
    try:
        content = read_bytes(path, FILE_LIMIT)
    except FileError as error:
        raise ImageError(str(error)) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # e.g. about damaged EXIF data, which do no harm
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content), formats=FORMATS)
            _check_pixels(name, image.size)
            steps = [f"{image.format}, {_size(image)}, {image.mode}"]
            if getattr(image, "n_frames", 1) > 1:
                steps.append("first frame of an animation")
            image.load()
            upright = ImageOps.exif_transpose(image)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        what = "an empty file" if not content else "something else"
        raise ImageError(
            f"{name}: expected a picture ({', '.join(FORMATS)}); got {what}. Convert it to PNG."
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(_too_large(name, "more")) from error
    except Exception as error:  # decoders raise whatever damaged data make them stumble over
        raise ImageError(
            f"{name}: expected a whole picture; it is truncated or damaged ({error}). "
            "Save it again from its source."
        ) from error
    if upright.size != image.size or image.getexif().get(0x0112, 1) != 1:
        steps.append("turned upright (EXIF orientation)")
    return upright, steps


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
        values = np.asarray(image, np.float64) / 257
        image = Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))
        steps.append("reduced from 16 to 8 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, _WHITE)
        image = Image.alpha_composite(white, image)
        steps.append("put on white where it is transparent")
    mode = "L" if channels == 1 else "RGB"
    if image.mode in (mode, "RGBA") and mode == "RGB":
        return image.convert("RGB")
    if image.mode not in (mode, "1"):
        steps.append("converted to grey" if channels == 1 else "converted to RGB")
    return image.convert(mode)


def _fit(
    image: Image.Image, size: tuple[int, int], steps: list[str]
) -> tuple[Image.Image, tuple[int, int]]:
    """Resized to fit into `size`, and where in it (top, left) it belongs."""
    from PIL import Image

    height, width = size
    scale = min(height / image.height, width / image.width)
    new_height = min(height, max(1, round(image.height * scale)))
    new_width = min(width, max(1, round(image.width * scale)))
    if (new_width, new_height) != image.size:
        image = image.resize((new_width, new_height), Image.Resampling.LANCZOS)
        steps.append(f"resized to {new_width} × {new_height} with antialiasing")
    if (new_width, new_height) != (width, height):
        steps.append(f"padded to {width} × {height} with the colour of its border")
    return image, ((height - new_height) // 2, (width - new_width) // 2)


def _border(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """The median colour of the outermost pixels of (h, w, c): (c,)."""
    edges = (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1])
    colour: NDArray[np.float32] = np.median(np.concatenate(edges), axis=0)
    return colour.astype(np.float32)
