"""`striate show slide`: a layer's window at work, as an animation."""

from __future__ import annotations

from typing import Annotated

import typer

from striate.cli.interpret import Normalize, open_subject
from striate.cli.options import Backend, Background, Model
from striate.cli.show import app


@app.command("slide", short_help="A layer's window sliding over its input.")
def slide(
    model: Model,
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="A picture.", show_default=False)],
    layer: Annotated[
        str, typer.Option(metavar="NAME", help="A convolution or pooling.", show_default=False)
    ],
    channel: Annotated[
        int, typer.Option(metavar="N", min=0, help="The output's channel that is filled in.")
    ] = 0,
    channels: Annotated[
        int, typer.Option(metavar="N", min=1, help="Input channels shown; all are summed up.")
    ] = 3,
    frames: Annotated[
        int, typer.Option(metavar="N", min=1, help="Outputs shown, evenly spread.")
    ] = 120,
    seconds: Annotated[float, typer.Option(metavar="S", help="How long each is seen.")] = 0.2,
    out: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="What to write: .gif, .mp4 (with ffmpeg), .html (offline, with buttons and "
            "keys), or a .png, .svg or .pdf of the last frame.",
        ),
    ] = "slide.gif",
    background: Background = "auto",
    normalize: Normalize = "none",
    backend: Backend = None,
) -> None:
    """Animate a layer: its window slides, products are summed up, the output is filled in.

    The arithmetic is that of the layer's formula, so stride, padding, dilation and groups are
    seen as they are.

    \b
    Examples:
      striate show slide striate-demo striate-demo/digits/7.png --layer conv1
      striate show slide net.onnx photo.jpg --layer maxpool --channel 3 --out pool.html
    """
    from striate.plot import sliding

    subject = open_subject(model, [image], background, normalize)
    found = sliding(
        subject.net, subject.images[0], layer,
        channel=channel, channels=channels, frames=frames, backend=backend,
    )  # fmt: skip
    path = found.save(out, seconds=seconds)
    _, height, width = (channel, *found.windows.y.shape)
    typer.echo(f"wrote {path}: {len(found)} of {height * width} outputs, {path.stat().st_size:,} B")
