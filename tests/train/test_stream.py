"""Training from sources batch by batch: the bits of memory; augmentation; the loader's share."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.data import ArraySource, Source
from striate.errors import OptionError
from striate.train import Callback, evaluate
from striate.train.run import Run

Fit = Callable[..., tuple[nn.Module, Run]]


class Fetched(Source):
    """A source that gives its pictures one batch at a time, and says how many at most."""

    def __init__(self, images: Any, labels: Any) -> None:
        self.pictures, self.labels = images, labels
        self.name, self.classes, self.most = "fetched", ("a", "b", "c"), 0

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.pictures.shape[1:])

    def fill(self, indices: Any, out: Any) -> None:
        self.most = max(self.most, len(indices))
        out[...] = self.pictures[indices]


@pytest.mark.parametrize("backend", ["reference", "native"])
def test_a_stream_gives_the_bits_of_memory(
    fit_tiny: Fit, tiny: SimpleNamespace, data: Any, backend: str
) -> None:
    more = {"optimizer": "momentum", "clip_norm": 0.5, "ema": 0.9, "backend": backend}
    more |= {"schedule": "one-cycle", "label_smoothing": 0.1, "validation": data}
    memory, course = fit_tiny(**more)
    streamed, other = fit_tiny(data=Fetched(*data), **more)
    assert tiny.weights(memory) == tiny.weights(streamed)
    for one, two in zip(course.history, other.history, strict=True):
        for key in ("loss", "accuracy", "validation_loss", "lr", "gradient_norm"):
            assert one[key] == two[key], key
        assert 0 <= two["loader_share"] <= 1
        assert "loader_share" not in one


def test_only_batches_are_in_memory(fit_tiny: Fit, data: Any) -> None:
    class Begin(Callback):
        def on_start(self, run: Run, net: nn.Module) -> None:
            source.most = 0  # a few pictures have been looked at, whatever the number

    source = Fetched(*data)
    fit_tiny(data=source, batch_size=8, callbacks=[Begin()])
    assert source.most == 8
    held_out = Fetched(*data)
    fit_tiny(validation=held_out)
    assert evaluate(fit_tiny()[0], held_out, backend="reference").samples == len(data[0])


def test_a_part_is_split_off_and_validation_streams(
    fit_tiny: Fit, tiny: SimpleNamespace, data: Any
) -> None:
    memory, one = fit_tiny(validation=0.2)
    streamed, two = fit_tiny(data=Fetched(*data), validation=0.2)
    assert tiny.weights(memory) == tiny.weights(streamed)
    assert one.history[-1]["validation_loss"] == two.history[-1]["validation_loss"]


def test_bytes_stay_bytes(fit_tiny: Fit, tiny: SimpleNamespace, data: Any) -> None:
    images = np.clip(data[0] * 255, 0, 255).astype(np.uint8)
    scaled, _ = fit_tiny(data=(images, data[1]))
    streamed, _ = fit_tiny(data=ArraySource(images, data[1], ("a", "b", "c")))
    assert tiny.weights(scaled) == tiny.weights(streamed)


def test_data_sets_of_other_libraries(fit_tiny: Fit, tiny: SimpleNamespace, data: Any) -> None:
    class Listed:
        def __len__(self) -> int:
            return len(data[0])

        def __getitem__(self, k: int) -> Any:
            return data[0][k], int(data[1][k])

    memory, _ = fit_tiny()
    assert tiny.weights(fit_tiny(data=Listed())[0]) == tiny.weights(memory)


# ---- augmentation ----------------------------------------------------------------------------


def test_augmentation_changes_and_repeats(fit_tiny: Fit, tiny: SimpleNamespace) -> None:
    plain, _ = fit_tiny()
    one, two = (tiny.weights(fit_tiny(augment="flip,crop1")[0]) for _ in range(2))
    assert one == two != tiny.weights(plain)
    assert tiny.weights(fit_tiny(augment="flip0,crop0")[0]) == tiny.weights(plain)
    assert tiny.weights(fit_tiny(augment="flip,crop1", seed=1)[0]) != one


@pytest.mark.parametrize("backend", ["reference", "native"])
def test_mixed_targets_are_shares(fit_tiny: Fit, data: Any, backend: str) -> None:
    _, run = fit_tiny(augment="mixup", validation=data, backend=backend, epochs=8, optimizer="adam")
    assert all("accuracy" not in record for record in run.history)
    assert run.history[-1]["validation_accuracy"] > 0.5
    smooth = {"augment": "cutmix", "label_smoothing": 0.1, "backend": backend}
    assert fit_tiny(**smooth)[1].history[-1]["loss"] > 0


def test_steps_that_are_not_random_are_for_judging_too(data: Any, fit_tiny: Fit) -> None:
    """Images far from 0, normalised: without it the validation would see other images."""
    far = (data[0] * 0.01 + 5).astype(np.float32), data[1]
    _, run = fit_tiny(data=far, validation=far, augment="normalize", epochs=20, optimizer="adam")
    last = run.history[-1]
    assert last["validation_accuracy"] > 0.9
    assert last["validation_loss"] < 2 * last["loss"] + 0.1


def test_an_augmentation_that_mixes_needs_shares(data: Any) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.LogSoftmax(1))
    with pytest.raises(OptionError, match=r"expected labels and cross_entropy .* got nll"):
        st.fit(net, data, loss=nn.NLLLoss(), augment="mixup", epochs=1, progress=False)
