"""What the families share: how first weights are drawn, constructors by name, weights from a file.

Not the layers' own initialisation, which `nn` has; and nothing is downloaded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from striate import nn
from striate.errors import OptionError
from striate.nn import init


def kaiming_fan_out(net: nn.Module) -> None:
    """Convolutions from `N(0, 2/fan_out)` with no bias at first, as for ReLU networks.

    Args:
        net: the network; its other layers stay as they are.
    Source: He, Zhang, Ren, Sun, Delving Deep into Rectifiers, arXiv:1502.01852.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                init.zeros_(module.bias)


def normal_linear(net: nn.Module, std: float) -> None:
    """Fully connected layers from `N(0, std²)`, with no bias at first."""
    for module in net.modules():
        if isinstance(module, nn.Linear):
            init.normal_(module.weight, 0.0, std)
            if module.bias is not None:
                init.zeros_(module.bias)


def truncated_normal(net: nn.Module, std: float) -> None:
    """Convolutions and fully connected layers from `N(0, std²)` cut at ±2; biases stay."""
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            init.trunc_normal_(module.weight, std=std)


def constructor(
    name: str, text: str, make: Callable[..., nn.Module], without: tuple[str, ...] = ()
) -> Callable[..., Any]:
    """The function that makes one network of a family, called as torchvision's is.

    Args:
        name: the function's.
        text: the first line of its documentation.
        make: makes the network from options.
        without: beginnings of names that a file of weights may have and the network may lack.
    Returns:
        `name(*, weights=None, progress=True, **options)`; sizes without a name are passed on.

    >>> tiny = constructor("tiny", "A layer.", lambda k=1: nn.Linear(k, k))
    >>> tiny(k=3), tiny.__name__
    (Linear(in_features=3, out_features=3, bias=True), 'tiny')
    """

    def build(*sizes: Any, weights: Any = None, progress: bool = True, **options: Any) -> Any:
        _require_file(name, weights)
        try:
            net = make(*sizes, **options)
        except TypeError as error:
            if "argument" not in str(error):
                raise
            told = str(error).partition("() ")[2]
            raise OptionError(f"{name}: expected options of the network; {told}.") from None
        if weights is not None:
            load_weights(net, weights, without)
        return net

    build.__name__ = build.__qualname__ = name
    build.__doc__ = (
        f"{text}\n\n"
        "Args:\n"
        "    weights: a file to load by name (safetensors, .pth); fresh weights where None.\n"
        "    progress: there for torchvision's sake; nothing is downloaded.\n"
        "    options: what the class takes.\n"
    )
    return build


def _require_file(name: str, weights: Any) -> None:
    path = isinstance(weights, (str, os.PathLike)) and os.path.splitext(weights)[1]
    if weights is not None and not path:
        raise OptionError(
            f"{name}: expected weights=None or a file of weights; got {weights!r}. striate "
            "downloads nothing: fetch the checkpoint and give its path."
        )


def load_weights(net: nn.Module, path: Any, without: tuple[str, ...] = ()) -> None:
    """Copy the weights in a file into a network, by name; all or, on an error, none.

    Args:
        net: the network.
        path: a safetensors file, or a torch checkpoint (.pth, .pt), with torch's names.
        without: beginnings of names that are passed over where the network has none such.
    Raises:
        ModelError: no such file, or its names and shapes are not the network's.
    """
    from striate.formats.safetensors_file import load_tensors
    from striate.formats.torch_file import load_torch

    torch = os.fspath(path).lower().endswith((".pth", ".pt"))
    tensors: Mapping[str, Any] = load_torch(path) if torch else load_tensors(path)[0]
    own = net.state_dict()
    dropped = [k for k in without if not any(name.startswith(k) for name in own)]
    kept = {k: v for k, v in tensors.items() if not k.startswith(tuple(dropped))}
    net.load_state_dict(kept)
