"""ONNX import: the light networks of the package onnx, what follows from a model, hostile files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.errors import FileError, ModelError, OptionError
from striate.formats.onnx.importer import network_of
from striate.formats.onnx.names import Names
from tests.formats.onnx_nets import LIGHT, light_path, make, model, run, with_random_weights

LARGE = 50_000_000  # weights: with others these take long


def test_names_form_a_tree() -> None:
    names = Names()
    names.reserve("conv.weight")
    assert names.plain("conv.weight") == "conv.weight_1"
    assert names.dotted("conv.weight") == "conv.weight"
    assert names.dotted("conv") == "conv_1"
    assert names.dotted("conv.weight.more") == "conv_weight_more"
    assert names.dotted("train") == "train_1", "a method of every module"


@pytest.fixture(scope="module")
def onnx() -> Any:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    return pytest.importorskip("onnx", reason="onnx is not installed")


# ---- the light networks --------------------------------------------------------------------------


def stored(onnx: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The input that onnx's runner makes, and the output that is stored."""
    described = onnx.load(light_path(name)).graph
    held = {k.name for k in described.initializer}
    given = next(k for k in described.input if k.name not in held)
    shape = tuple(d.dim_value or 1 for d in given.type.tensor_type.shape.dim)
    x = (np.arange(np.prod(shape)).reshape(shape) / np.prod(shape)).astype(np.float32)
    path = light_path(name).with_name(f"light_{name}_output_0.pb")
    return x, onnx.numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes()))


@pytest.mark.peer
@pytest.mark.parametrize("name", LIGHT)
def test_light_networks(name: str, onnx: Any) -> None:
    """The stored output; and as their own weights are all alike, ONNX Runtime's with others."""
    net = st.import_onnx(light_path(name))
    assert sum(p.numel() for p in net.parameters()) == LIGHT[name]
    x, expected = stored(onnx, name)
    np.testing.assert_allclose(net(x), expected, rtol=1e-3, atol=1e-7)
    if LIGHT[name] < LARGE:
        drawn = with_random_weights(onnx.load(light_path(name)))
        arrays = {k.name: onnx.numpy_helper.to_array(k) for k in drawn.graph.initializer}
        net.load_state_dict({k: arrays[k].reshape(a.shape) for k, a in net.state_dict().items()})
        x = np.random.default_rng(1).standard_normal(x.shape).astype(np.float32)
        expected = run(drawn, x)
        assert expected.std() > 0.1 * abs(expected.mean()), "all alike would show nothing"
        top = abs(expected).max()
        np.testing.assert_allclose(net(x), expected, rtol=1e-3, atol=1e-5 * top)


