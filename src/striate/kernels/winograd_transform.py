"""The small linear maps of Winograd's convolutions, and how whole images pass through them.

F(m×m, 3×3) cuts the output into m×m tiles and the source into windows of (m+2)×(m+2). With the
matrices Bᵀ (source), G (weights), Aᵀ (output) of `Algebra`

    output tile = Aᵀ [ Σ over channels (G w Gᵀ) ⊙ (Bᵀ d B) ] A

and the gradient to the weights is Gᵀ [ Σ over tiles (Bᵀ d B) ⊙ (A dy Aᵀ) ] G.

Each two-dimensional transform is two passes of one dimension: rows first, into a *strip* (one row
of tiles, all its columns), then columns. So only the first pass knows which rows lie inside the
image, zero columns of the strip stand for what lies beside it, and vertical work is shared by
overlapping windows. All of it is lane by lane: whatever unused lanes hold stays in them.

Not here: the products (winograd, winograd_weight).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from striate.codegen.builder import Builder, Int, Value
from striate.codegen.targets import Target
from striate.errors import ShapeError
from striate.kernels.routine import whole_vectors
from striate.kernels.window import split

Transform = Callable[[Builder, Sequence[Value]], list[Value]]
Pair = tuple[int, int]
PANEL = 2
"""Blocks of output channels that a product computes together."""
APART = 16
"""Floats between neighbouring planes, so that a power of two does not put them in one cache set."""


# ---- arithmetic that knows zeros ---------------------------------------------------------------


def _add(b: Builder, x: Value, y: Value) -> Value:
    if x == b.zero or y == b.zero:
        return y if x == b.zero else x
    return b.fadd(x, y)


def _sub(b: Builder, x: Value, y: Value) -> Value:
    if y == b.zero:
        return x
    return b.fneg(y) if x == b.zero else b.fsub(x, y)


def _mul(b: Builder, factor: float, x: Value) -> Value:
    return x if x == b.zero or factor == 1 else b.fmul(b.const(factor), x)


def _fma(b: Builder, factor: float, x: Value, y: Value) -> Value:
    """factor·x + y."""
    if x == b.zero:
        return y
    if factor == 1 or factor == -1:
        return _add(b, y, x) if factor == 1 else _sub(b, y, x)
    return _mul(b, factor, x) if y == b.zero else b.fma(b.const(factor), x, y)


def _both(b: Builder, factor: float, odd: Value, even: Value) -> list[Value]:
    """even ± factor·odd."""
    return [_fma(b, factor, odd, even), _fma(b, -factor, odd, even)]


# ---- one dimension -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Algebra:
    """One-dimensional maps of F(m, 3), m = 2 or 4.

    The points are 0, ±near, [±far,] ∞. Scaling a point's row of Aᵀ and its row of G against one
    another changes nothing but the count of operations: it is chosen so that of the coefficients
    of every output one is 1.
    """

    m: int
    near: float = 0.75
    far: float = 1.5

    @property
    def window(self) -> int:
        """Source positions that a tile needs, and numbers that its transform has."""
        return self.m + 2

    @property
    def planes(self) -> int:
        """Products of a tile."""
        return self.window * self.window

    def data(self, b: Builder, d: Sequence[Value]) -> list[Value]:
        """Bᵀ d."""
        if self.m == 2:
            return [
                _sub(b, d[0], d[2]),
                _add(b, d[1], d[2]),
                _sub(b, d[2], d[1]),
                _sub(b, d[3], d[1]),
            ]
        near, far = self.near**2, self.far**2
        t_even, t_odd = _fma(b, -far, d[2], d[4]), _fma(b, -far, d[1], d[3])
        u_even, u_odd = _fma(b, -near, d[2], d[4]), _fma(b, -near, d[1], d[3])
        first = _fma(b, near * far, d[0], _fma(b, -(near + far), d[2], d[4]))
        last = _fma(b, near * far, d[1], _fma(b, -(near + far), d[3], d[5]))
        return [
            first,
            *_both(b, self.near, t_odd, t_even),
            *_both(b, self.far, u_odd, u_even),
            last,
        ]

    def output(self, b: Builder, m: Sequence[Value]) -> list[Value]:
        """Aᵀ m."""
        even, odd = _add(b, m[1], m[2]), _sub(b, m[1], m[2])
        if self.m == 2:
            return [_add(b, m[0], even), _add(b, odd, m[3])]
        near, far = self.near, self.far
        far_even, far_odd = _add(b, m[3], m[4]), _sub(b, m[3], m[4])
        return [
            _fma(b, far**-2, far_even, _fma(b, 1 / near, even, m[0])),
            _fma(b, 1 / far, far_odd, odd),
            _fma(b, near, even, far_even),
            _fma(b, far, far_odd, _fma(b, near**2, odd, m[5])),
        ]

    def gradient(self, b: Builder, y: Sequence[Value]) -> list[Value]:
        """A y."""
        if self.m == 2:
            return [y[0], _add(b, y[0], y[1]), _sub(b, y[0], y[1]), y[1]]
        near, far = self.near, self.far
        even, odd = _fma(b, near, y[2], _mul(b, 1 / near, y[0])), _fma(b, near**2, y[3], y[1])
        far_even = _fma(b, far**-2, y[0], y[2])
        far_odd = _fma(b, far, y[3], _mul(b, 1 / far, y[1]))
        return [y[0], *_both(b, 1, odd, even), *_both(b, 1, far_odd, far_even), y[3]]

    def _weight_factors(self) -> tuple[float, float, float]:
        """What the rows of G for 0, ±near and ±far are multiplied by."""
        near, far = self.near**2, self.far**2
        return 1 / (near * far), self.near / (2 * near * (near - far)), 1 / (2 * (far - near))

    def weight(self, b: Builder, g: Sequence[Value]) -> list[Value]:
        """G g."""
        if self.m == 2:
            even = _mul(b, 0.5, _add(b, g[0], g[2]))
            return [g[0], *_both(b, 0.5, g[1], even), g[2]]
        zero, near, far = self._weight_factors()
        even = _mul(b, near, _fma(b, self.near**2, g[2], g[0]))
        far_even = _mul(b, far, _fma(b, self.far**2, g[2], g[0]))
        return [
            _mul(b, zero, g[0]),
            *_both(b, near * self.near, g[1], even),
            *_both(b, far * self.far, g[1], far_even),
            g[2],
        ]

    def weight_gradient(self, b: Builder, u: Sequence[Value]) -> list[Value]:
        """Gᵀ u."""
        even, odd = _add(b, u[1], u[2]), _sub(b, u[1], u[2])
        if self.m == 2:
            half = _mul(b, 0.5, even)
            return [_add(b, u[0], half), _mul(b, 0.5, odd), _add(b, half, u[3])]
        zero, near, far = self._weight_factors()
        far_even, far_odd = _add(b, u[3], u[4]), _sub(b, u[3], u[4])
        return [
            _fma(b, zero, u[0], _fma(b, near, even, _mul(b, far, far_even))),
            _fma(b, near * self.near, odd, _mul(b, far * self.far, far_odd)),
            _fma(b, near * self.near**2, even, _fma(b, far * self.far**2, far_even, u[5])),
        ]


# ---- where transformed tiles lie ---------------------------------------------------------------


@dataclass(frozen=True)
class Slots:
    """Memory of transformed tiles: [group][plane][block of channels][slot][lane].

    A group has as many tiles as a product keeps in registers; `tiles` are spread over the groups
    evenly, the wider groups first, and all groups have room for the widest.
    """

    tiles: int
    most: int
    blocks: int
    planes: int
    lanes: int

    @cached_property
    def widths(self) -> list[int]:
        return split(self.tiles, self.most)

    @property
    def slots(self) -> int:
        return self.widths[0]

    @property
    def block(self) -> int:
        """Floats from one block of channels to the next."""
        return self.slots * self.lanes

    @property
    def plane(self) -> int:
        return self.blocks * self.block + APART

    @property
    def group(self) -> int:
        return self.planes * self.plane

    @property
    def floats(self) -> int:
        return len(self.widths) * self.group

    def offsets(self) -> list[int]:
        """For each tile: floats to its first lane in plane 0, block 0."""
        return [
            group * self.group + slot * self.lanes
            for group, width in enumerate(self.widths)
            for slot in range(width)
        ]

    def groups_of(self) -> list[int]:
        """For each number of tiles from 0: how many groups they lie in."""
        return [0] + [g + 1 for g, width in enumerate(self.widths) for _ in range(width)]


# ---- two dimensions ----------------------------------------------------------------------------


def by_pattern(
    b: Builder,
    patterns: Sequence[tuple[bool, ...]],
    row: Int,
    body: Callable[[tuple[bool, ...]], None],
) -> None:
    """Run `body(patterns[row])`; the code is emitted once for each different pattern."""
    kinds = sorted(set(patterns))
    if len(kinds) == 1:
        body(kinds[0])
        return
    kind = b.load_i64(b.table([kinds.index(p) for p in patterns]), row)
    for k, pattern in enumerate(kinds):
        b.when(b.compare("eq", kind, k), lambda pattern=pattern: body(pattern))  # type: ignore[misc]


def inside(tiles: int, step: int, window: int, before: int, size: int) -> list[tuple[bool, ...]]:
    """For each tile along an axis, which positions of its window lie in an image of `size`."""
    return [tuple(0 <= t * step - before + k < size for k in range(window)) for t in range(tiles)]


@dataclass(frozen=True)
class Windows:
    """Windows of an image, `step` apart, the first of them `before` outside of it."""

    image: tuple[int, int]
    tiles: tuple[int, int]
    step: int
    window: int
    before: tuple[int, int]
    algebra: Algebra
    apply: Transform  # `window` numbers to algebra.window numbers

    @property
    def line(self) -> int:
        """Columns of the strip: those of all windows; odd, so that its lines do not collide."""
        return ((self.tiles[1] - 1) * self.step + self.window) | 1

    def strip_floats(self, lanes: int) -> int:
        return self.algebra.window * self.line * lanes

    def clear(self, b: Builder, strip: Value) -> None:
        """Zero the strip's columns beside the image."""
        left = min(self.before[1], self.line)
        right = min(left + self.image[1], self.line)
        for columns in ((0, left), (right, self.line)):

            def column(j: Int, _: list[Value]) -> None:
                at = b.at(strip, b.mul(j, b.width))
                for k in range(self.algebra.window):
                    b.store(b.zero, at, k * self.line * b.width)

            b.loop(*columns, column)

    def transform(
        self,
        b: Builder,
        plane: Value,
        row: Int,
        strip: Value,
        place: Callable[[Int], tuple[Value, int]],
    ) -> None:
        """One row of tiles of one block of channels.

        Args:
            plane: the image's block of channels.
            row: the row of tiles.
            strip: memory of `strip_floats`, with `clear`ed columns.
            place: for a tile of the row, where its plane 0 goes, and the floats between planes.
        """
        lanes, cols = b.width, self.image[1]
        top = b.sub(b.mul(row, self.step), self.before[0])
        source = b.at(plane, b.mul(top, cols * lanes))
        met = max(0, min(cols, self.line - self.before[1]))

        def rows(pattern: tuple[bool, ...]) -> None:
            def column(j: Int, _: list[Value]) -> None:
                here = b.at(source, b.mul(j, lanes))
                there = b.at(strip, b.mul(b.add(j, self.before[1]), lanes))
                d = [
                    b.load(here, k * cols * lanes) if on else b.zero for k, on in enumerate(pattern)
                ]
                for k, value in enumerate(self.apply(b, d)):
                    b.store(value, there, k * self.line * lanes)

            b.loop(0, met, column)

        (height, _), (before, _) = self.image, self.before
        by_pattern(b, inside(self.tiles[0], self.step, self.window, before, height), row, rows)
        b.loop(0, self.tiles[1], lambda t, _: self._columns(b, strip, t, *place(t)))

    def _columns(self, b: Builder, strip: Value, tile: Int, out: Value, apart: int) -> None:
        """The second pass of one tile."""
        here = b.at(strip, b.mul(tile, self.step * b.width))
        size = self.algebra.window
        for r in range(size):
            b.fence()
            d = [b.load(here, (r * self.line + k) * b.width) for k in range(self.window)]
            for k, value in enumerate(self.apply(b, d)):
                b.store(value, out, (r * size + k) * apart)


