"""`striate explain`: the exact arithmetic of one activation."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Annotated, Any

import typer

from striate.cli.options import Backend, Background, Json, Model, print_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from striate.inspect.explain import Explanation
    from striate.nn.graph_module import GraphModule


def explain(
    model: Model,
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="A picture.", show_default=False)],
    layer: Annotated[
        str, typer.Option(metavar="NAME", help="The layer, as `striate summary` names it.")
    ],
    at: Annotated[
        str | None,
        typer.Option(
            metavar="O,I,J",
            help="The place in its output: channel, row, column (a number for a vector).",
            show_default="where the output is greatest",
        ),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Leave no term out.")] = False,
    background: Background = "auto",
    json: Json = False,
    backend: Backend = None,
) -> None:
    """Show the arithmetic behind one activation: patch, kernel, products, sum, bias, activation.

    The number is compared with the one that the network's machine code computed.

    \b
    Examples:
      striate explain striate-demo striate-demo/digits/7.png --layer conv1 --at 0,14,14
      striate explain runs/mnist photo.png --layer fc3 --json
    """
    from striate.cli.networks import open_model, read_for

    net = open_model(model)
    picture = read_for(net, image, background)
    found = explain_one(net, picture.array, layer, None if at is None else _place(at), backend)
    if json:
        print_json({"image": image, "conversion": picture.steps, **found.to_dict()})
        return
    typer.echo(f"{image}: {'; '.join(picture.steps)}\n")
    typer.echo(found.text(width=terminal_width(), full=full))


def terminal_width() -> int:
    """The columns to write in."""
    return max(60, shutil.get_terminal_size((100, 24)).columns)


def explain_one(
    net: GraphModule,
    image: NDArray[np.float32],
    layer: str,
    at: tuple[int, ...] | None = None,
    backend: str | None = None,
) -> Explanation:
    """The arithmetic of one number, with the values that the network's program computed.

    Args:
        net: the network.
        image: one image (c, h, w).
        layer: the name of a node.
        at: the place in its output; None takes that of the greatest value.
        backend: what computes the values.
    Raises:
        ModelError: there is no such layer.
        OptionError: the place is outside the layer's output.
    """
    import numpy as np

    from striate.errors import ModelError, suggest
    from striate.inspect.explain import explain, needed_values
    from striate.program import build_inference

    graph = net.graph
    layers = [node.name for node in graph.steps]
    if layer not in layers:
        raise ModelError(f"--layer: unknown layer {layer!r}. {suggest(layer, layers)}")
    source = graph.inputs[0].name
    names = [name for name in needed_values(graph, layer) if name != source]
    batch = image[np.newaxis]  # (1, c, h, w)
    parameters = net.state_dict()
    program = build_inference(graph, backend=backend)
    values: dict[str, Any] = dict(program.values(batch, parameters, names))
    values[source] = batch
    if at is None:
        output = values[layer][0]
        at = tuple(int(k) for k in np.unravel_index(int(output.argmax()), output.shape))
    return explain(graph, parameters, values, layer, at)


def _place(text: str) -> tuple[int, ...]:
    from striate.errors import OptionError

    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise OptionError(f"--at: expected whole numbers, as 0,14,14; got {text!r}.") from None
