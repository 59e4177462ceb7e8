"""`striate explain`: the exact arithmetic of one activation, or of one gradient."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from striate.cli.options import Backend, Background, Json, Model, place_option, print_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from striate.data.pictures import Picture
    from striate.inspect.explain import Explanation
    from striate.inspect.explain_gradient import GradientExplanation
    from striate.inspect.explain_trace import Trace
    from striate.nn.graph_module import GraphModule

    Found = Explanation | GradientExplanation


def explain(
    model: Model,
    image: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE",
            help="A picture; of a network with several inputs one for each, in their order.",
            show_default=False,
        ),
    ],
    layer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The layer, as `striate summary` names it; of a gradient what is differentiated.",
            show_default="of a gradient the scores",
        ),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="O,I,J",
            help="The place in its output: channel, row, column (a number for a vector). A channel "
            "alone: where it is greatest. Of a gradient the place in WRT.",
            show_default="where the output, or the gradient, is greatest",
        ),
    ] = None,
    gradient: Annotated[
        str | None,
        typer.Option(
            metavar="WRT",
            help="Explain a gradient instead: to this parameter, layer or input.",
            show_default=False,
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="The number of the layer that is differentiated, as a class.",
            show_default="the greatest",
        ),
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(
            metavar="cross_entropy|mse",
            help="Differentiate a loss of the network's output instead.",
            show_default=False,
        ),
    ] = None,
    label: Annotated[
        int | None,
        typer.Option(metavar="N", help="The right class, for --loss.", show_default=False),
    ] = None,
    back: Annotated[
        list[int] | None,
        typer.Option(
            metavar="N",
            help="Go back to the number that adds the most (0), the next (1), …; may be repeated.",
            show_default=False,
        ),
    ] = None,
    pixels: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Follow the N largest numbers of each layer back to the pixels.",
            show_default=False,
        ),
    ] = None,
    figure: Annotated[
        str | None,
        typer.Option(
            "--figure",
            "--out",
            metavar="FILE",
            help="Write a picture of it too: .png, .svg or .pdf.",
            show_default=False,
        ),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Leave no term out.")] = False,
    background: Background = "auto",
    json: Json = False,
    backend: Backend = None,
) -> None:
    """Show the arithmetic behind one activation: patch, kernel, products, sum, bias, activation.

    The number is compared with the one that the network's machine code computed. With --gradient
    the terms of one gradient are shown: upstream times input, for every place.

    \b
    Examples:
      striate explain striate-demo striate-demo/digits/7.png --layer conv1 --at 0,14,14
      striate explain striate-demo striate-demo/digits/7.png --layer fc3 --back 0 --back 0
      striate explain striate-demo striate-demo/digits/7.png --layer fc3 --pixels 3
      striate explain runs/mnist photo.png --gradient conv1.weight --at 0,0,2,2 --figure why.png
      striate explain net.onnx photo.png --layer conv_1 --json
      striate explain stereo.onnx left.png right.png --layer score --at 1
    """
    from striate.cli.networks import open_model, read_each

    if layer is None and gradient is None:
        raise typer.BadParameter("Missing option '--layer'.")
    net = open_model(model)
    asked = (layer, None if at is None else place_option(at, "--at"), gradient, target, loss, label)
    _check(net, layer, gradient, pixels, (target, loss, label))
    pictures = read_each(net, image, background)
    arrays = tuple(picture.array for picture in pictures)
    first = _found(net, arrays if len(arrays) > 1 else arrays[0], asked, backend)
    found = _followed(first, back or (), pixels)
    if figure is not None:
        names = [node.name for node in net.graph.inputs]
        _draw(found, dict(zip(names, arrays, strict=True)), figure)
    if json:
        print_json({**_read(image, pictures), **found.to_dict()})
        return
    for name, picture in zip(image, pictures, strict=True):
        typer.echo(f"{name}: {'; '.join(picture.steps)}")
    typer.echo("\n" + found.text(terminal_width(), full))
    if figure is not None:
        typer.echo(f"\nwrote {figure}")


def _read(images: Sequence[str], pictures: Sequence[Picture]) -> dict[str, Any]:
    """What was read and how, as JSON data: of several pictures lists."""
    steps = [picture.steps for picture in pictures]
    if len(pictures) == 1:
        return {"image": images[0], "conversion": steps[0]}
    return {"images": [*images], "conversions": steps}


def terminal_width() -> int:
    """The columns to write in."""
    return max(60, shutil.get_terminal_size((100, 24)).columns)


def _check(
    net: GraphModule,
    layer: str | None,
    gradient: str | None,
    pixels: int | None,
    of_gradients: tuple[Any, ...],
) -> None:
    """Refuse options that do not go together, before anything is computed."""
    from striate.errors import OptionError
    from striate.inspect.probe import unknown_layer

    layers = [node.name for node in net.graph.steps]
    if layer is not None and layer not in layers:
        raise unknown_layer("--layer", layer, layers)
    if gradient is None and any(option is not None for option in of_gradients):
        raise OptionError(
            "--target, --loss, --label: expected only with --gradient, which says what is "
            "differentiated to; got none."
        )
    if gradient is not None and pixels is not None:
        raise OptionError("--pixels: expected for activations only; got --gradient. Use --back.")


def _found(
    net: GraphModule,
    image: NDArray[np.float32] | tuple[NDArray[np.float32], ...],
    asked: tuple[Any, ...],
    backend: str | None,
) -> Found:
    from striate.errors import OptionError
    from striate.inspect import explain, explain_gradient

    layer, at, gradient, target, loss, label = asked
    if gradient is None:
        return explain(net, image, layer, at, backend=backend)
    if (loss is None) != (label is None):
        raise OptionError(
            f"--loss, --label: expected both or none; got --loss {loss}, --label {label}."
        )
    place = None if target is None else place_option(target, "--target")
    targets = None if label is None else _targets(net, loss, label)
    return explain_gradient(
        net,
        image,
        gradient,
        at,
        layer=layer,
        target=place,
        loss=loss,
        targets=targets,
        backend=backend,
    )


def _followed(found: Found, back: Sequence[int], pixels: int | None) -> Found | Trace:
    """Some steps back, and then all the way to the pixels if asked."""
    from striate.inspect import Explanation

    for number in back:
        found = found.back(number)
    if pixels is None or not isinstance(found, Explanation):
        return found
    return found.to_pixels(pixels)


def _targets(net: GraphModule, loss: str, label: int) -> Any:
    """What the loss compares with: the label, or for mse a row with a 1 at it."""
    import numpy as np

    from striate.cli.networks import class_count
    from striate.errors import OptionError

    count = class_count(net)
    if not 0 <= label < count:
        raise OptionError(f"--label: expected a class from 0 to {count - 1}; got {label}.")
    return np.array([label]) if loss != "mse" else np.eye(count, dtype=np.float32)[[label]]


def _draw(found: Any, images: dict[str, NDArray[np.float32]], path: str) -> None:
    from striate import plot
    from striate.inspect.explain_trace import Trace

    image: Any = images if len(images) > 1 else next(iter(images.values()))
    drawn = plot.trace(found, image) if isinstance(found, Trace) else plot.explanation(found)
    plot.save(drawn, path)
