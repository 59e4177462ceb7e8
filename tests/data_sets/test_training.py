"""A network learns the same from files, from memory and from a cache; mixing gives soft targets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import striate as st
from striate import nn
from striate.data import ImageFolder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 pictures 8×8, mostly red or mostly green."""
    root = tmp_path_factory.mktemp("colours")
    random = np.random.Generator(np.random.Philox(key=10))
    for colour, name in enumerate(("red", "green")):
        (root / name).mkdir()
        for k in range(24):
            pixels = random.integers(0, 180, (8, 8, 3))
            pixels[..., colour] += 70
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{k:02d}.png")
    return root


def trained(data: Any, **options: Any) -> tuple[np.ndarray, float]:
    st.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))
    run = st.fit(
        net,
        data,
        validation=0.25,
        epochs=8,
        batch_size=7,
        optimizer=st.optim.Adam(lr=0.01),
        progress=False,
        **options,
    )
    weights = np.concatenate([p.numpy().ravel() for p in net.parameters()])
    return weights, run.history[-1]["validation_accuracy"]


@pytest.mark.parametrize("augment", [None, "flip,crop1,colour0.2"])
def test_the_weights_do_not_depend_on_where_pictures_lie(folder: Path, augment: Any) -> None:
    files = ImageFolder(folder, cache=False)
    weights, accuracy = trained(files, augment=augment)
    assert accuracy >= 0.9
    for data in (ImageFolder(folder, cache=True), files.in_memory()):
        again, _ = trained(data, augment=augment)
        np.testing.assert_array_equal(again, weights)


def test_mixed_targets_are_learned_from(folder: Path) -> None:
    weights, accuracy = trained(ImageFolder(folder), augment="mixup0.2,normalize")
    assert accuracy >= 0.9 and np.isfinite(weights).all()
