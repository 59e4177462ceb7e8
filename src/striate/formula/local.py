"""Locally connected layers: a convolution whose kernels are not shared, and its transpose.

Every output position has a bank of kernels of its own. The positions are the last axes of the
weight, in the order of the image: neighbours in a row of the image then have neighbouring weights,
and a whole row is one run of multiply-adds over memory, forward and backward, on images as they
are. Not here: kernels that come back after t positions (`tiled`).
"""

from __future__ import annotations

from striate.errors import ShapeError
from striate.formula.conv import (
    SPACE,
    Convolution,
    Indices,
    TransposedConvolution,
)
from striate.formula.expression import Index
from striate.formula.operation import Shape


class _Local(Convolution):
    position = "output"  # what the weight has positions of

    def _axes_of_weight(self) -> str:
        space = SPACE[self.rank]
        positions = ", ".join(f"{self.position} {axis}" for axis in space)
        return f"{self.weight_axes}, {', '.join(space)}, {positions}"

    def bank(self, w: Shape) -> Shape:
        return tuple(w[: 2 + self.rank])

    def _positions(self, x: Shape, output: tuple[int, ...]) -> tuple[int, ...]:
        return output

    def _require_places(self, x: Shape, w: Shape, output: tuple[int, ...]) -> None:
        expected, got = self._positions(x, output), w[2 + self.rank :]
        if expected != got:
            raise ShapeError(
                f"{self.name}: expected kernels for {'×'.join(map(str, expected))} {self.position} "
                f"positions, as x {x} has; got w {w}, for {'×'.join(map(str, got))}. A locally "
                f"connected layer takes images of one size: make it for {x[1:]}."
            )

    def _require_bias(self, b: Shape, output: Shape) -> None:
        if b not in (output[:1], output):
            raise ShapeError(
                f"{self.name}: b expected shape ({output[0]},), one number an output channel, or "
                f"{output}, one an output; got {b}."
            )

    def _weight(
        self, w: Shape, out: Index, into: Index, taps: Indices, places: Indices, window: Indices
    ) -> Indices:
        return (*super()._weight(w, out, into, taps, places, window), *places)


class Local2d(_Local):
    """`y[n,o,i,j] = b + Σ_{c,p,q} x[n, c, i·s + p·d − P, j·s + q·d − P] · w[o,c,p,q,i,j]`.

    A convolution whose kernels depend on the place; b is `b[o]` or `b[o,i,j]`, by its shape.

    Inputs: x (n, in_channels, ih, iw); w (out_channels, in_channels/groups, kh, kw, oh, ow);
    b (out_channels,) or (out_channels, oh, ow) or none. Output: (n, out_channels, oh, ow).

    Source: LeCun, Generalization and network design strategies (1989); Taigman et al., DeepFace,
    CVPR 2014.

    >>> settings = {"stride": [1, 1], "padding": [[0, 0], [0, 0]], "dilation": [1, 1], "groups": 1}
    >>> Local2d().shape(settings, [(3, 8, 8), (4, 3, 3, 3, 6, 6), (4, 6, 6)])
    (4, 6, 6)
    """

    name = "local2d"


class Local1d(_Local):
    """`y[n,o,i] = b + Σ_{c,p} x[n, c, i·s + p·d − P] · w[o,c,p,i]`: `Local2d` of sequences.

    Inputs: x (n, in_channels, length); w (out_channels, in_channels/groups, k, out length);
    b (out_channels,) or (out_channels, out length) or none.
    """

    name, rank = "local1d", 1


class Local3d(_Local):
    """`y[n,o,k,i,j] = b + Σ_{c,r,p,q} x[n, c, k·s + r·d − P, …] · w[o,c,r,p,q,k,i,j]`: of volumes.

    Inputs: x (n, in_channels, id, ih, iw); w (out_channels, in_channels/groups, kd, kh, kw, od,
    oh, ow); b (out_channels,) or (out_channels, od, oh, ow) or none.
    """

    name, rank = "local3d", 3


class _LocalTranspose(_Local, TransposedConvolution):
    position = "input"

    def _positions(self, x: Shape, output: tuple[int, ...]) -> tuple[int, ...]:
        return x[1:]

    def _weight(
        self, w: Shape, out: Index, into: Index, taps: Indices, places: Indices, window: Indices
    ) -> Indices:
        return (*TransposedConvolution._weight(self, w, out, into, taps, places, window), *window)


class LocalTranspose2d(_LocalTranspose):
    """The transpose of `Local2d`: what it sends back to its input.

    `y[n,o,i,j] = b + Σ_{c,p,q} x[n,c,k,l] · w[c,o,p,q,k,l]` with `k = (i + P − p·d)/s` and
    `l = (j + P − q·d)/s`, over whole places inside x only.

    Inputs: x (n, in_channels, ih, iw); w (in_channels, out_channels/groups, kh, kw, ih, iw);
    b (out_channels,) or (out_channels, oh, ow) or none. Output: (n, out_channels, oh, ow),
    `oh = (ih − 1)·sh − top − bottom + dh·(kh−1) + output_padding + 1`.

    >>> settings = {"stride": [2], "padding": [[0, 0]], "output_padding": [0], "dilation": [1],
    ...             "groups": 1}
    >>> LocalTranspose1d().shape(settings, [(3, 4), (3, 5, 2, 4)])
    (5, 8)
    """

    name = "local_transpose2d"


class LocalTranspose1d(_LocalTranspose):
    """`y[n,o,i] = b + Σ_{c,p} x[n,c,k] · w[c,o,p,k]` with `k = (i + P − p·d)/s`: of `Local1d`.

    Inputs: x (n, in_channels, length); w (in_channels, out_channels/groups, k, length);
    b (out_channels,) or (out_channels, out length) or none.
    """

    name, rank = "local_transpose1d", 1


class LocalTranspose3d(_LocalTranspose):
    """The transpose of `Local3d`.

    Inputs: x (n, in_channels, id, ih, iw); w (in_channels, out_channels/groups, kd, kh, kw, id,
    ih, iw); b (out_channels,) or (out_channels, od, oh, ow) or none.
    """

    name, rank = "local_transpose3d", 3
