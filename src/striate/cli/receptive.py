"""`striate receptive`: where the units of a network look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from striate.cli.compare import read_images
from striate.cli.explain import terminal_width
from striate.cli.interpret import Normalize, scaled, write_figure, write_npy
from striate.cli.options import Backend, Json, place_option, print_json
from striate.cli.show import Network, Shape

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from striate.inspect.regions import Region
    from striate.nn.module import Module


@dataclass(frozen=True)
class _Asked:
    """What the command line asks for, read and checked."""

    net: Module
    shape: tuple[int, ...]
    images: NDArray[np.float32] | None
    normalize: str
    layer: str | None
    input: str | None
    json: bool
    out: str | None
    npy: str | None


def receptive(
    model: Network,
    layer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The layer, as `striate summary` names it.", show_default="all"
        ),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="I,J", help="A unit of the layer: what does it look at?", show_default=False
        ),
    ] = None,
    pixel: Annotated[
        str | None,
        typer.Option(
            metavar="I,J",
            help="A pixel: which of the layer's units look at it?",
            show_default=False,
        ),
    ] = None,
    effective: Annotated[
        bool,
        typer.Option(
            "--effective", help="Measure how much each pixel moves a unit (--at; else the middle)."
        ),
    ] = False,
    image: Annotated[
        list[str] | None,
        typer.Option(
            "--image",
            metavar="IMAGE",
            help="A picture to draw on and to measure with; several may be given.",
            show_default="noise",
        ),
    ] = None,
    samples: Annotated[
        int, typer.Option(min=1, metavar="N", help="Images of noise to measure with.")
    ] = 32,
    input_name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The input that is looked at, where the network has several.",
            show_default=False,
        ),
    ] = None,
    input_shape: Shape = None,
    normalize: Normalize = "none",
    out: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Draw it: .png, .svg or .pdf.", show_default=False),
    ] = None,
    npy: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Write the region (true and false) or the map of gradients, as .npy.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
    backend: Backend = None,
) -> None:
    """Show the receptive fields of a network's layers, or what one unit looks at.

    Fields are derived from the layers' formulas; branches are joined in a hull.

    \b
    Examples:
      striate receptive resnet18
      striate receptive resnet18 --layer layer2.1.conv2 --at 5,4 --image cat.jpg --out field.png
      striate receptive net.onnx --layer pool1 --pixel 100,120
      striate receptive runs/cifar --layer conv3 --effective --out effective.png
    """
    from striate.cli.networks import network_of
    from striate.cli.summary import shape_option

    net, shape = network_of(model, None if input_shape is None else shape_option(input_shape))
    images = read_images(net, shape, image) if image else None
    asked = _Asked(net, shape, images, normalize, layer, input_name, json, out, npy)
    _check(asked, at, pixel, effective)
    if layer is None or (at is None and pixel is None and not effective):
        _say_fields(asked)
    elif effective:
        _say_effective(asked, at, samples, backend)
    elif pixel is not None:
        _say_reached(asked, pixel)
    else:
        _say_region(asked, at or "")


def _check(asked: _Asked, at: str | None, pixel: str | None, effective: bool) -> None:
    from striate.errors import OptionError

    some = at is not None or pixel is not None or effective
    if some and asked.layer is None:
        raise OptionError(
            "--layer: expected the name of a layer with --at, --pixel or --effective; got none. "
            "`striate summary MODEL` lists them."
        )
    if pixel is not None and (at is not None or effective):
        raise OptionError(
            "--pixel: expected alone; got it with --at or --effective. Ask one question at a time."
        )
    if not some and (asked.out is not None or asked.npy is not None):
        raise OptionError(
            "--out: expected --at, --pixel or --effective with it; got none. A table is not drawn."
        )
    if pixel is not None and asked.out is not None:
        raise OptionError(
            "--out: expected --at or --effective with it; got --pixel. Write the units with --npy."
        )


def _say_fields(asked: _Asked) -> None:
    from striate.inspect.receptive import receptive_field
    from striate.inspect.receptive_text import describe

    if asked.layer is None:
        found = receptive_field(asked.net, asked.shape, input=asked.input)
        if asked.json:
            print_json(found.to_dict())
        else:
            typer.echo(found.text(terminal_width()))
        return
    field = receptive_field(asked.net, asked.shape, asked.layer, input=asked.input)
    if asked.json:
        print_json(field.to_dict())
    else:
        typer.echo(describe(field))


def _say_region(asked: _Asked, at: str) -> None:
    from striate import plot
    from striate.inspect.receptive import receptive_field
    from striate.inspect.receptive_text import describe
    from striate.inspect.regions import input_region

    layer = asked.layer or ""
    unit = place_option(at, "--at")
    region = input_region(asked.net, asked.shape, layer, unit, input=asked.input)
    field = receptive_field(asked.net, asked.shape, layer, input=asked.input)
    if asked.json:
        print_json({**field.to_dict(), "unit": list(unit), **_as_json(region)})
    else:
        typer.echo(describe(field))
        typer.echo(f"\nunit {unit} looks at {_words(region, asked.input or 'the input')}")
    if asked.out is not None:
        picture = _picture(asked)
        under = f"{layer}, unit {unit}"
        write_figure(
            plot.receptive_field(picture, region, field, under=under), asked.out, asked.json
        )
    if asked.npy is not None:
        write_npy(region.mask, asked.npy, asked.json)


def _say_reached(asked: _Asked, pixel: str) -> None:
    from striate.inspect.regions import units_reached

    layer, spot = asked.layer or "", place_option(pixel, "--pixel")
    region = units_reached(asked.net, asked.shape, spot, layer, input=asked.input)
    if asked.json:
        print_json({"layer": layer, "pixel": list(spot), **_as_json(region)})
    else:
        typer.echo(f"pixel {spot} reaches {_words(region, repr(layer))}")
    if asked.npy is not None:
        write_npy(region.mask, asked.npy, asked.json)


def _say_effective(asked: _Asked, at: str | None, samples: int, backend: str | None) -> None:
    from striate import plot
    from striate.inspect.effective import effective_receptive_field

    images = None if asked.images is None else scaled(asked.images, asked.normalize)
    found = effective_receptive_field(
        asked.net,
        asked.shape if images is None else images,
        asked.layer or "",
        None if at is None else place_option(at, "--at"),
        samples=samples,
        backend=backend,
    )
    if asked.json:
        print_json(found.to_dict())
    else:
        typer.echo(str(found))
    if asked.out is not None:
        picture = None if asked.images is None else asked.images[0]
        write_figure(plot.effective_field(found, picture), asked.out, asked.json)
    if asked.npy is not None:
        write_npy(found.gradient, asked.npy, asked.json)


def _picture(asked: _Asked) -> Any:
    """The first picture, or a grey field of its size."""
    import numpy as np

    if asked.images is not None:
        return asked.images[0]
    return np.full((1, *asked.shape[1:]), 0.35)


def _words(region: Region, of: str) -> str:
    if not region.clipped:
        return f"nothing of {of}"
    box = ", ".join(f"{a}…{b}" for a, b in region.clipped)
    text = f"{region.count:,} numbers of {of}, within ({box})"
    if region.unclipped and region.unclipped != region.clipped[1:]:
        text += f"; with padding ({', '.join(f'{a}…{b}' for a, b in region.unclipped)})"
    return text.replace("-", "−")


def _as_json(region: Region) -> dict[str, Any]:
    return {
        "count": region.count,
        "clipped": [list(side) for side in region.clipped],
        "unclipped": [list(side) for side in region.unclipped],
    }
