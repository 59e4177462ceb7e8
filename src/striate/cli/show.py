"""`striate show`: pictures of a network and of what happens in it.

Here is what its commands share; each is in a module of its own, `show_filters` and its like.
"""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    help="Draw a network and what happens in it.",
    no_args_is_help=False,
    rich_markup_mode=None,
    invoke_without_command=True,
)

Network = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A model file (.safetensors, .onnx), a training's folder, a network's name "
        "(resnet18) or file.py:Class.",
        show_default=False,
    ),
]
Shape = Annotated[
    str | None,
    typer.Option(
        "--input",
        metavar="C,H,W",
        help="The shape of one image.",
        show_default="the model's own or usual one",
    ),
]
Layers = Annotated[
    list[str] | None,
    typer.Option(
        "--layer",
        metavar="NAME",
        help="A layer, as `striate summary` names it; may be given several times.",
        show_default=False,
    ),
]


@app.callback(invoke_without_command=True)
def show(ctx: typer.Context) -> None:
    """Draw a network and what happens in it: filters, feature maps, costs, the graph."""
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
