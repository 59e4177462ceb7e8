"""Local response normalisation in blocked layout: the one normalisation that mixes channels.

A window of channels crosses lanes and blocks. A few positions at a time, what is to be summed (the
squares; going backward, a product too) is written to scratch memory with zeros around it, and a
window's sum is a sum of vectors cut out of two neighbouring blocks.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from striate.codegen.builder import Builder, Int, Value
from striate.codegen.targets import Target
from striate.codegen.vmath import exp, log
from striate.kernels.kernel import Tail, make_kernel, store_with_tail
from striate.kernels.norm import real_lanes
from striate.kernels.routine import Recipe, Routine, blocks, recipe
from striate.kernels.spread import Spread

_TILE = 4  # positions at once
_ITEM = 1024  # vectors that an item should have at least


@dataclass(frozen=True)
class ResponseNorm:
    """d[c] = k + alpha/size · Σ x[j]² over channels c − size // 2 ≤ j ≤ c + (size − 1) // 2."""

    channels: int
    positions: int
    size: int
    alpha: float
    beta: float
    k: float


@functools.lru_cache(maxsize=64)
def local_response_norm(
    target: Target,
    channels: int,
    positions: int,
    size: int,
    alpha: float,
    beta: float,
    k: float,
    tail: Tail | None = None,
) -> Recipe:
    """y[c] = x[c] / (k + alpha/size · Σ x[j]²)^beta over the `size` channels j around c.

    Args:
        target: what the code is for.
        channels: channels of x and y (blocked).
        positions: positions of a sample.
        size: channels of a window; those outside the image count as 0.
        alpha: factor of the window's mean square.
        beta: the exponent.
        k: what is added to the mean square.
        tail: what is fused behind it.

    Returns:
        Arguments out, x, the tail's, scratch, part.

    Source: Krizhevsky, Sutskever and Hinton (2012), section 3.3; alpha/size as in torch.
    """
    p = ResponseNorm(channels, positions, size, alpha, beta, k)
    squares = _Window(target, channels, size // 2, (size - 1) // 2)

    def build(b: Builder, arguments: list[Value]) -> None:
        out, x, *rest, scratch, part = arguments
        squares.clear(b, scratch)

        def tile(first: Int, count: int) -> None:
            _write_squares(b, p, squares, x, scratch, first, count)

            def one(block: Int, u: int) -> None:
                at = _place(b, p, block, first, u)
                d = _mean_square(b, p, squares.sum(b, scratch, block, u))
                y = b.fdiv(b.load(x, at), _power(b, d, p.beta))
                store_with_tail(b, tail, y, out, at, rest)

            _over_blocks(b, p, count, one)

        _walk(b, p, part, tile)

    names = ["out", "x", *(tail.arguments if tail else ()), "scratch", "part:i64"]
    kernel = make_kernel(target, "local_response_norm", names, build)
    return recipe(Routine(kernel, _spread(target, p).parts, scratch=squares.floats))


@functools.lru_cache(maxsize=64)
def local_response_norm_gradient(
    target: Target,
    channels: int,
    positions: int,
    size: int,
    alpha: float,
    beta: float,
    k: float,
    tail: Tail | None = None,
) -> Recipe:
    """The gradient of `local_response_norm`; j runs over the channels whose windows c is in.

        dx[c] = dy[c]·d[c]^−beta − 2·alpha·beta/size · x[c] · Σ dy[j]·x[j]·d[j]^(−beta−1)

    with d = k + alpha/size · Σ x² as there.

    Args:
        target: what the code is for.
        channels: channels of x, dy and dx (blocked).
        positions: positions of a sample.
        size, alpha, beta, k: as in `local_response_norm`.
        tail: what is fused behind it.

    Returns:
        Arguments out, dy, x, the tail's, scratch, part.
    """
    p = ResponseNorm(channels, positions, size, alpha, beta, k)
    parts = _spread(target, p).parts

    def build(b: Builder, arguments: list[Value]) -> None:
        out, dy, x, *rest, scratch, part = arguments
        gradient = _Gradient(b, p, dy, x, scratch)

        def tile(first: Int, count: int) -> None:
            gradient.prepare(first, count)

            def one(block: Int, u: int) -> None:
                at = _place(b, p, block, first, u)
                store_with_tail(b, tail, gradient.slope(at, block, u), out, at, rest)

            _over_blocks(b, p, count, one)

        _walk(b, p, part, tile)

    names = ["out", "dy", "x", *(tail.arguments if tail else ()), "scratch", "part:i64"]
    kernel = make_kernel(target, "local_response_norm_gradient", names, build)
    return recipe(Routine(kernel, parts, scratch=_Gradient.floats(target, p)))


class _Gradient:
    """A tile's gradient: squares, then what depends on one channel, then sums over windows."""

    def __init__(self, b: Builder, p: ResponseNorm, dy: Value, x: Value, scratch: Value) -> None:
        self.b, self.p, self.dy, self.x = b, p, dy, x
        self.squares, self.products = self._windows(b.target, p)
        self.squares_at = scratch
        self.products_at = b.at(scratch, self.squares.floats)
        self.direct_at = b.at(self.products_at, self.products.floats)
        self.squares.clear(b, self.squares_at)
        self.products.clear(b, self.products_at)

    @staticmethod
    def _windows(target: Target, p: ResponseNorm) -> tuple[_Window, _Window]:
        """The channels in c's window, and the channels whose windows c is in."""
        before, after = p.size // 2, (p.size - 1) // 2
        return _Window(target, p.channels, before, after), _Window(
            target, p.channels, after, before
        )

    @classmethod
    def floats(cls, target: Target, p: ResponseNorm) -> int:
        """The scratch memory."""
        squares, products = cls._windows(target, p)
        return squares.floats + products.floats + squares.count * _TILE * target.width

    def prepare(self, first: Int, count: int) -> None:
        """For a tile: dy·d^−beta, and dy·x·d^(−beta−1) to be summed."""
        b, p = self.b, self.p
        _write_squares(b, p, self.squares, self.x, self.squares_at, first, count)

        def terms(block: Int, u: int) -> None:
            at = _place(b, p, block, first, u)
            d = _mean_square(b, p, self.squares.sum(b, self.squares_at, block, u))
            direct = b.fdiv(b.load(self.dy, at), _power(b, d, p.beta))
            b.store(direct, self.direct_at, _kept(b, block, u))
            product = b.fdiv(b.fmul(direct, b.load(self.x, at)), d)
            self.products.write(b, self.products_at, block, u, product)

        _over_blocks(b, p, count, terms)

    def slope(self, at: Int, block: Int, u: int) -> Value:
        """dx of position u of the tile, which is at `at` floats of x."""
        b, p = self.b, self.p
        total = self.products.sum(b, self.products_at, block, u)
        share = b.fmul(b.load(self.x, at), b.const(-2 * p.alpha * p.beta / p.size))
        return b.fma(share, total, b.load(self.direct_at, _kept(b, block, u)))


class _Window:
    """Vectors of a tile's positions in scratch memory, zeros around them, and sums over windows.

    The window of channel c is c − before … c + after.
    """

    def __init__(self, target: Target, channels: int, before: int, after: int) -> None:
        self.channels, self.before, self.after = channels, before, after
        self.count = blocks(channels, target)
        self.left, self.right = (-(-n // target.width) for n in (before, after))
        self.floats = (self.left + self.count + self.right) * _TILE * target.width

    def _at(self, b: Builder, block: Int, u: int) -> Int:
        return _kept(b, b.add(block, self.left), u)

    def clear(self, b: Builder, scratch: Value) -> None:
        """Write the zeros around the channels."""
        for block in [*range(-self.left, 0), *range(self.count, self.count + self.right)]:
            for u in range(_TILE):
                b.store(b.zero, scratch, self._at(b, block, u))

    def write(self, b: Builder, scratch: Value, block: Int, u: int, value: Value) -> None:
        """Store a block of position u; lanes that are no channel become 0."""
        value = real_lanes(b, self.channels, block, value, b.zero)
        b.store(value, scratch, self._at(b, block, u))

    def sum(self, b: Builder, scratch: Value, block: Int, u: int) -> Value:
        """The windows' sums for a block of position u, neighbours outward from the channel."""
        near = [
            b.load(scratch, self._at(b, b.add(block, k), u))
            for k in range(-self.left, self.right + 1)
        ]
        total = near[self.left]
        offsets = [k for k in range(-self.before, self.after + 1) if k]
        for offset in sorted(offsets, key=abs):
            low, shift = offset // b.width + self.left, offset % b.width
            if shift:
                lanes = [shift + k for k in range(b.width)]
                total = b.fadd(total, b.shuffle(near[low], near[low + 1], lanes))
            else:
                total = b.fadd(total, near[low])
        return total


def _write_squares(
    b: Builder, p: ResponseNorm, window: _Window, x: Value, scratch: Value, first: Int, count: int
) -> None:
    def one(block: Int, u: int) -> None:
        value = b.load(x, _place(b, p, block, first, u))
        window.write(b, scratch, block, u, b.fmul(value, value))

    _over_blocks(b, p, count, one)


def _over_blocks(b: Builder, p: ResponseNorm, count: int, body: Callable[[Int, int], None]) -> None:
    """Run `body(block, u)` for all blocks and the positions u of a tile."""

    def block(k: Int, _: list[Value]) -> None:
        for u in range(count):
            body(k, u)

    last = blocks(p.channels, b.target) - 1
    b.loop(0, last, block)
    block(last, [])


def _place(b: Builder, p: ResponseNorm, block: Int, first: Int, u: int) -> Int:
    """Floats before position first + u of a block."""
    return b.mul(b.add(b.add(b.mul(block, p.positions), first), u), b.width)


def _kept(b: Builder, block: Int, u: int) -> Int:
    """Floats before position u of a block in the tile's own memory."""
    return b.mul(b.add(b.mul(block, _TILE), u), b.width)


def _mean_square(b: Builder, p: ResponseNorm, total: Value) -> Value:
    return b.fma(total, b.const(p.alpha / p.size), b.const(p.k))


def _power(b: Builder, d: Value, beta: float) -> Value:
    """d^beta for d ≥ 0; roots where they do."""
    if beta == 1:
        return d
    if beta == 0.5:
        return b.unary("sqrt", d)
    if beta == 0.75:
        root = b.unary("sqrt", d)
        return b.fmul(root, b.unary("sqrt", root))
    return exp(b, b.fmul(b.const(beta), log(b, d)))


def _spread(target: Target, p: ResponseNorm) -> Spread:
    """Strips of positions, with all channels."""
    return Spread(1, p.positions, -(-_ITEM // blocks(p.channels, target)), _TILE)


def _walk(b: Builder, p: ResponseNorm, part: Value, tile: Callable[[Int, int], None]) -> None:
    def strip(_: Int, first: Int, stop: Int) -> None:
        if isinstance(stop, int):
            b.tiled(stop, _TILE, tile)
        else:
            b.tiled_range(first, stop, _TILE, tile)

    _spread(b.target, p).walk(b, part, strip)
