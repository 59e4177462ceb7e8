"""Options that several commands share."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A model file (.safetensors or .onnx), or the folder of a training.",
        show_default=False,
    ),
]
Data = Annotated[
    str,
    typer.Option(
        "--data",
        metavar="NAME|FOLDER",
        help="digits, mnist, fashion-mnist, or a folder with the four IDX files.",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        metavar="N", help="Threads; results do not depend on it.", show_default="all cores"
    ),
]
Backend = Annotated[
    str | None,
    typer.Option(
        metavar="native|reference",
        help="Machine code, or NumPy in float64 (slow).",
        show_default="native",
    ),
]
PictureFile = Annotated[
    str,
    typer.Option("--out", metavar="FILE", help="The picture to write: .png, .svg or .pdf."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Background = Annotated[
    str,
    typer.Option(
        metavar="auto|dark|light|keep",
        help="The background that the network learned on; a picture with another is inverted. "
        "auto asks the model file.",
    ),
]


def use_threads(count: int | None) -> None:
    """Take over --threads, where it is given."""
    from striate.settings import set_num_threads

    if count is not None:
        set_num_threads(count)


def place_option(text: str, option: str) -> tuple[int, ...]:
    """The value of an option that says a place, "0,14,14"."""
    from striate.errors import OptionError

    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise OptionError(f"{option}: expected whole numbers, as 0,14,14; got {text!r}.") from None


def print_json(data: object) -> None:
    """One JSON document on stdout."""
    import json

    sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False) + "\n")
