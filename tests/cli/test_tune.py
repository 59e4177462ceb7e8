"""`striate tune`: what it keeps, that results stay right, and how it is forgotten."""

from __future__ import annotations

import numpy as np
import pytest
from harness import check_close

import striate as st
from striate import nn
from striate.codegen.targets import current_target
from striate.program.choose import Choice, Choices
from striate.program.tuned import keep_choices, kept_choices, tuned_file

WIDE = """\
from striate import nn


class Wide(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()
        )
"""


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """A cache folder of its own."""
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("STRIATE_BACKEND", "native")


def test_tune_keeps_or_says_that_nothing_is_better(cli, fresh, monkeypatch, tmp_path):
    (tmp_path / "wide.py").write_text(WIDE)
    monkeypatch.setenv("STRIATE_BACKEND", "native")
    answer = cli("tune", "wide.py", "--input", "3,32,32", "--batch", 2, "--threads", 1, "--json")
    assert answer.code == 0, answer.err
    found = answer.json
    assert [c["problem"].split(" kernel")[0] for c in found["choices"]] == [
        "forward 3x32x32 to 16x32x32",
        "forward 16x32x32 to 16x32x32",
    ]
    assert found["kept"] == bool(kept_choices(current_target()))
    forgotten = cli("tune", "--forget")
    assert forgotten.code == 0
    assert "forgot" in forgotten.out
    assert not kept_choices(current_target())


def test_a_network_of_two_inputs(cli, fresh, tmp_path):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = (nn.Conv2d(3, 16, 3, padding=1) for _ in range(2))

        def forward(self, left, right):
            return self.left(left) + self.right(right)

    path = tmp_path / "two.safetensors"
    st.save(Two(), path, input_shape=[(3, 32, 32), (3, 32, 32)])
    answer = cli("tune", path, "--batch", 1, "--threads", 1, "--json")
    assert answer.code == 0, answer.err
    assert len(answer.json["choices"]) == 1  # the same problem twice


def test_kept_choices_are_used_and_right(fresh):
    st.manual_seed(0)
    net = st.nn.Conv2d(64, 64, 3, padding=1)
    x = np.random.default_rng(0).normal(size=(2, 64, 32, 32)).astype(np.float32)
    untuned = net(x)
    target = current_target()
    (key,) = _keys(net, x)
    keep_choices(target, {key: Choice("direct")})
    assert kept_choices(target) == {key: Choice("direct")}
    again = st.nn.Conv2d(64, 64, 3, padding=1)
    again.load_state_dict(net.state_dict())
    tuned = again(x)
    assert not np.array_equal(tuned, untuned)  # Winograd rounds otherwise than the direct form
    check_close(tuned, untuned, factor=30)


def test_a_damaged_file_counts_as_absent(fresh):
    target = current_target()
    keep_choices(target, {"some problem": Choice("winograd4")})
    path = tuned_file(target)
    for damage in ("{", '{"format": "other"}', '{"format": "striate-tuned-1", "choices": 3}'):
        path.write_text(damage)
        assert not kept_choices(target)


def test_switched_off_by_the_environment(fresh, monkeypatch):
    target = current_target()
    keep_choices(target, {"some problem": Choice("winograd4")})
    monkeypatch.setenv("STRIATE_TUNED", "0")
    assert not kept_choices(target)


def test_bad_input(cli, fresh, monkeypatch):
    answer = cli("tune")
    assert answer.code != 0
    assert "expected a MODEL" in answer.err
    answer = cli("tune", "lenet5", "--input", "1,28,28")
    assert answer.code != 0
    assert "batch in lanes" in answer.err
    monkeypatch.setenv("STRIATE_BACKEND", "reference")
    answer = cli("tune", "lenet5")
    assert answer.code != 0
    assert "reference" in answer.err


def _keys(net, x) -> list[str]:
    """The problems that a network's blocked program chooses for."""
    from striate.program.blocked_native import BlockedProgram
    from striate.program.choose import batch_magnitude, problem_key

    graph, target = net.to_graph(x.shape[1:]), current_target()
    size = batch_magnitude(len(x))
    plan = BlockedProgram(graph, target, graph.outputs, size, Choices(target, size, {})).plan
    return [problem_key(d.windows, d.direction, size, d.plain) for d in plan.decisions.values()]