@pytest.mark.peer
def test_squeezenet_is_trained_saved_explained_and_exported(onnx: Any, tmp_path: Path) -> None:
    net = network_of(with_random_weights(onnx.load(light_path("squeezenet"))))
    assert {n.op for n in net.training_graph.steps} - {n.op for n in net.graph.steps} == {"dropout"}
    before = {name: array.copy() for name, array in net.state_dict().items()}
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((2, 3, 224, 224)).astype(np.float32), np.array([3, 7])
    whole = nn.Sequential(net, nn.Flatten())
    st.fit(
        whole, (x, labels), epochs=1, batch_size=2, optimizer=st.optim.SGD(lr=1.0), progress=False
    )
    moved = [name for name, array in net.state_dict().items() if (array != before[name]).any()]
    assert len(moved) == len(before), "every weight has learned"
    assert "fire2/squeeze1x1_w_0" in moved

    expected = net.eval()(x)
    st.save(net, tmp_path / "net.safetensors")
    assert (st.load(tmp_path / "net.safetensors")(x) == expected).all()
    st.export_onnx(net, tmp_path / "net.onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "net.onnx"), full_check=True)
    top = abs(expected).max()
    np.testing.assert_allclose(
        run(str(tmp_path / "net.onnx"), x), expected, rtol=1e-3, atol=1e-5 * top
    )
    assert "conv2d" in str(st.summary(net, (3, 224, 224)))


@pytest.mark.peer
def test_an_imported_network_explains_itself(onnx: Any) -> None:
    w = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    net = network_of(model([make("MatMul", "x w")], {"w": w}, ["n", 2]))
    found = st.explain(net, [[5.0, 6.0]], net.graph.outputs[0], 1)
    assert "34" in found.text(), "5·2 + 6·4"


# ---- what a model says ---------------------------------------------------------------------------


def imported(nodes: list[Any], x: Any, weights: Any = None, **more: Any) -> tuple[Any, Any]:
    """The network, after its output was compared with ONNX Runtime's."""
    found = model(nodes, weights, **more)
    expected = run(found, x)
    net = network_of(found)
    np.testing.assert_allclose(net(x), expected, rtol=1e-5, atol=1e-6)
    return net, expected


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.peer
def test_constants_and_initialisers_are_trained_and_statistics_are_not(onnx: Any) -> None:
    tensor = onnx.numpy_helper.from_array(images(4, 3, 1, 1))
    nodes = [
        make("Constant", "", "held", value=tensor),
        make("Conv", "x held", "c"),
        make("BatchNormalization", "c s b b s", "n"),
        make("Mul", "n one"),
    ]
    weights = {"s": np.ones(4, np.float32), "b": np.zeros(4, np.float32)}
    net, _ = imported(nodes, images(2, 3, 4, 4), {**weights, "one": np.full(1, 2, np.float32)})
    assert [k for k, _ in net.named_parameters()] == ["held", "s", "b", "one"]
    assert [k for k, _ in net.named_buffers()] == ["b_1", "s_1"]
    net.train()(images(5, 3, 4, 4))
    assert (dict(net.named_buffers())["b_1"] != 0).all(), "moved by the batch"
    assert (dict(net.named_parameters())["b"].data == 0).all()


@pytest.mark.peer
def test_a_weight_that_is_used_twice_is_one(onnx: Any) -> None:
    nodes = [make("Gemm", "x w", "a", transB=1), make("MatMul", "a v", "b"), make("Gemm", "b w")]
    nodes[2].attribute.append(onnx.helper.make_attribute("transB", 1))
    weights = {"w": images(3, 4), "v": images(3, 4)}
    net, _ = imported(nodes, images(2, 4), weights, shape=["n", 4])
    assert [k for k, _ in net.named_parameters()] == ["w", "v"]


@pytest.mark.peer
def test_shapes_are_worked_out(onnx: Any) -> None:
    """Shape, Gather, Unsqueeze, Concat and Reshape, as exporters write a flattening."""
    nodes = [
        make("Shape", "x", "s"),
        make("Gather", "s zero", "n", axis=0),
        make("Unsqueeze", "n axis", "n1"),
        make("Concat", "n1 rest", "to", axis=0),
        make("Reshape", "x to"),
    ]
    weights = {"zero": np.array(0), "axis": np.array([0]), "rest": np.array([-1])}
    net, _ = imported(nodes, images(3, 3, 4, 4), weights)
    assert [n.op for n in net.graph.steps] == ["reshape"]
    assert net(images(7, 3, 4, 4)).shape == (7, 48)


@pytest.mark.peer
def test_a_fixed_batch_of_one_becomes_any(onnx: Any) -> None:
    to = {"to": np.array([1, 3, 2, 2, 4])}
    nodes = [make("Reshape", "x to", "r"), make("Transpose", "r", perm=[0, 2, 1, 3, 4])]
    net, _ = imported(nodes, images(1, 3, 4, 4), to, shape=[1, 3, 4, 4])
    assert net(images(5, 3, 4, 4)).shape == (5, 2, 3, 2, 4)


@pytest.mark.peer
def test_the_batch_may_move_and_come_back(onnx: Any) -> None:
    """As around recurrent layers that have the steps first."""
    nodes = [
        make("Transpose", "x", "t", perm=[1, 0, 2]),
        make("LSTM", "t w r b", "h", hidden_size=3),
        make("Squeeze", "h axis", "s"),
        make("Transpose", "s", perm=[1, 0, 2]),
    ]
    weights = {"w": images(1, 12, 4), "r": images(1, 12, 3), "b": images(1, 24)}
    x = images(2, 5, 4)
    net, _ = imported(nodes, x, {**weights, "axis": np.array([1])}, shape=["n", 5, 4])
    assert sum(p.numel() for p in net.parameters()) == 12 * 4 + 12 * 3 + 24, "one for all steps"
    assert net(images(7, 5, 4)).shape == (7, 5, 3)


@pytest.mark.peer
def test_a_branch_that_shapes_decide(onnx: Any) -> None:
    helper = onnx.helper

    def branch(op: str) -> Any:
        output = helper.make_tensor_value_info(f"out{op}", 1, None)
        return helper.make_graph([make(op, "x", f"out{op}")], op, [], [output])

    node = make("If", "yes", then_branch=branch("Relu"), else_branch=branch("Tanh"))
    net, _ = imported([node], images(2, 3, 4, 4), {"yes": np.array(True)})
    assert [n.op for n in net.graph.steps] == ["map"]
    unknown = [make("ReduceMax", "x", "m", keepdims=0), make("Cast", "m", "yes", to=9), node]
    with pytest.raises(ModelError, match=r"does not depend on the input|along the batch axis"):
        network_of(model(unknown))


@pytest.mark.peer
def test_other_precisions_become_float32(onnx: Any) -> None:
    helper, half = onnx.helper, onnx.TensorProto.FLOAT16
    w = onnx.numpy_helper.from_array(images(3, 4).astype(np.float16), "w")
    ends = [helper.make_tensor_value_info(n, half, ["n", k]) for n, k in (("x", 4), ("y", 3))]
    nodes = [make("Gemm", "x w", transB=1)]
    graph = helper.make_graph(nodes, "half", ends[:1], ends[1:], [w])
    net = network_of(helper.make_model(graph, ir_version=9))
    x = images(2, 4)
    weight = images(3, 4).astype(np.float16).astype(np.float32)
    np.testing.assert_allclose(net(x), x @ weight.T, rtol=1e-5)


@pytest.mark.peer
def test_several_outputs_and_open_sizes(onnx: Any, tmp_path: Path) -> None:
    found = model([make("Relu", "x", "a"), make("Tanh", "a", "b")], outputs="a b")
    onnx.save(found, tmp_path / "two.onnx")
    both = st.import_onnx(tmp_path / "two.onnx")
    a, b = both(images(2, 3, 4, 4))
    np.testing.assert_allclose(b, np.tanh(a), rtol=1e-5, atol=1e-6)
    st.export_onnx(both, tmp_path / "again.onnx")
    again = st.import_onnx(tmp_path / "again.onnx")(images(2, 3, 4, 4))
    np.testing.assert_array_equal(again[0], a)
    np.testing.assert_array_equal(again[1], b)
    with pytest.raises(OptionError, match=r"expected an output among a, b; got 'c'"):
        st.import_onnx(tmp_path / "two.onnx", output="c")
    assert len(st.import_onnx(tmp_path / "two.onnx", output="b").graph.steps) == 2
    onnx.save(model([make("Relu", "x")], shape=["n", 3, "h", "w"]), tmp_path / "open.onnx")
    with pytest.raises(OptionError, match=r"'x' leaves open, \(3, None, None\).*input_shape"):
        st.import_onnx(tmp_path / "open.onnx")
    with pytest.raises(OptionError, match=r"sample of shape \(3, None, None\).*got \(4, 5, 5\)"):
        st.import_onnx(tmp_path / "open.onnx", input_shape=(4, 5, 5))
    assert st.import_onnx(tmp_path / "open.onnx", input_shape=(3, 5, 6)).input_shape == (3, 5, 6)


# ---- functions -----------------------------------------------------------------------------------


@pytest.mark.peer
def test_a_function_is_believed_only_where_its_body_agrees(onnx: Any, tmp_path: Path) -> None:
    net = nn.Sequential(nn.LocallyConnected2d(2, 3, (4, 4), 3), nn.Flatten())
    path, x = tmp_path / "net.onnx", images(2, 2, 4, 4)
    st.export_onnx(net, path, input_shape=(2, 4, 4))
    found = onnx.load(path)
    assert "local2d" in {n.op for n in st.import_onnx(path).graph.steps}
    changed = next(n for n in found.functions[0].node if n.op_type == "Add")
    changed.op_type = "Sub"
    back = network_of(onnx.ModelProto.FromString(found.SerializeToString()))
    assert "local2d" not in {n.op for n in back.graph.steps}
    np.testing.assert_allclose(back(x), run(found, x), rtol=1e-5, atol=1e-6)
    assert abs(back(x) - net(x)).max() > 0.01, "what the body says, not what the text says"


@pytest.mark.peer
@pytest.mark.parametrize("number", [10**12, -(10**9), 70_000])
def test_a_text_of_huge_numbers_is_not_tried(number: int, onnx: Any, tmp_path: Path) -> None:
    st.export_onnx(nn.ConstantPad2d(1, 0.0), tmp_path / "a.onnx", input_shape=(1, 2, 2))
    st.export_onnx(nn.LPPool2d(1.5, 2), tmp_path / "a.onnx", input_shape=(1, 4, 4))
    found = onnx.load(tmp_path / "a.onnx")
    text = found.functions[0].doc_string
    found.functions[0].doc_string = text.replace("[1, 4, 4]", f"[1, {number}, {number}]")
    assert "lp_pool" not in {n.op for n in network_of(found).graph.steps}


# ---- hostile files -------------------------------------------------------------------------------


def refused(path: Path, match: str, **more: Any) -> None:
    with pytest.raises((FileError, OptionError), match=match) as caught:
        st.import_onnx(path, **more)
    text = str(caught.value)
    assert text.startswith(str(path)), "which file"
    assert "\n" not in text
    assert len(text) < 700


@pytest.mark.peer
def test_what_is_no_model(onnx: Any, tmp_path: Path) -> None:
    whole = model([make("Relu", "x")]).SerializeToString()
    rng, path = np.random.default_rng(0), tmp_path / "bad.onnx"
    for content in (b"", b"\x00" * 9, b"no model", rng.bytes(999), whole[:-3], b"\xff" * 99):
        path.write_bytes(content)
        refused(path, r"expected an ONNX model|expected a valid model|onnx: ")
    refused(tmp_path / "none.onnx", r"expected a file; there is none")
    refused(tmp_path, r"expected a file; got a folder")


@pytest.mark.peer
def test_changed_bytes_do_no_harm(onnx: Any, tmp_path: Path) -> None:
    """Each is the same network, another one, or refused in one sentence."""
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.LocallyConnected2d(2, 1, (2, 2), 2), nn.Flatten())
    st.export_onnx(net, tmp_path / "net.onnx", input_shape=(1, 4, 4))
    whole, rng = (tmp_path / "net.onnx").read_bytes(), np.random.default_rng(0)
    path, refusals = tmp_path / "changed.onnx", 0
    for _ in range(150):
        content = bytearray(whole)
        for place in rng.integers(0, len(content), 3):
            content[place] = rng.integers(0, 256)
        path.write_bytes(content)
        try:
            st.import_onnx(path)
        except (ModelError, OptionError) as error:
            refusals += 1
            assert "\n" not in str(error)
    assert refusals > 20


