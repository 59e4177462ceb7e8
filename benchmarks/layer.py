"""A layer of problems.txt: its sizes, its arithmetic, its bytes, and itself as a small graph."""

from __future__ import annotations

import math
from dataclasses import dataclass

from striate import nn
from striate.formula.activation import map_attributes
from striate.formula.expression import Var, maximum, minimum
from striate.graph.graph import Graph, Node

FUSED = ("bias", "add", "relu", "relu6")
_FLOAT = 4


@dataclass(frozen=True)
class Layer:
    """A convolution (h = w = 0: fully connected) with what is fused into its forward pass.

    Attributes:
        n: samples; c: input channels; h, w: input rows and columns; o: output channels.
        k: kernel size; s: stride; p: padding; g: groups.
        transposed: whether it is a transposed convolution.
        which: forward, input (the gradient to the input) or weight.
        fused: of the forward pass, from `FUSED`.
    """

    n: int
    c: int
    o: int
    h: int = 0
    w: int = 0
    k: int = 1
    s: int = 1
    p: int = 0
    g: int = 1
    transposed: bool = False
    which: str = "forward"
    fused: tuple[str, ...] = ()

    @classmethod
    def of(cls, settings: dict[str, str]) -> Layer:
        """The layer that a line of problems.txt describes."""
        number = {key: int(settings[key]) for key in "nchwokspg" if key in settings}
        number.setdefault("w", number.get("h", 0))
        number.setdefault("n", 1)
        which = settings.get("pass", "forward")
        fused = tuple(filter(None, settings.get("fused", "").split("+")))
        if not set(fused) <= set(FUSED):
            raise ValueError(f"problems.txt: fused is made of {', '.join(FUSED)}; got {fused}")
        transposed = settings.get("transposed", "0") == "1"
        return cls(
            **number, transposed=transposed, which=which, fused=fused if which == "forward" else ()
        )

    @property
    def linear(self) -> bool:
        return self.h == 0

    @property
    def source_shape(self) -> tuple[int, ...]:
        """Of a sample of the input."""
        return (self.c,) if self.linear else (self.c, self.h, self.w)

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Of a sample of the output."""
        if self.linear:
            return (self.o,)
        if self.transposed:
            return (self.o, *((x - 1) * self.s - 2 * self.p + self.k for x in (self.h, self.w)))
        return (
            self.o,
            *((x + 2 * self.p - self.k) // self.s + 1 for x in (self.h, self.w)),
        )

    @property
    def weight_shape(self) -> tuple[int, ...]:
        if self.linear:
            return (self.o, self.c)
        if self.transposed:
            return (self.c, self.o // self.g, self.k, self.k)
        return (self.o, self.c // self.g, self.k, self.k)

    @property
    def multiply_adds(self) -> int:
        """Of one call of the pass; all three passes have as many."""
        if self.linear:
            return self.n * self.c * self.o
        places = math.prod((self.source_shape if self.transposed else self.out_shape)[1:])
        return self.n * places * math.prod(self.weight_shape[:2]) * self.k**2

    @property
    def bytes(self) -> int:
        """What a pass must at least read and write: input, weights, output, fused residual."""
        source, out = math.prod(self.source_shape), math.prod(self.out_shape)
        return _FLOAT * (
            self.n * (source + out * (2 if "add" in self.fused else 1))
            + math.prod(self.weight_shape)
        )

    @property
    def intensity(self) -> float:
        """Operations a byte: a multiply-add is two."""
        return 2 * self.multiply_adds / self.bytes

    @property
    def title(self) -> str:
        """The layer in a few words.

        >>> Layer(1, 64, 64, 56, 56, 3, p=1).title
        '64×56² → 64, 3×3'
        """
        if self.linear:
            return f"{self.c} → {self.o}"
        image = f"{self.h}²" if self.h == self.w else f"{self.h}×{self.w}"
        text = f"{self.c}×{image} → {self.o}, {self.k}×{self.k}"
        text += f"/{self.s}" if self.s > 1 else ""
        if self.g > 1:
            text += " depthwise" if self.g == self.c == self.o else f" in {self.g} groups"
        return text + (" transposed" if self.transposed else "")

    # ---- as a graph --------------------------------------------------------------------------

    @property
    def op(self) -> str:
        if self.linear:
            return "linear"
        return "conv_transpose2d" if self.transposed else "conv2d"

    def _module(self) -> nn.Module:
        bias = "bias" in self.fused
        if self.linear:
            return nn.Linear(self.c, self.o, bias=bias)
        kind = nn.ConvTranspose2d if self.transposed else nn.Conv2d
        made: nn.Module = kind(self.c, self.o, self.k, self.s, self.p, groups=self.g, bias=bias)
        return made

    def forward_graph(self) -> Graph:
        """The forward pass: inputs "input" and, where one is added, "residual"."""
        graph = nn.Sequential(self._module()).to_graph(self.source_shape)
        last = graph.outputs[0]
        if "add" in self.fused:
            graph.append(Node("residual", "input", shape=self.out_shape))
            added = map_attributes(Var("x") + Var("y"), ("x", "y"))
            last = graph.apply("add", "map", (last, "residual"), added).name
        if "relu" in self.fused:
            last = graph.apply("relu", "map", (last,), map_attributes("relu")).name
        if "relu6" in self.fused:
            clipped = map_attributes(minimum(maximum(Var("x"), 0), 6))
            last = graph.apply("relu6", "map", (last,), clipped).name
        graph.outputs = (last,)
        return graph

    def pass_graph(self) -> Graph:
        """The forward pass, or a gradient alone: of the input "upstream" (and "input")."""
        graph = self.forward_graph()
        if self.which == "forward":
            return graph
        (node,) = [n for n in graph.steps if n.op == self.op]
        found = Graph(n for n in graph.nodes.values() if n.op in ("input", "parameter"))
        found.append(Node("upstream", "input", shape=self.out_shape))
        op = f"{self.op}:d{'x' if self.which == 'input' else 'w'}"
        found.apply("gradient", op, ("upstream", *node.inputs), node.attributes)
        found.outputs = ("gradient",)
        return found
