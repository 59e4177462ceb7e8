"""IDX files: whole, packed and repacked, and damaged in each way."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from striate.data import idx
from striate.data.idx import read_idx
from striate.errors import DataError, FileError

VALUES = np.arange(24, dtype=np.uint8).reshape(4, 3, 2)


def encode(array: np.ndarray, kind: int = 8) -> bytes:
    return (
        bytes((0, 0, kind, array.ndim))
        + struct.pack(f">{array.ndim}I", *array.shape)
        + bytes(array)
    )


def write(folder: Path, content: bytes) -> Path:
    path = folder / "file-idx"
    path.write_bytes(content)
    return path


WHOLE = encode(VALUES)
PACKED = gzip.compress(WHOLE, mtime=0)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(WHOLE, id="plain"),
        pytest.param(PACKED, id="packed"),
        pytest.param(gzip.compress(WHOLE, 1), id="packed with a time"),
        pytest.param(gzip.compress(WHOLE[:7]) + gzip.compress(WHOLE[7:]), id="two members"),
        pytest.param(PACKED + bytes(100), id="padded with zeros, as tapes leave it"),
    ],
)
def test_whole(tmp_path: Path, content: bytes) -> None:
    np.testing.assert_array_equal(read_idx(write(tmp_path, content), 3), VALUES)


def test_empty_array(tmp_path: Path) -> None:
    content = gzip.compress(encode(np.zeros((0, 28, 28), np.uint8)))
    assert read_idx(write(tmp_path, content), 3).shape == (0, 28, 28)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (WHOLE[:-1], r"expected 4×3×2 = 24 values .*; got 23\. The file is truncated"),
        (WHOLE[:16], r"got 0\. The file is truncated"),
        (WHOLE[:9], r"IDX header of 16 bytes; got 9 bytes\. The file is truncated"),
        (WHOLE + b"x", r"expected 4×3×2 = 24 values .*; got more bytes behind"),
        (b"", r"beginning with 00000803; got an empty file"),
        (b"\0\0", r"beginning with 00000803; got 0000"),
        (b"not an IDX file", r"beginning with 00000803; got 6e6f7420"),
        (encode(VALUES, kind=13), r"got 00000d03"),
        (encode(VALUES[0, 0]), r"with 3 axes, .*; got 00000801"),
    ],
)
def test_damaged(tmp_path: Path, pack: type[bytes], content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=rf"file-idx: .*{message}"):
        read_idx(write(tmp_path, pack(content)), 3)


@pytest.mark.parametrize("cut", [2, 11, 25, len(PACKED) - 1])
def test_truncated_packed(tmp_path: Path, cut: int) -> None:
    with pytest.raises(DataError, match=rf"got {cut} bytes that stop before it.*truncated"):
        read_idx(write(tmp_path, PACKED[:cut]), 3)


def test_damaged_packed(tmp_path: Path) -> None:
    content = bytearray(PACKED)
    content[-6] ^= 1  # in the check sum
    with pytest.raises(DataError, match=r"expected gzip data; got damaged ones"):
        read_idx(write(tmp_path, bytes(content)), 3)


def bomb(header: bytes, size: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    parts = [packer.compress(header)]
    parts += [packer.compress(bytes(1 << 20)) for _ in range(size >> 20)]
    return b"".join([*parts, packer.flush()])


def test_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    inflate = idx._inflate

    def watched(where: str, content: bytes, limit: int) -> bytes:
        found = inflate(where, content, limit)
        sizes.append(len(found))
        return found

    monkeypatch.setattr(idx, "_inflate", watched)
    path = write(tmp_path, bomb(WHOLE, 64 << 20))
    with pytest.raises(DataError, match="got more bytes behind them"):
        read_idx(path, 3)
    assert sizes == [4, 16, len(WHOLE) + 1]


def test_header_that_announces_too_much(tmp_path: Path) -> None:
    header = bytes((0, 0, 8, 3)) + struct.pack(">3I", 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
    with pytest.raises(DataError, match=r"at most 1,073,741,824 bytes when unpacked; its header"):
        read_idx(write(tmp_path, gzip.compress(header)), 3)
    with pytest.raises(DataError, match=r"header announces; got 0\. The file is truncated"):
        read_idx(write(tmp_path, header), 3)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="there is none"):
        read_idx(tmp_path / "none", 1)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    content=st.sampled_from([WHOLE, PACKED]),
    changes=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), min_size=1, max_size=4),
    cut=st.integers(0, 60),
)
def test_mutated_files_give_one_kind_of_error(
    tmp_path: Path, content: bytes, changes: list[tuple[int, int]], cut: int
) -> None:
    mutated = bytearray(content[: len(content) - cut] if cut < 30 else content)
    for place, value in changes:
        if place < len(mutated):
            mutated[place] = value
    try:
        read_idx(write(tmp_path, bytes(mutated)), 3)
    except DataError as error:
        assert "file-idx: " in str(error)
