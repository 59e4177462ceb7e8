"""Safetensors files: the same arrays and texts come back, and no damage goes unnoticed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from striate.errors import FileError, ModelError, OptionError
from striate.formats import safetensors_file
from striate.formats.safetensors_file import load_tensors, save_tensors

QUICK = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
DTYPES = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def some() -> dict[str, Any]:
    return {
        "0.weight": np.arange(54, dtype="f4").reshape(6, 1, 3, 3),
        "0.bias": np.ones(6, "f4"),
        "flags": np.array([True, False, True]),
        "step": np.array(7, "i8"),
    }


def pack(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype: str, shape: list[int], start: int, stop: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "m.safetensors"


@QUICK
@given(
    tensors=st.dictionaries(
        TEXT.filter(lambda name: name != "__metadata__"),
        st.sampled_from(DTYPES).flatmap(
            lambda dtype: arrays_of.arrays(
                dtype, arrays_of.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3)
            )
        ),
        max_size=5,
    ),
    metadata=st.dictionaries(TEXT, TEXT, max_size=4),
)
def test_round_trip(path: Path, tensors: dict[str, Any], metadata: dict[str, str]) -> None:
    save_tensors(path, tensors, metadata)
    found, texts = load_tensors(path)
    assert texts == metadata and list(found) == sorted(tensors)
    library = safetensors.numpy.load_file(path)
    for name, array in tensors.items():
        assert found[name].dtype == array.dtype and found[name].flags.writeable
        np.testing.assert_array_equal(found[name], array, strict=True)
        np.testing.assert_array_equal(library[name], array)


def test_arrays_are_aligned(path: Path) -> None:
    tensors = {dtype: np.ones(3, dtype) for dtype in DTYPES}
    save_tensors(path, tensors, {"a": "b"})
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    assert length % 8 == 0
    for name, place in json.loads(content[8 : 8 + length]).items():
        if name != "__metadata__":
            assert place["data_offsets"][0] % tensors[name].itemsize == 0


def test_order_in_memory_and_on_the_call_does_not_matter(path: Path) -> None:
    save_tensors(path, some(), {"one": "1", "two": "2", "three": "3"})
    content = path.read_bytes()
    turned = dict(reversed(some().items()))
    turned["0.weight"] = np.asfortranarray(turned["0.weight"]).astype(">f4")
    save_tensors(path, turned, {"three": "3", "two": "2", "one": "1"})
    assert path.read_bytes() == content


def test_other_processes_write_the_same_bytes(path: Path) -> None:
    code = (
        "import numpy as np, sys\n"
        "from striate.formats.safetensors_file import save_tensors\n"
        "save_tensors(sys.argv[1], {'a': np.ones(3), 'b': np.ones(2, 'f4')},"
        " {k: k for k in {'x', 'y', 'z', 'u', 'v'}})\n"
    )
    contents = set()
    for seed in ("1", "2"):
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run([sys.executable, "-c", code, str(path)], check=True, env=environment)
        contents.add(path.read_bytes())
    assert len(contents) == 1


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [
        ({"z": np.ones(2, complex)}, {}, r"got name='z', dtype=complex128, shape \(2,\)"),
        ({"s": np.array(["text"])}, {}, "dtype=<U4"),
        ({"o": np.array([object()])}, {}, "dtype=object"),
        ({"__metadata__": np.ones(2)}, {}, "name='__metadata__'"),
        ({3: np.ones(2)}, {}, "name=3"),
        ({}, {"epoch": 3}, "metadata of texts; got 'epoch'=3"),
        ({"\ud800": np.ones(2)}, {}, "names and texts in UTF-8"),
        ({}, {"a": "\udfff"}, "names and texts in UTF-8"),
    ],
)
def test_what_cannot_be_stored(path: Path, tensors: Any, metadata: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        save_tensors(path, tensors, metadata)
    assert not path.exists()


def test_failing_to_write_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_tensors(path, some())
    content = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(FileError, match="the disk is full"):
        save_tensors(path, {"a": np.ones(1000)})
    assert path.read_bytes() == content and len(list(path.parent.iterdir())) == 1


def test_bfloat16_is_the_upper_half_of_float32(path: Path) -> None:
    path.write_bytes(pack({"a": entry("BF16", [1, 2], 0, 4)}, bytes([0x80, 0x3F, 0x40, 0xC0])))
    found = load_tensors(path)[0]["a"]
    np.testing.assert_array_equal(found, np.array([[1.0, -3.0]], "f4"), strict=True)


# ---- damaged files ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "got 0 bytes, too few"),
        (b"12345678", "got 8 bytes, too few"),
        (b"PK\x03\x04" + bytes(100), r"begins with '\{'; got length="),
        (pack(b"[1, 2]"), r"first byte b'\['"),
        ((200_000_000).to_bytes(8, "little") + b"{}", "got length=200,000,000"),
        ((2**64 - 1).to_bytes(8, "little") + b"{}", "2 to 100,000,000 bytes"),
        ((90).to_bytes(8, "little") + b"{}", r"expected 98 bytes of header; got a file of 10"),
        (pack(b"{nonsense"), "its header is no JSON"),
        (pack(b'{"a": ' + b"[" * 100_000), "its header is no JSON"),
        (pack(b'{"\xff": 1}'), "its header is no JSON"),
        (pack({"__metadata__": {"a": 1}}), "its metadata are no texts"),
        (pack({"__metadata__": "a"}), "its metadata are no texts"),
        (pack({"a": 3}), "truncated or damaged"),
        (pack({"a": entry("F32", [2], 0, 8)}, bytes(7)), "truncated or damaged"),
        (pack({"a": entry("F32", [2], 0, 8)}, bytes(9)), "truncated or damaged"),
        (pack({"a": entry("F32", [3], 0, 8)}, bytes(8)), "truncated or damaged"),
        (pack({"a": entry("F32", [2], 8, 0)}, bytes(8)), "truncated or damaged"),
        (pack({"a": entry("F32", [-2], 0, 8)}, bytes(8)), "truncated or damaged"),
        (pack({"a": entry("F32", [2**63, 4], 0, 8)}, bytes(8)), "truncated or damaged"),
        (pack({"a": entry("WHAT", [2], 0, 8)}, bytes(8)), "truncated or damaged"),
        (pack({"a": entry("F8_E5M2", [8], 0, 8)}, bytes(8)), "got dtype=F8_E5M2 of 'a', shape"),
        (pack({"a": entry("F8_E4M3", [8], 0, 8)}, bytes(8)), "got dtype=F8_E4M3 of 'a'"),
    ],
)
def test_damaged(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(ModelError, match=rf"m\.safetensors: .*{message}"):
        load_tensors(path)


def test_overlapping_arrays_are_refused(path: Path) -> None:
    header = {"a": entry("F32", [2], 0, 8), "b": entry("F32", [2], 4, 12)}
    path.write_bytes(pack(header, bytes(12)))
    with pytest.raises(ModelError, match="truncated or damaged"):
        load_tensors(path)


def test_missing_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="expected a file; there is none"):
        load_tensors(tmp_path / "none")
    with pytest.raises(ModelError, match="expected a file; got a folder"):
        load_tensors(tmp_path)


def test_truncated_at_every_byte(path: Path) -> None:
    save_tensors(path, some(), {"a": "b"})
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(ModelError, match=r"m\.safetensors: expected"):
            load_tensors(path)


@settings(QUICK, max_examples=300)
@given(
    changes=st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), min_size=1, max_size=5),
    insert=st.binary(max_size=3),
)
def test_mutated_files_give_one_kind_of_error(
    path: Path, changes: list[tuple[int, int]], insert: bytes
) -> None:
    save_tensors(path, some(), {"a": "b"})
    content = bytearray(path.read_bytes())
    for place, value in changes:
        content[place % len(content)] = value
    place = changes[0][1]
    path.write_bytes(content[:place] + insert + content[place:])
    try:
        load_tensors(path)
    except ModelError as error:
        assert "m.safetensors: " in str(error)


def test_header_limit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safetensors_file, "HEADER_LIMIT", 64)
    with pytest.raises(OptionError, match="at most 64 bytes; got 248"):
        save_tensors(path, some())
