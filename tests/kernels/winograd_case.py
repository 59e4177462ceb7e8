"""One Winograd convolution as its tests see it: recipes run item by item, against the formula."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from blocked_case import from_blocked, packed_weights, to_blocked
from conv_case import ConvCase
from harness import changed, given, run_kernel

from striate.codegen.targets import Target
from striate.formula.operations import find_operation
from striate.kernels.kernel import Kernel, Tail
from striate.kernels.packing import Packing
from striate.kernels.routine import Recipe, Routine
from striate.kernels.winograd import (
    Options,
    Winograd,
    transform_weights,
    u_floats,
    winograd,
    winograd_weight,
)
from striate.kernels.winograd_plan import WeightOptions

Values = dict[str, Any]
_WRITTEN = ("out", "kept", "dw", "u", "v", "d", "du", "scratch")


def run_recipe(
    made: Recipe, target: Target, values: Values, samples: int, backward: bool = False
) -> None:
    """Run all items of every step in (reverse) order; values of the batch have a first axis.

    Names of `values` that begin with a capital are one for all samples: "U" is the argument u.
    """
    values |= {b.name: np.full((samples, b.per_sample), np.nan, np.float32) for b in made.buffers}
    for buffer in made.buffers:
        if buffer.fixed:
            values[buffer.name.capitalize()] = np.full(buffer.fixed, np.nan, np.float32)
    for routine in made.steps:
        size = routine.samples or samples
        groups = [slice(n, min(n + size, samples)) for n in range(0, samples, size)]
        items = [(group, part) for group in groups for part in range(routine.parts)]
        for group, part in reversed(items) if backward else items:
            _run_item(routine, target, values, group, part)


def _run_item(routine: Routine, target: Target, values: Values, group: slice, part: int) -> None:
    arguments: list[Any] = []
    places: list[Any] = []
    for full in routine.kernel.arguments:
        name = full.partition(":")[0]
        if name == "part":
            arguments.append(part)
        elif name == "samples":
            arguments.append(group.stop - group.start)
        elif name.endswith("_step"):
            arguments.append(values[name[:-5]][0].size)
        else:
            place = _place(routine, values, name, group)
            if name in _WRITTEN:
                places.append(place)
            arguments.append((changed if name in _WRITTEN else given)(place))
    for place, result in zip(places, run_kernel(routine.kernel, target, *arguments), strict=True):
        place[...] = result


def _place(routine: Routine, values: Values, name: str, group: slice) -> Any:
    if name == "scratch":
        return np.full(routine.scratch, np.nan, np.float32)
    if name.capitalize() in values:
        return values[name.capitalize()]
    return values[name][group]


class WinogradCase:
    """A `ConvCase` of 3×3, by Winograd with tiles of m×m."""

    def __init__(self, case: ConvCase, m: int, samples: int = 1) -> None:
        self.case, self.m, self.samples = case, m, samples

    def __str__(self) -> str:
        return f"F({self.m},3) {self.samples}× {self.case}"

    # ---- the convolutions -----------------------------------------------------------------------

    @property
    def form(self) -> Winograd:
        c = self.case
        return Winograd(c.outputs, c.channels, c.size, c.padding, self.m, c.bias, self.samples)

    @property
    def back(self) -> Winograd:
        """The convolution that gives the gradient to the input."""
        c = self.case
        (a, b), (left, right) = c.padding
        sides = ((2 - a, 2 - b), (2 - left, 2 - right))
        return Winograd(c.channels, c.outputs, c.out, sides, self.m, False, self.samples)

    def kernels(self, target: Target) -> list[Kernel]:
        """All that the tests with default options run."""
        made = [
            transform_weights(target, self.form),
            winograd(target, self.form),
            transform_weights(target, self.back, flipped=True),
            winograd(target, self.back),
            winograd_weight(target, self.form),
        ]
        return [r.kernel for recipe in made for r in recipe.steps]

    # ---- running --------------------------------------------------------------------------------

    def transformed(self, target: Target, w: Any, back: bool = False) -> Any:
        form = self.back if back else self.form
        packing = Packing(self.case.outputs, self.case.channels, 1, (3, 3), back)
        values = {
            "U": np.full(u_floats(target, form), np.nan, np.float32),
            "Packed": packed_weights(packing, w, target),
        }
        run_recipe(transform_weights(target, form, back), target, values, 1)
        return values["U"]

    def _product(
        self,
        form: Winograd,
        target: Target,
        source: Any,
        values: Values,
        made: Recipe,
        backward: bool,
    ) -> Values:
        width = target.width
        shape = (-(-form.outputs // width), *form.out, width)
        values["source"] = np.stack([to_blocked(s, width) for s in source])
        for name in ("out", "kept"):
            values.setdefault(name, np.full((len(source), *shape), np.nan, np.float32))
        run_recipe(made, target, values, len(source), backward)
        for name in ("out", "kept"):
            values[name] = np.stack([from_blocked(y, form.outputs) for y in values[name]])
        return values

    def forward(
        self,
        target: Target,
        x: Any,
        w: Any,
        bias: Any,
        options: Options | None = None,
        *,
        tail: Tail | None = None,
        extras: tuple[Any, ...] = (),
        in_place: bool = False,
        backward: bool = False,
    ) -> Values:
        width = target.width
        values: Values = {"U": self.transformed(target, w)}
        if self.case.bias:
            values["Bias"] = np.zeros(-(-self.case.outputs // width) * width, np.float32)
            values["Bias"][: self.case.outputs] = bias
        for k, extra in enumerate(extras):
            values[f"e{k}"] = np.stack([to_blocked(e, width) for e in extra])
        if in_place:
            values["out"] = values["e0"]
        made = winograd(target, self.form, tail, options)
        return self._product(self.form, target, x, values, made, backward)

    def to_input(self, target: Target, dy: Any, w: Any, options: Options | None = None) -> Any:
        values: Values = {"U": self.transformed(target, w, back=True)}
        made = winograd(target, self.back, None, options)
        return self._product(self.back, target, dy, values, made, False)["out"]

    def to_weight(
        self,
        target: Target,
        x: Any,
        dy: Any,
        options: WeightOptions | None = None,
        backward: bool = False,
    ) -> Any:
        width, c = target.width, self.case
        count = -(-c.outputs // width)
        values: Values = {
            "Dw": np.full((count, c.channels, 9, width), np.nan, np.float32),
            "x": np.stack([to_blocked(s, width) for s in x]),
            "dy": np.stack([to_blocked(s, width) for s in dy]),
        }
        run_recipe(winograd_weight(target, self.form, options), target, values, len(x), backward)
        dw = np.moveaxis(values["Dw"], -1, 1).reshape(count * width, c.channels, 3, 3)
        return dw[: c.outputs]

    # ---- references -----------------------------------------------------------------------------

    def expected(self, x: Any, w: Any, bias: Any) -> Any:
        arrays = [x, w, bias] if self.case.bias else [x, w]
        return find_operation("conv2d").reference(self.case.attributes, arrays)

    def gradients(self, x: Any, w: Any, dy: Any) -> list[Any]:
        operation = find_operation("conv2d")
        return list(operation.gradient(self.case.attributes, dy, [x, w, self.case.b()]))

    def with_m(self, m: int) -> WinogradCase:
        return WinogradCase(replace(self.case), m, self.samples)
