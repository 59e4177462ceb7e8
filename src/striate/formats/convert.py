"""One file format into another: model files and weights, torch's, ONNX's and NumPy's.

    .safetensors   a network with its weights, or weights alone     .pth .pt   weights
    .onnx          a network with its weights                        .npz       weights

A network gives its weights to any format; weights become a network only with one to hold them.
Nothing is guessed from what a file is called but its format.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from striate.errors import ModelError, OptionError, suggest
from striate.files import StrPath
from striate.formats.model_file import load, save
from striate.formats.npz_file import load_npz, save_npz
from striate.formats.safetensors_file import load_tensors, save_tensors
from striate.formats.torch_file import Progress, load_torch
from striate.formats.torch_write import save_torch
from striate.nn.module import Module

FORMATS = (".npz", ".onnx", ".pt", ".pth", ".safetensors")
Weights = Mapping[str, NDArray[Any]]


class Converted(NamedTuple):
    """What `convert` wrote: a "network" or "weights", and how many arrays and numbers."""

    kind: str
    arrays: int
    numbers: int


def convert(
    source: StrPath,
    target: StrPath,
    *,
    net: Module | Callable[[Weights], Module] | None = None,
    input_shape: Any = None,
    key: str | None = None,
    progress: Progress | None = None,
) -> Converted:
    """Write what is in one file to another; both formats follow from the names' ends.

    Args:
        source: .safetensors (a network or weights), .pth, .pt, .onnx or .npz.
        target: the file to write, whole or not at all.
        net: the network that the weights of the source belong to, or what makes it of them; needed
            where the target shall hold a network and the source has weights alone.
        input_shape: of one sample, where the network was never called.
        key: which entry of a torch checkpoint has the weights.
        progress: called with bytes read and the size of a torch checkpoint.
    Returns:
        What was written.
    Raises:
        OptionError: an unknown end, or a target that needs a network and gets none.
        ModelError: the source is none, damaged, or does not fit the network.
        FileError: the target cannot be written.

    >>> import tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_npz({"w": np.ones((2, 3), "f4")}, f"{folder}/a.npz")
    ...     convert(f"{folder}/a.npz", f"{folder}/a.pth")
    Converted(kind='weights', arrays=1, numbers=6)
    """
    ends = [_end(path) for path in (source, target)]
    found = _read(source, ends[0], input_shape, key, progress)
    if net is not None:
        found = _filled(net, found)
    if ends[1] == ".onnx" and not isinstance(found, Module):
        raise OptionError(
            f"convert: expected a network for {os.fspath(target)}; {os.fspath(source)} has weights "
            "alone. Say which network they belong to: net=models.resnet18(), or --model resnet18."
        )
    _write(found, target, ends[1], input_shape)
    arrays = found.state_dict() if isinstance(found, Module) else found
    whole = isinstance(found, Module) and ends[1] in (".safetensors", ".onnx")
    numbers = sum(array.size for array in arrays.values())
    return Converted("network" if whole else "weights", len(arrays), numbers)


def _end(path: StrPath) -> str:
    end = Path(path).suffix.lower()
    if end not in FORMATS:
        raise OptionError(
            f"convert: expected a name that ends in {', '.join(FORMATS)}; got "
            f"{os.fspath(path)!r}. {suggest(end, FORMATS)}"
        )
    return end


def _read(
    path: StrPath, end: str, input_shape: Any, key: str | None, progress: Progress | None
) -> Module | Weights:
    if key is not None and end not in (".pth", ".pt"):
        raise OptionError(f"convert: expected key only for .pth and .pt; got key={key!r}.")
    if end == ".onnx":
        from striate.formats.onnx import read

        return read(path, input_shape=input_shape)
    if end == ".npz":
        return load_npz(path)
    if end == ".safetensors":
        tensors, metadata = load_tensors(path)
        return load(path) if "striate" in metadata else tensors
    return load_torch(path, key, progress=progress)


def _filled(net: Module | Callable[[Weights], Module], found: Module | Weights) -> Module:
    if isinstance(found, Module):
        found = found.state_dict()
    made = net if isinstance(net, Module) else net(found)
    made.load_state_dict(found)
    return made.eval()


def _write(found: Module | Weights, path: StrPath, end: str, input_shape: Any) -> None:
    network = isinstance(found, Module)
    weights: Any = found.state_dict() if isinstance(found, Module) else found
    if not weights:
        raise ModelError("convert: expected weights; the source has none.")
    if end == ".onnx":
        from striate.formats.onnx import write

        write(found, path, input_shape=input_shape)  # type: ignore[arg-type]
    elif end == ".safetensors" and network:
        save(found, path, input_shape=input_shape)  # type: ignore[arg-type]
    elif end == ".safetensors":
        save_tensors(path, weights, {"format": "pt"})
    elif end == ".npz":
        save_npz(weights, path)
    else:
        save_torch(weights, path)
