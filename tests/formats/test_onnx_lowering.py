"""The ONNX backend besides ONNX's own tests: one program a network, versions, refusals."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from striate.errors import ModelError, ShapeError
from striate.formats.onnx.backend import Backend
from striate.formats.onnx.value import Recorder

pytestmark = pytest.mark.peer
onnx = pytest.importorskip("onnx", reason="onnx is not installed")
helper, numpy_helper = onnx.helper, onnx.numpy_helper
FLOAT, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
ROOT = Path(__file__).parents[2]


def model(
    nodes: list[Any], weights: dict[str, Any] | None = None, opset: int = 20, rank: int = 4
) -> Any:
    """A model from x to y; the sizes of x are left open."""
    sizes = [f"size{k}" for k in range(rank)]
    kept = [numpy_helper.from_array(np.asarray(a), k) for k, a in (weights or {}).items()]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", FLOAT, sizes)],
        [helper.make_tensor_value_info("y", FLOAT, sizes)],
        kept,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def run(nodes: list[Any], x: Any, weights: dict[str, Any] | None = None, opset: int = 20) -> Any:
    array = np.asarray(x, np.float32)
    (y,) = Backend.run_model(model(nodes, weights, opset, array.ndim), [array])
    return y


def by_onnx(whole: Any, x: Any) -> Any:
    """What ONNX's own evaluator gives."""
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(whole).run(None, {"x": x})[0]


def make(op: str, inputs: str, output: str = "y", **attributes: Any) -> Any:
    return helper.make_node(op, inputs.split(), [output], name=f"the_{op}", **attributes)


def network() -> tuple[list[Any], dict[str, Any]]:
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.standard_normal((4, 1, 3, 3)).astype(np.float32),
        "b": rng.standard_normal(4).astype(np.float32),
        "s": rng.uniform(0.5, 1.5, 4).astype(np.float32),
        "v": rng.standard_normal((36, 5)).astype(np.float32),
    }
    nodes = [
        make("Conv", "x w b", "a", pads=[1, 1, 1, 1]),
        make("BatchNormalization", "a s b b s", "n"),
        make("Relu", "n", "r"),
        make("MaxPool", "r", "p", kernel_shape=[2, 2], strides=[2, 2]),
        make("Flatten", "p", "f"),
        make("MatMul", "f v", "l"),
        make("Softmax", "l"),
    ]
    return nodes, weights


@pytest.mark.parametrize("batch", [1, 3, 17])
def test_a_network_is_one_program(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[tuple[int, int]] = []
    plain = Recorder.run

    def counted(self: Recorder, names: Any) -> Any:
        runs.append((self.batch, len(self.graph.steps)))
        return plain(self, names)

    monkeypatch.setattr(Recorder, "run", counted)
    nodes, weights = network()
    x = np.random.default_rng(1).standard_normal((batch, 1, 6, 6)).astype(np.float32)
    y = run(nodes, x, weights)
    assert runs == [(batch, 7)]
    np.testing.assert_allclose(y, by_onnx(model(nodes, weights), x), rtol=2e-5, atol=1e-6)


def test_a_value_may_be_needed_whole_and_by_its_batch() -> None:
    x = np.arange(24, dtype=np.float32).reshape(2, 1, 3, 4)
    nodes = [
        make("AveragePool", "x", "a", kernel_shape=[1, 2]),  # axis 0 is the batch
        make("Transpose", "a", "t", perm=[3, 1, 2, 0]),  # and moves
        make("AveragePool", "t", "y", kernel_shape=[1, 2]),
    ]
    first = (x[..., :-1] + x[..., 1:]) / 2
    turned = first.transpose(3, 1, 2, 0)
    assert (run(nodes, x) == (turned[..., :-1] + turned[..., 1:]) / 2).all()


@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3), (1, 2, 3)])
def test_scalar_functions_of_any_rank(shape: tuple[int, ...]) -> None:
    x = np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape) - 2
    y = run([make("Relu", "x")], x)
    assert y.shape == shape and (y == np.maximum(x, 0)).all()


@pytest.mark.parametrize("op", ["GlobalLpPool", "GlobalMaxPool", "GlobalAveragePool"])
def test_global_pooling(op: str) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
    expected = {
        "GlobalLpPool": np.sqrt((x**2).sum((2, 3), keepdims=True)),
        "GlobalMaxPool": x.max((2, 3), keepdims=True),
        "GlobalAveragePool": x.mean((2, 3), keepdims=True),
    }[op]
    np.testing.assert_allclose(run([make(op, "x")], x), expected, rtol=1e-5)


def test_padding_beyond_half_a_window() -> None:
    x = np.full((1, 1, 2, 2), -np.inf, np.float32)
    x[0, 0, 0, 0] = -5
    nodes = [make("MaxPool", "x", kernel_shape=[3, 3], pads=[2, 2, 2, 2])]
    assert (run(nodes, x) == by_onnx(model(nodes), x)).all()


def test_versions_differ() -> None:
    x = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    old = run([make("Softmax", "x", axis=1)], x, opset=11)  # over axes 1 and 2 together
    new = run([make("Softmax", "x", axis=1)], x, opset=13)
    np.testing.assert_allclose(old.sum((1, 2)), 1, rtol=1e-6)
    np.testing.assert_allclose(new.sum(1), 1, rtol=1e-6)


def test_other_number_types_are_rounded_once() -> None:
    x = np.array([1, 2, 3], np.float16)
    node = helper.make_node("Div", ["a", "b"], ["y"])
    (y,) = Backend.run_node(node, [x, np.full(3, 3, np.float16)])
    assert y.dtype == np.float16 and (y == (x.astype(float) / 3).astype(np.float16)).all()
    (whole,) = Backend.run_node(node, [np.array([-7, 7], np.int32), np.array([2, 2], np.int32)])
    assert whole.dtype == np.int32 and whole.tolist() == [-3, 3]


