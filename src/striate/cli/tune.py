"""`striate tune`: measure which algorithms are fastest for a network on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from striate.cli.options import Json, print_json
from striate.cli.summary import shape_option

if TYPE_CHECKING:
    from striate.program.tune import Tuning


def tune(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            help="A network's name (resnet18), file.py:Class, a model file or a folder.",
            show_default=False,
        ),
    ] = None,
    input_shape: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="C,H,W",
            help="The shape of one image.",
            show_default="the model's own, else 3,224,224",
        ),
    ] = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Images a call.")] = 1,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, show_default="all cores", help="Threads.")
    ] = None,
    forget: Annotated[
        bool, typer.Option("--forget", help="Forget what was tuned on this machine.")
    ] = False,
    json: Json = False,
) -> None:
    """Measure the algorithms of a network's convolutions here, and keep the fastest.

    What is found is used by every later call and training with such layers, until --forget.
    Numbers change within rounding when an algorithm does; on one machine, with one set of tuned
    choices, the same seed still gives the same bits.

    \b
    Examples:
      striate tune resnet18
      striate tune net.py:Net --input 3,32,32 --batch 64
      striate tune --forget
    """
    from striate.errors import OptionError
    from striate.settings import set_num_threads

    if forget:
        _forget()
        return
    if model is None:
        raise OptionError("tune: expected a MODEL, as in `striate tune resnet18`; got none.")
    if threads is not None:
        set_num_threads(threads)
    found = _run(model, input_shape, batch, quiet=json)
    if json:
        print_json(_as_dict(found))
    else:
        _show(found)


def _run(model: str, input_shape: str | None, batch: int, quiet: bool) -> Tuning:
    from rich.progress import Progress

    from striate.cli.networks import graph_of
    from striate.codegen.targets import current_target
    from striate.errors import OptionError
    from striate.program import backend_name
    from striate.program.choose import blocked_pays
    from striate.program.tune import tune_inference

    if backend_name() == "reference":
        raise OptionError("tune: the reference backend has nothing to tune; unset STRIATE_BACKEND.")
    graph, parameters = graph_of(model, None if input_shape is None else shape_option(input_shape))
    if not blocked_pays(graph, current_target()):
        raise OptionError(
            f"tune: {model} is small and runs with the batch in lanes, which leaves no choices."
        )
    if quiet:
        return tune_inference(graph, parameters, batch)
    with Progress(transient=True) as bar:
        task = bar.add_task("building candidates", total=None)

        def progress(done: int, of: int) -> None:
            bar.update(task, completed=done, total=of)

        return tune_inference(graph, parameters, batch, progress)


def _forget() -> None:
    from striate.codegen.targets import current_target
    from striate.program.tuned import forget_choices

    count = forget_choices(current_target())
    typer.echo(f"forgot {count} tuned choice{'s' * (count != 1)}")


def _as_dict(found: Tuning) -> dict[str, Any]:
    return {
        "before_seconds": found.before,
        "after_seconds": found.after,
        "kept": found.kept,
        "choices": [
            {"problem": f.key, "default": str(f.default), "best": str(f.best), "gain": f.gain}
            for f in found.findings
        ],
    }


def _show(found: Tuning) -> None:
    changed = [f for f in found.findings if f.best != f.default]
    for f in changed:
        typer.echo(f"{f.gain:5.2f}x  {f.key}: {f.default.algorithm} → {f.best.algorithm}")
    if not changed:
        typer.echo("the default choices are the fastest here; nothing to keep")
    elif found.kept:
        times = f"{1e3 * found.before:.2f} ms → {1e3 * found.after:.2f} ms"
        typer.echo(f"{len(changed)} choices kept: {times} a call")
    else:
        typer.echo("the network as a whole was not faster; nothing kept")
