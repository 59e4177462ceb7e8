"""Augmentation as one line of text, as the command line takes it: "flip,crop4,cutout8"."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from striate.data.augment import Augmentation, Compose
from striate.data.augment_colour import ColourJitter, Normalize
from striate.data.augment_geometry import Affine, Elastic, Flip, PadCrop
from striate.data.augment_mix import CutMix, Cutout, Mixup
from striate.data.source import Source
from striate.errors import OptionError, suggest


@dataclass(frozen=True)
class Word:
    """A word of the text form: what it makes of its number, and that number's default."""

    make: Callable[[Any], Augmentation]
    default: float
    meaning: str
    whole: bool = False


WORDS = {
    "flip": Word(Flip, 0.5, "mirror left to right; the number is how often"),
    "vflip": Word(lambda p: Flip(p, vertical=True), 0.5, "mirror top to bottom"),
    "crop": Word(PadCrop, 4, "pad by so many pixels and cut the old size out", whole=True),
    "shift": Word(lambda a: Affine(shift=a), 2, "move by up to so many pixels"),
    "rotate": Word(Affine, 15, "turn by up to so many degrees"),
    "scale": Word(lambda a: Affine(scale=a), 0.1, "grow or shrink by up to this share"),
    "shear": Word(lambda a: Affine(shear=a), 10, "slant by up to so many degrees"),
    "elastic": Word(Elastic, 34, "bend; the number is α"),
    "brightness": Word(lambda a: ColourJitter(brightness=a), 0.2, "by up to this share"),
    "contrast": Word(lambda a: ColourJitter(contrast=a), 0.2, "by up to this share"),
    "saturation": Word(lambda a: ColourJitter(saturation=a), 0.2, "by up to this share"),
    "hue": Word(lambda a: ColourJitter(hue=a), 0.05, "by up to this share of a full turn"),
    "colour": Word(
        lambda a: ColourJitter(a, a, a, a / 4), 0.2, "all four; a quarter of it for the hue"
    ),
    "cutout": Word(Cutout, 8, "fill a square of so many pixels", whole=True),
    "mixup": Word(Mixup, 0.2, "blend with another picture; the number is α"),
    "cutmix": Word(CutMix, 1, "paste a part of another picture; the number is α"),
}
NORMALIZE = ("normalize", "normalise")
_FORM = re.compile(r"([a-z]+)\s*:?\s*(\d*\.?\d*)")


def augmentation(text: str, data: Source | None = None) -> Compose:
    """The steps that a text names, in its order.

    Args:
        text: words with a comma between them, each with a number behind it or its default:
            flip, vflip, crop4, shift2, rotate15, scale0.1, shear10, elastic34, brightness0.2,
            contrast0.2, saturation0.2, hue0.05, colour0.2, cutout8, mixup0.2, cutmix1,
            normalize (by mean and deviation of the data).
        data: the data source, for `normalize`.
    Returns:
        The steps.
    Raises:
        OptionError: an unknown word, a number out of its range, or `normalize` without data.

    >>> augmentation("flip, crop4")
    Compose([Flip(probability=0.5, vertical=False), PadCrop(pixels=4, padding='zero')])
    """
    steps: list[Augmentation] = []
    for part in text.split(","):
        word = part.strip().lower()
        if word in NORMALIZE:
            if data is None:
                raise OptionError("augment: expected data with 'normalize'; got none. Pass data=.")
            steps.append(Normalize.of(data))
        elif word:
            steps.append(_step(word))
    return Compose(steps)


def _step(text: str) -> Augmentation:
    form = _FORM.fullmatch(text)
    name, number = form.groups() if form else (text, "")
    known = {**WORDS, "color": WORDS["colour"]}
    if name not in known:
        raise OptionError(f"augment: unknown {text!r}. {suggest(name, [*WORDS, 'normalize'])}")
    word = known[name]
    try:
        amount = float(number) if number else word.default
    except ValueError:
        raise OptionError(f"augment: expected a number behind {name!r}; got {number!r}.") from None
    return word.make(int(amount) if word.whole and amount == int(amount) else amount)
