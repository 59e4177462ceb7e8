"""Each thing that a graph cannot hold: the message names file, line, reason and what to do."""

from __future__ import annotations

import inspect
import math
from pathlib import Path

import numpy as np
import pytest

from striate import nn
from striate.errors import OptionError, ShapeError, TraceError
from striate.nn import functional as F


class Net(nn.Module):
    """A network whose forward is the function under test."""

    def __init__(self, function):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.loose = [nn.Linear(4, 4)]
        self.table = np.ones((4, 4), np.float32)
        self.scale = nn.Parameter(np.ones(4))
        self.function = function

    def forward(self, x):
        return self.function(self, x)


def branch_on_value(self, x):
    if x > 0:  # HERE
        return x
    return self.fc(x)


def branch_on_truth(self, x):
    return self.fc(x) if x else x  # HERE


def equality(self, x):
    return x if x == 0 else self.fc(x)  # HERE


def to_float(self, x):
    return x * float(self.fc(x))  # HERE


def to_math(self, x):
    return math.sqrt(x)  # HERE


def to_item(self, x):
    return x * x.item()  # HERE


def numpy_ufunc(self, x):
    return np.maximum(x, 0)  # HERE


def numpy_function(self, x):
    return np.concatenate([x, x], axis=1)  # HERE


def numpy_array(self, x):
    return np.asarray(x)  # HERE


def in_place(self, x):
    x[:, 0] = 0  # HERE
    return x


def iteration(self, x):
    return sum(sample for sample in x)  # HERE


def length(self, x):
    return x / len(x)  # HERE


def batch_condition(self, x):
    if x.shape[0] > 1:  # HERE
        return x
    return self.fc(x)


def batch_equality(self, x):
    return x if x.size(0) == 1 else self.fc(x)  # HERE


def batch_arithmetic(self, x):
    return x.view(x.size(0) * 2, 2)  # HERE


def batch_range(self, x):
    return [x for _ in range(x.shape[0])]  # HERE


def batch_fixed(self, x):
    return x.view(64, -1)  # HERE


def batch_flattened(self, x):
    return x.flatten()  # HERE


def batch_joined(self, x):
    return F.cat([x, x])  # HERE


def batch_index(self, x):
    return x[0]  # HERE


def step_index(self, x):
    return x[:, ::2]  # HERE


def array_index(self, x):
    return x[:, [0, 2]]  # HERE


def array_weight(self, x):
    return F.linear(x, self.table)  # HERE


def array_arithmetic(self, x):
    return x + np.ones(4)  # HERE


def array_first(self, x):
    return np.ones(4) + x  # HERE


def remainder(self, x):
    return x % 2  # HERE


def unregistered(self, x):
    return self.loose[0](x)  # HERE


def unregistered_function(self, x):
    return F.linear(x, nn.Parameter(np.ones((4, 4))))  # HERE


def foreign_attribute(self, x):
    return x.angle()  # HERE


def in_place_method(self, x):
    return x.softmax_(1)  # HERE


def matrix_product(self, x):
    return x @ np.ones((4, 4))  # HERE


def tensor_exponent(self, x):
    return x**x  # HERE


def loss_inside(self, x):
    return F.cross_entropy(x, np.array([0]))  # HERE


CASES = [
    (branch_on_value, "cannot be compared", "F.scalar"),
    (branch_on_truth, "has no values", "F.scalar"),
    (equality, "cannot be compared", "F.scalar"),
    (to_float, "cannot become a Python number", "Keep it a tensor"),
    (to_math, "cannot become a Python number", "F.scalar takes any formula"),
    (to_item, "cannot become a Python number", "Keep it a tensor"),
    (numpy_ufunc, "numpy.maximum needs values", "F.scalar"),
    (numpy_function, "numpy.concatenate needs values", "F.cat"),
    (numpy_array, "NumPy cannot read it", "striate.nn.functional"),
    (in_place, "cannot be changed in place", "F.cat"),
    (iteration, "samples of the batch", "for all samples at once"),
    (length, "samples of the batch", "for all samples at once"),
    (batch_condition, "batch size N is not known", "x.size(0)"),
    (batch_equality, "batch size N is not known", "x.size(0)"),
    (batch_arithmetic, "batch size N is not known", "x.view(x.size(0), -1)"),
    (batch_range, "batch size N is not known", "x.flatten(1)"),
    (batch_fixed, "a shape starts with the batch", "x.view(x.size(0), ...)"),
    (batch_flattened, "would mix the samples", "x.flatten(1)"),
    (batch_joined, "would mix the batch", "dim=1"),
    (batch_index, "would pick samples", "x[:, ...]"),
    (step_index, "slices of step 1", "F.cat"),
    (array_index, "slices of step 1", "F.cat"),
    (array_weight, "plain NumPy array of shape (4, 4)", "nn.Parameter"),
    (array_arithmetic, "got a NumPy array of shape (4,)", "nn.Parameter"),
    (array_first, "got a NumPy array of shape (4,)", "nn.Parameter"),
    (remainder, "no such operator", "F.scalar"),
    (unregistered, "the network does not know", "nn.ModuleList"),
    (unregistered_function, "the network does not know", "__init__"),
    (foreign_attribute, "no attribute 'angle'", "There is: "),
    (in_place_method, "no attribute 'softmax_'", "x = x.softmax(...)"),
    (matrix_product, "@ is between tensors and parameters", "nn.Parameter"),
    (tensor_exponent, "exponent is a tensor", "scalar.exp"),
    (loss_inside, "is a loss", "striate.fit"),
]


