"""Cases that need processes of their own: import, compilation, memory, and whole commands."""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.problems import Problem
from benchmarks.result import Result, Row
from striate.measure import peers

ROOT = Path(__file__).parents[1]


# What `python -m benchmarks` sets for itself, see there; processes measured here run without.
OWN_SETTINGS = {
    "MALLOC_MMAP_THRESHOLD_": "2000000000",
    "MALLOC_TRIM_THRESHOLD_": "4000000000",
    "MALLOC_TOP_PAD_": "67108864",
}


def _environment() -> dict[str, str]:
    """This process's, with Python's compiled modules kept on disk as an ordinary user has them."""
    left_out = {"PYTHONDONTWRITEBYTECODE", *OWN_SETTINGS}
    return {k: v for k, v in os.environ.items() if k not in left_out}


def _python(code: str, *arguments: str, cache: str | None = None) -> tuple[float, str]:
    """Run a program in a fresh process; its wall-clock time and what it printed."""
    environment = _environment()
    if cache is not None:
        environment["STRIATE_CACHE"] = cache
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"a measured process failed:\n{done.stderr}")
    return seconds, done.stdout


def run(problem: Problem, quick: bool) -> Result:
    """Measure one case."""
    measure = {"import": _import, "compile": _compile, "memory": _memory, "whole": _whole}
    return measure[problem.kind](problem, quick)


def _row(name: str, samples: list[float], goal: float | None = None, note: str = "") -> Row:
    median = statistics.median(samples)
    reached = None if goal is None else median <= goal
    return Row(
        name,
        seconds=median,
        fastest=min(samples),
        rounds=len(samples),
        goal=goal,
        reached=reached,
        note=note,
    )


# ---- import ----


_EVERYTHING = (
    "import striate as st; from striate import nn; "
    "nn.Sequential, st.data.load, st.optim.Adam, st.fit, st.save, st.load"
)


def _import(problem: Problem, quick: bool) -> Result:
    """Fresh processes in turn: bare Python, with NumPy, with striate.

    `import striate` looks names up when they are first used; so the goals are held against a
    program that uses all the names of the README's example.
    """
    programs = {
        "bare Python": "pass",
        "import numpy": "import numpy",
        "import striate": "import striate",
        "the example's names": _EVERYTHING,
    }
    samples: dict[str, list[float]] = {name: [] for name in programs}
    for turn in range(4 if quick else 31):
        for name, code in programs.items():
            seconds, _ = _python(code)
            if turn:  # the first turn reads the files from disk
                samples[name].append(seconds)
    ours = samples["the example's names"]
    above_bare = [a - b for a, b in zip(ours, samples["bare Python"], strict=True)]
    above_numpy = [a - b for a, b in zip(ours, samples["import numpy"], strict=True)]
    rows = [_row(name, found) for name, found in samples.items()]
    rows.append(
        _row("above bare Python", above_bare, problem.number("goal"), "all names of the example")
    )
    rows.append(
        _row("above NumPy", above_numpy, problem.number("above_numpy"), "all names of the example")
    )
    return Result(problem, rows)


# ---- compilation ----

_COMPILE = """
import json, sys, time
import numpy as np
import striate as st
from striate.program import build_training
name, batch, mode = sys.argv[1], int(sys.argv[2]), sys.argv[3]
net = st.models.build(name).eval()
shape = st.models.usual_input(name)
images = np.zeros((batch, *shape), np.float32)
start = time.perf_counter()
if mode == "both":
    graph = net.to_graph(shape)
    build_training(graph, loss="cross_entropy", rule=st.optim.SGD(0.01, momentum=0.9).rule())
net(images)
inferred = time.perf_counter()
net(images[:1])
print(json.dumps([inferred - start, time.perf_counter() - inferred]))
"""


