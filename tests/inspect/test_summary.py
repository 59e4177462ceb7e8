"""Summaries: known totals, rows never read, shared parameters, text and JSON."""

from __future__ import annotations

import doctest
import importlib
import json
import re
import subprocess
import sys

import pytest

import striate as st
from striate import nn
from striate.errors import OptionError, ShapeError
from striate.graph.graph import Graph, Node
from striate.inspect import summarize, summary
from striate.inspect.summary_text import bar, short_count


def test_lenet5():
    found = summary(st.models.build("lenet5"), (1, 28, 28))
    assert found.parameters == 61_706
    assert found.multiply_adds == 416_520
    assert found.parameter_bytes == 246_824
    rows = {row.name: row for row in found.rows}
    assert (rows["conv1"].shape, rows["conv1"].parameters) == ((6, 28, 28), 156)
    assert [rows[n].multiply_adds for n in ("conv1", "conv2", "fc1", "fc2", "fc3")] == [
        117_600, 240_000, 48_000, 10_080, 840,
    ]  # fmt: skip
    assert rows["conv1"].layer == "conv2d 5×5, padding 2"
    assert rows["relu1"].layer == "relu"
    assert rows["conv1"].bytes == 4 * 6 * 28 * 28
    assert not any(row.unread for row in found.rows)


@pytest.mark.parametrize(
    ("layer", "size", "unread"),
    [
        (nn.Conv1d(1, 1, 3, stride=3), (7,), "column 6"),
        (nn.Conv3d(1, 1, 2, stride=2), (3, 4, 5), "slice 2, column 4"),
        (nn.LocallyConnected2d(1, 1, (7, 6), 3, 3), (7, 6), "row 6"),
        (nn.TiledConv1d(1, 1, 2, 2, stride=3), (6,), "columns 2, 5"),
        (nn.Conv2d(1, 1, 3, 3, true_convolution=True), (7, 6), "row 6"),
        (nn.ConvTranspose2d(1, 1, 1, stride=2), (3, 3), ""),
        (nn.Conv2d(1, 1, 3, stride=3), (7, 7), "row 6, column 6"),
        (nn.Conv2d(1, 1, 3, stride=3), (9, 8), "columns 6–7"),
        (nn.Conv2d(1, 1, 1, stride=2), (6, 5), "rows 1, 3, 5, columns 1, 3"),
        (nn.Conv2d(1, 1, 1, stride=2), (12, 2), "6 rows (1, 3, 5, …), column 1"),
        (nn.MaxPool2d(2), (5, 4), "row 4"),
        (nn.MaxPool2d(3, stride=2), (7, 7), ""),
        (nn.Conv2d(1, 1, 3, stride=3, padding=1), (7, 7), ""),
    ],
)
def test_rows_that_a_stride_never_reaches(layer, size, unread):
    found = summary(layer, (1, *size))
    assert found.rows[0].unread == unread
    assert ("never read" in found.text()) == bool(unread)


def test_a_shared_parameter_counts_once():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(5, 5)

        def forward(self, x):
            return self.fc(self.fc(x))

    found = summary(Twice(), (5,))
    assert found.parameters == 30
    assert found.multiply_adds == 50
    assert [row.parameters for row in found.rows] == [30, 0]


def test_layers_are_named_by_what_they_do():
    net = nn.Sequential(
        nn.Conv2d(2, 4, (3, 1), stride=(2, 1), padding=(1, 0), groups=2),
        nn.Tanh(),
        nn.AvgPool2d(2, stride=1),
        nn.Flatten(),
        nn.Dropout(0.25),
    )
    layers = [row.layer for row in summary(net, (2, 8, 8)).rows]
    assert layers[0] == "conv2d 3×1, stride 2×1, padding 1×0, groups 2"
    assert layers[1] == "tanh"
    assert layers[2] == "avg_pool2d 2×2, stride 1"
    assert layers[3] == "reshape"


def test_layers_of_any_rank():
    net = nn.Sequential(
        nn.Conv3d(1, 2, (1, 3, 3), stride=(1, 2, 2), padding=1),
        nn.BatchNorm3d(2),
        nn.Flatten(2),
        nn.Conv1d(2, 3, 4, stride=2, dilation=3),
        nn.ReLU6(),
    )
    rows = summary(net, (1, 3, 6, 6)).rows
    assert rows[0].layer == "conv3d 1×3×3, stride 1×2×2, padding 1"
    assert rows[0].multiply_adds == 2 * 5 * 3 * 3 * 9
    assert (rows[1].layer, rows[1].parameters) == ("batch_norm", 4)
    assert rows[3].layer == "conv1d 4, stride 2, dilation 3"
    assert rows[3].multiply_adds == 18 * 3 * 2 * 4
    assert rows[4].layer == "relu6"


def test_layers_of_unets_and_alexnets():
    net = nn.Sequential(
        nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1, output_padding=1),
        nn.LocalResponseNorm(5),
        nn.AdaptiveAvgPool2d((2, 3)),
    )
    rows = summary(net, (3, 5, 4)).rows
    assert rows[0].layer == "conv_transpose2d 3×3, stride 2, padding 1, output padding 1"
    assert rows[0].multiply_adds == 5 * 4 * 3 * 2 * 9
    assert rows[1].layer == "local_response_norm" and rows[1].multiply_adds == 5 * 2 * 10 * 8
    assert rows[2].layer == "adaptive_avg_pool2d 2×3"


