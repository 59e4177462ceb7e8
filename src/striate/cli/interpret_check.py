"""`striate interpret check`: whether a method's maps show what the network has learned."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from striate.cli.interpret import (
    Class,
    Images,
    Layer,
    Normalize,
    Out,
    app,
    open_subject,
    tell,
    write_figure,
)
from striate.cli.interpret_maps import MAPS, Map, baseline_pixels
from striate.cli.options import Backend, Background, Json, Model, print_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from striate.cli.interpret import Subject
    from striate.interpret.faithfulness import DeletionInsertion
    from striate.interpret.sanity import Randomization

_SHOWN = 5  # layers whose maps are drawn
_STEPS = (8, 32, 128)


@app.command("check", short_help="Whether a method's maps can be trusted.")
def check(
    model: Model,
    images: Images,
    method: Annotated[
        str, typer.Option(metavar="NAME", help="One of the commands: saliency, grad-cam, …")
    ] = "saliency",
    target: Class = None,
    layer: Layer = None,
    mode: Annotated[
        str,
        typer.Option(
            metavar="cascading|independent",
            help="Randomise from the last layer back to each, or each alone.",
        ),
    ] = "cascading",
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of the random weights.")] = 0,
    steps: Annotated[
        int, typer.Option(metavar="N", min=1, help="Steps of deletion and insertion.")
    ] = 28,
    baseline: Annotated[
        float, typer.Option(metavar="V", help="What deleted pixels become: 0 black … 1 white.")
    ] = 0.0,
    out: Out = None,
    background: Background = "auto",
    normalize: Normalize = "none",
    json: Json = False,
    backend: Backend = None,
) -> None:
    """Test a method's maps: does it matter what the network has learned, and do they point at it?

    Three answers. Randomised weights: a map that stays the same does not show what was learned.
    Deletion and insertion: taking away the pixels that the map names first should make the class's
    probability fall soon, bringing them in should make it rise soon; beside it a random order.
    For integrated gradients also how far the map's sum is from the score's change.

    \b
    Examples:
      striate interpret check striate-demo striate-demo/digits/7.png
      striate interpret check striate-demo striate-demo/digits/7.png --method guided-backprop
    """
    import numpy as np

    from striate.interpret import deletion_insertion, randomization_test

    row = _row(method)
    subject = open_subject(model, images, background, normalize)
    found = subject.said("check", subject.target(target, layer), layer, backend)
    places = [tuple(one["at"]) for one in found]
    empty = baseline_pixels(subject, baseline, normalize)
    given: dict[str, Any] = {"layer": layer, "backend": backend}
    options = _options(row, empty)
    changed = randomization_test(
        subject.net, subject.images, _method(row), places, mode=mode, seed=seed, **given, **options
    )
    orders = {
        "the map": changed.maps[0],
        "random": np.random.default_rng(seed).normal(size=changed.maps[0].shape),
    }
    curves = {
        name: deletion_insertion(
            subject.net, subject.images, order, places, steps=steps, baseline=empty, **given
        )
        for name, order in orders.items()
    }
    errors = _errors(row, subject, places, empty, given)
    path = out or "check.png"
    write_figure(_figure(row, subject, changed), path, quiet=True)
    if json:
        print_json(_document(row, found, changed, curves, errors, path))
        return
    tell(found)
    typer.echo(f"\n{row.label}: likeness of the map to itself after weights were randomised")
    typer.echo(changed.text())
    typer.echo("\narea under the probability's curve   deletion  insertion")
    for name, curve in curves.items():
        areas = f"{curve.deletion_area.mean():8.4f}   {curve.insertion_area.mean():8.4f}"
        typer.echo(f"  pixels in the order of {name:<11}  {areas}")
    for count, error in zip(_STEPS, errors, strict=False):
        typer.echo(f"  completeness error with {count} steps: {np.abs(error).max():.2g}")
    typer.echo(f"wrote {path}")


def _row(method: str) -> Map:
    from striate.errors import OptionError, suggest

    known = {row.command: row for row in MAPS}
    if method.replace("_", "-") not in known:
        raise OptionError(f"--method: unknown {method!r}. {suggest(method, known)}")
    return known[method.replace("_", "-")]


def _method(row: Map) -> Any:
    from striate import interpret

    return getattr(interpret, row.method)


def _options(row: Map, empty: NDArray[np.float32]) -> dict[str, Any]:
    """The method's arguments where they are not its defaults: signed maps are compared signed."""
    options: dict[str, Any] = {"baseline": empty} if "baseline" in row.options else {}
    return {"absolute": False, **options} if row.method == "saliency" else options


def _errors(
    row: Map, subject: Subject, target: Any, empty: NDArray[np.float32], given: dict[str, Any]
) -> list[Any]:
    """The completeness errors of integrated gradients by the number of steps."""
    from striate.interpret import convergence

    if row.method != "integrated_gradients":
        return []
    more = {**given, "baseline": empty, "steps": _STEPS}
    return list(convergence(subject.net, subject.images, target, **more))


def _figure(row: Map, subject: Subject, changed: Randomization) -> Any:
    """The map as it is, and after some of the layers."""
    import numpy as np

    from striate.plot import attribution

    count = len(changed.layers)
    shown = np.unique(np.linspace(0, count - 1, min(count, _SHOWN)).round().astype(int))
    space = tuple(range(2, changed.maps.ndim))
    greatest = np.abs(changed.maps).max(axis=space, keepdims=True)
    scaled = changed.maps / np.where(greatest > 0, greatest, 1)
    maps = {"as learned": scaled[0]}
    maps |= {f"… {changed.layers[k]}": scaled[k + 1] for k in shown}
    told = "from the last layer back to …" if changed.mode == "cascading" else "in one layer, …"
    return attribution(
        subject.shown,
        maps,
        channels=row.channels,
        overlay=False,
        title=f"{row.label} with random weights",
        under=f"As learned, and with weights drawn anew {told}; each map divided by its greatest",
    )


def _document(
    row: Map,
    found: list[dict[str, Any]],
    changed: Randomization,
    curves: dict[str, DeletionInsertion],
    errors: list[Any],
    path: str,
) -> dict[str, Any]:
    """What --json prints; nan, where a map is constant, is null."""

    def numbers(array: Any) -> list[float | None]:
        return [None if math.isnan(value) else float(value) for value in array]

    rows = zip(changed.layers, changed.rank, changed.rank_of_magnitudes, changed.ssim, strict=True)
    return {
        "method": row.command,
        "picture": path,
        "images": found,
        "randomised": {
            "mode": changed.mode,
            "layers": [
                {
                    "layer": a,
                    "rank": numbers(b),
                    "rank_of_magnitudes": numbers(c),
                    "ssim": numbers(d),
                }
                for a, b, c, d in rows
            ],
        },
        "order": {
            name: {
                "deletion_area": curve.deletion_area.tolist(),
                "insertion_area": curve.insertion_area.tolist(),
            }
            for name, curve in curves.items()
        },
        "completeness_error": {
            str(count): error.tolist() for count, error in zip(_STEPS, errors, strict=False)
        },
    }