# ---- the convolution ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Winograd:
    """A 3×3 convolution of stride 1: out[o] = bias[o] + Σ over i of source[i] * w[o, i].

    Attributes:
        outputs, contracted: channels of the result and of the source.
        source: the source's rows and columns.
        padding: zeros before and behind, of rows and of columns; 0 to 2 each.
        m: rows and columns of a tile of the output, 2 or 4.
        bias: whether there is one.
        batch: samples that a call is likely to have; it may have any number.
    """

    outputs: int
    contracted: int
    source: Pair
    padding: tuple[Pair, Pair]
    m: int = 4
    bias: bool = False
    batch: int = 1

    def __post_init__(self) -> None:
        if self.m not in (2, 4):
            raise ShapeError(f"Winograd: expected m = 2 or 4; got m={self.m}.")
        if any(not 0 <= side <= 2 for pair in self.padding for side in pair):
            raise ShapeError(
                f"Winograd: expected a padding of 0 to 2 on each side; got {self.padding}."
            )
        if min(*self.out, self.outputs, self.contracted) < 1:
            raise ShapeError(
                f"Winograd: expected at least one output; got a source of {self.source} with "
                f"padding {self.padding}, {self.contracted} to {self.outputs} channels."
            )

    @property
    def out(self) -> Pair:
        """Rows and columns of the output."""
        rows, cols = (
            size + sum(pad) - 2 for size, pad in zip(self.source, self.padding, strict=True)
        )
        return rows, cols

    @property
    def tiles(self) -> Pair:
        """Rows and columns of tiles."""
        return -(-self.out[0] // self.m), -(-self.out[1] // self.m)

    @property
    def algebra(self) -> Algebra:
        return Algebra(self.m)

    def windows(self) -> Windows:
        """The windows of the source."""
        a, before = self.algebra, (self.padding[0][0], self.padding[1][0])
        return Windows(self.source, self.tiles, self.m, a.window, before, a, a.data)

    def gradients(self) -> Windows:
        """The tiles of dy, taken as windows of m×m."""
        a = self.algebra
        return Windows(self.out, self.tiles, self.m, self.m, (0, 0), a, a.gradient)


def u_plane(target: Target, p: Winograd) -> int:
    """Floats of one plane of transformed weights."""
    return whole_vectors(p.outputs, target) * p.contracted + APART


def u_floats(target: Target, p: Winograd) -> int:
    """The size of the transformed weights: u[plane][panel][i][2 blocks of outputs]."""
    return p.algebra.planes * u_plane(target, p)
