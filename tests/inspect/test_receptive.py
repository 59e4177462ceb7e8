"""Receptive fields: against brute force on all kinds of layers and random graphs."""

from __future__ import annotations

import doctest
import importlib
import json
from fractions import Fraction

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.errors import ModelError, OptionError
from striate.inspect import input_region, receptive_field, units_reached
from striate.inspect.probe import Probe
from striate.nn import functional as F


def dependence(net: nn.Module, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Which units each input number reaches, (inputs, …) by layer: a NaN is put there and spreads.

    The formulas in float64 are run, so that nothing is skipped for being 0.
    """
    probe = Probe(net, shape, backend="reference")
    count = int(np.prod(shape))
    x = np.repeat(np.random.default_rng(0).uniform(0.5, 1, (1, *shape)), count, 0)
    x.reshape(count, count)[np.arange(count), np.arange(count)] = np.nan
    return {name: np.isnan(value) for name, value in probe.values(x, probe.layers).items()}


def check(net: nn.Module, shape: tuple[int, ...], units: int = 4) -> None:
    """Regions, units reached and laws of every layer against what a NaN does."""
    rng, net = np.random.default_rng(1), net.eval()
    reached, found = dependence(net, shape), receptive_field(net, shape)
    for layer, spread in reached.items():
        for _ in range(units):
            at = tuple(int(rng.integers(n)) for n in spread.shape[1:])
            region = input_region(net, shape, layer, at)
            truth = spread[(slice(None), *at)].reshape(shape)
            np.testing.assert_array_equal(region.mask, truth, err_msg=f"{layer} {at}")
            pixel = tuple(int(rng.integers(n)) for n in shape)
            hit = units_reached(net, shape, pixel, layer)
            np.testing.assert_array_equal(
                hit.mask, spread[np.ravel_multi_index(pixel, shape)], err_msg=f"{layer} {pixel}"
            )
            for (low, high), (first, last) in zip(
                found[layer].at(at), region.clipped[1:], strict=False
            ):
                assert low <= first and last <= high, (layer, at)


class Branches(nn.Module):
    """Wide and tall paths side by side, a residual path, then axes exchanged and a cut."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(2, 3, (1, 5), padding=(0, 2))
        self.tall = nn.Conv2d(2, 3, (5, 1), padding=(2, 0))
        self.join = nn.Conv2d(6, 2, 3, padding=1)
        self.short = nn.Conv2d(2, 2, 1)

    def forward(self, x):
        y = self.join(F.cat([self.wide(x), self.tall(x)], 1)) + self.short(x)
        return y.permute(0, 1, 3, 2)[:, 1:, 2:5].reshape(x.shape[0], -1)


class Gated(nn.Module):
    """Squeeze and excitation: one path looks at everything."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, stride=2)
        self.pool, self.gate = nn.AdaptiveAvgPool2d(1), nn.Conv2d(2, 2, 1)

    def forward(self, x):
        y = self.conv(x)
        return y * F.sigmoid(self.gate(self.pool(y)))


NETS = {
    "chain": lambda: (
        nn.Sequential(
            nn.Conv2d(2, 3, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(3, 4, 3, dilation=2, padding=2),
            nn.Flatten(),
            nn.Linear(16, 3),
        ),
        (2, 9, 8),
    ),
    "transposed": lambda: (
        nn.Sequential(
            nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2),
            nn.ConvTranspose2d(4, 2, 3, stride=2, padding=1),
            nn.Conv2d(2, 2, 3, padding=1),
            nn.ConvTranspose2d(2, 1, 2, stride=3),
        ),
        (2, 7, 6),
    ),
    "resized": lambda: (
        nn.Sequential(
            nn.Upsample(scale_factor=2, mode="nearest"),
            nn.Conv2d(1, 2, 3, padding=1),
            nn.AdaptiveAvgPool2d((3, 5)),
            nn.Conv2d(2, 4, 1),
            nn.PixelShuffle(2),
            nn.PixelUnshuffle(2),
            nn.AvgPool2d(2),
        ),
        (1, 6, 7),
    ),
    "norms": lambda: (
        nn.Sequential(
            nn.Conv2d(1, 2, 3),
            nn.LocalResponseNorm(3),
            nn.ReflectionPad2d(1),
            nn.InstanceNorm2d(2),
            nn.Conv2d(2, 2, 3),
        ),
        (1, 7, 7),
    ),
    "columns": lambda: (nn.Sequential(nn.Unfold(2), nn.Conv1d(4, 2, 3)), (1, 5, 5)),
    "sequence": lambda: (
        nn.Sequential(nn.Conv1d(2, 3, 3, stride=2), nn.MaxPool1d(2), nn.Conv1d(3, 2, 2)),
        (2, 17),
    ),
    "volume": lambda: (
        nn.Sequential(nn.Conv3d(1, 2, (1, 2, 3), padding=(0, 1, 1)), nn.MaxPool3d(2)),
        (1, 4, 5, 4),
    ),
    "branches": lambda: (Branches(), (2, 7, 8)),
    "gated": lambda: (Gated(), (1, 7, 7)),
    "local": lambda: (
        nn.Sequential(nn.LocallyConnected2d(1, 2, (6, 6), 3, stride=2), nn.Linear(2, 2)),
        (1, 6, 6),
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_against_brute_force(name: str) -> None:
    st.manual_seed(0)
    check(*NETS[name]())


class Random(nn.Module):
    """A random graph: each layer reads one of those before it; equal shapes may be added."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed, rng = seed, np.random.default_rng(seed)
        self.layers = nn.ModuleList([self.layer(rng) for _ in range(6)])

    def layer(self, rng: np.random.Generator) -> nn.Module:
        k, s, d = (int(rng.integers(1, n)) for n in (4, 3, 3))
        p = int(rng.integers(0, 2))
        kinds = (
            lambda: nn.Conv2d(2, 2, (k, 3), stride=(1, s), padding=(p + 1, 2), dilation=d),
            lambda: nn.Conv2d(2, 2, k, padding=k // 2, groups=2),
            lambda: nn.MaxPool2d(2, stride=s, padding=p),
            lambda: nn.ConvTranspose2d(2, 2, k + 1, stride=s, padding=p),
            lambda: nn.Upsample(scale_factor=2, mode="nearest"),
            lambda: nn.ReLU(),
        )
        return kinds[int(rng.integers(len(kinds)))]()

    def forward(self, x):
        rng, known = np.random.default_rng(self.seed), [x]
        for layer in self.layers:
            at = known[-1 - int(rng.integers(min(2, len(known))))]
            y = layer(at) if min(at.shape[2:]) > 6 else at
            same = [k for k in known if k.shape == y.shape]
            if same:
                y = y + same[int(rng.integers(len(same)))]
            known.append(y)
        return F.cat([k for k in known if k.shape == known[-1].shape], 1)


@pytest.mark.parametrize("seed", range(6))
def test_random_graphs_against_brute_force(seed: int) -> None:
    st.manual_seed(seed)
    check(Random(seed), (2, 9, 8), units=2)


@pytest.mark.parametrize("align", [False, True])
def test_weights_of_zero_are_not_read(align: bool) -> None:
    """Interpolation at a place of the image itself reads that place alone, as its gradient says."""
    net = nn.Upsample(size=(5, 7), mode="bilinear", align_corners=align)
    probe = Probe(net, (1, 3, 3))
    for at in np.ndindex(5, 7):
        up = np.zeros((1, 1, 5, 7))
        up[(0, 0, *at)] = 1
        slope = probe.gradient(np.ones((1, 1, 3, 3)), probe.output, up)[1][0]
        region = input_region(net, (1, 3, 3), probe.output, at)
        np.testing.assert_array_equal(region.mask, slope > 1e-6, err_msg=str(at))


def test_a_token_stands_for_itself() -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.conv = nn.Embedding(10, 4), nn.Conv1d(4, 2, 3)

        def forward(self, x):
            return self.conv(self.embed(x).permute(0, 2, 1))

    found = receptive_field(Words(), (8,))["conv"]
    assert (found.size, found.stride, found.start) == ((3,), (1,), (0,))
    assert input_region(Words(), (8,), "conv", (0, 2)).clipped == ((2, 4),)
    assert units_reached(Words(), (8,), (3,), "conv").clipped == ((0, 1), (1, 3))


# ---- laws ------------------------------------------------------------------------------------


def test_a_chain_follows_the_recurrence() -> None:
    """R ← R + (k − 1)·d·S, S ← S·s, start ← start − p·S."""
    rng = np.random.default_rng(4)
    layers, size, stride, start = [], 1, 1, 0
    for _ in range(7):
        k, s, d, p = (int(rng.integers(a, b)) for a, b in ((1, 5), (1, 3), (1, 3), (0, 3)))
        layers.append(nn.Conv2d(1, 1, k, stride=s, dilation=d, padding=p))
        size, start, stride = size + (k - 1) * d * stride, start - p * stride, stride * s
    found = receptive_field(nn.Sequential(*layers), (1, 400, 400), "6")
    assert found.size == (size, size) and found.stride == (stride, stride)
    assert found.start == (start, start) and found.padding == (-start, -start)
    assert found.centre == (start + (size - 1) / 2,) * 2 and found.aligned


def test_upsampling_has_a_fraction_as_stride() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 1, 2, stride=4), nn.ConvTranspose2d(1, 1, 2, stride=2), nn.ReLU()
    )
    found = receptive_field(net, (1, 32, 32))
    assert found["1"].stride == (2, 2) and found["1"].size == (2, 2)
    up = receptive_field(nn.ConvTranspose2d(1, 1, 3, stride=2), (1, 5, 5), "conv_transpose2d")
    assert up.stride == (0.5, 0.5) and up.stride_text == "1/2"
    assert up.laws[0].stride == Fraction(1, 2)
    assert up.size == (2, 2) and up.at((0, 1, 2)) == ((0, 0), (0, 1))


