"""An activation of your own: one Python line gives reference, gradient and machine code.

ISRLU is x where x > 0, else x / sqrt(1 + x²) (Carlile et al., arXiv:1710.09967).
"""

import numpy as np

import striate as st
from striate import nn
from striate.formula.expression import Var as Symbol
from striate.formula.expression import diff, trace_scalar
from striate.nn.scalar import sqrt, where


def isrlu(x):
    return where(x > 0, x, x / sqrt(1 + x * x))


# What the library makes of the line above: an expression, and its derivative.
formula = trace_scalar(isrlu, ("x",))
print("value:      ", formula)
print("derivative: ", diff(formula, Symbol("x")))

# On its own: computed at once, by machine code made for it.
layer = nn.Scalar(isrlu, name="isrlu")
x = np.array([[-3.0, -1.0, 0.0, 2.0]], np.float32)
print("on an array:", layer(x))

# In a network: it becomes part of the convolution's kernel, forward and backward.
st.manual_seed(1)
net = nn.Sequential(
    nn.Conv2d(1, 8, 5, stride=2), layer, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(288, 10)
)
train, test = st.data.load("digits")
run = st.fit(net, train, validation=test, epochs=5, optimizer=st.optim.Adam(lr=4e-3))
print(f"trained with it: {run.history[-1]['validation_accuracy']:.1%}")
