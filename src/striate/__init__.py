"""striate: convolutional networks in pure Python, run by machine code made for your network.

    import striate as st
    from striate import nn

    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 26 * 26, 10))
    train, test = st.data.load("mnist")
    st.fit(net, train, validation=test, epochs=3, optimizer=st.optim.Adam(lr=1e-3), seed=0)
    net(test.images[:4])

Importing this costs no more than importing NumPy: every public name is looked up when it is first
used (PEP 562). This file only says where each one lives.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from striate.version import __version__

if TYPE_CHECKING:
    from striate import (
        data,
        errors,
        filters,
        formats,
        inspect,
        interpret,
        models,
        nn,
        optim,
        plot,
        train,
    )
    from striate.formats.convert import convert
    from striate.formats.model_file import load, save
    from striate.formats.onnx.exporter import export_onnx
    from striate.formats.onnx.importer import import_onnx
    from striate.formats.torch_file import load_torch
    from striate.formats.torch_write import save_torch
    from striate.graph.graph import Graph
    from striate.inspect.explain import explain
    from striate.inspect.explain_gradient import explain_gradient
    from striate.inspect.summary import summary
    from striate.nn import scalar
    from striate.nn.frozen import freeze
    from striate.nn.gradient_check import check_gradient
    from striate.nn.gradients import gradient, jacobian, vjp
    from striate.settings import get_num_threads, manual_seed, set_num_threads
    from striate.torch_bridge import from_torch
    from striate.train.fit import fit
    from striate.train.lr_find import lr_find

__all__ = [
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

_MODULES = (
    *("data", "errors", "filters", "formats", "fx", "graph", "inspect", "interpret", "jit"),
    *("measure", "models", "nn", "optim", "plot", "sklearn", "train", "utils"),
)
_HOMES = {
    "Graph": "striate.graph.graph",
    "check_gradient": "striate.nn.gradient_check",
    "convert": "striate.formats.convert",
    "export_onnx": "striate.formats.onnx.exporter",
    "explain": "striate.inspect.explain",
    "explain_gradient": "striate.inspect.explain_gradient",
    "fit": "striate.train.fit",
    "freeze": "striate.nn.frozen",
    "from_torch": "striate.torch_bridge",
    "get_num_threads": "striate.settings",
    "gradient": "striate.nn.gradients",
    "jacobian": "striate.nn.gradients",
    "import_onnx": "striate.formats.onnx.importer",
    "load": "striate.formats.model_file",
    "load_torch": "striate.formats.torch_file",
    "lr_find": "striate.train.lr_find",
    "manual_seed": "striate.settings",
    "save": "striate.formats.model_file",
    "save_torch": "striate.formats.torch_write",
    "scalar": "striate.nn",
    "set_num_threads": "striate.settings",
    "summary": "striate.inspect.summary",
    "vjp": "striate.nn.gradients",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"striate.{name}")
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    elif name.startswith("__"):
        raise AttributeError(f"module 'striate' has no attribute {name!r}")
    else:  # the functions of `torch` itself, for `import striate as torch`
        value = import_module("striate.torch_names").find(name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
