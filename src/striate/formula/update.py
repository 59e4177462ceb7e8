"""How an optimiser changes a parameter: scalar assignments applied to every number of it.

    g ← g + weight_decay·p        momentum ← mu·momentum + g        p ← p − lr·momentum

This is the meaning only. `optim` builds the rules; `kernels` makes one fused loop of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from striate.errors import OptionError, suggest
from striate.formula.expression import Expr, evaluate, variables

GRADIENT_NORM = "gradient_norm"
"""A hyper number that the program fills in: the norm of all gradients of the step together."""


@dataclass(frozen=True)
class UpdateRule:
    """The update of one parameter `p` from its gradient `g`.

    Attributes:
        name: the optimiser's name.
        state: arrays kept from step to step for each parameter, 0 at first.
        hyper: numbers given anew for each step.
        assign: assignments to "p", "g", a state or a new name, in order; each may read p, g, the
            states, the hyper numbers and what was assigned before it.
        kept: states that are kept of arrays without a gradient too (running statistics); their
            assignments may read p, the state itself and the hyper numbers.
    """

    name: str
    state: tuple[str, ...]
    hyper: tuple[str, ...]
    assign: tuple[tuple[str, Expr], ...]
    kept: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        known = {"p", "g", *self.state, *self.hyper}
        for target, value in self.assign:
            for name in variables(value):
                if name not in known:
                    raise OptionError(
                        f"{self.name}: the assignment to {target!r} reads {name!r}. "
                        f"{suggest(name, known)}"
                    )
            if target in self.hyper:
                raise OptionError(f"{self.name}: the hyper number {target!r} cannot be assigned.")
            known.add(target)

    @property
    def needs_norm(self) -> bool:
        """Whether no parameter may change before all gradients of the step are known."""
        return GRADIENT_NORM in self.hyper

    def without_gradient(self) -> UpdateRule:
        """What is done with arrays that have no gradient: the `kept` states follow them."""
        assign = tuple((target, value) for target, value in self.assign if target in self.kept)
        return UpdateRule(f"{self.name} kept", self.state, self.hyper, assign, self.kept)

    def __str__(self) -> str:
        return "; ".join(f"{target} ← {value}" for target, value in self.assign)


def apply_numpy(
    rule: UpdateRule,
    p: ArrayLike,
    g: ArrayLike,
    state: Mapping[str, ArrayLike],
    hyper: Mapping[str, float],
    dtype: DTypeLike = np.float64,
) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
    """One update, in float64 unless another type is asked for.

    Args:
        rule: the optimiser's rule.
        p: the parameter.
        g: its gradient, of the same shape.
        state: the rule's states, of the same shape.
        hyper: the step's numbers.
        dtype: what it is computed in, and what is given.
    Returns:
        The new parameter and the new states; the arguments are left alone.

    >>> from striate.formula.expression import Var
    >>> sgd = UpdateRule("sgd", (), ("lr",), (("p", Var("p") - Var("lr") * Var("g")),))
    >>> apply_numpy(sgd, [1.0], [2.0], {}, {"lr": 0.25})[0]
    array([0.5])
    """
    arrays: dict[str, ArrayLike] = {"p": p, "g": g, **{name: state[name] for name in rule.state}}
    values: dict[str, NDArray[Any]] = {k: np.array(v, dtype) for k, v in arrays.items()}
    values.update({name: np.asarray(hyper[name], dtype) for name in rule.hyper})
    shape = values["p"].shape
    with np.errstate(all="ignore"):
        for target, value in rule.assign:
            values[target] = np.array(np.broadcast_to(evaluate(value, values), shape), dtype)
    return values["p"], {name: values[name] for name in rule.state}