def test_whole_flattened_and_constant() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3))
    found = receptive_field(net, (1, 6, 6))
    assert found["0"].text == "3" and not any(found["0"].whole)
    assert [found[k].text for k in ("1", "2", "3")] == ["all"] * 3
    assert found["3"].stride == (0, 0) and found["3"].stride_text == "–"
    flat = receptive_field(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten()), (1, 6, 6), "1")
    assert flat.size == (3, 3) and flat.stride_text == "–"
    assert flat.at((17,)) == ((0, 2), (1, 3))  # channel 1, row 0, column 1


def test_fields_larger_than_the_image_keep_their_size() -> None:
    """A chain's field is a number whatever the image; only a global path makes it "all"."""
    chain = nn.Sequential(*(nn.Conv2d(1, 1, 7, padding=3) for _ in range(4)))
    found = receptive_field(chain, (1, 8, 8), "3")
    assert found.text == "25" and found.whole == (True, True) and found.everywhere == (False, False)
    gated = receptive_field(Gated(), (1, 7, 7))
    last = gated[list(gated)[-1]]
    assert last.text == "all" and last.everywhere == (True, True) and last.stride == (2, 2)


def test_patches_in_a_row_find_back_to_their_places() -> None:
    """A vision transformer's way: patches, a row of them, and back to an image."""

    class Patches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Conv2d(1, 5, 4, stride=4)

        def forward(self, x):
            row = self.embed(x).reshape(x.shape[0], 5, 6).permute(0, 2, 1)
            return row.permute(0, 2, 1).reshape(x.shape[0], 5, 2, 3)

    found = receptive_field(Patches(), (1, 8, 12))
    last = list(found)[-1]
    assert found[last].size == (4, 4) and found[last].stride == (4, 4)
    assert found[last].at((0, 1, 2)) == ((4, 7), (8, 11))
    row = list(found)[-2]
    assert found[row].at((0, 5)) == ((4, 7), (8, 11))


