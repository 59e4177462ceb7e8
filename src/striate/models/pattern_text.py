"""The text of a pattern, read: `[(conv-relu)*N-pool?]*M-(fc-relu)*K-softmax` as a tree.

    chain  = part ("-" part)*
    part   = (word | "(" chain ")" | "[" chain "]") suffix*
    suffix = "*" count | "?"
    count  = a whole number, or the name of one
    word   = letters, digits, dots and underscores

What the words mean is in `pattern`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from striate.errors import OptionError

MOST_DEPTH = 50
_TOKEN = re.compile(r"\s*(?:(?P<word>[\w.]+)|(?P<dash>->|→|[-–])|(?P<mark>[()\[\]*×?]))")
_CLOSING = {"(": ")", "[": "]"}
_SUFFIXES = ("*", "×", "?")


@dataclass(frozen=True)
class Part:
    """A word, or a chain of parts in brackets, with how often it stands there.

    Attributes:
        at: the place of its first letter in the text.
        word: the word, "" for brackets.
        chain: what the brackets hold.
        times: how often it is repeated.
        optional: whether it is left out where it does not fit.
    """

    at: int
    word: str = ""
    chain: tuple[Part, ...] = ()
    times: int = 1
    optional: bool = False


def fault(text: str, at: int, expected: str, got: str, more: str = "") -> OptionError:
    """The error for a place in a text, with the place marked under it."""
    line = re.sub(r"\s", " ", text)
    return OptionError(
        f"from_pattern: expected {expected} at column {at + 1}; got {got}.{more}\n"
        f"  {line}\n  {' ' * at}^"
    )


@dataclass(frozen=True)
class _Token:
    at: int
    kind: str  # "word", "dash", "mark" or "end"
    text: str

    def __str__(self) -> str:
        return repr(self.text) if self.text else "the end"


def _tokens(text: str) -> list[_Token]:
    found, place = [], 0
    while text[place:].strip():
        match = _TOKEN.match(text, place)
        if match is None or match.lastgroup is None:
            at = place + len(text[place:]) - len(text[place:].lstrip())
            raise fault(text, at, "a layer, a bracket, '-', '*' or '?'", repr(text[at]))
        kind = match.lastgroup
        found.append(_Token(match.start(kind), kind, match[kind]))
        place = match.end()
    return [*found, _Token(len(text), "end", "")]


class _Reader:
    """Reads the tokens one after the other."""

    def __init__(self, text: str, counts: Mapping[str, int]) -> None:
        self.text, self.counts, self.used = text, counts, set[str]()
        self.tokens, self.place, self.depth = _tokens(text), 0, 0

    @property
    def next(self) -> _Token:
        return self.tokens[self.place]

    def take(self) -> _Token:
        token = self.next
        self.place += token.kind != "end"
        return token

    def chain(self) -> tuple[Part, ...]:
        parts = [self.part()]
        while self.next.kind == "dash":
            self.take()
            parts.append(self.part())
        return tuple(parts)

    def part(self) -> Part:
        token = self.take()
        if token.kind == "word":
            return self.with_suffixes(Part(token.at, token.text))
        if token.text not in _CLOSING:
            raise fault(self.text, token.at, "a layer or a bracket", str(token))
        self.depth += 1
        if self.depth > MOST_DEPTH:
            raise fault(
                self.text, token.at, f"at most {MOST_DEPTH} brackets in one another", "more"
            )
        chain, end = self.chain(), self.take()
        if end.text != _CLOSING[token.text]:
            closing = f"'-' or the {_CLOSING[token.text]!r} of column {token.at + 1}"
            raise fault(self.text, end.at, closing, str(end))
        self.depth -= 1
        return self.with_suffixes(Part(token.at, chain=chain))

    def with_suffixes(self, part: Part) -> Part:
        repeated = False
        while self.next.text in _SUFFIXES:
            token = self.take()
            if token.text == "?":
                part = replace(part, optional=True)
            elif repeated:
                raise fault(self.text, token.at, "one count behind a part", "another")
            else:
                part, repeated = replace(part, times=self.count()), True
        return part

    def count(self) -> int:
        token = self.take()
        if token.kind == "word" and token.text in self.counts:
            self.used.add(token.text)
            return self.counts[token.text]
        if token.kind != "word" or not token.text.isdecimal():
            named = f" or one of {', '.join(self.counts)}" if self.counts else ""
            hint = f" Give its value: {token.text}=2." if token.text.isidentifier() else ""
            raise fault(self.text, token.at, f"a whole number{named}", str(token), hint)
        return int(token.text)


def read_pattern(text: str, counts: Mapping[str, int]) -> tuple[Part, ...]:
    """The parts of a pattern.

    Args:
        text: the pattern.
        counts: values of names that stand behind "*".
    Raises:
        OptionError: it is no pattern; the message marks the place. Or a count is never used.

    >>> [(part.word, part.times) for part in read_pattern("conv*2 - pool*M", {"M": 3})]
    [('conv', 2), ('pool', 3)]
    """
    reader = _Reader(text, counts)
    parts = reader.chain()
    if reader.next.kind != "end":
        raise fault(text, reader.next.at, "'-' or the end", str(reader.next))
    unused = sorted(set(counts) - reader.used)
    if unused:
        raise OptionError(
            f"from_pattern: expected every count in the pattern; got {unused[0]}="
            f"{counts[unused[0]]}, which {text!r} does not name."
        )
    return parts
