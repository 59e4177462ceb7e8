"""Functions on arrays: values by hand, small whole numbers, and messages on bad input."""

from __future__ import annotations

import numpy as np
import pytest

from striate import nn
from striate.errors import DataError, OptionError, ShapeError
from striate.nn import functional as F
from striate.nn import scalar

IMAGE = np.arange(1.0, 17.0).reshape(1, 1, 4, 4)


def test_conv2d_by_hand():
    kernel = np.array([[[[1.0, 0.0], [0.0, -1.0]]]])
    y = F.conv2d(IMAGE, kernel, np.array([10.0]))
    assert y.dtype == np.float32
    assert np.array_equal(y, np.full((1, 1, 3, 3), 5.0))
    y = F.conv2d(IMAGE, kernel, stride=2)
    assert np.array_equal(y[0, 0], [[-5, -5], [-5, -5]])
    y = F.conv2d(IMAGE, kernel, padding=(1, 0), dilation=(1, 2))
    assert np.array_equal(y[0, 0, 0], [-3, -4])
    assert np.array_equal(y[0, 0, -1], [13, 14])


def test_conv2d_groups_are_separate():
    x = np.concatenate([IMAGE, 10 * IMAGE], axis=1)
    w = np.array([1.0, 2.0]).reshape(2, 1, 1, 1)
    assert np.array_equal(F.conv2d(x, w, groups=2), np.concatenate([IMAGE, 20 * IMAGE], axis=1))


@pytest.mark.parametrize(("size", "dilation"), [(1, 1), (2, 1), (3, 1), (4, 1), (3, 2), (2, 3)])
def test_same_padding_keeps_the_size(size, dilation):
    x = np.ones((2, 1, 7, 9))
    y = F.conv2d(x, np.ones((1, 1, size, size)), padding="same", dilation=dilation)
    assert y.shape == x.shape


def test_valid_padding_is_none():
    w = np.ones((1, 1, 2, 2))
    assert np.array_equal(F.conv2d(IMAGE, w, padding="valid"), F.conv2d(IMAGE, w))


def test_conv2d_takes_parameters():
    layer = nn.Conv2d(1, 2, 3)
    assert np.array_equal(F.conv2d(IMAGE, layer.weight, layer.bias), layer(IMAGE))


def test_linear():
    y = F.linear(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0], [5.0, 6.0]]), np.array([1.0, -1.0]))
    assert np.array_equal(y, [[12, 16]])


def test_pooling():
    assert np.array_equal(F.max_pool2d(IMAGE, 2)[0, 0], [[6, 8], [14, 16]])
    assert np.array_equal(F.max_pool2d(IMAGE, 3, stride=1)[0, 0], [[11, 12], [15, 16]])
    assert np.array_equal(F.max_pool2d(-IMAGE, 2, padding=1)[0, 0, 0], [-1, -2, -4])
    assert np.array_equal(F.max_pool2d(IMAGE, 2, stride=1, dilation=2)[0, 0], [[11, 12], [15, 16]])
    assert np.array_equal(F.avg_pool2d(IMAGE, 2)[0, 0], [[3.5, 5.5], [11.5, 13.5]])
    assert np.array_equal(F.avg_pool2d(IMAGE, 2, padding=1)[0, 0, 0], [0.25, 1.25, 1])
    whole = F.avg_pool2d(IMAGE, 2, padding=1, count_include_pad=False)
    assert np.array_equal(whole[0, 0, 0], [1, 2.5, 4])


def test_activations():
    x = np.array([[-2.0, 0.0, 1.0]])
    assert np.array_equal(F.relu(x), [[0, 0, 1]])
    np.testing.assert_allclose(F.tanh(x), np.tanh(x), rtol=1e-6)
    np.testing.assert_allclose(F.sigmoid(x), 1 / (1 + np.exp(-x)), rtol=1e-6)
    np.testing.assert_allclose(F.scaled_tanh(x), 1.7159 * np.tanh(2 * x / 3), rtol=1e-6)
    np.testing.assert_allclose(F.softmax(x, dim=-1), np.exp(x) / np.exp(x).sum(), rtol=1e-6)


