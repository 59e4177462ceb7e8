"""The public names: those of the package pinned, all others found in it; and light imports."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

import striate as st
from striate import models, nn
from striate.nn import functional, init, scalar

PUBLIC = [
    "Graph",
    "__version__",
    "check_gradient",
    "convert",
    "data",
    "errors",
    "explain",
    "explain_gradient",
    "export_onnx",
    "filters",
    "fit",
    "formats",
    "freeze",
    "from_torch",
    "get_num_threads",
    "gradient",
    "import_onnx",
    "inspect",
    "interpret",
    "jacobian",
    "load",
    "load_torch",
    "lr_find",
    "manual_seed",
    "models",
    "nn",
    "optim",
    "plot",
    "save",
    "save_torch",
    "scalar",
    "set_num_threads",
    "summary",
    "train",
    "vjp",
]
# Modules that others are made from: not public, though their names have no underscore.
BASES = {
    "FunctionModule",
    "PairModule",
    "SeveralInputs",
    "TransposedLayer",
    "WindowLayer",
    "WindowPool",
}
HELPERS = {"weight_form"}  # has an example, for contributors
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
    "sklearn",
    "pandas",
)


def test_pinned_names() -> None:
    assert st.__all__ == PUBLIC
    assert set(models.__all__) > {"MODELS", "build", "usual_input", *models.MODELS}
    assert scalar.__all__ == sorted(scalar.__all__)


def defined(package: ModuleType, prefix: str = "") -> Iterator[tuple[str, object]]:
    """What the modules of a package define, by names without an underscore."""
    for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if found.name.rpartition(".")[2].startswith(prefix):
            module = import_module(found.name)
            for name, value in vars(module).items():
                if getattr(value, "__module__", "") == found.name and not name.startswith("_"):
                    yield name, value


def test_every_layer_is_exported() -> None:
    layers = {
        name
        for name, value in defined(nn)
        if isinstance(value, type) and issubclass(value, nn.Module)
    }
    assert layers - set(nn.__all__) == BASES
    assert layers >= {name for name in nn.__all__ if isinstance(getattr(nn, name), type)} - {
        "Parameter"
    }


def has_example(value: object) -> bool:
    return ">>>" in (getattr(value, "__doc__", "") or "")


def test_every_function_is_exported() -> None:
    """Functions for users have an example; what only other modules of `nn` use has none."""
    functions = {
        name.rstrip("_")  # sum_ is exported as sum
        for name, value in defined(nn, "functional_")
        if isinstance(value, FunctionType) and has_example(value)
    }
    assert functions - set(functional.__all__) == HELPERS
    assert all((getattr(functional, name).__doc__ or "").strip() for name in functional.__all__)


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
