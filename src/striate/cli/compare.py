"""`striate compare`: two networks side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from striate.cli.explain import terminal_width
from striate.cli.interpret import Normalize, scaled
from striate.cli.options import Backend, Json, print_json
from striate.cli.show import Network, Shape

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from striate.nn.module import Module


def compare(
    model: Network,
    other: Annotated[
        str, typer.Argument(metavar="OTHER", help="The other network.", show_default=False)
    ],
    image: Annotated[
        list[str] | None,
        typer.Option(
            "--image",
            metavar="IMAGE",
            help="A picture to compare the layers' outputs on; may be given several times.",
            show_default=False,
        ),
    ] = None,
    input_shape: Shape = None,
    normalize: Normalize = "none",
    json: Json = False,
    backend: Backend = None,
) -> None:
    """Compare two networks layer by layer: shapes, costs, receptive fields, weights, outputs.

    \b
    Examples:
      striate compare resnet18 resnet34
      striate compare runs/before runs/after --image digit.png
      striate compare net.onnx net.safetensors --image cat.jpg --normalize imagenet --json
    """
    from striate.cli.networks import network_of
    from striate.cli.summary import shape_option
    from striate.inspect.compare import compare as compare_networks

    shape = None if input_shape is None else shape_option(input_shape)
    (a, shape_a), (b, shape_b) = network_of(model, shape), network_of(other, shape)
    images = scaled(read_images(a, shape_a, image), normalize) if image else None
    found = compare_networks(a, b, shape_a, images, shape_b=shape_b, backend=backend)
    if json:
        print_json(found.to_dict())
    else:
        typer.echo(found.text(terminal_width()))


def read_images(net: Module, shape: tuple[int, ...], files: list[str]) -> NDArray[np.float32]:
    """Pictures as a batch for a network, also for one that was built by its name.

    Args:
        net: the network; a model file says what background it learned on.
        shape: of one image, (c, h, w).
        files: of the pictures.
    Raises:
        OptionError: the network does not take pictures.
    """
    import numpy as np

    from striate.data.pictures import read_picture
    from striate.errors import OptionError

    if len(shape) != 3 or shape[0] not in (1, 3):
        raise OptionError(
            f"--image: expected a network for pictures (1 or 3 channels, h, w); got one for "
            f"{shape}. Leave the images out."
        )
    notes: dict[str, Any] = getattr(net, "notes", {})
    dark = {"dark": True, "light": False}.get(str(notes.get("background")))
    read = [
        read_picture(file, (shape[1], shape[2]), shape[0], dark_background=dark) for file in files
    ]
    return np.stack([picture.array for picture in read])
