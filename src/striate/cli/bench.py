"""`striate bench`: how fast a network is here, layer by layer, and beside other libraries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from striate.cli.options import Json, Threads, print_json, use_threads
from striate.cli.summary import shape_option

if TYPE_CHECKING:
    from striate.measure.bench import Bench


def bench(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A network's name (resnet18), file.py:Class, a model file or a folder.",
            show_default=False,
        ),
    ],
    batch: Annotated[int, typer.Option("--batch", min=1, metavar="N", help="Images a call.")] = 1,
    threads: Threads = None,
    input_shape: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="C,H,W",
            help="The shape of one image.",
            show_default="the model's own, else 3,224,224",
        ),
    ] = None,
    training: Annotated[
        bool, typer.Option("--training", help="Time steps of training instead of inference.")
    ] = False,
    peers: Annotated[
        bool, typer.Option("--peers", help="Also torch, ONNX Runtime, OpenVINO, if installed.")
    ] = False,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.0, metavar="S", help="To measure for, about.")
    ] = 5.0,
    json: Json = False,
) -> None:
    """Time a network on this machine: the whole, its layers, its memory.

    Times are medians of many short rounds on made-up images; the speed of multiply-adds and
    nothing else is measured in the same rounds. --peers runs the same graph, with the same
    weights, in the libraries that are installed, in turn with ours.

    \b
    Examples:
      striate bench resnet18 --threads 1 --peers
      striate bench net.py:Net --input 3,32,32 --batch 64 --training
      striate bench striate-demo
    """
    from striate.cli.networks import network_of
    from striate.measure.bench import measure
    from striate.optim.sgd import SGD

    use_threads(threads)
    shape = None if input_shape is None else shape_option(input_shape)
    net, shape = network_of(model, shape)
    rule = SGD(0.01, momentum=0.9).rule() if training else None
    found = measure(net, shape, batch, rule, peers, seconds)
    if json:
        print_json(found.to_dict())
    else:
        _show(model, found)


# ---- text ------------------------------------------------------------------------------------


def _show(model: str, found: Bench) -> None:
    from rich.console import Console

    from striate.cli.explain import terminal_width

    console = Console(width=terminal_width(), highlight=False, legacy_windows=False)
    what = "training step" if found.training else "inference"
    threads = f"{found.threads} thread{'s' * (found.threads != 1)}"
    size = "×".join(map(str, found.input_shape))
    typer.echo(f"{model}, {what}, images of {size}, batch {found.batch}, {threads}\n")
    console.print(_contenders(found))
    for name, why in found.absent.items():
        typer.echo(f"{name}: {why}")
    typer.echo("\n" + _memory_line(found))
    typer.echo(
        f"ready after {found.build_seconds:.2f} s; multiply-adds alone reach "
        f"{found.peak_gflops:.0f} GFLOP/s here\n"
    )
    if found.layers:
        console.print(_layers(found))
    else:
        typer.echo("This network runs as one piece of code, so its layers are not timed apart.")


def _table(*columns: str) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for k, name in enumerate(columns):
        table.add_column(name, justify="right" if k else "left", no_wrap=bool(k))
    return table


def _contenders(found: Bench) -> Any:
    table = _table("", "time", "images/s", "GFLOP/s", "of peak", "striate is", "differs by")
    for row in found.contenders:
        gflops = found.operations / row.seconds / 1e9
        first = row.name == "striate"
        table.add_row(
            row.name,
            _time(row.seconds),
            f"{found.batch / row.seconds:.4g}",
            f"{gflops:.1f}",
            f"{100 * gflops / found.peak_gflops:.0f} %",
            "" if first else f"{row.seconds / found.contenders[0].seconds:.2f}×",
            "" if row.difference is None else f"{row.difference:.0e}",
        )
    return table


def _layers(found: Bench) -> Any:
    whole = found.contenders[0].seconds
    columns = ["forward", "backward"] if found.training else ["time"]
    table = _table("layer", *columns, "share", "multiply-adds", "GFLOP/s", "of peak")
    for layer in found.layers:
        spent = (layer.forward + layer.backward) * whole
        work = 2 * layer.multiply_adds * found.batch * (3 if layer.backward else 1)
        gflops = work / spent / 1e9 if spent else 0.0
        times = [_time(layer.forward * whole)]
        times += [_time(layer.backward * whole)] if found.training else []
        counted = bool(layer.multiply_adds)
        table.add_row(
            layer.name,
            *times,
            f"{100 * (layer.forward + layer.backward):.1f} %",
            f"{layer.multiply_adds:,}" if counted else "",
            f"{gflops:.1f}" if counted else "",
            f"{100 * gflops / found.peak_gflops:.0f} %" if counted else "",
        )
    return table


def _time(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{1e6 * seconds:.0f} µs"
    return f"{1e3 * seconds:.2f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _memory_line(found: Bench) -> str:
    parts = [f"{name} {size / 1e6:.1f} MB" for name, size in found.memory.items()]
    return f"memory: {', '.join(parts)}"
