"""Networks from torch and to torch, where that is installed: the same layers, names and numbers.

torch's layers have our constructors' arguments, and ours theirs, as attributes of the same names;
so one rule carries every layer both ways. What is no layer of torch.nn is followed by torch.fx,
which writes down the calls of a `forward`; a network of our own that is no row of layers becomes
a torch module of its graph.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from striate import nn, torch_names
from striate.errors import AbsentError, ModelError, OptionError, StriateError
from striate.measure.torch_graph import torch_module, torch_package
from striate.nn import functional as F
from striate.nn.mode import in_mode
from striate.nn.module import Module
from striate.nn.parameter import Parameter

_ROWS = ("Sequential", "ModuleList", "ModuleDict")
_SKIPPED = ("self", "device", "dtype", "args", "kwargs")


def from_torch(module: Any) -> Module:
    """A torch module as one of ours, with copies of its weights and in its mode.

    Layers of torch.nn and rows of them become our layers. Any other module is traced by torch.fx;
    choices that its `forward` makes by mode are then made once and for all.

    Args:
        module: a `torch.nn.Module`.
    Returns:
        A network with the same state-dict names.
    Raises:
        ModelError: it has a layer or a function that is not here; the message names it.
    """
    torch = _torch("from_torch")
    if not isinstance(module, torch.nn.Module):
        raise OptionError(f"from_torch: expected a torch.nn.Module; got {type(module).__name__}.")
    net = _layer_of(module, "") if _is_layer(module) else _followed(module)
    state = {name: _array(value) for name, value in module.state_dict().items()}
    net.load_state_dict(state)
    modes = dict(module.named_modules())
    for path, ours in net.named_modules(remove_duplicate=False):
        ours.training = bool(modes[path].training) if path in modes else ours.training
    return net


def to_torch(net: Module, input_shape: Any = None) -> Any:
    """A network as a `torch.nn.Module` with copies of its weights, under the same names.

    Layers and rows of them become torch's layers. Any other network becomes the calls of its graph
    in evaluation mode: it can be trained in torch, but without dropout, and batch norm keeps its
    statistics.

    Args:
        net: the network.
        input_shape: of one sample, for a network that is no row of layers; by default the one
            that it was last called on.
    Raises:
        ModelError: it has a layer that torch has not; the message names it.
    """
    torch = _torch("to_torch")
    if _has_twin(net):
        twin = _twin(net, torch)
        twin.load_state_dict({k: torch.tensor(v) for k, v in net.state_dict().items()})
        for path, part in net.named_modules():
            twin.get_submodule(path).training = part.training
        return twin
    shape = net.last_input_shape if input_shape is None else input_shape
    if shape is None:
        raise OptionError(
            f"to_torch: expected a network whose input shape is known; got a {type(net).__name__} "
            "that was never called. Write net.to_torch(input_shape=(3, 224, 224))."
        )
    with in_mode(net, training=False):
        graph = net.to_graph(shape)
    return torch_module(graph, net.graph_arrays(graph), inplace=False).eval()


def _torch(where: str) -> Any:
    try:
        return torch_package()
    except ModuleNotFoundError:
        raise OptionError(
            f"{where}: expected the package torch; it is not installed. Run `pip install torch`."
        ) from None


def _array(value: Any) -> Any:
    tensor = value.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


# ---- layers, by the names of their arguments ---------------------------------------------------


def _is_layer(module: Any) -> bool:
    """Whether it is torch's own layer, or a row of nothing else."""
    kind = type(module)
    if kind.__name__ in _ROWS and kind.__module__.startswith("torch.nn."):
        return all(_is_layer(child) for child in module.children())
    return bool(kind.__module__.startswith("torch.nn."))


def _layer_of(module: Any, path: str) -> Module:
    name = type(module).__name__
    if name in _ROWS:
        children = [(k, _layer_of(c, f"{path}.{k}".strip("."))) for k, c in module.named_children()]
        row: Module = _row(nn, name, children)
        return row
    kind = getattr(nn, name, None) if name in nn.__all__ else None
    place = f" ({path})" if path else ""
    if kind is None:
        raise ModelError(
            f"from_torch: expected layers that striate has; got {name}{place}. "
            "Write that part with nn.Module, and load the weights by name."
        )
    try:
        made: Module = kind(**_arguments(module, kind))
    except StriateError as error:
        raise ModelError(f"from_torch: {name}{place} cannot be made: {error}") from None
    return made


