"""LeNet-5 as it was published: 60,000 trained numbers, and an output of distances to pictures.

Its parts are a connection table between the second and the third layer, subsampling with trained
numbers, a scaled tanh and radial basis functions. The modern form is `lenet`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from striate import nn
from striate.errors import OptionError
from striate.formula.expression import Tensor, axes
from striate.models.starts import constructor
from striate.nn import functional as F
from striate.nn import init

# The paper's Table I: the maps of S2 that each map of C3 reads.
CONNECTIONS: tuple[tuple[int, ...], ...] = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
)

# Digits on 7 × 12 squares, in the manner of the paper's figure 3: a row of digits each time.
_PICTURES = """
..###..|...#...|..###..|..###..|....##.|.######|..####.|#######|..###..|..###..
.##.##.|..##...|.#...#.|.#...#.|...###.|.#.....|.#....#|#.....#|.#...#.|.#...#.
##...##|.###...|#.....#|......#|..##.#.|.#.....|#......|.....#.|#.....#|#.....#
#.....#|...#...|......#|......#|.##..#.|#......|#......|.....#.|#.....#|#.....#
#.....#|...#...|.....#.|.....#.|.#...#.|#.####.|#.###..|....#..|.#...#.|#.....#
#.....#|...#...|....#..|..###..|#....#.|##....#|##...#.|....#..|..###..|.#...##
#.....#|...#...|...#...|.....#.|#....#.|......#|#.....#|...#...|.#...#.|..###.#
#.....#|...#...|..#....|......#|#######|......#|#.....#|...#...|#.....#|......#
#.....#|...#...|.#.....|......#|.....#.|......#|#.....#|..#....|#.....#|......#
##...##|...#...|#......|#.....#|.....#.|#.....#|#.....#|..#....|#.....#|#.....#
.##.##.|...#...|#.....#|.#...#.|.....#.|.#...#.|.#...#.|..#....|.#...#.|.#...#.
..###..|.#####.|#######|..###..|.....#.|..###..|..###..|..#....|..###..|..###..
"""


def digit_pictures() -> np.ndarray[Any, Any]:
    """The ten digits as pictures of −1 and 1, (10, 12, 7): the output units' prototypes.

    They are drawn for this library; the paper's are of the same size.

    >>> pictures = digit_pictures()
    >>> "".join(".#"[int(k > 0)] for k in pictures[1, 0]), pictures.shape
    ('...#...', (10, 12, 7))
    """
    rows = [line.split("|") for line in _PICTURES.split()]
    return np.array(
        [[[1.0 if k == "#" else -1.0 for k in row[d]] for row in rows] for d in range(10)],
        np.float32,
    )


class MappedConv2d(nn.Module):
    """A convolution whose maps read the maps that a table names, and no others.

    Args:
        connections: for each map of the result the maps that it reads.
        kernel_size: pixels.
    Input: (n, maps, h, w). Output: (n, len(connections), h − k + 1, w − k + 1).
    Parameters: for each number f of maps read, in rising order, `convs.f.weight` (maps, f, k, k)
        and `convs.f.bias` (maps,), for the maps that read so many.
    Raises:
        OptionError: the table is empty, or maps that read fewer stand behind those that read more.

    >>> layer = MappedConv2d([(0,), (1,), (0, 1)], 3)
    >>> layer(np.zeros((1, 2, 5, 5))).shape, sum(p.numel() for p in layer.parameters())
    ((1, 3, 3, 3), 39)
    """

    def __init__(self, connections: Sequence[Sequence[int]], kernel_size: int) -> None:
        super().__init__()
        counts = [len(maps) for maps in connections]
        if not counts or counts != sorted(counts) or counts[0] < 1:
            raise OptionError(
                "MappedConv2d: expected maps that read rising numbers of maps, from 1; got "
                f"{counts}. Put those that read fewer first."
            )
        self.connections = tuple(tuple(map(int, maps)) for maps in connections)
        n, c, i, j = axes("n c i j")
        self.gathers, self.convs = nn.ModuleDict(), nn.ModuleDict()
        for count in sorted(set(counts)):
            read = [k for maps in self.connections if len(maps) == count for k in maps]
            body = Tensor("x")[n, c.through(tuple(read)), i, j]
            self.gathers[str(count)] = nn.Formula((n, c, i, j), body, sizes={"c": len(read)})
            rows = counts.count(count)
            self.convs[str(count)] = nn.Conv2d(len(read), rows, kernel_size, groups=rows)

    def forward(self, x: Any) -> Any:
        """The convolved maps of x."""
        parts = []
        for count, conv in self.convs.items():
            every = int(count) == len(conv.weight) * x.shape[1]  # one map that reads all of them
            parts.append(conv(x if every else self.gathers[count](x)))
        return F.cat(parts, dim=1)

    def extra_repr(self) -> str:
        return f"connections={self.connections}"


class LeNet1998(nn.Module):
    """LeNet-5 as published: C1, S2, C3, S4, C5, F6 and the radial basis functions.

    The numbers that it gives are the negated distances `−Σ_k (F6[k] − prototype[k])²`: the largest
    names the class. In training one more stands behind them, `−rubbish`, the score of a class
    that nothing belongs to: cross-entropy of them is the paper's criterion, its equation 9.

    Args:
        num_classes: classes; ten are compared with pictures of the digits, others with random
            patterns of −1 and 1.
        in_channels: channels of the images.
        transform_input: whether images of numbers 0 … 1 become −0.1 … 1.175, as in the paper,
            and those smaller than 32 × 32 get a border (28 × 28 becomes 32 × 32).
        rubbish: the constant j of the criterion, above 0.
    Input: (n, in_channels, 28, 28) or (n, in_channels, 32, 32). Output: scores (n, num_classes).
    Raises:
        OptionError: rubbish is not above 0.
    Source: LeCun, Bottou, Bengio, Haffner, Gradient-based learning applied to document
        recognition, Proceedings of the IEEE 86 (1998), section II.B and C.

    >>> net = LeNet1998().eval()
    >>> net(np.zeros((2, 1, 28, 28))).shape, sum(p.numel() for p in net.parameters())
    ((2, 10), 60000)
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 1,
        transform_input: bool = True,
        rubbish: float = 10.0,
    ) -> None:
        super().__init__()
        if not rubbish > 0:
            raise OptionError(f"LeNet1998: expected rubbish above 0; got rubbish={rubbish!r}.")
        self.transform_input, self.rubbish = bool(transform_input), float(rubbish)
        self.c1 = nn.Conv2d(in_channels, 6, 5)  # (n, 6, 28, 28)
        self.s2 = nn.Subsample(6)  # (n, 6, 14, 14)
        self.c3 = MappedConv2d(CONNECTIONS, 5)  # (n, 16, 10, 10)
        self.s4 = nn.Subsample(16)  # (n, 16, 5, 5)
        self.c5 = nn.Conv2d(16, 120, 5)  # (n, 120, 1, 1)
        self.f6 = nn.Linear(120, 84)
        pictures = digit_pictures().reshape(10, 84) if num_classes == 10 else None
        self.output = nn.RBF(84, num_classes, pictures, fixed=True)
        self.squash = nn.ScaledTanh()
        self._start()

    def _start(self) -> None:
        """Uniform within ±2.4/fan_in, as the paper says."""
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear, nn.Subsample)):
                window = isinstance(module, nn.Subsample)
                fan = 4 if window else math.prod(module.weight.shape[1:])
                for parameter in module.parameters():
                    init.uniform_(parameter, -2.4 / fan, 2.4 / fan)

    def forward(self, x: Any) -> Any:
        """Scores (n, num_classes) of images x, in training one more."""
        if self.transform_input:
            if x.shape[2] < 32 and x.shape[3] < 32:
                rows, columns = 32 - x.shape[2], 32 - x.shape[3]
                left, top = columns // 2, rows // 2
                x = F.pad(x, (left, columns - left, top, rows - top))
            x = x * 1.275 - 0.1
        x = self.squash(self.s2(self.squash(self.c1(x))))
        x = self.squash(self.s4(self.squash(self.c3(x))))
        x = self.squash(self.f6(F.flatten(self.squash(self.c5(x)), 1)))
        scores = -self.output(x)
        if not self.training:
            return scores
        return F.cat((scores, scores[:, :1] * 0 - self.rubbish), dim=1)


lenet5_1998 = constructor("lenet5_1998", "LeNet-5 as published: 60,000 parameters.", LeNet1998)
