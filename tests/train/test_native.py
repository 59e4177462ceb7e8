"""The same promises on the native program: equal bits, exact resume, Ctrl-C in a long epoch."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.train.checkpoint import load_checkpoint
from striate.train.run import Run

Fit = Callable[..., tuple[nn.Module, Run]]


def test_native_learns_what_the_reference_learns(fit_tiny: Fit, tiny: SimpleNamespace) -> None:
    nets = [fit_tiny(net=tiny.make_net(0.0), backend=b)[0] for b in ("native", "reference")]
    for ours, theirs in zip(*(net.parameters() for net in nets), strict=True):
        np.testing.assert_allclose(ours.data, theirs.data, rtol=1e-3, atol=1e-4)


def test_resumed_is_uninterrupted_byte_for_byte(
    fit_tiny: Fit, tiny: SimpleNamespace, tmp_path: Path
) -> None:
    given = {"epochs": 4, "backend": "native", "validation": 0.2, "schedule": "cosine"}
    whole, _ = fit_tiny(**given)
    fit_tiny(out=tmp_path, callbacks=[lambda record, net: record["epoch"] == 2], **given)
    net, _ = fit_tiny(out=tmp_path, resume=True, **given)
    assert tiny.weights(net) == tiny.weights(whole)


CHILD = """
import sys
import numpy as np
import striate as st
from striate import nn

st.manual_seed(5)
net = nn.Sequential(nn.Flatten(), nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 3))
labels = np.tile(np.arange(3), 40_000)
images = np.random.default_rng(1).normal(size=(len(labels), 1, 8, 8)).astype(np.float32)
epochs = int(sys.argv[2])
try:
    st.fit(net, (images, labels), epochs=epochs, batch_size=8, out=sys.argv[1], optimizer="sgd",
           resume="resume" in sys.argv, callbacks=[lambda record, net: print("epoch", flush=True)],
           progress=False)
except KeyboardInterrupt as error:
    print(type(error).__name__, error, flush=True)
    sys.exit(130)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT, as POSIX has it")
def test_ctrl_c_stops_a_long_epoch_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CHILD, str(tmp_path), "1000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "epoch\n"
        child.send_signal(signal.SIGINT)
        output, _ = child.communicate(timeout=20)
    assert child.returncode == 130, output
    kept = load_checkpoint(tmp_path / "checkpoint.safetensors")
    assert f"epoch {len(kept.history)} is kept" in output
    model = st.load(tmp_path / "model.safetensors").state_dict()
    assert {n: a.tobytes() for n, a in model.items()} == {
        n: a.tobytes() for n, a in kept.parameters.items()
    }
