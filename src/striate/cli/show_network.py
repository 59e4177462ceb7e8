"""`striate show network`: the graph of a network."""

from __future__ import annotations

from typing import Annotated

import typer

from striate.cli.interpret import write_figure
from striate.cli.show import Network, Shape, app


@app.command("network", short_help="The graph of a network, with its shapes.")
def network(
    model: Network,
    input_shape: Shape = None,
    out: Annotated[
        str, typer.Option(metavar="FILE", help="The picture to write: .svg, .png or .pdf.")
    ] = "network.svg",
    fold: Annotated[
        bool,
        typer.Option(
            "--fold/--no-fold",
            help="Draw a layer and the normalisation and activation after it as one box.",
        ),
    ] = True,
    names: Annotated[
        bool, typer.Option("--names/--no-names", help="Write the layers' names.")
    ] = True,
    columns: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Columns that a long drawing is cut into.",
            show_default="as its height asks for",
        ),
    ] = None,
) -> None:
    """Draw a network from top to bottom: branches side by side, shapes on the lines.

    \b
    Examples:
      striate show network resnet18
      striate show network net.onnx --out net.png --no-names
      striate show network net.py:Net --input 3,32,32 --no-fold
    """
    from striate import plot
    from striate.cli.networks import network_of
    from striate.cli.summary import shape_option

    net, shape = network_of(model, None if input_shape is None else shape_option(input_shape))
    figure = plot.network(net, shape, fold=fold, names=names, columns=columns, title=model)
    write_figure(figure, out)
