"""The public names, pinned; and that importing striate stays light."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import striate as st
from striate import models, nn
from striate.nn import functional, init, scalar

PUBLIC = [
    "Graph",
    "__version__",
    "data",
    "errors",
    "explain",
    "fit",
    "formats",
    "freeze",
    "get_num_threads",
    "inspect",
    "load",
    "manual_seed",
    "models",
    "nn",
    "optim",
    "plot",
    "save",
    "scalar",
    "set_num_threads",
    "summary",
]
LAYERS = [
    "GELU",
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose2d",
    "CrossEntropyLoss",
    "Dropout",
    "Flatten",
    "GraphModule",
    "Hardsigmoid",
    "Hardswish",
    "Identity",
    "LeakyReLU",
    "Linear",
    "LocalResponseNorm",
    "MSELoss",
    "MaxPool2d",
    "Module",
    "ModuleDict",
    "ModuleList",
    "Parameter",
    "ReLU",
    "ReLU6",
    "Scalar",
    "ScaledTanh",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "functional",
    "init",
    "scalar",
]
FUNCTIONS = [
    "adaptive_avg_pool2d",
    "add",
    "avg_pool2d",
    "batch_norm",
    "cat",
    "concat",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose2d",
    "cross_entropy",
    "dropout",
    "flatten",
    "gelu",
    "hardsigmoid",
    "hardswish",
    "leaky_relu",
    "linear",
    "local_response_norm",
    "max_pool2d",
    "mse_loss",
    "mul",
    "relu",
    "relu6",
    "scalar",
    "scaled_tanh",
    "sigmoid",
    "silu",
    "softmax",
    "tanh",
]
HEAVY = (
    "llvmlite",
    "matplotlib",
    "PIL",
    "rich",
    "typer",
    "safetensors",
    "subprocess",
    "concurrent.futures",
    "urllib.request",
    "multiprocessing",
    "torch",
)


def test_pinned_names():
    assert st.__all__ == PUBLIC
    assert nn.__all__ == LAYERS
    assert set(models.__all__) > {"MODELS", "build", "usual_input", *models.MODELS}
    assert functional.__all__ == FUNCTIONS
    assert scalar.__all__ == sorted(scalar.__all__)
    assert len(init.__all__) == 10


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_there(name):
    assert getattr(st, name) is not None
    assert name in dir(st)


def test_every_public_name_of_a_module_is_there():
    for module in (nn, models, functional, init, scalar):
        for name in module.__all__:
            assert getattr(module, name) is not None


def test_unknown_names():
    with pytest.raises(AttributeError, match="module 'striate' has no attribute 'fitt'"):
        _ = st.fitt


def test_from_import():
    code = "from striate import scalar, Graph, manual_seed, nn; from striate.nn import Conv2d"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("statement", ["import striate", "import striate.nn, striate.models"])
def test_importing_loads_nothing_heavy(statement):
    code = f"import numpy, sys; before = set(sys.modules); {statement}; " + (
        "print(*sorted(set(sys.modules) - before))"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = run.stdout.split()
    assert "striate" in loaded
    assert [name for name in loaded if name in HEAVY or name.partition(".")[0] in HEAVY] == []


def test_importing_striate_loads_only_its_version():
    code = "import sys, striate; print(*sorted(m for m in sys.modules if 'striate' in m))"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert [n for n in run.stdout.split() if not n.startswith("_")] == [
        "striate",
        "striate.version",
    ]


def test_version_agrees_with_the_project_file():
    project = Path(__file__).parent.parent / "pyproject.toml"
    assert f'version = "{st.__version__}"' in project.read_text(encoding="utf-8")
