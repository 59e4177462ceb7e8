"""Where values live: never two alive ones in one place, and little more room than needed."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Problem

from striate.codegen.targets import TARGETS
from striate.optim import SGD
from striate.program.memory import aligned, plan
from striate.program.plan import TrainingPlanner, plan_inference

_LIFE = st.tuples(st.integers(-1, 12), st.integers(0, 6), st.integers(1, 300))


@settings(derandomize=True, deadline=None, database=None, max_examples=200)
@given(st.lists(_LIFE, max_size=14))
def test_live_values_never_overlap(values: list[tuple[int, int, int]]) -> None:
    lives = {str(k): (first, first + length) for k, (first, length, _) in enumerate(values)}
    sizes = {str(k): size for k, (_, _, size) in enumerate(values)}
    arena = plan(lives, sizes)
    assert set(arena.offsets) == set(lives)
    for a, (first_a, last_a) in lives.items():
        start, stop = arena.offsets[a], arena.offsets[a] + sizes[a]
        assert start % 16 == 0 and 0 <= start and stop <= arena.size
        for b, (first_b, last_b) in lives.items():
            if a < b and first_a <= last_b and first_b <= last_a:
                other = arena.offsets[b]
                assert stop <= other or other + sizes[b] <= start, (a, b)
    assert arena.lower_bound <= arena.size
    moments = {step for life in lives.values() for step in life}
    needed = [
        sum(aligned(sizes[v]) for v, (f, t) in lives.items() if f <= step <= t) for step in moments
    ]
    assert arena.lower_bound == max(needed, default=0)


def test_values_that_never_meet_share() -> None:
    arena = plan({"a": (0, 1), "b": (2, 3), "c": (1, 2)}, {"a": 32, "b": 32, "c": 16})
    assert arena.offsets["a"] == arena.offsets["b"] and arena.size == 48 == arena.lower_bound


def test_lenet_needs_little_more_than_its_live_values(lenet: Problem) -> None:
    target = TARGETS["x86-64-v3"]
    planner = TrainingPlanner(lenet.graph, "cross_entropy", SGD(0.1).rule(), target)
    arenas = [plan_inference(lenet.graph, target, lenet.graph.outputs).arena, planner.plan().arena]
    for arena in arenas:
        assert 0 < arena.size <= 1.15 * arena.lower_bound
