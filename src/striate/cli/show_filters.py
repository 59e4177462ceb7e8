"""`striate show filters` and `striate show activations`: kernels, and scalar functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from striate.cli.interpret import write_figure, write_npy
from striate.cli.options import PictureFile
from striate.cli.show import Layers, Network, Shape, app

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from striate.nn.module import Module

_SMALLEST = 2  # kernels of 1×1 are no pictures


@app.command("filters", short_help="The kernels of convolutions.")
def filters(
    model: Network,
    layers: Layers = None,
    colour: Annotated[
        bool, typer.Option("--colour", help="Kernels of three input channels as colours.")
    ] = False,
    most: Annotated[int, typer.Option(metavar="N", min=1, help="Filters of a layer.")] = 24,
    channels: Annotated[
        int, typer.Option(metavar="N", min=1, help="Input channels of a filter.")
    ] = 8,
    input_shape: Shape = None,
    out: PictureFile = "filters.png",
    npy: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Write one layer's kernels, as .npy.", show_default=False
        ),
    ] = None,
) -> None:
    """Draw the kernels of convolutions, red above 0 and blue below; by default of the first.

    \b
    Examples:
      striate show filters striate-demo
      striate show filters alexnet.safetensors --colour --most 64
      striate show filters net.onnx --layer layer1.0.conv1 --layer layer2.0.conv1 --out f.pdf
    """
    from striate import plot
    from striate.cli.networks import network_of
    from striate.cli.summary import shape_option
    from striate.errors import OptionError

    net, shape = network_of(model, None if input_shape is None else shape_option(input_shape))
    chosen = _kernels(net, shape, layers)
    if npy is not None and len(chosen) != 1:
        raise OptionError(f"--npy: expected one layer; got {len(chosen)}: {', '.join(chosen)}.")
    figure = plot.filters(chosen, most_filters=most, most_channels=channels, colour=colour)
    write_figure(figure, out)
    if npy is not None:
        write_npy(next(iter(chosen.values())), npy)
    for name, kernels in chosen.items():
        count, of, h, w = kernels.shape
        typer.echo(f"{name}: {count} filters {h}×{w} of {of} channel{'s' if of != 1 else ''}")


def _kernels(
    net: Module, shape: tuple[int, ...], layers: list[str] | None
) -> dict[str, NDArray[np.float32]]:
    """The weights (filters, channels, kh, kw) of the layers asked for, by name."""
    import numpy as np

    from striate.errors import ModelError, OptionError, suggest
    from striate.inspect.probe import Probe

    probe = Probe(net, shape, "show filters")
    found = {
        node.name: np.asarray(probe.parameters[node.inputs[1]])
        for node in probe.graph.steps
        if node.op.startswith("conv") and len(node.inputs) > 1
        and node.inputs[1] in probe.parameters
    }  # fmt: skip
    found = {name: kernels for name, kernels in found.items() if kernels.ndim == 4}
    for name in layers or ():
        if name not in found:
            raise ModelError(f"--layer: unknown convolution {name!r}. {suggest(name, found)}")
    chosen = layers or [n for n, k in found.items() if max(k.shape[2:]) >= _SMALLEST][:1]
    if not chosen:
        raise OptionError(
            "show filters: expected a network with a convolution over images, with kernels larger "
            "than 1×1; this one has none. Name one with --layer."
        )
    return {name: found[name] for name in chosen}


@app.command("activations", short_help="Activation functions and their derivatives.")
def activations(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="As relu, gelu; by default all."),
    ] = None,
    out: PictureFile = "activations.png",
) -> None:
    """Draw activation functions in blue and their derivatives in orange.

    \b
    Examples:
      striate show activations
      striate show activations relu gelu silu mish --out smooth.svg
    """
    from striate import plot

    write_figure(plot.activations(names or None), out)
