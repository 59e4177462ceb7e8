"""The picture of all activations with their derivatives, `docs/images/activations.png`.

Of functions of several numbers one is moved: softmax beside 0 and 1, a gate of 2, three lines.
"""

from __future__ import annotations

import io
import math
from pathlib import Path

from PIL import Image

from striate import plot
from striate.formula.activation import ACTIVATIONS, threshold
from striate.formula.channel_map import apl, prelu, srelu
from striate.formula.expression import (
    Const,
    Expr,
    Var,
    from_json,
    log,
    maximum,
    minimum,
    sigmoid,
    substitute,
    where,
)

IMAGES = Path(__file__).parents[1] / "images"
NAMES = {
    "identity": "Identity", "binary_step": "BinaryStep", "sigmoid": "Sigmoid", "tanh": "Tanh",
    "scaled_tanh": "ScaledTanh", "sqnl": "SQNL", "arctan": "Arctan", "arsinh": "Arsinh",
    "softsign": "Softsign", "isru": "ISRU", "isrlu": "ISRLU", "relu": "ReLU", "relu6": "ReLU6",
    "leaky_relu": "LeakyReLU", "elu": "ELU", "celu": "CELU", "selu": "SELU",
    "softplus": "Softplus", "silu": "SiLU", "gelu": "GELU", "gelu_tanh": "GELU, tanh",
    "mish": "Mish", "elish": "ELiSH", "hardtanh": "Hardtanh", "hard_sigmoid": "Hardsigmoid",
    "hard_swish": "Hardswish", "hardshrink": "Hardshrink", "softshrink": "Softshrink",
    "tanhshrink": "Tanhshrink", "log_sigmoid": "LogSigmoid",
}  # fmt: skip


def curves() -> dict[str, Expr]:
    """All activations of one number; the learned ones with some parameters."""
    found = {title: ACTIVATIONS[name].expr for name, title in NAMES.items()}
    found["Threshold(1, −1)"] = threshold(1.0, -1.0).expr
    found["BReLU, odd"] = minimum(Var("x"), 0)
    found["PReLU, a = ¼"] = _with(prelu(), 0.25)
    found["SReLU"] = _with(srelu(), -1.0, 0.3, 1.5, 0.5)
    hinges = {"p0_0": 0.5, "p1_0": 0.0, "p0_1": -0.8, "p1_1": -2.0}
    found["APL, S = 2"] = _at(from_json(apl(2)["expr"]), hinges)
    return found | _of_several()


def _of_several() -> dict[str, Expr]:
    x, gate = Var("x"), 2.0
    others = math.log(math.exp(0.0) + math.exp(1.0))  # what 0 and 1 come to in a softmax
    softmax = sigmoid(x - others)
    return {
        "RReLU, mean": where(x < 0, x * (11 / 48), x),
        "Softmax; 0, 1": softmax,
        "LogSoftmax; 0, 1": log(softmax),
        "Softmin; 0, −1": sigmoid(-x - others),
        "GLU, b = 2": x / (1 + math.exp(-gate)),
        "Maxout of 3": maximum(maximum(-x - 1, x * 0.2), x * 1.5 - 2),
    }


def _with(attributes: dict[str, object], *parameters: float) -> Expr:
    return _at(
        from_json(attributes["expr"]), {f"p{k}": value for k, value in enumerate(parameters)}
    )


def _at(expression: Expr, values: dict[str, float]) -> Expr:
    return substitute(expression, {name: Const(value) for name, value in values.items()})


def main() -> None:
    figure = plot.scalar_functions(curves(), columns=6, title="Activations and their derivatives")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    with Image.open(buffer) as picture:
        small = picture.convert("RGB").quantize(32, dither=Image.Dither.NONE)
        small.save(IMAGES / "activations.png", optimize=True)


if __name__ == "__main__":
    main()
