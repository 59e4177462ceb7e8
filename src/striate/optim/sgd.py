"""Stochastic gradient descent: plain, with momentum, with Nesterov's momentum."""

from __future__ import annotations

from dataclasses import dataclass

from striate.errors import OptionError
from striate.formula.expression import Expr, Var
from striate.formula.update import UpdateRule
from striate.optim.optimizer import Optimizer, require, require_flag


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent: `p ← p − lr·g`.

    With weight decay λ the gradient is `g + λ·p`. With momentum μ there is a buffer, 0 at first:
    `v ← μ·v + g`, and the step is `p ← p − lr·v`; Nesterov's is `p ← p − lr·(g + μ·v)`.

    Args:
        lr: the learning rate, at least 0.
        momentum: μ, at least 0.
        nesterov: look ahead along the momentum; needs `momentum > 0`.
        weight_decay: λ, at least 0.
    Raises:
        OptionError: a setting is out of its range.
    Source:
        Sutskever, Martens, Dahl, Hinton: On the importance of initialization and momentum in
        deep learning, 2013; the form is that of torch.optim.SGD.

    >>> SGD(lr=0.1, momentum=0.9).rule().state
    ('momentum',)
    """

    lr: float
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "momentum", self.momentum, 0.0)
        require(self, "weight_decay", self.weight_decay, 0.0)
        require_flag(self, "nesterov", self.nesterov)
        if self.nesterov and not self.momentum:
            raise OptionError(
                "SGD: expected momentum > 0 with nesterov=True; got momentum=0. "
                "Use momentum=0.9, say."
            )

    def rule(self) -> UpdateRule:
        p, g, v, lr, mu = (Var(name) for name in ("p", "g", "momentum", "lr", "mu"))
        hyper, state = ["lr"], []
        assign: list[tuple[str, Expr]] = []
        step: Expr = g
        if self.momentum:
            hyper.append("mu")
            state.append("momentum")
            assign.append(("momentum", mu * v + g))
            step = g + mu * v if self.nesterov else v
        if self.weight_decay:
            hyper.append("weight_decay")
            assign.insert(0, ("g", g + Var("weight_decay") * p))
        assign.append(("p", p - lr * step))
        return UpdateRule("sgd", tuple(state), tuple(hyper), tuple(assign))

    def hyper(self, step: int, lr: float) -> tuple[float, ...]:
        momentum = (self.momentum,) if self.momentum else ()
        decay = (self.weight_decay,) if self.weight_decay else ()
        return (lr, *momentum, *decay)