def test_paths_out_of_line_are_told() -> None:
    class Two(nn.Module):
        def __init__(self, second: nn.Module) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(1, 1, 3, stride=2, padding=1), second

        def forward(self, x):
            return self.a(x) + self.b(x)

    in_line = receptive_field(Two(nn.Conv2d(1, 1, 1, stride=2)), (1, 8, 8))
    out = receptive_field(Two(nn.Conv2d(1, 1, 2, stride=2)), (1, 8, 8))
    last = list(in_line)[-1]
    assert in_line[last].aligned and not out[last].aligned
    assert out[last].size == (3, 3) and "≠" in out.text() and "≠" not in in_line.text()


def test_flipped_axes() -> None:
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3)

        def forward(self, x):
            return F.flip(self.conv(x), [3])

    found = receptive_field(Turned(), (1, 6, 6))
    last = found[list(found)[-1]]
    assert last.stride == (1, -1) and last.at((0, 0, 0)) == ((0, 2), (3, 5))


# ---- words and errors ------------------------------------------------------------------------


def test_regions_cut_out_patches() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(2))
    region = input_region(net, (3, 8, 8), "1", (1, 2))
    assert region.clipped == ((0, 2), (1, 4), (3, 6)) and region.shape == (3, 4, 4)
    image = np.arange(192).reshape(3, 8, 8)
    np.testing.assert_array_equal(image[region.slices], image[:, 1:5, 3:7])
    assert region.count == 48 and region.unclipped == ((1, 4), (3, 6))


