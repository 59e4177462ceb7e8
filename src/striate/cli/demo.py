"""`striate demo`: train LeNet-5 on the bundled digits, and leave a folder worth looking at."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from striate.cli.options import Backend, Threads, use_threads

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from striate.data.dataset import DataSet
    from striate.nn.graph_module import GraphModule
    from striate.train.evaluate import Evaluation
    from striate.train.run import Record, Run

_LAYERS = ("conv1", "relu1", "pool1", "conv2", "relu2", "pool2", "relu3", "relu4", "fc3")
_SHOWN_DIGIT = 7
EPOCHS = 6


def demo(
    out: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="The folder to write.", show_default="striate-demo"),
    ] = None,
    epochs: Annotated[
        int, typer.Option(metavar="N", min=1, help="How many times each image is used.")
    ] = EPOCHS,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the first weights and the order.")] = 0,
    threads: Threads = None,
    backend: Backend = None,
) -> None:
    """Train LeNet-5 on 5,000 bundled handwritten digits; takes some seconds and no network.

    Leaves a folder with the model, the figures and some digits, explains one activation, and
    prints what to try next.

    \b
    Examples:
      striate demo
      striate demo --out /tmp/first --seed 1
    """
    from striate.data.named import load

    use_threads(threads)
    training, test = load("digits")
    run_demo(training, test, _demo_folder(out), epochs=epochs, seed=seed, backend=backend)


def run_demo(
    training: DataSet, test: DataSet, folder: Path, *, epochs: int, seed: int, backend: str | None
) -> None:
    """The demo on a data set of digits.

    Args:
        training: 28×28 grey digits to learn from.
        test: others to judge by.
        folder: where everything is written.
        epochs, seed, backend: as for the command.
    """
    from striate.cli.networks import MODEL_FILE, open_model
    from striate.train import evaluate

    typer.echo(
        f"Training LeNet-5 (61,706 parameters) on {len(training):,} handwritten digits, each also "
        f"shifted by one pixel to the four sides.\n"
    )
    run = _train(training, test, folder, epochs, seed, backend)
    net = open_model(str(folder / MODEL_FILE))
    result = evaluate(net, test, backend=backend)
    typer.echo(
        f"\nOn {result.samples:,} digits that it has never seen: "
        f"{100 * result.accuracy:.2f} % right, {len(result.mistakes)} mistakes "
        f"(trained in {run.seconds:.1f} s).\n"
    )
    samples = _write_samples(test, folder / "digits")
    _write_figures(net, run, result, test, folder, backend)
    _explain_one(net, samples[_SHOWN_DIGIT], backend)
    _next_steps(folder, samples)


def _demo_folder(out: str | None) -> Path:
    """The folder to write to: never one with something in it, where the user did not name it."""
    from striate.cli.train import free_folder
    from striate.errors import FileError

    if out is None:
        return free_folder(Path("striate-demo"))
    folder = Path(out).expanduser()
    if folder.exists() and free_folder(folder) != folder:
        raise FileError(
            f"--out: expected a new or empty folder; {folder} is neither. Choose another, "
            f"as {free_folder(folder)}."
        )
    return folder


# ---- training --------------------------------------------------------------------------------


def _train(
    training: DataSet, test: DataSet, folder: Path, epochs: int, seed: int, backend: str | None
) -> Run:
    from striate.cli.networks import notes_of
    from striate.models import build
    from striate.optim import AdamW
    from striate.settings import manual_seed
    from striate.train import fit

    manual_seed(seed)
    net = build("lenet5")
    net.notes = notes_of(training)
    return fit(
        net,
        _with_shifts(training),
        validation=test,  # only shown: nothing is chosen by it
        epochs=epochs,
        batch_size=32,
        optimizer=AdamW(lr=3e-3, weight_decay=0.1),
        schedule="one-cycle",
        seed=seed,
        out=folder,
        backend=backend,
    )


def _with_shifts(data: DataSet) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The images, and copies moved by one pixel to each side; the gap is dark."""
    import numpy as np

    padded = np.pad(data.images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    height, width = data.images.shape[2:]
    places = ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))
    images = [padded[:, :, y : y + height, x : x + width] for y, x in places]
    return np.concatenate(images), np.tile(data.labels, len(places))


