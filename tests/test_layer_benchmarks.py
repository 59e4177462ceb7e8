"""The benchmarks of single layers: sizes, graphs, what ours and the peers compute, the tables.

No speeds: those are `python -m benchmarks`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import layer_tables, layers, problems, report, roofline, text
from benchmarks.layer import Layer
from benchmarks.problems import Problem
from benchmarks.result import Result, Row
from striate.graph.graph import Graph
from striate.measure import peers
from striate.nn import init

CASES = """
layer t.conv      n=2 c=11 h=9 w=7 o=10 k=3 p=1 fused=bias+add+relu pass=forward,input,weight
layer t.strided   n=1 c=9 h=13 o=17 k=3 s=2 p=1 pass=forward,input,weight
layer t.first     n=2 c=3 h=20 o=17 k=7 s=2 p=3 fused=bias+relu pass=forward,weight
layer t.one       n=2 c=20 h=5 o=9 fused=bias+add+relu6 pass=forward,input,weight
layer t.depthwise n=1 c=9 h=7 o=9 k=3 p=1 g=9 fused=bias+relu6 pass=forward,input,weight
layer t.up        n=1 c=10 h=4 o=6 k=2 s=2 transposed=1 fused=bias pass=forward,input,weight
layer t.direct    n=1 c=16 h=6 o=16 k=3 p=1 pass=forward,input,weight algorithm=direct peak=85
layer t.fc        n=3 c=50 o=33 fused=bias+relu pass=forward,input,weight
"""
EVERY = [p for p in problems.parse(CASES) if p.threads == 1]


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "SECONDS", 0.0)


@pytest.mark.parametrize("case", EVERY, ids=str)
def test_ours_is_right(case: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "versions", dict)
    result = layers.run(case, rounds=1)
    (row,) = result.rows
    assert row.error is not None and row.error < 1e-5
    assert row.seconds and row.percent_of_peak and row.percent_of_bandwidth
    assert result.absent == ["torch"]


@pytest.mark.peer
@pytest.mark.parametrize("case", EVERY[::2], ids=str)
def test_peers_compute_the_same(case: Problem) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    result = layers.run(case, rounds=1)
    linear, forward = case.name == "t.fc", case.settings["pass"] == "forward"
    others = [n for n in ("onnxruntime", "openvino") if {n, "onnx"} <= peers.versions().keys()]
    assert len(result.rivals) >= (1 if linear else 2) + (len(others) if forward else 0)
    assert all(row.error is not None and row.error < 1e-5 for row in result.rows)


@pytest.mark.peer
def test_large_layers_are_compared_with_torch_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    for case in EVERY[:3]:
        layer = Layer.of(case.settings)
        inputs, weights = layers.numbers(layer)
        exact = layers.expected(layer, inputs, weights)
        monkeypatch.setattr(layers, "_REFERENCE", 0)
        found = layers.expected(layer, inputs, weights)
        monkeypatch.undo()
        assert found.dtype == np.float64
        assert np.allclose(found, exact, rtol=0, atol=1e-12 * abs(exact).max())


def test_sizes_of_a_layer() -> None:
    conv = Layer(2, 64, 128, 56, 28, k=3, s=2, p=1, fused=("bias", "add"))
    assert conv.out_shape == (128, 28, 14)
    assert conv.multiply_adds == 2 * 28 * 14 * 128 * 64 * 9
    assert conv.bytes == 4 * (2 * (64 * 56 * 28 + 2 * 128 * 28 * 14) + 128 * 64 * 9)
    up = Layer(1, 64, 32, 8, 8, k=2, s=2, transposed=True)
    assert up.out_shape == (32, 16, 16)
    assert up.multiply_adds == 16 * 16 * 32 * 64
    assert Layer(4, 10, 20).multiply_adds == 800
    with pytest.raises(ValueError, match="fused is made of bias, add, relu, relu6; got"):
        Layer.of({"c": "1", "o": "1", "fused": "gelu"})


def test_every_layer_of_the_file_is_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    def empty(tensor: object, *_: object, **__: object) -> object:
        return tensor

    monkeypatch.setattr(init, "uniform_", empty)
    monkeypatch.setattr(init, "kaiming_uniform_", empty)
    for case in problems.load():
        if case.kind != "layer" or case.threads > 1:
            continue
        layer = Layer.of(case.settings)
        assert layer_tables.kind_of(layer) in layer_tables.KINDS
        graph = layer.pass_graph()
        assert isinstance(graph, Graph)
        shape = graph.nodes[graph.outputs[0]].shape
        wanted = {
            "forward": layer.out_shape,
            "input": layer.source_shape,
            "weight": layer.weight_shape,
        }
        assert shape == wanted[layer.which]


def made_up() -> list[Result]:
    """Results that nobody measured, of the cases above."""
    results = []
    for number, case in enumerate(problems.parse(CASES)):
        case = Problem(case.kind, f"resnet18.{case.name}", {**case.settings, "goal": "1.5"})
        ours = Row("striate", 1e-3, 1e-3, 3, 1e-7, 50.0 + number, 50.0, 20.0)
        peer = Row("torch", (1 + number / 10) * 1e-3, 1e-3, 3, 1e-7, 40.0, 40.0, 10.0)
        extra = {"peak_gflops": 100.0, "copy_gbytes": 20.0, "best_of_peak": 80.0}
        results.append(Result(case, [ours, peer], [], extra))
    return results


def test_tables() -> None:
    results = made_up()
    summary = layer_tables.summary_table(results)
    row = next(line for line in summary if line.startswith("| fully connected, batch 64 | 1 |"))
    assert row.count("×") == 3 and "of 1" in row
    page = "\n".join(layer_tables.page_sections(results))
    assert "### Layers of ResNet-18, 2 threads" in page
    assert "| t.first | 3×20² → 17, 7×7/2 + bias + relu | forward | 2 |" in page
    assert "**1.00**" in page  # not reached
    assert layer_tables.page_sections([]) == []
    wrong = Result(results[0].problem, [Row("striate", error=1.0, note="wrong, not timed")])
    assert "wrong, not timed" in "\n".join(layer_tables.page_sections([wrong]))


def test_direct_kernels_have_a_table_of_their_own() -> None:
    results = made_up()
    (_, table) = layer_tables.direct_section(results)
    assert table.count("t.direct") == 6
    assert "| **80 %** | 85 % |" in table
    assert "t.direct" not in "\n".join(layer_tables.page_sections(results))
    assert text.reached(layer_tables.direct_of(results)[0]) is False
    assert "80 % of peak (to reach: 85 %: not reached)" in text.verdict(
        layer_tables.direct_of(results)[0]
    )
    assert layer_tables.direct_section(layer_tables.layers_of(results)) == []


MACHINE = {
    "cpu": "a CPU",
    "cores": 2,
    "system": "an OS",
    "python": "3",
    "versions": {"striate": "0"},
    "date": "2000-01-01",
    "target": "x86-64-v2",
}


def test_results_of_another_machine_are_marked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "results.json"
    rows = [Row("striate", 1e-3, 1e-3, 3, 0.0), Row("torch", 2e-3, 2e-3, 3, 0.0)]
    first, second = (
        Result(Problem("operation", name, {"threads": "1"}), rows, extra={"peak_gflops": 1.0})
        for name in ("relu", "apl")
    )
    monkeypatch.setattr(report, "rewrite", lambda: None)
    monkeypatch.setattr(problems, "load", lambda: [first.problem, second.problem])
    report.write([first], MACHINE, file=file)
    wide = {**MACHINE, "system": "wide vectors, an OS", "date": "2000-01-02"}
    for _ in range(2):
        report.write([second], wide, merge=True, file=file)
    results, machine = report.read(file)
    assert [text.title(r) for r in results] == [
        "relu, forward and backward, 1 thread",
        "apl, forward and backward, 1 thread (wide vectors)",
    ]
    page = report.page(results, machine)
    assert page.count("what is marked wide vectors on a CPU, 2 cores") == 1
    assert "2000-01-01" in page and "2000-01-02" in page
    assert "wide vectors" not in report.readme_table(results, machine), "it shows no such case"
    report.write([first, second], wide, merge=True, file=file)
    results, _ = report.read(file)
    assert not any("(wide" in text.title(r) for r in results)


def test_a_narrower_target_has_a_section() -> None:
    page = report.page([], MACHINE, [(made_up(), MACHINE)])
    assert "## Layers on x86-64-v2" in page and "fully connected, batch 64" in page


def test_results_of_layers_survive_json_and_merging(monkeypatch: pytest.MonkeyPatch) -> None:
    results = made_up()
    copies = [Result.from_json(r.to_json()) for r in results]
    assert [c.to_json() for c in copies] == [r.to_json() for r in results]
    monkeypatch.setattr(problems, "load", lambda: [r.problem for r in results])
    assert report.merged(results[2:], results[:3]) == results
    assert len(report.merged([], results[:1])) == 1


def test_the_picture_has_points(tmp_path: Path) -> None:
    from PIL import Image

    machine = {"memory_gbytes": {"copy": 10.0, "cache copy": 80.0}}
    roofline.draw(made_up(), machine, tmp_path / "images" / "roofline.png")
    with Image.open(tmp_path / "images" / "roofline.png") as image:
        assert image.width > 1500
        colours = image.convert("RGB").getcolors(1 << 20)
    assert colours is not None and len(colours) > 50
