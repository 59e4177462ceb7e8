"""What cannot be, of each family of layers: one sentence with the arithmetic.

Wrong ranks and channels of every layer are in `test_layer_contract`, more on convolutions in
`test_conv_errors`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from striate import nn
from striate.errors import OptionError, ShapeError
from striate.nn import functional as F

Maker = Callable[..., Any]


def ones(*shape: int) -> np.ndarray[Any, Any]:
    return np.ones(shape, np.float32)


IMAGE, SEQUENCE, VOLUME = ones(1, 4, 6, 5), ones(1, 4, 9), ones(1, 4, 4, 3, 5)

# A layer of 4 channels and 6 more, kernel 3, made with the settings of a test, and its input.
WINDOWS: dict[str, tuple[Maker, np.ndarray[Any, Any]]] = {
    "Conv1d": (lambda k=3, **more: nn.Conv1d(4, 6, k, **more), SEQUENCE),
    "Conv2d": (lambda k=3, **more: nn.Conv2d(4, 6, k, **more), IMAGE),
    "Conv3d": (lambda k=3, **more: nn.Conv3d(4, 6, k, **more), VOLUME),
    "ConvTranspose1d": (lambda k=3, **more: nn.ConvTranspose1d(4, 6, k, **more), SEQUENCE),
    "ConvTranspose2d": (lambda k=3, **more: nn.ConvTranspose2d(4, 6, k, **more), IMAGE),
    "ConvTranspose3d": (lambda k=3, **more: nn.ConvTranspose3d(4, 6, k, **more), VOLUME),
    "TiledConv1d": (lambda k=3, **more: nn.TiledConv1d(4, 6, k, 2, **more), SEQUENCE),
    "TiledConv2d": (lambda k=3, **more: nn.TiledConv2d(4, 6, k, 2, **more), IMAGE),
    "TiledConv3d": (lambda k=3, **more: nn.TiledConv3d(4, 6, k, 2, **more), VOLUME),
    "LocallyConnected1d": (lambda k=3, **more: nn.LocallyConnected1d(4, 6, 9, k, **more), SEQUENCE),
    "LocallyConnected2d": (
        lambda k=3, **more: nn.LocallyConnected2d(4, 6, (6, 5), k, **more),
        IMAGE,
    ),
    "LocallyConnected3d": (
        lambda k=3, **more: nn.LocallyConnected3d(4, 6, (4, 3, 5), k, **more),
        VOLUME,
    ),
    "LocallyConnectedTranspose1d": (
        lambda k=3, **more: nn.LocallyConnectedTranspose1d(4, 6, 9, k, **more),
        SEQUENCE,
    ),
    "LocallyConnectedTranspose2d": (
        lambda k=3, **more: nn.LocallyConnectedTranspose2d(4, 6, (6, 5), k, **more),
        IMAGE,
    ),
    "LocallyConnectedTranspose3d": (
        lambda k=3, **more: nn.LocallyConnectedTranspose3d(4, 6, (4, 3, 5), k, **more),
        VOLUME,
    ),
}
POOLS: dict[str, tuple[Maker, np.ndarray[Any, Any]]] = {
    name: (
        lambda k=2, name=name, first=first, last=last, **more: getattr(nn, name)(
            *first, k, *last, **more
        ),
        x,
    )
    for kind, first, last in (
        ("MaxPool", (), ()),
        ("AvgPool", (), ()),
        ("SumPool", (), ()),
        ("LPPool", (2.0,), ()),
        ("GaussianPool", (), (1.0,)),
        ("StochasticPool", (), ()),
    )
    for name, x in ((f"{kind}1d", SEQUENCE), (f"{kind}2d", IMAGE), (f"{kind}3d", VOLUME))
}
NORMS: dict[str, tuple[Maker, np.ndarray[Any, Any]]] = {
    "BatchNorm1d": (nn.BatchNorm1d, SEQUENCE),
    "BatchNorm2d": (nn.BatchNorm2d, IMAGE),
    "BatchNorm3d": (nn.BatchNorm3d, VOLUME),
    "InstanceNorm1d": (lambda c, **more: nn.InstanceNorm1d(c, affine=True, **more), SEQUENCE),
    "InstanceNorm2d": (lambda c, **more: nn.InstanceNorm2d(c, affine=True, **more), IMAGE),
    "InstanceNorm3d": (lambda c, **more: nn.InstanceNorm3d(c, affine=True, **more), VOLUME),
    "GroupNorm": (lambda c, **more: nn.GroupNorm(1, c, **more), IMAGE),
}
ALL: dict[str, tuple[Callable[[], Any], np.ndarray[Any, Any]]] = {
    **WINDOWS,
    **POOLS,
    **{name: (lambda make=make: make(4), x) for name, (make, x) in NORMS.items()},
    "LayerNorm": (lambda: nn.LayerNorm(5), IMAGE),
    "LocalResponseNorm": (lambda: nn.LocalResponseNorm(3), IMAGE),
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d(2), IMAGE),
    "Linear": (lambda: nn.Linear(5, 2), IMAGE),
}


def test_the_tables_are_whole() -> None:
    families = r"(Conv|ConvTranspose|TiledConv|LocallyConnected|LocallyConnectedTranspose)[123]d"
    assert set(WINDOWS) == {n for n in nn.__all__ if re.fullmatch(families, n)}
    fixed = r"(Max|Avg|Sum|LP|Gaussian|Stochastic)Pool[123]d"
    assert set(POOLS) == {n for n in nn.__all__ if re.fullmatch(fixed, n)}


@pytest.mark.parametrize("name", WINDOWS)
def test_groups_that_do_not_divide(name: str) -> None:
    make, _ = WINDOWS[name]
    with pytest.raises(OptionError, match=f"{name}: .* in_channels; got groups=3, in_channels=4"):
        make(groups=3)
    with pytest.raises(OptionError, match=f"{name}: .* out_channels; got groups=4, out_channels=6"):
        make(groups=4)
    with pytest.raises(OptionError, match=f"{name}: expected groups to be a whole number from 1"):
        make(groups=0)


@pytest.mark.parametrize("name", [*WINDOWS, *POOLS])
def test_negative_padding(name: str) -> None:
    make, x = (WINDOWS | POOLS)[name]
    rank = x.ndim - 2
    with pytest.raises(OptionError, match=rf"^{name}: padding: expected at least 0; got -1\.$"):
        make(padding=-1)
    if rank > 1:
        sides = (0,) * (rank - 1) + (-2,)
        text = rf"^{name}: padding: expected at least 0; got {re.escape(str(sides))}\.$"
        with pytest.raises(OptionError, match=text):
            make(padding=sides)


@pytest.mark.parametrize("name", [*WINDOWS, *POOLS])
def test_kernels_larger_than_the_padded_input(name: str) -> None:
    """The whole sum: the size, the padding, how far the kernel reaches."""
    make, x = (WINDOWS | POOLS)[name]
    axis, size = {1: "length", 2: "height", 3: "depth"}[x.ndim - 2], x.shape[2]
    if "Transpose" in name:  # there a kernel cannot be too large, but padding can
        sums = rf"\({size} − 1\)·1 − 7 − 7 \+ 3 \+ 0 = {size - 12}\. Use less padding\."
        settings: dict[str, Any] = {"k": 3, "padding": 7}
    else:
        k, s = size + 3, size + 3 if name in POOLS else 1
        value = (size + 2 - k) // s + 1
        sums = rf"⌊\({size} \+ 2·1 − 1·\({k}−1\) − 1\)/{s}⌋ \+ 1 = {value} \(input {axis} {size}, "
        sums += rf"padding 1\+1, the kernel reaches over {k}\)"
        settings = {"k": k, "padding": 1}
    text = rf"^{name}: .*expected an output {axis} of at least 1; got {sums}"
    with pytest.raises(ShapeError, match=text):
        make(**settings)(x)


@pytest.mark.parametrize("name", ALL)
def test_axes_of_another_number(name: str) -> None:
    make, x = ALL[name]
    if name not in ("Linear", "LayerNorm", "GroupNorm", "LocalResponseNorm", "BatchNorm1d"):
        with pytest.raises(ShapeError, match=rf"^{name}: .*expected .*\(n, c.*; got shape="):
            make()(x[0])
        with pytest.raises(ShapeError, match=rf"^{name}: .*expected .*\(n, c.*; got shape="):
            make()(x[None])
    with pytest.raises(ShapeError, match=rf"{name}: .*expected .*; got "):
        make()(x[0, 0, ..., 0] if x.ndim > 3 else x[0, 0])


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("axis", [1, 2])
def test_channels_and_images_of_size_zero(name: str, axis: int) -> None:
    make, x = ALL[name]
    shape = list(x.shape)
    shape[axis] = 0
    got = re.escape(str(("N", *shape[1:])))
    text = (
        rf"^{name}: expected an input whose axes all have a size of at least 1 .*; got shape={got}"
    )
    with pytest.raises(ShapeError, match=text):
        make()(ones(*shape))
    assert make()(x[:0]).shape[0] == 0


@pytest.mark.parametrize("name", WINDOWS)
def test_layers_without_channels(name: str) -> None:
    kind = getattr(nn, name)
    more = {"Local": ((6, 5, 4)[: int(name[-2])], 2), "Tiled": (2, 2)}
    rest: tuple[Any, ...] = more.get(name[:5], (2,))
    for given in ((0, 6), (4, 0), (-1, 6), (4, 2.5)):
        which = "in" if given[0] != 4 else "out"
        text = f"^{name}: expected {which}_channels to be a whole number from 1; got "
        with pytest.raises(OptionError, match=text):
            kind(*given, *rest)


@pytest.mark.parametrize("name", NORMS)
def test_norms_of_other_channels(name: str) -> None:
    make, x = NORMS[name]
    with pytest.raises(
        OptionError, match=rf"^{name}: expected num_\w+ to be a whole number from 1"
    ):
        make(0)
    with pytest.raises(ShapeError, match=rf"^{name}: .*expected shape \(4,\).*; got \(3,\)"):
        make(3)(x)
    with pytest.raises(OptionError, match=r"eps expected a number of at least 0; got -1.0"):
        make(4, eps=-1.0)(x)


@pytest.mark.parametrize("name", ALL)
def test_numbers_of_other_kinds(name: str) -> None:
    """Whole numbers, booleans and doubles are the same numbers in float32; others are refused."""
    make, x = ALL[name]
    layer = make().eval()
    whole = (np.arange(x.size) % 7).reshape(x.shape)
    expected = layer(whole.astype(np.float32))
    assert expected.dtype == np.float32
    for kind in (np.uint8, np.int64, np.float64, np.float16):
        assert np.array_equal(layer(whole.astype(kind)), expected)
    for wrong in (complex, object, str, "datetime64[s]"):
        with pytest.raises(OptionError, match=rf"^{name}: expected an array of real numbers; got "):
            layer(whole.astype(wrong))


BAD: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: nn.GroupNorm(3, 4), OptionError, "num_groups=3, num_channels=4"),
    (lambda: F.group_norm(IMAGE, 3), ShapeError, "groups to divide the channels; got 3 groups for"),
    (lambda: F.group_norm(ones(1, 0, 6, 5), 1), ShapeError, r"at least 1; got x \(0, 6, 5\) bes"),
    (lambda: F.instance_norm(ones(1, 4, 0, 5)), ShapeError, r"at least 1; got x \(4, 0, 5\) besi"),
    (lambda: F.max_pool2d(ones(1, 0, 6, 5), 2), ShapeError, r"max_pool2d: .*got x \(0, 6, 5\)"),
    (lambda: F.adaptive_avg_pool2d(ones(1, 4, 0, 5), 2), ShapeError, r"pool2d: .*got x \(4, 0, 5"),
    (lambda: F.global_max_pool(ones(1, 4, 0, 5)), ShapeError, r"of at least 1; got x \(4, 0, 5\)"),
    (lambda: nn.MaxPool2d(2, padding=2)(IMAGE), OptionError, "at most half of the window, 1; got"),
    (lambda: nn.FractionalMaxPool2d(7, 2)(IMAGE), ShapeError, "windows of .7, 7. for an image of"),
    (lambda: nn.Unfold(9)(IMAGE), ShapeError, r"Unfold: .* \+ 1 = -2 \(input height 6"),
    (
        lambda: nn.Subsample(4, 9)(IMAGE),
        ShapeError,
        "Subsample: .* a kernel of 9x9 for images of 6",
    ),
    (lambda: nn.MaxUnpool2d(2, padding=-1), OptionError, "MaxUnpool2d: padding: expected at least"),
    (lambda: nn.Conv2d(4, 6, 3, dtype=np.float64), OptionError, "Networks compute in float32"),
    (
        lambda: nn.LocallyConnected2d(4, 6, (6, 5), 3)(ones(1, 4, 7, 5)),
        ShapeError,
        "LocallyConnected2d: local2d: expected kernels for 5×3 output positions.*make it for .7, 5",
    ),
    (
        lambda: nn.LSTM(5, 4, batch_first=True)(ones(2, 0, 5)),
        ShapeError,
        r"LSTM: expected \(n, t, features\) with 5 features and at least one.* got shape \(2, 0, 5",
    ),
    (lambda: nn.LSTM(5, 4)(ones(3)), ShapeError, r"LSTM: expected \(t, n, .* got shape \(3,\)"),
    (
        lambda: nn.LSTMCell(5, 4)(ones(2, 5), (ones(2, 4), ones(2, 3))),
        ShapeError,
        r"LSTMCell: expected h and c of shape \(n, 4\); got \(2, 4\), \(2, 3\)",
    ),
    (
        lambda: nn.GRUCell(5, 4)(ones(2, 5), ones(2, 1, 4)),
        ShapeError,
        r"GRUCell: expected a state h of shape \(n, 4\); got \(2, 1, 4\)",
    ),
]


@pytest.mark.parametrize("k", range(len(BAD)))
def test_messages(k: int) -> None:
    call, kind, text = BAD[k]
    with pytest.raises(kind, match=text):
        call()


def test_the_layer_is_named_by_its_place() -> None:
    """In a network its path and class come first; what is made of layers names both."""
    net = nn.Sequential(nn.ReLU(), nn.Sequential(nn.Conv2d(4, 2, 3), nn.Conv2d(3, 2, 3)))
    with pytest.raises(ShapeError, match=r"^1\.1: Conv2d: expected in_channels = 3·1") as caught:
        net(IMAGE)
    assert caught.value.layer == "1.1"
    with pytest.raises(ShapeError, match=r"^SeparableConv2d: depthwise: Conv2d: expected"):
        nn.SeparableConv2d(3, 2, 3)(IMAGE)
    with pytest.raises(ShapeError, match=r"^0\.linear: Linear: expected in_features=3") as caught:
        nn.Sequential(nn.Maxout(3, 2, 2))(ones(1, 4))
    with pytest.raises(ShapeError, match=r"^conv2d: expected in_channels"):
        F.conv2d(IMAGE, ones(1, 3, 1, 1))

    class Mine(nn.Module):
        def forward(self, x: Any) -> Any:
            return F.softmax(x, 7)

    with pytest.raises(ShapeError, match=r"^softmax: expected an axis.*test_bad_input.py") as own:
        nn.Sequential(Mine())(IMAGE)
    assert own.value.layer == ""
