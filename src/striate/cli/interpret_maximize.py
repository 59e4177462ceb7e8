"""`striate interpret maximize`: images that drive units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from striate.cli.interpret import (
    Normalize,
    Npy,
    app,
    require_writable,
    scaled,
    write_figure,
    write_npy,
)
from striate.cli.options import Backend, Json, Model, PictureFile, Threads, print_json, use_threads

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from striate.nn.graph_module import GraphModule

MOST_UNITS = 16  # that are taken where none are named
Seed = Annotated[int, typer.Option(metavar="N", min=0, help="Of the noise and the shifts.")]
Ground = Annotated[
    str,
    typer.Option(
        metavar="auto|dark|light|grey",
        help="The image without structure, about which it begins; auto asks the model file.",
    ),
]
ColourData = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="NAME|FOLDER",
        help="Colour pictures whose colours the images shall have.",
        show_default=False,
    ),
]
_GROUNDS = {"dark": 0.0, "light": 1.0, "grey": 0.5}
_COLOUR_SAMPLES = 512


@app.command("maximize", short_help="Images that drive units.")
def maximize(
    model: Model,
    units: Annotated[
        list[str] | None,
        typer.Option(
            "--unit",
            metavar="N|A-B|C,I,J|NAME",
            help="A channel (its mean), a range of them, a place, or a class; may be repeated.",
            show_default=f"the first {MOST_UNITS}",
        ),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The layer that the units are in, as `striate summary` names it.",
            show_default="the scores, before a last softmax",
        ),
    ] = None,
    steps: Annotated[int, typer.Option(metavar="N", min=1, help="Steps of the climb.")] = 256,
    lr: Annotated[float, typer.Option(metavar="R", min=0, help="Size of a step.")] = 0.05,
    tv: Annotated[
        float, typer.Option(metavar="W", min=0, help="Weight of the total variation: calmer.")
    ] = 0.0,
    l2: Annotated[
        float, typer.Option(metavar="W", min=0, help="Weight of the distance from the ground.")
    ] = 0.0,
    blur: Annotated[
        float, typer.Option(metavar="PIXELS", min=0, help="Blur after every fourth step.")
    ] = 0.0,
    jitter: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS",
            min=0,
            help="Random shift before each step.",
            show_default="an eighth of the image",
        ),
    ] = None,
    pixels: Annotated[
        bool, typer.Option("--pixels", help="Climb by pixels instead of frequencies.")
    ] = False,
    data: ColourData = None,
    ground: Ground = "auto",
    normalize: Normalize = "none",
    seed: Seed = 0,
    out: PictureFile = "maximize.png",
    npy: Npy = None,
    json: Json = False,
    threads: Threads = None,
    backend: Backend = None,
) -> None:
    """Make images that drive units as far as they go, by climbing the unit's gradient.

    The images are held back from noise by their space (frequencies scaled by 1/f), by shifts, and
    by what --tv, --l2 and --blur ask for.

    \b
    Examples:
      striate interpret maximize striate-demo
      striate interpret maximize runs/cifar --data cifar10 --tv 50 --out classes.png
      striate interpret maximize runs/cifar --layer 2.first.conv --unit 0-11 --unit 20
    """
    from striate.cli.networks import open_model
    from striate.cli.progress import bar
    from striate.interpret import maximize as climb
    from striate.plot import maximized

    use_threads(threads)
    require_writable(out, npy)
    net = open_model(model)
    low, high = image_limits(net, normalize)
    layer, chosen, names = _units(net, units or [], layer)
    with bar("climbing") as progress:
        found = climb(
            net,
            layer,
            chosen,
            steps=steps,
            lr=lr,
            limits=(low, high),
            centre=low + ground_of(net, ground) * (high - low),
            fourier=not pixels,
            colours=colours_of(data),
            jitter=jitter,
            blur=blur,
            l2=l2,
            tv=tv,
            seed=seed,
            progress=progress,
            backend=backend,
        )
    shown = _replaced(found, as_pictures(found.images, low, high))
    write_figure(maximized(shown, names=names, under=f"layer {layer}"), out, quiet=json)
    if npy is not None:
        write_npy(found.images, npy, quiet=json)
    scores = [
        {"unit": name, "score": float(score), "first": float(course[0]), "stuck": bool(stuck)}
        for name, score, course, stuck in zip(
            names, found.scores, found.course, found.stuck, strict=True
        )
    ]
    if json:
        print_json({"layer": layer, "units": scores, "picture": out, "npy": npy})
        return
    for one in scores:
        ending = "; no gradient reaches the image: try another --seed" if one["stuck"] else ""
        typer.echo(f"{layer} {one['unit']}: {one['first']:.4g} → {one['score']:.4g}{ending}")


def image_limits(
    net: GraphModule, normalize: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The lowest and highest value of each channel as the network takes them, (c,) each."""
    import numpy as np

    from striate.errors import ModelError

    if len(net.input_shape) != 3:
        raise ModelError(f"expected a network for images (c, h, w); got one for {net.input_shape}.")
    channels = net.input_shape[0]
    low, high = (
        scaled(np.full((1, channels, 1, 1), value, np.float32), normalize).reshape(channels)
        for value in (0.0, 1.0)
    )
    return low, high


