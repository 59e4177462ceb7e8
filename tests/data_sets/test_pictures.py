"""Pictures for prediction: each conversion and its word, and files that are none or bombs."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from striate.data import pictures, read_picture
from striate.errors import ImageError, OptionError

SIZE = (28, 28)
RAMP = (np.arange(28 * 28) % 251).astype(np.uint8).reshape(28, 28)


def save(folder: Path, image: Any, name: str = "p.png", **options: Any) -> Path:
    path = folder / name
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, data: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def test_a_picture_that_fits_is_left_as_it_is(tmp_path: Path) -> None:
    picture = read_picture(save(tmp_path, RAMP), SIZE, 1)
    assert picture.array.dtype == np.float32 and picture.array.flags.c_contiguous
    np.testing.assert_array_equal(picture.array[0], RAMP / np.float32(255))
    assert picture.steps == ["PNG, 28 × 28 pixels (width × height), L"]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_formats(tmp_path: Path, kind: str) -> None:
    image = np.repeat(RAMP[:, :, np.newaxis], 3, axis=2) // 4 + 100
    picture = read_picture(save(tmp_path, image, "p.bin", format=kind), SIZE, 3)
    assert picture.array.shape == (3, 28, 28)
    assert picture.steps[0].startswith(f"{kind}, 28 × 28")
    assert abs(picture.array.mean() - image.mean() / 255) < 0.02


def test_colour_to_grey_and_back(tmp_path: Path) -> None:
    red = np.zeros((28, 28, 3), np.uint8)
    red[..., 0] = 255
    picture = read_picture(save(tmp_path, red), SIZE, 1)
    np.testing.assert_array_equal(picture.array, np.float32(76) / np.float32(255))  # 0.299 · 255
    assert picture.steps[1:] == ["converted to grey"]
    picture = read_picture(save(tmp_path, RAMP), SIZE, 3)
    np.testing.assert_array_equal(picture.array, np.stack([RAMP / np.float32(255)] * 3))
    assert picture.steps[1:] == ["converted to RGB"]


def test_transparent_parts_become_white(tmp_path: Path) -> None:
    image = np.zeros((28, 28, 4), np.uint8)
    image[:14, :, 3] = 255
    for channels in (1, 3):
        picture = read_picture(save(tmp_path, image), SIZE, channels)
        assert picture.array[:, :14].max() == 0 and picture.array[:, 14:].min() == 1
        assert picture.steps[1] == "put on white where it is transparent"


def test_palette_bilevel_and_16_bits(tmp_path: Path) -> None:
    grey = Image.fromarray(RAMP)
    palette = grey.convert("P")
    np.testing.assert_array_equal(
        read_picture(save(tmp_path, palette), SIZE, 1).array[0], RAMP / np.float32(255)
    )
    bilevel = read_picture(save(tmp_path, grey.convert("1")), SIZE, 1)
    assert set(np.unique(bilevel.array)) == {0, 1}
    wide = read_picture(save(tmp_path, RAMP.astype(np.uint16) * 257), SIZE, 1)
    np.testing.assert_array_equal(wide.array[0], RAMP / np.float32(255))
    assert wide.steps[1] == "reduced from 16 to 8 bits"


def test_exif_orientation(tmp_path: Path) -> None:
    image = Image.new("L", (20, 10))
    image.paste(255, (0, 0, 5, 5))  # bright top left
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90° clockwise to see it upright
    picture = read_picture(save(tmp_path, image, exif=exif), (20, 10), 1)
    assert picture.array[0, :5, 5:].min() == 1 and picture.array[0, :5, :5].max() == 0
    assert picture.steps[1:] == ["turned upright (EXIF orientation)"]


def test_keeps_proportions_and_pads_with_the_border(tmp_path: Path) -> None:
    image = np.full((50, 100), 200, np.uint8)
    image[20:30, 45:55] = 10
    picture = read_picture(save(tmp_path, image), SIZE, 1)
    assert picture.steps[1:] == [
        "resized to 28 × 14 with antialiasing",
        "padded to 28 × 28 with the colour of its border",
    ]
    border = np.float32(200) / np.float32(255)
    np.testing.assert_array_equal(picture.array[0, :7], border)
    np.testing.assert_array_equal(picture.array[0, 21:], border)
    assert picture.array[0, 13:15, 13:15].max() < 0.2


def test_antialiasing_averages_a_fine_pattern(tmp_path: Path) -> None:
    image = (np.indices((280, 280)).sum(axis=0) % 2 * 255).astype(np.uint8)
    inner = read_picture(save(tmp_path, image), SIZE, 1).array[0, 2:-2, 2:-2]
    assert abs(inner - 0.5).max() < 0.02


@pytest.mark.parametrize("shape", [(1, 300), (300, 1), (1, 1), (3, 2)])
def test_extreme_shapes(tmp_path: Path, shape: tuple[int, int]) -> None:
    picture = read_picture(save(tmp_path, np.full(shape, 51, np.uint8)), (5, 7), 1)
    np.testing.assert_array_equal(picture.array, np.full((1, 5, 7), 0.2, np.float32))


@pytest.mark.parametrize(
    ("bright", "dark_background", "inverted"),
    [
        (True, True, True),
        (True, False, False),
        (True, None, False),
        (False, True, False),
        (False, False, True),
    ],
)
def test_inverts_where_the_background_asks_for_it(
    tmp_path: Path, bright: bool, dark_background: bool | None, inverted: bool
) -> None:
    image = np.full((28, 28), 255 if bright else 0, np.uint8)
    image[10:18, 10:18] = 128
    picture = read_picture(save(tmp_path, image), SIZE, 1, dark_background=dark_background)
    assert picture.array[0, 0, 0] == (bright != inverted)
    said = [step for step in picture.steps if step.startswith("inverted: its background is ")]
    assert len(said) == inverted


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("L", (28, 28), value) for value in (255, 0)]
    path = save(tmp_path, frames[0], "p.gif", save_all=True, append_images=frames[1:])
    picture = read_picture(path, SIZE, 1)
    assert picture.array.min() == 1 and picture.steps[1] == "first frame of an animation"


# ---- files that are no pictures --------------------------------------------------------------


def test_missing_folder_empty_and_other_files(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"none\.png: expected a file; there is none"):
        read_picture(tmp_path / "none.png", SIZE, 1)
    with pytest.raises(ImageError, match="expected a file; got a folder"):
        read_picture(tmp_path, SIZE, 1)
    path = tmp_path / "p.png"
    path.write_bytes(b"")
    with pytest.raises(ImageError, match=r"expected a picture .*; got an empty file"):
        read_picture(path, SIZE, 1)
    path.write_text("GIF is what this is not")
    with pytest.raises(ImageError, match=r"expected a picture \(PNG, JPEG, .*\); got something"):
        read_picture(path, SIZE, 1)


@pytest.mark.parametrize("kind", ["PPM", "ICO", "PDF"])
def test_formats_that_are_not_allowed(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ImageError, match=r"expected a picture .*; got something else"):
        read_picture(save(tmp_path, RAMP, "p.png", format=kind), SIZE, 1)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
@pytest.mark.parametrize("part", [0.5, 0.9])
def test_truncated(tmp_path: Path, kind: str, part: float) -> None:
    noise = np.random.Generator(np.random.Philox(key=1)).integers(0, 256, (64, 64), np.uint8)
    path = save(tmp_path, noise, "p.bin", format=kind)
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(ImageError, match=r"p\.bin: expected a .*(truncated or damaged|got some)"):
        read_picture(path, SIZE, 1)


@pytest.mark.parametrize("size", [(8000, 8000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_bombs_are_refused_before_decoding(
    tmp_path: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: Any) -> None:
        pytest.fail("decoded a bomb")

    path = tmp_path / "p.png"
    path.write_bytes(png(*size, data=bytes(1000)))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    with pytest.raises(ImageError, match=r"p\.png: expected at most 50,000,000 pixels; got"):
        read_picture(path, SIZE, 1)


def test_text_bomb_within_a_png(tmp_path: Path) -> None:
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(80 << 20)))
    content = png(28, 28, bytes(29 * 28))
    path = tmp_path / "p.png"
    path.write_bytes(content[:33] + text + content[33:])
    with pytest.raises(ImageError, match="truncated or damaged"):
        read_picture(path, SIZE, 1)


def test_file_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "FILE_LIMIT", 100)
    with pytest.raises(ImageError, match="expected at most 100 bytes"):
        read_picture(save(tmp_path, RAMP), SIZE, 1)


def test_options(tmp_path: Path) -> None:
    path = save(tmp_path, RAMP)
    with pytest.raises(OptionError, match="got channels=2"):
        read_picture(path, SIZE, 2)
    with pytest.raises(OptionError, match=r"size=\(0, 28\)"):
        read_picture(path, (0, 28), 1)


KINDS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    kind=st.sampled_from(KINDS),
    changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=5),
)
def test_mutated_files_give_one_kind_of_error(
    tmp_path: Path, kind: str, changes: list[tuple[int, int]]
) -> None:
    path = save(tmp_path, RAMP[:12, :12], "p.bin", format=kind)
    content = bytearray(path.read_bytes())
    for place, value in changes:
        content[place % len(content)] = value
    path.write_bytes(content)
    try:
        picture = read_picture(path, (12, 12), 1)
    except ImageError as error:
        assert "p.bin: " in str(error)
    else:
        assert picture.array.shape == (1, 12, 12)
