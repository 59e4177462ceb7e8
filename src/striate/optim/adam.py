"""Adam and AdamW: steps scaled by running averages of the gradient and of its square."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from striate.errors import OptionError
from striate.formula.expression import Expr, Var, sqrt
from striate.formula.update import UpdateRule
from striate.optim.optimizer import Optimizer, require

_HYPER = ("step_size", "rate1", "beta2", "rate2", "root_correction2", "eps")


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam: `m ← m + (1−β₁)·(g−m)`, `v ← β₂·v + (1−β₂)·g²`, then at step t = 1, 2, …

    `p ← p − lr/(1−β₁ᵗ) · m / (√v/√(1−β₂ᵗ) + ε)`. Weight decay λ adds `λ·p` to the gradient.

    Args:
        lr: the learning rate, at least 0.
        betas: (β₁, β₂), both at least 0 and below 1.
        eps: ε, at least 0.
        weight_decay: λ, at least 0.
    Raises:
        OptionError: a setting is out of its range.
    Source:
        Kingma, Ba: Adam: a method for stochastic optimization, 2015; the order of operations is
        that of torch.optim.Adam.

    >>> Adam().rule().state
    ('mean', 'mean_square')
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    _decoupled: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.betas, (tuple, list)) or len(self.betas) != 2:
            raise OptionError(
                f"{type(self).__name__}: expected two numbers; got betas={self.betas!r}."
            )
        object.__setattr__(self, "betas", tuple(self.betas))
        for position, beta in enumerate(self.betas):
            require(self, f"betas[{position}]", beta, 0.0, below=1.0)
        require(self, "eps", self.eps, 0.0)
        require(self, "weight_decay", self.weight_decay, 0.0)

    def rule(self) -> UpdateRule:
        p, g, m, v = (Var(name) for name in ("p", "g", "mean", "mean_square"))
        step_size, rate1, beta2, rate2, root_correction2, eps = (Var(name) for name in _HYPER)
        assign: list[tuple[str, Expr]] = []
        hyper: tuple[str, ...] = _HYPER
        if self.weight_decay:
            name = "keep" if self._decoupled else "weight_decay"
            hyper = (*_HYPER, name)
            assign.append(("p", p * Var(name)) if self._decoupled else ("g", g + Var(name) * p))
        assign += [
            ("mean", m + rate1 * (g - m)),
            ("mean_square", beta2 * v + rate2 * (g * g)),
            ("p", p - step_size * m / (sqrt(v) / root_correction2 + eps)),
        ]
        name = "adamw" if self._decoupled else "adam"
        return UpdateRule(name, ("mean", "mean_square"), hyper, tuple(assign))

    def hyper(self, step: int, lr: float) -> tuple[float, ...]:
        beta1, beta2 = self.betas
        correction1, correction2 = (1.0 - beta ** (step + 1) for beta in (beta1, beta2))
        values = (
            lr / correction1,
            1.0 - beta1,
            beta2,
            1.0 - beta2,
            math.sqrt(correction2),
            self.eps,
        )
        if not self.weight_decay:
            return values
        return (*values, 1.0 - lr * self.weight_decay if self._decoupled else self.weight_decay)


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay: `p ← p·(1 − lr·λ)`, then Adam's step without decay.

    Args:
        lr: the learning rate, at least 0.
        betas: (β₁, β₂), both at least 0 and below 1.
        eps: ε, at least 0.
        weight_decay: λ, at least 0.
    Raises:
        OptionError: a setting is out of its range.
    Source:
        Loshchilov, Hutter: Decoupled weight decay regularization, 2019.

    >>> AdamW().hyper(step=0, lr=0.001)[-1]
    0.99999
    """

    weight_decay: float = 1e-2

    _decoupled: ClassVar[bool] = True
