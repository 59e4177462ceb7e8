"""`striate predict`: the classes of pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from striate.cli.options import Backend, Background, Json, Model, Threads, print_json, use_threads

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from striate.data.pictures import Picture

_BAR = 24


def predict(
    model: Model,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE...", help="Pictures: PNG, JPEG, WebP, BMP or GIF.", show_default=False
        ),
    ],
    top: Annotated[int, typer.Option(metavar="N", min=1, help="How many classes are shown.")] = 3,
    background: Background = "auto",
    json: Json = False,
    threads: Threads = None,
    backend: Backend = None,
) -> None:
    """Say what is on pictures, how sure that is, and how each picture was converted.

    \b
    Examples:
      striate predict striate-demo striate-demo/digits/7.png
      striate predict runs/mnist photo.jpg --top 5 --json
    """
    import numpy as np

    from striate.cli.networks import (
        class_count,
        class_names,
        open_model,
        probabilities,
        read_for,
    )

    use_threads(threads)
    net = open_model(model)
    names = class_names(net, class_count(net))
    pictures = [read_for(net, image, background) for image in images]
    chances = probabilities(net, np.stack([picture.array for picture in pictures]), backend)
    found = [
        _found(image, picture, chance, names, top)
        for image, picture, chance in zip(images, pictures, chances, strict=True)
    ]
    if json:
        print_json(found)
    else:
        for item in found:
            _show(item)


def _found(
    image: str, picture: Picture, chance: NDArray[Any], names: tuple[str, ...], top: int
) -> dict[str, Any]:
    best = sorted(range(len(names)), key=lambda k: (-chance[k], k))[:top]
    return {
        "image": image,
        "class": names[best[0]],
        "probability": float(chance[best[0]]),
        "top": [{"class": names[k], "index": k, "probability": float(chance[k])} for k in best],
        "conversion": picture.steps,
    }


def _show(item: dict[str, Any]) -> None:
    typer.echo(f"{item['image']}: {item['class']}")
    width = max(len(entry["class"]) for entry in item["top"])
    for entry in item["top"]:
        share = entry["probability"]
        bar = "█" * round(_BAR * share)
        typer.echo(f"  {entry['class']:<{width}}  {100 * share:6.2f} %  {bar}".rstrip())
    typer.echo(f"  read as: {'; '.join(item['conversion'])}")
