"""Networks as the command line names them: a name, a pattern, `file.py:Class`, a file, a folder.

And what a model file says beside its weights: the names of the classes, and the background that
it learned on.
"""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from striate.errors import FileError, ModelError, OptionError, StriateError, suggest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from striate.data.pictures import Picture
    from striate.data.source import Source
    from striate.graph.graph import Graph
    from striate.nn.graph_module import GraphModule
    from striate.nn.module import Module

MODEL_FILE = "model.safetensors"
_MODULE = "striate_user_model"


def open_model(path: str, what: str = "") -> GraphModule:
    """The network in a model file, an ONNX file, or the folder of a training; `what` else may be.

    Raises:
        ModelError: there is no such file, or it holds no network.
    """
    from striate.formats.model_file import load

    place = Path(path).expanduser()
    if place.is_dir():
        place = place / MODEL_FILE
    if not place.exists():
        raise ModelError(
            f"{path}: expected {what}a model file, or a folder with {MODEL_FILE}; there is none. "
            f"{_meant(path) if what else ''}Train one with `striate train`."
        )
    if place.suffix.lower() == ".onnx":
        from striate.formats.onnx import read

        return read(place)
    return load(place)


def _meant(path: str) -> str:
    """Which network a name that is none was meant to be, where one is near."""
    from difflib import get_close_matches

    from striate.models import MODELS

    near = get_close_matches(path, MODELS, n=1)
    return f"Did you mean {near[0]!r}? " if near else ""


def new_network(
    spec: str, classes: int | None = None, channels: int | None = None, size: Any = None
) -> Module:
    """A fresh network by name, from a pattern, or of a class in a Python file.

    Args:
        spec: a name as "lenet5", a pattern as "conv-relu-pool-softmax", or "net.py:Net" ("net.py"
            where it has one network).
        classes: outputs of a named network; by default as many as it usually has.
        channels: input channels of a named network; by default as many as it usually has.
        size: (height, width) of the images, for a pattern; (28, 28) by default.
    Raises:
        OptionError: no such network.
        FileError: no such file.
    """
    from striate.models import build, from_pattern

    if is_pattern(spec):
        shape = (channels or 1, *(size or (28, 28)))
        return from_pattern(spec, input=shape, classes=classes or 10)
    file, name = _split(spec)
    if file is not None:
        return _construct(file, _find_class(file, name))
    options = {"num_classes": classes, "in_channels": channels}
    return build(spec, **{key: value for key, value in options.items() if value is not None})


def is_pattern(spec: str) -> bool:
    """Whether it is a line of text for `from_pattern`: such a line ends with softmax.

    >>> is_pattern("[(conv-relu)*2-pool]*2-softmax"), is_pattern("runs/lenet5-mnist")
    (True, False)
    """
    return spec.rstrip().lower().endswith("-softmax")


def is_new_network(spec: str) -> bool:
    """Whether it names a network to be built, not a file to be loaded."""
    from striate.models import MODELS

    return spec in MODELS or is_pattern(spec) or _split(spec)[0] is not None


def usual_shape(spec: str) -> tuple[int, ...]:
    """The shape of one image for a network to be built: the one that it is mostly used on."""
    from striate.models import MODELS, usual_input

    return usual_input(spec) if spec in MODELS else (1, 28, 28)


def _split(spec: str) -> tuple[Path | None, str]:
    """The Python file and the class in it; no file where it is a plain name."""
    if spec.endswith(".py"):
        return Path(spec).expanduser(), ""
    file, colon, name = spec.rpartition(":")
    if colon and file.endswith(".py"):
        return Path(file).expanduser(), name
    return None, spec


def _find_class(file: Path, name: str) -> Any:
    from striate.nn.module import Module

    module = _import(file)
    own = {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Module) and value.__module__ == _MODULE
    }
    if not name and len(own) == 1:
        return next(iter(own.values()))
    if not name:
        raise OptionError(
            f"{file}: expected one network; got {len(own)}: {', '.join(own) or 'none'}. "
            f"Name its class, as {file}:Net."
        )
    found = getattr(module, name, None)
    if found is None:
        raise OptionError(f"{file}: unknown class {name!r}. {suggest(name, own)}")
    return found


