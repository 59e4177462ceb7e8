"""Work on (blocks, length) cut into parts that are worth handing to a thread."""

from __future__ import annotations

from collections.abc import Callable

from striate.codegen.builder import Builder, Int, Value


class Spread:
    """Parts of about `item` units each: strips of one block's units, or several whole blocks.

    A unit is whatever `length` counts: positions, rows.
    """

    def __init__(self, count: int, length: int, item: int, multiple: int = 1) -> None:
        """Plan the parts.

        Args:
            count: blocks.
            length: units of a block.
            item: units that a part should have at least.
            multiple: strips begin at multiples of this.
        """
        self.count, self.length = count, length
        strips = max(length // max(item, 1), 1)
        self.size = max(-(-length // (strips * multiple)), 1) * multiple
        self.strips = max(-(-length // self.size), 1)
        self.group = min(max(item // max(length, 1), 1), max(count, 1))

    @property
    def parts(self) -> int:
        """The number of parts."""
        return self.count * self.strips if self.strips > 1 else -(-self.count // self.group)

    def walk(self, b: Builder, part: Value, body: Callable[[Int, Int, Int], None]) -> None:
        """Emit a part: `body(block, first unit, last unit + 1)`."""
        if self.strips > 1:
            block = b.divide(part, self.strips)
            strip = b.sub(part, b.mul(block, self.strips))
            first = b.mul(strip, self.size)
            body(block, first, b.minimum(b.add(first, self.size), self.length))
            return
        first = b.mul(part, self.group)
        stop = b.minimum(b.add(first, self.group), self.count)
        if self.count % self.group == 0:
            b.loop(0, self.group, lambda k, _: body(b.add(first, k), 0, self.length))
        else:
            b.loop(first, stop, lambda block, _: body(block, 0, self.length))
