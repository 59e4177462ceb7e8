"""`striate interpret maximize`, `invert`, `top-patches`, `gabor`: files, numbers, bad input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import striate as st
from striate import interpret, nn
from striate.cli.networks import read_for
from striate.interpret.maximize import maximize


@pytest.fixture
def model(tmp_path) -> Path:
    """A small network that nobody trained, named as the module's others."""
    st.manual_seed(0)
    net = nn.Sequential()
    for name, layer in {
        "conv": nn.Conv2d(1, 4, 3),
        "relu": nn.ReLU(),
        "pool": nn.MaxPool2d(2),
        "flatten": nn.Flatten(),
        "fc": nn.Linear(36, 10),
    }.items():
        net.add_module(name, layer)
    notes = {"classes": list("0123456789"), "background": "dark"}
    (tmp_path / "run").mkdir()
    st.save(net, tmp_path / "run" / "model.safetensors", input_shape=(1, 8, 8), notes=notes)
    return tmp_path / "run"


def test_maximize_writes_a_picture_and_the_images_of_the_function(cli, model, width):
    answer = cli(
        "interpret", "maximize", model, "--unit", "3-4", "--steps", 4, "--tv", 1, "--npy", "a.npy"
    )
    assert answer.code == 0, answer.err
    assert "fc 3: " in answer.out and "fc 4: " in answer.out and "wrote maximize.png" in answer.out
    assert width("maximize.png") > 500
    net = st.load(model / "model.safetensors")
    assert net.notes["background"] == "dark"
    found = maximize(net, units=[3, 4], steps=4, tv=1.0, centre=0.0)
    np.testing.assert_array_equal(np.load("a.npy"), found.images)


def test_maximize_takes_layers_places_and_names_and_gives_json(cli, model):
    net = st.load(model / "model.safetensors")
    st.save(net, "named.safetensors", notes={"classes": [f"kind {k}" for k in range(10)]})
    words = ("interpret", "maximize", "named.safetensors", "--steps", 2, "--json", "--out", "b.svg")
    found = cli(*words, "--unit", "kind 4").json
    assert found["layer"] == "fc"
    assert found["units"][0]["unit"] == "kind 4"
    found = cli(*words, "--layer", "conv", "--unit", "1", "--unit", "2,0,3", "--pixels").json
    assert [one["unit"] for one in found["units"]] == ["1", "2, 0, 3"]
    assert found["picture"] == "b.svg" and not found["units"][0]["stuck"]
    answer = cli("interpret", "maximize", "named.safetensors", "--unit", "kind 44")
    assert answer.code == 2 and "Did you mean 'kind 4'" in answer.err


def test_the_range_follows_normalize_and_the_ground_the_option(cli, model):
    words = ("interpret", "maximize", model, "--steps", 1, "--lr", 0, "--npy", "a.npy", "--unit", 0)
    assert cli(*words, "--normalize", "0.5/0.25", "--ground", "light", "--pixels").code == 0
    image = np.load("a.npy")
    assert 1.9 < image.mean() <= image.max() <= 2.0  # (1 − 0.5) / 0.25
    assert cli(*words, "--ground", "grey", "--pixels").code == 0
    assert np.load("a.npy").mean() == pytest.approx(0.5, abs=0.01)


def test_colours_come_from_the_data(cli, model, data):
    plain = ("interpret", "maximize", model, "--steps", 2, "--unit", 0)
    assert cli(*plain, "--data", data).code == 0
    answer = cli(*plain, "--data", "nothing-such")
    assert answer.code == 2 and "nothing-such" in answer.err