def test_a_model_as_bytes_and_inputs_by_name() -> None:
    prepared = Backend.prepare(model([make("Neg", "x")]).SerializeToString())
    assert prepared.run({"x": np.ones((2, 2), np.float32)})[0].tolist() == [[-1, -1], [-1, -1]]
    assert prepared.used == {"graph"}


def test_a_model_runs_again_on_other_sizes() -> None:
    nodes, weights = network()
    prepared = Backend.prepare(model(nodes, weights))
    for batch in (2, 5, 2):
        x = np.random.default_rng(batch).standard_normal((batch, 1, 6, 6)).astype(np.float32)
        expected = by_onnx(model(nodes, weights), x)
        np.testing.assert_allclose(prepared.run([x])[0], expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("op", ["Sum", "Mean", "Max", "Min"])
def test_many_inputs(op: str) -> None:
    rows = {f"k{k}": np.array([[k, -k], [1, k % 3]], np.float32) for k in range(15)}
    y = run([make(op, f"x {' '.join(rows)}")], np.zeros((2, 2)), rows)
    every = np.stack([np.zeros((2, 2)), *rows.values()])
    folded = {"Sum": every.sum(0), "Mean": every.mean(0), "Max": every.max(0), "Min": every.min(0)}
    np.testing.assert_allclose(y, folded[op], rtol=1e-6)


def test_resize_before_it_had_options() -> None:
    x = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
    y = run([make("Resize", "x s")], x, {"s": np.array([1, 1, 2, 1.5], np.float32)}, opset=10)
    assert y.tolist() == [[[[0, 0, 1], [0, 0, 1], [2, 2, 3], [2, 2, 3]]]]


# ---- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([make("Det", "x")], r"node 'the_Det' .*Det, unknown here"),
        ([make("Relu", "z")], "valid model"),
        ([make("Relu", "x", domain="my.own")], r"domain 'my\.own'; expected operators of ONNX"),
    ],
    ids=["unknown operator", "unknown input", "other domain"],
)
def test_a_model_that_is_refused(nodes: list[Any], message: str) -> None:
    wrong = model(nodes)
    wrong.opset_import.append(helper.make_opsetid("my.own", 1))
    with pytest.raises(ModelError, match=message):
        Backend.prepare(wrong)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (make("Pad", "x p", mode="sideways"), "mode expected one of constant, reflect"),
        (make("AveragePool", "x", kernel_shape=[2, 2], auto_pad="SOME"), "auto_pad expected"),
        (make("Flatten", "x", axis=7), "axis from -4 to 4; got 7"),
        (make("Conv", "x p"), r"node 'the_Conv' \(Conv\): expected x \(n, channels"),
        (make("Transpose", "x", perm=[0, 0, 1, 2]), "each of the 4 axes once"),
    ],
    ids=["pad mode", "auto_pad", "axis", "rank", "perm"],
)
def test_a_node_that_is_refused(node: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        run([node], np.ones((1, 1, 4, 4)), {"p": np.zeros(8, np.int64)})


def test_an_attribute_that_nobody_reads_is_refused() -> None:
    node = make("Relu", "x", temperature=2.0)
    with pytest.raises(ModelError, match=r"attribute 'temperature' is not supported"):
        Backend.run_node(node, [np.ones((1, 2), np.float32)])


def test_weights_in_other_files_are_refused() -> None:
    outside = model([make("Add", "x w")], {"w": np.ones(4, np.float32)})
    tensor = outside.graph.initializer[0]
    onnx.external_data_helper.set_external_data(tensor, "../../etc/passwd")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    with pytest.raises(ModelError, match="tensor 'w' lies in another file"):
        Backend.prepare(outside)


def test_damaged_bytes_are_refused() -> None:
    with pytest.raises(ModelError, match="expected a model; got damaged data"):
        Backend.prepare(b"\x08\xff\xff not a model")


def test_a_shape_beyond_all_measure_is_refused() -> None:
    nodes = [make("ConstantOfShape", "n", "c"), make("Add", "x c")]
    with pytest.raises(ModelError, match=r"at most 268435456 numbers; got \(1000000, 1000000\)"):
        run(nodes, np.ones(1), {"n": np.full(2, 10**6)})


def test_other_devices_and_numbers_of_inputs_are_refused() -> None:
    with pytest.raises(ModelError, match="device 'CPU'; got 'CUDA'"):
        Backend.prepare(model([make("Relu", "x")]), "CUDA")
    with pytest.raises(ModelError, match="input 'x' expected an array; got list"):
        Backend.prepare(model([make("Relu", "x")])).run([[np.ones(1)]])
    with pytest.raises(ShapeError, match="expected an array for 'x'; got none"):
        Backend.prepare(model([make("Relu", "x")])).run({})
    with pytest.raises(ShapeError, match="expected inputs x; got 2 arrays"):
        Backend.prepare(model([make("Relu", "x")])).run([np.ones(1), np.ones(1)])


# ---- the documentation -----------------------------------------------------------------------


def test_the_page_of_passed_cases_is_up_to_date() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "scripts" / "onnx_coverage.py"))
    page = made["PAGE"].read_text(encoding="utf-8")
    assert made["render"](page) == page, "run: python docs/scripts/onnx_coverage.py --write"


def test_the_example_of_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "operations" / "onnx.md").read_text(encoding="utf-8")
    code = page.partition("```py\n")[2].partition("```")[0]
    exec(compile(code, "onnx.md", "exec"), {})
    assert "10.5" in capsys.readouterr().out
