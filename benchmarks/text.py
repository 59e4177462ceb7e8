"""Results in words: times, quantities, names, and whether a goal is reached."""

from __future__ import annotations

import re
from collections.abc import Mapping

from benchmarks.problems import RACES
from benchmarks.result import ELSEWHERE, Result, Row

_NAMES = {
    "lenet5": "LeNet-5",
    "alexnet": "AlexNet",
    "vgg16": "VGG-16",
    "googlenet": "GoogLeNet",
    "resnet18": "ResNet-18",
    "resnet20": "ResNet-20 (32²)",
    "resnet50": "ResNet-50",
    "squeezenet1_1": "SqueezeNet 1.1",
    "mobilenet_v2": "MobileNet-v2",
    "cifar_vgg": "small VGG (32²)",
    "unet": "U-Net",
}


def names(network: str) -> str:
    """A network's name as people write it."""
    return _NAMES.get(network, network)


def time_text(seconds: float | None) -> str:
    """A time in a fitting unit.

    >>> time_text(0.00123), time_text(12.0), time_text(3.4e-5)
    ('1.23 ms', '12.0 s', '34.0 µs')
    """
    if seconds is None:
        return "–"
    if seconds < 0:
        return f"−{time_text(-seconds)}"
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size or unit == "µs":
            number = seconds / size
            return f"{number:.{2 if number < 10 else 1 if number < 100 else 0}f} {unit}"
    return "–"


def quantity(row: Row) -> str:
    """A row's median, with its unit."""
    if row.value is not None:
        digits = 0 if row.unit == "MB" else 2
        return f"{row.value:.{digits}f} {row.unit}"
    return time_text(row.seconds) if row.seconds is not None else "–"


def goal_text(row: Row) -> str:
    """What a row was to reach."""
    if row.goal is None:
        return "–"
    if row.value is not None:
        sign = "≥" if row.unit in ("%", "×") else "≤"
        return f"{sign} {row.goal:.4g} {row.unit}"
    return f"≤ {time_text(row.goal)}"


def reached_text(reached: bool | None) -> str:
    return {True: "yes", False: "**no**", None: "–"}[reached]


def threads_text(result: Result) -> str:
    p = result.problem
    if "threads" not in p.settings:
        return ""
    return f"{p.threads} thread" + ("s" if p.threads > 1 else "")


def _against(settings: Mapping[str, str]) -> str:
    return f", against our own {settings['against']}" if "against" in settings else ""


def title(result: Result) -> str:
    """A case in words."""
    p = result.problem
    threads, name, batch = threads_text(result), names(p.name), p.settings.get("batch")
    both = "training and inference" if p.settings.get("mode") != "inference" else "inference"
    step = "a training step" if p.settings.get("mode") == "training" else "inference"
    words = {
        "training": f"{name}, training step, batch {batch}, {threads}",
        "inference": f"{name}, inference, batch {batch}, {threads}",
        "latency": f"{name}, one image, {threads}",
        "layer": f"{p.name}, {p.settings.get('pass')}, n = {p.settings.get('n', '1')}, {threads}",
        "operation": f"{p.name}, forward and backward, {threads}{_against(p.settings)}",
        "filter": f"filter {p.name} on {p.settings.get('h')}² pixels, {threads}",
        "scaling": f"{name}, {step}, batch {batch}: two threads against one",
        "import": "`import striate`",
        "compile": f"machine code of {name}, {both}",
        "memory": f"memory of training {name}, batch {batch}",
        "whole": f"`striate {' '.join(p.command)}`",
    }[p.kind]
    system = result.extra.get(ELSEWHERE)
    return words if system is None else f"{words} ({short(system)})"


def short(system: str) -> str:
    """The instruction set of a machine's `system`, without lanes and operating system."""
    return re.split(r"[,(]", system)[0].strip()


def is_race(result: Result) -> bool:
    """Whether contenders are timed against each other."""
    return result.problem.kind in (*RACES, "layer", "filter", "operation")


def reached(result: Result) -> bool | None:
    """Whether a case's goal is reached; None where there is none, or nobody to compare with."""
    if not is_race(result):
        judged = [r.reached for r in result.rows if r.reached is not None]
        return all(judged) if judged else None
    share = result.problem.number("peak")
    if share is not None:
        return bool(result.extra["best_of_peak"] >= share)
    goal = result.problem.number("goal")
    return None if goal is None or result.ratio is None else result.ratio >= goal


def verdict(result: Result) -> str:
    """What came of a case, in a sentence without its end."""
    if not is_race(result):
        rows = [r for r in result.rows if r.goal is not None]
        return "; ".join(f"{r.name} {quantity(r)} (to reach: {goal_text(r)})" for r in rows)
    goal = result.problem.number("goal")
    if result.ratio is None or result.best_rival is None:
        return "no peer to compare with: " + ", ".join(result.absent or ["none was right"])
    text = f"{result.ratio:.2f}× the speed of {result.best_rival.name}"
    share = result.problem.number("peak")
    if share is not None:
        word = "reached" if reached(result) else "not reached"
        text += f"; best of all {result.extra['best_of_peak']:.0f} % of peak"
        text += f" (to reach: {share:g} %: {word})"
    if goal is not None:
        text += f" (to reach: {goal:g}×: {'reached' if reached(result) else 'not reached'})"
    if result.absent:
        text += f"; not here: {', '.join(result.absent)}"
    text += f"; peak {result.extra['peak_gflops']:.0f} GFLOP/s"
    if "copy_gbytes" in result.extra:
        text += f", copy {result.extra['copy_gbytes']:.0f} GB/s"
    return text