def test_in_place_relu_on_arrays():
    x = np.array([[-1.0, 2.0]], np.float32)
    assert F.relu(x, inplace=True) is x
    assert np.array_equal(x, [[0, 2]])


def test_scalar():
    x, y = np.array([[1.0, 4.0]]), np.array([[2.0, 3.0]])
    assert np.array_equal(F.scalar(lambda a: a * a - 1, x), [[0, 15]])
    assert np.array_equal(F.scalar(lambda a, b: scalar.where(a > b, a, b), x, y), [[2, 4]])
    from striate.formula.expression import Var

    assert np.array_equal(F.scalar(Var("u") - Var("v"), x, y), [[-1, 1]])
    assert np.array_equal(F.scalar(lambda a: 3, x), [[3, 3]])


def test_scalar_refuses_what_is_no_formula():
    x = np.ones((1, 1))
    with pytest.raises(OptionError, match=r"F.scalar: expected a function of 1 scalars .*math.exp"):
        F.scalar(lambda a: np.tanh(a), x)
    with pytest.raises(OptionError, match=r"F.scalar: expected a function of 1 scalars"):
        F.scalar(lambda a, b: a + b, x)
    with pytest.raises(OptionError, match="no truth value; write where"):
        F.scalar(lambda a: a if a > 0 else 0, x)
    with pytest.raises(
        OptionError, match="expected a function of 1 to 6 scalars, or an expression"
    ):
        F.scalar("x + 1", x)
    from striate.formula.expression import Var

    with pytest.raises(OptionError, match="expected an expression of 2 variables"):
        F.scalar(Var("a") * 2, x, x)


def test_add_mul_cat_flatten():
    x, y = np.array([[1.0, 2.0]]), np.array([[3.0, 5.0]])
    assert np.array_equal(F.add(x, y), [[4, 7]])
    assert np.array_equal(F.add(x, 1), [[2, 3]])
    assert np.array_equal(F.mul(x, y), [[3, 10]])
    assert np.array_equal(F.mul(x, 2.0), [[2, 4]])
    assert np.array_equal(F.cat((x, y), dim=1), [[1, 2, 3, 5]])
    assert np.array_equal(F.concat((x, y)), [[1, 2], [3, 5]])
    assert F.flatten(IMAGE).shape == (16,)
    assert F.flatten(IMAGE, 1).shape == (1, 16)
    assert F.flatten(IMAGE[:0], 1).shape == (0, 16)


def test_empty_batches():
    none = IMAGE[:0]
    assert F.conv2d(none, np.ones((2, 1, 3, 3))).shape == (0, 2, 2, 2)
    assert F.max_pool2d(none, 2).shape == (0, 1, 2, 2)
    assert F.relu(none).shape == none.shape
    assert F.add(none, none).shape == none.shape


def test_losses():
    logits, labels = np.array([[0.0, 0.0], [0.0, np.log(3.0)]]), np.array([0, 1])
    each = [np.log(2), np.log(4 / 3)]
    np.testing.assert_allclose(F.cross_entropy(logits, labels, reduction="none"), each, rtol=1e-6)
    np.testing.assert_allclose(F.cross_entropy(logits, labels), np.mean(each), rtol=1e-6)
    np.testing.assert_allclose(nn.CrossEntropyLoss()(logits, labels), np.mean(each), rtol=1e-6)
    np.testing.assert_allclose(F.cross_entropy(logits, labels, reduction="sum"), np.sum(each))
    x, t = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 0.0], [3.0, 4.0]])
    assert F.mse_loss(x, t) == 1
    assert nn.MSELoss(reduction="sum")(x, t) == 4
    assert np.array_equal(F.mse_loss(x, t, reduction="none"), [[0, 4], [0, 0]])
    assert F.mse_loss(x, t).dtype == np.float32


