"""Bad input to the family of convolutions: one sentence each, with the arithmetic."""

from __future__ import annotations

import re

import numpy as np
import pytest

from striate import nn
from striate.errors import OptionError, ShapeError, StriateError, TraceError
from striate.nn import functional as F


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


IMAGE, SEQUENCE, VOLUME = ones(1, 4, 6, 5), ones(1, 3, 9), ones(1, 2, 4, 3, 5)
KERNEL = ones(6, 4, 3, 3)
SHAPES = [
    (
        lambda: F.conv2d(IMAGE, ones(6, 3, 3, 3)),
        "expected in_channels = 3·1 = 3 .*got in_channels=4",
    ),
    (lambda: F.conv2d(IMAGE, ones(6, 4, 3, 3), groups=2), "expected in_channels = 4·2 = 8"),
    (
        lambda: F.conv2d(IMAGE, ones(6, 1, 3, 3), groups=4),
        "divisible by groups; got in_channels=4, out_channels=6, groups=4",
    ),
    (
        lambda: F.conv_transpose2d(IMAGE, ones(4, 2, 3, 3), groups=3),
        "in_channels divisible by groups; got in_channels=4, groups=3",
    ),
    (lambda: F.conv_transpose1d(SEQUENCE, ones(4, 2, 3)), "expected in_channels=4.*in_channels=3"),
    (
        lambda: F.conv2d(IMAGE, ones(6, 4, 9, 3), padding=1),
        re.escape("⌊(6 + 2·1 − 1·(9−1) − 1)/1⌋ + 1 = 0 (input height 6, padding 1+1"),
    ),
    (
        lambda: F.conv1d(SEQUENCE, ones(4, 3, 5), dilation=3),
        re.escape("output length of at least 1; got ⌊(9 + 2·0 − 3·(5−1) − 1)/1⌋ + 1 = -3"),
    ),
    (lambda: F.convolve3d(VOLUME, ones(4, 2, 5, 1, 1)), "true_conv3d: expected an output depth"),
    (lambda: F.conv2d(IMAGE, ones(6, 4, 3)), r"expected a weight \(out_channels, in_channels/grou"),
    (lambda: F.local2d(IMAGE, KERNEL), "in_channels/groups, kh, kw, oh, ow.*got shape=.6, 4, 3, 3"),
    (lambda: F.tiled_conv2d(IMAGE, KERNEL), r"weight \(th, tw, out_channels.*got shape=\(6, 4, 3"),
    (
        lambda: F.conv2d(SEQUENCE, KERNEL),
        r"conv2d: expected an input \(n, channels, height, width\); got shape=\('N', 3, 9\), "
        "which has 2 axes besides the batch instead of 3",
    ),
    (lambda: F.conv1d(IMAGE, ones(4, 4, 3)), r"conv1d: expected an input \(n, channels, length\)"),
    (
        lambda: F.conv3d(IMAGE, ones(4, 4, 3, 3, 3), data_format="channels_last"),
        r"expected an input \(n, depth, height, width, channels\); got",
    ),
    (lambda: F.conv2d(IMAGE, KERNEL, ones(5)), r"b expected shape \(6,\).*got \(5,\)"),
    (
        lambda: F.local2d(IMAGE, ones(6, 4, 3, 3, 4, 3), ones(6, 4)),
        r"b expected shape \(6,\), one number an output channel, or \(6, 4, 3\), one an output",
    ),
    (
        lambda: F.local2d(IMAGE, ones(6, 4, 3, 3, 4, 4)),
        "kernels for 4×3 output positions, as x .* has; got .*for 4×4. A locally connected layer",
    ),
    (
        lambda: F.local_transpose1d(SEQUENCE, ones(3, 2, 3, 8)),
        "kernels for 9 input positions, as x .3, 9. has; got .*for 8",
    ),
    (lambda: F.conv2d(ones(1, 0, 6, 5), ones(6, 0, 3, 3)), "channels, images and kernels of at"),
    (
        lambda: F.conv2d(ones(1, 4, 0, 5), KERNEL, padding=2),
        "kernels of at least 1; got x .4, 0, 5",
    ),
    (lambda: F.conv2d(IMAGE, ones(0, 4, 3, 3)), r"at least 1; got x \(4, 6, 5\), w \(0, 4, 3, 3\)"),
    (lambda: F.conv2d(IMAGE, ones(6, 4, 0, 3)), r"of at least 1; got .* w \(6, 4, 0, 3\)"),
    (
        lambda: F.conv_transpose2d(ones(1, 4, 1, 1), ones(4, 2, 2, 2), padding=1),
        re.escape("output height of at least 1; got (1 − 1)·1 − 1 − 1 + 2 + 0 = 0"),
    ),
    (
        lambda: F.conv1d(ones(1, 1, 7), ones(1, 1, 3), stride=3, strict=True),
        re.escape("⌊(7 + 2·0 − 1·(3−1) − 1)/3⌋ + 1 = 2, and 4/3 is not whole: 1 never read (6)"),
    ),
    (
        lambda: nn.Conv2d(4, 6, 2, 2, strict=True)(IMAGE),
        "strict=True expected every one of the 5 rows along width to be read.*1 never read .4.",
    ),
    (
        lambda: nn.LocallyConnected1d(3, 2, 9, 2, 4, strict=True)(SEQUENCE),
        "expected every one of the 9 rows along length to be read",
    ),
    (
        lambda: nn.LocallyConnected2d(4, 2, (6, 6), 3)(IMAGE),
        "kernels for 4×3 output positions.*got .*for 4×4",
    ),
    (lambda: nn.LocallyConnected1d(3, 2, 2, 3), "conv1d: expected an output length of at least 1"),
    (
        lambda: nn.ConvTranspose2d(4, 2, 3, 2)(IMAGE, output_size=(16, 12)),
        r"output_size from \(13, 11\) to \(14, 12\) for images \(6, 5\) .*got \(16, 12\)",
    ),
    (lambda: F.pad(IMAGE, (5, 0), "reflect"), r"at most 4 numbers of mode 'reflect'.*got \[5, 0\]"),
    (
        lambda: F.pad(IMAGE, (0, 0, 7, 0), "circular"),
        "at most 6 numbers of mode 'circular'.*axis 2",
    ),
    (lambda: F.pad(SEQUENCE, (-4, -5)), r"along axis 2; got 9 \+ \(-4\) \+ \(-5\) = 0"),
    (lambda: F.pad(SEQUENCE, [1] * 6), "at most 4 numbers, two for each axis besides the batch"),
    (lambda: F.crop(IMAGE, 4, 3), r"crop: expected 4 \+ 3 ≤ 6 along axis 2"),
    (
        lambda: F.center_crop(IMAGE, (6, 7)),
        r"expected 0 \+ 7 ≤ 5 along axis 3; got a part that ends",
    ),
    (lambda: F.crop(ones(1, 3), 0, 1), "crop: expected .n, channels, …. with one to three axes"),
    (lambda: nn.ZeroPad2d(1)(SEQUENCE), r"ZeroPad2d: expected an input \(n, channels, height, wi"),
    (lambda: F.permute(IMAGE, (0, 1, 1, 2)), r"each of the 4 axes once; got dims=\(0, 1, 1, 2\)"),
    (lambda: F.transpose(IMAGE, 1, 4), "axes from -4 to 3; got dim=4 for shape"),
]
OPTIONS = [
    (lambda: nn.Conv2d(4, 6, 3, groups=3), "Conv2d: expected groups to divide in_channels; got gr"),
    (lambda: nn.LocallyConnected2d(4, 6, 5, 3, groups=4), "groups to divide out_channels; got"),
    (lambda: nn.TiledConv1d(4, 6, 3, 0), "TiledConv1d: tiles: expected at least 1; got 0"),
    (lambda: nn.Conv1d(4, 6, 3, padding=-1), "Conv1d: padding: expected at least 0; got -1"),
    (lambda: nn.Conv2d(4, 6, 3, padding=((0, -1), (0, 0))), "padding: expected at least 0; got"),
    (lambda: nn.Conv2d(4, 6, 3, padding=((0, 1), 2)), "2 of them or 2 pairs .before, after.; got"),
    (lambda: F.conv2d(IMAGE, KERNEL, padding=(1, -2)), "conv2d: padding: expected at least 0; got"),
    (lambda: nn.Conv2d(4, 6, 0), "Conv2d: kernel_size: expected at least 1; got 0"),
    (lambda: F.conv2d(IMAGE, KERNEL, groups=0), "groups to be a whole number from 1; got groups=0"),
    (lambda: F.conv2d(IMAGE, KERNEL, padding_mode="edge"), "'symmetric'; got padding_mode='edge'"),
    (lambda: F.conv2d(IMAGE, KERNEL, data_format="NHWC"), "'channels_last'; got data_format='NHW"),
    (lambda: F.conv_transpose2d(IMAGE, ones(4, 2, 3, 3), padding="same"), "padding in numbers"),
    (lambda: nn.ConvTranspose1d(4, 2, 3, padding_mode="reflect"), "expected padding_mode='zeros'"),
    (
        lambda: F.conv_transpose2d(IMAGE, ones(4, 2, 3, 3), output_padding=1),
        "output_padding expected below the stride or the dilation along height, 1; got 1",
    ),
    (
        lambda: nn.LocallyConnected2d(4, 6, 5, 3, bias="each"),
        "'position' .*'channel' or False; got",
    ),
    (lambda: F.pad(IMAGE, (1, 2, 3)), "an even count of whole numbers.*got pad=.1, 2, 3."),
    (lambda: F.pad(IMAGE, (1, 2), "edge"), "'symmetric'; got mode='edge'"),
    (lambda: F.pad(IMAGE, (1, 2), "reflect", 3), "expected no value with mode='reflect'"),
    (lambda: F.pad(IMAGE, (1, 2), value="3"), "expected value to be a number; got value='3'"),
    (lambda: nn.ReflectionPad2d((1, 2)), r"\(left, right, top, bottom\); got padding=\(1, 2\)"),
    (lambda: nn.ConstantPad1d(1, None), "ConstantPad1d: expected value to be a number; got"),
    (lambda: nn.Permute(1, 0, 2), "expected 0, the batch, as the first axis; got dims="),
    (lambda: nn.SeparableConv2d(4, 6, 3, depth_multiplier=0), "depth_multiplier to be a whole"),
    (
        lambda: F.conv2d(IMAGE.astype(complex), KERNEL),
        "array of real numbers; got ndarray of dtype",
    ),
    (
        lambda: F.conv2d(IMAGE, KERNEL.astype(object)),
        "of real numbers; got ndarray of dtype=object",
    ),
    (lambda: F.conv2d([["a"]], KERNEL), "expected an array of real numbers; got list"),
]