def _cycle() -> Any:
    return model([make("Add", "x b", "a"), make("Relu", "a", "b"), make("Relu", "b")])


def _of_shape(count: int, times: int = 1) -> Any:
    nodes = [make("ConstantOfShape", "s", f"c{k}") for k in range(times)]
    names = " ".join(f"c{k}" for k in range(times))
    return model([*nodes, make("Sum", f"x {names}")], {"s": np.array([count])}, ["n", 1])


HOSTILE: dict[str, tuple[Any, str]] = {
    "a cycle": (_cycle, r"topologically sorted"),
    "reads nothing": (lambda: model([make("Relu", "z")]), r"'z'|z"),
    "unknown operator": (lambda: model([make("Relux", "x")]), r"Relux"),
    "other domain": (lambda: model([make("Relu", "x", domain="evil")]), r"evil"),
    "huge numbers": (lambda: _of_shape(2**40), r"at most 268435456 numbers"),
    "many numbers": (lambda: _of_shape(2**26, 9), r"makes at most 268435456 numbers"),
    "negative sizes": (lambda: _of_shape(-5), r"expected a shape of at most"),
    "weights that do not fit": (
        lambda: model([make("Conv", "x w")], {"w": np.ones((2, 5, 1, 1), np.float32)}),
        r"onnx: node 'Conv y'.*channels",
    ),
    "shapes that do not broadcast": (
        lambda: model([make("Add", "x w")], {"w": np.ones(3, np.float32)}),
        r"broadcast",
    ),
    "the batch is mixed": (
        lambda: model([make("ReduceMean", "x axes")], {"axes": np.array([0])}),
        r"every sample to be computed by itself",
    ),
    "a shape from numbers": (
        lambda: model([make("NonZero", "x")]),
        r"shapes do not depend on the numbers of its input",
    ),
    "newest operator set": (lambda: model([make("Relu", "x")], opset=999), r"operator set up to"),
    "no input needed": (lambda: model([make("Relu", "w")], {"w": np.ones(3)}), r"valid|input"),
    "no batch": (lambda: model([make("Relu", "x")], shape=[]), r"batch axis"),
}