def test_losses_refuse_bad_targets():
    logits = np.zeros((2, 3))
    with pytest.raises(DataError, match="expected labels from 0 to 2; got 3 for sample 1"):
        F.cross_entropy(logits, np.array([0, 3]))
    with pytest.raises(OptionError, match=r"target \(n,\) of whole numbers.*got shape=\(2,\)"):
        F.cross_entropy(logits, logits[:, 0])
    with pytest.raises(ShapeError, match="the same number of samples"):
        F.cross_entropy(logits, np.array([0]))
    with pytest.raises(ShapeError, match=r"one shape; got \(2, 3\) and \(3, 2\)"):
        F.mse_loss(logits, logits.T)
    with pytest.raises(OptionError, match="expected reduction 'mean', 'sum' or 'none'; got"):
        F.mse_loss(logits, logits, reduction="max")


UNSUPPORTED = [
    (lambda: F.max_pool2d(IMAGE[0], 2), r"max_pool2d: expected an input \(n, channels, height, wi"),
    (lambda: F.avg_pool2d(IMAGE, 2, divisor_override=0), "divisor_override to be a whole number"),
    (lambda: F.conv2d(IMAGE, np.ones((1, 1, 2, 2)), padding="ful"), "'full'; got padding='ful'"),
    (lambda: F.conv2d(IMAGE, np.ones((1, 1, 2, 2)), 0), "expected"),
    (
        lambda: F.conv2d(IMAGE, np.ones((1, 1, 2, 2)), stride=0),
        "conv2d: stride: expected at least 1",
    ),
    (
        lambda: F.conv2d(IMAGE, np.ones((1, 1, 2, 2)), dilation=(1, 2, 3)),
        "conv2d: dilation: expect",
    ),
    (lambda: F.conv2d(IMAGE, np.ones((2, 2))), r"expected a weight \(out_channels, in_channels"),
    (lambda: F.conv2d(IMAGE, np.ones((1, 1, 5, 5))), "output height of at least 1; got"),
    (lambda: F.conv2d(IMAGE, np.ones((1, 2, 1, 1))), "conv2d: "),
    (lambda: F.max_pool2d(IMAGE, 2, padding=2), "padding expected at most half of the window"),
    (lambda: F.softmax(IMAGE[0, 0]), "softmax: expected an axis; got dim=None. Write dim=1"),
    (lambda: F.softmax(IMAGE[0, 0], 0), r"an axis from 1 to 1 \(axis 0 is the batch\); got dim=0"),
    (lambda: F.dropout(IMAGE, 1.0), "a probability from 0 to below 1; got p=1.0"),
    (lambda: F.cat([]), "at least one tensor"),
    (lambda: F.cat([IMAGE, IMAGE[:, :, 1:]], dim=1), "equal but for axis 1; got shapes"),
    (lambda: F.cat([IMAGE], dim=4), "an axis from -4 to 3; got dim=4"),
    (lambda: F.flatten(IMAGE, 2, 1), "expected start_dim <= end_dim"),
    (lambda: F.add(IMAGE, IMAGE[:, :, 1:]), "add: expected shapes whose sizes are equal or 1"),
    (lambda: nn.CrossEntropyLoss(reduction="max"), "CrossEntropyLoss: expected reduction"),
]


@pytest.mark.parametrize("k", range(len(UNSUPPORTED)))
def test_messages(k):
    call, text = UNSUPPORTED[k]
    with pytest.raises((OptionError, ShapeError), match=text):
        call()


def test_one_forward_serves_arrays_and_networks():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(np.ones((2, 1, 3, 3)))

        def forward(self, x):
            y = F.relu(F.conv2d(x, self.weight, padding=1))
            y = F.cat((F.max_pool2d(y, 2), F.avg_pool2d(y, 2)), dim=1)
            return F.flatten(F.add(y, 1.0), 1)

    net = Net()
    np.testing.assert_allclose(net.forward(IMAGE), net(IMAGE), rtol=1e-6)
