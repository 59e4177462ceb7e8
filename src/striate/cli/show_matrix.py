"""`striate show matrix`: a linear layer as the matrix that it is."""

from __future__ import annotations

from typing import Annotated

import typer

from striate.cli.interpret import write_figure
from striate.cli.options import PictureFile
from striate.cli.show import Network, Shape, app


@app.command("matrix", short_help="A linear layer as a matrix.")
def matrix(
    model: Network,
    layer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A convolution or another linear layer.",
            show_default="the whole network, where it is linear",
        ),
    ] = None,
    input_shape: Shape = None,
    out: PictureFile = "matrix.png",
    npz: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Write the matrix, as SciPy's sparse .npz.", show_default=False
        ),
    ] = None,
) -> None:
    """Draw the matrix of a linear layer: a convolution's blocks of Toeplitz matrices.

    A row for each number of the output, a column for each of the input. Large matrices take much
    memory: --input takes a smaller image.

    \b
    Examples:
      striate show matrix lenet5 --layer conv1 --input 1,28,28
      striate show matrix striate-demo --layer conv1 --npz conv1.npz
    """
    from striate import plot
    from striate.cli.networks import network_of
    from striate.cli.summary import shape_option
    from striate.nn.mode import in_mode

    net, shape = network_of(model, None if input_shape is None else shape_option(input_shape))
    with in_mode(net, training=False):
        title = f"{layer or model} as a matrix"
        write_figure(plot.matrix(net, shape, node=layer, title=title), out)
        if npz is not None:
            _write(net, shape, layer, npz)


def _write(net: object, shape: tuple[int, ...], layer: str | None, path: str) -> None:
    from typing import Any, cast

    from striate.errors import OptionError
    from striate.files import write_atomically
    from striate.inspect import matrix as matrix_of

    if not path.endswith(".npz"):
        raise OptionError(f"--npz: expected a name that ends in .npz; got {path!r}.")
    found, _ = matrix_of(cast(Any, net), shape, node=layer)
    from scipy import sparse

    write_atomically(path, lambda file: sparse.save_npz(file, found))
    typer.echo(f"wrote {path}: {found.shape[0]}×{found.shape[1]}, {found.nnz:,} entries")
