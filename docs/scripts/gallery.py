"""The gallery: every picture with the code that makes it, run on trained networks and real photos.

    python docs/scripts/gallery.py runs/cifar        pictures and page (some minutes)
    python docs/scripts/gallery.py                   only the page

`runs/cifar` is the folder of the CIFAR-10 recipe of docs/training-recipes.md. The data sets are
found in $STRIATE_DATA. A test runs each scene on small networks, and looks whether the page is up
to date.
"""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1]
PAGE = DOCS / "gallery.md"
_MOST_BYTES = 120_000

BEGIN = """\
import striate as st
from striate import inspect, interpret, plot

train, test = st.data.load("cifar10")
net = st.load("runs/cifar/best.safetensors")  # 90.38 % of the test pictures are right
photos, labels = test.batch([7001, 8006, 1004])  # a horse, a sailing boat, a car
named = [test.classes[k] for k in labels]

digits, _ = st.data.load("mnist")
lenet = st.models.lenet5()
st.fit(lenet, digits, epochs=4, optimizer=st.optim.AdamW(lr=3e-3), schedule="one-cycle")
seven = digits.batch([15])[0][0]  # (1, 28, 28)
"""


@dataclass(frozen=True)
class Scene:
    """One picture: its file's name, headline, what is to be seen, and the code of `figure`."""

    name: str
    title: str
    text: str
    code: str


SCENES = [
    Scene(
        "network",
        "The network",
        "A residual network of nine layers; convolution, batch norm and ReLU are one box. "
        "`striate show network`.",
        'figure = plot.network(net, (3, 32, 32), title="What the CIFAR-10 recipe trains")',
    ),
    Scene(
        "filters",
        "Filters",
        "The 32 filters of the first layer, as colours. `striate show filters`.",
        'weights = {"0.conv": net.state_dict()["0.conv.weight"]}\n'
        "figure = plot.filters(weights, colour=True, most_filters=32)",
    ),
    Scene(
        "maps",
        "Feature maps",
        "What four layers make of a photo. `striate show maps`.",
        'names = ["0.relu", "1.pool", "3.pool", "4.pool"]\n'
        "values = inspect.Probe(net, (3, 32, 32)).values(photos[:1], names)\n"
        "figure = plot.feature_maps(photos[0], {name: values[name][0] for name in names})",
    ),
    Scene(
        "explained",
        "Why is this number what it is?",
        "The greatest number of a first layer: patch, kernel, products, sum, bias, activation. "
        "`striate explain`; more on the page [Explain any number](explain.md).",
        'figure = plot.explanation(st.explain(lenet, seven, "conv1"))',
    ),
    Scene(
        "traced",
        "Back to the pixels",
        "The score of a 7, and what adds most to it, layer by layer. `striate explain --back`.",
        'found = st.explain(lenet, seven, "fc3").to_pixels(most=2)\n'
        "figure = plot.trace(found, seven)",
    ),
    Scene(
        "gradient",
        "Why is this gradient what it is?",
        "The terms of the gradient of the score to one weight of the first layer. "
        "`striate explain --gradient`.",
        'found = st.explain_gradient(lenet, seven, "conv1.weight", (0, 0, 2, 2))\n'
        "figure = plot.explanation(found)",
    ),
    Scene(
        "field",
        "What a unit may see",
        "The receptive field of a unit of the fifth convolution. `striate receptive`.",
        'region = inspect.input_region(net, (3, 32, 32), "4.conv", (0, 3, 3))\n'
        'field = inspect.receptive_field(net, (3, 32, 32), "4.conv")\n'
        "figure = plot.receptive_field(photos[0], region, field)",
    ),
    Scene(
        "effective",
        "What a unit does see",
        "The mean size of that unit's gradient over 64 photos: most of its field counts little. "
        "`striate receptive --effective`.",
        "some = test.batch(range(64))[0]\n"
        'found = inspect.effective_receptive_field(net, some, layer="4.conv")\n'
        "figure = plot.effective_field(found, photos[0])",
    ),
    Scene(
        "looks",
        "What the network looks at",
        "Eight methods on three photos, each about the class that the network sees. "
        "`striate interpret saliency`, and a command for each.",
        "figure = plot.attribution(\n"
        "    photos,\n"
        "    {\n"
        '        "saliency": interpret.saliency(net, photos, channels="largest"),\n'
        '        "SmoothGrad": interpret.smoothgrad(net, photos, samples=64),\n'
        '        "integrated gradients": interpret.integrated_gradients(net, photos),\n'
        '        "guided backprop": interpret.guided_backprop(net, photos),\n'
        '        "deconvolution": interpret.deconvolution(net, photos),\n'
        '        "Grad-CAM": interpret.grad_cam(net, photos, features="4.relu"),\n'
        '        "guided Grad-CAM": interpret.guided_grad_cam(net, photos, features="4.relu"),\n'
        '        "occlusion": interpret.occlusion(net, photos, window=8, stride=2),\n'
        "    },\n"
        "    names=named,\n"
        "    overlay=False,\n"
        ")",
    ),
    Scene(
        "patches",
        "Which pieces of the data a unit answers to",
        "The nine test pictures that drive each of three channels of the last block most, and what "
        "of them reaches the unit. `striate interpret top-patches`.",
        'found = interpret.top_patches(net, test, "5.add", units=[216, 242, 196], k=9, '
        "deconvolve=True)\n"
        "figure = plot.top_patches(found)",
    ),
    Scene(
        "classes",
        "Images that classes like",
        "Made by climbing the score's gradient from noise; no photo was shown. "
        "`striate interpret maximize`.",
        "colours = interpret.colour_root(train.batch(range(512))[0])\n"
        "found = interpret.maximize(\n"
        "    net, units=range(10), colours=colours, jitter=4, tv=50.0, steps=384, batch_size=10\n"
        ")\n"
        "figure = plot.maximized(found, names=train.classes, course=False)",
    ),
    Scene(
        "inverted",
        "What a layer still knows",
        "Images that layers cannot tell from two photos. `striate interpret invert`.",
        'names = ["0.conv", "1.relu", "2.add", "3.relu", "4.relu", "9"]\n'
        "layers = [interpret.invert(net, photos[:2], name, steps=300, tv=0.1) for name in names]\n"
        "figure = plot.inverted(photos[:2], layers)",
    ),
    Scene(
        "followed",
        "Does a layer follow a shift?",
        "0 follows exactly, 1 is what unrelated photos give. `striate interpret equivariance`.",
        "found = interpret.equivariance(\n"
        "    net,\n"
        "    photos,\n"
        "    amounts=(1, 2, 4, 8),\n"
        '    layers=["0.relu", "1.pool", "3.pool", "4.pool", "9"],\n'
        ")\n"
        "figure = plot.equivariance(found, photos[0])",
    ),
    Scene(
        "matrix",
        "A layer as a matrix",
        "A convolution of a 12×12 image by a 3×3 kernel, and a pooling: doubly blocked Toeplitz "
        "matrices. `striate show matrix`.",
        "figure = plot.matrix(\n"
        "    {\n"
        '        "convolution": (st.nn.Conv2d(1, 1, 3), (1, 12, 12)),\n'
        '        "average pooling": (st.nn.AvgPool2d(2), (1, 12, 12)),\n'
        "    }\n"
        ")",
    ),
    Scene(
        "roofline",
        "Where the time goes",
        "Each layer's reach on this machine, against what arithmetic and memory allow. "
        "`striate show roofline`.",
        "figure = plot.roofline(net, (3, 32, 32), batch=64, seconds=3.0)",
    ),
]

