"""`striate interpret top-patches`: the pieces of a data set that units answer to most."""

from __future__ import annotations

from typing import Annotated

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
from striate.cli.options import (
    Backend,
    Data,
    Json,
    Model,
    PictureFile,
    Threads,
    print_json,
    use_threads,
)

_MOST_UNITS = 16  # that are taken where none are named


@app.command("top-patches", short_help="The pieces of a data set that units answer to most.")
def top_patches(
    model: Model,
    layer: Annotated[
        str, typer.Option(metavar="NAME", help="The layer, as `striate summary` names it.")
    ],
    data: Data = "digits",
    part: Annotated[
        str, typer.Option(metavar="test|train", help="The part of the data that is searched.")
    ] = "test",
    units: Annotated[
        list[str] | None,
        typer.Option(
            "--unit",
            metavar="N|A-B",
            help="A channel, or a range of them; may be repeated.",
            show_default=f"the first {_MOST_UNITS}",
        ),
    ] = None,
    count: Annotated[
        int, typer.Option("-k", metavar="N", min=1, help="Patches for each unit.")
    ] = 9,
    deconvolve: Annotated[
        bool, typer.Option("--deconvolve", help="Beside each patch what the unit answers to in it.")
    ] = False,
    many: Annotated[
        bool, typer.Option("--many", help="Several patches of an image, where they are the best.")
    ] = False,
    batch_size: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Images at once.", show_default="what fits"),
    ] = None,
    normalize: Normalize = "none",
    out: PictureFile = "top-patches.png",
    npy: Npy = None,
    json: Json = False,
    threads: Threads = None,
    backend: Backend = None,
) -> None:
    """Search a data set for the patches that drive each unit most, cut out by what it looks at.

    \b
    Examples:
      striate interpret top-patches striate-demo --layer relu2 --deconvolve
      striate interpret top-patches runs/cifar --data cifar10 --layer 3.relu --unit 0-7 -k 12
    """
    from striate import plot
    from striate.cli.networks import open_model
    from striate.cli.progress import bar
    from striate.data.named import load
    from striate.errors import OptionError, suggest
    from striate.inspect.probe import Probe
    from striate.interpret import top_patches as search

    use_threads(threads)
    require_writable(out, npy)
    if part not in ("train", "test"):
        raise OptionError(f"--part: unknown {part!r}. {suggest(part, ('train', 'test'))}")
    net = open_model(model)
    training, test = load(data)
    source = test if part == "test" else training
    probe = Probe(net, source.shape, "interpret top-patches", backend)
    channels = (*probe.layer(layer).shape, 1)[0]
    chosen = _channels(units or [f"0-{min(channels, _MOST_UNITS) - 1}"])
    with bar(f"searching {source.name}") as progress:
        found = search(
            net,
            source,
            layer,
            chosen,
            k=count,
            one_per_image=not many,
            deconvolve=deconvolve,
            outside=float(source.shape[0] == 3),  # white, as pictures are drawn
            prepare=None if normalize == "none" else lambda images: scaled(images, normalize),
            batch_size=batch_size,
            progress=progress,
            backend=backend,
        )
    under = f"{source.name}, the {part} part"
    under += "; left: deconvolutions; right: patches" if deconvolve else ""
    write_figure(plot.top_patches(found, under=under), out, quiet=json)
    if npy is not None:
        write_npy(found.patches, npy, quiet=json)
    if json:
        print_json({**found.to_dict(), "data": source.name, "picture": out, "npy": npy})
        return
    for row, unit in enumerate(found.units):
        samples = ", ".join(str(n) for n in found.where[row, :, 0])
        typer.echo(
            f"{layer} {unit}: {found.scores[row, 0]:.4g} … {found.scores[row, -1]:.4g} in samples "
            f"{samples}"
        )


def _channels(texts: list[str]) -> list[int]:
    """The values of --unit as channels."""
    from striate.errors import OptionError

    found: list[int] = []
    for text in texts:
        first, _, last = text.partition("-")
        try:
            several = range(int(first), int(last or first) + 1)
        except ValueError:
            several = range(0)
        if not several:
            raise OptionError(f"--unit: expected a channel, or a range as 0-7; got {text!r}.")
        found += several
    return found
