"""Model files: a network's graph and its weights in one safetensors file.

The tensors bear torch's state-dict names, so any reader of safetensors finds the weights. The
metadata's entry "striate" holds the graph as JSON, so the network loads without the code that
built it. Nothing in the file is run: no pickle, and the graph's shapes are worked out anew.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from striate.errors import ModelError, OptionError, TraceError
from striate.files import StrPath
from striate.formats.safetensors_file import load_tensors, save_tensors
from striate.graph.graph import Graph
from striate.nn.graph_module import GraphModule
from striate.nn.mode import in_mode
from striate.nn.module import Module
from striate.version import __version__

_KEY = "striate"
_FORMAT = "striate-model-1"
_TORCH = "Write net.load_state_dict(striate.load_torch(path))."
_OTHERS = {".pth": _TORCH, ".pt": _TORCH, ".onnx": "Write striate.import_onnx(path)."}


def save(
    net: Module,
    path: StrPath,
    *,
    input_shape: Any = None,
    notes: Mapping[str, Any] | None = None,
) -> None:
    """Write a network to a safetensors file, from which `load` makes it again.

    Args:
        net: the network.
        path: the file; written whole or not at all.
        input_shape: of one sample, e.g. (1, 28, 28); by default the one that the network was last
            called, trained or traced on.
        notes: what shall travel with it, as JSON values (class names …); by default the `notes`
            of a network that has some.
    Raises:
        OptionError: the network was never called and no `input_shape` is given; or notes that are
            no JSON.
        FileError: the file cannot be written.

    >>> import tempfile
    >>> from striate import nn
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(net, f"{folder}/net.safetensors", input_shape=(1, 2, 2))
    ...     load(f"{folder}/net.safetensors")(np.zeros((3, 1, 2, 2))).shape
    (3, 2)
    """
    if not isinstance(net, Module):
        raise OptionError(
            f"save: expected a Module; got {type(net).__name__}. Weights by name are written by "
            "striate.save_torch(weights, path)."
        )
    shape = _shape_of(net) if input_shape is None else input_shape
    graph, training = _graphs(net, shape)
    parameters, buffers = dict(net.named_parameters()), dict(net.named_buffers())
    first = {id(k): name for name, k in (*parameters.items(), *buffers.items())}
    names: dict[str, Any] = dict(net.named_parameters(remove_duplicate=False))
    names |= dict(net.named_buffers(remove_duplicate=False))
    description = {
        "format": _FORMAT,
        "version": __version__,
        "graph": graph.to_json(),
        "training_graph": None if training is None else training.to_json(),
        "parameters": list(parameters),
        "buffers": list(buffers),
        "aliases": {n: first[id(k)] for n, k in names.items() if first[id(k)] != n},
        "description": net.description if isinstance(net, GraphModule) else repr(net),
        "notes": _notes_of(net) if notes is None else dict(notes),
    }
    save_tensors(path, net.arrays(), {"format": "pt", _KEY: _text(description)})


def _notes_of(net: Module) -> dict[str, Any]:
    notes = getattr(net, "notes", None)
    return dict(notes) if isinstance(notes, Mapping) else {}


def _text(description: dict[str, Any]) -> str:
    try:
        return json.dumps(description, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise OptionError(
            f"save: expected notes and constants of JSON values (text, finite numbers, lists, "
            f"dicts); got {error}."
        ) from None


def _shape_of(net: Module) -> tuple[Any, ...]:
    shape: tuple[Any, ...] | None = net.known_input_shape
    if shape is None:
        raise OptionError(
            f"save: expected a network whose input shape is known; got a {type(net).__name__} that "
            "was never called. Write save(net, path, input_shape=(1, 28, 28)), the shape of one "
            "sample."
        )
    return shape


def _graphs(net: Module, shape: Any) -> tuple[Graph, Graph | None]:
    """The graph in evaluation, and in training where that is another one that can be traced."""
    with in_mode(net, training=False):
        graph = net.to_graph(shape)
    try:
        with in_mode(net, training=True):
            training = net.to_graph(shape)
    except TraceError:  # a network may answer otherwise in training; it is saved to be used
        return graph, None
    return graph, None if training.to_json() == graph.to_json() else training


def load(path: StrPath) -> GraphModule:
    """The network in a file that `save` wrote, in evaluation mode.

    It needs none of the code that built it. `.train()` and `striate.fit` train it further.

    Args:
        path: the file.
    Raises:
        ModelError: there is no such file, it is damaged, or holds no striate network.
    """
    instead = _OTHERS.get(os.path.splitext(os.fspath(path))[1].lower())
    if instead is not None:
        raise ModelError(f"{os.fspath(path)}: expected a .safetensors file. {instead}")
    tensors, metadata = load_tensors(path)
    if _KEY not in metadata:
        raise ModelError(
            f"{path}: expected a striate model; got a safetensors file of {len(tensors)} tensors "
            "without a network. Build the network and load the weights by name: "
            "net.load_state_dict(striate.formats.load_tensors(path)[0])."
        )
    try:
        return _network(tensors, metadata[_KEY])
    except (ModelError, OptionError) as error:
        raise ModelError(f"{path}: expected a striate model; {error}") from None
    except RecursionError:
        raise ModelError(
            f"{path}: expected a striate model; got a description nested too deeply."
        ) from None


def _network(tensors: dict[str, Any], text: str) -> GraphModule:
    data = _description(text)
    graph = Graph.from_json(data["graph"])
    training = data.get("training_graph")
    aliases = data["aliases"]
    names = [str(name) for name in data["parameters"]]
    buffers = [str(name) for name in data["buffers"]]
    counts = {*buffers, *(alias for alias, name in aliases.items() if name in buffers)}
    for name, array in tensors.items():
        whole = array.dtype == np.int64 and name in counts
        if array.dtype != np.float32 and not whole:
            raise ModelError(f"got dtype={array.dtype} for {name!r}, which has to be float32.")
    missing = [name for name in (*names, *buffers) if name not in tensors]
    if missing:
        raise ModelError(f"got no tensor {missing[0]!r}, which its description names.")
    module = GraphModule(
        graph,
        {name: tensors[name] for name in names},
        training_graph=None if training is None else Graph.from_json(training),
        description=str(data["description"]),
        notes=data["notes"],
        buffers={name: tensors[name] for name in buffers},
    )
    for alias, name in aliases.items():
        module.share(str(alias), str(name))
    return module


def _finite(text: str) -> float:
    """A number as JSON has it: nothing infinite, which would be no size of anything."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"a number {text[:20]!r} that is not finite")
    return value


def _description(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text, parse_float=_finite, parse_constant=_finite)
    except ValueError as error:
        raise ModelError(f"got a description that is no JSON ({error}).") from None
    if not isinstance(data, dict) or data.get("format") != _FORMAT:
        found = data.get("format") if isinstance(data, dict) else type(data).__name__
        raise ModelError(
            f"got format={found!r} where {_FORMAT!r} is known. "
            "It may come from a newer striate: upgrade."
        )
    kinds = {"graph": dict, "parameters": list, "aliases": dict, "description": str, "notes": dict}
    data.setdefault("buffers", [])  # networks without batch norm were saved without the word
    kinds["buffers"] = list
    for key, kind in kinds.items():
        if not isinstance(data.get(key), kind):
            raise ModelError(f"got a description without {key!r}.")
    return data
