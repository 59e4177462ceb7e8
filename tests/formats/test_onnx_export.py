"""ONNX export: every operation and every layer, as ONNX Runtime computes them."""

from __future__ import annotations

import hashlib
import runpy
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.errors import FileError, OptionError
from striate.formats.onnx import files
from striate.formats.onnx.exporter import LEFT_OUT, REFUSED, to_model
from striate.formats.onnx.site import rules
from striate.formula.operations import OPERATIONS, find_operation
from striate.graph.graph import Graph, Node
from tests.formats.onnx_nets import run
from tests.formula.conftest import CASES
from tests.nn.cases import LAYERS, build, inputs_of, sample_shapes

DOCS = Path(__file__).parents[2] / "docs"
NEWEST_OF_RUNTIME = 26  # ONNX Runtime 1.31 reads no newer ones


def test_every_operation_has_a_rule_a_formula_or_a_reason() -> None:
    ways = {*rules(), *LEFT_OUT, *REFUSED}
    without = [n for n, o in OPERATIONS.items() if n not in ways and not o.has_formula]
    assert not without
    assert ways <= OPERATIONS.keys(), "a rule for an operation that is none"
    for why in (*LEFT_OUT.values(), *REFUSED.values()):
        assert 20 < len(why) < 160


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(files, "import_module", refuse)
    with pytest.raises(OptionError, match=r"export_onnx: expected the package onnx.*pip install"):
        st.export_onnx(nn.ReLU(), tmp_path / "a.onnx", input_shape=(3,))
    (tmp_path / "b.onnx").write_bytes(b"")
    with pytest.raises(OptionError, match=r"import_onnx: expected the package onnx.*pip install"):
        st.import_onnx(tmp_path / "b.onnx")


# ---- what follows needs onnx ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def onnx() -> Any:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    return pytest.importorskip("onnx", reason="onnx is not installed")


def single(case: Any) -> tuple[Graph, list[Any], dict[str, Any]]:
    """A graph of one operation, the arrays of its inputs and of its parameters."""
    name, attributes, arrays = case
    operation = find_operation(name)
    names, shared = operation.argument_names(attributes, len(arrays)), operation.shared(attributes)
    graph, inputs, parameters = Graph(), [], {}
    for argument, array in zip(names, arrays, strict=True):
        whole = np.asarray(array, np.float32)
        batched = argument not in shared
        kind, shape = ("input", whole.shape[1:]) if batched else ("parameter", whole.shape)
        graph.append(Node(f"the {argument}", kind, shape=shape, batched=batched))
        if batched:
            inputs.append(whole)
        else:
            parameters[f"the {argument}"] = whole
    graph.apply("y", name, tuple(f"the {n}" for n in names), attributes)
    graph.outputs = ("y",)
    return graph, inputs, parameters


def compare(onnx: Any, case: Any, opset: int) -> None:
    graph, inputs, parameters = single(case)
    model = to_model(graph, parameters, opset)
    onnx.checker.check_model(model, full_check=True)
    arrays = [np.asarray(a, np.float32) for a in case[2]]
    expected = find_operation(case[0]).reference(case[1], arrays)
    np.testing.assert_allclose(run(model, *inputs), expected, rtol=2e-5, atol=2e-5)


def of_operation(name: str) -> dict[str, Any]:
    return {title: case for title, case in CASES.items() if case[0] == name}


@pytest.mark.peer
@pytest.mark.parametrize("name", sorted({case[0] for case in CASES.values()} - REFUSED.keys()))
def test_operations_give_the_same_in_onnx_runtime(name: str, onnx: Any) -> None:
    """Every case in the version that is written by default."""
    for case in of_operation(name).values():
        compare(onnx, case, 18)


@pytest.mark.peer
@pytest.mark.parametrize("opset", [13, 17, 21, 24, NEWEST_OF_RUNTIME])
def test_operations_in_other_versions(opset: int, onnx: Any) -> None:
    """A part of the cases in each: the first of each operation that has a rule."""
    for name in rules().keys() - REFUSED.keys():
        for case in list(of_operation(name).values())[:1]:
            compare(onnx, case, opset)


