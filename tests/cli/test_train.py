"""`striate train`: what it writes and says, resuming, Ctrl-C, kill, a full disk."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import striate as st
from striate.cli.train import default_folder, free_folder
from striate.formats.safetensors_file import load_tensors


def test_it_writes_a_model_that_loads_and_says_where(cli, data, net, tmp_path):
    answer = cli("train", "--data", data, "--model", net, "--epochs", 2, "--seed", 3)
    assert answer.code == 0, answer.err
    assert "60 training and 20 test images 1×8×8, 10 classes" in answer.out
    assert "epoch 2/2: loss" in answer.out
    assert "test accuracy" in answer.out
    folder = Path("runs/net-tiny")
    assert str(folder) in answer.out
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in metrics] == [1, 2]
    loaded = st.load(folder / "model.safetensors")
    assert loaded.notes["classes"] == list("0123456789")
    assert loaded.notes["background"] == "dark"


def test_a_second_training_gets_a_folder_of_its_own(cli, data, net):
    for name in ("runs/net-tiny", "runs/net-tiny-2"):
        answer = cli("train", "--data", data, "--model", net, "--epochs", 1)
        assert f"writes to {name}\n" in answer.out


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw"])
def test_every_optimizer_and_schedule(cli, data, net, optimizer):
    schedules = {"sgd": "step", "momentum": "cosine", "adam": "one-cycle"}
    answer = cli(
        "train", "--data", data, "--model", net, "--epochs", 1, "--optimizer", optimizer,
        "--lr", 0.01, "--weight-decay", 0.001, "--schedule", schedules.get(optimizer, "constant"),
        "--batch-size", 16, "--threads", 1,
    )  # fmt: skip
    assert answer.code == 0, answer.err


def test_momentum_is_taken_over(cli, data, net):
    arguments = ("train", "--data", data, "--model", net, "--epochs", 1, "--optimizer")
    assert cli(*arguments, "sgd", "--momentum", 0.5, "--out", "a").code == 0
    settings = json.loads(Path("a/settings.json").read_text())
    assert settings["optimizer"]["momentum"] == 0.5
    answer = cli(*arguments, "adam", "--momentum", 0.5)
    assert answer.code == 2
    assert "--momentum: expected an optimiser that has one; got adam" in answer.err


def test_early_stopping_restores_the_best(cli, data, net):
    answer = cli(
        "train", "--data", data, "--model", net, "--epochs", 30, "--validation", 0.34,
        "--early-stopping", 1, "--lr", 0.5, "--out", "run",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert "[best epoch, " in answer.out
    assert "ended by early stopping" in answer.out


def test_resume_gives_the_same_bits_and_keeps_the_options(cli, data, net):
    common = ("--data", data, "--model", net, "--lr", 0.02, "--seed", 7, "--batch-size", 8)
    assert cli("train", *common, "--epochs", 4, "--out", "whole").code == 0
    assert cli("train", *common, "--epochs", 2, "--out", "parts").code == 0
    answer = cli("train", "--resume", "--epochs", 4, "--out", "parts")
    assert answer.code == 0, answer.err
    assert "epoch 3/4" in answer.out
    assert "epoch 2/4" not in answer.out
    assert _bytes("whole") == _bytes("parts")


def test_resume_with_another_setting_is_refused(cli, data, net, model):
    before = _bytes(model)
    answer = cli("train", "--resume", "--out", model, "--epochs", 3, "--seed", 9)
    assert answer.code == 2
    assert "seed 9 instead of 0" in answer.err
    assert _bytes(model) == before


def _bytes(folder: str | Path) -> bytes:
    tensors, _ = load_tensors(Path(folder) / "model.safetensors")
    return b"".join(tensors[name].tobytes() for name in sorted(tensors))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "minst"], "Did you mean 'mnist'?"),
        (["--model", "lenet"], "Did you mean 'lenet5'?"),
        (["--model", "gone.py:Net"], "gone.py: expected a Python file; there is none."),
        (["--optimizer", "adm"], "--optimizer: unknown 'adm'. Did you mean 'adam'?"),
        (["--schedule", "cosin"], "--schedule: unknown 'cosin'. Did you mean 'cosine'?"),
        (["--epochs", "0"], "epochs=0"),
        (["--batch-size", "0"], "batch_size=0"),
        (["--lr", "-1"], "lr=-1"),
        (["--lr", "nan"], "lr=nan"),
        (["--threads", "0"], "number of threads from 1 to"),
        (["--seed", "-1"], "seed"),
        (["--validation", "1.5"], "1.5"),
        (["--early-stopping", "2"], "Add --validation 0.1"),
        (["--resume"], "--resume: expected --out FOLDER"),
        (["--resume", "--out", "nowhere"], "there is no nowhere"),
        (["--augment", "flop"], "Did you mean 'flip'?"),
        (["--ema", "1"], "below 1; got decay=1.0"),
        (["--clip", "0"], "above 0; got max_norm=0"),
        (["--clip-value", "-1"], "got max_value=-1.0"),
        (["--label-smoothing", "2"], "label_smoothing=2.0"),
        (["--warmup", "-1"], "got epochs=-1.0"),
        (["--save-steps", "0"], "save_steps=0"),
        (["mnist", "--data", "digits"], "expected the data once; got mnist and --data digits"),
        (["--find-lr", "--augment", "mixup"], "mixes no images"),
        (["--backend", "natve"], "Did you mean 'native'?"),
    ],
)
def test_wrong_options_are_one_sentence(cli, arguments, message):
    answer = cli("train", *arguments)
    assert answer.code == 2
    assert message in answer.err
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1
    assert not Path("runs").exists() or not any(Path("runs").rglob("*.safetensors"))


def test_a_training_is_not_overwritten(cli, data, net, model):
    answer = cli("train", "--data", data, "--model", net, "--out", model)
    assert answer.code == 2
    assert "holds a training. Add --resume" in answer.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class Net(\n", "net.py: line 1: "),
        ("import striate\nx = 1 / 0\n", "net.py: line 2: ZeroDivisionError: division by zero."),
        ("from striate import nn\nclass Nett(nn.Module): pass\n", "Did you mean 'Nett'?"),
        (
            "from striate import nn\nclass Net(nn.Module):\n  def __init__(self, k): pass\n",
            "TypeErr",
        ),
        ("Net = 3\n", "expected an nn.Module, or a function that makes one; got int"),
    ],
)
def test_a_faulty_network_file(cli, data, text, message):
    Path("net.py").write_text(text)
    answer = cli("train", "--data", data, "--model", "net.py:Net")
    assert answer.code == 2
    assert message in answer.err
    assert "Traceback" not in answer.err


def test_the_only_network_of_a_file_needs_no_name(cli, data, net):
    file = net.rpartition(":")[0]
    assert cli("train", "--data", data, "--model", file, "--epochs", 1).code == 0
    Path(file).write_text(Path(file).read_text() + "\nclass Other(Net):\n    pass\n")
    assert "expected one network; got 2: Net, Other" in cli("train", "--model", file).err


def test_images_that_do_not_fit_show_the_arithmetic(cli, data):
    Path("net.py").write_text(
        "from striate import nn\n\ndef net():\n    return nn.Sequential(nn.Conv2d(1, 2, 9), "
        "nn.Flatten(), nn.Linear(2, 10))\n"
    )
    answer = cli("train", "--data", data, "--model", "net.py:net")
    assert answer.code == 2
    assert "⌊(8 + 2·0 − 1·(9−1) − 1)/1⌋ + 1 = 0" in answer.err


def test_labels_out_of_range(cli, data, net):
    labels = data / "train-labels-idx1-ubyte"
    content = bytearray(labels.read_bytes())
    content[-1] = 77
    labels.write_bytes(content)
    answer = cli("train", "--data", data, "--model", net)
    assert answer.code == 2
    assert "77" in answer.err
    assert not Path("runs").exists()


def test_a_truncated_idx_file(cli, data, net):
    images = data / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-5])
    answer = cli("train", "--data", data, "--model", net)
    assert answer.code == 2
    assert "train-images-idx3-ubyte" in answer.err


def test_a_missing_and_an_unreadable_file(cli, data, net):
    labels = data / "t10k-labels-idx1-ubyte"
    labels.unlink()
    assert "t10k-labels-idx1-ubyte" in cli("train", "--data", data, "--model", net).err
    labels.mkdir()
    answer = cli("train", "--data", data, "--model", net)
    assert answer.code == 2
    assert "Traceback" not in answer.err


def test_a_full_disk_keeps_the_earlier_checkpoint(cli, model, monkeypatch):
    before = _bytes(model)

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("striate.files.os.fsync", full)
    answer = cli("train", "--resume", "--epochs", 3, "--out", model)
    assert answer.code == 2
    assert "the disk is full" in answer.err
    assert _bytes(model) == before
    assert not list(model.glob(".striate-*"))


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of file sizes")
def test_a_limit_of_file_sizes(start, data, net, tmp_path):
    import resource

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    process = start(
        "train", "--data", data, "--model", net, "--out", tmp_path / "run", preexec_fn=limit
    )
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "ulimit -f" in err
    assert not list((tmp_path / "run").glob("*.safetensors"))


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_and_killed_trainings_go_on_with_the_same_bits(cli, start, data, net, number):
    common = ("train", "--data", data, "--model", net, "--epochs", 40, "--batch-size", 16)
    process = start(*common, "--out", "stopped")
    lines = []
    while not any(line.startswith("epoch 3/") for line in lines):
        lines.append(process.stdout.readline())
        assert lines[-1], process.stderr.read()
    time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert "Traceback" not in err
        assert "interrupted in epoch" in err
        assert "striate train --resume --out stopped" in err
    done = len(Path("stopped/metrics.jsonl").read_text().splitlines())
    assert 3 <= done < 40
    again = cli("train", "--resume", "--out", "stopped", "--epochs", 40)
    assert again.code == 0, again.err
    assert cli(*common, "--out", "whole").code == 0
    assert _bytes("stopped") == _bytes("whole")
    assert not list(Path("stopped").glob(".striate-*"))


def test_a_damaged_checkpoint(cli, model):
    path = model / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    answer = cli("train", "--resume", "--out", model, "--epochs", 3)
    assert answer.code == 2
    assert "checkpoint.safetensors" in answer.err


def test_a_loss_that_explodes(cli, data, net):
    answer = cli(
        "train", "--data", data, "--model", net, "--optimizer", "sgd", "--lr", 1e30, "--epochs", 3
    )
    assert answer.code == 2
    assert "finite" in answer.err
    assert "learning rate" in answer.err


def test_folders(tmp_path):
    assert default_folder({"model": "a/net.py:Net", "data": "x/idx"}) == Path("runs/net-idx")
    wanted = tmp_path / "run"
    assert free_folder(wanted) == wanted
    wanted.mkdir()
    assert free_folder(wanted) == wanted  # empty
    (wanted / "mine.txt").write_text("mine")
    assert free_folder(wanted) == tmp_path / "run-2"


def test_the_seed_makes_the_weights(cli, data, net):
    for out, seed in (("a", 1), ("b", 1), ("c", 2)):
        arguments = ("--data", data, "--model", net, "--epochs", 1, "--seed", seed, "--out", out)
        assert cli("train", *arguments).code == 0
    assert _bytes("a") == _bytes("b")
    assert _bytes("a") != _bytes("c")
    assert np.isfinite(np.frombuffer(_bytes("a"), np.float32)).all()


def test_a_pattern_is_trained(cli, data):
    answer = cli("train", "--model", "conv3x4-relu-pool-softmax", "--data", data, "--epochs", 1)
    assert answer.code == 0, answer.err
    assert "network   conv3x4-relu-pool-softmax: 690 parameters" in answer.out
    assert "writes to runs/pattern-" in answer.out


def test_what_trains_well(cli, data, net):
    options = ("--augment", "flip,crop1", "--ema", 0.9, "--clip", 1, "--clip-value", 0.5)
    options += ("--label-smoothing", 0.1, "--warmup", 0.5, "--schedule", "plateau")
    more = ("--log", "log", "--save-steps", 2, "--epochs", 2, "--out", "run")
    answer = cli("train", data, "--net", net, *options, *more)
    assert answer.code == 0, answer.err
    assert (
        "augment flip,crop1, label smoothing 0.1, clip 1.0, clip value 0.5, ema 0.9" in answer.out
    )
    assert ", loader " in answer.out
    assert len(Path("log/log.jsonl").read_text().splitlines()) == 2
    assert len(list(Path("log").glob("events.out.tfevents.*"))) == 1
    assert json.loads(Path("run/train.json").read_text())["augment"] == "flip,crop1"
    again = cli("train", "--resume", "--out", "run", "--epochs", 3)
    assert again.code == 0, again.err
    assert "epoch 3/3" in again.out
    assert cli("train", data, "--net", net, *options, "--epochs", 3, "--out", "whole").code == 0
    assert _bytes("run") == _bytes("whole")


def test_find_lr_draws_and_suggests(cli, data, net):
    answer = cli("train", data, "--net", net, "--find-lr", "--batch-size", 8, "--optimizer", "sgd")
    assert answer.code == 0, answer.err
    folder = Path("runs/net-tiny-lr")
    assert (folder / "lr.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads((folder / "lr.json").read_text())
    assert f"suggestion  --lr {found['suggestion']:.1e}" in answer.out
    assert len(found["rates"]) == len(found["losses"]) >= 10
    assert not list(Path("runs").rglob("*.safetensors"))
