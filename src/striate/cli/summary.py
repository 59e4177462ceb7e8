"""`striate summary`: a network as a table."""

from __future__ import annotations

from typing import Annotated

import typer

from striate.cli.explain import terminal_width
from striate.cli.options import Json, print_json


def summary(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A network's name (lenet5), a pattern (conv-relu-pool-softmax), file.py:Class, "
            "a model file, or a training's folder.",
            show_default=False,
        ),
    ],
    input_shape: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="C,H,W",
            help="The shape of one image.",
            show_default="the model's own or usual one, else 1,28,28",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Show shapes, costs, receptive fields, and rows that a stride never reaches.

    The wider the terminal, the more columns there are; --json has all of them.

    \b
    Examples:
      striate summary resnet18
      striate summary "[(conv-relu)*2-pool]*3-(fc-relu)*1-softmax" --input 3,32,32
      striate summary net.py:Net --input 3,32,32
      striate summary striate-demo
    """
    from striate.cli.networks import is_new_network, new_network, open_model, usual_shape
    from striate.inspect.summary import summary as summarize

    shape = None if input_shape is None else shape_option(input_shape)
    if is_new_network(model):
        shape = shape or usual_shape(model)
        net = new_network(model, channels=shape[0], size=shape[1:]).eval()
        found = summarize(net, shape)
    else:
        found = summarize(open_model(model, what="lenet5, file.py:Class or "), shape)
    if json:
        print_json(found.to_dict())
    else:
        typer.echo(found.text(terminal_width()))


def shape_option(text: str) -> tuple[int, ...]:
    """The value of --input, "3,224,224", as a shape."""
    from striate.errors import OptionError

    try:
        shape = tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise OptionError(f"--input: expected the shape of one image, as 1,28,28; got {text!r}.")
    return shape