@pytest.mark.peer
@pytest.mark.parametrize("name", HOSTILE)
def test_models_that_cannot_be(name: str, onnx: Any, tmp_path: Path) -> None:
    made, match = HOSTILE[name]
    (tmp_path / "bad.onnx").write_bytes(made().SerializeToString())
    refused(tmp_path / "bad.onnx", match)


@pytest.mark.peer
def test_tensors_that_lie_about_their_size(onnx: Any, tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    for dims in ([2, 4], [10**9, 10**9], [-1], [-3, -1], [3, -1]):
        found = model([make("Add", "x w")], {"w": np.ones(3, np.float32)}, ["n", 3])
        found.graph.initializer[0].dims[:] = dims
        path.write_bytes(found.SerializeToString())
        refused(path, r"the tensor 'w'")
    twice = model([make("Add", "x w")], {"w": np.ones(3, np.float32)}, ["n", 3])
    twice.graph.initializer.append(twice.graph.initializer[0])
    path.write_bytes(twice.SerializeToString())
    refused(path, r"one initialiser 'w'; got two")


# ---- weights in other files ----------------------------------------------------------------------


@pytest.fixture
def two_files(onnx: Any, tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    st.export_onnx(nn.Linear(3, 2), folder / "net.onnx", input_shape=(3,), external_data=True)
    return folder / "net.onnx"


def relocated(onnx: Any, path: Path, **entries: str) -> Path:
    """The model with other entries for its first weight."""
    found = onnx.load(path, load_external_data=False)
    for entry in found.graph.initializer[0].external_data:
        entry.value = entries.get(entry.key, entry.value)
    path.write_bytes(found.SerializeToString())
    return path


@pytest.mark.peer
def test_other_files_are_opened_only_when_asked(two_files: Path) -> None:
    refused(two_files, r"lies in another file, which is not opened unless asked for")
    assert st.import_onnx(two_files, external_data=True)(np.ones((1, 3))).shape == (1, 2)


@pytest.mark.peer
@pytest.mark.parametrize(
    "location", ["../secret.data", "/etc/passwd", "", "..", "a/../../secret.data", "link.data"]
)
def test_only_files_in_the_folder(location: str, two_files: Path, onnx: Any) -> None:
    (two_files.parent.parent / "secret.data").write_bytes(b"\0" * 999)
    os.symlink(two_files.parent.parent / "secret.data", two_files.parent / "link.data")
    refused(
        relocated(onnx, two_files, location=location),
        r"expected a file inside the model's folder",
        external_data=True,
    )


@pytest.mark.peer
@pytest.mark.parametrize(
    ("entries", "match"),
    [
        ({"offset": "999"}, r"expected 24 bytes from 999 on"),
        ({"offset": "-4"}, r"offset=-4"),
        ({"length": "9999999999"}, r"expected 24 bytes for its shape"),
        ({"length": "many"}, r"whole numbers for offset and length"),
        ({"location": "none.data"}, r"there is none"),
        ({"checksum": "0" * 40}, r"the numbers that the model was written with"),
    ],
)
def test_entries_that_cannot_be(
    entries: dict[str, str], match: str, two_files: Path, onnx: Any
) -> None:
    with pytest.raises(FileError, match=match):
        st.import_onnx(relocated(onnx, two_files, **entries), external_data=True)
