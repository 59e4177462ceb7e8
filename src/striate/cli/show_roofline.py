"""`striate show roofline`: each layer's speed under what the machine allows."""

from __future__ import annotations

from typing import Annotated

import typer

from striate.cli.interpret import write_figure
from striate.cli.options import Json, PictureFile, Threads, print_json, use_threads
from striate.cli.show import Network, Shape, app


@app.command("roofline", short_help="Each layer's speed, and what the machine allows.")
def roofline(
    model: Network,
    batch: Annotated[int, typer.Option("--batch", min=1, metavar="N", help="Images a call.")] = 1,
    threads: Threads = None,
    input_shape: Shape = None,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.0, metavar="S", help="To measure for, about.")
    ] = 2.0,
    out: PictureFile = "roofline.png",
    json: Json = False,
) -> None:
    """Time a network's layers and draw them under this machine's measured roof.

    \b
    Examples:
      striate show roofline resnet18 --threads 1
      striate show roofline net.onnx --batch 8 --json
    """
    from striate import plot
    from striate.cli.networks import network_of
    from striate.cli.summary import shape_option
    from striate.measure.roofline import roofline as measure

    use_threads(threads)
    net, shape = network_of(model, None if input_shape is None else shape_option(input_shape))
    found = measure(net, shape, batch=batch, seconds=seconds)
    write_figure(plot.roofline(found, title=f"Roofline of {model}"), out, quiet=json)
    if json:
        print_json({**found.to_dict(), "picture": out})
    else:
        typer.echo(found.text())
