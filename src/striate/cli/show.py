"""`striate show`: pictures of a network and of what happens in it."""

from __future__ import annotations

import typer

app = typer.Typer(
    help="Draw a network and what happens in it.",
    no_args_is_help=False,
    rich_markup_mode=None,
    invoke_without_command=True,
)


@app.callback(invoke_without_command=True)
def show(ctx: typer.Context) -> None:
    """Draw a network and what happens in it: filters, feature maps, costs, the graph."""
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
