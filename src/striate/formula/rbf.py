"""LeNet-5's own two operations: radial basis function units and trainable subsampling.

Source: LeCun, Bottou, Bengio, Haffner, Gradient-based learning applied to document recognition,
Proceedings of the IEEE 86 (1998), section II.B.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from striate.errors import ShapeError
from striate.formula.expression import Sum, Tensor, axes
from striate.formula.formula import Formula
from striate.formula.operation import (
    Attributes,
    Operation,
    Shape,
    require_attributes,
    require_rank,
    sizes_attribute,
)


class Rbf(Operation):
    """`y[n,o] = Σ_k (x[n,k] − w[o,k])²`: the squared distance to a prototype of each class.

    Inputs: x (n, in_features); w (out_features, in_features), left out where the attribute
    `prototypes` gives the same numbers, which are then not trained.
    Output: (n, out_features); the class with the smallest number is the answer.

    >>> Rbf().shape({"prototypes": None}, [(84,), (10, 84)])
    (10,)
    """

    name = "rbf"
    arguments = ("x", "w")
    optional = 1
    parameters = ("w",)
    attributes = ("prototypes",)

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        self.argument_names(attributes, len(shapes))
        if (attributes["prototypes"] is None) != (len(shapes) == 2):
            raise ShapeError(
                "rbf: expected either w or the attribute prototypes; got both or none."
            )
        x = tuple(shapes[0])
        w = tuple(shapes[1]) if len(shapes) == 2 else np.shape(attributes["prototypes"])
        require_rank(self.name, "w", w, "out_features, in_features")
        if x != (w[1],):
            raise ShapeError(
                f"rbf: expected x of shape ({w[1]},) besides the batch, as w {w} has; got {x}."
            )
        return (w[0],)

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        n, o, k = axes("n o k")
        apart = Tensor("x")[n, k] - Tensor("w")[o, k]
        body, x = Sum((k,), apart * apart), tuple(shapes[0])
        if len(shapes) == 2:
            return Formula.infer((n, o), body, {"x": x, "w": tuple(shapes[1])})
        fixed = np.asarray(attributes["prototypes"], np.float64)
        sizes = {"n": x[0], "o": len(fixed), "k": x[1]}
        return Formula((n, o), body, sizes, {"x": x}, constants={"w": fixed})


class Subsample(Operation):
    """`y[n,c,i,j] = b[c] + w[c] · Σ_{p,q} x[n, c, i·kh + p, j·kw + q]`.

    The sum of each of the windows that lie side by side, times one trained number of the map, plus
    another. Rows and columns that fill no window are left out.

    Inputs: x (n, channels, ih, iw); w (channels,); b (channels,).
    Output: (n, channels, ⌊ih/kh⌋, ⌊iw/kw⌋).

    >>> Subsample().shape({"kernel": [2, 2]}, [(6, 28, 28), (6,), (6,)])
    (6, 14, 14)
    """

    name = "subsample"
    arguments = ("x", "w", "b")
    parameters = ("w", "b")
    attributes = ("kernel",)

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        names = self.argument_names(attributes, len(shapes))
        x = tuple(shapes[0])
        require_rank(self.name, "x", x, "channels, height, width")
        kernel = sizes_attribute(self.name, attributes, "kernel", 2)
        for name, shape in zip(names[1:], shapes[1:], strict=True):
            if tuple(shape) != (x[0],):
                raise ShapeError(
                    f"subsample: {name} expected shape ({x[0]},), one number a channel of x {x}; "
                    f"got {tuple(shape)}."
                )
        if any(size < k for size, k in zip(x[1:], kernel, strict=True)):
            raise ShapeError(
                f"subsample: expected windows that fit the image; got a kernel of "
                f"{kernel[0]}x{kernel[1]} for images of {x[1]}x{x[2]}."
            )
        return (x[0], x[1] // kernel[0], x[2] // kernel[1])

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        n, c, i, j, p, q = axes("n c i j p q")
        x = tuple(shapes[0])
        kh, kw = sizes_attribute(self.name, attributes, "kernel", 2)
        total = Sum((p, q), Tensor("x")[n, c, i * kh + p, j * kw + q])
        body = Tensor("b")[c] + Tensor("w")[c] * total
        sizes = {"n": x[0], "c": x[1], "i": x[2] // kh, "j": x[3] // kw, "p": kh, "q": kw}
        tensors = {"x": x, "w": tuple(shapes[1]), "b": tuple(shapes[2])}
        return Formula((n, c, i, j), body, sizes, tensors)