def _compile(problem: Problem, quick: bool) -> Result:
    """Training and inference programs, ready to run: from an empty cache, then from a full one.

    With mode=inference only that, its first run included.
    """
    mode = problem.settings.get("mode", "both")
    empty, full, single_empty, single_full = [], [], [], []
    for _ in range(1 if quick else 5):
        with tempfile.TemporaryDirectory() as folder:
            arguments = (problem.name, str(problem.batch), mode)
            both, single = json.loads(_python(_COMPILE, *arguments, cache=folder)[1])
            empty.append(both)
            single_empty.append(single)
            for _again in range(1 if quick else 5):
                both, single = json.loads(_python(_COMPILE, *arguments, cache=folder)[1])
                full.append(both)
                single_full.append(single)
    rows = [
        _row("empty cache", empty, problem.number("goal")),
        _row("from disk", full, problem.number("cached")),
    ]
    if problem.batch > 1:
        rows += [
            _row("single images too, empty cache", single_empty, note="in addition"),
            _row("single images too, from disk", single_full, note="in addition"),
        ]
    return Result(problem, rows)


# ---- memory ----

_MEMORY = """
import json, sys
import numpy as np
import striate as st
name, data, batch = sys.argv[1], sys.argv[2], int(sys.argv[3])
def status(key):
    with open("/proc/self/status") as file:
        return next(int(l.split()[1]) * 1024 for l in file if l.startswith(key + ":"))
if data == "made":
    images = np.zeros((60000, 1, 28, 28), np.float32)
    images += np.random.default_rng(0).random((28, 28), np.float32)
    train = images, np.arange(60000) % 10
else:
    part, test = st.data.load(data)
    train = part.images, part.labels
    del test
loaded = status("VmRSS")
size = sum(a.nbytes for a in train)
net = st.models.build(name)
st.fit(net, train, epochs=1, batch_size=batch, optimizer=st.optim.SGD(0.01, momentum=0.9),
       progress=False)
print(json.dumps({"size": size, "loaded": loaded, "peak": status("VmHWM"), "end": status("VmRSS")}))
"""


def _memory(problem: Problem, quick: bool) -> Result:
    """The most memory that a training process ever held, less the arrays that it trains on."""
    if not Path("/proc/self/status").exists():
        return Result(problem, [Row("peak", note="not measured: needs Linux's /proc")])
    if "share" in problem.settings:
        return _memory_share(problem, quick)
    data = problem.settings["data"]
    made = not _has(data)
    arguments = (problem.name, "made" if made else data, problem.settings["batch"])
    _python(_MEMORY, *arguments)  # compiles
    found = [json.loads(_python(_MEMORY, *arguments)[1]) for _ in range(1 if quick else 3)]
    above = statistics.median((f["peak"] - f["size"]) / 1e6 for f in found)
    goal = problem.number("goal")
    note = f"above {found[0]['size'] / 1e6:.0f} MB of " + ("made-up images" if made else data)
    row = Row(
        "peak",
        value=above,
        unit="MB",
        goal=goal,
        reached=None if goal is None else above <= goal,
        rounds=len(found),
        note=f"{note}; Python, NumPy and loading the data included",
    )
    return Result(problem, [row])


_STEPS = """
import json, sys
import numpy as np
from benchmarks import inside
from striate.measure import peers
who, name, batch, steps = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
_, graph, weights = inside.network(name, training=True)
images, labels = inside.sample_images(graph, batch * steps)
if who == "striate":
    made = inside.OwnTraining(graph, weights, images, labels, batch)
else:
    made = peers.TorchTraining(graph, weights, images, labels, batch, who.endswith("last"))
del weights
made.run()
with open("/proc/self/status") as file:
    print(json.dumps(next(int(l.split()[1]) * 1024 for l in file if l.startswith("VmHWM:"))))
"""


