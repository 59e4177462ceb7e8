"""Drawings of networks: the layout on random graphs, what is drawn, folding, columns, files."""

from __future__ import annotations

import doctest
import importlib
import itertools
import re
from pathlib import Path

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.errors import OptionError
from striate.plot.network import network
from striate.plot.network_layout import Layout, increasing, layout, split

Sizes = dict[str, tuple[float, float]]
Lines = list[tuple[str, str]]


def random_graph(seed: int, count: int = 18) -> tuple[Sizes, Lines]:
    """A chain with boxes of random sizes, and some lines past others."""
    rng = np.random.default_rng(seed)
    names = [f"b{k}" for k in range(count)]
    sizes = {n: (float(rng.uniform(0.3, 2)), float(rng.choice([0.24, 0.38]))) for n in names}
    lines = {(names[max(0, k - int(rng.integers(1, 4)))], names[k]) for k in range(1, count)}
    for _ in range(6):
        a, b = sorted(rng.choice(count, 2, replace=False))
        lines.add((names[a], names[b]))
    return sizes, sorted(lines)


def curve(points: list[tuple[float, float]]) -> np.ndarray:
    """Places along a line as it is drawn: straight, or bent half way down."""
    found = []
    t = np.linspace(0, 1, 21)[:, None]
    for a, b in itertools.pairwise(np.array(points)):
        half = (a[1] + b[1]) / 2
        mid = np.array([a[0], half]), np.array([b[0], half])
        found.append(
            (1 - t) ** 3 * a
            + 3 * t * (1 - t) ** 2 * mid[0]
            + 3 * t**2 * (1 - t) * mid[1]
            + t**3 * b
        )
    return np.concatenate(found)


def check_layout(sizes: Sizes, lines: Lines, found: Layout) -> None:
    """Boxes apart, inside, below what they read; no line through a box that is not its end."""
    for a, b in itertools.combinations(sizes, 2):
        (xa, ya), (xb, yb) = found.boxes[a], found.boxes[b]
        apart = abs(xa - xb) - (sizes[a][0] + sizes[b][0]) / 2
        assert apart > 0.1 or abs(ya - yb) >= (sizes[a][1] + sizes[b][1]) / 2, (a, b)
    for name, (x, y) in found.boxes.items():
        width, height = sizes[name]
        assert -1e-9 <= x - width / 2 and x + width / 2 <= found.width + 1e-9
        assert -1e-9 <= y - height / 2 and y + height / 2 <= found.height + 1e-9
    for a, b in lines:
        places = curve(found.lines[a, b])
        assert found.boxes[a][1] < found.boxes[b][1]
        assert (np.diff(places[:, 1]) >= -1e-9).all()
        for name, centre in found.boxes.items():
            off = np.abs(places - centre) - np.array(sizes[name]) / 2
            inside = (off < -1e-6).all(axis=1)
            assert not inside.any(), (a, b, name)


@pytest.mark.parametrize("seed", range(8))
def test_layout_of_random_graphs(seed: int) -> None:
    sizes, lines = random_graph(seed)
    check_layout(sizes, lines, layout(sizes, lines, stub=0.1))


def test_chains_are_straight_and_branches_balanced() -> None:
    """A residual block's own way is straight, its by-pass one straight lane; branches centred."""
    sizes = dict.fromkeys("abcdefgh", (1.0, 0.3))
    lines = [("a", "b"), ("b", "c"), ("c", "d"), ("a", "d"), ("d", "e"), ("d", "f"), ("d", "g")]
    lines += [("e", "h"), ("f", "h"), ("g", "h")]
    found = layout(sizes, lines)
    check_layout(sizes, lines, found)
    x = {name: place[0] for name, place in found.boxes.items()}
    np.testing.assert_allclose([x[n] for n in "bcdfh"], x["a"], atol=1e-3)
    assert x["g"] - x["f"] == pytest.approx(x["f"] - x["e"], abs=1e-3)
    assert x["g"] - x["f"] == pytest.approx(1.25, abs=1e-3)
    lane = {round(p[0], 6) for p in found.lines["a", "d"][2:-2]}
    assert len(lane) == 1 and min(lane) > x["a"] + 0.5


