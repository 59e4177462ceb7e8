"""The gallery is true: its page is what the script writes, and the code of every picture runs."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

import striate as st
from striate import inspect, interpret, plot
from striate.data.dataset import DataSet

ROOT = Path(__file__).parents[1]


FEWER = {
    "steps=384": "steps=3",
    "steps=300": "steps=3",
    "samples=64": "samples=2",
    "range(64)": "range(4)",
    "range(512)": "range(40)",
    "seconds=3.0": "seconds=0.3",
}


def _module(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made  # where its dataclasses look for their names
    spec.loader.exec_module(made)
    return made


GALLERY = _module("gallery", ROOT / "docs" / "scripts" / "gallery.py")


def test_the_page_is_up_to_date() -> None:
    page = GALLERY.PAGE.read_text(encoding="utf-8")
    assert GALLERY.render() == page, "run: python docs/scripts/gallery.py"


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the scenes start from: networks that have learned nothing, and noise for photos."""
    st.manual_seed(0)
    recipe = _module("recipe", ROOT / "examples" / "recipes" / "cifar.py")
    noise = np.random.default_rng(0).random((40, 3, 32, 32), np.float32)
    labels = np.arange(40) % 10
    data = DataSet(noise, labels, [f"class {k}" for k in range(10)])
    net = recipe.Net().eval()
    net(noise[:1])
    lenet = st.models.lenet5().eval()
    seven = st.data.load("digits")[1].images[0]
    lenet(seven[np.newaxis])
    tools = {"st": st, "inspect": inspect, "interpret": interpret, "plot": plot}
    made = {"net": net, "lenet": lenet, "seven": seven, "train": data, "test": data}
    return {**tools, **made, "photos": noise[:3], "labels": labels[:3], "named": ["a", "b", "c"]}


@pytest.mark.parametrize("scene", GALLERY.SCENES, ids=lambda scene: scene.name)
def test_the_code_of_a_scene_runs(scene: Any, names: dict[str, Any]) -> None:
    """With fewer steps than the page has."""
    code = scene.code
    for many, few in FEWER.items():
        code = code.replace(many, few)
    scene = GALLERY.Scene(scene.name, scene.title, scene.text, code)
    figure = GALLERY.run(scene, names)
    assert isinstance(figure, Figure) and figure.get_size_inches().min() > 2


def test_what_the_scenes_start_from_is_what_the_page_says() -> None:
    """Every name that a scene reads is made in the page's first block."""
    code = "\n".join(scene.code for scene in GALLERY.SCENES)
    for name in ("net", "lenet", "photos", "seven", "train", "test", "named"):
        assert f"{name}" in code and f"{name}" in GALLERY.BEGIN
    compile(GALLERY.BEGIN, "beginning", "exec")
