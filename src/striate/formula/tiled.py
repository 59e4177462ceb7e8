"""Tiled convolution: kernels that come back after t positions.

With t = 1 it is a convolution, with t = the output's size a locally connected layer; between them
neighbours differ and distant places share, so that units of different kernels can be pooled.
"""

from __future__ import annotations

from striate.formula.conv import SPACE, Convolution, Indices
from striate.formula.expression import Index
from striate.formula.operation import Shape


class _Tiled(Convolution):
    def _axes_of_weight(self) -> str:
        tiles = ", ".join(f"tiles of {axis}" for axis in SPACE[self.rank])
        return f"{tiles}, {super()._axes_of_weight()}"

    def bank(self, w: Shape) -> Shape:
        return tuple(w[self.rank :])

    def _weight(
        self, w: Shape, out: Index, into: Index, taps: Indices, places: Indices, window: Indices
    ) -> Indices:
        tiles = tuple(place % size for place, size in zip(places, w, strict=False))
        return (*tiles, *super()._weight(w, out, into, taps, places, window))


class TiledConv2d(_Tiled):
    """`y[n,o,i,j] = b[o] + Σ_{c,p,q} x[n, c, i·s + p·d − P, j·s + q·d − P] · w[i%t,j%t,o,c,p,q]`.

    Inputs: x (n, in_channels, ih, iw); w (t, t, out_channels, in_channels/groups, kh, kw), the two
    t may differ; b (out_channels,) or none. Output: (n, out_channels, oh, ow), as of `Conv2d`.

    Source: Le et al., Tiled convolutional neural networks, NIPS 2010.

    >>> settings = {"stride": [1, 1], "padding": [[0, 0], [0, 0]], "dilation": [1, 1], "groups": 1}
    >>> TiledConv2d().shape(settings, [(3, 8, 8), (2, 2, 4, 3, 3, 3)])
    (4, 6, 6)
    """

    name = "tiled_conv2d"


class TiledConv1d(_Tiled):
    """`y[n,o,i] = b[o] + Σ_{c,p} x[n, c, i·s + p·d − P] · w[i%t,o,c,p]`: of sequences.

    Inputs: x (n, in_channels, length); w (t, out_channels, in_channels/groups, k); b or none.
    """

    name, rank = "tiled_conv1d", 1


class TiledConv3d(_Tiled):
    """`TiledConv2d` of volumes: w (t, t, t, out_channels, in_channels/groups, kd, kh, kw)."""

    name, rank = "tiled_conv3d", 3
