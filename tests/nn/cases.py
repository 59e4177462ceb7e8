"""The cases of the layers' contract: tables `layers_*.py`, a family each, and what runs them.

A case is named as its class, with a word behind a dash where a class has several. It says how to
make the layer, the shape of the input with the batch (of several inputs a tuple of shapes, or a
function of a random generator that gives the arrays), and the shape of one sample of the output.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

import striate as st
from striate import nn

LAYERS: dict[str, Any] = {}
for _path in sorted(Path(__file__).parent.glob("layers_*.py")):
    LAYERS |= import_module(f"tests.nn.{_path.stem}").LAYERS


def class_of(name: str) -> str:
    """The class that a case is one of."""
    return name.partition("-")[0]


def build(name: str, seed: int = 3) -> nn.Module:
    """A layer with weights of this seed."""
    st.manual_seed(seed)
    layer: nn.Module = LAYERS[name][0]()
    return layer


def inputs_of(name: str, seed: int = 1) -> tuple[np.ndarray, ...]:
    """Arrays for a case: normal numbers in float32, unless it makes its own."""
    given, rng = LAYERS[name][1], np.random.default_rng(seed)
    if callable(given):
        return tuple(np.asarray(k) for k in given(rng))
    shapes = given if isinstance(given[0], tuple) else (given,)
    return tuple(rng.normal(size=shape).astype(np.float32) for shape in shapes)


def sample_shapes(inputs: tuple[np.ndarray, ...]) -> Any:
    """The shapes of one sample, as `to_graph` takes them."""
    shapes = [x.shape[1:] for x in inputs]
    return shapes[0] if len(shapes) == 1 else shapes
