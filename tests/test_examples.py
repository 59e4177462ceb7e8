"""Every file of examples/ runs from an empty folder, without a warning, and says what it should."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SAYS = {
    "quickstart.py": ["of the test digits are recognised", "the same bits after loading: True"],
    "own_activation.py": ["derivative:  where((x > 0), 1,", "trained with it: 9"],
    "branches.py": ["coarse", "validation accuracy 9", "loaded: 7 = 7"],
    "classic_network.py": ["(1, 1000) differs by 0.0"],
    "sklearn_digits.py": ["best: {'learning_rate': 0.005}, 9", "random filters: 9", "pixels: 8"],
    "lenet_1998.py": ["60,000 trained parameters", "test error", "in steps of 4 pixels"],
    "explain.py": ["sum of 25 terms", "the program agrees: True"],
}


def test_every_example_is_run() -> None:
    assert {p.name for p in EXAMPLES.glob("*.py")} == set(SAYS)


@pytest.mark.parametrize("name", SAYS)
def test_example(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    for words in SAYS[name]:
        assert words in done.stdout
