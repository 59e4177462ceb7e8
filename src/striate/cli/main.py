"""The command `striate`: its groups and options, and the way from an error to an exit code.

Each command is in a module of this folder and imports what it needs when it runs, so that
`striate --help` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from striate.cli import (
    bench,
    cache,
    compare,
    convert,
    demo,
    evaluate,
    explain,
    interpret,
    interpret_check,
    interpret_equivariance,
    interpret_gabor,
    interpret_invert,
    interpret_maps,
    interpret_maximize,
    interpret_patches,
    predict,
    receptive,
    show,
    show_filters,
    show_maps,
    show_matrix,
    show_network,
    show_roofline,
    show_slide,
    summary,
    train,
    tune,
)
from striate.cli.failures import ERROR, reported, say_error
from striate.errors import suggest

# These put their commands on a group's app when they are imported.
_IN_GROUPS = (
    interpret_check,
    interpret_maps,
    interpret_maximize,
    interpret_invert,
    interpret_patches,
    interpret_gabor,
    interpret_equivariance,
    show_filters,
    show_maps,
    show_slide,
    show_matrix,
    show_network,
    show_roofline,
)
_DEBUG = "--debug"
_EPILOG = """\
Begin with `striate demo`. Each command explains itself: `striate train --help`.
"""


class _Group(TyperGroup):
    """The commands, in the order in which one meets them, each run under `reported`."""

    def invoke(self, ctx: Any) -> Any:
        with reported(debug=bool(ctx.obj and ctx.obj.get("debug"))):
            return super().invoke(ctx)

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)


app = typer.Typer(
    cls=_Group,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.command("demo", short_help="Train LeNet-5 on bundled digits, in seconds.")(demo.demo)
app.command("train", short_help="Train a network on a data set.")(train.train)
app.command("evaluate", short_help="Judge a model on a data set.")(evaluate.evaluate)
app.command("predict", short_help="Say what is on pictures.")(predict.predict)
app.command("summary", short_help="Show a network's shapes and costs.")(summary.summary)
app.command("compare", short_help="Put two networks side by side.")(compare.compare)
app.command("receptive", short_help="Show where a network's units look.")(receptive.receptive)
app.command("explain", short_help="Show the arithmetic of one activation.")(explain.explain)
app.add_typer(show.app, name="show")
app.add_typer(interpret.app, name="interpret")
app.command("convert", short_help="Write a model in another file format.")(convert.convert)
app.command("bench", short_help="Time a network, layer by layer.")(bench.bench)
app.command("tune", short_help="Find a network's fastest algorithms.")(tune.tune)
app.add_typer(cache.app, name="cache")


def _version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@app.callback(invoke_without_command=True)
def striate(
    ctx: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
    debug: Annotated[
        bool, typer.Option(_DEBUG, help="Show the traceback of an error; works in any place.")
    ] = False,
) -> None:
    """Convolutional networks: train them, use them, look inside them.

    Machine code is generated for your network and CPU; no compiler is needed.
    """
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


@app.command("version", short_help="Show versions.")
def version() -> None:
    """Show the versions of striate and of what it stands on."""
    import platform
    from importlib import metadata

    from striate.settings import get_num_threads
    from striate.version import __version__

    typer.echo(f"striate {__version__}")
    typer.echo(f"  Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    for name in ("numpy", "llvmlite"):
        try:
            typer.echo(f"  {name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            typer.echo(f"  {name}: not installed")
    count = get_num_threads()
    typer.echo(f"  {count} thread{'s' if count != 1 else ''}")


def run(arguments: Sequence[str]) -> int:
    """Run a command line; returns its exit code.

    Args:
        arguments: what follows the command's name.
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    debug = _DEBUG in arguments[:end]
    words = [a for k, a in enumerate(arguments) if k >= end or a != _DEBUG]
    try:
        code = app(words, prog_name="striate", standalone_mode=False, obj={"debug": debug})
    except typer.Abort:
        return ERROR
    except Exception as error:
        # Usage errors: typer's click, its own or the package's, has no common base to name here.
        if debug or not hasattr(error, "format_message"):
            raise
        say_error(_usage(error))
        return ERROR
    return code if isinstance(code, int) else 0


def _usage(error: Any) -> str:
    """A usage error as a sentence, the nearest option or command, and where to read on."""
    context = getattr(error, "ctx", None)
    message = str(error.message if hasattr(error, "possibilities") else error.format_message())
    message = message.replace("No such", "no such").rstrip(".")
    option = getattr(error, "option_name", None)
    if hasattr(error, "possibilities") and context is not None and option:
        known = [name for p in context.command.params for name in p.opts if name.startswith("--")]
        message += f". {_nearest(option, [*known, '--help'])}"
    if not message.endswith((".", "?")):
        message += "."
    path = context.command_path if context is not None else "striate"
    return f"{message} See `{path} --help`."


def _nearest(word: str, known: list[str]) -> str:
    return suggest(word, known).split(" There is:")[0]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The entry point of the command `striate`."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))
