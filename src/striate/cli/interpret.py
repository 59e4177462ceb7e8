"""`striate interpret`: what a network looks at, a command for each method."""

from __future__ import annotations

import typer

app = typer.Typer(
    help="Show what a network looks at.",
    no_args_is_help=False,
    rich_markup_mode=None,
    invoke_without_command=True,
)


@app.callback(invoke_without_command=True)
def interpret(ctx: typer.Context) -> None:
    """Show what a network looks at: each command writes a picture, and arrays where asked."""
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
