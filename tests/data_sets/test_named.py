"""Loading by name and folder: where files are looked for, fetched from, and what is refused.

Small stand-ins for MNIST are served by a local server; the real files, where `STRIATE_DATA` has
them, are read as well.
"""

from __future__ import annotations

import gzip
import hashlib
import http.server
import importlib
import os
import shutil
import struct
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from striate.data import load
from striate.data.published import FASHION_MNIST, FILE_NAMES, MNIST, PublishedFile, PublishedSet
from striate.errors import DataError, FileError

named = importlib.import_module("striate.data.named")


def encode(array: np.ndarray) -> bytes:
    header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.tobytes()


def contents() -> dict[str, bytes]:
    """The four files of a tiny set: 40 + 20 pictures 4×3."""
    files = {}
    for prefix, count in (("train", 40), ("t10k", 20)):
        pictures = np.arange(count * 12, dtype=np.uint8).reshape(count, 4, 3)
        files[f"{prefix}-images-idx3-ubyte"] = encode(pictures)
        files[f"{prefix}-labels-idx1-ubyte"] = encode(np.arange(count, dtype=np.uint8) % 10)
    return files


def put(folder: Path, files: dict[str, bytes], packed: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / (name + ".gz" * packed)
        path.write_bytes(gzip.compress(content, 1) if packed else content)
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and no STRIATE_DATA."""
    monkeypatch.delenv("STRIATE_DATA", raising=False)
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "data"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address under which a local server offers it."""
    folder = tmp_path / "site"
    folder.mkdir()
    handler = partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, cache: Path, site: tuple[Path, str]) -> PublishedSet:
    """A published set "mnist" of tiny files, with the local server as its second mirror."""
    files = contents()
    described = tuple(
        PublishedFile(name, len(files[name]), hashlib.sha256(files[name]).hexdigest())
        for name in FILE_NAMES
    )
    mirrors = (f"{site[1]}nothing-here/", site[1])
    published = replace(MNIST, files=described, mirrors=mirrors)
    monkeypatch.setitem(named.PUBLISHED, "mnist", published)
    return published


def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def urlopen(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)


def check_tiny(train: Any, test: Any, name: str = "mnist") -> None:
    assert train.images.shape == (40, 1, 4, 3) and test.images.shape == (20, 1, 4, 3)
    assert train.images.dtype == np.float32 and train.labels.dtype == np.int64
    np.testing.assert_array_equal(train.images.ravel()[:256] * 255, np.arange(256))
    assert test.labels.tolist() == [*range(10), *range(10)]
    assert (train.name, test.name) == (name, f"{name} (test)")


# ---- published sets --------------------------------------------------------------------------


