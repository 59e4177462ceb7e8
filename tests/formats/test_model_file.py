"""Saving and loading networks: round trips, without the code, and damaged or foreign files."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.errors import ModelError, OptionError, ShapeError
from striate.formats.safetensors_file import load_tensors, save_tensors
from striate.nn import functional as F
from striate.nn import scalar


class Net(nn.Module):
    """Branches, a shared layer, an activation of one's own, dropout."""

    def __init__(self):
        super().__init__()
        self.left = nn.Conv2d(1, 2, 3, padding=1)
        self.right = nn.Conv2d(1, 2, 1)
        self.again = self.right
        self.act = nn.Scalar(lambda x: scalar.where(x > 0, x, 0.1 * x), name="leaky")
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(4 * 16, 3)

    def forward(self, x):
        y = F.cat((self.act(self.left(x)), self.right(x) + self.again(x)), dim=1)
        return self.fc(self.drop(y.flatten(1)))


X = np.random.default_rng(0).normal(size=(3, 1, 4, 4)).astype(np.float32)


@pytest.fixture(name="path")
def _path(tmp_path):
    return tmp_path / "net.safetensors"


def change(path, **changes):
    """Save the file anew with parts of its description changed."""
    tensors, metadata = load_tensors(path)
    data = json.loads(metadata["striate"])
    metadata["striate"] = json.dumps({**data, **changes})
    save_tensors(path, tensors, metadata)


def test_round_trip(path):
    net = Net().eval()
    expected = net(X)
    st.save(net, path)
    loaded = st.load(path)
    assert np.array_equal(loaded(X), expected)
    assert np.array_equal(loaded(X[:1]), net(X[:1]))
    assert loaded(X[:0]).shape == (0, 3)
    assert set(loaded.state_dict()) == set(net.state_dict())
    assert [n for n, _ in loaded.named_parameters()] == [n for n, _ in net.named_parameters()]
    assert not loaded.training
    assert loaded.input_shape == (1, 4, 4)
    assert "leaky" in repr(loaded)


def test_the_tensors_bear_torchs_names(path):
    net = Net()
    st.save(net, path, input_shape=(1, 4, 4))
    tensors, _ = load_tensors(path)
    assert sorted(tensors) == sorted(net.state_dict())
    assert np.array_equal(tensors["again.weight"], net.right.weight.data)


def test_a_layer_used_twice_stays_one(path):
    st.save(Net(), path, input_shape=(1, 4, 4))
    loaded = st.load(path)
    state = loaded.state_dict()
    assert state["again.weight"] is state["right.weight"]
    assert len(list(loaded.parameters())) == 6


def test_saving_twice_gives_the_same_bytes(path, tmp_path):
    net = Net()
    st.save(net, path, input_shape=(1, 4, 4))
    again = tmp_path / "again.safetensors"
    st.save(net, again, input_shape=(1, 4, 4))
    assert path.read_bytes() == again.read_bytes()
    st.save(st.load(path), again)
    assert path.read_bytes() == again.read_bytes()


def test_modes_are_left_as_they_were(path):
    net = Net()
    net.left.eval()
    st.save(net, path, input_shape=(1, 4, 4))
    assert (net.training, net.left.training, net.right.training) == (True, False, True)


def test_dropout_comes_back_in_training(path):
    st.save(Net(), path, input_shape=(1, 4, 4))
    loaded = st.load(path)
    assert np.array_equal(loaded(X), loaded(X))
    assert "dropout" not in {n.op for n in loaded.to_graph((1, 4, 4)).steps}
    loaded.train()
    assert [n.name for n in loaded.to_graph((1, 4, 4)).steps if n.op == "dropout"] == ["drop"]
    assert not np.array_equal(loaded(X), loaded(X))


def test_other_image_sizes(path):
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2))
    net(np.zeros((1, 1, 8, 8)))
    st.save(net, path)
    loaded = st.load(path)
    x = np.random.default_rng(1).normal(size=(2, 1, 11, 9))
    assert np.array_equal(loaded(x), net(x))
    st.save(Net(), path, input_shape=(1, 4, 4))
    with pytest.raises(ShapeError, match="saved for other image sizes"):
        st.load(path)(np.zeros((1, 1, 8, 8)))


def test_changing_a_loaded_network(path):
    net = Net()
    st.save(net, path, input_shape=(1, 4, 4))
    loaded = st.load(path)
    loaded.fc.weight.data[:] = 0
    loaded.get_parameter("fc.bias").data[:] = [1, 2, 3]
    assert np.array_equal(loaded(X), np.tile([1, 2, 3], (3, 1)))
    loaded.load_state_dict(net.state_dict())
    assert np.array_equal(loaded(X), net.eval()(X))


def test_a_loaded_network_is_a_layer_like_any_other(path):
    net = Net().eval()
    st.save(net, path, input_shape=(1, 4, 4))
    outer = nn.Sequential(st.load(path), nn.ReLU())
    assert np.array_equal(outer(X), np.maximum(net(X), 0))
    assert "0.left.weight" in outer.state_dict()


def test_it_loads_without_the_code_that_built_it(path, tmp_path):
    net = Net().eval()
    st.save(net, path, input_shape=(1, 4, 4))
    np.save(tmp_path / "x.npy", X)
    code = (
        "import sys, numpy as np, striate as st\n"
        "net = st.load(sys.argv[1])\n"
        "np.save(sys.argv[3], net(np.load(sys.argv[2])))\n"
    )
    files = [str(path), str(tmp_path / "x.npy"), str(tmp_path / "y.npy")]
    subprocess.run([sys.executable, "-c", code, *files], check=True, cwd=tmp_path)
    assert np.array_equal(np.load(tmp_path / "y.npy"), net(X))


