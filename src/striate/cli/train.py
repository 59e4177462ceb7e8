"""`striate train`: train a network on a data set, and go on with a training that was stopped."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from striate.cli.failures import Interruption
from striate.cli.options import Backend, Data, Threads, use_threads

if TYPE_CHECKING:
    from striate.data.source import Source
    from striate.nn.module import Module
    from striate.optim import Optimizer, Schedule
    from striate.train.run import Run

_OPTIONS_FILE = "train.json"
_CHECKPOINT = "checkpoint.safetensors"
# What does not belong to the training itself.
_NOT_KEPT = ("out", "resume", "threads", "ctx", "source", "find_lr")


def train(
    ctx: typer.Context,
    source: Annotated[
        str | None,
        typer.Argument(metavar="[DATA]", help="The same as --data.", show_default=False),
    ] = None,
    data: Data = "digits",
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "--net",
            metavar="NAME|FILE.py:CLASS",
            help="A network's name, as lenet5 or resnet18, a pattern, as conv-relu-pool-softmax, "
            "or a class in a Python file.",
        ),
    ] = "lenet5",
    epochs: Annotated[
        int, typer.Option(metavar="N", help="How many times each image is used.")
    ] = 10,
    batch_size: Annotated[int, typer.Option(metavar="N", help="Images of one step.")] = 64,
    optimizer: Annotated[
        str, typer.Option(metavar="sgd|momentum|nesterov|rmsprop|adam|adamw", help="The optimiser.")
    ] = "adam",
    lr: Annotated[
        float | None,
        typer.Option(
            metavar="RATE",
            help="The learning rate.",
            show_default="sgd 0.1, momentum and nesterov 0.01, the others 0.001",
        ),
    ] = None,
    momentum: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="The momentum.",
            show_default="momentum and nesterov 0.9, sgd and rmsprop 0",
        ),
    ] = None,
    schedule: Annotated[
        str,
        typer.Option(
            metavar="constant|step|cosine|one-cycle|plateau",
            help="The course of the learning rate.",
        ),
    ] = "constant",
    warmup: Annotated[
        float,
        typer.Option(metavar="EPOCHS", help="Epochs in which the rate rises from 0, as 0.5."),
    ] = 0.0,
    weight_decay: Annotated[
        float | None,
        typer.Option(
            metavar="RATE", help="The weight decay.", show_default="adamw 0.01, the others 0"
        ),
    ] = None,
    augment: Annotated[
        str | None,
        typer.Option(
            metavar="STEPS",
            help="How images are changed while training, as flip,crop4,rotate10,cutout8.",
            show_default="not at all",
        ),
    ] = None,
    label_smoothing: Annotated[
        float,
        typer.Option(metavar="SHARE", help="Share of the target that is spread over all classes."),
    ] = 0.0,
    clip: Annotated[
        float | None,
        typer.Option(
            metavar="NORM", help="The longest gradient; longer ones are cut.", show_default="none"
        ),
    ] = None,
    clip_value: Annotated[
        float | None,
        typer.Option(
            metavar="VALUE", help="The largest number in a gradient.", show_default="none"
        ),
    ] = None,
    ema: Annotated[
        float | None,
        typer.Option(
            metavar="DECAY",
            help="Judge and keep a moving average of the weights, as 0.999.",
            show_default="the weights themselves",
        ),
    ] = None,
    validation: Annotated[
        float,
        typer.Option(
            metavar="SHARE", help="Share of the training images to judge each epoch by, as 0.1."
        ),
    ] = 0.0,
    early_stopping: Annotated[
        int | None,
        typer.Option(
            metavar="EPOCHS",
            help="Stop after so many epochs without a better one, and keep the best.",
            show_default="never",
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(metavar="N", help="Of the first weights, the order of the images, the split."),
    ] = 0,
    threads: Threads = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Where model, checkpoint and metrics go.",
            show_default="runs/MODEL-DATA",
        ),
    ] = None,
    log: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Write TensorBoard events and log.jsonl there.",
            show_default="none",
        ),
    ] = None,
    save_steps: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Write a checkpoint within an epoch too, after so many steps.",
            show_default="every five minutes",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the training in --out; its options are kept."),
    ] = False,
    find_lr: Annotated[
        bool,
        typer.Option(
            "--find-lr",
            help="Do not train: try rising learning rates and draw the losses.",
        ),
    ] = False,
    backend: Backend = None,
) -> None:
    """Train a network, keep it after every epoch, and judge it on the test images at the end.

    The same seed gives the same bits, on any number of threads, stopped and resumed or not, also
    where the process was killed in the middle of an epoch.

    \b
    Examples:
      striate train mnist --epochs 5 --schedule one-cycle --lr 0.003
      striate train fashion-mnist --validation 0.1 --early-stopping 3 --out runs/fashion
      striate train path/to/pictures --net net.py:Net --augment flip,crop4 --ema 0.999 --clip 1
      striate train mnist --find-lr
      striate train --model net.py:Net --data path/to/idx-files --optimizer nesterov
      striate train --resume --out runs/fashion
    """
    given = {key: value for key, value in ctx.params.items() if key not in _NOT_KEPT}
    explicit = _explicit(ctx)
    if source is not None:
        given["data"] = _one_data(source, data, explicit)
        explicit.add("data")
    use_threads(threads)
    if find_lr:
        find_learning_rate(given, out)
        return
    folder, options = _folder(out, resume, given, explicit)
    run_training(folder, options, resume)


def run_training(folder: Path, options: dict[str, Any], resume: bool) -> None:
    """Train with the options of the command line; see there."""
    from striate.data.named import load
    from striate.errors import OptionError

    if options["early_stopping"] is not None and not options["validation"]:
        raise OptionError(
            f"--early-stopping: expected --validation with it; got early_stopping="
            f"{options['early_stopping']} alone. Add --validation 0.1 to split off a tenth."
        )
    optimizer = _optimizer(options)
    _steps(options)
    training, test = load(options["data"])
    net = _network(options, training)
    _announce(options, training, test, net, folder)
    _keep_options(folder, options)
    run = _fit(net, training, optimizer, options, folder, resume)
    _conclude(net, run, test, options, folder)


# ---- options ---------------------------------------------------------------------------------


def _one_data(source: str, data: str, explicit: set[str]) -> str:
    from striate.errors import OptionError

    if "data" in explicit and source != data:
        raise OptionError(
            f"--data: expected the data once; got {source} and --data {data}. Leave one out."
        )
    return source


def _steps(options: dict[str, Any]) -> None:
    """Find mistakes in --augment before the data is read."""
    from striate.data.augment_text import augmentation

    text = options["augment"]
    if text is not None and "normali" not in text:
        augmentation(text)


def _schedule(options: dict[str, Any]) -> Schedule | str:
    from striate.optim import Warmup, make_schedule

    if not options["warmup"]:
        return str(options["schedule"])
    return Warmup(make_schedule(options["schedule"]), options["warmup"])


def _explicit(ctx: typer.Context) -> set[str]:
    """The options that stand on the command line."""
    sources = {name: ctx.get_parameter_source(name) for name in ctx.params}
    return {name for name, source in sources.items() if source and source.name == "COMMANDLINE"}


def _folder(
    out: str | None, resume: bool, given: dict[str, Any], explicit: set[str]
) -> tuple[Path, dict[str, Any]]:
    """Where to write, and the options; those of a resumed training where no others are given."""
    from striate.errors import FileError, OptionError

    if not resume:
        folder = free_folder(default_folder(given)) if out is None else Path(out).expanduser()
        if (folder / _CHECKPOINT).exists():
            raise FileError(
                f"--out: expected a new folder; {folder} holds a training. "
                "Add --resume to go on with it, or choose another folder."
            )
        return folder, given
    if out is None:
        raise OptionError(
            "--resume: expected --out FOLDER, the folder of the training; got none. "
            "Write striate train --resume --out FOLDER."
        )
    folder = Path(out).expanduser()
    kept = _read_options(folder)
    return folder, {
        key: value if key in explicit or key not in kept else kept[key]
        for key, value in given.items()
    }


def default_folder(options: dict[str, Any]) -> Path:
    """`runs/MODEL-DATA`, from the last parts of their names."""
    from striate.cli.networks import is_pattern

    name = "pattern" if is_pattern(options["model"]) else options["model"]
    model = Path(name.rpartition(":")[0] or name).stem
    return Path("runs") / f"{model}-{Path(options['data']).name}"


def free_folder(wanted: Path) -> Path:
    """The folder, or with a number behind its name where something is in it already.

    >>> free_folder(Path("no-such-folder-yet")).name
    'no-such-folder-yet'
    """
    folder, count = wanted, 1
    while folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        count += 1
        folder = wanted.with_name(f"{wanted.name}-{count}")
    return folder


def _keep_options(folder: Path, options: dict[str, Any]) -> None:
    from striate.files import make_folder, write_atomically

    make_folder(folder)
    write_atomically(folder / _OPTIONS_FILE, (json.dumps(options, indent=2) + "\n").encode())


def _read_options(folder: Path) -> dict[str, Any]:
    """The options that a training was begun with; none where the file is not there."""
    from striate.errors import FileError
    from striate.files import read_bytes

    path = folder / _OPTIONS_FILE
    if not path.exists():
        if not folder.is_dir():
            raise FileError(f"--resume: expected the folder of a training; there is no {folder}.")
        return {}
    try:
        options = json.loads(read_bytes(path, limit=1 << 20))
    except ValueError as error:
        raise FileError(
            f"{path}: expected JSON; got {error}. Remove it and repeat the options."
        ) from None
    return options if isinstance(options, dict) else {}


def _optimizer(options: dict[str, Any]) -> Optimizer:
    from striate.errors import OptionError, suggest
    from striate.optim.by_name import OPTIMIZERS, SCHEDULES

    for key, known in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
        if options[key] not in known:
            raise OptionError(f"--{key}: unknown {options[key]!r}. {suggest(options[key], known)}")
    settings = {key: options[key] for key in ("lr", "momentum", "weight_decay")}
    chosen = {key: value for key, value in settings.items() if value is not None}
    try:
        return OPTIMIZERS[options["optimizer"]](**chosen)
    except TypeError:
        raise OptionError(
            f"--momentum: expected an optimiser that has one; got {options['optimizer']}. "
            "Leave it out, or use momentum, nesterov or rmsprop."
        ) from None


# ---- the training ----------------------------------------------------------------------------


def _network(options: dict[str, Any], training: Source) -> Module:
    from striate.cli.networks import new_network, notes_of
    from striate.settings import manual_seed

    manual_seed(options["seed"])
    channels, *size = training.shape
    net = new_network(options["model"], len(training.classes), channels, size)
    net.notes = notes_of(training)  # travel with the model file
    return net


def _announce(
    options: dict[str, Any], training: Source, test: Source, net: Module, folder: Path
) -> None:
    from striate.settings import get_num_threads

    shape = "×".join(map(str, training.shape))
    count = sum(p.numel() for p in net.parameters())
    threads = get_num_threads()
    typer.echo(
        f"data      {options['data']}: {len(training):,} training and {len(test):,} test images "
        f"{shape}, {len(training.classes)} classes"
    )
    typer.echo(f"network   {options['model']}: {count:,} parameters")
    typer.echo(
        f"training  {options['epochs']} epochs, batches of {options['batch_size']}, "
        f"{options['optimizer']}, {options['schedule']} rate, seed {options['seed']}, "
        f"{threads} thread{'s' if threads != 1 else ''}"
    )
    more = ("augment", "label_smoothing", "clip", "clip_value", "ema", "warmup")
    extra = [f"{name.replace('_', ' ')} {options[name]}" for name in more if options[name]]
    if extra:
        typer.echo(f"          {', '.join(extra)}")
    typer.echo(f"writes to {folder}\n")


def _fit(
    net: Module,
    training: Source,
    optimizer: Optimizer,
    options: dict[str, Any],
    folder: Path,
    resume: bool,
) -> Run:
    from striate.train import Interrupted, fit

    try:
        return fit(
            net,
            training,
            validation=options["validation"] or None,
            epochs=options["epochs"],
            batch_size=options["batch_size"],
            optimizer=optimizer,
            schedule=_schedule(options),
            label_smoothing=options["label_smoothing"],
            augment=options["augment"],
            clip_norm=options["clip"],
            clip_value=options["clip_value"],
            ema=options["ema"],
            seed=options["seed"],
            log=options["log"],
            save_steps=options["save_steps"],
            out=folder,
            resume=resume,
            early_stopping=options["early_stopping"],
            backend=options["backend"],
        )
    except Interrupted as stop:
        command = f"striate train --resume --out {shlex.quote(str(folder))}"
        raise Interruption(f"{stop}\nGo on with:  {command}") from None


def _conclude(net: Module, run: Run, test: Source, options: dict[str, Any], folder: Path) -> None:
    from striate.train import evaluate

    result = evaluate(net, test, backend=options["backend"])
    which = f"best epoch, {run.best_epoch}" if run.restored else f"epoch {len(run.history)}"
    ended = "" if run.stopped == "epochs" else f", ended by {run.stopped}"
    typer.echo(
        f"\ntest accuracy {100 * result.accuracy:.2f} % "
        f"({result.samples - len(result.mistakes):,} of {result.samples:,}), "
        f"loss {result.loss:.4f}   [{which}{ended}]"
    )
    path = shlex.quote(str(folder))
    typer.echo(f"written to {folder}: model.safetensors, best.safetensors, metrics.jsonl")
    typer.echo("\nNext:")
    typer.echo(f"  striate evaluate {path} --data {shlex.quote(options['data'])}")
    typer.echo(f"  striate summary {path}")


# ---- the learning rate -----------------------------------------------------------------------


def find_learning_rate(options: dict[str, Any], out: str | None) -> None:
    """Try rising learning rates with the options of a training; write lr.png and lr.json."""
    from striate import plot
    from striate.data.named import load
    from striate.files import make_folder
    from striate.train.lr_find import lr_find, save_json

    optimizer = _optimizer(options)
    _steps(options)
    training, _ = load(options["data"])
    found = lr_find(
        _network(options, training),
        training,
        batch_size=options["batch_size"],
        optimizer=optimizer,
        augment=options["augment"],
        seed=options["seed"],
        backend=options["backend"],
    )
    wanted = default_folder(options)
    folder = free_folder(wanted.with_name(f"{wanted.name}-lr")) if out is None else Path(out)
    make_folder(folder)
    save_json(found, str(folder / "lr.json"))
    title = f"Learning rates: {options['model']} on {Path(options['data']).name}"
    plot.save(
        plot.learning_rates(
            found.rates, found.losses, found.smoothed, title=title, suggestion=found.suggestion
        ),
        folder / "lr.png",
    )
    typer.echo(
        f"{len(found.rates)} steps from {found.rates[0]:.1e} to {found.rates[-1]:.1e}; lowest loss "
        f"{found.smoothed.min():.4f}"
    )
    typer.echo(f"suggestion  --lr {found.suggestion:.1e}")
    typer.echo(f"written to {folder}: lr.png, lr.json")
