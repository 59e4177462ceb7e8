"""The norm of a step's gradients in blocked programs, before any parameter is updated."""

from __future__ import annotations

import math
from collections.abc import Sequence

from striate.formula.update import GRADIENT_NORM, UpdateRule
from striate.kernels.gradient_norm import root_of_sum, square_sum
from striate.program.blocked import Lowering
from striate.program.stage import Number, Ref, Stage, Work

STRETCH = 16384  # floats of a gradient that one item sums


def norm_stages(low: Lowering, names: Sequence[str], rule: UpdateRule) -> list[Stage]:
    """Stages that write `√Σ g²` over these parameters into the step's hyper number."""
    partial = "squares of the gradients"
    width, stages, works, at = low.target.width, [], [], 0
    for name in names:
        whole, rest = divmod(math.prod(low.shape(name)), STRETCH)
        if whole:
            refs = (Ref("fixed", partial, at, part=1), Ref("gradient", name, part=STRETCH))
            work = Work(square_sum(low.target), (*refs, Number(STRETCH // width)))
            stages.append(Stage(partial, (work,), whole, 0))
            at += whole
        if rest:
            refs = (Ref("fixed", partial, at), Ref("gradient", name, whole * STRETCH))
            kernel = square_sum(low.target, rest % width)
            works.append(Work(kernel, (*refs, Number(rest // width))))
            at += 1
    low.fixed(partial, max(at, 1))
    norm = Ref("array", "hyper", rule.hyper.index(GRADIENT_NORM))
    root = Work(root_of_sum(low.target, at), (norm, Ref("fixed", partial)))
    return [*stages, Stage(partial, (*works, root), 1, 0)]