def test_invert_shows_layers_and_their_errors(cli, model, picture, width):
    answer = cli("interpret", "invert", model, picture, picture, "--steps", 5, "--npy", "a.npy")
    assert answer.code == 0, answer.err
    assert "conv: feature error " in answer.out and "fc: feature error " in answer.out
    assert width("invert.png") > 500
    made = np.load("a.npy")
    assert made.shape == (2, 2, 1, 8, 8)  # layers, images, …
    net = st.load(model / "model.safetensors")
    x = read_for(net, str(picture), "auto").array
    wanted = interpret.invert(net, np.stack([x, x]), "conv", steps=5, centre=0.0)
    np.testing.assert_array_equal(made[0], wanted.images)
    found = cli("interpret", "invert", model, picture, "--layer", "relu", "--steps", 2, "--json")
    assert [row["layer"] for row in found.json["layers"]] == ["relu"]


def test_top_patches_of_a_data_set(cli, model, data, width):
    words = ("interpret", "top-patches", model, "--layer", "relu", "--data", data)
    answer = cli(*words, "--deconvolve", "-k", 4, "--npy", "a.npy")
    assert answer.code == 0, answer.err
    assert answer.out.count(" in samples ") == 4 and width("top-patches.png") > 300
    assert np.load("a.npy").shape == (4, 4, 1, 3, 3)
    found = cli(*words, "--unit", "1-2", "-k", 3, "--json", "--part", "train").json
    assert [unit["unit"] for unit in found["units"]] == [1, 2]
    net = st.load(model / "model.safetensors")
    wanted = interpret.top_patches(net, st.data.load(str(data))[0], "relu", [1, 2], k=3)
    assert found["units"][0]["patches"][0]["sample"] == int(wanted.where[0, 0, 0])
    several = cli(*words, "--unit", 1, "--many", "--json").json
    assert len(several["units"][0]["patches"]) == 9


def test_gabor_fits_the_first_large_kernels(cli, tmp_path, width):
    pytest.importorskip("scipy")
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 3, 5))
    st.save(net, tmp_path / "net.safetensors", input_shape=(1, 9, 9))
    answer = cli("interpret", "gabor", "net.safetensors")
    assert answer.code == 0, answer.err
    assert "1: 3 filters 5×5, median R²" in answer.out and width("gabor.png") > 500
    words = ("--channels", "each", "--json", "--starts", 1, "--out", "a.svg", "--most", 1)
    found = cli("interpret", "gabor", "net.safetensors", *words).json
    assert found["layer"] == "1" and len(found["filters"]) == 6
    assert set(found["filters"][0]) == {*interpret.gabor.PARAMETERS, "r2"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("maximize", "--layer", "con"), "unknown layer 'con'. Did you mean 'conv'?"),
        (("maximize", "--unit", "9-11"), "--unit: expected 0…9 in 'fc'; got 9-11"),
        (("maximize", "--unit", "5-3"), "a range as 0-7"),
        (("maximize", "--ground", "black"), "--ground: unknown 'black'"),
        (("maximize", "--out", "a.jpg"), "unknown format 'jpg'"),
        (("maximize", "--npy", "a.txt"), "ends in .npy"),
        (("top-patches", "--layer", "7", "--data", "tiny"), "unknown layer '7'"),
        (
            ("top-patches", "--layer", "relu", "--unit", "x", "--data", "tiny"),
            "a range as 0-7; got 'x'",
        ),
        (("top-patches", "--layer", "relu", "--part", "all"), "--part: unknown 'all'"),
        (("gabor",), "kernels of at least 4×4"),
        (("gabor", "--layer", "fc"), "unknown convolution 'fc'"),
        (("gabor", "--channels", "all"), "--channels: unknown 'all'"),
    ],
)
def test_bad_input_is_answered_in_a_sentence(cli, model, data, words, message):
    answer = cli("interpret", words[0], model, *words[1:])
    assert answer.code == 2
    assert message in answer.err and "Traceback" not in answer.err


@pytest.mark.parametrize("name", ["maximize", "invert", "top-patches", "gabor"])
def test_help_has_examples(cli, name):
    assert f"striate interpret {name} striate-demo" in cli("interpret", name, "--help").out
