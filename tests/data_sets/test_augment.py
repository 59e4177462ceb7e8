"""Augmentation: exact cases of each step, numbers that depend on the sample alone, text forms."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from striate import nn
from striate.data import (
    Affine,
    ArraySource,
    Augmentation,
    ColourJitter,
    Compose,
    CutMix,
    Cutout,
    Elastic,
    Flip,
    Mixup,
    Normalize,
    PadCrop,
    as_dataset,
    augmentation,
)
from striate.data.augment import as_augmentation, one_hot, resample
from striate.data.augment_text import WORDS
from striate.data.draw import Draw
from striate.errors import DataError, OptionError, ShapeError
from striate.random import philox4x32

RNG = np.random.Generator(np.random.Philox(key=7))
IMAGES = RNG.random((24, 3, 9, 7), np.float32)


def draw(count: int = 24, step: int = 0) -> Draw:
    return Draw(3, 1, np.arange(count), step)


# ---- random numbers --------------------------------------------------------------------------


def test_numbers_are_those_of_the_counters() -> None:
    numbers = Draw(5 + (9 << 32), 2, [7], 1)
    first, second = numbers.uniform(6), numbers.uniform(1)
    words = [philox4x32([block, 7, 2, 2**31 + 1], (5, 9)) for block in range(3)]
    expected = (np.concatenate(words) >> 8) / 2.0**24
    np.testing.assert_array_equal(first[0], expected[:6])
    np.testing.assert_array_equal(second[0], expected[8:9])


def test_many_numbers_are_those_of_few() -> None:
    many = Draw(1, 2, np.arange(9), 0).uniform(30_001)
    np.testing.assert_array_equal(many[4], Draw(1, 2, [4], 0).uniform(30_001)[0])
    assert abs(many.mean() - 0.5) < 0.005 and 0 <= many.min() < 1e-4 < 0.9999 < many.max() < 1


def test_numbers_differ_by_seed_epoch_sample_and_step() -> None:
    found = {
        Draw(*key[:2], [key[2]], key[3]).uniform(1).item()
        for key in ((0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1))
    }
    assert len(found) == 5


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_beta(alpha: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    numbers = Draw(1, 0, np.arange(4000), 0).beta(alpha)
    assert stats.kstest(numbers, stats.beta(alpha, alpha).cdf).pvalue > 0.01


# ---- every step ------------------------------------------------------------------------------

CHAINS = [
    *(word for word in WORDS if word not in ("mixup", "cutmix")),
    "flip,crop4,cutout8",
    "rotate,scale,shear,shift,elastic",
    "colour,rotate,flip,elastic",
]


@pytest.mark.parametrize("text", CHAINS)
def test_a_sample_is_changed_alike_in_any_batch(text: str) -> None:
    chain = augmentation(text)
    whole = chain(IMAGES, seed=4, epoch=2)
    assert whole.shape == IMAGES.shape and whole.dtype == np.float32
    assert np.isfinite(whole).all() and (whole != IMAGES).mean() > 0.01
    for part in ([0], [5, 3], list(range(23, -1, -1))):
        again = chain(IMAGES[part], seed=4, epoch=2, samples=part)
        np.testing.assert_array_equal(again, whole[part])
    assert (chain(IMAGES, seed=4, epoch=3) != whole).any()
    assert (chain(IMAGES, seed=5, epoch=2) != whole).any()


@pytest.mark.parametrize("text", CHAINS)
def test_the_given_pictures_stay(text: str) -> None:
    images = IMAGES.copy()
    augmentation(text)(images)
    np.testing.assert_array_equal(images, IMAGES)


def test_flip() -> None:
    always = Flip(1.0).apply(IMAGES.copy(), draw())
    np.testing.assert_array_equal(always, IMAGES[..., ::-1])
    np.testing.assert_array_equal(
        Flip(1.0, vertical=True).apply(IMAGES.copy(), draw()), IMAGES[:, :, ::-1]
    )
    np.testing.assert_array_equal(Flip(0.0).apply(IMAGES.copy(), draw()), IMAGES)
    many = np.broadcast_to(IMAGES[:1], (2000, 3, 9, 7)).copy()
    share = (Flip(0.3).apply(many, draw(2000)) != IMAGES[0]).any(axis=(1, 2, 3)).mean()
    assert abs(share - 0.3) < 0.04


@pytest.mark.parametrize("padding", ["zero", "edge", "reflect"])
def test_pad_and_crop_moves_by_whole_pixels(padding: str) -> None:
    found = PadCrop(2, padding).apply(IMAGES.copy(), draw())
    mode: Any = {"zero": "constant"}.get(padding, padding)
    places = set()
    for image, cut in zip(IMAGES, found, strict=True):
        padded = np.pad(image, ((0, 0), (2, 2), (2, 2)), mode)
        at = [
            (r, s)
            for r in range(5)
            for s in range(5)
            if np.array_equal(padded[:, r : r + 9, s : s + 7], cut)
        ]
        assert len(at) == 1
        places |= set(at)
    assert len(places) > 8


def test_cutout_fills_a_square_anywhere() -> None:
    filled = Cutout(4, value=2.0).apply(np.zeros((400, 2, 9, 7), np.float32), draw(400)) == 2
    assert (filled[:, 0] == filled[:, 1]).all()
    heights = filled[:, 0].any(axis=2).sum(axis=1)
    widths = filled[:, 0].any(axis=1).sum(axis=1)
    assert (filled[:, 0].sum(axis=(1, 2)) == heights * widths).all()
    assert set(heights) == {2, 3, 4} and set(widths) == {2, 3, 4}  # cut off at the border
    assert filled[:, 0].any(axis=0).all()


# ---- warps -----------------------------------------------------------------------------------


class Fixed(Affine):
    """An affine step whose amounts are all at their most."""

    def matrices(self, draw: Draw) -> Any:
        class Most:
            def uniform(self, count: int) -> Any:
                return np.ones((len(draw), count))

        return super().matrices(Most())  # type: ignore[arg-type]


def test_rotation_is_counter_clockwise() -> None:
    square = RNG.random((2, 3, 8, 8), np.float32)
    turned = Fixed(degrees=90).apply(square, draw(2))
    np.testing.assert_allclose(turned, np.rot90(square, axes=(2, 3)), atol=1e-5)


def test_whole_shifts_and_doubling_are_exact() -> None:
    moved = Fixed(shift=2).apply(IMAGES, draw())
    np.testing.assert_allclose(moved[:, :, 2:, 2:], IMAGES[:, :, :-2, :-2], atol=1e-6)
    assert (moved[:, :, :2] == 0).all() and (moved[..., :2] == 0).all()
    cross = np.zeros((1, 1, 9, 9), np.float32)
    cross[0, 0, 4, 3] = 1
    grown = Fixed(scale=0.99).apply(cross, draw(1))[0, 0]
    assert np.unravel_index(grown.argmax(), (9, 9)) == (4, 2)
    slanted = Fixed(shear=45).apply(
        cross * 0 + np.eye(9, dtype="f4")[:, [4]].T[None, None], draw(1)
    )
    assert slanted.max() > 0.9


@pytest.mark.peer
def test_resampling_is_that_of_scipy() -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    step = Affine(degrees=40, scale=0.3, shear=10, shift=3)
    matrix, shift = step.matrices(draw())
    found = step.apply(IMAGES, draw())
    middle = np.array([4.0, 3.0])
    for n in range(24):
        offset = middle - matrix[n] @ (middle + shift[n])
        for c in range(3):
            expected = ndimage.affine_transform(
                IMAGES[n, c].astype(float), matrix[n], offset, order=1, mode="grid-constant"
            )
            np.testing.assert_allclose(found[n, c], expected, atol=2e-5)


@pytest.mark.peer
def test_elastic_fields_are_those_of_scipy() -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    zero = np.zeros((2, 9, 7), np.float32)
    rows, columns = Elastic(5.0, 2.0).trace(zero, zero, draw(2))
    noise = 2 * draw(2).uniform(2 * 9 * 7).reshape(2, 2, 9, 7) - 1
    for n, field in enumerate((rows, columns)):
        for k in range(2):
            expected = 5 * ndimage.gaussian_filter(noise[k, n], 2.0, mode="constant", truncate=40)
            np.testing.assert_allclose(field[k], expected, atol=1e-5)


def test_neighbours_read_the_picture_once() -> None:
    chain = Compose([Affine(shift=1.5), Affine(degrees=90)])
    back = Compose([Affine(degrees=30), Affine(degrees=0)])
    smooth = np.fromfunction(lambda r, s: np.cos(r / 9) * s, (1, 1, 24, 24)[2:], dtype="f4")
    images = np.broadcast_to(smooth.astype("f4"), (8, 1, 24, 24)).copy()
    twice = Affine(degrees=90).apply(
        Affine(shift=1.5).apply(images, Draw(0, 0, range(8), 0)), Draw(0, 0, range(8), 1)
    )
    once = chain(images)
    np.testing.assert_allclose(once[..., 8:16, 8:16], twice[..., 8:16, 8:16], atol=0.15)
    alone = resample(images, [(Affine(degrees=30), Draw(0, 0, range(8), 0))])
    np.testing.assert_allclose(back(images), alone, atol=1e-4)


# ---- colours ---------------------------------------------------------------------------------


def test_colours_by_their_formulas() -> None:
    images = 0.3 + 0.4 * IMAGES
    amounts = 2 * draw().uniform(4) - 1
    b, c, s = (1 + 0.2 * amounts[:, k, np.newaxis, np.newaxis, np.newaxis] for k in range(3))
    weights = np.array([0.299, 0.587, 0.114])
    luma = lambda x: np.einsum("nchw,c->nhw", x, weights)[:, np.newaxis]  # noqa: E731
    x = images * b
    x = c * x + (1 - c) * luma(x).mean(axis=(2, 3), keepdims=True)
    x = s * x + (1 - s) * luma(x)
    found = ColourJitter(0.2, 0.2, 0.2).apply(images.copy(), draw())
    np.testing.assert_allclose(found, np.clip(x, 0, 1), atol=1e-5)


def test_hue_keeps_luma_and_grey() -> None:
    images = 0.4 + 0.2 * IMAGES
    found = ColourJitter(hue=0.5).apply(images.copy(), draw())
    weights = np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(
        np.einsum("nchw,c->nhw", found, weights),
        np.einsum("nchw,c->nhw", images, weights),
        atol=1e-5,
    )
    assert abs(found - images).max() > 0.1
    grey = np.broadcast_to(images[:, :1], images.shape).copy()
    jitter = ColourJitter(saturation=1, hue=0.5)
    np.testing.assert_allclose(jitter.apply(grey.copy(), draw()), grey, atol=1e-5)


def test_grey_pictures_change_in_brightness_and_contrast() -> None:
    grey = IMAGES[:, :1].copy()
    found = ColourJitter(0.5, 0.5, 1, 0.5).apply(grey.copy(), draw())
    colour = ColourJitter(0.5, 0.5).apply(np.repeat(grey, 3, axis=1), draw())
    np.testing.assert_allclose(found, colour[:, :1], atol=1e-5)
    with pytest.raises(ShapeError, match="expected pictures of 1 or 3 channels"):
        ColourJitter(0.5).apply(np.zeros((1, 2, 4, 4), np.float32), draw(1))


def test_normalize_of_data() -> None:
    data = ArraySource(IMAGES, np.zeros(24, np.int64), ("a",))
    step = Normalize.of(data)
    found = step.apply(IMAGES.copy(), draw())
    np.testing.assert_allclose(found.mean(axis=(0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(found.std(axis=(0, 2, 3)), 1, atol=1e-5)
    assert Normalize.of(as_dataset((np.ones((3, 2, 2)), [0, 0, 0]))).std == (1.0,)
    many = ArraySource(np.tile(IMAGES, (30, 1, 1, 1)), np.zeros(720, np.int64), ("a",))
    assert Normalize.of(many) == step
    with pytest.raises(DataError, match="at least one picture"):
        Normalize.of(ArraySource(IMAGES[:0], np.zeros(0, np.int64)))
    with pytest.raises(OptionError, match="a deviation above 0"):
        Normalize((0.5,), (0.0,))
    with pytest.raises(ShapeError, match="expected pictures of 3 channels"):
        step.apply(np.zeros((1, 1, 4, 4), np.float32), draw(1))


@pytest.mark.parametrize("channels", [1, 3])
def test_normalize_as_a_layer(channels: int) -> None:
    mean, std = (0.5, 0.4, 0.3)[:channels], (0.2, 0.3, 0.1)[:channels]
    step = Normalize(mean, std)
    images = IMAGES[:, :channels].copy()
    net = nn.Sequential(step.layer(), nn.Flatten())
    found = net(images).reshape(images.shape)
    np.testing.assert_allclose(found, step.apply(images.copy(), draw()), atol=1e-5)
    assert not list(net.parameters())


# ---- lists and texts -------------------------------------------------------------------------


def test_what_is_done_when_judging() -> None:
    chain = augmentation("flip,normalize", ArraySource(IMAGES, np.zeros(24, np.int64)))
    fixed = chain.evaluation()
    assert fixed is not None and [type(s) for s in fixed.steps] == [Normalize]
    assert augmentation("flip").evaluation() is None and augmentation("").steps == ()
    assert chain.settings()[0] == {"step": "Flip", "probability": 0.5, "vertical": False}


def test_texts() -> None:
    chain = augmentation(" Flip0.3, crop:2 ,rotate, color0.4,cutout,mixup 1,")
    assert chain.steps == (
        Flip(0.3),
        PadCrop(2),
        Affine(degrees=15),
        ColourJitter(0.4, 0.4, 0.4, 0.1),
        Cutout(8),
        Mixup(1.0),
    )
    assert chain.soft and as_augmentation(None) is None
    assert as_augmentation([Flip(), [PadCrop()]]).steps == (Flip(), PadCrop(4))  # type: ignore[union-attr]
    assert as_augmentation(Elastic()).steps == (Elastic(),)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("flop", r"unknown 'flop'. Did you mean 'flip'\?"),
        ("flip,,4crop", "unknown '4crop'"),
        ("crop1.5", "expected a whole number from 0 to 32768; got pixels=1.5"),
        ("flip2", "a number from 0 to 1; got probability=2"),
        ("cutout.", "expected a number behind 'cutout'"),
        ("normalize", "expected data with 'normalize'"),
        ("mixup,cutmix", "at most one step that mixes; got Mixup, CutMix"),
        ("mixup9", "alpha=9"),
    ],
)
def test_texts_that_are_wrong(text: str, match: str) -> None:
    with pytest.raises(OptionError, match=match):
        augmentation(text)


def test_steps_that_are_wrong() -> None:
    with pytest.raises(OptionError, match="expected steps as"):
        Compose([len])  # type: ignore[list-item]
    with pytest.raises(OptionError, match="padding='wrap'"):
        PadCrop(2, "wrap")
    with pytest.raises(ShapeError, match=r"expected images \(n, c, h, w\); got shape \(3, 4\)"):
        Compose([Flip()])(np.zeros((3, 4)))
    for step in (Mixup(), CutMix()):
        with pytest.raises(OptionError, match="expected a Loader to find the pictures"):
            Compose([step])(IMAGES)


def test_a_step_of_ones_own() -> None:
    class Invert(Augmentation):
        def apply(self, images: Any, draw: Draw) -> Any:
            return 1 - images

    np.testing.assert_array_equal(Compose([Invert()])(IMAGES), 1 - IMAGES)
    step = Invert()
    step.table = np.ones(2)  # type: ignore[attr-defined]
    found = json.loads(json.dumps(Compose([step]).settings()))
    assert found == [{"step": "Invert", "table": "array([1., 1.])"}]


def test_one_hot() -> None:
    assert one_hot(np.array([1, 0]), 3).tolist() == [[0, 1, 0], [1, 0, 0]]
    shares = np.array([[0.5, 0.5]])
    assert one_hot(shares, 2).tolist() == shares.tolist()
    with pytest.raises(OptionError, match="expected class labels"):
        one_hot(np.array([0.5]), 2)