HEAD = """\
# Gallery

Pictures of a network trained on CIFAR-10 by the [recipe](training-recipes.md), and of LeNet-5
trained on MNIST, each with the code that made it. This page is written by
`docs/scripts/gallery.py`. `plot.save(figure, "file.png")` writes a figure as PNG, SVG or PDF. The
pages of this chapter say what everything means.

```py
{begin}```
"""


def render() -> str:
    """The page."""
    parts = [HEAD.format(begin=BEGIN)]
    for scene in SCENES:
        parts.append(
            f"## {scene.title}\n\n{scene.text}\n\n"
            f"![{scene.title}](images/gallery_{scene.name}.png)\n\n```py\n{scene.code}\n```\n"
        )
    return "\n".join(parts)


def run(scene: Scene, names: dict[str, Any]) -> Any:
    """The scene's figure; its code sees a copy of `names`."""
    known = dict(names)
    exec(compile(scene.code, scene.name, "exec"), known)
    return known["figure"]


def beginning(folder: Path) -> dict[str, Any]:
    """What the scenes start from, with the trained network of a folder."""
    names: dict[str, Any] = {}
    code = BEGIN.replace("runs/cifar/", f"{folder.as_posix()}/")
    exec(compile(code, "beginning", "exec"), names)
    return names


def save(figure: Any, name: str) -> None:
    """Write a figure as PNG in a palette, with as many colours as keep it small."""
    from PIL import Image

    memory = io.BytesIO()
    figure.savefig(memory, dpi=100)
    with Image.open(memory) as picture:
        whole = picture.convert("RGB")
    file = DOCS / "images" / f"gallery_{name}.png"
    for colours in (256, 128, 64, 32):
        whole.quantize(colours, dither=Image.Dither.NONE).save(file, optimize=True)
        if file.stat().st_size < _MOST_BYTES:
            break


def main() -> None:
    """Write the page; with the folder of a training also the pictures."""
    PAGE.write_text(render(), encoding="utf-8")
    if len(sys.argv) < 2:
        return
    names = beginning(Path(sys.argv[1]))
    wanted = sys.argv[2:] or [scene.name for scene in SCENES]
    for scene in SCENES:
        if scene.name in wanted:
            save(run(scene, names), scene.name)
            print(scene.name, flush=True)


if __name__ == "__main__":
    main()
