"""torch checkpoints: what torch writes is read, nothing is run, damage and traps are refused."""

from __future__ import annotations

import io
import os
import pickle
import struct
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import striate
from striate import nn
from striate.errors import ModelError, OptionError, StriateError
from striate.formats import torch_pickle
from striate.formats.torch_file import load_torch, read_torch
from striate.formats.torch_pickle import Machine, Refusal
from striate.formats.torch_write import save_torch

DTYPES = ("f4", "f8", "f2", "i8", "i4", "i2", "i1", "u1", "?")
QUICK = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "net.pth"


def some() -> dict[str, Any]:
    return {
        "0.weight": np.arange(54, dtype="f4").reshape(6, 1, 3, 3),
        "0.bias": np.ones(6, "f4"),
        "empty": np.empty((0, 5), "f4"),
        "count": np.array(7, "i8"),
        "ф.大": np.array([True, False]),
    }


# ---- what we write -------------------------------------------------------------------------------


def test_what_is_written_is_read(path: Path) -> None:
    arrays = some() | {dtype: np.ones((2, 3), dtype) for dtype in DTYPES}
    save_torch(arrays, path)
    found = load_torch(path)
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array, strict=True)
        assert found[name].flags.writeable
    content = path.read_bytes()
    save_torch(arrays, path)
    assert path.read_bytes() == content


def test_storages_are_aligned_and_shared(path: Path) -> None:
    tied = np.ones(1000, "f4")
    save_torch({"a": tied, "b": tied, "c": np.zeros(3)}, path)
    assert path.stat().st_size < 2 * tied.nbytes
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            header = path.read_bytes()[info.header_offset :][:30]
            sizes = struct.unpack("<HH", header[26:30])
            assert (info.header_offset + 30 + sum(sizes)) % 64 == 0
        assert sum("/data/" in name for name in archive.namelist()) == 2
    found = load_torch(path)
    found["a"][0] = 5
    assert found["b"][0] == 5


