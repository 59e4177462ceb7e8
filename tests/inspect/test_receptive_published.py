"""Receptive fields of published networks, against google-research/receptive_field.

Its table (README; Araujo, Norris & Sim, Distill 2019) gives size, stride and padding at the last
layer before global pooling. The networks are written here as TensorFlow-Slim builds them, where
that differs from `striate.models`: padding as TensorFlow's "SAME" puts it (more behind than
before), and strides at the last unit of a ResNet's stage. Channels do not matter and are few.
"""

from __future__ import annotations

import pytest

import striate as st
from striate import nn
from striate.inspect import receptive_field
from striate.nn import functional as F

IMAGE = (3, 224, 224)


def same_stride2(layer: nn.Module) -> nn.Module:
    """A 3×3 window of stride 2 on an even size, padded as "SAME" does: 0 before, 1 after."""
    return nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), layer)


def alexnet_v2() -> nn.Module:
    """Up to pool5; the one-column AlexNet of arXiv:1404.5997."""
    return nn.Sequential(
        nn.Conv2d(3, 2, 11, stride=4),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(2, 2, 5, padding=2),
        nn.MaxPool2d(3, stride=2),
        *(nn.Conv2d(2, 2, 3, padding=1) for _ in range(3)),
        nn.MaxPool2d(3, stride=2),
    )


def vgg16() -> nn.Module:
    """Up to pool5; arXiv:1409.1556."""
    layers: list[nn.Module] = [nn.Conv2d(3, 2, 1)]
    for count in (2, 2, 3, 3, 3):
        layers += [*(nn.Conv2d(2, 2, 3, padding=1) for _ in range(count)), nn.MaxPool2d(2)]
    return nn.Sequential(*layers)


def mobilenet_v1() -> nn.Module:
    """Up to the last pointwise convolution; arXiv:1704.04861."""
    layers = [same_stride2(nn.Conv2d(3, 2, 3, stride=2))]
    for stride in (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1):
        deep = nn.Conv2d(2, 2, 3, stride=stride, padding=2 - stride, groups=2)
        layers += [deep if stride == 1 else same_stride2(deep), nn.Conv2d(2, 2, 1)]
    return nn.Sequential(*layers)


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 beside the identity, which a stride thins out; arXiv:1512.03385."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        middle = nn.Conv2d(2, 2, 3, stride=stride, padding=1)
        self.deep = nn.Sequential(nn.Conv2d(2, 2, 1), middle, nn.Conv2d(2, 2, 1))
        self.short = nn.MaxPool2d(1, stride=stride)

    def forward(self, x):
        return F.relu(self.deep(x) + self.short(x))


def resnet_v1(*units: int) -> nn.Module:
    """Up to the last stage; each stage but the last ends with stride 2."""
    layers = [nn.Conv2d(3, 2, 7, stride=2, padding=3), same_stride2(nn.MaxPool2d(3, stride=2))]
    for stage, count in enumerate(units):
        last = 1 if stage == len(units) - 1 else 2
        layers += [Bottleneck(1) for _ in range(count - 1)] + [Bottleneck(last)]
    return nn.Sequential(*layers)


def conv(height: int, width: int, stride: int = 1) -> nn.Module:
    padding = (height // 2, width // 2) if stride == 1 else 0
    return nn.Conv2d(2, 2, (height, width), stride=stride, padding=padding)


class Mixed(nn.Module):
    """Branches side by side, summed so that channels stay few (the hull is that of a concat)."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x):
        return F.cat([branch(x) for branch in self.branches], 1)[:, :2]


def chain(*sizes: tuple[int, int], last: nn.Module | None = None) -> nn.Module:
    return nn.Sequential(conv(1, 1), *(conv(*size) for size in sizes), *([last] if last else []))


def inception_v3() -> nn.Module:
    """Up to Mixed_7c; arXiv:1512.00567."""

    def pooled() -> nn.Module:
        return nn.Sequential(nn.AvgPool2d(3, stride=1, padding=1), conv(1, 1))

    def square() -> nn.Module:
        return Mixed(chain(), chain((5, 5)), chain((3, 3), (3, 3)), pooled())

    def factorised() -> nn.Module:
        double = chain((7, 1), (1, 7), (7, 1), (1, 7))
        return Mixed(chain(), chain((1, 7), (7, 1)), double, pooled())

    def wide() -> nn.Module:
        ends = [Mixed(conv(1, 3), conv(3, 1)) for _ in range(2)]
        return Mixed(chain(), chain(last=ends[0]), chain((3, 3), last=ends[1]), pooled())

    return nn.Sequential(
        nn.Conv2d(3, 2, 3, stride=2),
        nn.Conv2d(2, 2, 3),
        conv(3, 3),
        nn.MaxPool2d(3, stride=2),
        conv(1, 1),
        nn.Conv2d(2, 2, 3),
        nn.MaxPool2d(3, stride=2),
        *(square() for _ in range(3)),
        Mixed(conv(3, 3, 2), chain((3, 3), last=conv(3, 3, 2)), nn.MaxPool2d(3, stride=2)),
        *(factorised() for _ in range(4)),
        Mixed(
            chain(last=conv(3, 3, 2)),
            chain((1, 7), (7, 1), last=conv(3, 3, 2)),
            nn.MaxPool2d(3, stride=2),
        ),
        *(wide() for _ in range(2)),
    )


@pytest.mark.parametrize(
    ("build", "shape", "size", "padding"),
    [
        (alexnet_v2, IMAGE, 195, 64),
        (vgg16, IMAGE, 212, 90),
        (mobilenet_v1, IMAGE, 315, 126),
        (lambda: resnet_v1(3, 4, 6, 3), IMAGE, 483, 239),
        (lambda: resnet_v1(3, 4, 23, 3), IMAGE, 1027, 511),
        (lambda: resnet_v1(3, 8, 36, 3), IMAGE, 1507, 751),
        (lambda: resnet_v1(3, 24, 36, 3), IMAGE, 1763, 879),
        (inception_v3, (3, 299, 299), 1311, 618),
    ],
    ids=[
        "alexnet_v2",
        "vgg_16",
        "mobilenet_v1",
        "resnet_v1_50",
        "resnet_v1_101",
        "resnet_v1_152",
        "resnet_v1_200",
        "inception_v3",
    ],
)
def test_published_networks(build, shape, size: int, padding: int) -> None:
    found = receptive_field(build(), shape)
    last = found[list(found)[-1]]
    assert (last.size, last.stride) == ((size, size), (32, 32))
    assert last.padding == (padding, padding) and last.aligned


@pytest.mark.parametrize(("name", "size"), [("resnet18", 435), ("resnet50", 427)])
def test_resnets_as_torchvision_has_them(name: str, size: int) -> None:
    """By the recurrence, worked out by hand: stride 2 in the first unit's 3×3 of each stage."""
    found = receptive_field(st.models.build(name), IMAGE)
    before_pooling = list(found)[-4]
    assert found[before_pooling].size == (size, size)
    assert found[before_pooling].stride == (32, 32) and found[before_pooling].aligned
    assert found["avgpool"].text == "all"
