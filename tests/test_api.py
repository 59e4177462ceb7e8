"""The public names, pinned; and that importing striate stays light."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import striate as st
from striate import models, nn
from striate.nn import functional, init, scalar

PUBLIC = [
    "Graph",
    "__version__",
    "data",
    "errors",
    "explain",
    "filters",
    "fit",
    "formats",
    "freeze",
    "get_num_threads",
    "inspect",
    "load",
    "manual_seed",
    "models",
    "nn",
    "optim",
    "plot",
    "save",
    "scalar",
    "set_num_threads",
    "summary",
]
LAYERS = [
    "APL",
    "CELU",
    "ELU",
    "GELU",
    "GLU",
    "ISRLU",
    "ISRU",
    "SELU",
    "SQNL",
    "AdaptiveAvgPool2d",
    "Arctan",
    "Arsinh",
    "AvgPool2d",
    "BCELoss",
    "BCEWithLogitsLoss",
    "BReLU",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "BinaryStep",
    "CTCLoss",
    "CenterCrop",
    "CircularPad1d",
    "CircularPad2d",
    "CircularPad3d",
    "ConstantPad1d",
    "ConstantPad2d",
    "ConstantPad3d",
    "ContentLoss",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "CrossEntropyLoss",
    "DiceLoss",
    "Dropout",
    "ELiSH",
    "Flatten",
    "FocalCrossEntropyLoss",
    "GramMatrix",
    "GraphModule",
    "Hardshrink",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "HingeEmbeddingLoss",
    "HingeLoss",
    "HuberLoss",
    "Identity",
    "JaccardLoss",
    "KLDivLoss",
    "L1Loss",
    "LeakyReLU",
    "Linear",
    "LocalResponseNorm",
    "LocallyConnected1d",
    "LocallyConnected2d",
    "LocallyConnected3d",
    "LocallyConnectedTranspose1d",
    "LocallyConnectedTranspose2d",
    "LocallyConnectedTranspose3d",
    "LogSigmoid",
    "LogSoftmax",
    "Loss",
    "MSELoss",
    "MaxPool2d",
    "Mish",
    "Module",
    "ModuleDict",
    "ModuleList",
    "MultiLabelSoftMarginLoss",
    "MultiMarginLoss",
    "NLLLoss",
    "OperationLoss",
    "PReLU",
    "Parameter",
    "Permute",
    "PoissonNLLLoss",
    "RReLU",
    "ReLU",
    "ReLU6",
    "ReflectionPad1d",
    "ReflectionPad2d",
    "ReflectionPad3d",
    "ReplicationPad1d",
    "ReplicationPad2d",
    "ReplicationPad3d",
    "SReLU",
    "Scalar",
    "ScalarLoss",
    "ScaledTanh",
    "SeparableConv1d",
    "SeparableConv2d",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SigmoidFocalLoss",
    "SmoothL1Loss",
    "SoftMarginLoss",
    "Softmax",
    "Softmax2d",
    "Softmin",
    "Softplus",
    "Softshrink",
    "Softsign",
    "StyleLoss",
    "Tanh",
    "Tanhshrink",
    "Threshold",
    "TiledConv1d",
    "TiledConv2d",
    "TiledConv3d",
    "TotalVariation",
    "TverskyLoss",
    "ZeroPad1d",
    "ZeroPad2d",
    "ZeroPad3d",
    "functional",
    "init",
    "scalar",
]
FUNCTIONS = [
    "adaptive_avg_pool2d",
    "add",
    "apl",
    "arctan",
    "arsinh",
    "avg_pool2d",
    "batch_norm",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "binary_step",
    "brelu",
    "cat",
    "celu",
    "center_crop",
    "concat",
    "content_loss",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "convolve1d",
    "convolve2d",
    "convolve3d",
    "crop",
    "cross_entropy",
    "ctc_decode",
    "ctc_loss",
    "dice_loss",
    "dropout",
    "elish",
    "elu",
    "flatten",
    "focal_cross_entropy",
    "gelu",
    "glu",
    "gram_matrix",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "hinge_embedding_loss",
    "hinge_loss",
    "huber_loss",
    "isrlu",
    "isru",
    "jaccard_loss",
    "kl_div",
    "l1_loss",
    "leaky_relu",
    "linear",
    "local1d",
    "local2d",
    "local3d",
    "local_response_norm",
    "local_transpose1d",
    "local_transpose2d",
    "local_transpose3d",
    "log_softmax",
    "logsigmoid",
    "max_pool2d",
    "mish",
    "mse_loss",
    "mul",
    "multi_margin_loss",
    "multilabel_soft_margin_loss",
    "nll_loss",
    "pad",
    "permute",
    "poisson_nll_loss",
    "prelu",
    "relu",
    "relu6",
    "rrelu",
    "scalar",
    "scalar_loss",
    "scaled_tanh",
    "selu",
    "sigmoid",
    "sigmoid_focal_loss",
    "silu",
    "smooth_l1_loss",
    "soft_margin_loss",
    "softmax",
    "softmin",
    "softplus",
    "softshrink",
    "softsign",
    "sqnl",
    "srelu",
    "style_loss",
    "tanh",
    "tanhshrink",
    "threshold",
    "tiled_conv1d",
    "tiled_conv2d",
    "tiled_conv3d",
    "total_variation",
    "transpose",
    "tversky_loss",
]
HEAVY = (
    "llvmlite",
    "matplotlib",
    "PIL",
    "rich",
    "typer",
    "safetensors",
    "subprocess",
    "concurrent.futures",
    "urllib.request",
    "multiprocessing",
    "torch",
)


def test_pinned_names():
    assert st.__all__ == PUBLIC
    assert nn.__all__ == LAYERS
    assert set(models.__all__) > {"MODELS", "build", "usual_input", *models.MODELS}
    assert functional.__all__ == FUNCTIONS
    assert scalar.__all__ == sorted(scalar.__all__)
    assert len(init.__all__) == 10


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_there(name):
    assert getattr(st, name) is not None
    assert name in dir(st)


def test_every_public_name_of_a_module_is_there():
    for module in (nn, models, functional, init, scalar):
        for name in module.__all__:
            assert getattr(module, name) is not None


def test_unknown_names():
    with pytest.raises(AttributeError, match="module 'striate' has no attribute 'fitt'"):
        _ = st.fitt


def test_from_import():
    code = "from striate import scalar, Graph, manual_seed, nn; from striate.nn import Conv2d"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("statement", ["import striate", "import striate.nn, striate.models"])
def test_importing_loads_nothing_heavy(statement):
    code = f"import numpy, sys; before = set(sys.modules); {statement}; " + (
        "print(*sorted(set(sys.modules) - before))"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = run.stdout.split()
    assert "striate" in loaded
    assert [name for name in loaded if name in HEAVY or name.partition(".")[0] in HEAVY] == []


def test_importing_striate_loads_only_its_version():
    code = "import sys, striate; print(*sorted(m for m in sys.modules if 'striate' in m))"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert [n for n in run.stdout.split() if not n.startswith("_")] == [
        "striate",
        "striate.version",
    ]


def test_version_agrees_with_the_project_file():
    project = Path(__file__).parent.parent / "pyproject.toml"
    assert f'version = "{st.__version__}"' in project.read_text(encoding="utf-8")
