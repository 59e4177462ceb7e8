"""The command line as a whole: help, versions, usage errors, exit codes, pipes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from striate.cli import failures, main, summary
from striate.version import __version__

COMMANDS = (
    *("demo", "train", "evaluate", "predict", "summary", "explain", "convert", "version", "cache"),
)


def test_no_arguments_give_the_help(cli):
    answer = cli()
    assert answer.code == 0
    assert "Usage: striate" in answer.out
    for command in COMMANDS:
        assert f"\n  {command}" in answer.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help(cli, command):
    answer = cli(command, "--help")
    assert answer.code == 0
    assert f"Usage: striate {command}" in answer.out


def test_the_options_of_train_are_those_that_are_promised(cli):
    text = cli("train", "-h").out
    for option in (
        "data model epochs batch-size optimizer lr momentum schedule weight-decay seed threads "
        "validation early-stopping out resume"
    ).split():
        assert f"--{option}" in text
    assert "[default: 64]" in text


def test_version(cli):
    assert cli("--version").out.startswith(f"striate {__version__}\n")
    assert "numpy" in cli("version").out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trane"], "no such command 'trane'. Did you mean 'train', 'tune'?"),
        (["train", "--epoch", "3"], "no such option: --epoch. Did you mean '--epochs'?"),
        (["evaluate", "m", "--bach-size", "3"], "Did you mean '--batch-size'?"),
        (["--versoin"], "Did you mean '--version'?"),
        (["train", "--epochs", "three"], "'--epochs'"),
        (["explain", "m", "i.png"], "Missing option '--layer'"),
        (["predict", "m"], "Missing argument 'IMAGE...'"),
        (["cache", "cleer"], "no such command 'cleer'. Did you mean 'clear'?"),
        (["predict", "m", "i.png", "--top", "0"], "'--top'"),
    ],
)
def test_wrong_usage_is_one_line(cli, arguments, message):
    answer = cli(*arguments)
    assert answer.code == 2
    assert message in answer.err
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1
    assert answer.out == ""


def test_a_usage_error_says_where_to_read_on(cli):
    assert "See `striate train --help`." in cli("train", "--epoch", 3).err


def test_debug_shows_the_traceback_in_any_place(cli):
    from striate.errors import ModelError

    with pytest.raises(ModelError, match="there is none"):
        cli("predict", "nothing.safetensors", "--debug", "i.png")
    with pytest.raises(ModelError, match="there is none"):
        cli("--debug", "predict", "nothing.safetensors", "i.png")


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (MemoryError("Unable to allocate 7 TiB"), 2, "error: not enough memory (Unable"),
        (PermissionError(13, "Permission denied", "/x"), 2, "error: /x: Permission denied."),
        (OSError(28, "No space left on device"), 2, "error: output: No space left on device."),
        (failures.Interruption("kept."), 130, "\nkept."),
        (BrokenPipeError(), 141, ""),
    ],
)
def test_failures_of_the_system(cli, monkeypatch, raised, code, message):
    def fail(*_):
        raise raised

    monkeypatch.setattr(summary, "shape_option", fail)
    monkeypatch.setattr(failures, "_silence_stdout", lambda: None)
    answer = cli("summary", "lenet5", "--input", "1,28,28")
    assert answer.code == code
    assert answer.err.startswith(message)
    assert "Traceback" not in answer.err


def test_ctrl_c_in_a_command_without_a_word_of_its_own(cli, monkeypatch):
    def press(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(summary, "shape_option", press)
    monkeypatch.setattr(failures, "_clear_handler", lambda: None)
    answer = cli("summary", "lenet5", "--input", "1,28,28")
    assert (answer.code, answer.err) == (130, "\ninterrupted.\n")


def test_main_exits_with_the_code():
    with pytest.raises(SystemExit, match="2"):
        main.main(["trane"])


def test_python_dash_m():
    command = [sys.executable, "-m", "striate", "--version"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found.stdout.startswith(f"striate {__version__}")


@pytest.mark.skipif(sys.platform == "win32", reason="a shell's pipe")
def test_a_closed_pipe_is_quiet():
    script = f"'{sys.executable}' -m striate train --help | true; echo ${{PIPESTATUS[0]}}"
    found = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert found.stderr == ""
    assert found.stdout.strip() in ("0", "141")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_behind_stdout():
    script = f"'{sys.executable}' -m striate summary lenet5 > /dev/full"
    found = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert found.returncode == 2
    assert "error: output: No space left on device" in found.stderr
    assert "Traceback" not in found.stderr


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from striate.cli.main import run; run(['train', '--help']); "
        "heavy = {'numpy', 'matplotlib', 'llvmlite', 'PIL', 'rich', 'safetensors'} "
        "& set(sys.modules); sys.exit(', '.join(heavy) or 0)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
