"""Accuracy over time of one training, by striate and by torch: same net, batches and rates.

    python -m benchmarks.curves striate --data cifar10 --epochs 16 --out curve-striate.jsonl
    python -m benchmarks.curves torch   --data cifar10 --epochs 16 --out curve-torch.jsonl
    python -m benchmarks.curves draw curve-striate.jsonl curve-torch.jsonl --out curves.png

Both begin with the same weights and get the same augmented batches from striate's loader; the file
of the network is one that runs with either library's `nn`. The clock stands still while the test
pictures are judged.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import striate as st
from striate.data import Loader, Source
from striate.optim import OneCycle
from striate.train.order import epoch_order

_JUDGED = 500  # pictures at a time
Epoch = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description="Accuracy over time, by striate or by torch.")
    parser.add_argument("engine", choices=("striate", "torch", "draw"))
    parser.add_argument("files", nargs="*", help="with draw: the files of the curves")
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--net", default="examples/recipes/cifar.py")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--augment", default="flip,crop4,cutout8")
    parser.add_argument("--images", type=int, help="only so many, to try it")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", required=True)
    given = parser.parse_args()
    if given.engine == "draw":
        draw(given.files, given.out)
        return
    st.set_num_threads(given.threads)
    train, test = st.data.load(given.data)
    if given.images:
        train = train.subset(np.arange(0, len(train), max(1, len(train) // given.images)))
        test = test.subset(np.arange(0, len(test), max(1, len(test) // given.images)))
    course = by_striate if given.engine == "striate" else by_torch
    with open(given.out, "w", encoding="utf-8") as file:
        for record in course(given, train, test):
            print(given.engine, json.dumps(record), flush=True)
            file.write(json.dumps(record) + "\n")
            file.flush()


def network(path: str, library: str) -> Any:
    """The network of a file, with the layers of "striate" or of "torch"."""
    source = (
        Path(path).read_text(encoding="utf-8").replace("from striate import", "from LIB import")
    )
    names: dict[str, Any] = {"__name__": "network"}
    exec(compile(source.replace("LIB", library), path, "exec"), names)
    st.manual_seed(0)
    return names["Net"]()


def by_striate(given: argparse.Namespace, train: Source, test: Source) -> Iterator[Epoch]:
    """One `fit`; the records come at its end."""
    run = st.fit(
        network(given.net, "striate"),
        train,
        validation=test,
        epochs=given.epochs,
        batch_size=given.batch_size,
        optimizer=st.optim.SGD(given.lr, momentum=0.9, nesterov=True, weight_decay=5e-4),
        schedule=OneCycle(),
        label_smoothing=0.1,
        augment=given.augment,
    )
    seconds = 0.0
    for record in run.history:
        seconds += len(train) / record["images_per_second"]
        accuracy = record["validation_accuracy"]
        yield {"seconds": seconds, "loss": record["loss"], "accuracy": accuracy}


def by_torch(given: argparse.Namespace, train: Source, test: Source) -> Iterator[Epoch]:
    """The same loop in torch, with the same weights, batches and rates."""
    import torch

    torch.set_num_threads(given.threads)
    net = network(given.net, "torch")
    start = network(given.net, "striate").state_dict()
    net.load_state_dict({k: torch.tensor(np.array(v)) for k, v in start.items()})
    net = net.to(memory_format=torch.channels_last)  # faster on CPUs
    optimizer = torch.optim.SGD(
        net.parameters(), lr=given.lr, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    criterion = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
    steps = -(-len(train) // given.batch_size)
    seconds, step = 0.0, 0
    for epoch in range(1, given.epochs + 1):
        began, total = time.perf_counter(), 0.0
        order = epoch_order(0, epoch, len(train))
        net.train()
        with Loader(
            train, order, given.batch_size, augment=given.augment, seed=0, epoch=epoch
        ) as loader:
            for images, labels in loader:
                rate = OneCycle().at(given.lr, step, given.epochs * steps, steps)
                optimizer.param_groups[0]["lr"] = rate
                optimizer.zero_grad()
                x = torch.from_numpy(images).contiguous(memory_format=torch.channels_last)
                loss = criterion(net(x), torch.from_numpy(labels))
                loss.backward()
                optimizer.step()
                total += loss.item() * len(images)
                step += 1
        seconds += time.perf_counter() - began
        accuracy = _accuracy(net, test)
        yield {"seconds": seconds, "loss": total / len(train), "accuracy": accuracy}


def _accuracy(net: Any, test: Source) -> float:
    import torch

    net.eval()
    right = 0
    with torch.no_grad():
        for first in range(0, len(test), _JUDGED):
            images, labels = test.batch(np.arange(first, min(first + _JUDGED, len(test))))
            right += int((net(torch.from_numpy(images)).argmax(1).numpy() == labels).sum())
    return right / len(test)


def draw(files: list[str], out: str) -> None:
    """The curves of some files, named by what stands behind the last hyphen of their names."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
    for name, colour in zip(files, ("#2b6cb0", "#c05621", "#2f855a"), strict=False):
        lines = Path(name).read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines]
        minutes = [record["seconds"] / 60 for record in records]
        shares = [100 * record["accuracy"] for record in records]
        label = f"{Path(name).stem.rpartition('-')[2]}: {shares[-1]:.2f} % in {minutes[-1]:.0f} min"
        axes.plot(minutes, shares, color=colour, marker="o", markersize=3, label=label)
    axes.set_xlabel("minutes of training")
    axes.set_ylabel("test accuracy, %")
    axes.grid(color="#e2e8f0")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main()
