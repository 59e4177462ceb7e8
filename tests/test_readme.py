"""The README is true: its example is the file, its commands run, its table has a place."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CI = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
COMMANDS = [
    line
    for language, body in BLOCK.findall(README)
    if language == "sh"
    for line in body.splitlines()
]
INSTALLING = [line for line in COMMANDS if line.startswith("pip install")]
OTHERS = [line for line in COMMANDS if line not in INSTALLING]


def striate(line: str, folder: Path) -> str:
    """Run a `striate …` line as written; returns what it printed."""
    program, *arguments = shlex.split(line, comments=True)
    assert program == "striate", f"no way to run: {line}"
    code = f"from striate.cli.main import main; main({arguments!r})"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"{line}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the demo ran, by the command of the README."""
    folder = tmp_path_factory.mktemp("readme")
    assert INSTALLING[0].endswith("&& striate demo")
    (folder / "demo.txt").write_text(striate("striate demo", folder), encoding="utf-8")
    return folder


def test_the_examples_are_the_files() -> None:
    shown = [body for language, body in BLOCK.findall(README) if language == "python"]
    for body, name in zip(shown, ("quickstart.py", "classic_network.py"), strict=True):
        assert body == (ROOT / "examples" / name).read_text(encoding="utf-8")
        assert len(body.splitlines()) <= 20


@pytest.mark.parametrize("line", INSTALLING)
def test_installing_is_what_ci_does(line: str) -> None:
    install, _, then = line.partition(" && ")
    assert f"python -m {install.replace('pip install', 'pip install --quiet')}" in CI
    assert then in CI


def test_the_demo_recognises_the_digits(demo: Path) -> None:
    shown = (demo / "demo.txt").read_text(encoding="utf-8")
    found = re.search(r"(\d+\.\d+) % right", shown)
    assert found and float(found[1]) >= 97.5
    made = {p.name for p in (demo / "striate-demo").iterdir()}
    figures = {"filters.png", "feature_maps.png", "confusion.png", "mistakes.png"}
    assert figures | {"model.safetensors", "metrics.jsonl"} <= made


def test_the_demo_prints_commands_that_work(demo: Path) -> None:
    shown = (demo / "demo.txt").read_text(encoding="utf-8")
    lines = [line.strip() for line in shown.splitlines() if line.startswith("  striate ")]
    assert len(lines) >= 4
    for line in lines:
        if has_data(line):
            striate(line, demo)


def test_commands_run_as_written(demo: Path) -> None:
    for line in OTHERS:
        if has_data(line):
            assert striate(line, demo).strip()


def has_data(line: str) -> bool:
    """Whether the data set that a command names is on this machine."""
    named = re.search(r"--data (mnist|fashion-mnist)", line)
    folder = os.environ.get("STRIATE_DATA")
    return named is None or bool(folder and (Path(folder) / named[1]).is_dir())


def test_the_table_has_its_place() -> None:
    begin, end = "<!-- speed:begin -->", "<!-- speed:end -->"
    assert README.count(begin) == README.count(end) == 1
    assert README.index(begin) < README.index(end)


def test_the_named_files_exist() -> None:
    for name in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / name).exists(), name


def test_ci_runs_every_check() -> None:
    for check in ("ruff format --check", "ruff check", "mypy", "lint-imports", "pytest -m peer"):
        assert check in CI
