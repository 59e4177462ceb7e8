"""Run by a test: a program in the parent, in a forked child, and in the child's child."""

from __future__ import annotations

import os

import numpy as np

from striate import settings
from striate.formula.activation import map_attributes
from striate.graph.graph import Graph, Node
from striate.program.native import NativeInference


def network(outputs: int) -> Graph:
    graph = Graph([Node("x", "input", shape=(6,))])
    graph.append(Node("w", "parameter", shape=(outputs, 6), batched=False))
    graph.apply("y", "linear", ("x", "w"))
    graph.apply("z", "map", ("y",), map_attributes("tanh"))
    graph.outputs = ("z",)
    return graph


def run(inference: NativeInference, outputs: int) -> bytes:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 6)).astype(np.float32)
    w = rng.normal(size=(outputs, 6)).astype(np.float32)
    return inference.run(x, {"w": w}).tobytes()


def in_child(name: str, expected: bytes, inference: NativeInference, deeper: bool) -> None:
    pid = os.fork()
    if pid:
        _, status = os.waitpid(pid, 0)
        if status:
            raise SystemExit(f"{name}: status {status}")
        return
    code = 1
    try:
        same = run(inference, 5) == expected
        fresh = run(NativeInference(network(7)), 7)  # compiled here, or read from the cache
        print(name, "same" if same and fresh else "different", flush=True)
        if deeper:
            in_child("grandchild", expected, inference, deeper=False)
        code = 0
    finally:
        os._exit(code)


if __name__ == "__main__":
    settings.set_num_threads(3)
    program = NativeInference(network(5))
    before = run(program, 5)
    in_child("child", before, program, deeper=True)
    print("parent", "same" if run(program, 5) == before else "different")