def _row(library: Any, name: str, children: list[tuple[str, Any]]) -> Any:
    row = getattr(library, name)()
    for key, child in children:
        row.add_module(key, child)
    return row


def _arguments(layer: Any, kind: Any) -> dict[str, Any]:
    """What to call `kind` with, so that it is like `layer` of the other library."""
    found = {}
    for name, parameter in inspect.signature(kind.__init__).parameters.items():
        if name in _SKIPPED or name.startswith("_") or not hasattr(layer, name):
            continue
        value = getattr(layer, name)
        if name == "bias" or isinstance(value, Parameter) or hasattr(value, "detach"):
            value = value is not None and value is not False
        if parameter.default is not value:
            found[name] = value
    return found


def _has_twin(net: Module) -> bool:
    """Whether it is a layer that torch has too, used as torch knows it, or a row of such."""
    kind, torch = type(net), torch_package()
    if kind.__name__ in _ROWS and kind is getattr(nn, kind.__name__):
        return all(_has_twin(child) for child in net.children())
    known = kind.__module__.startswith("striate.nn.") and hasattr(torch.nn, kind.__name__)
    return known and kind is not nn.Module and not _extras(net)


def _extras(net: Module) -> list[str]:
    """The options of a layer that torch's has not, where they are not the usual ones."""
    theirs = inspect.signature(getattr(torch_package().nn, type(net).__name__).__init__).parameters
    own = inspect.signature(type(net).__init__).parameters
    if any(p.kind is p.VAR_KEYWORD for p in theirs.values()):
        return []  # recurrent layers, whose arguments torch does not name
    return [
        name
        for name, parameter in own.items()
        if name not in theirs
        and not _is_usual(getattr(net, name, parameter.default), parameter.default)
    ]


def _is_usual(value: Any, default: Any) -> bool:
    """Whether an option has its default, also where it was spread over the axes: (1, 1) for 1."""
    return value == default or (isinstance(value, tuple) and all(k == default for k in value))


def _twin(net: Module, torch: Any) -> Any:
    name = type(net).__name__
    if name in _ROWS:
        return _row(torch.nn, name, [(k, _twin(c, torch)) for k, c in net.named_children()])
    kind = getattr(torch.nn, name)
    own = inspect.signature(type(net).__init__).parameters
    theirs = inspect.signature(kind.__init__).parameters
    takes_all = any(p.kind is p.VAR_KEYWORD for p in theirs.values())
    arguments = _arguments(net, type(net))
    return kind(**{k: v for k, v in arguments.items() if k in theirs or (takes_all and k in own)})


# ---- any forward, followed by torch.fx ---------------------------------------------------------


class Followed(Module):
    """What torch.fx wrote down of a `forward`: calls of our layers and functions, in order."""

    def __init__(self, steps: list[tuple[str, str, Any, Any, Any]], title: str) -> None:
        super().__init__()
        self.__dict__.update(_steps=steps, _title=title)

    def forward(self, *inputs: Any) -> Any:
        """The steps, one after the other."""
        values: dict[str, Any] = {}
        given = iter(inputs)
        for kind, name, target, args, keywords in self.__dict__["_steps"]:
            args, keywords = _filled(args, values), _filled(keywords, values)
            if kind == "placeholder":
                values[name] = next(given, args[0] if args else None)
            elif kind == "call_module":
                values[name] = self.get_submodule(target)(*args, **keywords)
            elif kind == "get_attr":
                values[name] = self._held(target)
            elif kind == "call_method":
                values[name] = getattr(args[0], target)(*args[1:], **keywords)
            elif kind == "call_function":
                values[name] = target(*args, **keywords)
            else:
                return args[0]
        return None

    def _held(self, target: str) -> Any:
        path, _, leaf = target.rpartition(".")
        return getattr(self.get_submodule(path), leaf)

    def _repr_name(self) -> str:
        return str(self.__dict__["_title"])


class _Place(Module):
    """A part of torch's module that is no layer: it holds what is below it."""


