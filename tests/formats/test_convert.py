"""One file format into another, and NumPy's archives."""

from __future__ import annotations

import io
import itertools
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.errors import ModelError, OptionError
from striate.formats.convert import convert
from striate.formats.npz_file import load_npz, save_npz
from striate.formats.safetensors_file import load_tensors, save_tensors
from striate.formats.torch_file import load_torch
from striate.formats.torch_write import save_torch

WEIGHTS = (".safetensors", ".pth", ".pt", ".npz")
SAVE: dict[str, Any] = {
    ".safetensors": lambda arrays, path: save_tensors(path, arrays),
    ".npz": save_npz,
    ".pth": save_torch,
    ".pt": save_torch,
}
LOAD: dict[str, Any] = {
    ".safetensors": lambda path: load_tensors(path)[0],
    ".npz": load_npz,
    ".pth": load_torch,
    ".pt": load_torch,
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STRIATE_BACKEND", "reference")


def small() -> nn.Sequential:
    st.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)
    ).eval()


X = np.random.default_rng(0).normal(size=(2, 1, 8, 8)).astype(np.float32)


@pytest.mark.parametrize(("a", "b"), list(itertools.product(WEIGHTS, WEIGHTS)))
def test_weights_from_each_format_to_each(a: str, b: str) -> None:
    arrays = {
        "net.weight": np.arange(6, dtype="f4").reshape(2, 3).T,
        "count": np.array(7, "i8"),
        "half": np.ones(3, "f2"),
        "none": np.empty((0, 2), "f4"),
    }
    SAVE[a](arrays, f"from{a}")
    done = convert(f"from{a}", f"to{b}")
    assert done == ("weights", 4, 10)
    found = LOAD[b](f"to{b}")
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


def test_a_model_file_gives_its_weights() -> None:
    net = small()
    st.save(net, "net.safetensors", input_shape=(1, 8, 8))
    for end in (".pth", ".npz"):
        assert convert("net.safetensors", f"net{end}").kind == "weights"
        other = small()
        other[0].weight.data[...] = 0
        other.load_state_dict(LOAD[end](f"net{end}"))
        assert np.array_equal(other(X), net(X))
    assert convert("net.safetensors", "copy.safetensors").kind == "network"
    assert np.array_equal(st.load("copy.safetensors")(X), net(X))


def test_weights_become_a_network_with_one_to_hold_them() -> None:
    net = small()
    save_torch(net, "net.pth")
    blank = small()
    blank[0].weight.data[...] = 0
    done = convert("net.pth", "net.safetensors", net=blank, input_shape=(1, 8, 8))
    assert done.kind == "network" and np.array_equal(st.load("net.safetensors")(X), net(X))
    made = convert("net.pth", "b.safetensors", net=lambda weights: small(), input_shape=(1, 8, 8))
    assert made == done


def test_onnx_both_ways() -> None:
    pytest.importorskip("onnx")
    net = small()
    st.save(net, "net.safetensors", input_shape=(1, 8, 8))
    assert convert("net.safetensors", "net.onnx").kind == "network"
    convert("net.onnx", "back.safetensors")
    np.testing.assert_allclose(st.load("back.safetensors")(X), net(X), rtol=1e-5, atol=1e-6)
    convert("net.onnx", "back.npz")
    assert set(load_npz("back.npz")) >= {"0.weight", "4.bias"}


BAD = {
    "end": (("a.pth", "b.h5"), {}, OptionError, r"ends in .npz, .onnx.*got 'b.h5'"),
    "no end": (("a", "b.pth"), {}, OptionError, "got 'a'"),
    "absent": (("none.pth", "b.npz"), {}, ModelError, "none.pth: expected a file; there is none"),
    "needs a network": (("a.pth", "b.onnx"), {}, OptionError, r"weights alone.*--model resnet18"),
    "key": (("a.npz", "b.pth"), {"key": "ema"}, OptionError, "key only for .pth and .pt"),
    "misfit": (("a.pth", "b.safetensors"), {"net": nn.Linear(3, 2)}, ModelError, "missing: weight"),
    "same kind of trouble": (("a.npz", "no/b.pth"), {}, st.errors.FileError, "folder does not"),
    "nothing": (("empty.npz", "b.pth"), {}, ModelError, "the source has none"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_conversions_write_nothing(name: str) -> None:
    paths, options, kind, message = BAD[name]
    save_torch({"w": np.ones(2)}, "a.pth")
    save_npz({"w": np.ones(2)}, "a.npz")
    save_npz({}, "empty.npz")
    before = sorted(p.name for p in Path().iterdir())
    with pytest.raises(kind, match=message):
        convert(*paths, **options)
    assert sorted(p.name for p in Path().iterdir()) == before


# ---- NumPy's archives ----------------------------------------------------------------------------


def test_npz_beside_numpy() -> None:
    arrays = {"a": np.arange(6.0).reshape(2, 3), "f": np.asfortranarray(np.ones((3, 4), "f4"))}
    for write in (np.savez, np.savez_compressed):
        write("theirs.npz", **arrays)
        found = load_npz("theirs.npz")
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array, strict=True)
            found[name][0] = 5
    save_npz(arrays, "ours.npz")
    with np.load("ours.npz") as theirs:
        assert all(np.array_equal(theirs[name], array) for name, array in arrays.items())


def npy(array: Any, shape: Any = None) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    content = out.getvalue()
    if shape is not None:
        content = content.replace(str(array.shape).encode(), str(shape).encode())
    return content


def test_npz_traps() -> None:
    for content, message in (
        (npy(np.array([object()], object)), "has dtype=object.*Nothing pickled"),
        (npy(np.ones(10), (1 << 40,)), "not as long as its shape"),
        (npy(np.ones(10))[:-8], "not as long as its shape"),
        (b"\x93NUMPY\x01\x00\x10\x00import os; x=1\n ", "none or damaged"),
        (b"\x93NUMPY\x09\x00" + bytes(50), r"version \(9, 0\)"),
        (b"text", "none or damaged"),
    ):
        with zipfile.ZipFile("trap.npz", "w") as archive:
            archive.writestr("a.npy", content)
        with pytest.raises(ModelError, match=message) as caught:
            load_npz("trap.npz")
        assert "\n" not in str(caught.value)
    np.savez_compressed("bomb.npz", a=np.zeros(10_000_000, np.uint8))
    with pytest.raises(ModelError, match="at most 64 times the file"):
        load_npz("bomb.npz")
    Path("text.npz").write_text("no archive", encoding="utf-8")
    with pytest.raises(ModelError, match="none or damaged"):
        load_npz("text.npz")
    with pytest.raises(OptionError, match="'a' of dtype=<U1"):
        save_npz({"a": np.array(["x"])}, "x.npz")
