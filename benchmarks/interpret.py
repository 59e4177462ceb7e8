"""`python -m benchmarks.interpret`: maps of what a network sees, beside plain passes and Captum.

ResNet-18 with random weights on one image of 224×224. A map from gradients is compared with one
forward and one backward pass of the same network, occlusion with the images a second that
inference brings in batches as large. Captum runs the same network in PyTorch, where both are
installed; contenders take turns.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

import striate as st
from striate import interpret
from striate.graph.statistics import buffers
from striate.interpret.target import look_at

SIDE, WINDOW, STRIDE, BATCH = 224, 56, 14, 32
FEATURES = "layer4.1.bn2"
Runs = dict[str, Callable[[], object]]


def ours(net: Any, x: Any) -> Runs:
    """A plain pass, and the maps."""
    probe, batch = look_at("benchmark", net, x)
    up = np.zeros((1, 1000), np.float32)
    up[0, 7] = 1
    running = buffers(probe.graph)
    weights = [node.name for node in probe.graph.parameters if node.name not in running]
    return {
        "forward": lambda: net(x),
        "forward and back to the image": lambda: probe.gradient(batch, probe.output, up),
        "forward and back to the weights": lambda: probe.start(batch, probe.output, weights).pull(
            {probe.output: up}
        ),
        "saliency": lambda: interpret.saliency(net, x, 7),
        "guided backprop": lambda: interpret.guided_backprop(net, x, 7),
        "Grad-CAM": lambda: interpret.grad_cam(net, x, 7, features=FEATURES),
        "integrated gradients, 50 steps": lambda: interpret.integrated_gradients(net, x, 7),
    }


def captums(net: Any, x: Any) -> Runs:
    """The same maps by Captum, {} where it is not installed."""
    try:
        import torch
        from captum import attr
    except ImportError:
        return {}
    module = torch_resnet(net)
    given = torch.from_numpy(x).requires_grad_()
    saliency = attr.Saliency(module)
    cam = attr.LayerGradCam(module, module.get_submodule(FEATURES))
    integrated = attr.IntegratedGradients(module)
    return {
        "saliency": lambda: saliency.attribute(given, target=7),
        "Grad-CAM": lambda: attr.LayerAttribution.interpolate(
            cam.attribute(given, target=7, relu_attributions=True), (SIDE, SIDE), "bilinear"
        ),
        "integrated gradients, 50 steps": lambda: integrated.attribute(
            given, target=7, internal_batch_size=BATCH
        ),
    }


def torch_resnet(net: Any) -> Any:
    """Our ResNet-18 as modules of torch, in which Captum finds layers by their hooks."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.bn1, self.bn2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
            self.relu, self.downsample = nn.ReLU(), nn.Sequential()
            if stride > 1:
                conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
                self.downsample = nn.Sequential(conv, nn.BatchNorm2d(outputs))

        def forward(self, x: Any) -> Any:
            y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
            return self.relu(y + self.downsample(x))

    class ResNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
            self.relu, self.maxpool = nn.ReLU(), nn.MaxPool2d(3, 2, 1)
            self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(512, 1000)
            for k, (inputs, outputs) in enumerate(((64, 64), (64, 128), (128, 256), (256, 512))):
                blocks = (Block(inputs, outputs, 1 + (k > 0)), Block(outputs, outputs, 1))
                self.add_module(f"layer{k + 1}", nn.Sequential(*blocks))

        def forward(self, x: Any) -> Any:
            x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
            for k in range(1, 5):
                x = self.get_submodule(f"layer{k}")(x)
            return self.fc(self.avgpool(x).flatten(1))

    module = ResNet()
    module.load_state_dict({k: torch.tensor(v) for k, v in net.state_dict().items()})
    return module.eval()


def occluding(net: Any, x: Any) -> tuple[Runs, int]:
    """Inference in batches, occlusion with batches as large; and how many images occlusion runs."""
    steps = -(-(SIDE - WINDOW) // STRIDE) + 1
    count = 1 + steps * steps
    pieces = -(-count // BATCH)
    batch = np.repeat(x, -(-count // pieces), axis=0)
    options: dict[str, Any] = {"window": WINDOW, "stride": STRIDE, "batch": BATCH}
    runs: Runs = {
        "inference in batches": lambda: [net(batch) for _ in range(pieces)],
        "occlusion": lambda: interpret.occlusion(net, x, 7, **options),
    }
    return runs, count


def captums_occlusion(net: Any, x: Any) -> Runs:
    """Captum's occlusion, in batches as large."""
    try:
        import torch
        from captum import attr
    except ImportError:
        return {}
    occlusion, given = attr.Occlusion(torch_resnet(net)), torch.from_numpy(x)

    def run() -> object:
        with torch.no_grad():
            return occlusion.attribute(
                given,
                sliding_window_shapes=(3, WINDOW, WINDOW),
                strides=(3, STRIDE, STRIDE),
                target=7,
                perturbations_per_eval=BATCH,
            )

    return {"Captum": run}


def measured(runs: Runs, rounds: int) -> dict[str, float]:
    """The median seconds of each, which take turns; the first round is left out."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            if turn:
                times[name].append(time.perf_counter() - began)
    return {name: statistics.median(each) for name, each in times.items()}


def main(arguments: list[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.interpret", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=0, help="by default all cores")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")  # Captum tells of each hook that it sets
    if options.threads:
        st.set_num_threads(options.threads)
    _same_threads()
    st.manual_seed(0)
    net = st.models.build("resnet18").eval()
    x = np.random.default_rng(0).normal(size=(1, 3, SIDE, SIDE)).astype(np.float32)
    found, theirs = ours(net, x), captums(net, x)
    long = [name for name in found if "steps" in name]
    for rounds, names in (
        (options.rounds, [name for name in found if name not in long]),
        (max(options.rounds // 5, 1), long),
    ):
        runs = {name: found[name] for name in names}
        runs |= {f"{name} (Captum)": theirs[name] for name in names if name in theirs}
        _show(measured(runs, rounds), "forward and back to the weights")
    runs, count = occluding(net, x)
    runs |= captums_occlusion(net, x)
    for name, seconds in measured(runs, max(options.rounds // 5, 1)).items():
        print(f"{name:44s} {count / seconds:9.1f} images/s")
    return 0


def _same_threads() -> None:
    """As many threads in torch as here."""
    try:
        import torch
    except ImportError:
        return
    torch.set_num_threads(st.get_num_threads())


def _show(seconds: dict[str, float], unit: str) -> None:
    """Each in milliseconds, and in passes where the unit is among them."""
    for name, value in seconds.items():
        share = f"{value / seconds[unit]:6.2f} of a pass" if unit in seconds else ""
        print(f"{name:44s} {1e3 * value:9.2f} ms  {share}".rstrip())


if __name__ == "__main__":
    raise SystemExit(main())