def test_notes_travel(path, tmp_path):
    notes = {"classes": ["zero", "one", "ä"], "scale": 0.5}
    st.save(Net(), path, input_shape=(1, 4, 4), notes=notes)
    loaded = st.load(path)
    assert loaded.notes == notes
    loaded.notes["scale"] = 0.25
    st.save(loaded, tmp_path / "again.safetensors")
    assert st.load(tmp_path / "again.safetensors").notes == {**notes, "scale": 0.25}
    with pytest.raises(OptionError, match="expected notes and constants of JSON values"):
        st.save(Net(), path, input_shape=(1, 4, 4), notes={"bad": X})


def test_layers_called_like_parts_of_the_loader(path):
    outer = nn.Sequential()
    outer.add_module("graph", nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
    outer.add_module("description", nn.Linear(2, 1))
    st.save(outer, path, input_shape=(2,))
    assert np.array_equal(st.load(path)(np.ones((1, 2))), outer(np.ones((1, 2))))


def test_a_network_never_called_needs_its_shape(path):
    with pytest.raises(OptionError, match=r"save: expected a network whose input shape is known"):
        st.save(Net(), path)
    assert not path.exists()
    with pytest.raises(OptionError, match="save: expected a Module; got dict"):
        st.save({}, path)


def test_foreign_safetensors_are_refused_with_the_way_out(path):
    save_tensors(path, {"fc.weight": np.ones((2, 2))}, {"format": "pt"})
    with pytest.raises(
        ModelError, match=r"1 tensors without a network. Build the network and load"
    ):
        st.load(path)


def test_no_such_file_and_no_model(path):
    with pytest.raises(ModelError, match=r"net.safetensors"):
        st.load(path)
    path.write_bytes(b"this is no model")
    with pytest.raises(ModelError, match="expected a safetensors file"):
        st.load(path)


def test_truncated_files(path):
    st.save(Net(), path, input_shape=(1, 4, 4))
    whole = path.read_bytes()
    for length in (0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelError, match=r"net.safetensors"):
            st.load(path)


GRAPH = nn.Sequential(nn.Linear(2, 3)).to_graph((2,)).to_json()


def changed(**changes):
    nodes = [{**n, **changes.get(n["op"], {})} for n in GRAPH["nodes"]]
    return {**GRAPH, "nodes": nodes}


DAMAGED = [
    ({"format": "striate-model-9"}, "got format='striate-model-9'.*upgrade"),
    ({"graph": None}, "got a description without 'graph'"),
    ({"graph": {**GRAPH, "format": "x"}}, "expected format 'striate-graph-1'"),
    ({"graph": {**GRAPH, "outputs": ["y"]}}, "the output 'y' is no node"),
    ({"graph": {**GRAPH, "outputs": []}}, "expected inputs and outputs; got 1 and 0"),
    ({"graph": changed(linear={"op": "lineer"})}, "unknown operation 'lineer'. Did you mean"),
    ({"graph": changed(linear={"inputs": ["input", "w"]})}, "reads 'w', which no node"),
    ({"graph": changed(linear={"attributes": {"a": 1}})}, "unknown attribute 'a'"),
    ({"graph": changed(parameter={"shape": [3, 2, 1]})}, "linear"),
    ({"graph": changed(input={"shape": [5]})}, "linear"),
    ({"graph": changed(input={"shape": ["a"]})}, "damaged data"),
    ({"parameters": ["0.weight", "0.bias", "more"]}, "got no tensor 'more'"),
    ({"parameters": ["0.weight"]}, "expected a parameter '0.bias'"),
    ({"aliases": {"other": "none"}}, "expected a parameter 'none' to share"),
    ({"aliases": {"0.weight.deep": "0.bias"}}, "names that form a tree"),
    ({"notes": []}, "without 'notes'"),
]


@pytest.mark.parametrize("k", range(len(DAMAGED)))
def test_damaged_descriptions(k, path):
    changes, text = DAMAGED[k]
    st.save(nn.Sequential(nn.Linear(2, 3)), path, input_shape=(2,))
    change(path, **changes)
    with pytest.raises(ModelError, match=f"net.safetensors: expected a striate model; .*{text}"):
        st.load(path)


def test_descriptions_that_are_no_json_or_too_deep(path):
    st.save(nn.Sequential(nn.Linear(2, 3)), path, input_shape=(2,))
    tensors, metadata = load_tensors(path)
    for text, reason in (
        ("{", "no JSON"),
        ('{"format": 1e400}', "is not finite"),
        ('{"format": NaN}', "is not finite"),
        ("[" * 100_000, "nested too deeply|no JSON"),
        ("3", "got f"),
    ):
        save_tensors(path, tensors, {**metadata, "striate": text})
        with pytest.raises(ModelError, match=reason):
            st.load(path)


def test_wrong_dtypes_and_shapes(path):
    st.save(nn.Sequential(nn.Linear(2, 3)), path, input_shape=(2,))
    tensors, metadata = load_tensors(path)
    save_tensors(path, {**tensors, "0.bias": np.zeros(3)}, metadata)
    with pytest.raises(ModelError, match=r"got dtype=float64 for '0.bias'"):
        st.load(path)
    save_tensors(path, {**tensors, "0.bias": np.zeros(4, np.float32)}, metadata)
    with pytest.raises(ModelError, match=r"expected 0.bias of shape \(3,\); got shape=\(4,\)"):
        st.load(path)


def test_a_network_whose_training_cannot_be_traced_is_saved_for_use(path):
    class TwoAnswers(nn.Module):
        def forward(self, x):
            return (x, x) if self.training else x * 2

    st.save(TwoAnswers(), path, input_shape=(2,))
    assert np.array_equal(st.load(path)(np.ones((1, 2))), [[2, 2]])
