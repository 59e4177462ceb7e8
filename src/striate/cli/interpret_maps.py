"""`striate interpret saliency`, `grad-cam` …: a command for each map of what a network looks at.

The commands differ in the method and in a few options, so they are rows of a table: `_register`
makes a function with the common options and the method's own of each.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from striate.cli.interpret import (
    Class,
    Images,
    Layer,
    Normalize,
    Npy,
    Out,
    Subject,
    app,
    described,
    open_subject,
    scaled,
    tell,
    write_figure,
    write_npy,
)
from striate.cli.options import Backend, Background, Json, Model, print_json

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_COMMON: dict[str, tuple[Any, Any]] = {
    "target": (Class, None),
    "layer": (Layer, None),
    "out": (Out, None),
    "npy": (Npy, None),
    "background": (Background, "auto"),
    "normalize": (Normalize, "none"),
    "json": (Json, False),
    "backend": (Backend, None),
}
_Signed = Annotated[bool, typer.Option("--signed", help="The gradient itself, not its magnitude.")]
_Samples = Annotated[int, typer.Option(metavar="N", min=1, help="Noisy copies of each image.")]
_Noise = Annotated[
    float,
    typer.Option(metavar="S", min=0, help="The noise's deviation, as a share of the range."),
]
_Squared = Annotated[bool, typer.Option("--squared", help="Average the gradients' squares.")]
_Seed = Annotated[int, typer.Option(metavar="N", min=0, help="Seed of the noise.")]
_Steps = Annotated[int, typer.Option(metavar="N", min=1, help="Places on the way to the image.")]
_Rule = Annotated[
    str, typer.Option(metavar="gauss-legendre|trapezoid", help="How they are weighted.")
]
_Baseline = Annotated[
    float, typer.Option(metavar="V", help="Pixel value that says nothing: 0 black … 1 white.")
]
_Features = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="The layer whose feature maps are weighted.",
        show_default="the last with space",
    ),
]
_Window = Annotated[int, typer.Option(metavar="N", min=1, help="Side of the window, pixels.")]
_Stride = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, help="From one window to the next.", show_default="half a window"
    ),
]
_Batch = Annotated[int, typer.Option(metavar="N", min=1, help="Images at once, at most.")]


@dataclass(frozen=True)
class Map:
    """A command: the method of `striate.interpret`, its own options, and what its help says.

    Attributes:
        method: the method's name.
        short: one line for the list of commands.
        about: the first sentences of the help.
        example: what the example adds to `striate interpret COMMAND MODEL IMAGE`.
        options: the method's own options: annotation and default.
        channels: how the picture shows maps of several channels, as `plot.attribution` has it.
        proper: the method's name in pictures, where it is not the command's.
    """

    method: str
    short: str
    about: str
    example: str = ""
    options: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    channels: str = "sum"
    proper: str = ""

    @property
    def label(self) -> str:
        return self.proper or self.method.replace("_", " ")

    @property
    def command(self) -> str:
        return self.method.replace("_", "-")

    @property
    def help(self) -> str:
        call = f"  striate interpret {self.command}"
        return (
            f"{self.about}\n\n\b\nExamples:\n"
            f"{call} striate-demo striate-demo/digits/7.png\n"
            f"{call} net.onnx photo.jpg --normalize imagenet --class 281 {self.example}".rstrip()
        )


MAPS = [
    Map(
        "saliency",
        "The gradient of a score to the pixels.",
        "Show how much a score changes with each pixel: the magnitude of its gradient.",
        "--npy map.npy",
        {"signed": (_Signed, False)},
        "largest",
    ),
    Map(
        "input_x_gradient",
        "The gradient times the image.",
        "Show the gradient of a score times the image: each pixel's part in a linear score.",
    ),
    Map(
        "smoothgrad",
        "The mean gradient of noisy copies of the image.",
        "Show the gradient of a score, averaged over noisy copies of the image.",
        "--samples 25 --noise 0.1",
        {
            "samples": (_Samples, 50),
            "noise": (_Noise, 0.15),
            "squared": (_Squared, False),
            "seed": (_Seed, 0),
            "batch": (_Batch, 32),
        },
        "largest",
        "SmoothGrad",
    ),
    Map(
        "integrated_gradients",
        "What each pixel adds to a score.",
        "Show what each pixel adds to a score, along the way from a baseline to the image.\n\n"
        "The completeness error is how far the map's sum is from the score's change; with too "
        "few --steps it is large.",
        "--steps 100",
        {
            "baseline": (_Baseline, 0.0),
            "steps": (_Steps, 50),
            "rule": (_Rule, "gauss-legendre"),
            "batch": (_Batch, 32),
        },
    ),
    Map(
        "guided_backprop",
        "The gradient without its negative parts at ReLUs.",
        "Show the gradient with its negative parts left out at every ReLU.\n\n"
        "It is sharp, but shows more of the image than of the class: see `striate interpret "
        "check --method guided-backprop`.",
        channels="colour",
    ),
    Map(
        "deconvolution",
        "What in the image a unit answers to.",
        "Send a unit's answer back to the pixels, through the image's own pooling switches.",
        "--layer conv2 --class 3",
        channels="colour",
    ),
    Map(
        "grad_cam",
        "Where the evidence for a class lies.",
        "Show where the evidence for a class lies: feature maps, weighted by their gradients.",
        "--features layer3",
        {"features": (_Features, None)},
        proper="Grad-CAM",
    ),
    Map(
        "guided_grad_cam",
        "Guided backpropagation where Grad-CAM sees the class.",
        "Show guided backpropagation where Grad-CAM sees the class.",
        options={"features": (_Features, None)},
        channels="colour",
        proper="guided Grad-CAM",
    ),
    Map(
        "occlusion",
        "How a score falls when a patch is covered.",
        "Show how much a score falls when a patch of the image is covered.",
        "--window 32 --stride 16 --baseline 0.5",
        {
            "window": (_Window, 8),
            "stride": (_Stride, None),
            "baseline": (_Baseline, 0.0),
            "batch": (_Batch, 32),
        },
    ),
]


def _register(row: Map) -> None:
    """Add a row's command to `striate interpret`."""

    def command(model: str, images: list[str], **given: Any) -> None:
        run_map(row, model, images, **given)

    options = {**row.options, **_COMMON}
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    arguments = [
        inspect.Parameter("model", kind, annotation=Model),
        inspect.Parameter("images", kind, annotation=Images),
        *(
            inspect.Parameter(name, kind, default=default, annotation=annotation)
            for name, (annotation, default) in options.items()
        ),
    ]
    command.__doc__ = row.help
    command.__annotations__ = {each.name: each.annotation for each in arguments}
    command.__signature__ = inspect.Signature(arguments)  # type: ignore[attr-defined]
    app.command(row.command, short_help=row.short)(command)


