"""Models for the tests of ONNX files: written by hand, run by ONNX Runtime, light networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

LIGHT = {  # name -> its classes or output sizes are in the file; the number of its weights
    "bvlc_alexnet": 60_965_224,
    "densenet121": 8_062_504,
    "inception_v1": 6_998_552,
    "inception_v2": 11_214_888,
    "resnet50": 25_557_032,
    "shufflenet": 1_393_320,
    "squeezenet": 1_235_496,
    "vgg19": 143_667_240,
    "zfnet512": 87_250_536,
}


def light_path(name: str) -> Path:
    """Where the package onnx has that network."""
    import onnx

    return Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / f"light_{name}.onnx"


def run(model: Any, *inputs: Any) -> Any:
    """What ONNX Runtime gives for the first output."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(
        model if isinstance(model, (str, bytes)) else model.SerializeToString(),
        options,
        providers=["CPUExecutionProvider"],
    )
    kinds = {"tensor(float)": np.float32, "tensor(int64)": np.int64}
    given = {
        k.name: np.asarray(x, kinds[k.type])
        for k, x in zip(session.get_inputs(), inputs, strict=True)
    }
    return session.run(None, given)[0]


def make(op: str, inputs: str, output: str = "y", **attributes: Any) -> Any:
    """A node."""
    import onnx

    names = output.split()
    return onnx.helper.make_node(op, inputs.split(), names, name=f"{op} {names[0]}", **attributes)


def model(
    nodes: list[Any],
    weights: dict[str, Any] | None = None,
    shape: Any = ("n", 3, 4, 4),
    outputs: str = "y",
    opset: int = 18,
) -> Any:
    """A model from x to outputs of unstated shapes."""
    import onnx

    helper = onnx.helper
    kept = [onnx.numpy_helper.from_array(np.asarray(a), k) for k, a in (weights or {}).items()]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", 1, shape)],
        [helper.make_tensor_value_info(name, 1, None) for name in outputs.split()],
        kept,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def with_random_weights(found: Any, seed: int = 0) -> Any:
    """The model with numbers drawn at random where it makes weights of one constant."""
    import onnx

    rng = np.random.default_rng(seed)
    shapes = {k.name: onnx.numpy_helper.to_array(k) for k in found.graph.initializer}
    norms = [node for node in found.graph.node if node.op_type == "BatchNormalization"]
    near_one = {name for node in norms for name in (node.input[1], node.input[4])}
    kept = []
    for node in found.graph.node:
        if node.op_type != "ConstantOfShape" or node.input[0] not in shapes:
            kept.append(node)
            continue
        name, shape = node.output[0], tuple(shapes[node.input[0]])
        array = _drawn(rng, shape, name in near_one)
        found.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    del found.graph.node[:]
    found.graph.node.extend(kept)
    return found


def _drawn(rng: np.random.Generator, shape: tuple[int, ...], near_one: bool) -> np.ndarray:
    if near_one:
        return rng.uniform(0.8, 1.2, shape).astype(np.float32)
    spread = np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 0.1
    return rng.standard_normal(shape, np.float32) * np.float32(spread)
