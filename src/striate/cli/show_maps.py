"""`striate show maps`: what each layer makes of a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from striate.cli.interpret import Normalize, open_subject, write_figure, write_npy
from striate.cli.options import Backend, Background, Json, Model, PictureFile, print_json
from striate.cli.show import Layers, app

if TYPE_CHECKING:
    from striate.graph.graph import Node
    from striate.inspect.probe import Probe

_MOST = 8


@app.command("maps", short_help="What each layer makes of a picture.")
def maps(
    model: Model,
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="A picture.", show_default=False)],
    layers: Layers = None,
    out: PictureFile = "maps.png",
    npy: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write one layer's maps, as .npy.", show_default=False),
    ] = None,
    background: Background = "auto",
    normalize: Normalize = "none",
    json: Json = False,
    backend: Backend = None,
) -> None:
    """Draw the feature maps of a picture; by default of layers spread over the network.

    \b
    Examples:
      striate show maps striate-demo striate-demo/digits/7.png
      striate show maps resnet.onnx cat.jpg --normalize imagenet --layer maxpool --npy maps.npy
    """
    from striate import plot
    from striate.errors import OptionError

    subject = open_subject(model, [image], background, normalize)
    probe = subject.probe("show maps", backend)
    chosen = [probe.layer(name).name for name in layers] if layers else _spread(probe)
    drawn = {n: v[0] for n, v in probe.values(subject.images, chosen).items()}
    for name in chosen:
        if drawn[name].ndim not in (1, 3):
            raise OptionError(
                f"--layer: expected an output (c, h, w) or (k,); that of {name!r} has shape "
                f"{drawn[name].shape}."
            )
    if npy is not None and len(chosen) != 1:
        raise OptionError(f"--npy: expected one layer; got {len(chosen)}: {', '.join(chosen)}.")
    classes = subject.names if chosen[-1] == probe.output else None
    figure = plot.feature_maps(
        subject.shown[0], {name: drawn[name] for name in chosen}, classes=classes
    )
    write_figure(figure, out, quiet=json)
    if npy is not None:
        write_npy(drawn[chosen[0]], npy, quiet=json)
    rows: list[dict[str, Any]] = [
        {
            "layer": name,
            "shape": list(drawn[name].shape),
            "least": float(drawn[name].min()),
            "greatest": float(drawn[name].max()),
            "zeros": float((drawn[name] == 0).mean()),
        }
        for name in chosen
    ]
    if json:
        print_json({"image": image, "conversion": subject.pictures[0].steps, "layers": rows})
        return
    for row in rows:
        size = "×".join(map(str, row["shape"]))
        typer.echo(
            f"{row['layer']}: {size}, {row['least']:.4g} … {row['greatest']:.4g}, "
            f"{100 * row['zeros']:.1f} % zeros"
        )


def _spread(probe: Probe) -> list[str]:
    """Some layers, evenly over the network, one for each that something is fused into."""
    nodes = [node for node in probe.graph.steps if _ends(probe, node)]
    if len(nodes) > _MOST:
        nodes = [nodes[round(k * (len(nodes) - 1) / (_MOST - 1))] for k in range(_MOST)]
    return [node.name for node in nodes]


def _ends(probe: Probe, node: Node) -> bool:
    """Whether a layer is drawn: it computes, and no activation or normalisation follows it."""
    if node.op in ("reshape", "dropout", "pad") or len(node.shape) not in (1, 3):
        return False
    after = probe.graph.consumers(node.name)
    return not (len(after) == 1 and after[0].op in ("map", "batch_norm"))