def test_downloads_once_into_the_cache(
    tiny: PublishedSet, cache: Path, site: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(site[0], contents())
    check_tiny(*load("mnist", progress=False))
    assert sorted(os.listdir(cache / "mnist")) == sorted(f"{name}.gz" for name in FILE_NAMES)
    no_network(monkeypatch)
    check_tiny(*load("mnist"))


def test_progress_is_shown_on_the_error_stream(
    tiny: PublishedSet,
    site: tuple[Path, str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "150")
    put(site[0], contents())
    check_tiny(*load("mnist"))
    output, errors = capfd.readouterr()
    assert output == "" and "mnist/t10k-labels-idx1-ubyte" in errors


def test_goes_on_where_a_download_broke_off(
    tiny: PublishedSet, cache: Path, site: tuple[Path, str]
) -> None:
    files = contents()
    put(site[0], {FILE_NAMES[0]: files[FILE_NAMES[0]]})
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte\.gz"):
        load("mnist", progress=False)
    assert os.listdir(cache / "mnist") == ["train-images-idx3-ubyte.gz"]
    shutil.rmtree(site[0])
    put(site[0], {name: files[name] for name in FILE_NAMES[1:]})
    check_tiny(*load("mnist", progress=False))


def test_wrong_content_from_a_mirror_is_not_kept(
    tiny: PublishedSet, cache: Path, site: tuple[Path, str]
) -> None:
    put(site[0], {**contents(), FILE_NAMES[0]: encode(np.zeros((40, 4, 3), np.uint8))})
    with pytest.raises(DataError, match=r"expected the published content, SHA-256"):
        load("mnist", progress=False)
    assert not cache.exists()
    put(site[0], {FILE_NAMES[0]: bytes(1 << 20)}, packed=False)
    shutil.move(site[0] / FILE_NAMES[0], site[0] / f"{FILE_NAMES[0]}.gz")
    with pytest.raises(DataError, match=r"expected at most [\d,]+ bytes; got more"):
        load("mnist", progress=False)
    assert not cache.exists()


def test_striate_data_comes_first(
    tiny: PublishedSet, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_network(monkeypatch)
    put(cache / "mnist", dict.fromkeys(FILE_NAMES, b"wrong"))
    put(tmp_path / "data" / "mnist", contents(), packed=False)
    monkeypatch.setenv("STRIATE_DATA", str(tmp_path / "data"))
    check_tiny(*load("mnist"))


def test_repacked_files_are_accepted_and_other_content_is_not(
    tiny: PublishedSet, cache: Path
) -> None:
    put(cache / "mnist", contents())
    check_tiny(*load("mnist"))
    path = cache / "mnist" / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(encode(np.zeros(20, np.uint8)), 9))
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte\.gz: expected the published"):
        load("mnist")


def test_no_network_says_what_to_do(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    no_network(monkeypatch)
    with pytest.raises(DataError, match=r"^load: data set 'fashion-mnist' is not on") as caught:
        load("fashion-mnist", progress=False)
    text = str(caught.value)
    assert "Name or service not known" in text
    assert f"into {cache / 'fashion-mnist'} or into $STRIATE_DATA/fashion-mnist" in text
    for file in FASHION_MNIST.files:
        assert f"{file.name}.gz" in text and file.digest in text
    monkeypatch.setenv("STRIATE_DATA", "/somewhere")
    with pytest.raises(DataError, match=r"\(now /somewhere\)"):
        load("mnist", progress=False)


def test_interrupted_download_leaves_nothing(
    tiny: PublishedSet, cache: Path, site: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(site[0], contents())

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt("stop")

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt, match="stop"):
        load("mnist", progress=False)
    assert os.listdir(cache / "mnist") == []


# ---- folders ---------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [True, False])
def test_folder(tmp_path: Path, packed: bool) -> None:
    folder = put(tmp_path / "mine", contents(), packed)
    check_tiny(*load(folder), name="mine")
    check_tiny(*load(f"{folder}/"), name="mine")


def test_folder_with_the_older_file_names(tmp_path: Path) -> None:
    files = {name.replace("-idx", ".idx"): content for name, content in contents().items()}
    check_tiny(*load(put(tmp_path / "mine", files, packed=False)), name="mine")


def test_folder_with_a_label_out_of_range(tmp_path: Path) -> None:
    labels = np.arange(20, dtype=np.uint8) % 10
    labels[7] = 10
    folder = put(tmp_path / "mine", {**contents(), "t10k-labels-idx1-ubyte": encode(labels)})
    message = r"data set 'mine \(test\)': .* from 0 to 9 .* label 10 at sample 7 of 20"
    with pytest.raises(DataError, match=message):
        load(folder)
    (folder / "classes.txt").write_text("\n".join("abcdefghijk") + "\n")
    assert load(folder)[1].classes == tuple("abcdefghijk")
    for text in ("a\na\n", "\n"):
        (folder / "classes.txt").write_text(text)
        with pytest.raises(DataError, match=r"classes\.txt: expected distinct class names"):
            load(folder)
    (folder / "classes.txt").write_bytes(b"\xff\xff")
    with pytest.raises(DataError, match=r"classes\.txt: expected UTF-8"):
        load(folder)


def test_folder_with_a_file_missing_truncated_or_of_another_count(tmp_path: Path) -> None:
    files = contents()
    labels = files.pop("train-labels-idx1-ubyte")
    folder = put(tmp_path / "mine", files)
    with pytest.raises(DataError, match=r"four IDX files .*; missing: train-labels-idx1-ubyte\."):
        load(folder)
    path = folder / "train-labels-idx1-ubyte"
    path.write_bytes(labels[:-3])
    with pytest.raises(DataError, match=r"expected 40 = 40 values|got 37\. The file is truncated"):
        load(folder)
    path.write_bytes(encode(np.zeros(39, np.uint8)))
    with pytest.raises(DataError, match="got 40 images and 39 labels"):
        load(folder)


def test_names_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"got 'mnits'\. Did you mean 'mnist'\?"):
        load("mnits")
    with pytest.raises(DataError, match="There is: digits, fashion-mnist, mnist"):
        load(tmp_path / "no-such-folder")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match=r"got a file: .*file\. Pass its folder"):
        load(tmp_path / "file")


# ---- the bundled sample ----------------------------------------------------------------------


def test_digits_are_balanced_and_whole() -> None:
    started = time.perf_counter()
    train, test = load("digits")
    assert time.perf_counter() - started < 3  # 0.1 s; the rest is for busy machines
    assert train.images.shape == (5000, 1, 28, 28) and test.images.shape == (1000, 1, 28, 28)
    assert np.bincount(train.labels).tolist() == [500] * 10
    assert np.bincount(test.labels).tolist() == [100] * 10
    assert train.images.min() == 0 and train.images.max() == 1
    assert train.classes == tuple("0123456789")


def test_digits_file_is_small_and_noticed() -> None:
    assert named._SAMPLE.stat().st_size <= 1_500_000
    assert "MNIST" in named._SAMPLE.with_name("NOTICE.md").read_text("utf-8")


def test_damaged_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytearray(named._SAMPLE.read_bytes())
    path = tmp_path / "digits.npz"
    monkeypatch.setattr(named, "_SAMPLE", path)
    for place in (0, 5000, 400_000, len(content) - 10):
        changed = bytearray(content)
        changed[place] ^= 0xFF
        path.write_bytes(changed)
        with pytest.raises(FileError, match=r"damaged .*\. Install striate again"):
            load("digits")
    np.savez(path, **dict.fromkeys(named._SAMPLE_ARRAYS, np.zeros(3, np.uint8)))
    with pytest.raises(FileError, match="its digest is wrong"):
        load("digits")


# ---- the real files --------------------------------------------------------------------------


def real(name: str) -> Path:
    folder = Path(os.environ.get("STRIATE_DATA") or "nowhere") / name
    if not folder.is_dir():
        pytest.skip(f"needs $STRIATE_DATA/{name}")
    return folder


@pytest.mark.parametrize("published", [MNIST, FASHION_MNIST], ids=lambda p: str(p.name))
def test_real_sets(published: PublishedSet, monkeypatch: pytest.MonkeyPatch) -> None:
    real(published.name)
    no_network(monkeypatch)
    train, test = load(published.name)
    assert train.images.shape == (60000, 1, 28, 28) and test.images.shape == (10000, 1, 28, 28)
    assert np.bincount(test.labels).tolist() == EXPECTED_TEST_COUNTS[published.name]
    assert train.classes == published.classes and len(set(train.classes)) == 10


EXPECTED_TEST_COUNTS = {
    "mnist": [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
    "fashion-mnist": [1000] * 10,
}


def test_digits_are_cut_from_mnist() -> None:
    real("mnist")
    for whole, part, last in zip(load("mnist"), load("digits"), (5847, 1197), strict=True):
        head = whole.images[: last + 1]
        where = np.flatnonzero(
            np.isin([image.tobytes() for image in head], [image.tobytes() for image in part.images])
        )
        np.testing.assert_array_equal(head[where], part.images)
        np.testing.assert_array_equal(whole.labels[where], part.labels)
