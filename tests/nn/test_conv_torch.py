"""The family of convolutions against torch over random settings, degenerate ones included.

The operations in float64 (values and gradients) and the functions in float32, forward.
"""

from __future__ import annotations

import inspect
from functools import partial

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from striate import nn
from striate.formula.operations import find_operation
from striate.nn import functional as F
from tests.formula.cases_conv import PEERS

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore:Using padding='same'")]
torch = pytest.importorskip("torch")
TF = torch.nn.functional
RANKS = (1, 2, 3)
SOME = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
FEW = settings(SOME, max_examples=12)


@st.composite
def problems(draw, transposed=False, most=7):
    """(rank, x, w, b, settings): sizes from 1, strides beyond the kernel, any groups."""
    rank = draw(st.sampled_from(RANKS))

    def each(least, top):
        return draw(st.lists(st.integers(least, top), min_size=rank, max_size=rank))

    groups = draw(st.integers(1, 3))
    ins, outs = groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 3))
    image, kernel = each(1, most if rank < 3 else 4), each(1, 3)
    given_ = {
        "stride": each(1, 4),
        "padding": each(0, 2),
        "dilation": each(1, 2),
        "groups": groups,
    }
    channels = (ins, outs // groups) if transposed else (outs, ins // groups)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    arrays = [
        rng.normal(size=s) for s in ((draw(st.integers(1, 2)), ins, *image), (*channels, *kernel))
    ]
    bias = rng.normal(size=outs) if draw(st.booleans()) else None
    return rank, *arrays, bias, given_


def fits(x, w, s):
    reach = [d * (k - 1) + 1 for d, k in zip(s["dilation"], w.shape[2:], strict=True)]
    sizes = zip(x.shape[2:], s["padding"], reach, strict=True)
    return all(n + 2 * p >= r for n, p, r in sizes)


def attributes(s):
    return {**s, "padding": [[p, p] for p in s["padding"]]}


def check_operation(op, attributes, inputs, peer):
    """Value and gradients of the operation in float64, against torch's."""
    operation = find_operation(op)
    tensors = [torch.tensor(a, requires_grad=True) for a in inputs]
    expected = peer(*tensors)
    value = operation.reference(attributes, inputs)
    np.testing.assert_allclose(value, expected.detach().numpy(), rtol=1e-12, atol=1e-12)
    upstream = np.random.default_rng(0).normal(size=value.shape)
    expected.backward(torch.tensor(upstream))
    for slope, tensor in zip(
        operation.gradient(attributes, upstream, inputs), tensors, strict=True
    ):
        np.testing.assert_allclose(slope, tensor.grad.numpy(), rtol=1e-11, atol=1e-12)


@SOME
@given(problems())
def test_convolutions_in_float64(problem):
    rank, x, w, b, s = problem
    assume(fits(x, w, s))
    inputs = [x, w] if b is None else [x, w, b]
    forward = getattr(TF, f"conv{rank}d")
    check_operation(
        f"conv{rank}d", attributes(s), inputs, lambda x, w, b=None: forward(x, w, b, **s)
    )
    flip = list(range(2, 2 + rank))
    check_operation(
        f"true_conv{rank}d",
        attributes(s),
        inputs,
        lambda x, w, b=None: forward(x, w.flip(flip), b, **s),
    )


@FEW
@given(problems(most=5), st.lists(st.integers(1, 3), min_size=3, max_size=3))
def test_kernels_that_are_not_shared_in_float64(problem, tiles):
    """Locally connected, its transpose and tiled layers, against unfolded windows in torch."""
    rank, x, w, b, s = problem
    assume(fits(x, w, s))
    rng, a = np.random.default_rng(0), attributes(s)
    places = find_operation(f"conv{rank}d").shape(a, [x.shape[1:], w.shape])[1:]
    kernels = rng.normal(size=(*w.shape, *places))
    for bias in (None, b, rng.normal(size=(len(w), *places))):
        inputs = [x, kernels] if bias is None else [x, kernels, bias]
        peer = partial(PEERS[f"local{rank}d"], a)
        check_operation(f"local{rank}d", a, inputs, peer)
    back = {**a, "output_padding": [0] * rank}
    v = rng.normal(size=(len(x), len(w), *places))
    if transposes_fit(v, w, s, [0] * rank):
        peer = partial(PEERS[f"local_transpose{rank}d"], back)
        check_operation(f"local_transpose{rank}d", back, [v, kernels], peer)
    banks = rng.normal(size=(*tiles[:rank], *w.shape))
    peer = partial(PEERS[f"tiled_conv{rank}d"], a)
    check_operation(f"tiled_conv{rank}d", a, [x, banks] if b is None else [x, banks, b], peer)


def transposes_fit(x, w, s, more):
    rows = zip(
        x.shape[2:], w.shape[2:], s["stride"], s["padding"], s["dilation"], more, strict=True
    )
    return all(
        m < max(t, d) and (n - 1) * t - 2 * p + d * (k - 1) + 1 + m > 0 for n, k, t, p, d, m in rows
    )


@SOME
@given(problems(transposed=True), st.lists(st.integers(0, 2), min_size=3, max_size=3))
def test_transposes_in_float64(problem, more):
    rank, x, w, b, s = problem
    more = more[:rank]
    assume(transposes_fit(x, w, s, more))
    inputs = [x, w] if b is None else [x, w, b]
    forward = getattr(TF, f"conv_transpose{rank}d")
    check_operation(
        f"conv_transpose{rank}d",
        {**attributes(s), "output_padding": more},
        inputs,
        lambda x, w, b=None: forward(x, w, b, output_padding=more, **s),
    )


def single(*arrays):
    return [None if a is None else a.astype(np.float32) for a in arrays]


