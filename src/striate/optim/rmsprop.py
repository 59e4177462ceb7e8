"""RMSProp: steps divided by the root of a running average of the squared gradient."""

from __future__ import annotations

from dataclasses import dataclass

from striate.formula.expression import Expr, Var, sqrt
from striate.formula.update import UpdateRule
from striate.optim.optimizer import Optimizer, require


@dataclass(frozen=True)
class RMSProp(Optimizer):
    """RMSProp: `v ← α·v + (1−α)·g²`, then `p ← p − lr·g / (√v + ε)`.

    With momentum μ: `b ← μ·b + g/(√v + ε)`, then `p ← p − lr·b`. Weight decay λ adds `λ·p` to `g`.

    Args:
        lr: the learning rate, at least 0.
        alpha: α, at least 0 and below 1.
        eps: ε, at least 0.
        weight_decay: λ, at least 0.
        momentum: μ, at least 0.
    Raises:
        OptionError: a setting is out of its range.
    Source:
        Tieleman, Hinton: Neural networks for machine learning, lecture 6.5, 2012; the form is
        that of torch.optim.RMSprop.

    >>> RMSProp(momentum=0.9).rule().state
    ('mean_square', 'momentum')
    """

    lr: float = 1e-2
    alpha: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "alpha", self.alpha, 0.0, below=1.0)
        for name in ("eps", "weight_decay", "momentum"):
            require(self, name, getattr(self, name), 0.0)

    def rule(self) -> UpdateRule:
        p, g, v, b = (Var(name) for name in ("p", "g", "mean_square", "momentum"))
        lr, alpha, rate, eps = (Var(name) for name in ("lr", "alpha", "rate", "eps"))
        hyper, state = ["lr", "alpha", "rate", "eps"], ["mean_square"]
        assign: list[tuple[str, Expr]] = []
        if self.weight_decay:
            hyper.append("weight_decay")
            assign.append(("g", g + Var("weight_decay") * p))
        assign.append(("mean_square", alpha * v + rate * (g * g)))
        scale = sqrt(v) + eps
        if self.momentum:
            hyper.append("mu")
            state.append("momentum")
            assign += [("momentum", Var("mu") * b + g / scale), ("p", p - lr * b)]
        else:
            assign.append(("p", p - lr * g / scale))
        return UpdateRule("rmsprop", tuple(state), tuple(hyper), tuple(assign))

    def hyper(self, step: int, lr: float) -> tuple[float, ...]:
        decay = (self.weight_decay,) if self.weight_decay else ()
        momentum = (self.momentum,) if self.momentum else ()
        return (lr, self.alpha, 1.0 - self.alpha, self.eps, *decay, *momentum)