def test_a_network_is_written_and_its_weights_fit(path: Path) -> None:
    net, other = (nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)) for _ in range(2))
    striate.save_torch(net, path)
    other.load_state_dict(striate.load_torch(path))
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[name], array)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a": np.ones(1, complex)}, "name='a', dtype=complex128"),
        ({"a": np.array(["text"])}, "dtype=<U4"),
        ({3: np.ones(1)}, "name=3"),
        ({"\ud800": np.ones(1)}, "half a character"),
        ([np.ones(1)], "a network or a dict of arrays; got list"),
    ],
)
def test_what_cannot_be_written(path: Path, weights: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        save_torch(weights, path)
    assert not path.exists()


# ---- which weights -------------------------------------------------------------------------------


def raw(path: Path, pickled: bytes, entries: dict[str, bytes] | None = None, **more: Any) -> Path:
    """A zip checkpoint around a pickle; `more` goes to the archive's data.pkl."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled, **more)
        for name, content in (entries or {}).items():
            archive.writestr(f"archive/{name}", content)
    return path


def test_prefixes_of_wrappers_are_taken_off(path: Path) -> None:
    save_torch({"module._orig_mod.fc.weight": np.ones(2), "module._orig_mod.b": np.ones(1)}, path)
    assert list(load_torch(path)) == ["fc.weight", "b"]
    assert next(iter(load_torch(path, strip=False))) == "module._orig_mod.fc.weight"
    save_torch({"module.a": np.ones(2), "b": np.ones(1)}, path)
    assert list(load_torch(path)) == ["module.a", "b"]


def test_a_file_without_weights_says_what_it_has(path: Path) -> None:
    raw(path, pickle.dumps({"epoch": 3, "name": "x", "lr": [0.1]}, 2))
    with pytest.raises(ModelError, match=r"got a dict of 'epoch': int, 'name': str, 'lr': list"):
        load_torch(path)
    with pytest.raises(ModelError, match="expected an entry 'ema'; got a dict"):
        load_torch(path, key="ema")
    with pytest.raises(ModelError, match="weights by name in 'epoch'; got a int"):
        load_torch(path, key="epoch")
    assert read_torch(path) == {"epoch": 3, "name": "x", "lr": [0.1]}


# ---- traps ---------------------------------------------------------------------------------------


class Trap:
    """Pickles as a call of anything."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def eval_(text: str) -> None:
    raise AssertionError(f"was run: {text}")


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    ("trap", "name"),
    [
        (Trap(os.system, "touch owned"), "posix.system|nt.system"),
        (Trap(eval, "1"), "builtins.eval|__builtin__.eval"),
        (Trap(getattr, "", "join"), "builtins.getattr|__builtin__.getattr"),
        (Trap(np.ones, 3), "numpy"),
        (Path("x"), "pathlib"),
    ],
)
def test_no_function_is_ever_called(
    path: Path, trap: Any, name: str, protocol: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    raw(path, pickle.dumps({"weight": trap}, protocol))
    with pytest.raises(ModelError, match=rf"asks for '({name}).*Nothing was run") as caught:
        load_torch(path)
    assert "\n" not in str(caught.value) and not Path("owned").exists()


@pytest.mark.parametrize(
    ("pickled", "message"),
    [
        (b"\x80\x02", "damaged|no end"),
        (b"\x80\x02.", "stack is empty"),
        (b"\x80\x02}(K\x01u.", "a key without a value"),
        (b"\x80\x02}]K\x01s.", "a list as a key"),
        (b"\x80\x02})K\x01s.", "a tuple as a key"),
        (b"\x80\x02K\x01K\x02a.", "fills a int as a list"),
        (b"\x80\x02u.", "a mark is missing"),
        (b"\x80\x02h\x07.", "a reference to nothing"),
        (b"\x80\x02K\x01)R.", "calls something that is no function"),
        (b"\x80\x02ccollections\nOrderedDict\nK\x01R.", "a call without arguments"),
        (b"\x80\x02ctorch\nFloatStorage\n)R.", "calls something that is no function"),
        (b"\x80\x02ctorch\nfloat32\n)R.", "calls something that is no function"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.", "damaged"),
        (b"\x80\x02ctorch\nSize\n(J\xff\xff\xff\xfft\x85R.", "whole numbers from 0"),
        (b"\x80\x02K\x01Q.", "no storage"),
        (b"\x80\x04\x8c\x01xK\x01\x93.", "a name that is no text"),
        (b"\x80\x02\x8b\xff\xff\xff\x7f.", "damaged"),
        (b"\x80\x02\x8a\x20" + b"\x7f" * 32 + b".", "more than 128 bits"),
        (b"I" + b"9" * 6000 + b"\n.", "damaged|128 bits"),
        (b"\x80\x04\x8f.", "the instruction EMPTY_SET"),
        (b"\x80\x02ccopy_reg\n_reconstructor\n.", "asks for 'copy_reg._reconstructor'"),
        (b"\x80\x02(cposix\nsystem\no.", "asks for 'posix.system'"),
        (b"\x80\x02(iposix\nsystem\n.", "the instruction INST"),
        (b"\x80\x02ccollections\nOrderedDict\n)\x81.", "the instruction NEWOBJ"),
        (b"\x80\x02\x82\x01.", "the instruction EXT1"),
        (b"\x80\x02r\xff\xff\xff\xffK\x01.", "stack is empty"),
        (b"Pabc\n.", "a reference that"),
        (b"]" * 3000 + b"a" * 2999 + b".", "nested too deeply"),
    ],
)
def test_damaged_and_strange_pickles(path: Path, pickled: bytes, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        load_torch(raw(path, pickled))
    assert "\n" not in str(caught.value)


def test_a_list_in_itself_is_read_and_a_far_memo_costs_nothing(path: Path) -> None:
    found = read_torch(raw(path, b"\x80\x02]q\x00h\x00a."))
    assert found[0] is found
    assert read_torch(raw(path, b"\x80\x02K\x01r\xff\xff\xff\xff.")) == 1


def test_the_count_of_instructions_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refusal, match="more instructions"):
        Machine(io.BytesIO(b"\x80\x02" + b"}" * 100 + b"."), most_steps=50).run()
    tracemalloc.start()
    with pytest.raises(Refusal, match="more instructions"):
        Machine(io.BytesIO(b"\x80\x04" + b"}\x94" * 30_000 + b"."), most_steps=50_000).run()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 256 * 50_000  # and so 128 MiB for MOST_STEPS
    assert torch_pickle.MOST_STEPS * 256 <= 128 << 20


def tensor(
    size: Any, stride: Any, count: int = 4, offset: int = 0, kind: str = "FloatStorage"
) -> bytes:
    """The pickle of a dict with a tensor of storage "0"."""
    out = b"\x80\x02}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n(("
    out += b"X\x07\x00\x00\x00storagectorch\n" + kind.encode() + b"\nX\x01\x00\x00\x000X\x03\x00"
    out += b"\x00\x00cpu" + number(count) + b"tQ" + number(offset)
    out += b"(" + b"".join(map(number, size)) + b"t(" + b"".join(map(number, stride)) + b"t"
    return out + b"\x89}tRs."


def number(value: int) -> bytes:
    return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)


@pytest.mark.parametrize(
    ("size", "stride", "more", "message"),
    [
        ((5,), (1,), {}, r"ends at number 4 of a storage of 4"),
        ((2,), (1,), {"offset": 3}, "ends at number 4"),
        ((2, 2), (2,), {}, "offset or strides"),
        ((2,), (-1,), {}, "whole numbers from 0"),
        ((2,), (2**61,), {}, "ends at number"),
        ((1 << 40,), (0,), {}, "expanded tensors"),
        ((1 << 33, 1 << 33), (0, 0), {}, "which no file holds"),
        ((0, 1 << 61, 1 << 61), (1, 1, 1), {}, "which no file holds"),
        ((1,) * 40, (1,) * 40, {}, "at most 32"),
        ((4,), (1,), {"count": 5}, "has 16 bytes where its tensors need 20"),
        ((4,), (1,), {"count": -1}, "without a name or a count"),
        ((4,), (1,), {"offset": -1}, "offset or strides"),
        ((4,), (1,), {"kind": "QInt8Storage"}, "asks for 'torch.QInt8Storage'"),
    ],
)
def test_tensors_outside_their_storage(
    path: Path, size: Any, stride: Any, more: Any, message: str
) -> None:
    raw(path, tensor(size, stride, **more), {"data/0": bytes(16)})
    with pytest.raises(ModelError, match=message):
        load_torch(path)


def test_views_of_a_storage(path: Path) -> None:
    numbers = np.arange(4, dtype=">f4")
    entries = {"data/0": numbers.tobytes(), "byteorder": b"big"}
    turned = load_torch(raw(path, tensor((2, 2), (1, 2)), entries))["a"]
    assert np.array_equal(turned, [[0, 2], [1, 3]]) and turned.dtype == np.float32
    wide = load_torch(raw(path, tensor((3, 2), (0, 1), offset=2), entries))["a"]
    assert np.array_equal(wide, [[2, 3]] * 3) and wide.flags.writeable
    assert load_torch(raw(path, tensor((0, 7), (9, 9), offset=99), entries))["a"].shape == (0, 7)


# ---- damaged archives ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "neither of its formats"),
        (b"hello", "neither of its formats"),
        (b"PK\x03\x04" + bytes(100), "archive is damaged"),
        (bytes(257) + b"ustar" + bytes(300), "tar format"),
        (pickle.dumps({"a": 1}, 2), "a pickle that torch did not write"),
    ],
)
def test_what_is_no_checkpoint(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(ModelError, match=message):
        load_torch(path)


def test_archives_with_traps(path: Path) -> None:
    good = tensor((4,), (1,))
    for entries, more, message in (
        ({}, {}, "'data/0' is missing"),
        ({"data/0": bytes(16)}, {"compress_type": zipfile.ZIP_DEFLATED}, "compressed"),
        ({"constants.pkl": b"", "data/0": b""}, {}, "TorchScript"),
    ):
        with pytest.raises(ModelError, match=message):
            load_torch(raw(path, good, entries, **more))
    raw(path, good, {"data/0": bytes(16), "../../outside": b"x"})
    assert load_torch(path)["a"].shape == (4,)  # a name is a name: nothing is unpacked
    assert [p.name for p in path.parent.iterdir()] == ["net.pth"]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "no checkpoint")
    with pytest.raises(ModelError, match=r"without one data\.pkl"):
        load_torch(path)
    with pytest.raises(ModelError, match="there is none"):
        load_torch(path.parent / "absent.pth")
    with pytest.raises(ModelError, match="a folder"):
        load_torch(path.parent)


