"""`striate interpret`: what a network looks at, a command for each method.

Here is what its commands share: options, the network and its images, the number that is looked at
and how it is said, the files that are written. The commands are in `interpret_maps` and its like.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from striate.data.pictures import Picture
    from striate.inspect.probe import Probe
    from striate.nn.graph_module import GraphModule

app = typer.Typer(
    help="Show what a network looks at.",
    no_args_is_help=False,
    rich_markup_mode=None,
    invoke_without_command=True,
)

Images = Annotated[
    list[str],
    typer.Argument(
        metavar="IMAGE...", help="Pictures: PNG, JPEG, WebP, BMP or GIF.", show_default=False
    ),
]
Class = Annotated[
    str | None,
    typer.Option(
        "--class",
        metavar="N|NAME|C,I,J",
        help="The class, by number or name; with --layer a channel or a place.",
        show_default="each image's greatest score",
    ),
]
Layer = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="The layer that --class is looked for in, as `striate summary` names it.",
        show_default="the scores, before a last softmax",
    ),
]
Out = Annotated[
    str | None,
    typer.Option(
        "--out",
        metavar="FILE",
        help="The picture to write: .png, .svg or .pdf.",
        show_default="the command's name, .png",
    ),
]
Npy = Annotated[
    str | None,
    typer.Option(
        "--npy", metavar="FILE", help="Write the numbers too, as .npy.", show_default=False
    ),
]
Normalize = Annotated[
    str,
    typer.Option(
        metavar="none|imagenet|M,…/S,…",
        help="How pixels in 0…1 are scaled for the network: (pixel − mean) / standard deviation, "
        "for each channel; imagenet is what torchvision's networks want.",
    ),
]
_SCALES = {"imagenet": "0.485,0.456,0.406/0.229,0.224,0.225"}


@app.callback(invoke_without_command=True)
def interpret(ctx: typer.Context) -> None:
    """Show what a network looks at: each command writes a picture, and arrays where asked."""
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


@dataclass(frozen=True)
class Subject:
    """A network and the images that it looks at.

    Attributes:
        net: the network.
        files: the images' names.
        pictures: as they were read, (c, h, w) in 0…1, and how they were converted.
        images: (n, c, h, w), scaled as the network takes them.
        names: of the classes.
    """

    net: GraphModule
    files: list[str]
    pictures: list[Picture]
    images: NDArray[np.float32]
    names: tuple[str, ...]

    @property
    def shown(self) -> NDArray[np.float32]:
        """The pictures as one looks at them, (n, c, h, w) in 0…1."""
        import numpy as np

        return np.stack([picture.array for picture in self.pictures])

    def probe(self, where: str, backend: str | None = None) -> Probe:
        """The network laid open for these images."""
        from striate.inspect.probe import Probe

        return Probe(self.net, self.images.shape[1:], where, backend)

    def target(self, text: str | None, layer: str | None = None) -> Any:
        """The value of --class as the methods take it: None, a number or a place."""
        from striate.errors import OptionError, suggest

        if text is None:
            return None
        if layer is None and text in self.names:
            return self.names.index(text)
        try:
            place = tuple(int(part) for part in text.split(","))
        except ValueError:
            known = "" if layer else f" {suggest(text, self.names)}"
            raise OptionError(
                f"--class: expected a class's name or number, or a place as 3,0,2; got "
                f"{text!r}.{known}"
            ) from None
        return place if len(place) > 1 else place[0]

    def said(
        self, where: str, target: Any, layer: str | None, backend: str | None
    ) -> list[dict[str, Any]]:
        """What is looked at in each image: the place, its name, the score, its probability."""
        import numpy as np

        from striate.interpret.faithfulness import softmax
        from striate.interpret.target import Target, at_places

        probe = self.probe(where, backend)
        aim = Target(probe, target, count=len(self.images), layer=layer)
        values = probe.values(self.images, [aim.layer])[aim.layer].astype(np.float64)
        places = aim.places(values)
        classes = aim.shape[0] if layer is None and aim.shape else 0
        shares = softmax(values) if classes > 1 and classes == values[0].size else None
        found = []
        for k, file in enumerate(self.files):
            place = tuple(int(i) for i in places[k])
            one: dict[str, Any] = {"image": file, "layer": aim.layer, "at": list(place)}
            one["score"] = float(at_places(values, places)[k])
            if shares is not None:
                one["class"] = self.names[place[0]]
                one["probability"] = float(at_places(shares, places)[k])
            found.append({**one, "conversion": self.pictures[k].steps})
        return found


def open_subject(
    model: str, images: list[str], background: str = "auto", normalize: str = "none"
) -> Subject:
    """The network and the images of a command line.

    Args:
        model: a model file, an ONNX file, or the folder of a training.
        images: picture files.
        background: auto, dark, light or keep.
        normalize: none, imagenet, or means and standard deviations "m,m,m/s,s,s".
    """
    import numpy as np

    from striate.cli.networks import class_names, open_model, read_for

    net = open_model(model)
    pictures = [read_for(net, image, background) for image in images]
    graph = net.graph
    shape = graph.nodes[graph.outputs[0]].shape
    names = class_names(net, shape[0] if shape else 0)
    batch = np.stack([picture.array for picture in pictures])
    return Subject(net, list(images), pictures, scaled(batch, normalize), names)


def scaled(images: NDArray[np.float32], normalize: str) -> NDArray[np.float32]:
    """Images (n, c, h, w) in 0…1 as --normalize says: less the mean, over the deviation."""
    import numpy as np

    from striate.errors import OptionError

    if normalize == "none":
        return images
    try:
        parts = _SCALES.get(normalize, normalize).split("/")
        mean, deviation = (
            np.array([float(k) for k in part.split(",")], np.float32)[:, None, None]
            for part in parts
        )
        if not (deviation > 0).all():
            raise ValueError
        return np.ascontiguousarray((images - mean) / deviation, np.float32).reshape(images.shape)
    except ValueError:
        raise OptionError(
            f"--normalize: expected none, imagenet, or {images.shape[1]} means and positive "
            f"deviations, as 0.5/0.25; got {normalize!r} for images of {images.shape[1]} channels."
        ) from None


def tell(found: list[dict[str, Any]]) -> None:
    """Say what is looked at in each image."""
    for one in found:
        typer.echo(f"{one['image']}: {described(one)}")
        typer.echo(f"  read as: {'; '.join(one['conversion'])}")


def described(one: dict[str, Any]) -> str:
    """What is looked at, in one line.

    >>> described({"layer": "fc", "at": [7], "class": "7", "score": 9.5, "probability": 0.25})
    'class 7, score 9.5 (25.0 %)'
    >>> described({"layer": "conv1", "at": [3, 0, 2], "score": 1.25})
    'conv1[3, 0, 2] = 1.25'
    """
    if "class" in one:
        share = f"{100 * one['probability']:.1f} %"
        return f"class {one['class']}, score {one['score']:.4g} ({share})"
    return f"{one['layer']}[{', '.join(map(str, one['at']))}] = {one['score']:.4g}"


def require_writable(out: str, npy: str | None = None) -> None:
    """Refuse endings that no file can be written with, before anything is computed."""
    from striate.errors import OptionError
    from striate.plot.page import format_of

    format_of(out)
    if npy is not None and not npy.endswith(".npy"):
        raise OptionError(f"--npy: expected a name that ends in .npy; got {npy!r}.")


def write_figure(figure: Figure, path: str, quiet: bool = False) -> None:
    """Write a figure, and say so unless `quiet`."""
    from striate.plot import save

    save(figure, path)
    if not quiet:
        typer.echo(f"wrote {path}")


def write_npy(array: NDArray[Any], path: str, quiet: bool = False) -> None:
    """Write an array as .npy, and say so unless `quiet`."""
    import numpy as np

    from striate.errors import OptionError
    from striate.files import write_atomically

    if not path.endswith(".npy"):
        raise OptionError(f"--npy: expected a name that ends in .npy; got {path!r}.")
    write_atomically(path, lambda file: np.save(file, array, allow_pickle=False))
    if not quiet:
        typer.echo(f"wrote {path}: {array.dtype} {array.shape}")
