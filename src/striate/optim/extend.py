"""What can be put around an optimiser: clipped gradients, an average of the weights.

Each takes an optimiser and is one itself, so that they can be combined. Like every optimiser they
only write down expressions; the arithmetic is part of the native training program.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from striate.errors import OptionError
from striate.formula.expression import Const, Expr, Var, maximum, minimum
from striate.formula.update import GRADIENT_NORM, UpdateRule
from striate.optim.optimizer import Optimizer, require

AVERAGE = "average"
"""The state that holds the averaged weights."""

_SMALL = 1e-6


@dataclass(frozen=True)
class Extended(Optimizer):
    """Base: an optimiser with something before or after its update; `lr` is the inner one's."""

    lr: float = field(init=False, default=0.0)
    optimizer: Optimizer

    def __post_init__(self) -> None:
        if not isinstance(self.optimizer, Optimizer):
            raise OptionError(
                f"{type(self).__name__}: expected an optimiser of striate.optim; got "
                f"{self.optimizer!r}. Write {type(self).__name__}(optim.Adam(), …)."
            )
        object.__setattr__(self, "lr", self.optimizer.lr)

    def settings(self) -> dict[str, Any]:
        own = super().settings()
        del own["lr"]
        return {**own, "optimizer": self.optimizer.settings()}

    def _with(
        self,
        hyper: tuple[str, ...] = (),
        before: tuple[tuple[str, Expr], ...] = (),
        after: tuple[tuple[str, Expr], ...] = (),
        kept: tuple[str, ...] = (),
    ) -> UpdateRule:
        """The inner rule with more numbers, assignments and states."""
        rule = self.optimizer.rule()
        return UpdateRule(
            f"{type(self).__name__.lower()}_{rule.name}",
            (*rule.state, *kept),
            (*rule.hyper, *(name for name in hyper if name not in rule.hyper)),
            (*before, *rule.assign, *after),
            (*rule.kept, *kept),
        )

    def _numbers(self, step: int, lr: float, **numbers: float) -> tuple[float, ...]:
        inner = self.optimizer.rule().hyper
        more = tuple(value for name, value in numbers.items() if name not in inner)
        return (*self.optimizer.hyper(step, lr), *more)


@dataclass(frozen=True)
class ClipNorm(Extended):
    """Gradients no longer than `max_norm`: `g ← g·min(1, max_norm / (‖g‖ + 1e-6))`.

    ‖g‖ is the root of the sum of the squares of all gradients of the network; clipping comes
    before weight decay.

    Args:
        optimizer: what is done with the clipped gradient.
        max_norm: the longest that the gradient may be, above 0.
    Raises:
        OptionError: a setting is out of its range.
    Source:
        Pascanu, Mikolov, Bengio: On the difficulty of training recurrent neural networks, 2013;
        the form is that of torch.nn.utils.clip_grad_norm_.

    >>> from striate.optim import SGD
    >>> ClipNorm(SGD(lr=0.1), 1.0).rule().hyper
    ('lr', 'max_norm', 'gradient_norm')
    """

    max_norm: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _above_0(self, "max_norm", self.max_norm)

    def rule(self) -> UpdateRule:
        share = Var("max_norm") / (Var(GRADIENT_NORM) + Const(_SMALL))
        clipped = Var("g") * minimum(Const(1.0), share)
        return self._with(("max_norm", GRADIENT_NORM), before=(("g", clipped),))

    def hyper(self, step: int, lr: float) -> tuple[float, ...]:
        return self._numbers(step, lr, max_norm=self.max_norm, gradient_norm=0.0)


@dataclass(frozen=True)
class ClipValue(Extended):
    """Every number of the gradient between two bounds: `g ← max(−c, min(c, g))`.

    Args:
        optimizer: what is done with the clipped gradient.
        max_value: c, above 0.
    Raises:
        OptionError: a setting is out of its range.
    Source:
        The form is that of torch.nn.utils.clip_grad_value_.

    >>> from striate.optim import SGD
    >>> print(ClipValue(SGD(lr=0.1), 0.5).rule())
    g ← maximum(-max_value, minimum(max_value, g)); p ← (p − (lr · g))
    """

    max_value: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _above_0(self, "max_value", self.max_value)

    def rule(self) -> UpdateRule:
        bound = Var("max_value")
        clipped = maximum(-bound, minimum(bound, Var("g")))
        return self._with(("max_value",), before=(("g", clipped),))

    def hyper(self, step: int, lr: float) -> tuple[float, ...]:
        return self._numbers(step, lr, max_value=self.max_value)


@dataclass(frozen=True)
class GradientNorm(Extended):
    """The norm of all gradients is noted in every step; nothing else is changed.

    Args:
        optimizer: what is done with the gradient.
    """

    def rule(self) -> UpdateRule:
        return self._with((GRADIENT_NORM,))

    def hyper(self, step: int, lr: float) -> tuple[float, ...]:
        return self._numbers(step, lr, gradient_norm=0.0)


@dataclass(frozen=True)
class Average(Extended):
    """An exponential moving average of the weights: `a ← a + (1 − d)·(p − a)` after each step.

    At step t = 0, 1, … the decay is `d = min(decay, t/(10 + t))`: so the first average is the
    first step's weights, and early ones are forgotten soon. Running statistics of batch norms
    are averaged too.

    Args:
        optimizer: how the weights are changed; it does not see the average.
        decay: the largest d, at least 0 and below 1.
    Raises:
        OptionError: a setting is out of its range.
    Source:
        Polyak, Juditsky: Acceleration of stochastic approximation by averaging, 1992.

    >>> from striate.optim import SGD
    >>> Average(SGD(lr=0.1), 0.5).hyper(step=0, lr=0.1), Average(SGD(lr=0.1), 0.5).hyper(90, 0.1)
    ((0.1, 1.0), (0.1, 0.5))
    """

    decay: float = 0.999

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "decay", self.decay, 0.0, below=1.0)
        if AVERAGE in self.optimizer.rule().state:
            raise OptionError("Average: expected an optimiser without an average; got another one.")

    def rule(self) -> UpdateRule:
        a, p = Var(AVERAGE), Var("p")
        after = ((AVERAGE, a + Var("average_rate") * (p - a)),)
        return self._with(("average_rate",), after=after, kept=(AVERAGE,))

    def hyper(self, step: int, lr: float) -> tuple[float, ...]:
        return self._numbers(step, lr, average_rate=1.0 - min(self.decay, step / (10.0 + step)))


def _above_0(owner: object, name: str, value: object) -> None:
    require(owner, name, value, 0.0)
    if value == 0:
        raise OptionError(f"{type(owner).__name__}: expected a number above 0; got {name}=0.")
