"""A network from one line of text, as textbooks write it.

`from_pattern("[(conv-relu)*2-pool]*3-(fc-relu)*1-softmax", input=(3, 32, 32), classes=10)`. The
grammar is in `pattern_text`; here is what the words mean. Only chains: no branches, no shortcuts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from striate import nn
from striate.errors import OptionError, StriateError, suggest
from striate.models.pattern_text import Part, fault, read_pattern
from striate.models.starts import constructor, kaiming_fan_out

_MOST_LAYERS = 10_000
_MOST_WIDTH = 1 << 20
_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky": lambda: nn.LeakyReLU(0.1),
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "hardswish": nn.Hardswish,
    "tanh": nn.Tanh,
    "scaledtanh": nn.ScaledTanh,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
}
_RECTIFIERS = ("relu", "relu6", "leaky", "elu", "gelu", "silu", "mish", "hardswish")
# What may stand behind each word; the letters are options with whole numbers.
_OPTIONS = {
    "conv": r"(?P<k>\d+)?(x(?P<x>\d+))?(?P<rest>([spdg]\d+)*)",
    "pool": r"(?P<k>\d+)?(?P<rest>([sp]\d+)*)",
    "maxpool": r"(?P<k>\d+)?(?P<rest>([sp]\d+)*)",
    "avgpool": r"(?P<k>\d+)?(?P<rest>([sp]\d+)*)",
    "fc": r"(?P<k>\d+)?",
    "dropout": r"(?P<p>0?\.\d+|0)?",
    **dict.fromkeys(("gap", "bn", "lrn", "flatten", "softmax", *_ACTIVATIONS), ""),
}
_EXAMPLES = {
    "conv": "conv, conv5, conv5x64 or conv5x64s2p0",
    "fc": "fc or fc256",
    "dropout": "dropout or dropout0.3",
} | dict.fromkeys(("pool", "maxpool", "avgpool"), "pool, pool3 or pool3s2")


class PatternNet(nn.Sequential):
    """A network that `from_pattern` made: layers in a row, named conv1, relu1, pool1 …

    Attributes:
        pattern: the text.
        input_shape: of one sample, as it was asked for.
    """

    pattern: str = ""
    input_shape: tuple[int, ...] = ()


def from_pattern(
    pattern: str,
    *,
    input: Sequence[int],
    classes: int | None = None,
    width: int | Sequence[int] = 32,
    hidden: int = 256,
    **counts: int,
) -> PatternNet:
    """A network from one line of text.

    Words: `conv`, `pool` (`maxpool`), `avgpool`, `gap` (the mean of each map), `fc`, `bn`, `lrn`,
    `dropout`, `flatten`, `softmax`, and activations (`relu`, `tanh` …). `conv5x64s2p0` is of 5×5,
    with 64 maps, stride 2 and padding 0; without options of 3×3, stride 1, padded so that the size
    stays. `pool3s2` is of 3×3 with stride 2; without options of 2×2. `fc128`, `dropout0.3`.

    `a-b` is a, then b; `(…)` and `[…]` hold together; `*3` repeats; `?` leaves out what the image
    has become too small for. `softmax` stands last: a fully connected layer with an output for
    each class (or the `fc` right before it), which gives logits, as cross-entropy takes them.

    Args:
        pattern: the text.
        input: the shape of one sample, (c, h, w), (c, length) or (c, d, h, w).
        classes: outputs; needed where the pattern has `softmax`.
        width: maps of a `conv` that names no number: twice as many after each pooling; or a list
            of numbers, one for each level, the last one for all that follow.
        hidden: outputs of an `fc` that names no number.
        counts: values of names behind `*`: `N=2`.
    Raises:
        OptionError: it is no pattern, or a layer does not fit; the message marks the place.

    >>> net = from_pattern("[(conv-relu)*2-pool]*3-(fc-relu)*1-softmax", input=(3, 32, 32),
    ...                    classes=10, width=16)
    >>> [name for name, _ in net.named_children()][:6], net[-1]
    (['conv1', 'relu1', 'conv2', 'relu2', 'pool1', 'conv3'], \
Linear(in_features=256, out_features=10, bias=True))
    """
    if not isinstance(pattern, str):
        raise OptionError(f"from_pattern: expected a text; got {type(pattern).__name__}.")
    widths = list(width) if isinstance(width, (list, tuple)) else [width]
    numbers = {"hidden": hidden, **counts, **{f"width[{k}]": w for k, w in enumerate(widths)}}
    numbers.update({f"input[{k}]": size for k, size in enumerate(input)})
    if classes is not None:
        numbers["classes"] = classes
    for name, value in numbers.items():
        _require_whole(name, value, 0 if name in counts else 1)
    if not widths:
        raise OptionError("from_pattern: expected at least one width; got width=[].")
    parts = read_pattern(pattern, counts)
    _require_few(pattern, parts)
    builder = _Builder(pattern, tuple(input), classes, width, hidden)
    builder.parts(parts)
    net = builder.net
    if not any(True for _ in net.parameters()):
        raise OptionError(f"from_pattern: expected layers with weights; got {pattern!r}.")
    if any(name.rstrip("0123456789") in _RECTIFIERS for name, _ in net.named_children()):
        kaiming_fan_out(net)
    net.pattern, net.input_shape = pattern, tuple(int(k) for k in input)
    return net


def _require_whole(name: str, value: Any, least: int) -> None:
    whole = hasattr(value, "__index__") and not isinstance(value, bool)
    if not whole or not least <= value <= _MOST_WIDTH:
        raise OptionError(
            f"from_pattern: expected a whole number from {least} to {_MOST_WIDTH:,}; got "
            f"{name}={value!r}."
        )


def _require_few(text: str, parts: Sequence[Part]) -> int:
    """How many steps the parts take; refuses more than there may be."""
    total = 0
    for part in parts:
        total += part.times * (1 + _require_few(text, part.chain))
        if total > _MOST_LAYERS:
            raise fault(text, part.at, f"at most {_MOST_LAYERS:,} layers", "more")
    return total


class _Builder:
    """Adds layer after layer, keeping the shape that the last one gives."""

    def __init__(
        self,
        text: str,
        shape: tuple[int, ...],
        classes: int | None,
        widths: Sequence[int] | int,
        hidden: int,
    ) -> None:
        if len(shape) not in (2, 3, 4):
            raise OptionError(
                f"from_pattern: expected input as (c, h, w), (c, length) or (c, d, h, w); got "
                f"{shape}."
            )
        self.text, self.shape, self.classes = text, shape, classes
        self.widths, self.hidden, self.rank = widths, hidden, len(shape) - 1
        self.net, self.counts, self.level = PatternNet(), Counter[str](), 0
        self.ended, self.unit = False, ""

    # ---- the tree ----------------------------------------------------------------------------

    def parts(self, parts: Sequence[Part]) -> None:
        """All that the parts say, in order, as often as they say it."""
        for part in parts:
            for _ in range(part.times):
                if not part.optional:
                    self.one(part)
                    continue
                before = (self.shape, self.level, self.counts.copy(), self.unit)
                names = set(self.net._modules)
                try:
                    self.one(part)
                except _MisfitError:
                    for name in set(self.net._modules) - names:
                        delattr(self.net, name)
                    self.shape, self.level, self.counts, self.unit = before

    def one(self, part: Part) -> None:
        """A part, once."""
        if part.chain:
            self.parts(part.chain)
            return
        word = part.word.lower()
        if self.ended:
            raise fault(self.text, part.at, "nothing behind softmax", repr(part.word))
        kind, options = self.options(part, word)
        getattr(self, f"_{kind}", self._activation)(part, kind, options)
        self.unit = kind

    def options(self, part: Part, word: str) -> tuple[str, dict[str, Any]]:
        """What kind of layer a word names, and its options."""
        kinds = sorted((k for k in _OPTIONS if word.startswith(k)), key=len, reverse=True)
        for kind in kinds:
            match = re.fullmatch(_OPTIONS[kind], word[len(kind) :])
            if match is not None:
                found: dict[str, Any] = {k: v for k, v in match.groupdict().items() if v}
                for letter, number in re.findall(r"([a-z])(\d+)", found.pop("rest", "")):
                    if letter in found:
                        raise fault(self.text, part.at, f"{letter!r} once", repr(part.word))
                    found[letter] = number
                return kind, {k: float(v) if "." in v else int(v) for k, v in found.items()}
        if kinds:
            expected = _EXAMPLES.get(kinds[0], f"{kinds[0]} without options")
            raise fault(self.text, part.at, expected, repr(part.word))
        hint = f" {suggest(word, _OPTIONS)}"
        raise fault(self.text, part.at, "a layer", repr(part.word), hint)

    def add(self, part: Part, name: str, layer: nn.Module) -> None:
        """Append a layer; its name gets a number."""
        try:
            graph = layer.to_graph(self.shape)
        except StriateError as error:
            got = f"{part.word!r} on {self.shape}"
            told = fault(self.text, part.at, "a layer that fits", got, f" {error}")
            raise _MisfitError(str(told)) from None
        self.shape = graph.nodes[graph.outputs[0]].shape
        self.counts[name] += 1
        self.net.add_module(f"{name}{self.counts[name]}", layer)

    def layer(self, name: str, *sizes: Any, **settings: Any) -> Any:
        """A layer of `nn` for images of the input's rank; options that it refuses are misfits."""
        return getattr(nn, f"{name}{self.rank}d")(*sizes, **settings)

    # ---- the words ---------------------------------------------------------------------------

    def _conv(self, part: Part, kind: str, given: Mapping[str, int]) -> None:
        self.needs_maps(part)
        k, stride, dilation = given.get("k", 3), given.get("s", 1), given.get("d", 1)
        usual = self.usual_width()
        maps, groups = given.get("x", usual), given.get("g", 1)
        padding = given.get("p", (k - 1) // 2 * dilation)
        if min(k, stride, dilation, maps, groups) < 1 or max(k, maps) > _MOST_WIDTH:
            expected = f"sizes from 1 to {_MOST_WIDTH:,}"
            raise fault(self.text, part.at, expected, f"{part.word!r}, {maps} maps")
        if self.shape[0] % groups or maps % groups:
            raise fault(
                self.text,
                part.at,
                f"groups that divide {self.shape[0]} and {maps} maps",
                repr(part.word),
            )
        sizes = (self.shape[0], maps, k, stride, padding, dilation, groups)
        self.add(part, "conv", self.layer("Conv", *sizes))

    def usual_width(self) -> int:
        """The maps of a convolution on this level that names no number."""
        if isinstance(self.widths, Sequence):
            return self.widths[min(self.level, len(self.widths) - 1)]
        return int(self.widths) << self.level

    def _pool(self, part: Part, kind: str, given: Mapping[str, int]) -> None:
        self.needs_maps(part)
        k = given.get("k", 2)
        stride, padding = given.get("s", k), given.get("p", 0)
        if k < 1 or stride < 1 or 2 * padding > k:
            expected = "sizes from 1, and padding of at most half the window"
            raise fault(self.text, part.at, expected, repr(part.word))
        name = "AvgPool" if kind == "avgpool" else "MaxPool"
        self.add(part, "pool", self.layer(name, k, stride, padding))
        self.level += 1

    _maxpool = _avgpool = _pool

    def _gap(self, part: Part, kind: str, given: Mapping[str, int]) -> None:
        self.needs_maps(part)
        self.add(part, "gap", self.layer("AdaptiveAvgPool", 1))
        self.add(part, "flatten", nn.Flatten())

    def _flatten(self, part: Part, kind: str, given: Mapping[str, int]) -> None:
        if len(self.shape) > 1:
            self.add(part, "flatten", nn.Flatten())

    def _fc(self, part: Part, kind: str, given: Mapping[str, int]) -> None:
        outputs = given.get("k", self.hidden)
        if not 1 <= outputs <= _MOST_WIDTH:
            expected = f"outputs from 1 to {_MOST_WIDTH:,}"
            raise fault(self.text, part.at, expected, repr(part.word))
        self._flatten(part, kind, given)
        self.add(part, "fc", nn.Linear(self.shape[0], outputs))
        self.sized = "k" in given

    def _softmax(self, part: Part, kind: str, given: Mapping[str, int]) -> None:
        if self.classes is None:
            raise fault(self.text, part.at, "classes=… with softmax", "none")
        if self.unit == "fc":  # the one right before is the last layer
            name, last = list(self.net.named_children())[-1]
            if self.sized and self.shape != (self.classes,):
                expected = f"an fc of classes={self.classes} before softmax, or an activation"
                raise fault(self.text, part.at, expected, f"fc{self.shape[0]}")
            self.shape = (last.in_features,)
            self.counts["fc"] -= 1
            delattr(self.net, name)
        self._flatten(part, kind, given)
        self.add(part, "fc", nn.Linear(self.shape[0], self.classes))
        self.ended = True

    def _bn(self, part: Part, kind: str, given: Mapping[str, int]) -> None:
        flat = len(self.shape) == 1
        rank = 1 if flat else self.rank
        self.add(part, "bn", getattr(nn, f"BatchNorm{rank}d")(self.shape[0]))

    def _lrn(self, part: Part, kind: str, given: Mapping[str, int]) -> None:
        self.needs_maps(part)
        self.add(part, "lrn", nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0))

    def _dropout(self, part: Part, kind: str, given: Mapping[str, float]) -> None:
        self.add(part, "dropout", nn.Dropout(given.get("p", 0.5)))

    def _activation(self, part: Part, kind: str, given: Mapping[str, int]) -> None:
        self.add(part, kind, _ACTIVATIONS[kind]())

    def needs_maps(self, part: Part) -> None:
        """Refuse what takes images behind what has flattened them."""
        if len(self.shape) == 1:
            expected = "layers of images before fc, gap and flatten"
            raise fault(self.text, part.at, expected, repr(part.word))


class _MisfitError(OptionError):
    """A layer that the image is too small for."""


def _small_stack(num_classes: int = 10, *, in_channels: int = 3) -> PatternNet:
    text = "conv3x10p0-relu-conv5x20s2p0-relu-conv5x40s2p0-relu-softmax"
    return from_pattern(text, input=(in_channels, 39, 39), classes=num_classes)


small_stack = constructor(
    "small_stack",
    "The small stack that courses work out by hand: 39 → 37 → 17 → 7 pixels, 1,960 numbers.\n\n"
    "Convolutions of (window, stride, filters) = (3, 1, 10), (5, 2, 20), (5, 2, 40), no padding.",
    _small_stack,
)
