"""`striate interpret saliency` and its like, and `check`: what they write and say, bad input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import striate as st
from striate import interpret
from striate.cli.interpret_maps import MAPS
from striate.cli.networks import read_for

COMMANDS = [row.command for row in MAPS]
QUICK = {
    "smoothgrad": ["--samples", 3],
    "integrated-gradients": ["--steps", 4],
    "occlusion": ["--window", 4],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_writes_a_picture_and_numbers(cli, model, picture, width, name):
    answer = cli("interpret", name, model, picture, "--npy", "map.npy", *QUICK.get(name, []))
    assert answer.code == 0, answer.err
    assert "stroke.png: class " in answer.out and ", score " in answer.out
    assert "read as: PNG, 16 × 16" in answer.out and f"wrote {name}.png" in answer.out
    assert ("completeness error" in answer.out) == (name == "integrated-gradients")
    assert width(f"{name}.png") > 500
    map = np.load("map.npy")
    assert map.dtype == np.float32 and map.shape == (1, 1, 8, 8)
    assert f"{name} striate-demo striate-demo/digits/7.png" in cli("interpret", name, "--help").out


def test_the_numbers_are_those_of_the_function(cli, model, picture):
    answer = cli("interpret", "saliency", model, picture, "--class", 3, "--npy", "a.npy", "--json")
    found = answer.json
    assert found["picture"] == "saliency.png" and found["npy"] == "a.npy"
    one = found["images"][0]
    assert one["class"] == "3" and one["at"] == [3] and one["layer"] == "fc"
    net = st.load(model / "model.safetensors")
    x = read_for(net, str(picture), "auto").array
    expected = interpret.saliency(net, x, 3)
    np.testing.assert_array_equal(np.load("a.npy"), expected)
    assert one["map"]["max"] == pytest.approx(float(expected.max()))
    signed = cli("interpret", "saliency", model, picture, "--class", 3, "--signed", "--json")
    assert signed.json["images"][0]["map"]["min"] < 0


def test_class_names_layers_and_places(cli, model, picture):
    net = st.load(model / "model.safetensors")
    st.save(net, "named.safetensors", notes={"classes": [f"kind {k}" for k in range(10)]})
    found = cli(
        "interpret", "saliency", "named.safetensors", picture, "--class", "kind 4", "--json"
    )
    assert found.json["images"][0]["class"] == "kind 4"
    answer = cli("interpret", "saliency", "named.safetensors", picture, "--class", "kind 44")
    assert answer.code == 2 and "Did you mean 'kind 4'" in answer.err
    place = ("--layer", "conv", "--class", "2,3,1")
    answer = cli("interpret", "saliency", model, picture, *place)
    assert "conv[2, 3, 1] = " in answer.out
    channel = cli("interpret", "deconvolution", model, picture, "--layer", "relu", "--class", 1)
    assert channel.code == 0 and "relu[1, " in channel.out


def test_several_pictures_and_formats(cli, model, picture):
    answer = cli("interpret", "grad-cam", model, picture, picture, "--out", "cam.svg")
    assert answer.code == 0 and answer.out.count("class ") == 2
    assert Path("cam.svg").read_text(encoding="utf-8").startswith("<?xml")


def test_an_onnx_file_and_normalisation(cli, model, picture):
    pytest.importorskip("onnx", reason="onnx is not installed")
    st.export_onnx(st.load(model / "model.safetensors"), "net.onnx")
    options = ("--background", "dark", "--normalize", "0.5/0.25", "--npy", "a.npy", "--class", 1)
    answer = cli("interpret", "grad-cam", "net.onnx", picture, *options)
    assert answer.code == 0, answer.err
    cam = np.load("a.npy")
    again = cli("interpret", "grad-cam", model, picture, *options)
    assert again.code == 0
    np.testing.assert_allclose(np.load("a.npy"), cam, atol=1e-6)
    with Image.open(picture) as image:
        assert image.size == (16, 16)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--layer", "conv9"), "saliency: unknown layer 'conv9'. Did you mean 'conv'?"),
        (("--class", "10"), "expected target to be a class in the output of 'fc'"),
        (("--class", "cat"), "--class: expected a class's name or number"),
        (("--layer", "conv", "--class", "9,0,0"), "expected a place (0…3, 0…5, 0…5)"),
        (("--normalize", "half"), "--normalize: expected none, imagenet, or 1 means"),
        (("--normalize", "imagenet"), "for images of 1 channels"),
        (("--out", "a.bmp"), "unknown format 'bmp'"),
        (("--npy", "a.txt"), "--npy: expected a name that ends in .npy"),
    ],
)
def test_bad_options(cli, model, picture, arguments, message):
    answer = cli("interpret", "saliency", model, picture, *arguments)
    assert answer.code == 2
    assert message in answer.err and answer.err.count("\n") == 1


def test_a_model_that_is_none(cli, picture):
    answer = cli("interpret", "saliency", "none.onnx", picture)
    assert answer.code == 2 and "none.onnx: expected a model file" in answer.err


def test_check(cli, model, picture, width):
    answer = cli("interpret", "check", model, picture, "--steps", 4)
    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    assert [line.split()[0] for line in lines if line[:4] in ("fc  ", "conv")] == ["fc", "conv"]
    assert "pixels in the order of random" in answer.out and width("check.png") > 500
    found = cli(
        *("interpret", "check", model, picture, "--steps", 4, "--json"),
        *("--method", "integrated-gradients", "--mode", "independent"),
    ).json
    assert [row["layer"] for row in found["randomised"]["layers"]] == ["fc", "conv"]
    assert len(found["completeness_error"]) == 3
    assert 0 <= found["order"]["the map"]["deletion_area"][0] <= 1
    answer = cli("interpret", "check", model, picture, "--method", "salience")
    assert (
        answer.code == 2 and "--method: unknown 'salience'. Did you mean 'saliency'" in answer.err
    )