def _import(file: Path) -> ModuleType:
    """Run a user's file; what it raises is told with its line."""
    if not file.is_file():
        raise FileError(f"{file}: expected a Python file; there is none. Check the path.")
    spec = importlib.util.spec_from_file_location(_MODULE, file)
    if spec is None or spec.loader is None:
        raise FileError(f"{file}: expected a Python file; it cannot be imported.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_MODULE] = module
    sys.path.insert(0, str(file.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except StriateError:
        raise
    except Exception as error:
        raise OptionError(_user_error(file, error)) from error
    finally:
        sys.path.remove(str(file.resolve().parent))
    return module


def _construct(file: Path, made: Any) -> Module:
    from striate.nn.module import Module

    try:
        net = made() if callable(made) else made
    except StriateError:
        raise
    except Exception as error:
        raise OptionError(_user_error(file, error)) from error
    if not isinstance(net, Module):
        raise OptionError(
            f"{file}: expected an nn.Module, or a function that makes one; got "
            f"{type(net).__name__}."
        )
    return net


def _user_error(file: Path, error: Exception) -> str:
    if isinstance(error, SyntaxError):
        return f"{file}: line {error.lineno}: {error.msg}. Correct the file."
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f.lineno for f in frames if Path(f.filename).resolve() == file.resolve()]
    where = f"line {lines[-1]}: " if lines else ""
    return (
        f"{file}: {where}{type(error).__name__}: {error}. "
        "Correct the file; a network's class is made without arguments."
    )


# ---- what travels with a model ---------------------------------------------------------------


def notes_of(data: Source) -> dict[str, Any]:
    """What a model trained on this data shall carry: names of the classes and the background."""
    notes: dict[str, Any] = {"data": data.name, "classes": list(data.classes)}
    if data.shape[0] == 1:
        rows = range(0, len(data), max(1, len(data) // 500))
        sample = data.batch(rows)[0][:, 0]
        edges = (sample[:, 0], sample[:, -1], sample[:, :, 0], sample[:, :, -1])
        bright = sum(float(edge.mean()) for edge in edges) / len(edges) > 0.5
        notes["background"] = "light" if bright else "dark"
    return notes


def class_names(net: GraphModule, count: int) -> tuple[str, ...]:
    """The names of the classes, as the model file has them; their numbers where it has none."""
    names = net.notes.get("classes")
    if isinstance(names, list) and len(names) == count:
        return tuple(map(str, names))
    return tuple(map(str, range(count)))


def read_each(net: GraphModule, images: Sequence[str], background: str) -> list[Picture]:
    """A picture for each of the network's inputs, as `read_for` reads them."""
    inputs = net.graph.inputs
    if len(images) != len(inputs):
        listed = ", ".join(f"{node.name} {node.shape}" for node in inputs)
        raise OptionError(
            f"IMAGE: expected {'a picture' if len(inputs) == 1 else 'a picture for each input'}, "
            f"{listed}; got {len(images)}."
        )
    shapes = [node.shape for node in inputs]
    return [read_for(net, i, background, shape) for i, shape in zip(images, shapes, strict=True)]


def read_for(
    net: GraphModule, image: str, background: str, shape: tuple[int, ...] | None = None
) -> Picture:
    """A picture as the network takes it.

    Args:
        net: the network.
        image: the picture's file.
        background: auto, dark, light or keep, as the option says.
        shape: (c, h, w); by default that of the network's one input.
    """
    from striate.data.pictures import read_picture

    known = {"dark": True, "light": False, "keep": None, "auto": None}
    if background not in known:
        raise OptionError(f"--background: unknown {background!r}. {suggest(background, known)}")
    shape = shape or net.input_shape
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise ModelError(
            f"{image}: expected a network for pictures (1 or 3 channels, h, w); got one for "
            f"{shape}."
        )
    if background == "auto":
        background = str(net.notes.get("background", "keep"))
    channels, height, width = shape
    return read_picture(image, (height, width), channels, dark_background=known.get(background))


def graph_of(
    model: str, shape: tuple[int, ...] | None = None
) -> tuple[Graph, dict[str, NDArray[np.float32]]]:
    """The graph and the weights of a network that the command line names, in eval mode.

    Args:
        model: as `new_network` or `open_model` take it.
        shape: of one image; by default the model's own; of a Python file's network (3, 224, 224),
            else (1, 28, 28).
    """
    if not is_new_network(model):
        opened = open_model(model, what="resnet18, file.py:Class or ")
        graph = opened.graph if shape is None else opened.graph.with_input_shape(shape)
        return graph, opened.state_dict()
    usual = usual_shape(model)
    shapes = [usual if _split(model)[0] is None else (3, 224, 224), usual]
    if shape is not None:
        shapes = [shape]
    failure: StriateError | None = None
    for one in shapes:
        try:
            net = new_network(model, channels=one[0], size=one[1:]).eval()
            return net.to_graph(one), net.state_dict()
        except StriateError as error:
            failure = failure or error
    raise failure or ModelError(f"{model}: expected a network; got none.")


def network_of(model: str, shape: tuple[int, ...] | None = None) -> tuple[Module, tuple[int, ...]]:
    """A network that the command line names, and the shape of one image for it.

    Args:
        model: as `new_network` or `open_model` take it.
        shape: of one image; by default the model's own or usual one, of a Python file's network
            the first of some that it takes.
    """
    from striate import models

    if model in models.MODELS:
        shape = shape or models.usual_input(model)
        return models.build(model, in_channels=shape[0]), shape
    if not is_new_network(model):
        opened = open_model(model, what="resnet18, file.py:Class or ")
        return opened, shape or opened.input_shape
    if shape is not None:
        return new_network(model, channels=shape[0], size=shape[1:]), shape
    net = new_network(model)
    failure: StriateError | None = None
    for one in ((3, 224, 224), (3, 32, 32), (1, 28, 28)):
        try:
            net.to_graph(one)
            return net, one
        except StriateError as error:
            failure = failure or error
    raise failure if failure is not None else ModelError(f"{model}: expected a network; got none.")


def class_count(net: GraphModule) -> int:
    """The classes that a classifier tells apart."""
    graph = net.graph
    shape = graph.nodes[graph.outputs[0]].shape
    if len(shape) != 1:
        raise ModelError(
            f"expected a classifier, with one row of class scores; got a network with output "
            f"{shape}."
        )
    return int(shape[0])


def probabilities(
    net: GraphModule, images: NDArray[np.float32], backend: str | None
) -> NDArray[np.float64]:
    """Each class's probability for images (n, c, h, w), as (n, classes)."""
    import numpy as np

    from striate.program import build_inference
    from striate.train.predict import log_softmax

    if not len(images):
        return np.empty((0, class_count(net)))
    program = build_inference(net.graph, backend=backend)
    return np.asarray(np.exp(log_softmax(program.run(images, net.state_dict()))))
