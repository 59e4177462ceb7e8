"""The live display, drawn into a terminal that is none."""

from __future__ import annotations

import io

import pytest

from striate.train.progress import LiveDisplay, PlainLines, Silent, make_display
from striate.train.run import Run

RECORD = {
    "epoch": 1,
    "loss": 0.5,
    "accuracy": 0.875,
    "lr": 0.1,
    "seconds": 2.0,
    "images_per_second": 12345.0,
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_which_display(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(3)
    assert isinstance(make_display(False, run, 10, 100), Silent)
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert isinstance(make_display(True, run, 10, 100), PlainLines)
    monkeypatch.setattr("sys.stdout", None)
    assert isinstance(make_display(True, run, 10, 100), PlainLines)
    monkeypatch.setattr("sys.stdout", Terminal())
    display = make_display(True, run, 10, 100)
    display.close()
    assert isinstance(display, LiveDisplay)


def test_plain_lines_tell_the_time_left_and_the_loaders_share(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = Run(3)
    display = make_display(True, run, 10, 100)
    run.add({**RECORD, "seconds": 100.0})
    display.finished({**run.history[-1], "loader_share": 0.034})
    line = capsys.readouterr().out
    assert line.endswith("100.0 s, loader 3 %, 12,345 images/s, 3:20 left\n")
    run.add({**RECORD, "epoch": 2, "seconds": 0.1})
    run.add({**RECORD, "epoch": 3, "seconds": 0.1})
    display.finished(run.history[-1])
    assert capsys.readouterr().out.endswith("images/s\n")


def test_the_live_display_shows_all(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    display = LiveDisplay(Run(2), steps_per_epoch=10, images=1000)
    display.step(1, 0)
    display.step(1, 5)
    display.finished(RECORD)
    display.step(2, 3)
    display.finished({**RECORD, "epoch": 2, "loader_share": 0.12})
    display.close()
    text = terminal.getvalue()
    for part in ("epoch 1/2", "epoch 2/2", "25 %", "images/s", "left", "loss 0.5000, 87.50 %"):
        assert part in text, part
    assert "epoch 1/2: loss 0.5000, 87.50 %; 12,345 images/s" in text
    assert "epoch 2/2: loss 0.5000, 87.50 %; 12,345 images/s; loader 12 %" in text
    assert "…" not in text, "it does not fit 80 columns"
