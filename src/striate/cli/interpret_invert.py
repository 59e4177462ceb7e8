"""`striate interpret invert`: what layers still know of an image."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from striate.cli.interpret import (
    Images,
    Normalize,
    Npy,
    app,
    open_subject,
    require_writable,
    write_figure,
    write_npy,
)
from striate.cli.interpret_maximize import (
    ColourData,
    Ground,
    Seed,
    as_pictures,
    colours_of,
    ground_of,
    image_limits,
)
from striate.cli.options import (
    Backend,
    Background,
    Json,
    Model,
    PictureFile,
    Threads,
    print_json,
    use_threads,
)

if TYPE_CHECKING:
    from striate.nn.graph_module import GraphModule

_MOST_LAYERS = 7  # that are taken where none is named: one row of the picture
_WEIGHTED = ("conv2d", "linear")


@app.command("invert", short_help="What layers still know of an image.")
def invert(
    model: Model,
    images: Images,
    layers: Annotated[
        list[str] | None,
        typer.Option(
            "--layer",
            metavar="NAME",
            help="A layer, as `striate summary` names it; may be repeated.",
            show_default="some convolutions, spread over the network",
        ),
    ] = None,
    steps: Annotated[int, typer.Option(metavar="N", min=1, help="Steps for each layer.")] = 400,
    lr: Annotated[float, typer.Option(metavar="R", min=0, help="Size of a step.")] = 0.05,
    tv: Annotated[
        float, typer.Option(metavar="W", min=0, help="Weight of the total variation: calmer.")
    ] = 0.0,
    norm: Annotated[
        float, typer.Option(metavar="W", min=0, help="Weight of the norm that bounds values.")
    ] = 0.0,
    alpha: Annotated[float, typer.Option(metavar="A", min=1, help="Its exponent.")] = 6.0,
    fourier: Annotated[
        bool, typer.Option("--fourier", help="Search by frequencies instead of pixels: smoother.")
    ] = False,
    data: ColourData = None,
    ground: Ground = "auto",
    background: Background = "auto",
    normalize: Normalize = "none",
    seed: Seed = 0,
    out: PictureFile = "invert.png",
    npy: Npy = None,
    json: Json = False,
    threads: Threads = None,
    backend: Backend = None,
) -> None:
    """Make images that layers cannot tell from the given ones: what is lost, they do not know.

    \b
    Examples:
      striate interpret invert striate-demo striate-demo/digits/7.png
      striate interpret invert net.onnx photo.jpg --layer conv1 --layer conv4 --tv 0.5
    """
    import numpy as np

    from striate.cli.progress import bar
    from striate.interpret import invert as solve
    from striate.plot import inverted

    use_threads(threads)
    require_writable(out, npy)
    subject = open_subject(model, images, background, normalize)
    low, high = image_limits(subject.net, normalize)
    centre = low + ground_of(subject.net, ground) * (high - low)
    colours = colours_of(data)
    names = layers or usual_layers(subject.net)
    found = []
    for name in names:
        with bar(f"inverting {name}") as progress:
            found.append(
                solve(
                    subject.net,
                    subject.images,
                    name,
                    steps=steps,
                    lr=lr,
                    limits=(low, high),
                    centre=centre,
                    tv=tv,
                    norm=norm,
                    alpha=alpha,
                    fourier=fourier,
                    colours=colours,
                    seed=seed,
                    progress=progress,
                    backend=backend,
                )
            )
        if not json:
            errors = ", ".join(f"{error:.3g}" for error in found[-1].errors)
            typer.echo(f"{name}: feature error {errors}")
    shown = [replace(one, images=as_pictures(one.images, low, high)) for one in found]
    write_figure(inverted(subject.shown, shown), out, quiet=json)
    if npy is not None:
        write_npy(np.stack([one.images for one in found]), npy, quiet=json)
    if json:
        rows = [{"layer": one.layer, "errors": one.errors.tolist()} for one in found]
        print_json({"images": images, "layers": rows, "picture": out, "npy": npy})


def usual_layers(net: GraphModule) -> list[str]:
    """Some layers with weights, from the first to the last."""
    import numpy as np

    from striate.errors import OptionError

    names = [node.name for node in net.graph.steps if node.op in _WEIGHTED]
    if not names:
        raise OptionError("--layer: expected a layer's name; the network has no convolution.")
    chosen = np.linspace(0, len(names) - 1, min(_MOST_LAYERS, len(names)))
    return [names[k] for k in np.unique(chosen.round().astype(int))]