def test_nested_by_passes_do_not_cross() -> None:
    names = "abcdefg"
    sizes = dict.fromkeys(names, (1.0, 0.3))
    lines = [*itertools.pairwise(names), ("a", "g"), ("b", "f"), ("c", "e")]
    found = layout(sizes, lines)
    check_layout(sizes, lines, found)
    lanes = [found.lines[line][2][0] for line in (("c", "e"), ("b", "f"), ("a", "g"))]
    assert lanes == sorted(lanes) and len(set(lanes)) == 3


def test_columns_are_cut_where_one_box_joins_all() -> None:
    names = [f"n{k}" for k in range(12)]
    sizes = dict.fromkeys(names, (1.0, 0.3))
    lines = [*itertools.pairwise(names), ("n4", "n7")]
    assert split(sizes, lines, 2) == [names[:5], names[5:]] or split(sizes, lines, 2) == [
        names[:8],
        names[8:],
    ]
    assert [len(part) for part in split(sizes, lines[:-1], 3)] == [4, 4, 4]
    assert split(sizes, lines, 1) == [names]


def test_increasing_is_the_least_squares() -> None:
    """Against many tries: no sequence that never falls is nearer."""
    rng = np.random.default_rng(0)
    wanted, weights = rng.normal(size=6), rng.uniform(0.5, 2, size=6)
    found = increasing(wanted, weights)
    assert (np.diff(found) >= 0).all()
    best = float((weights * (found - wanted) ** 2).sum())
    for _ in range(300):
        other = np.sort(found + rng.normal(size=6) * 0.2)
        assert float((weights * (other - wanted) ** 2).sum()) >= best - 1e-12


# ---- drawings --------------------------------------------------------------------------------


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2)
        self.conv2, self.drop = nn.Conv2d(2, 2, 3, padding=1), nn.Dropout(0.5)

    def forward(self, x):
        y = nn.functional.relu(self.bn1(self.conv1(x)))
        return nn.functional.relu(self.drop(self.conv2(y)) + x)


def words(net: nn.Module, shape: tuple[int, ...], **more) -> list[str]:
    return [t.get_text() for t in network(net, shape, **more).texts]


def test_a_block_is_folded() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3, stride=2), Block(), nn.MaxPool2d(2))
    found = words(net, (1, 17, 17), title="A net", under="two convolutions")
    assert "A net" in found and "two convolutions" in found
    assert "+ bn + relu" in found and "+ relu" in found  # dropout is nothing in evaluation
    assert {"conv2d 3×3 s2", "add", "max pool 2×2", "1.conv1", "2×8×8"} <= set(found)
    assert "1.bn1" not in found
    unfolded = words(net, (1, 17, 17), fold=False)
    assert "1.bn1" in unfolded and "bn" in unfolded
    assert "1.conv1" not in words(net, (1, 17, 17), names=False)


def test_a_value_that_is_read_twice_is_not_folded_away() -> None:
    """What the by-pass reads is the first convolution's output, before its activation."""

    class Tapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, x):
            y = self.conv(x)
            return nn.functional.relu(y) + y

    found = words(Tapped(), (1, 5, 5))
    assert "relu" in found and "+ relu" not in found


def test_long_networks_are_cut_into_columns() -> None:
    net = nn.Sequential(*(nn.Conv2d(1, 1, 3, padding=1) for _ in range(30)))
    wide, tall = network(net, (1, 8, 8)), network(net, (1, 8, 8), columns=1)
    assert wide.get_size_inches()[1] < 0.6 * tall.get_size_inches()[1]
    assert network(net, (1, 8, 8), columns=5).get_size_inches()[0] > wide.get_size_inches()[0]


def test_files(tmp_path: Path) -> None:
    figure = network(st.models.build("lenet5"), (1, 28, 28), title="LeNet-5")
    for kind in ("svg", "png"):
        st.plot.save(figure, tmp_path / f"net.{kind}", dpi=50)
    assert re.match(rb"<\?xml", (tmp_path / "net.svg").read_bytes())
    assert (tmp_path / "net.png").read_bytes()[:4] == b"\x89PNG"


def test_the_shape_must_be_known() -> None:
    with pytest.raises(OptionError, match=r"plot\.network: expected a network whose input shape"):
        network(nn.Conv2d(1, 1, 1))


def test_examples_in_docstrings() -> None:
    module = importlib.import_module("striate.plot.network_layout")
    assert doctest.testmod(module).failed == 0
