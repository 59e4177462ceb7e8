"""Module: the base of every layer and network, with torch.nn's names.

A module holds parameters and other modules as attributes and computes in `forward`. Called on a
NumPy array it is traced once for each shape and mode and runs as one program; called on a traced
tensor, inside another module's forward, it adds its operations to the graph.

Beside parameters it may hold buffers: arrays that belong to its state but that no optimiser
touches, such as the running statistics of batch norm. They are plain NumPy arrays.

It is not an autograd tensor library: `forward` is not run again for every batch.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple, TypeVar

import numpy as np

from striate.errors import AbsentError, ModelError, OptionError, ShapeError, suggest
from striate.graph.graph import Graph, Shape
from striate.nn.execution import Inference, Plan, as_batch
from striate.nn.parameter import Array, Float32, Parameter, as_float32
from striate.nn.trace import BATCH_COUNT, find_tracer, sample_shapes_of, trace

M = TypeVar("M", bound="Module")
_MOST_PLANS = 16
_HELD = ("_parameters", "_modules", "_buffers")
_HOOK = "striate.program.build_inference(net.to_graph(shape)).values gives what each layer gives."
_ABSENT = {
    "backward": "striate.fit trains a network, and striate.gradient differentiates any function.",
    "bfloat16": "networks compute in float32: leave it out.",
    "cuda": "networks run on the CPU: leave it out.",
    "double": "networks compute in float32; STRIATE_BACKEND=reference computes in float64.",
    "half": "networks compute in float32: leave it out.",
    "mps": "networks run on the CPU: leave it out.",
    "register_forward_hook": _HOOK,
    "register_full_backward_hook": "striate.gradient differentiates any function.",
    "zero_grad": "no gradients are kept between steps: striate.fit(net, data) does the loop.",
}
_WHERE_IT_IS = ("cpu", "channels_last", "contiguous_format")
_changes = itertools.count(1)


class _Structure:
    """Counts changes to any module: of an attribute (plans are traced anew) and of a mode."""

    version = 0
    modes = 0


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict` found different: empty where it is strict."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """Base class of layers and networks.

    Write a subclass with the layers as attributes and a `forward` of one tensor:

    >>> import numpy as np
    >>> from striate import nn
    >>> class Net(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.fc = nn.Linear(4, 2)
    ...     def forward(self, x):
    ...         return self.fc(x.flatten(1))
    >>> sorted(Net().state_dict())
    ['fc.bias', 'fc.weight']
    """

    # Whether forward adds one operation, which then bears the module's own path as its name.
    one_node = False
    training: bool
    _parameters: dict[str, Parameter | None]
    _modules: dict[str, Module | None]
    _buffers: dict[str, Array | None]
    _transient: set[str]  # the buffers that are no part of the state dict

    def __init__(self) -> None:
        for name, value in (
            ("training", True),
            ("_parameters", {}),
            ("_modules", {}),
            ("_buffers", {}),
            ("_transient", set()),
            ("_plans", OrderedDict()),
            ("_ready", None),
            ("_last_shape", None),
        ):
            object.__setattr__(self, name, value)

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        """The computation; a subclass writes it."""
        raise OptionError(
            f"{type(self).__name__}: expected a method forward(self, x); got none. "
            "Define what the module computes."
        )

    # ---- attributes --------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "training":
            object.__setattr__(self, name, bool(value))
            _Structure.modes = next(_changes)
            return
        if isinstance(value, Parameter):
            self.register_parameter(name, value)
        elif isinstance(value, Module):
            self.add_module(name, value)
        elif name in self.__dict__.get("_buffers", {}):
            self.register_buffer(name, value, name not in self._transient)
        else:
            self._set_other(name, value)
        _Structure.version = next(_changes)

    def _set_other(self, name: str, value: Any) -> None:
        for kind, held in (("parameter", "_parameters"), ("module", "_modules")):
            registered = self.__dict__.get(held, {})
            if name in registered:
                if value is not None:
                    raise OptionError(
                        f"{type(self).__name__}.{name}: expected a {kind} or None; got "
                        f"{type(value).__name__}. Write .{name}.data = array to change numbers, "
                        f"or wrap the array in nn.Parameter."
                    )
                registered[name] = None
                return
        object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        for held in _HELD:
            registered = self.__dict__.get(held, {})
            if name in registered:
                return registered[name]
        if name in _ABSENT:
            raise AbsentError(f"{type(self).__name__}: expected no .{name}; {_ABSENT[name]}")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __delattr__(self, name: str) -> None:
        for held in (self._parameters, self._modules, self._buffers):
            if name in held:
                del held[name]
                break
        else:
            object.__delattr__(self, name)
        _Structure.version = next(_changes)

    def __dir__(self) -> list[str]:
        held = (*self._parameters, *self._modules, *self._buffers)
        return sorted({*super().__dir__(), *held})

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter under a name; None keeps the name without one."""
        if param is not None and not isinstance(param, Parameter):
            raise OptionError(
                f"register_parameter: expected a Parameter or None; got {type(param).__name__}. "
                "Wrap the array in nn.Parameter."
            )
        self._register("_parameters", name, param)

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
        """Add an array that is part of the state but is not trained; None keeps the name.

        Args:
            name: the attribute that it becomes.
            tensor: numbers; kept as float32, whole numbers as int64.
            persistent: whether it is part of the state dict.
        """
        array = None if tensor is None else _buffer(tensor, f"register_buffer: {name}")
        self._register("_buffers", name, array)
        (self._transient.discard if persistent else self._transient.add)(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a module under a name; its parameters become part of this one's."""
        if module is not None and not isinstance(module, Module):
            raise OptionError(f"add_module: expected a Module; got {type(module).__name__}.")
        self._register("_modules", name, module)

    register_module = add_module

    def _register(self, held: str, name: str, value: Any) -> None:
        if held not in self.__dict__:
            raise OptionError(
                f"{type(self).__name__}.{name}: expected super().__init__() before the first "
                "layer or parameter is assigned; got none. Call it first in __init__."
            )
        if not isinstance(name, str) or not name or "." in name:
            raise OptionError(f"module: expected a name without dots; got {name!r}.")
        registered = self.__dict__[held]
        if name not in registered and hasattr(self, name):
            if name not in self.__dict__ and not self._holds(name):
                raise OptionError(
                    f"{type(self).__name__}: expected a name that is free; got {name!r}, which "
                    "modules have already. Choose another."
                )
        for other in (self.__dict__, self._parameters, self._modules, self._buffers):
            if other is not registered:
                other.pop(name, None)
        registered[name] = value
        _Structure.version = next(_changes)

    def _holds(self, name: str) -> bool:
        return any(name in self.__dict__.get(held, {}) for held in _HELD)

    # ---- walking -----------------------------------------------------------------------------

    def named_modules(
        self, memo: set[int] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """(path, module) of this module ("") and all below it; a shared one once."""
        memo = set() if memo is None else memo
        if id(self) in memo:
            return
        if remove_duplicate:
            memo.add(id(self))
        yield prefix, self
        for name, child in self._modules.items():
            if child is not None:
                path = f"{prefix}.{name}" if prefix else name
                yield from child.named_modules(memo, path, remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """This module and all below it, a shared one once."""
        for _, module in self.named_modules():
            yield module

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) of the modules directly below, a shared one once."""
        seen: set[int] = set()
        for name, child in self._modules.items():
            if child is not None and id(child) not in seen:
                seen.add(id(child))
                yield name, child

    def children(self) -> Iterator[Module]:
        """The modules directly below."""
        for _, child in self.named_children():
            yield child

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """(state-dict name, parameter), a shared one once unless asked otherwise."""
        return self._named(("_parameters",), prefix, recurse, remove_duplicate)

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Array]]:
        """(state-dict name, array) of the buffers, a shared one once unless asked otherwise."""
        return self._named(("_buffers",), prefix, recurse, remove_duplicate)

    def _named(
        self, kinds: Sequence[str], prefix: str, recurse: bool, remove_duplicate: bool
    ) -> Iterator[tuple[str, Any]]:
        """What modules hold of some kinds, module after module, each under its state-dict name."""
        seen: set[int] = set()
        walk = self.named_modules(None, prefix, remove_duplicate) if recurse else [(prefix, self)]
        for path, module in walk:
            for name, value in (k for kind in kinds for k in module.__dict__[kind].items()):
                if value is None or (remove_duplicate and id(value) in seen):
                    continue
                seen.add(id(value))
                yield (f"{path}.{name}" if path else name), value

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """The parameters of this module and of all below it, a shared one once."""
        for _, parameter in self.named_parameters(recurse=recurse):
            yield parameter

    def buffers(self, recurse: bool = True) -> Iterator[Array]:
        """The buffers of this module and of all below it, a shared one once."""
        for _, array in self.named_buffers(recurse=recurse):
            yield array

    def get_submodule(self, target: str) -> Module:
        """The module at a path ("features.3"); "" is this one."""
        known = dict(self.named_modules(remove_duplicate=False))
        if target not in known:
            raise OptionError(f"get_submodule: no module {target!r}. {suggest(target, known)}")
        return known[target]

    def get_parameter(self, target: str) -> Parameter:
        """The parameter with a state-dict name ("conv1.weight")."""
        known = dict(self.named_parameters(remove_duplicate=False))
        if target not in known:
            raise OptionError(f"get_parameter: no parameter {target!r}. {suggest(target, known)}")
        return known[target]

    def get_buffer(self, target: str) -> Array:
        """The buffer with a state-dict name ("bn1.running_mean")."""
        known = dict(self.named_buffers(remove_duplicate=False))
        if target not in known:
            raise OptionError(f"get_buffer: no buffer {target!r}. {suggest(target, known)}")
        return known[target]

    def apply(self: M, fn: Callable[[Module], Any]) -> M:
        """Call a function on every module below this one and on this one, e.g. to initialise."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    # ---- state -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Array]:
        """Every parameter's and buffer's array by torch's name.

        The arrays are the network's own storage: change one and the network changes. Copy them
        to keep them. What is shared stands under each of its names.
        """
        transient = {
            f"{path}.{name}" if path else name
            for path, module in self.named_modules(remove_duplicate=False)
            for name in module._transient
        }
        return {name: array for name, array in self.arrays().items() if name not in transient}

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True
    ) -> IncompatibleKeys:
        """Copy arrays into parameters and buffers of the same names; all or, on an error, none.

        Args:
            state_dict: name -> array, or anything NumPy can read, of the parameter's shape.
            strict: whether names that are missing or unknown are errors. (`num_batches_tracked`
                may be missing, as in checkpoints of old; constants that `save` wrote for the
                graph's sake, buffers outside the state dict, are left as they are.)
        Raises:
            ModelError: names are missing or unknown, or shapes differ; the message lists them.
        """
        own = self.state_dict()
        missing = [n for n in own if n not in state_dict and not n.endswith(BATCH_COUNT)]
        known = self.arrays()
        unexpected = [name for name in state_dict if name not in known]
        arrays = {
            name: _as_kind(value, own[name], f"load_state_dict: {name}")
            for name, value in state_dict.items()
            if name in own
        }
        faults = [
            f"{name} has shape {array.shape}, the network needs {own[name].shape}"
            for name, array in arrays.items()
            if array.shape != own[name].shape
        ]
        if strict and missing:
            faults.append(f"missing: {_listed(missing)}")
        if strict and unexpected:
            faults.append(f"unexpected: {_listed(unexpected)}")
        if faults:
            raise ModelError(
                f"load_state_dict: expected the parameters of {type(self).__name__}; got "
                f"{_listed(faults, '; ')}. Build the network with the sizes it was saved with"
                f"{'' if not strict else ', or pass strict=False to skip names'}."
            )
        for name, array in arrays.items():
            own[name][...] = array
        _Structure.version = next(_changes)  # a buffer may say what a graph looks like
        return IncompatibleKeys(missing, unexpected)

    def graph_arrays(self, graph: Graph) -> dict[str, Float32]:
        """The live arrays of the parameters and buffers that a graph of this network reads."""
        known = self.arrays()
        return {node.name: known[node.name] for node in graph.parameters}

    def arrays(self) -> dict[str, Array]:
        """The live arrays of all parameters and buffers, those outside the state dict included."""
        found = self._named(("_parameters", "_buffers"), "", recurse=True, remove_duplicate=False)
        return {name: k.data if isinstance(k, Parameter) else k for name, k in found}

    def train(self: M, mode: bool = True) -> M:
        """Set training mode here and below, also for a plain call.

        Dropout drops; batch norm takes the batch's statistics and keeps the running ones.
        """
        if not isinstance(mode, bool):
            raise OptionError(f"train: expected True or False; got mode={mode!r}.")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self: M) -> M:
        """Set evaluation mode here and below.

        Dropout is the identity; batch norm takes the running statistics.
        """
        return self.train(False)

    def to(self: M, *args: Any, **options: Any) -> M:
        """Itself: a network is float32 and on the CPU; anything else is refused."""
        for value in (*args, *options.values()):
            if str(value) not in _WHERE_IT_IS and value not in (np.float32, False, True, None):
                raise OptionError(
                    f"{type(self).__name__}.to: expected 'cpu' or float32, which a network always "
                    f"is; got {value!r}. Leave the call out."
                )
        return self

    cpu = float = to

    def requires_grad_(self: M, requires_grad: bool = True) -> M:
        """Itself: every parameter of a network is trained."""
        if not requires_grad:
            raise OptionError(
                f"{type(self).__name__}.requires_grad_: expected True, since all of a network is "
                "trained; got False. Run the frozen layers as a network of their own, and train "
                "on what they give."
            )
        return self

    # ---- calling -----------------------------------------------------------------------------

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        """Compute: a NumPy batch in gives a NumPy batch out; a traced tensor is traced.

        A network whose forward takes several tensors is called with as many batches of one size.
        Arrays of whole numbers, booleans and float64 are converted to float32; nothing is scaled.
        The batch may have any size, 0 included.

        Raises:
            ShapeError: the layers do not take this shape.
            TraceError: forward does something that a graph cannot hold.
        """
        plain = len(inputs) == 1 and type(inputs[0]) is np.ndarray and not keywords
        tracer = None if plain else find_tracer(inputs, keywords)
        if tracer is not None:
            return tracer.call(self, inputs, keywords)
        where = type(self).__name__
        if keywords or not inputs:
            raise OptionError(
                f"{where}: expected arrays by position, a batch for each input of forward; got "
                f"{len(inputs)} of them and keywords {list(keywords)}."
            )
        batches = [as_batch(x, where) for x in inputs]
        if len(batches) > 1 and len({len(x) for x in batches}) > 1:
            raise ShapeError(
                f"{where}: expected arrays with the same number of samples; got shapes "
                f"{', '.join(str(x.shape) for x in batches)}."
            )
        return self._plan(tuple(x.shape[1:] for x in batches)).run(*batches)

    def _plan(self, shapes: tuple[Shape, ...]) -> Plan:
        """The traced network for a per-sample shape of each input, in the present mode."""
        state = (_Structure.version, _Structure.modes, shapes)
        ready: tuple[Any, Plan] | None = self.__dict__["_ready"]
        if ready is not None and ready[0] == state:
            return ready[1]
        plan = self._find_plan(shapes)
        # After the trace: what forward itself assigns to the module must not outdate the plan.
        state = (_Structure.version, _Structure.modes, shapes)
        last = shapes[0] if len(shapes) == 1 else shapes
        self.__dict__.update(_ready=(state, plan), _last_shape=last)
        return plan

    def _find_plan(self, shapes: tuple[Shape, ...]) -> Plan:
        plans: OrderedDict[Any, tuple[int, Plan]] = self.__dict__["_plans"]
        require_sizes(type(self).__name__, shapes)
        key = (shapes, tuple(m.training for m in self.modules()))
        version, plan = plans.get(key, (-1, None))
        if plan is None or version != _Structure.version:
            plan = Plan(trace(self, shapes), plan)
        plans[key] = (_Structure.version, plan)
        plans.move_to_end(key)
        while len(plans) > _MOST_PLANS:
            plans.popitem(last=False)
        return plan

    def to_graph(self, input_shape: Any) -> Graph:
        """The network as a graph, traced in the present mode on samples of a shape.

        Args:
            input_shape: of one sample, without the batch axis: (1, 28, 28); for several inputs a
                list of shapes.
        """
        return self.plan(input_shape).graph.copy()

    def plan(self, input_shape: Any) -> Plan:
        """The traced network with its program, for samples of a shape in the present mode."""
        return self._plan(sample_shapes_of(input_shape))

    def program(self, input_shape: Any) -> Inference:
        """The built inference program for samples of a shape: what a call runs."""
        return self.plan(input_shape).inference

    @property
    def last_input_shape(self) -> Shape | tuple[Shape, ...] | None:
        """The per-sample shape that the network was last traced or called on; of several inputs
        a tuple of shapes."""
        shape: Shape | tuple[Shape, ...] | None = self.__dict__["_last_shape"]
        return shape

    @property
    def known_input_shape(self) -> tuple[Any, ...] | None:
        """The shape that the network was last traced or called on; else that which it says it is
        for, `input_shape`, as one does that was loaded or made from a pattern."""
        said: tuple[Any, ...] | None = getattr(self, "input_shape", None)
        return self.last_input_shape or said

    def to_torch(self, input_shape: Any = None) -> Any:
        """The same network as a `torch.nn.Module`; see `striate.torch_bridge.to_torch`.

        Args:
            input_shape: of one sample, where the network was never called.
        """
        # By name: the bridge stands on the floors above this one, and torch may be absent.
        return import_module("striate.torch_bridge").to_torch(self, input_shape)

    # ---- text --------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """What stands between the parentheses of the module's line."""
        return ""

    def _repr_name(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        extra = self.extra_repr().split("\n") if self.extra_repr() else []
        children = [
            f"({name}): " + repr(child).replace("\n", "\n  ")
            for name, child in self._modules.items()
        ]
        if not children and len(extra) <= 1:
            return f"{self._repr_name()}({''.join(extra)})"
        return f"{self._repr_name()}(\n  " + "\n  ".join(extra + children) + "\n)"

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles leave the built programs behind."""
        return {**self.__dict__, "_plans": OrderedDict(), "_ready": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


def require_sizes(where: str, shapes: Iterable[Shape]) -> None:
    """Refuse samples without numbers: only the batch may be empty."""
    for shape in shapes:
        if 0 in shape:
            raise ShapeError(
                f"{where}: expected an input whose axes all have a size of at least 1 (only the "
                f"batch may be empty); got shape={('N', *shape)}."
            )


def _buffer(value: Any, where: str) -> Array:
    """An array of the module's own: int64 of whole numbers, else float32."""
    array = np.asarray(value)
    if array.dtype.kind in "iu":
        return np.array(array, np.int64)
    return np.array(as_float32(value, where))


def _as_kind(value: Any, like: Array, where: str) -> Array:
    """`value` as an array of the dtype that `like` has."""
    if like.dtype == np.float32:
        return as_float32(value, where)
    array = np.asarray(value)
    if array.dtype.kind not in "iu":
        raise OptionError(
            f"{where}: expected whole numbers; got {type(value).__name__} of dtype={array.dtype}."
        )
    return np.array(array, np.int64)


def _listed(names: list[str], separator: str = ", ") -> str:
    shown = separator.join(names[:8])
    return f"{shown}{separator}and {len(names) - 8} more" if len(names) > 8 else shown