def ground_of(net: GraphModule, ground: str) -> float:
    """The image without structure as a pixel value in 0…1."""
    from striate.errors import OptionError, suggest

    if ground == "auto":
        return _GROUNDS.get(str(net.notes.get("background")), 0.5)
    if ground not in _GROUNDS:
        raise OptionError(f"--ground: unknown {ground!r}. {suggest(ground, ('auto', *_GROUNDS))}")
    return _GROUNDS[ground]


def as_pictures(
    images: NDArray[np.float32], low: NDArray[np.float32], high: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Images as a network takes them as pictures in 0…1."""
    import numpy as np

    wide = (1, -1, 1, 1)
    return np.clip((images - low.reshape(wide)) / (high - low).reshape(wide), 0, 1)


def _replaced(found: Any, images: NDArray[np.float32]) -> Any:
    from dataclasses import replace

    return replace(found, images=images)


def _units(
    net: GraphModule, texts: list[str], layer: str | None
) -> tuple[str, list[Any], list[str]]:
    """The layer, its units as `maximize` takes them, and their names."""
    from striate.cli.networks import class_names
    from striate.inspect.probe import Probe
    from striate.interpret.target import scores_layer

    probe = Probe(net, net.input_shape, "interpret maximize")
    scores = scores_layer(probe.graph)
    layer = scores if layer is None else probe.layer(layer).name
    count = probe.graph.nodes[layer].shape[0]
    classes = class_names(net, count) if layer == scores else ()
    if not texts:
        texts = [str(k) for k in range(min(count, MOST_UNITS))]
    units = [unit for text in texts for unit in _unit(text, classes, count, layer)]
    return layer, units, [_name(unit, classes) for unit in units]


def _unit(text: str, classes: tuple[str, ...], count: int, layer: str) -> list[Any]:
    """One value of --unit: a class by name or number, a range, or a place."""
    from striate.errors import OptionError, suggest

    if text in classes:
        return [classes.index(text)]
    try:
        if "," in text:
            return [tuple(int(part) for part in text.split(","))]
        first, _, last = text.partition("-")
        found = list(range(int(first), int(last or first) + 1))
    except ValueError:
        found = []
    if not found:
        known = f" {suggest(text, classes)}" if classes else ""
        raise OptionError(
            f"--unit: expected a channel, a range as 0-7, or a place as 3,0,2; got {text!r}.{known}"
        )
    if not 0 <= found[0] <= found[-1] < count:
        raise OptionError(f"--unit: expected 0…{count - 1} in {layer!r}; got {text}.")
    return found


def _name(unit: Any, classes: tuple[str, ...]) -> str:
    from striate.plot.made import unit_name

    return classes[unit] if isinstance(unit, int) and classes else unit_name(unit)


def colours_of(data: str | None) -> NDArray[np.float32] | None:
    """The colours of some pictures of a data set, spread over all; None without one."""
    if data is None:
        return None
    import numpy as np

    from striate.data.named import load
    from striate.interpret import colour_root

    source = load(data)[0]
    rows = np.linspace(0, len(source) - 1, min(_COLOUR_SAMPLES, len(source))).astype(np.int64)
    return colour_root(source.batch(rows)[0])
