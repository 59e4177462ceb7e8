"""`striate cache`: where compiled code and fetched data sets are kept, and how much there is."""

from __future__ import annotations

from pathlib import Path

import typer

app = typer.Typer(
    help="Show or clear the cache of compiled code.",
    no_args_is_help=False,
    rich_markup_mode=None,
    invoke_without_command=True,
)


@app.callback(invoke_without_command=True)
def cache(ctx: typer.Context) -> None:
    """Show or clear the cache of compiled code."""
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


@app.command()
def info() -> None:
    """Show where compiled code and data sets are kept, and how much there is."""
    from striate.codegen.cache import usage
    from striate.inspect.summary_text import size_text
    from striate.settings import cache_folder

    code = usage()
    typer.echo(f"compiled code  {code.folder}")
    typer.echo(f"               {code.entries:,} kernels, {size_text(code.size)}")
    data = cache_folder() / "data"
    files = [p for p in data.rglob("*") if p.is_file()] if data.is_dir() else []
    typer.echo(f"data sets      {data}")
    typer.echo(f"               {len(files):,} files, {size_text(_size(files))}")


@app.command()
def clear() -> None:
    """Remove the compiled code; it is made anew when it is needed. Data sets stay."""
    from striate.codegen.cache import clear as clear_code
    from striate.inspect.summary_text import size_text

    before = clear_code()
    typer.echo(f"removed {before.entries:,} kernels, {size_text(before.size)}: {before.folder}")


def _size(files: list[Path]) -> int:
    return sum(path.stat().st_size for path in files)
