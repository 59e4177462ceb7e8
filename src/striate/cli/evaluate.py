"""`striate evaluate`: how well a model does on a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from striate.cli.networks import probabilities
from striate.cli.options import Backend, Data, Json, Model, Threads, print_json, use_threads

if TYPE_CHECKING:
    from striate.data.source import Source
    from striate.nn.graph_module import GraphModule
    from striate.train.evaluate import Evaluation

_MOST = 12


def evaluate(
    model: Model,
    data: Data = "digits",
    part: Annotated[
        str, typer.Option(metavar="test|train", help="The part of the data that is judged.")
    ] = "test",
    batch_size: Annotated[
        int, typer.Option(metavar="N", min=1, help="Images that run at once.")
    ] = 256,
    mistakes: Annotated[
        int, typer.Option(metavar="N", min=0, help="How many mistakes are listed.")
    ] = 5,
    figures: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Write confusion.png and mistakes.png there.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
    threads: Threads = None,
    backend: Backend = None,
) -> None:
    """Show accuracy, a table of the classes, the confusion matrix, and the worst mistakes.

    \b
    Examples:
      striate evaluate striate-demo --data digits
      striate evaluate runs/mnist --data mnist --figures figures
    """
    from striate.cli.networks import open_model
    from striate.data.named import load
    from striate.errors import OptionError, suggest
    from striate.train.evaluate import evaluate as judge

    use_threads(threads)
    if part not in ("train", "test"):
        raise OptionError(f"--part: unknown {part!r}. {suggest(part, ('train', 'test'))}")
    net = open_model(model)
    training, test = load(data)
    chosen = test if part == "test" else training
    result = judge(net, chosen, batch_size, backend=backend)
    if json:
        print_json(result.to_json())
    else:
        typer.echo(result.text(mistakes))
    if figures is not None:
        for path in write_figures(net, result, chosen, Path(figures), backend):
            typer.echo(f"written: {path}", err=json)


def write_figures(
    net: GraphModule, result: Evaluation, data: Source, folder: Path, backend: str | None
) -> list[Path]:
    """The confusion matrix and the worst mistakes as pictures in a folder."""
    from striate import plot
    from striate.files import make_folder

    make_folder(folder)
    confusion = plot.confusion(
        result.confusion, result.names, title=f"Confusion matrix: {data.name}"
    )
    worst = [mistake.index for mistake in result.mistakes[:_MOST]]
    images, labels = data.batch(worst)
    mistakes = plot.mistakes(
        images,
        labels,
        probabilities(net, images, backend),
        result.names,
        of=(len(result.mistakes), result.samples),
        title=f"The worst mistakes: {data.name}",
    )
    return [
        plot.save(confusion, folder / "confusion.png"),
        plot.save(mistakes, folder / "mistakes.png"),
    ]