def tensors(*arrays):
    return [None if a is None else torch.tensor(a.astype(np.float32)) for a in arrays]


@FEW
@given(problems())
def test_functions_in_float32(problem):
    rank, x, w, b, s = problem
    assume(fits(x, w, s))
    expected = getattr(TF, f"conv{rank}d")(*tensors(x, w, b), **s).numpy()
    got = getattr(F, f"conv{rank}d")(*single(x, w, b), **s)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


@FEW
@given(problems(transposed=True))
def test_transposed_functions_in_float32(problem):
    rank, x, w, b, s = problem
    assume(transposes_fit(x, w, s, [0] * rank))
    expected = getattr(TF, f"conv_transpose{rank}d")(*tensors(x, w, b), **s).numpy()
    got = getattr(F, f"conv_transpose{rank}d")(*single(x, w, b), **s)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


@FEW
@given(problems())
def test_padding_by_name_in_float32(problem):
    rank, x, w, b, s = problem
    forward, peer = getattr(F, f"conv{rank}d"), getattr(TF, f"conv{rank}d")
    more = {"dilation": s["dilation"], "groups": s["groups"]}
    expected = peer(*tensors(x, w, b), padding="same", **more).numpy()
    got = forward(*single(x, w, b), padding="same", **more)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    full = [d * (k - 1) for d, k in zip(s["dilation"], w.shape[2:], strict=True)]
    expected = peer(*tensors(x, w, b), padding=full, **more).numpy()
    got = forward(*single(x, w, b), padding="full", **more)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


@SOME
@given(
    st.sampled_from(["constant", "reflect", "replicate", "circular"]),
    st.lists(st.integers(1, 5), min_size=3, max_size=5),
    st.data(),
)
def test_pad(mode, shape, data):
    sides = []
    for size in shape[:1:-1]:
        most = {"reflect": size - 1, "circular": size}.get(mode, 4)
        least = -(size // 2) if mode == "constant" else 0
        sides += [data.draw(st.integers(least, min(most, 4))) for _ in range(2)]
    x = np.random.default_rng(0).normal(size=shape)
    pairs = [[a, b] for a, b in zip(sides[::2], sides[1::2], strict=True)][::-1]
    assume(all(n + a + b > 0 for n, (a, b) in zip(shape[2:], pairs, strict=True)))
    value = 1.5 if mode == "constant" else None
    check_operation(
        "pad",
        {"padding": pairs, "mode": mode, "value": value or 0.0},
        [x],
        lambda x: TF.pad(x, sides, mode, value) * 1,
    )
    expected = TF.pad(torch.tensor(x.astype(np.float32)), sides, mode, value).numpy()
    assert np.array_equal(F.pad(x.astype(np.float32), sides, mode, value), expected)


PADS = [f"{k}Pad{r}d" for k in ("Zero", "Reflection", "Replication", "Circular") for r in RANKS]


@pytest.mark.parametrize("name", [*PADS, *(f"ConstantPad{r}d" for r in RANKS)])
def test_padding_layers(name):
    rank, rng = int(name[-2]), np.random.default_rng(0)
    x = rng.normal(size=(2, 3, *[4] * rank)).astype(np.float32)
    value = (1.5,) if name.startswith("Constant") else ()
    for padding in (2, tuple(int(k) for k in rng.integers(0, 4, 2 * rank))):
        theirs, ours = (getattr(lib, name)(padding, *value) for lib in (torch.nn, nn))
        assert repr(ours) == repr(theirs)
        assert np.array_equal(ours(x), theirs(torch.tensor(x)).numpy())


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("padding", [1, "same"])
def test_padding_modes_of_layers(mode, rank, padding):
    theirs, ours = (
        getattr(lib, f"Conv{rank}d")(
            4, 6, 3, padding=padding, dilation=2, groups=2, padding_mode=mode
        )
        for lib in (torch.nn, nn)
    )
    assert repr(ours) == repr(theirs)
    ours.load_state_dict({k: v.detach() for k, v in theirs.state_dict().items()})
    x = np.random.default_rng(0).normal(size=(2, 4, *[6] * rank)).astype(np.float32)
    expected = theirs(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(ours(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rank", RANKS)
def test_transposed_layers_and_their_output_size(rank):
    theirs, ours = (
        getattr(lib, f"ConvTranspose{rank}d")(4, 6, 3, 3, 1, groups=2, dilation=2)
        for lib in (torch.nn, nn)
    )
    assert repr(ours) == repr(theirs)
    ours.load_state_dict({k: v.detach() for k, v in theirs.state_dict().items()})
    x = np.random.default_rng(0).normal(size=(2, 4, *[3] * rank)).astype(np.float32)
    for size in (None, [10] * rank, [2, 6, *[11] * rank]):
        expected = theirs(torch.tensor(x), size).detach().numpy()
        np.testing.assert_allclose(ours(x, output_size=size), expected, rtol=1e-4, atol=1e-5)
    for size in ([8] * rank, [12] * rank):
        with pytest.raises(ValueError, match="output size"):
            theirs(torch.tensor(x), size)
        with pytest.raises(ValueError, match="expected output_size from"):
            ours(x, size)


@pytest.mark.parametrize("name", [*PADS, *(f"ConstantPad{r}d" for r in RANKS)])
def test_signatures_of_padding_layers(name):
    theirs = inspect.signature(getattr(torch.nn, name).__init__).parameters
    assert list(inspect.signature(getattr(nn, name).__init__).parameters) == list(theirs)


def test_signature_of_pad():
    ours = inspect.signature(F.pad).parameters
    assert [(k, p.default) for k, p in ours.items()] == [
        ("input", inspect.Parameter.empty),
        ("pad", inspect.Parameter.empty),
        ("mode", "constant"),
        ("value", None),
    ]