# ---- what is left behind ---------------------------------------------------------------------


def _write_samples(test: DataSet, folder: Path) -> list[Path]:
    """One test image of each class as a PNG; returns their paths, by class."""
    import io

    import numpy as np
    from PIL import Image

    from striate.files import make_folder, write_atomically

    make_folder(folder)
    paths = []
    for label, name in enumerate(test.classes):
        image = test.images[int(np.argmax(test.labels == label)), 0]
        file = io.BytesIO()
        Image.fromarray(np.rint(255 * image).astype(np.uint8)).save(file, "PNG")
        paths.append(folder / f"{name}.png")
        write_atomically(paths[-1], file.getvalue())
    return paths


def _write_figures(
    net: GraphModule,
    run: Run,
    result: Evaluation,
    test: DataSet,
    folder: Path,
    backend: str | None,
) -> None:
    import numpy as np

    from striate import plot
    from striate.cli.evaluate import write_figures
    from striate.program import build_inference

    weights = net.state_dict()
    kernels = {name: weights[name] for name in ("conv1.weight", "conv2.weight")}
    plot.save(
        plot.filters(kernels, title="The filters that LeNet-5 learned"), folder / "filters.png"
    )
    image = test.images[int(np.argmax(test.labels == _SHOWN_DIGIT))]
    program = build_inference(net.graph, backend=backend)
    values = program.values(image[np.newaxis], weights, list(_LAYERS))
    maps = {name: values[name][0] for name in _LAYERS}
    figure = plot.feature_maps(
        image, maps, classes=test.classes, title=f"What LeNet-5 makes of a {_SHOWN_DIGIT}"
    )
    plot.save(figure, folder / "feature_maps.png")
    history = run.history
    figure = plot.curves(
        _lines(history, "loss"),
        _lines(history, "accuracy"),
        title="The training",
        under=f"test accuracy at the end: {100 * result.accuracy:.2f} %",
    )
    plot.save(figure, folder / "curves.png")
    write_figures(net, result, test, folder, backend)


def _lines(history: list[Record], what: str) -> dict[str, list[float]]:
    return {
        "training": [record[what] for record in history],
        "test": [record[f"validation_{what}"] for record in history],
    }


def _explain_one(net: GraphModule, sample: Path, backend: str | None) -> None:
    """Print the arithmetic of the greatest output of the first layer."""
    from striate.cli.explain import terminal_width
    from striate.cli.networks import read_for
    from striate.inspect import explain

    image = read_for(net, str(sample), "auto").array
    found = explain(net, image, "conv1", backend=backend)
    typer.echo(
        f"Every number in the network can be asked why. The greatest of conv1 for {sample}:\n"
    )
    typer.echo(found.text(width=terminal_width()))


def _next_steps(folder: Path, samples: list[Path]) -> None:
    place, model = shlex.quote(str(folder)), shlex.quote(str(folder / "model.safetensors"))
    digits = " ".join(shlex.quote(str(samples[k])) for k in (_SHOWN_DIGIT, 4))
    figures = "filters, feature_maps, confusion, mistakes, curves"
    typer.echo(f"\nLook at the figures in {place}: {figures} (.png).\n\nTry next:")
    typer.echo(f"  striate predict {model} {digits}")
    typer.echo(f"  striate explain {model} {shlex.quote(str(samples[4]))} --layer fc3 --at 4")
    typer.echo(f"  striate summary {model}")
    typer.echo(f"  striate evaluate {model} --data digits")
    typer.echo(
        "  striate train --data mnist --epochs 5 --schedule one-cycle --lr 0.004  # fetches 12 MB"
    )