def _memory_share(problem: Problem, quick: bool) -> Result:
    """The most memory of processes that train some steps: ours, and torch's as a yardstick."""
    names = ["striate"]
    if "torch" in peers.versions():
        names += ["torch", "torch channels_last"]
    peaks = {}
    for name in names:
        arguments = (name, problem.name, problem.settings["batch"], "2" if quick else "5")
        runs = [float(json.loads(_python(_STEPS, *arguments)[1])) for _ in range(1 if quick else 3)]
        peaks[name] = statistics.median(runs) / 1e6
    share = problem.number("share")
    others = [peak for name, peak in peaks.items() if name != "striate"]
    goal = None if share is None or not others else share * min(others)
    rows = [Row(name, value=peak, unit="MB") for name, peak in peaks.items()]
    rows[0] = replace(
        rows[0],
        goal=goal,
        reached=None if goal is None else peaks["striate"] <= goal,
        note=f"{peaks['striate'] / min(others):.2f} of torch's" if others else "",
    )
    return Result(problem, rows, [] if others else ["torch"])


def _has(data: str) -> bool:
    """Whether a data set is on this machine."""
    folder = os.environ.get("STRIATE_DATA")
    return data == "digits" or bool(folder and (Path(folder) / data).is_dir())


# ---- whole commands ----

_ACCURACY = re.compile(r"^test accuracy (\d+(?:\.\d+)?) ?%")


def _whole(problem: Problem, quick: bool) -> Result:
    """A `striate` command from the start of its process until it has printed the accuracy."""
    name = problem.command[problem.command.index("--data") + 1]
    if not _has(name):
        return Result(problem, [Row("test accuracy", note=f"not measured: no {name} here")])
    seconds, accuracies = [], []
    command = list(problem.command)
    if quick:
        command[command.index("--epochs") + 1] = "1"
    runs = 1 if quick else int(problem.settings.get("runs", "1"))
    _striate(["train", "--data", "digits", "--epochs", "1"], 0)  # compiles, where it was not
    for seed in range(runs):
        took, accuracy = _striate(command, seed)
        seconds.append(took)
        accuracies.append(accuracy)
    goal = None if quick else problem.number("goal")  # quick runs are cut short
    median = statistics.median(accuracies)
    shown = ", ".join(f"{a:.2f}" for a in accuracies)
    rows = [
        Row(
            "test accuracy",
            value=median,
            unit="%",
            goal=goal,
            reached=None if goal is None else median >= goal,
            rounds=runs,
            note=f"seeds 0 … {runs - 1}: {shown}" if runs > 1 else "seed 0",
        ),
        _row("start to accuracy", seconds, None if quick else problem.number("seconds")),
    ]
    return Result(problem, rows)


def _striate(command: list[str], seed: int) -> tuple[float, float]:
    """Run `striate`; the seconds until the line with the test accuracy came, and that accuracy."""
    code = "from striate.cli.main import main; main()"
    with tempfile.TemporaryDirectory() as folder:
        words = [*command, "--seed", str(seed), "--out", f"{folder}/out"]
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-c", code, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**_environment(), "PYTHONUNBUFFERED": "1"},
        )
        seconds, accuracy = 0.0, None
        with process:
            for line in process.stdout or ():
                found = _ACCURACY.search(line)
                if found:
                    seconds, accuracy = time.perf_counter() - start, float(found[1])
            error = process.stderr.read() if process.stderr else ""
    if process.returncode or accuracy is None:
        raise RuntimeError(f"striate {' '.join(words)} failed or gave no accuracy:\n{error}")
    return seconds, accuracy


def machine() -> Mapping[str, Any]:
    """What this was measured on."""
    import platform
    from importlib import metadata

    from striate.codegen.targets import current_target
    from striate.measure.machine import memory_speed
    from striate.settings import available_cores

    cpu = platform.processor() or platform.machine()
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        cpu = re.search(r"model name\s*: (.*)", text)[1]  # type: ignore[index]
    except (OSError, TypeError):
        pass
    return {
        "cpu": cpu,
        "cores": available_cores(),
        "target": current_target().name,
        "system": f"{current_target().name} ({current_target().width} lanes), {platform.system()}",
        "python": platform.python_version(),
        "versions": {
            **{n: metadata.version(n) for n in ("striate", "numpy", "llvmlite")},
            **peers.versions(),
        },
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "memory_gbytes": memory_speed(1),
        "load_at_start": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }
