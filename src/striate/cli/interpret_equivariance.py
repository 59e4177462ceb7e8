"""`striate interpret equivariance`: do layers follow a transform, and do they change?"""

from __future__ import annotations

from typing import Annotated

import typer

from striate.cli.interpret import Images, Normalize, app, open_subject, write_figure
from striate.cli.options import Backend, Background, Json, Model, PictureFile, print_json
from striate.cli.show import Layers

_AMOUNTS = {"shift": "0,1,2,4", "rotate": "0,5,15,45,90", "scale": "0.8,0.9,1,1.1,1.25",
            "brighten": "-0.5,-0.25,0,0.25,0.5"}  # fmt: skip


@app.command("equivariance", short_help="Do layers follow a shift, a rotation …?")
def equivariance(
    model: Model,
    images: Images,
    transform: Annotated[
        str, typer.Option(metavar="shift|rotate|scale|brighten", help="What is done to images.")
    ] = "shift",
    amounts: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,…",
            help="How much: pixels, degrees, factors, or shares of the brightness.",
            show_default="; ".join(f"{name} {text}" for name, text in _AMOUNTS.items()),
        ),
    ] = None,
    layers: Layers = None,
    direction: Annotated[
        str,
        typer.Option(
            metavar="ROWS,COLUMNS", help="Of a shift by 1: down and to the right, in pixels."
        ),
    ] = "0,1",
    outside: Annotated[
        str,
        typer.Option(metavar="edge|wrap|zero|reflect", help="What comes in from outside images."),
    ] = "edge",
    inner: Annotated[
        bool,
        typer.Option("--inner", help="Leave out places that look beyond the image's borders."),
    ] = False,
    out: PictureFile = "equivariance.png",
    background: Background = "auto",
    normalize: Normalize = "none",
    json: Json = False,
    backend: Backend = None,
) -> None:
    """Measure how far each layer's response follows a transform, and how much it changes.

    0 follows exactly, or does not change; 1 is what unrelated images give (the other images, or
    for a single one the image with random phases).

    \b
    Examples:
      striate interpret equivariance striate-demo striate-demo/digits/7.png
      striate interpret equivariance net.onnx a.jpg b.jpg --transform rotate --amounts 0,10,90
    """
    from striate import plot
    from striate.interpret import equivariance as measure

    subject = open_subject(model, images, background, normalize)
    found = measure(
        subject.net, subject.images, transform=transform,
        amounts=_numbers("--amounts", amounts or _AMOUNTS.get(transform, "0,1")),
        layers=layers or None, direction=_pair(direction), outside=outside, borders=not inner,
        backend=backend,
    )  # fmt: skip
    write_figure(plot.equivariance(found, subject.shown[0]), out, quiet=json)
    if json:
        print_json({**found.to_dict(), "files": images, "picture": out})
    else:
        typer.echo(found.text())


def _numbers(option: str, text: str) -> list[float]:
    from striate.errors import OptionError

    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise OptionError(f"{option}: expected numbers, as 0,1,2.5; got {text!r}.") from None


def _pair(text: str) -> tuple[float, float]:
    from striate.errors import OptionError

    found = _numbers("--direction", text)
    if len(found) != 2:
        raise OptionError(f"--direction: expected two numbers, as 0,1; got {text!r}.")
    return found[0], found[1]
