"""`striate interpret gabor`: a layer's filters as Gabor functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from striate.cli.interpret import app, require_writable, write_figure
from striate.cli.options import Json, Model, PictureFile, print_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from striate.nn.graph_module import GraphModule

_CHANNELS = ("mean", "each")
_SMALLEST = 4


@app.command("gabor", short_help="A layer's filters as Gabor functions.")
def gabor(
    model: Model,
    layer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The convolution, as `striate summary` names it.",
            show_default=f"the first with kernels of {_SMALLEST}×{_SMALLEST} or more",
        ),
    ] = None,
    channels: Annotated[
        str,
        typer.Option(
            metavar="mean|each",
            help="Fit each filter's mean over its input channels, or every channel by itself.",
        ),
    ] = "mean",
    starts: Annotated[
        int, typer.Option(metavar="N", min=1, help="Starts of the search for each filter.")
    ] = 4,
    most: Annotated[int, typer.Option(metavar="N", min=1, help="Filters that are drawn.")] = 24,
    out: PictureFile = "gabor.png",
    json: Json = False,
) -> None:
    """Fit Gabor functions to a layer's filters: orientation, frequency, phase, and how well.

    \b
    Examples:
      striate interpret gabor striate-demo
      striate interpret gabor alexnet.safetensors --layer features.0 --json
    """
    import numpy as np

    from striate.cli.networks import open_model
    from striate.errors import OptionError, suggest
    from striate.interpret import fit_gabor
    from striate.plot import gabor_fit

    require_writable(out)
    if channels not in _CHANNELS:
        raise OptionError(f"--channels: unknown {channels!r}. {suggest(channels, _CHANNELS)}")
    name, kernels = _kernels(open_model(model), layer)
    fit = fit_gabor(kernels.mean(axis=1) if channels == "mean" else kernels, starts=starts)
    write_figure(gabor_fit(fit, most=most, title=f"Filters of {name}"), out, quiet=json)
    rows = fit.to_dict()
    if json:
        print_json({"layer": name, "channels": channels, "filters": rows, "picture": out})
        return
    known = fit.r2[~np.isnan(fit.r2)]
    said = f"median R² {np.median(known):.3f}" if known.size else "all of them constant"
    typer.echo(f"{name}: {fit.r2.size} filters {kernels.shape[2]}×{kernels.shape[3]}, {said}")
    typer.echo("       R²  alpha  beta_x  beta_y      f  phase     x0     y0   tau")
    for k, row in enumerate(rows):
        value = {key: float("nan") if v is None else v for key, v in row.items()}
        typer.echo(
            f"{k:4d} {value['r2']:5.2f} {value['alpha']:6.3g} {value['beta_x']:7.3f} "
            f"{value['beta_y']:7.3f} {value['f']:6.3f} {value['phi']:6.2f} {value['x0']:6.2f} "
            f"{value['y0']:6.2f} {np.degrees(value['tau']):4.0f}°"
        )


def _kernels(net: GraphModule, layer: str | None) -> tuple[str, NDArray[np.float32]]:
    """The weights (filters, channels, kh, kw) of a convolution, and its name."""
    from striate.errors import ModelError, OptionError, suggest

    arrays = net.state_dict()
    found = {
        node.name: arrays[node.inputs[1]]
        for node in net.graph.steps
        if node.op == "conv2d" and node.inputs[1] in arrays
    }
    if layer is not None and layer not in found:
        raise ModelError(f"--layer: unknown convolution {layer!r}. {suggest(layer, found)}")
    for name, weight in found.items():
        if name == layer or (layer is None and min(weight.shape[2:]) >= _SMALLEST):
            return name, weight
    raise OptionError(
        f"--layer: expected a convolution with kernels of at least {_SMALLEST}×{_SMALLEST}, for a "
        "Gabor function has eight parameters; the network has none. Name one for its shape."
    )
