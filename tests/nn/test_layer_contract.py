"""The rest of every layer's contract: gradients, files, orders of axes, shapes that do not fit."""

from __future__ import annotations

import copy
import inspect
import re

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.errors import OptionError, ShapeError
from striate.formats.safetensors_file import load_tensors
from striate.nn.gradients import Target, learned
from striate.program.gradient_program import ReferenceGradient
from tests.nn.cases import LAYERS, build, class_of, inputs_of, sample_shapes

Tensors = dict[str, np.ndarray]

# ---- gradients ---------------------------------------------------------------------------------

# Classes, and cases of those that have others too, whose output is linear in the first input (but
# for what is added). Their gradient is held against the output itself, without a small step.
LINEAR = set(
    """
    AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d AlphaDropout AvgPool1d AvgPool2d AvgPool3d
    BatchNorm1d BatchNorm2d BatchNorm3d Bilinear CenterCrop ChannelAvgPool ChannelShuffle
    CircularPad1d CircularPad2d CircularPad3d ConstantPad1d ConstantPad2d ConstantPad3d Conv1d
    Conv2d Conv3d ConvTranspose1d ConvTranspose2d ConvTranspose3d Dropout Dropout1d Dropout2d
    Dropout3d DynamicPool2d FeatureAlphaDropout Flatten Fold Formula GaussianPool1d GaussianPool2d
    GaussianPool3d GlobalAvgPool1d GlobalAvgPool2d GlobalAvgPool3d Identity LearnedPool2d Linear
    LocallyConnected1d LocallyConnected2d LocallyConnected3d LocallyConnectedTranspose1d
    LocallyConnectedTranspose2d LocallyConnectedTranspose3d MaxUnpool1d MaxUnpool2d MaxUnpool3d
    Operation Permute PixelShuffle PixelUnshuffle ReflectionPad1d ReflectionPad2d ReflectionPad3d
    ReplicationPad1d ReplicationPad2d ReplicationPad3d SeparableConv1d SeparableConv2d
    SeparableConv3d SpatialPyramidPool-avg Subsample SumPool1d SumPool2d SumPool3d TiledConv1d
    TiledConv2d TiledConv3d Unflatten Unfold Upsample UpsamplingBilinear2d UpsamplingNearest2d
    ZeroPad1d ZeroPad2d ZeroPad3d
    """.split()
)
NOT_LINEAR = {"DynamicPool2d-max"}


def is_whole(x: np.ndarray) -> bool:
    return x.dtype.kind in "iu"