def test_a_table_of_contents_is_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("striate.formats.torch_file._MOST_DIRECTORY", 70_000)
    raw(path, tensor((4,), (1,)), {f"data/{k}": bytes(16) for k in range(2000)})
    with pytest.raises(ModelError, match="table of contents is too long"):
        load_torch(path)


def test_changed_numbers_are_noticed(path: Path) -> None:
    save_torch(some(), path)
    content = bytearray(path.read_bytes())
    content[content.index(np.float32(53).tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"archive is damaged.*CRC"):
        load_torch(path)


@QUICK
@given(data=st.data())
def test_any_change_of_a_file_is_read_or_refused_in_a_sentence(path: Path, data: Any) -> None:
    save_torch(some(), path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        kind = data.draw(st.sampled_from(["set", "cut", "insert"]))
        if kind == "set":
            content[place] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            del content[place : place + data.draw(st.integers(1, 40))]
        else:
            content[place:place] = data.draw(st.binary(max_size=8))
        content = content or bytearray(b"P")
    path.write_bytes(content)
    try:
        load_torch(path)
    except StriateError as error:
        assert isinstance(error, ModelError) and "\n" not in str(error)


# ---- beside torch --------------------------------------------------------------------------------


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch")


def varied(torch: Any) -> dict[str, Any]:
    base = torch.arange(24.0).reshape(2, 3, 4)
    kinds = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")
    return {
        **{name: base.to(getattr(torch, name)) for name in kinds},
        "turned": base.transpose(0, 2),
        "part": base[:, 1, ::2],
        "scalar": torch.tensor(7),
        "empty": torch.zeros(0, 5),
        "expanded": torch.ones(1).expand(4),
        "parameter": torch.nn.Parameter(torch.randn(3)),
        "unsigned": base.to(torch.uint16),
        "brain": torch.randn(5).to(torch.bfloat16),
    }


@pytest.mark.peer
@pytest.mark.parametrize("new", [True, False], ids=["zip", "stream"])
@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_what_torch_writes(path: Path, torch: Any, new: bool, protocol: int) -> None:
    tensors = varied(torch)
    more = {"epoch": 3, "d": torch.float16, "size": torch.Size([1, 2]), "at": torch.device("cpu")}
    content = {"state_dict": OrderedDict(tensors), **more, "rates": [0.1, (1, None)], "big": 2**70}
    torch.save(content, path, _use_new_zipfile_serialization=new, pickle_protocol=protocol)
    found = load_torch(path)
    assert list(found) == list(tensors)
    for name, value in tensors.items():
        value = value.detach().float() if value.dtype == torch.bfloat16 else value.detach()
        np.testing.assert_array_equal(found[name], value.numpy(), strict=True)
    whole = read_torch(path)
    assert whole["epoch"] == 3 and whole["rates"] == [0.1, (1, None)] and whole["big"] == 2**70
    assert (whole["d"], whole["size"], whole["at"]) == ("float16", (1, 2), "cpu")
    found["float32"][0, 0, 0] = 9  # the storage of what torch saved as views of it
    assert found["turned"][0, 0, 0] == 9


@pytest.mark.peer
def test_whole_networks_and_scripts_are_refused(path: Path, torch: Any) -> None:
    for new in (True, False):
        torch.save(torch.nn.Linear(2, 3), path, _use_new_zipfile_serialization=new)
        with pytest.raises(ModelError, match=r"asks for 'torch.nn.modules.linear.Linear'"):
            load_torch(path)
    torch.save(torch.eye(2).to_sparse(), path)
    with pytest.raises(ModelError, match=r"asks for 'torch._utils._rebuild_sparse_tensor'"):
        load_torch(path)


@pytest.mark.peer
def test_torch_reads_what_we_write(path: Path, torch: Any) -> None:
    arrays = some() | {dtype: np.ones((2, 3), dtype) for dtype in DTYPES}
    save_torch(arrays, path)
    for options in ({}, {"mmap": True}):
        found = torch.load(path, weights_only=True, **options)
        assert list(found) == list(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name].numpy(), array, strict=True)


@pytest.mark.peer
def test_truncated_streams(path: Path, torch: Any) -> None:
    torch.save({"a": torch.ones(100)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    for end in (*range(0, len(content) - 400, 7), len(content) - 1):
        path.write_bytes(content[:end])
        with pytest.raises(ModelError, match="expected a torch checkpoint of tensors"):
            load_torch(path)
