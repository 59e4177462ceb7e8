"""Where an estimator's network comes from: a name, a pattern, a function, a module, or none given.

Also the small networks that are built where none is named.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable
from typing import Any

from striate import models, nn
from striate.errors import OptionError, suggest
from striate.settings import get_num_threads, within

Shape = tuple[int, ...]
Net = str | nn.Module | Callable[[Shape, int], nn.Module] | None

_HIDDEN, _WIDTHS, _LEAST_SIDE = 64, (16, 32, 64), 3


def make_net(net: Net, shape: Shape, outputs: int, seed: int, where: str) -> nn.Module:
    """A network of the estimator's own, with fresh parameters unless it is given as a module.

    Args:
        net: a name of `striate.models`, a pattern, a function of (shape, outputs), a module, which
            is copied with the parameters it has, or None.
        shape: of one sample, (features,) or (channels, height, width).
        outputs: how many numbers the network gives.
        seed: of the parameters.
        where: what the estimator is called in an error.
    Raises:
        OptionError: it is none of these, or the network has other outputs.
    """
    with within(seed=seed):
        made = _made(net, shape, outputs, where)
    if not isinstance(made, nn.Module):
        raise OptionError(
            f"{where}: expected net to give a striate.nn.Module; got {type(made).__name__}."
        )
    return made.eval()


def require_outputs(net: nn.Module, shape: Shape, outputs: int, where: str) -> None:
    """Refuse a network that does not give `outputs` numbers for a sample.

    Raises:
        OptionError, ShapeError: it does not, or does not take such samples.
    """
    graph = net.to_graph(shape)
    found = graph.only_output(where).shape
    if found != (outputs,):
        raise OptionError(
            f"{where}: expected a network with the output ({outputs},) for samples {shape}; got "
            f"{found}. Give its last layer {outputs} outputs."
        )


def _made(net: Net, shape: Shape, outputs: int, where: str) -> Any:
    if net is None:
        return small_net(shape, outputs)
    if isinstance(net, nn.Module):
        return copy.deepcopy(net)
    if isinstance(net, str):
        return _by_name(net, shape, outputs, where)
    if callable(net):
        return net(shape, outputs)
    raise OptionError(
        f"{where}: expected net as a name of striate.models, a module, a function of (shape, "
        f"outputs) or None; got {net!r}."
    )


def _by_name(name: str, shape: Shape, outputs: int, where: str) -> Any:
    if name in models.MODELS:
        channels = {} if shape[0] == models.usual_input(name)[0] else {"in_channels": shape[0]}
        if len(shape) != 3:
            raise OptionError(
                f"{where}: expected images for net={name!r}; got samples of {shape[0]} features. "
                "Give arrays (n, channels, height, width), or input_shape."
            )
        return models.build(name, num_classes=outputs, **channels)
    if "-" in name:
        return models.from_pattern(name, input=shape, classes=outputs)
    raise OptionError(f"{where}: unknown net {name!r}. {suggest(name, models.MODELS)}")


# ---- networks where none is named ------------------------------------------------------------


def small_net(shape: Shape, outputs: int) -> nn.Module:
    """A network for samples of a shape: of two hidden layers, or convolutional for images.

    Images go through stages of two 3×3 convolutions (16, 32, 64 channels), as many as leave maps
    of 3×3 or more, then the mean over each map and a linear layer.

    >>> small_net((1, 28, 28), 10).to_graph((1, 28, 28)).outputs
    ('23',)
    """
    if len(shape) == 1:
        return nn.Sequential(
            nn.Linear(shape[0], _HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, _HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, outputs),
        )
    fits = int(math.log2(max(min(shape[1:]) / _LEAST_SIDE, 1)))
    layers: list[nn.Module] = []
    before = shape[0]
    for width in _WIDTHS[: max(fits, 1)]:
        for channels in (before, width):
            layers += [
                nn.Conv2d(channels, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
        layers += [nn.MaxPool2d(2)] if fits else []
        before = width
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, outputs)]
    return nn.Sequential(*layers)


# ---- threads ---------------------------------------------------------------------------------


def thread_count(n_jobs: int | None) -> int:
    """The threads that an estimator runs on.

    Args:
        n_jobs: a number; negative ones count down from all cores, as in scikit-learn; None takes
            the package's own number, or fewer where joblib has shared out the cores.
    """
    if n_jobs is not None:
        from joblib import effective_n_jobs

        return max(1, int(effective_n_jobs(n_jobs)))
    share = os.environ.get("OMP_NUM_THREADS", "")  # joblib's workers are told theirs this way
    return (
        min(get_num_threads(), int(share))
        if share.isdecimal() and int(share)
        else (get_num_threads())
    )