class Exact:
    """A layer in float64: its output, and the gradient of ⟨v, output⟩, for tensors by name."""

    def __init__(self, name: str) -> None:
        inputs = inputs_of(name)
        self.target = Target(build(name).eval(), inputs, "contract")
        given = dict(zip(self.target.inputs, inputs, strict=True))
        wanted = [n for n in learned(self.target) if n in self.target.graph.nodes]
        self.wanted = [n for n in wanted if not (n in given and is_whole(given[n]))]
        draws = self.target.draws
        self.program = ReferenceGradient(self.target.graph, None, self.wanted, draws, exact=True)
        graph, arrays = self.target.graph, self.target.arrays()
        tensors = given | {n.name: arrays[n.name] for n in graph.parameters}
        self.tensors = {n: x if is_whole(x) else x.astype(float) for n, x in tensors.items()}

    def _split(self, tensors: Tensors) -> tuple[Tensors, Tensors]:
        given = {n: x for n, x in tensors.items() if n in self.target.inputs}
        return given, {n: x for n, x in tensors.items() if n not in given}

    def output(self, name: str, array: np.ndarray) -> np.ndarray:
        """The output where one tensor is another one."""
        tensors = self._split({**self.tensors, name: array})
        found: np.ndarray = self.program.start(*tensors, seed=0).values[self.target.output]
        return found

    def pulled(self, name: str, v: np.ndarray) -> np.ndarray:
        upstream = {self.target.output: v}
        found: np.ndarray = self.program.run(*self._split(self.tensors), upstream, seed=0)[1][name]
        return found


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_of_linear_layers_are_adjoint(name):
    """`⟨A u, v⟩ = ⟨u, Aᵀ v⟩` in float64, for each input and parameter that is multiplied only."""
    layer, rng = Exact(name), np.random.default_rng(7)
    linear = set()
    for tensor in layer.wanted:
        u, w = (rng.normal(size=layer.tensors[tensor].shape) for _ in range(2))
        zero = layer.output(tensor, np.zeros_like(u))
        au, aw, both = (layer.output(tensor, k) - zero for k in (u, w, 2 * u - 3 * w))
        if np.allclose(both, 2 * au - 3 * aw, rtol=1e-9, atol=1e-9 * np.abs(both).max()):
            linear.add(tensor)
            v = rng.normal(size=au.shape)
            expected = (u * layer.pulled(tensor, v)).sum()
            assert (au * v).sum() == pytest.approx(expected, rel=1e-9, abs=1e-9), tensor
    x = layer.target.inputs[0]
    known = {name, class_of(name)} & LINEAR and name not in NOT_LINEAR
    assert x not in layer.wanted or (x in linear) == bool(known)


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_central_differences(name):
    """In evaluation; and in training too where the layer is another function then."""
    layer, inputs = build(name), inputs_of(name)
    graphs = [
        str(m.to_graph(sample_shapes(inputs)).to_json()) for m in (layer.train(), layer.eval())
    ]
    report = st.check_gradient(layer, inputs)
    assert report.ok, f"{name}\n{report}"
    assert {n for n, _ in layer.named_parameters()} <= {row.name for row in report.rows}
    if graphs[0] != graphs[1] or "BatchNorm" in name:
        report = st.check_gradient(layer.train(), inputs)
        assert report.ok, f"{name} in training\n{report}"


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_of_an_empty_batch(name):
    layer, inputs = build(name).eval(), inputs_of(name)
    taken = [k for k, x in zip(("input", "input_1", "input_2"), inputs, strict=False)]
    to = [k for k, x in zip(taken, inputs, strict=True) if not is_whole(x)]
    found = st.gradient(layer, tuple(x[:0] for x in inputs), to=[*to, "parameters"])
    assert all(
        found[k].shape == (0, *x.shape[1:]) for k, x in zip(taken, inputs, strict=True) if k in to
    )
    for parameter, array in layer.named_parameters():
        assert found[parameter].shape == array.shape and not found[parameter].any()


# ---- files -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYERS)
def test_files_and_state(name, tmp_path):
    """A file holds the layer for `load`, and its state for a layer made anew."""
    layer, inputs = build(name).eval(), inputs_of(name)
    expected, path = layer(*inputs), tmp_path / "layer.safetensors"
    st.save(layer, path, input_shape=sample_shapes(inputs))
    np.testing.assert_array_equal(st.load(path)(*inputs), expected)
    tensors, _ = load_tensors(path)
    state = layer.state_dict()
    assert set(state) <= set(tensors) <= set(layer.arrays())
    for source in (tensors, state):
        other = copy.deepcopy(layer)
        for array in other.state_dict().values():
            array[...] = 7
        other.load_state_dict(source)
        np.testing.assert_array_equal(other(*inputs), expected)


# ---- orders of axes ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYERS)
def test_images_that_lie_otherwise_in_memory(name):
    """Channels last in memory, as other libraries have them, or backwards, is only a view."""
    layer, inputs = build(name).eval(), inputs_of(name)
    expected = layer(*inputs)
    for turned in (
        [np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1) for x in inputs],
        [np.ascontiguousarray(x[::-1])[::-1] for x in inputs],
        [np.asfortranarray(x) for x in inputs],
    ):
        np.testing.assert_array_equal(layer(*turned), expected)


def has_format(kind: type) -> bool:
    return "data_format" in inspect.signature(kind).parameters


FORMATS = [name for name in LAYERS if has_format(getattr(nn, class_of(name)))]


def test_every_layer_with_channels_last_is_tried():
    kinds = [
        n for n in nn.__all__ if isinstance(getattr(nn, n), type) and has_format(getattr(nn, n))
    ]
    assert sorted(set(kinds) - {class_of(name) for name in FORMATS}) == []
    assert len(kinds) > 35