@pytest.mark.parametrize("k", range(len(SHAPES)))
def test_shapes_that_do_not_fit(k):
    call, text = SHAPES[k]
    with pytest.raises(ShapeError, match=text):
        call()


@pytest.mark.parametrize("k", range(len(OPTIONS)))
def test_options_out_of_range(k):
    call, text = OPTIONS[k]
    with pytest.raises(OptionError, match=text):
        call()


def test_every_message_is_one_paragraph():
    for call, _ in (*SHAPES, *OPTIONS):
        with pytest.raises(StriateError, match=r"^[^\n]{20,400}$"):
            call()


def test_whole_numbers_and_other_widths_are_taken_exactly():
    """Images of bytes, doubles or booleans are the same numbers in float32."""
    x = np.arange(20).reshape(1, 1, 4, 5)
    w = np.arange(4).reshape(1, 1, 2, 2)
    expected = F.conv2d(x.astype(np.float32), w.astype(np.float32))
    for images, kernels in ((np.uint8, np.int64), (np.int16, np.float64), (np.float16, np.uint8)):
        assert np.array_equal(F.conv2d(x.astype(images), w.astype(kernels)), expected)
    assert expected.dtype == np.float32


def test_in_a_network_the_line_is_named():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 6, 3)

        def forward(self, x):
            return self.conv(x[:, :, 0])

    with pytest.raises(ShapeError, match=r"besides the batch instead of 3 \(.*test_conv_errors.py"):
        Net()(IMAGE)

    class Turned(nn.Module):
        def forward(self, x):
            return x.permute(1, 0, 2, 3)

    with pytest.raises(TraceError, match="permute moves axis 0, the batch"):
        Turned()(IMAGE)


def test_output_size_takes_the_whole_shape_as_in_torch():
    layer = nn.ConvTranspose2d(4, 2, 3, 2)
    assert layer(IMAGE, output_size=(14, 11)).shape == (1, 2, 14, 11)
    assert layer(IMAGE, output_size=(1, 2, 13, 12)).shape == (1, 2, 13, 12)