def test_nothing_is_read() -> None:
    """A transposed convolution leaves holes where its stride is larger than its kernel."""
    net = nn.ConvTranspose2d(1, 1, 1, stride=2)
    region = input_region(net, (1, 3, 3), "conv_transpose2d", (0, 1, 1))
    assert region.count == 0 and region.clipped == () and region.unclipped == ()


def test_text_and_json() -> None:
    found = receptive_field(st.models.build("lenet5"), (1, 28, 28))
    for width in (70, 100):
        assert max(map(len, found.text(width).splitlines())) <= width
    data = json.loads(json.dumps(found.to_dict()))
    rows = {row["name"]: row for row in data["layers"]}
    assert rows["pool2"]["size"] == [16, 16] and rows["pool2"]["stride"] == [4, 4]
    assert rows["pool2"]["start"] == [-2, -2] and rows["fc1"]["whole"] == [True, True]


def test_errors() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    with pytest.raises(ModelError, match=r"receptive_field: unknown layer 'conv'. There is: 0, 1"):
        receptive_field(net, (1, 8, 8), "conv")
    with pytest.raises(ModelError, match="input_region: unknown layer"):
        input_region(net, (1, 8, 8), "conv", (0, 0, 0))
    with pytest.raises(OptionError, match=r"\(0…1, 0…5, 0…5\).*shape \(2, 6, 6\).*got \(0, 6, 0\)"):
        input_region(net, (1, 8, 8), "0", (0, 6, 0))
    with pytest.raises(OptionError, match=r"in the input, shape \(1, 8, 8\)"):
        units_reached(net, (1, 8, 8), (8, 0), "0")
    with pytest.raises(OptionError, match="expected a network or a graph; got str"):
        receptive_field("resnet18", (3, 8, 8))  # type: ignore[call-overload]
    with pytest.raises(OptionError, match="input shape is known"):
        receptive_field(nn.Sequential(nn.Conv2d(1, 1, 3)))


@pytest.mark.parametrize("name", ["receptive", "receptive_laws", "receptive_text", "regions"])
def test_examples_in_docstrings(name: str) -> None:
    module = importlib.import_module(f"striate.inspect.{name}")
    assert doctest.testmod(module).failed == 0
