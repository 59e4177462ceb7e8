"""Layers of several tensors: between two arrays they compute at once, without a program."""

from __future__ import annotations

from typing import Any

from striate.nn.module import Module
from striate.nn.trace import find_tracer, layer_named


class SeveralInputs(Module):
    """A layer whose `forward` takes several tensors, or gives several.

    Called on arrays its `forward` computes with them; inside a network it is traced like any other.
    """

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        if find_tracer(inputs, keywords) is not None:
            return super().__call__(*inputs, **keywords)
        with layer_named(self):
            return self.forward(*inputs, **keywords)
