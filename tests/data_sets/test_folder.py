"""Folders of pictures: listing, decoding, caching, damaged files; and the parts of a folder."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from striate.data import ImageFolder, load, read_picture
from striate.data.folder import train_and_test
from striate.data.memory import available_memory
from striate.errors import DataError, OptionError

RNG = np.random.Generator(np.random.Philox(key=5))


def picture(size: tuple[int, int] = (6, 8), colour: bool = True) -> Image.Image:
    shape = (*size, 3) if colour else size
    return Image.fromarray(RNG.integers(0, 256, shape, np.uint8))


def put(path: Path, image: Any = None, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (picture() if image is None else image).save(path, **options)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes, three and two pictures of five formats, and files that are no pictures."""
    root = tmp_path / "animals"
    put(root / "dog" / "b.png")
    put(root / "dog" / "a.bmp")
    put(root / "dog" / "young" / "c.tiff")
    put(root / "cat" / "1.webp", lossless=True)
    put(root / "cat" / "2.GIF")
    (root / "cat" / "notes.txt").write_text("no picture")
    (root / "cat" / ".hidden.png").write_text("no picture")
    (root / ".git").mkdir()
    (root / "README.md").write_text("no class")
    return root


def test_classes_are_folders_and_samples_are_sorted(folder: Path) -> None:
    data = ImageFolder(folder)
    assert data.classes == ("cat", "dog") and data.labels.tolist() == [0, 0, 1, 1, 1]
    assert [f.name for f in data.files] == ["1.webp", "2.GIF", "a.bmp", "b.png", "c.tiff"]
    assert data.shape == (3, 6, 8) and data.cached and data.name == "animals"
    assert repr(data) == "ImageFolder 'animals': 5 pictures 3×6×8 in 2 classes"
    images, labels = data.batch([3, 0])
    assert labels.tolist() == [1, 0]
    with Image.open(folder / "dog" / "b.png") as image:
        expected = np.asarray(image).transpose(2, 0, 1) / np.float32(255)
    np.testing.assert_array_equal(images[0], expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
def test_decoded_ahead_or_batch_by_batch_is_the_same(folder: Path, channels: int, fit: str) -> None:
    options: dict[str, Any] = {"size": (5, 5), "channels": channels, "fit": fit}
    ahead = ImageFolder(folder, **options, cache=True, threads=2)
    later = ImageFolder(folder, **options, cache=False)
    assert ahead.cached and not later.cached
    assert ahead.shape == later.shape == (channels, 5, 5)
    order = [4, 0, 2, 2]
    np.testing.assert_array_equal(ahead.batch(order)[0], later.batch(order)[0])
    assert ahead.fingerprint() == later.fingerprint()


def test_pictures_are_those_that_predict_reads(folder: Path) -> None:
    data = ImageFolder(folder, size=(10, 7))
    for item, file in enumerate(data.files):
        np.testing.assert_array_equal(
            data.batch([item])[0][0], read_picture(file, (10, 7), 3).array
        )


def test_how_pictures_are_fitted(tmp_path: Path) -> None:
    array = np.zeros((4, 8), np.uint8)
    array[:, 2:6] = 200
    put(tmp_path / "a" / "1.png", Image.fromarray(array))
    found = {
        fit: ImageFolder(tmp_path, size=(4, 4), fit=fit).batch([0])[0][0, 0]
        for fit in ("pad", "crop", "stretch")
    }
    assert (found["crop"] == np.float32(200 / 255)).all()
    bars = found["pad"][[0, 3]]
    assert bars.max() == bars.min() < 0.1 and found["pad"][1:3].max() > 0.7
    assert (found["stretch"][:, 0] < 0.3).all() and (found["stretch"][:, 1:3] > 0.6).all()


def test_grey_pictures_have_one_channel_unless_one_has_colour(tmp_path: Path) -> None:
    put(tmp_path / "a" / "1.png", picture(colour=False))
    put(tmp_path / "b" / "1.jpg", picture(colour=False))
    assert ImageFolder(tmp_path).shape == (1, 6, 8)
    put(tmp_path / "b" / "2.jpg")
    assert ImageFolder(tmp_path).shape == (3, 6, 8)
    assert ImageFolder(tmp_path, channels=1).shape == (1, 6, 8)


def test_exif_orientation_counts_for_the_size_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    put(tmp_path / "a" / "1.jpg", picture((6, 8)), exif=exif)
    put(tmp_path / "a" / "2.jpg", picture((8, 6)))
    assert ImageFolder(tmp_path).shape == (3, 8, 6)


def test_large_jpegs_are_decoded_smaller(tmp_path: Path) -> None:
    rows = np.linspace(0, 255, 512).astype(np.uint8)
    array = np.broadcast_to(rows[:, np.newaxis], (512, 512))
    put(tmp_path / "a" / "1.jpg", Image.fromarray(array), quality=95)
    read = read_picture(tmp_path / "a" / "1.jpg", (16, 16), 1)
    assert "decoded at 64 × 64" in read.steps
    small = ImageFolder(tmp_path, size=(16, 16)).batch([0])[0][0, 0]
    expected = array.reshape(16, 32, 512)[:, :, :16].mean(axis=1) / 255
    assert abs(small - expected).max() < 0.02


def test_sizes_that_differ_need_a_size(folder: Path) -> None:
    wrong = put(folder / "dog" / "z.png", picture((3, 3)))
    with pytest.raises(DataError, match=rf"{wrong}: expected 6 × 8 .* got 3 × 3. Pass size="):
        ImageFolder(folder)
    assert ImageFolder(folder, size=(6, 8)).shape == (3, 6, 8)


# ---- damaged files ---------------------------------------------------------------------------


def bomb() -> bytes:
    """A PNG of 60,000 × 60,000 pixels in 60 bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IEND", b"")


@pytest.fixture
def damaged(folder: Path) -> Path:
    whole = (folder / "dog" / "b.png").read_bytes()
    (folder / "cat" / "0 truncated.png").write_bytes(whole[: len(whole) // 2])
    (folder / "dog" / "empty.jpg").write_bytes(b"")
    (folder / "dog" / "text.jpg").write_text("no picture")
    (folder / "dog" / "bomb.png").write_bytes(bomb())
    return folder


def test_damaged_pictures_are_refused_by_name(damaged: Path) -> None:
    with pytest.raises(DataError, match="expected 9 whole pictures; got 4 that cannot be") as found:
        ImageFolder(damaged)
    text = str(found.value)
    for word in ("0 truncated.png", "empty.jpg", "text.jpg", "bomb.png", "skip_corrupt=True"):
        assert word in text
    assert "\n" not in text and "at most 50,000,000 pixels" in text


@pytest.mark.parametrize("cache", [True, False])
def test_damaged_pictures_are_left_out_on_request(damaged: Path, cache: bool) -> None:
    data = ImageFolder(damaged, skip_corrupt=True, cache=cache)
    assert len(data) == 5 and data.labels.tolist() == [0, 0, 1, 1, 1]
    assert sorted(os.path.basename(name) for name in data.skipped) == [
        "0 truncated.png",
        "bomb.png",
        "empty.jpg",
        "text.jpg",
    ]
    assert repr(data).endswith("in 2 classes, 4 damaged left out")
    assert [f.name for f in data.files] == ["1.webp", "2.GIF", "a.bmp", "b.png", "c.tiff"]
    whole = ImageFolder(damaged, skip_corrupt=True).in_memory()
    np.testing.assert_array_equal(data.batch(np.arange(5))[0], whole.images)
    with Image.open(damaged / "dog" / "b.png") as image:
        expected = np.asarray(image).transpose(2, 0, 1) / np.float32(255)
    np.testing.assert_array_equal(data.batch([3])[0][0], expected)


def test_damage_that_is_met_later_is_named_then(damaged: Path) -> None:
    data = ImageFolder(damaged, cache=False)
    with pytest.raises(DataError, match=r"truncated\.png: .* Or pass skip_corrupt=True"):
        data.batch([0])


def test_nothing_but_damage(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_text("no picture")
    with pytest.raises(DataError, match="expected a readable picture; got none"):
        ImageFolder(tmp_path)
    with pytest.raises(DataError, match="expected 1 whole pictures; got 1"):
        ImageFolder(tmp_path, size=(4, 4), channels=1, skip_corrupt=True)


@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "bmp", "gif", "tiff"])
def test_files_cut_or_changed_anywhere_are_read_or_refused(tmp_path: Path, kind: str) -> None:
    whole = put(tmp_path / "a" / f"1.{kind}", picture((16, 16))).read_bytes()
    for _ in range(40):
        content = bytearray(whole[: RNG.integers(1, len(whole) + 1)])
        for place in RNG.integers(0, len(content), 4):
            content[place] = RNG.integers(0, 256)
        (tmp_path / "a" / f"1.{kind}").write_bytes(content)
        try:
            data = ImageFolder(tmp_path, size=(8, 8), channels=3)
        except DataError as error:
            assert "1 that cannot be used" in str(error)
        else:
            assert np.isfinite(data.batch([0])[0]).all()


# ---- folders that are none -------------------------------------------------------------------


def test_folders_that_are_none(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(DataError, match="none: expected a folder with a sub-folder for each"):
        ImageFolder(tmp_path / "none")
    (folder / "bird").mkdir()
    with pytest.raises(DataError, match=r"bird: expected at least one picture .* of class 'bird'"):
        ImageFolder(folder)
    with pytest.raises(DataError, match="expected a sub-folder for each class"):
        ImageFolder(folder / "cat")
    with pytest.raises(DataError, match=r"got train, val\. Pass one of them"):
        (tmp_path / "parts" / "train").mkdir(parents=True)
        (tmp_path / "parts" / "val").mkdir()
        ImageFolder(tmp_path / "parts")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"size": (0, 4)}, r"size=\(0, 4\)"),
        ({"size": (4,)}, r"size=\(4,\)"),
        ({"channels": 2}, "channels 1 .*or 3"),
        ({"fit": "squeeze"}, "fit='squeeze'"),
        ({"memory_share": 2}, "memory_share"),
    ],
)
def test_options_out_of_range(folder: Path, options: dict[str, Any], match: str) -> None:
    with pytest.raises(OptionError, match=match):
        ImageFolder(folder, **options)


def test_links_to_folders_below_a_class_are_not_followed(folder: Path) -> None:
    (folder / "cat" / "loop").symlink_to(folder)
    assert len(ImageFolder(folder)) == 5


def test_cache_only_where_memory_allows(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 5 * 3 * 6 * 8
    for free, cached in ((2 * size, True), (2 * size - 2, False)):
        monkeypatch.setattr("striate.data.encoded.available_memory", lambda free=free: free)
        assert ImageFolder(folder, memory_share=0.5).cached is cached


def test_available_memory(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:   1000 kB\n")
    assert available_memory(tmp_path / "meminfo", tmp_path) == 1_024_000
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("5000\n")
    assert available_memory(tmp_path / "meminfo", tmp_path) == 1_024_000
    (tmp_path / "memory.max").write_text("9000\n")
    assert available_memory(tmp_path / "meminfo", tmp_path) == 4000
    assert available_memory(tmp_path / "none", tmp_path / "none") > 1 << 20
    assert available_memory() > 1 << 20


# ---- two parts, and load ---------------------------------------------------------------------


def parts(root: Path, names: tuple[str, str] = ("train", "test")) -> Path:
    for part, count in zip(names, (4, 2), strict=True):
        for name in ("cat", "dog"):
            for k in range(count):
                put(root / part / name / f"{k}.png")
    return root


@pytest.mark.parametrize("names", [("train", "test"), ("Training", "val")])
def test_both_parts(tmp_path: Path, names: tuple[str, str]) -> None:
    train, test = load(parts(tmp_path / "set", names))
    assert (len(train), len(test)) == (8, 4)
    assert (train.name, test.name) == ("set", "set (test)")
    assert train.shape == test.shape and train.classes == test.classes == ("cat", "dog")


def test_a_folder_without_parts_gives_a_fifth(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        for k in range(5):
            put(tmp_path / "set" / name / f"{k}.png")
    train, test = load(tmp_path / "set")
    assert train.labels.tolist() == [0] * 4 + [1] * 4 and test.labels.tolist() == [0, 1]
    assert (train.name, test.name) == ("set", "set (test)")
    again = load(tmp_path / "set", channels=3, size=(6, 8))
    assert again[1].fingerprint() == test.fingerprint()


def test_a_folder_around_the_folder(tmp_path: Path) -> None:
    parts(tmp_path / "download" / "pets-1.0")
    (tmp_path / "download" / "__MACOSX").mkdir()
    train, _ = load(tmp_path / "download")
    assert train.classes == ("cat", "dog") and train.name == "download"


def test_a_class_that_only_the_test_part_has(tmp_path: Path) -> None:
    put(parts(tmp_path) / "test" / "bird" / "1.png")
    with pytest.raises(DataError, match=r"expected the classes of .*train; got 'bird'"):
        train_and_test(tmp_path)


def test_load_of_options_and_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match="expected no 'size' with digits"):
        load("digits", size=(4, 4))
    monkeypatch.setenv("STRIATE_DATA", str(tmp_path))
    parts(tmp_path / "pets")
    train, _ = load("pets", size=(4, 4), channels=1)
    assert train.shape == (1, 4, 4) and train.name == "pets"
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="expected a name, a folder or a tar archive; got a file"):
        load(tmp_path / "file")
