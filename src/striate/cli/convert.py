"""`striate convert`: a model or its weights from one file format to another."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from striate.cli.options import Json, print_json

if TYPE_CHECKING:
    from striate.nn.module import Module

_LARGE = 64 << 20  # bytes from which on a word is said while one waits


def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A .safetensors, .pth, .pt, .onnx or .npz file.",
            show_default=False,
        ),
    ],
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET", help="The file to write; its end says how.", show_default=False
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="NAME|FILE.PY:CLASS",
            help="The network that weights belong to; makes a whole model of them.",
        ),
    ] = None,
    input_shape: Annotated[
        str | None,
        typer.Option("--input", metavar="C,H,W", help="The shape of one image, for --model."),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Which entry of a .pth file has the weights."),
    ] = None,
    json: Json = False,
) -> None:
    """Write a model, or its weights, to a file of another format.

    .safetensors and .onnx hold a network with its weights; .pth and .npz hold weights by name. To
    make a network of weights say which one with --model. Nothing in a .pth file is run.

    \b
    Examples:
      striate convert resnet18.pth weights.safetensors
      striate convert resnet18.pth net.onnx --model resnet18 --input 3,224,224
      striate convert striate-demo/model.safetensors weights.npz
    """
    from striate.cli.summary import shape_option
    from striate.formats.convert import convert as run

    shape = None if input_shape is None else shape_option(input_shape)
    if model is not None and shape is None:
        shape = (3, 224, 224)
    net = None if model is None else _builder(model, shape)
    with _progress(source) as report:
        done = run(source, target, net=net, input_shape=shape, key=key, progress=report)
    size = os.path.getsize(target)
    if json:
        print_json({**done._asdict(), "file": target, "bytes": size})
        return
    typer.echo(
        f"{target}: {'a network' if done.kind == 'network' else 'weights by name'}, "
        f"{done.arrays:,} arrays, {done.numbers:,} numbers, {size:,} bytes"
    )


def _builder(model: str, shape: Any) -> Callable[[Any], Module]:
    """What makes the network, with as many classes as the weights have."""

    def build(weights: Any) -> Module:
        from striate.cli.networks import new_network

        heads = [k for k in weights.values() if k.ndim == 2] or list(weights.values())
        sizes = dict.fromkeys((*(int(k.shape[0]) for k in reversed(heads) if k.ndim), 1000))
        for classes in sizes:
            net = new_network(model, classes=classes, channels=shape[0])
            own = net.state_dict()
            if all(own[name].shape == k.shape for name, k in weights.items() if name in own):
                break
        return net

    return build


@contextlib.contextmanager
def _progress(source: str) -> Iterator[Callable[[int, int], object] | None]:
    """Per cent on a terminal, one line elsewhere; nothing for a file that is read at once."""
    try:
        size = os.path.getsize(source)
    except OSError:
        size = 0
    if size < _LARGE:
        yield None
        return
    if not sys.stderr.isatty():
        print(f"reading {source}: {size / 1e6:,.0f} MB", file=sys.stderr, flush=True)
        yield None
        return
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress

    columns = (*Progress.get_default_columns()[:2], DownloadColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"reading {os.path.basename(source)}", total=size)
        yield lambda done, total: bar.update(task, completed=done, total=total)