@pytest.mark.parametrize(
    ("forward", "why", "instead"), CASES, ids=lambda c: getattr(c, "__name__", "")
)
def test_message_names_file_line_reason_and_way_out(forward, why, instead):
    lines, first = inspect.getsourcelines(forward)
    offset = next(k for k, line in enumerate(lines) if "# HERE" in line)
    with pytest.raises(TraceError, match=r"cannot be traced: ") as caught:
        Net(forward)(np.zeros((2, 4)))
    text = str(caught.value)
    name = Path(__file__).name
    assert f"{name}, line {first + offset}, in {forward.__name__}: `" in text
    assert lines[offset].split("#")[0].strip() in text
    assert why in text
    assert instead in text
    assert "\n" not in text


def test_a_function_of_another_library_that_refuses_the_tensor():
    class Foreign(nn.Module):
        def forward(self, x):
            return "".join([x])  # TypeError: expected str instance, SymbolicTensor found

    with pytest.raises(TraceError, match=r"in forward: `return .*join.*another library"):
        Foreign()(np.zeros((2, 4)))


def test_an_error_of_the_users_own_passes_through():
    class Broken(nn.Module):
        def forward(self, x):
            return {}["missing"]

    with pytest.raises(KeyError, match="missing"):
        Broken()(np.zeros((2, 4)))


@pytest.mark.parametrize("result", [None, 3.0, "array", "half"])
def test_forward_has_to_return_tensors(result):
    class Wrong(nn.Module):
        def forward(self, x):
            return {"array": np.zeros(3), "half": (x, 1.0)}.get(result, result)

    with pytest.raises(TraceError, match="forward of Wrong: expected it to return a tensor compu"):
        Wrong()(np.zeros((2, 4)))


def test_a_tensor_kept_from_an_earlier_call_is_refused():
    class Keeps(nn.Module):
        def forward(self, x):
            kept.append(x)
            return kept[0] + x

    kept = []
    net = Keeps()
    net(np.zeros((2, 4)))
    with pytest.raises(TraceError, match=r"one of another|Do not store tensors"):
        net(np.zeros((2, 5)))
    with pytest.raises(TraceError, match="kept from an earlier call"):
        kept[0].relu()


def test_shapes_that_do_not_fit_name_layer_and_line():
    class Misfit(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.conv(x)

    with pytest.raises(ShapeError, match=r"^conv: .*\(.*test_untraceable.py, line \d+, in forward"):
        Misfit()(np.zeros((2, 1, 8, 8)))
    with pytest.raises(ShapeError, match=r"^0: "):
        nn.Sequential(nn.Conv2d(3, 4, 3))(np.zeros((2, 1, 8, 8)))


def test_shapes_that_do_not_broadcast():
    class Adds(nn.Module):
        def forward(self, x):
            return x + x[:, 0:2]

    with pytest.raises(ShapeError, match=r"^add: .*in forward: `return x \+ x\[:, 0:2\]`"):
        Adds()(np.zeros((2, 4)))


def test_hasattr_is_false_and_repr_works():
    seen = {}

    class Looks(nn.Module):
        def forward(self, x):
            seen.update(
                has=hasattr(x, "cuda"), text=f"{x.shape} {x!r}", known=x.shape[0] is x.size(0)
            )
            return x.relu()

    Looks()(np.zeros((2, 4)))
    assert seen == {
        "has": False,
        "text": "(N, 4) SymbolicTensor('input', shape=(N, 4))",
        "known": True,
    }


def test_index_outside_the_shape():
    class Indexes(nn.Module):
        def __init__(self, index):
            super().__init__()
            self.index = index

        def forward(self, x):
            return x[self.index]

    every = slice(None)
    with pytest.raises(ShapeError, match="axis 1 to be indexed from -4 to 3; got 4"):
        Indexes((every, 4))(np.zeros((2, 4)))
    with pytest.raises(ShapeError, match="keeps something of its 4; got 3:2"):
        Indexes((every, slice(3, 2)))(np.zeros((2, 4)))
    with pytest.raises(ShapeError, match="at most 2 indices"):
        Indexes((every, 0, 0))(np.zeros((2, 4)))


def test_too_many_inputs_are_refused():
    x = np.zeros((2, 4))
    with pytest.raises(OptionError, match=r"Identity: .* argument of forward\(.*x\); got 2"):
        nn.Identity()(x, x)
    with pytest.raises(OptionError, match=r"Identity: expected arrays by position"):
        nn.Identity()(x=x)