@pytest.mark.parametrize("name", FORMATS)
def test_channels_last_is_the_same_transposed(name):
    layer, (x,) = build(name).eval(), inputs_of(name)
    was = next(m.data_format for m in layer.modules() if hasattr(m, "data_format"))
    (other,) = {"channels_first", "channels_last"} - {was}
    layers = {was: layer, other: copy.deepcopy(layer)}
    for module in layers[other].modules():
        if hasattr(module, "data_format"):
            module.data_format = other
    if was == "channels_last":
        x = np.moveaxis(x, -1, 1)
    found = layers["channels_last"](np.moveaxis(x, 1, -1))
    expected = layers["channels_first"](x)
    np.testing.assert_allclose(np.moveaxis(found, -1, 1), expected, rtol=1e-6, atol=1e-6)


# ---- shapes that do not fit --------------------------------------------------------------------

# These take images of any number of axes; all others refuse an axis too many or too few.
ANY_AXES = set(
    """
    AlphaDropout Arctan Arsinh BReLU BinaryStep CELU CrossMapLRN2d Dropout ELU ELiSH Embedding
    FeatureAlphaDropout Flatten GELU GramMatrix Hardshrink Hardsigmoid Hardswish Hardtanh ISRLU ISRU
    Identity LeakyReLU LocalResponseNorm LogSigmoid Mish RReLU ReLU ReLU6 SELU SQNL ScaledTanh SiLU
    Sigmoid Softmin Softplus Softshrink Softsign Tanh Tanhshrink Threshold
    """.split()
)
# These are made for a number of channels (or features), or for groups of them.
OF_CHANNELS = set(
    """
    APL AdaptiveInstanceNorm BatchNorm1d BatchNorm2d BatchNorm3d Bilinear Capsules ChannelLPPool
    ChannelMaxPool ChannelShuffle Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d
    ConvTranspose3d CosineSimilarity Fold Formula GLU GRU GRUCell GroupNorm InstanceNorm2d LSTM
    LSTMCell LayerNorm Linear LocallyConnected1d LocallyConnected2d LocallyConnected3d
    LocallyConnectedTranspose1d LocallyConnectedTranspose2d LocallyConnectedTranspose3d MaxUnpool1d
    MaxUnpool2d MaxUnpool3d Maxout MaxoutChannels Operation PReLU PairwiseDistance PixelShuffle
    PrimaryCapsules RBF RMSNorm RNN RNNCell SReLU Scalar SeparableConv1d SeparableConv2d
    SeparableConv3d Subsample TiledConv1d TiledConv2d TiledConv3d Unflatten
    """.split()
)
FEATURES_LAST = {"LSTM", "GRU", "RNN", "Linear"}


def messages(name, kind):
    """What a case says of an input with another number of channels, or of axes."""
    inputs, found = inputs_of(name), []
    last = "-last" in name or class_of(name) in FEATURES_LAST
    for at, x in enumerate(inputs):
        axis = -1 if last else min(1, x.ndim - 1)
        one = x.take([0], axis)
        misfits = {"channels": [np.concatenate([x, one], axis)], "axes": [x[:, None], x[..., 0]]}
        for misfit in misfits[kind]:
            try:
                build(name).eval()(*inputs[:at], misfit, *inputs[at + 1 :])
            except (ShapeError, OptionError) as error:
                found.append(str(error))
    return found


@pytest.mark.parametrize(("kind", "free"), [("axes", ANY_AXES), ("channels", None)])
def test_inputs_that_do_not_fit_are_refused(kind, free):
    """One sentence by the layer's name, with what was expected and what was got."""
    refusing = set()
    for name in LAYERS:
        for text in messages(name, kind):
            refusing.add(class_of(name))
            start = "(layer: )?" if "layer" in dict(build(name).named_children()) else ""
            pattern = (
                rf"{start}{class_of(name)}: [^\n]*\bexpected [^\n]+; got [^\n]+\.( \([^\n]*\))?"
            )
            assert re.fullmatch(pattern, text), f"{name}: {text}"
            assert len(text) < 330, text
    classes = {class_of(name) for name in LAYERS}
    assert refusing == (OF_CHANNELS if free is None else classes - free)


@pytest.mark.parametrize("name", LAYERS)
def test_sizes_of_zero_are_refused(name):
    """A batch may be empty, an image or its channels may not."""
    layer, inputs = build(name), inputs_of(name)
    empty = [x[:, :0] for x in inputs]
    with pytest.raises((ShapeError, OptionError), match=r": [^\n]*expected .*; got .*0"):
        layer(*empty)