class _Value(str):
    """The result of an earlier step, by its name."""

    __slots__ = ()


def _filled(given: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(given, _Value):
        return values[given]
    if isinstance(given, (list, tuple)):
        return type(given)(_filled(k, values) for k in given)
    if isinstance(given, dict):
        return {key: _filled(k, values) for key, k in given.items()}
    if isinstance(given, slice):
        return slice(*(_filled(k, values) for k in (given.start, given.stop, given.step)))
    return given


def _followed(module: Any) -> Followed:
    fx = import_module("torch.fx")
    title = type(module).__name__
    try:
        graph = fx.Tracer().trace(module)
    except Exception as error:  # torch.fx raises what the forward raises, of any kind
        raise ModelError(
            f"from_torch: expected a forward that torch.fx can follow; that of {title} gave "
            f"{type(error).__name__} ({str(error).splitlines()[0] if str(error) else ''}). Rewrite "
            "it with nn.Module, and load the weights by name."
        ) from None
    steps = [
        (n.op, n.name, _function(n, title), *(_plain(k, fx) for k in (n.args, n.kwargs)))
        for n in graph.nodes
    ]
    net = Followed(steps, title)
    for path, part in module.named_modules():
        if path and not _inside_layer(module, path):
            _place(net, path, _layer_of(part, path) if _is_leaf(part) else _Place())
    for named, place in (
        (module.named_parameters(remove_duplicate=False), _parameter),
        (module.named_buffers(remove_duplicate=False), _buffer),
    ):
        for name, value in named:
            if not _inside_layer(module, name):
                place(net, name, _array(value), module)
    return net


def _is_leaf(part: Any) -> bool:
    """As torch.fx sees it: a layer of torch.nn, not a row."""
    return type(part).__module__.startswith("torch.nn.") and type(part).__name__ not in _ROWS


def _inside_layer(module: Any, name: str) -> bool:
    parts = name.split(".")[:-1]
    places = (module.get_submodule(".".join(parts[: k + 1])) for k in range(len(parts)))
    return any(_is_leaf(part) for part in places)


def _place(net: Module, path: str, value: Module) -> None:
    above, _, leaf = path.rpartition(".")
    net.get_submodule(above).add_module(leaf, value)


def _parameter(net: Module, name: str, array: Any, _: Any) -> None:
    above, _, leaf = name.rpartition(".")
    net.get_submodule(above).register_parameter(leaf, Parameter(array))


def _buffer(net: Module, name: str, array: Any, module: Any) -> None:
    above, _, leaf = name.rpartition(".")
    persistent = name in module.state_dict()
    net.get_submodule(above).register_buffer(leaf, array, persistent)


def _plain(given: Any, fx: Any) -> Any:
    """Arguments with names in the places of fx's nodes; torch's own values as ours."""
    if isinstance(given, fx.Node):
        return _Value(given.name)
    if isinstance(given, (list, tuple)):
        return tuple(_plain(k, fx) for k in given)
    if isinstance(given, dict):
        return {key: _plain(k, fx) for key, k in given.items()}
    if isinstance(given, slice):
        return slice(*(_plain(k, fx) for k in (given.start, given.stop, given.step)))
    if type(given).__module__.partition(".")[0] == "torch":
        return str(given).removeprefix("torch.")
    return given


def _function(node: Any, title: str) -> Any:
    """Our function of the name of torch's, or Python's own."""
    target = node.target
    if node.op != "call_function":
        return target
    name = getattr(target, "__name__", str(target))
    if getattr(target, "__module__", "") in ("_operator", "builtins", "math"):
        return _OPERATORS.get(name, target)
    found = getattr(F, name, None) if name in F.__all__ else None
    if found is None:
        try:
            found = torch_names.find(name)
        except (AttributeError, AbsentError):
            raise ModelError(
                f"from_torch: expected functions that striate has; got torch's {name!r} in the "
                f"forward of {title}. Rewrite that step, or build the network with nn.Module."
            ) from None
    return found


# In place or not is the same for a step whose result has a name of its own.
_OPERATORS = {"iadd": operator.add, "imul": operator.mul, "isub": operator.sub}
_OPERATORS |= {"itruediv": operator.truediv}
