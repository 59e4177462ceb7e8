"""`evaluate`, `predict`, `summary`, `explain`, `cache`: what they say, and bad input."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import striate as st


def test_evaluate(cli, model, data, width):
    answer = cli("evaluate", model, "--data", data, "--figures", "figures", "--mistakes", 2)
    assert answer.code == 0, answer.err
    assert "of 20), top-5 " in answer.out and " %, loss " in answer.out
    assert "precision" in answer.out
    for name in ("confusion", "mistakes"):
        assert width(f"figures/{name}.png") > 500
    found = cli(
        "evaluate", model / "model.safetensors", "--data", data, "--json", "--part", "train"
    )
    assert found.json["samples"] == 60
    assert np.sum(found.json["confusion"]) == 60


def test_predict_says_how_the_picture_was_converted(cli, model, picture):
    answer = cli("predict", model, picture, "--top", 2)
    assert answer.code == 0, answer.err
    assert "read as: PNG, 16 × 16 pixels" in answer.out
    assert "resized to 8 × 8" in answer.out
    assert "inverted" in answer.out  # the network learned on a dark background
    assert answer.out.count(" %") == 2


def test_predict_json(cli, model, picture):
    answer = cli("predict", model, picture, picture, "--json", "--top", 3)
    first, second = answer.json
    assert first == second
    assert [entry["probability"] for entry in first["top"]] == sorted(
        (entry["probability"] for entry in first["top"]), reverse=True
    )
    assert first["class"] == first["top"][0]["class"]
    everything = cli("predict", model, picture, "--json", "--top", 99).json[0]["top"]
    assert len(everything) == 10
    assert sum(entry["probability"] for entry in everything) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("background", "inverted"), [("keep", False), ("dark", True), ("light", False)]
)
def test_the_background_can_be_said(cli, model, picture, background, inverted):
    steps = cli("predict", model, picture, "--json", "--background", background).json[0][
        "conversion"
    ]
    assert any("inverted" in step for step in steps) == inverted


def test_predict_names_the_classes(cli, model, picture):
    net = st.load(model / "model.safetensors")
    names = [f"kind {k}" for k in range(10)]
    st.save(net, "named.safetensors", notes={"classes": names})
    assert cli("predict", "named.safetensors", picture, "--json").json[0]["class"] in names


def test_summary_of_lenet5(cli):
    answer = cli("summary", "lenet5")
    assert answer.code == 0
    assert "61,706" in answer.out
    assert "416,520" in answer.out
    assert cli("summary", "lenet5", "--json").json["parameters"] == 61706


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("resnet20", 272_474), ("squeezenet1_1", 1_235_496), ("lenet5_1998", 60_000)],
)
def test_summary_of_a_network_at_its_usual_size(cli, name, parameters):
    assert cli("summary", name, "--json").json["parameters"] == parameters


def test_summary_of_a_pattern(cli):
    found = cli("summary", "[conv8-relu-pool]*2-softmax".replace("8", "3x8"), "--json").json
    assert found["input_shape"] == [1, 28, 28]
    assert found["parameters"] == 80 + 584 + 3930
    wide = cli("summary", "conv-softmax", "--input", "3,6,5", "--json").json
    assert wide["layers"][0]["shape"] == [32, 6, 5]
    answer = cli("summary", "conv-rel-softmax")
    assert answer.code == 2
    assert answer.err.splitlines()[1:] == ["  conv-rel-softmax", "       ^"]
    assert "Did you mean 'resnet18'?" in cli("summary", "resnet1").err


def test_summary_of_files(cli, model, net):
    assert "4×6×6" in cli("summary", model).out
    assert "4×6×6" in cli("summary", net, "--input", "1,8,8").out


def test_explain(cli, model, picture):
    answer = cli("explain", model, picture, "--layer", "conv", "--at", "1,2,3")
    assert answer.code == 0, answer.err
    assert "conv[1, 2, 3]: conv2d" in answer.out
    assert "sum of 9 terms" in answer.out
    assert "agrees" in answer.out
    found = cli("explain", model, picture, "--layer", "conv", "--at", "1,2,3", "--json").json
    assert found["agrees"] is True
    assert found["at"] == [1, 2, 3]
    full = cli("explain", model, picture, "--layer", "fc", "--at", "4", "--full").out
    assert full.count("·") >= 36


def test_explain_takes_the_greatest_output_by_default(cli, model, picture):
    found = cli("explain", model, picture, "--layer", "fc", "--json").json
    best = cli("predict", model, picture, "--json").json[0]["top"][0]["index"]
    assert found["at"] == [best]


def test_the_explained_number_is_the_one_of_the_machine_code(cli, model, picture):
    arguments = ("explain", model, picture, "--layer", "conv", "--at", "1,2,3", "--json")
    native = cli(*arguments, "--backend", "native").json
    assert native["agrees"] is True
    assert native["native"] == pytest.approx(native["value"], rel=1e-5)


def test_cache(cli, monkeypatch, tmp_path):
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path / "cache"))
    assert str(tmp_path / "cache") in cli("cache", "info").out
    folder = tmp_path / "cache" / "code"
    folder.mkdir(parents=True)
    (folder / "one.o").write_bytes(b"x" * 2048)
    assert "1 kernels, 2.0 KiB" in cli("cache", "info").out
    assert "removed 1 kernels, 2.0 KiB" in cli("cache", "clear").out
    assert not list(folder.iterdir())


# ---- bad input -------------------------------------------------------------------------------


def _bomb() -> bytes:
    """A small PNG that says it has 30,000 × 30,000 pixels."""
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 0, 0, 0, 0)
    body = zlib.compress(b"\0" * 100)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


def _truncated() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)).save(file, "PNG")
    return file.getvalue()[:-40]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is none"),
        (b"", "expected a picture"),
        (b"no picture at all", "expected a picture"),
        (_bomb(), "at most 50,000,000 pixels"),
        (_truncated(), "truncated or damaged"),
    ],
    ids=["missing", "empty", "text", "bomb", "truncated"],
)
@pytest.mark.parametrize("command", ["predict", "explain"])
def test_bad_pictures(cli, model, content, message, command):
    if content is not None:
        Path("bad.png").write_bytes(content)
    more = ["--layer", "conv"] if command == "explain" else []
    answer = cli(command, model, "bad.png", *more)
    assert answer.code == 2
    assert "bad.png" in answer.err
    assert message in answer.err
    assert answer.err.count("\n") == 1
    assert answer.out == ""


@pytest.mark.parametrize("command", ["predict", "explain", "evaluate", "summary"])
@pytest.mark.parametrize("kind", ["missing", "empty", "text", "truncated", "folder"])
def test_bad_models(cli, model, picture, command, kind):
    bad = Path("bad.safetensors")
    whole = (model / "model.safetensors").read_bytes()
    if kind == "folder":
        bad.mkdir()
    elif kind != "missing":
        bad.write_bytes({"empty": b"", "text": b"hello", "truncated": whole[:-100]}[kind])
    more = {"predict": [picture], "explain": [picture, "--layer", "conv"]}.get(command, [])
    answer = cli(command, bad, *more)
    assert answer.code == 2
    assert "bad.safetensors" in answer.err
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--layer", "conw"], "--layer: unknown layer 'conw'. Did you mean 'conv'?"),
        (["--layer", "conv", "--at", "9,0,0"], "(0…3, 0…5, 0…5)"),
        (["--layer", "conv", "--at", "1,2"], "shape (4, 6, 6)"),
        (["--layer", "conv", "--at", "a,b"], "--at: expected whole numbers"),
        (["--layer", "conv", "--background", "blue"], "--background: unknown 'blue'"),
    ],
)
def test_explain_refuses(cli, model, picture, more, message):
    answer = cli("explain", model, picture, *more)
    assert answer.code == 2
    assert message in answer.err


@pytest.mark.parametrize("text", ["1,28", "one", "1,0,28", "", "1,4,4", "2,8,8"])
def test_summary_refuses_shapes(cli, net, text):
    answer = cli("summary", net, "--input", text)
    assert answer.code == 2
    assert answer.err.startswith("error: ")


def test_evaluate_refuses(cli, model, data):
    assert "Did you mean 'test'?" in cli("evaluate", model, "--part", "tset").err
    assert "Did you mean 'digits'?" in cli("evaluate", model, "--data", "digit").err
    misfit = cli("evaluate", model)  # digits are 28×28
    assert misfit.code == 2
    assert "(n, 1, 28, 28)" in misfit.err


def test_a_model_that_is_no_classifier(cli, picture):
    from striate import nn

    st.save(nn.Conv2d(1, 2, 3), "maps.safetensors", input_shape=(1, 8, 8))
    assert "expected a classifier" in cli("predict", "maps.safetensors", picture).err
    st.save(nn.Linear(4, 2), "vector.safetensors", input_shape=(4,))
    assert "expected a network for pictures" in cli("predict", "vector.safetensors", picture).err


def test_json_is_the_only_thing_on_stdout(cli, model, data):
    answer = cli("evaluate", model, "--data", data, "--json", "--figures", "f")
    json.loads(answer.out)
    assert "written: " in answer.err