def test_the_input_shape_may_be_known_already(tmp_path):
    net = nn.Sequential(nn.Conv2d(1, 2, 3))
    with pytest.raises(OptionError, match=r"summary\(net, \(1, 28, 28\)\)"):
        summary(net)
    assert summary(net, (1, 5, 5)).multiply_adds == 2 * 9 * 9
    assert summary(net).input_shape == (1, 5, 5)
    st.save(net, tmp_path / "net.safetensors")
    loaded = st.load(tmp_path / "net.safetensors")
    assert summary(loaded).multiply_adds == 2 * 9 * 9
    assert summary(loaded, (1, 9, 9)).multiply_adds == 2 * 9 * 49


def test_a_graph_can_be_given_and_resized():
    graph = nn.Conv2d(1, 2, 3).to_graph((1, 5, 5))
    assert summary(graph) == summarize(graph)
    assert summary(graph, (1, 6, 6)).rows[0].shape == (2, 4, 4)
    with pytest.raises(ShapeError, match=r"= 0"):
        summary(graph, (1, 2, 2))


def test_text_fits_its_width_and_has_every_row():
    found = summary(st.models.build("lenet5"), (1, 28, 28))
    for width in (70, 100, 200):
        lines = found.text(width).splitlines()
        assert max(map(len, lines)) <= width
    text = str(found)
    assert all(re.search(rf"^{row.name}\b", text, re.M) for row in found.rows)
    assert re.search(r"^parameters +61,706 +\(241\.0 KiB\)$", text, re.M)
    assert re.search(r"^multiply-adds +416,520 ", text, re.M)


def test_columns_are_shown_where_there_is_room():
    found = summary(st.models.build("lenet5"), (1, 28, 28))
    narrow, usual, wide = (found.text(width).splitlines() for width in (70, 100, 120))
    assert narrow[0].split()[-2:] == ["field", "stride"] and "mult-adds" in narrow[0]
    assert "118 K" in narrow[3] and "117,600" in usual[3] and " 28% " in usual[3]
    assert "s stride, p padding" in narrow[-1] and "conv2d 5×5, padding 2" in usual[3]
    assert "58% ████▋" in wide[6]
    assert wide[6].split()[-2:] == ["14", "2"] and wide[10].split()[-2:] == ["all", "–"]


def test_rows_never_read_stand_below_where_there_is_no_room():
    net = nn.Sequential(nn.Conv2d(1, 1, 1, stride=2), nn.MaxPool2d(2))
    found = summary(net, (1, 12, 10))
    [line] = [line for line in found.text(70).splitlines() if line.startswith("never read")]
    assert "0: 6 rows (1, 3, 5, …), 5 columns (1, 3, 5, …);" in line
    assert max(map(len, found.text(70).splitlines())) <= 70
    assert "never read  " not in found.text(160).splitlines()[-2]


def test_short_counts_and_bars():
    assert [short_count(n) for n in (999, 1000, 9_996, 99_960, 999_600, 1_849_688_064)] == [
        "999", "1.00 K", "10.0 K", "100 K", "1.00 M", "1.85 G",
    ]  # fmt: skip
    assert [bar(x, 4) for x in (0.0, 1 / 32, 0.5, 31 / 32, 1.0)] == ["", "▏", "██", "███▉", "████"]


def test_a_graph_of_several_inputs_has_no_fields():
    graph = Graph([Node("a", "input", shape=(2,)), Node("b", "input", shape=(2,))])
    graph.apply("cat", "concat", ("a", "b"), {"axis": 1})
    graph.outputs = ("cat",)
    found = summary(graph)
    assert found.receptive_fields is None and "field" not in found.text(120)
    assert "receptive_field" not in found.to_dict()["layers"][0]


def test_names_are_not_taken_for_markup():
    net = nn.Sequential()
    net.add_module("[bold]", nn.ReLU())
    assert "[bold]" in summary(net, (2,)).text()


def test_to_dict_is_json():
    found = summary(nn.Conv2d(1, 1, 3, stride=3), (1, 7, 7))
    data = json.loads(json.dumps(found.to_dict()))
    assert data["multiply_adds"] == found.multiply_adds == 36
    assert data["layers"][0]["unread_rows"] == [6]
    assert data["layers"][0]["shape"] == [1, 2, 2]
    assert data["layers"][0]["share"] == 1.0
    field = data["layers"][0]["receptive_field"]
    assert (field["size"], field["stride"], field["centre"]) == ([3, 3], [3, 3], [1.0, 1.0])


def test_top_level_names():
    assert st.summary is summary
    assert callable(st.explain)


def test_examples_in_docstrings():
    for name in ("summary", "summary_text"):
        module = importlib.import_module(f"striate.inspect.{name}")
        assert doctest.testmod(module).failed == 0


def test_the_numbers_need_no_rich():
    code = (
        "import sys, striate as st; "
        "st.summary(st.models.build('lenet5'), (1, 28, 28)); "
        "sys.exit('rich' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