def run_map(
    row: Map,
    model: str,
    images: list[str],
    *,
    target: str | None,
    layer: str | None,
    out: str | None,
    npy: str | None,
    background: str,
    normalize: str,
    json: bool,
    backend: str | None,
    **options: Any,
) -> None:
    """One command: read, compute, say, write."""
    subject = open_subject(model, images, background, normalize)
    if "baseline" in options:
        options["baseline"] = baseline_pixels(subject, options["baseline"], normalize)
    if "signed" in options:
        options["absolute"] = not options.pop("signed")
    found = subject.said(row.method, subject.target(target, layer), layer, backend)
    places = [tuple(one["at"]) for one in found]
    maps, errors = compute(row.method, subject, places, layer=layer, backend=backend, **options)
    for k, one in enumerate(found):
        one["map"] = {"min": float(maps[k].min()), "max": float(maps[k].max())}
        if errors is not None:
            one["completeness_error"] = float(errors[k])
    if not json:
        tell(found)
    for one in found if errors is not None and not json else []:
        typer.echo(f"{one['image']}: completeness error {one['completeness_error']:.2g}")
    path = out or f"{row.command}.png"
    figure = draw(subject, found, {row.label: maps}, row.channels)
    write_figure(figure, path, quiet=json)
    if npy is not None:
        write_npy(maps, npy, quiet=json)
    if json:
        print_json({"picture": path, "npy": npy, "images": found})


def compute(
    method: str, subject: Subject, target: Any, **options: Any
) -> tuple[NDArray[np.float32], NDArray[np.float64] | None]:
    """The maps (n, c, h, w) of a method; of integrated gradients also the completeness errors."""
    import numpy as np

    from striate import interpret

    if method == "integrated_gradients":
        maps, errors = interpret.integrated_gradients(
            subject.net, subject.images, target, return_error=True, **options
        )
        return maps, errors
    found = getattr(interpret, method)(subject.net, subject.images, target, **options)
    return np.asarray(found, np.float32), None


def baseline_pixels(subject: Subject, value: float, normalize: str) -> NDArray[np.float32]:
    """An image of one pixel value in 0…1, scaled as the images are."""
    import numpy as np

    plain = np.full((1, *subject.images.shape[1:]), value, np.float32)
    made: NDArray[np.float32] = scaled(plain, normalize)[0]
    return made


def draw(
    subject: Subject, found: list[dict[str, Any]], maps: dict[str, Any], channels: str
) -> Figure:
    """The images, their maps, and the maps over them."""
    from striate.plot import attribution

    several = len(found) > 1
    names = [f"{Path(one['image']).stem}\n{_short(one)}" for one in found] if several else ()
    return attribution(
        subject.shown,
        maps,
        names=names,
        channels=channels,
        title="What the network looks at",
        under="Each map is of the number named beside its image"
        if several
        else f"{Path(found[0]['image']).name}: {described(found[0])}",
    )


def _short(one: dict[str, Any]) -> str:
    at = ", ".join(map(str, one["at"]))
    return f"class {one['class']}" if "class" in one else f"{one['layer']}[{at}]"


for _row in MAPS:
    _register(_row)