@pytest.mark.peer
def test_the_newest_version_is_checked(onnx: Any) -> None:
    """ONNX Runtime does not know it; onnx's own evaluator does."""
    from onnx.reference import ReferenceEvaluator

    newest = onnx.defs.onnx_opset_version()
    for title in ("conv", "max pool", "layer norm", "reduce l2", "local, groups"):
        for case in [c for k, c in CASES.items() if k.startswith(title)][:1]:
            graph, inputs, parameters = single(case)
            model = to_model(graph, parameters, newest)
            onnx.checker.check_model(model, full_check=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                names = [k.name for k in model.graph.input]
                (y,) = ReferenceEvaluator(model).run(None, dict(zip(names, inputs, strict=True)))
            arrays = [np.asarray(a, np.float32) for a in case[2]]
            expected = find_operation(case[0]).reference(case[1], arrays)
            np.testing.assert_allclose(y, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.peer
@pytest.mark.parametrize("op", REFUSED)
def test_what_cannot_be_exported_says_why(op: str, onnx: Any) -> None:
    graph, _, parameters = single(next(iter(of_operation(op).values())))
    with pytest.raises(OptionError, match=rf"export_onnx: y \({op}\) cannot be exported: \w+"):
        to_model(graph, parameters)


@pytest.mark.peer
def test_gradients_are_no_part_of_it(onnx: Any) -> None:
    graph, _, parameters = single(CASES["conv"])
    graph.append(Node("up", "input", shape=graph.nodes["y"].shape))
    graph.apply("g", "conv2d:dx", ("up", *graph.nodes["y"].inputs), CASES["conv"][1])
    with pytest.raises(OptionError, match=r"g \(conv2d:dx\) cannot be exported: gradients"):
        to_model(graph, parameters)


@pytest.mark.peer
@pytest.mark.parametrize("family", ["a", "c", "l", "other"])
def test_layers_there_and_back(family: str, onnx: Any, tmp_path: Path) -> None:
    """Written, run by ONNX Runtime, read again: the same numbers, names and (mostly) operations."""
    first = {"a": "ABab", "c": "Cc", "l": "Ll"}
    known = "".join(first.values())
    for name in LAYERS:
        if name[0] in first.get(family, "") or (family == "other" and name[0] not in known):
            there_and_back(onnx, name, tmp_path / "layer.onnx")


def there_and_back(onnx: Any, name: str, path: Path) -> None:
    layer, inputs = build(name).eval(), inputs_of(name)
    expected = layer(*inputs)
    st.export_onnx(layer, path, input_shape=sample_shapes(inputs))
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert {k.name for k in model.graph.initializer} <= set(layer.arrays()), name
    close = {"rtol": 1e-4, "atol": 1e-5, "err_msg": name}
    np.testing.assert_allclose(run(model, *inputs), expected, **close)
    back = st.import_onnx(path)
    np.testing.assert_allclose(back(*inputs), expected, **close)
    assert set(back.state_dict()) <= set(layer.arrays()), name
    if not name.startswith(("Softmin", "GLU", "ChannelShuffle")):  # of simpler operations in ONNX
        ops = {n.op for n in layer.to_graph(sample_shapes(inputs)).steps} - LEFT_OUT.keys()
        assert {n.op for n in back.graph.steps} == ops, name


# ---- whole files ---------------------------------------------------------------------------------


def network() -> nn.Module:
    st.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.GELU(),
        nn.Dropout(0.5),
        nn.LocallyConnected2d(4, 4, (8, 8), 3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 5),
    )


@pytest.fixture
def written(onnx: Any, tmp_path: Path) -> tuple[nn.Module, Path]:
    net, path = network(), tmp_path / "net.onnx"
    x = np.random.default_rng(0).standard_normal((4, 3, 8, 8)).astype(np.float32)
    net(x)  # in training mode: batch norm moves its statistics
    st.export_onnx(net, path)
    return net, path


@pytest.mark.peer
@pytest.mark.parametrize("batch", [1, 3])
def test_a_network_for_any_batch(written: Any, batch: int) -> None:
    net, path = written
    assert net.training, "the mode is as it was"
    x = np.random.default_rng(1).standard_normal((batch, 3, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(run(str(path), x), net.eval()(x), rtol=1e-4, atol=1e-5)


@pytest.mark.peer
def test_what_a_file_has(written: Any, onnx: Any) -> None:
    net, path = written
    model = onnx.load(path)
    ops = [node.op_type for node in model.graph.node if node.op_type != "Constant"]
    assert ops == [
        *("Conv", "BatchNormalization", "gelu", "local2d"),
        *("GlobalAveragePool", "Reshape", "Gemm"),
    ]
    assert [f.domain for f in model.functions] == ["striate"] * 2
    assert model.functions[1].doc_string.startswith("y[n, ")
    held = {k.name: onnx.numpy_helper.to_array(k) for k in model.graph.initializer}
    assert set(held) == set(net.state_dict()) - {"1.num_batches_tracked"}
    assert all((held[k] == net.state_dict()[k]).all() for k in held)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert model.producer_name == "striate"
    assert [p.name for p in path.parent.iterdir()] == ["net.onnx"], "nothing is left behind"


@pytest.mark.peer
def test_the_same_network_gives_the_same_bytes(written: Any, tmp_path: Path) -> None:
    net, path = written
    st.export_onnx(net, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == path.read_bytes()


@pytest.mark.peer
def test_weights_in_a_second_file(written: Any, tmp_path: Path) -> None:
    net, _ = written
    path = tmp_path / "two.onnx"
    st.export_onnx(net, path, external_data=True)
    data = tmp_path / "two.onnx.data"
    assert data.stat().st_size == sum(4 * a.size for a in net.arrays().values() if a.ndim)
    x = np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32)
    expected = net.eval()(x)
    np.testing.assert_allclose(run(str(path), x), expected, rtol=1e-4, atol=1e-5)
    back = st.import_onnx(path, external_data=True)
    np.testing.assert_allclose(back(x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.peer
def test_more_than_one_file_can_hold(
    written: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    net, _ = written
    monkeypatch.setattr(files, "MOST_BYTES", 2**20 + 100)
    with pytest.raises(OptionError, match=r"at most 2 GiB.*external_data=True"):
        st.export_onnx(net, tmp_path / "large.onnx")
    assert not (tmp_path / "large.onnx").exists()


@pytest.mark.peer
def test_options_that_cannot_be(onnx: Any, tmp_path: Path) -> None:
    path, net = tmp_path / "a.onnx", nn.Linear(2, 3)
    for opset in (12, 1000, "18", True):
        with pytest.raises(OptionError, match=r"export_onnx: expected opset from 13 to \d+.*got"):
            st.export_onnx(net, path, input_shape=(2,), opset=opset)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=r"export_onnx: expected a network whose input shape"):
        st.export_onnx(net, path)
    with pytest.raises(OptionError, match=r"export_onnx: expected a Module; got int"):
        st.export_onnx(3, path)  # type: ignore[arg-type]
    with pytest.raises(FileError, match=r"cannot be written"):
        st.export_onnx(net, tmp_path / "none" / "a.onnx", input_shape=(2,))
    assert not path.exists()


@pytest.mark.peer
def test_several_inputs_and_labels_of_an_embedding(onnx: Any, tmp_path: Path) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(9, 4)
            self.join = nn.Bilinear(4, 4, 3)

        def forward(self, words: Any, x: Any) -> Any:
            return self.join(self.table(words).mean(1), x)

    net, path = Two(), tmp_path / "two.onnx"
    words, x = np.array([[1, 8, 0], [2, 2, 3]]), np.eye(2, 4, dtype=np.float32)
    expected = net(words, x)
    st.export_onnx(net, path)
    assert [k.type.tensor_type.elem_type for k in onnx.load(path).graph.input] == [7, 1]
    np.testing.assert_allclose(run(str(path), words, x), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(st.import_onnx(path)(words, x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.peer
@pytest.mark.parametrize("name", ["exporter", "names", "rules.arithmetic"])
def test_examples_run(name: str, onnx: Any) -> None:
    import doctest

    found = doctest.testmod(import_module(f"striate.formats.onnx.{name}"))
    assert found.attempted > 0
    assert found.failed == 0


def test_checksums_are_those_of_the_bytes() -> None:
    array = np.arange(6, dtype=np.float32)
    entries = files.external_entries("a.data", 8, array)
    digest = hashlib.sha1(array.tobytes(), usedforsecurity=False).hexdigest()
    assert entries == {"location": "a.data", "offset": "8", "length": "24", "checksum": digest}


# ---- the page ------------------------------------------------------------------------------------


@pytest.mark.peer
def test_the_pages_examples_run(onnx: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (DOCS / "onnx.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    blocks = [part.partition("```")[0] for part in page.split("```py\n")[1:]]
    assert len(blocks) == 4
    scope: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "onnx.md", "exec"), scope)
    ops = [node.op_type for node in scope["model"].graph.node if node.op_type != "Constant"]
    inner = [n.op_type for n in scope["model"].functions[0].node if n.op_type != "Constant"]
    assert f"# {ops}" in page
    assert f"# {inner}" in page


@pytest.mark.peer
def test_the_pages_table_is_up_to_date(onnx: Any) -> None:
    script = runpy.run_path(str(DOCS / "scripts" / "onnx_coverage.py"))
    page = (DOCS / "onnx.md").read_text(encoding="utf-8")
    assert script["render_exports"](page) == page
