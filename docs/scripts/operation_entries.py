"""What the page operations/index.md says of each operation by hand: an example, its other names.

`operations.py` makes the page of it. Layers and functions stand beside the operations that they
are made of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

CONTAINERS = ("GraphModule", "Loss", "Module", "ModuleDict", "ModuleList", "Sequential")
# Layers that no operation of the registry is made for: nothing is computed, or it is yours.
APART = ("Identity", "Operation", "OperationLoss")
# Functions of arrays only, which give whole numbers.
ON_ARRAYS = ("argmax", "ctc_decode", "one_hot")
Shapes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Entry:
    """An operation as the page shows it.

    Attributes:
        op: its name.
        attributes, shapes: of the example; shapes leave out the batch.
        layers, functions: what in `nn` and `nn.functional` is made of it, with spaces between.
        torch: what torch calls it; "" where it has no such thing.
        onnx: the operators that are lowered to it.
    """

    op: str
    attributes: Mapping[str, Any]
    shapes: Shapes
    layers: str = ""
    functions: str = ""
    torch: str = ""
    onnx: str = ""


def _windows(rank: int, kernel: int = 2, stride: int = 2, **more: Any) -> dict[str, Any]:
    lists = {"kernel": [kernel] * rank, "stride": [stride] * rank, "padding": [[0, 0]] * rank}
    return {**lists, **more}


def _conv(rank: int, stride: int = 1, **more: Any) -> dict[str, Any]:
    lists = {"stride": [stride] * rank, "padding": [[1, 1]] * rank, "dilation": [1] * rank}
    return {**lists, "groups": 1, **more}


def _convolutions() -> Iterable[Entry]:
    for d in (1, 2, 3):
        shapes = ((3, *(5,) * d), (4, 3, *(3,) * d), (4,))
        names = (f"Conv{d}d SeparableConv{d}d", f"conv{d}d", f"`Conv{d}d`", "Conv")
        yield Entry(f"conv{d}d", _conv(d), shapes, *names)
    for d in (1, 2, 3):
        shapes = ((3, *(5,) * d), (3, 4, *(3,) * d), (4,))
        attributes = _conv(d, 2, output_padding=[1] * d)
        name = f"ConvTranspose{d}d"
        names = (name, f"conv_transpose{d}d", f"`{name}`", "ConvTranspose")
        yield Entry(f"conv_transpose{d}d", attributes, shapes, *names)
    for d in (1, 2, 3):
        shapes = ((3, *(5,) * d), (4, 3, *(3,) * d), (4,))
        yield Entry(f"true_conv{d}d", _conv(d), shapes, "", f"convolve{d}d")
    for d in (1, 2, 3):
        shapes = ((2, *(4,) * d), (3, 2, *(3,) * d, *(4,) * d), (3, *(4,) * d))
        yield Entry(f"local{d}d", _conv(d), shapes, f"LocallyConnected{d}d", f"local{d}d")
    for d in (1, 2, 3):
        shapes = ((2, *(4,) * d), (2, 3, *(3,) * d, *(4,) * d), (3, *(4,) * d))
        attributes = _conv(d, output_padding=[0] * d)
        names = (f"LocallyConnectedTranspose{d}d", f"local_transpose{d}d")
        yield Entry(f"local_transpose{d}d", attributes, shapes, *names)
    for d in (1, 2, 3):
        shapes = ((3, *(4,) * d), (*(2,) * d, 4, 3, *(3,) * d), (4,))
        yield Entry(f"tiled_conv{d}d", _conv(d), shapes, f"TiledConv{d}d", f"tiled_conv{d}d")
    sides = {"padding": [[1, 1], [2, 2]], "mode": "reflect", "value": 0.0}
    kinds = ("Circular", "Constant", "Reflection", "Replication", "Zero")
    pads = " ".join(f"{kind}Pad{d}d" for kind in kinds for d in (1, 2, 3))
    pads = f"{pads} CenterCrop"
    yield Entry("pad", sides, ((3, 4, 5),), pads, "pad crop center_crop", "`F.pad`", "Pad")


def _pooling() -> Iterable[Entry]:
    images = ((3, 6, 6),)
    for d in (1, 2, 3):
        attributes = _windows(d, dilation=[1] * d)
        names = (f"MaxPool{d}d", f"max_pool{d}d", f"`MaxPool{d}d`", "MaxPool")
        yield Entry(f"max_pool{d}d", attributes, ((3, *(6,) * d),), *names)
    for d in (1, 2, 3):
        attributes = _windows(d, count_include_pad=True)
        names = (f"AvgPool{d}d", f"avg_pool{d}d", f"`AvgPool{d}d`", "AveragePool")
        yield Entry(f"avg_pool{d}d", attributes, ((3, *(6,) * d),), *names)
    apart = _windows(2, dilation=[1, 1])
    sums = "SumPool1d SumPool2d SumPool3d"
    yield Entry("sum_pool", {**apart, "divisor": 1.0}, images, sums, "sum_pool")
    around = {**_windows(2, 3), "padding": [[1, 1]] * 2, "dilation": [1, 1]}
    mean = {**around, "counted": [[0, 0]] * 2}
    averages = "AvgPool1d AvgPool2d AvgPool3d"
    functions = "avg_pool1d avg_pool2d avg_pool3d"
    options = "`AvgPool2d`: ceil_mode, count_include_pad=False"
    yield Entry("mean_pool", mean, images, averages, functions, options, "AveragePool")
    gaussians = " ".join(f"GaussianPool{d}d" for d in (1, 2, 3))
    yield Entry("gaussian_pool", {**mean, "sigma": [1.0, 1.0]}, images, gaussians, "gaussian_pool")
    norm = {**apart, "norm": 2.0, "absolute": True, "counted": None}
    layers, functions = "LPPool1d LPPool2d LPPool3d", "lp_pool lp_pool1d lp_pool2d lp_pool3d"
    yield Entry("lp_pool", norm, images, layers, functions, "`LPPool2d`", "LpPool")
    layers = " ".join(f"StochasticPool{d}d" for d in (1, 2, 3))
    series = {**_windows(1), "dilation": [1]}
    yield Entry("stochastic_pool", series, ((3, 6), (3, 3)), layers, "stochastic_pool")
    yield Entry("expected_pool", apart, images, layers, "stochastic_pool")
    for d in (1, 2, 3):
        layers = f"AdaptiveAvgPool{d}d GlobalAvgPool{d}d"
        functions = f"adaptive_avg_pool{d}d global_avg_pool"
        names = (layers, functions, f"`AdaptiveAvgPool{d}d`", "GlobalAveragePool")
        shapes = ((3, *(7,) * d),)
        yield Entry(f"adaptive_avg_pool{d}d", {"output": [3] * d}, shapes, *names)
    for d in (1, 2, 3):
        layers = f"AdaptiveMaxPool{d}d GlobalMaxPool{d}d SpatialPyramidPool"
        functions = f"adaptive_max_pool{d}d global_max_pool spatial_pyramid_pool"
        names = (layers, functions, f"`AdaptiveMaxPool{d}d`", "GlobalMaxPool")
        shapes = ((3, *(7,) * d),)
        yield Entry(f"adaptive_max_pool{d}d", {"output": [3] * d}, shapes, *names)
    drawn = {"kernel": [2, 2], "starts": [[0, 2, 4], [0, 1, 4]]}
    layers = "FractionalMaxPool2d FractionalMaxPool3d"
    functions = "fractional_max_pool2d fractional_max_pool3d"
    yield Entry("fractional_max_pool", drawn, images, layers, functions, "`FractionalMaxPool2d`")
    yield from _switches(apart, drawn)
    group = {"size": 2, "stride": 2}
    maxout = ("ChannelMaxPool Maxout MaxoutChannels", "channel_max_pool")
    yield Entry("channel_max_pool", group, ((6, 4, 4),), *maxout)
    yield Entry("channel_avg_pool", group, ((6, 4, 4),), "ChannelAvgPool", "channel_avg_pool")
    norms = {**group, "norm": 2.0}
    yield Entry("channel_lp_pool", norms, ((6, 4, 4),), "ChannelLPPool", "channel_lp_pool")
    regions = {"labels": [[0, 0, 1], [0, 1, 1]], "how": "mean"}
    yield Entry("region_pool", regions, ((3, 2, 3),), "DynamicPool2d", "region_pool")
    yield Entry("learned_pool", {}, ((3, 4, 4), (2, 4, 4)), "LearnedPool2d", "learned_pool")


def _switches(apart: dict[str, Any], drawn: dict[str, Any]) -> Iterable[Entry]:
    """Where maxima were, and putting them back."""
    images, found = ((3, 6, 6),), "`return_indices=True`"
    names = ("MaxPool1d MaxPool2d MaxPool3d", "max_pool1d max_pool2d max_pool3d", found, "MaxPool")
    yield Entry("max_pool_indices", apart, images, *names)
    for d in (1, 2, 3):
        names = (f"AdaptiveMaxPool{d}d", f"adaptive_max_pool{d}d", found)
        shapes = ((3, *(7,) * d),)
        yield Entry(f"adaptive_max_pool{d}d_indices", {"output": [3] * d}, shapes, *names)
    layers = "FractionalMaxPool2d FractionalMaxPool3d"
    functions = "fractional_max_pool2d fractional_max_pool3d"
    yield Entry("fractional_max_pool_indices", drawn, images, layers, functions, found)
    layers = "MaxUnpool1d MaxUnpool2d MaxUnpool3d"
    functions = "max_unpool1d max_unpool2d max_unpool3d"
    series = {**_windows(1), "dilation": [1], "output": [6]}
    names = (layers, functions, "`MaxUnpool2d`", "MaxUnpool")
    yield Entry("max_unpool", series, ((3, 3), (3, 3)), *names)


def _resizing() -> Iterable[Entry]:
    size = {"output": [8, 8], "mode": "linear", "steps": None, "align_corners": False}
    size["antialias"] = False
    layers = "Upsample UpsamplingBilinear2d UpsamplingNearest2d"
    names = (layers, "interpolate", "`interpolate`", "Resize Upsample")
    yield Entry("resize", size, ((3, 4, 4),), *names)
    finer = ("PixelShuffle", "pixel_shuffle", "`PixelShuffle`", "DepthToSpace")
    yield Entry("pixel_shuffle", {"factor": 2}, ((8, 3, 3),), *finer)
    coarser = ("PixelUnshuffle", "pixel_unshuffle", "`PixelUnshuffle`", "SpaceToDepth")
    yield Entry("pixel_unshuffle", {"factor": 2}, ((2, 6, 6),), *coarser)
    shuffle = ("ChannelShuffle", "channel_shuffle", "`ChannelShuffle`")
    yield Entry("channel_shuffle", {"groups": 2}, ((6, 3, 3),), *shuffle)
    apart = {**_windows(2), "dilation": [1, 1]}
    yield Entry("unfold", apart, ((3, 4, 4),), "Unfold", "unfold", "`Unfold`")
    back = {**apart, "output": [4, 4]}
    yield Entry("fold", back, ((12, 2, 2),), "Fold", "fold", "`Fold`", "Col2Im")


_OF_ONE_NUMBER = """
    Arctan Arsinh BinaryStep CELU ELU ELiSH GELU Hardshrink Hardsigmoid Hardswish Hardtanh ISRLU
    ISRU LeakyReLU LogSigmoid Mish RReLU ReLU ReLU6 SELU SQNL Scalar ScaledTanh SiLU Sigmoid
    Softplus Softshrink Softsign Tanh Tanhshrink Threshold AlphaDropout RNN RNNCell"""
_FUNCTIONS_OF_ONE_NUMBER = """
    arctan arsinh binary_step celu elu elish gelu hardshrink hardsigmoid hardswish hardtanh isrlu
    isru leaky_relu logsigmoid mish rrelu relu relu6 selu sqnl scaled_tanh silu sigmoid softplus
    softshrink softsign tanh tanhshrink threshold alpha_dropout scalar add sub mul div maximum
    minimum"""

_ELEMENTWISE = """
    Abs Acos Acosh Add And Asin Asinh Atan Atanh Ceil Celu Clip Cos Cosh Div Elu Equal Erf Exp Floor
    Gelu Greater GreaterOrEqual HardSigmoid HardSwish IsInf IsNaN LeakyRelu Less LessOrEqual Log Max
    Mean Min Mish Mod Mul Neg Not Or Pow RNN Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh
    Softplus Softsign Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu Where Xor"""


def _activations() -> Iterable[Entry]:
    silu = {"inputs": ["x"], "expr": ["mul", "x", ["sigmoid", "x"]]}
    names = (_OF_ONE_NUMBER, _FUNCTIONS_OF_ONE_NUMBER, "all activations", _ELEMENTWISE)
    yield Entry("map", silu, ((3, 4, 4),), *names)
    prelu = {"expr": ["where", ["gt", "x", 0.0], "x", ["mul", "p0", "x"]], "constants": []}
    names = ("PReLU SReLU APL BReLU Scalar", "prelu srelu apl brelu", "`PReLU`", "PRelu")
    yield Entry("channel_map", prelu, ((3, 4, 4), (3,)), *names)
    names = ("Softmax", "softmax", "`Softmax`", "Softmax")
    yield Entry("softmax", {}, ((10,),), *names)
    names = ("Softmax Softmax2d", "softmax", "`Softmax`", "Softmax")
    yield Entry("softmax_along", {"axis": 1}, ((5, 3, 3),), *names)
    names = ("LogSoftmax", "log_softmax", "`LogSoftmax`", "LogSoftmax")
    yield Entry("log_softmax", {"axis": 1}, ((10,),), *names)
    yield Entry("softmin", {"axis": 1}, ((10,),), "Softmin", "softmin", "`Softmin`")
    yield Entry("glu", {"axis": 1}, ((6, 3, 3),), "GLU", "glu", "`GLU`")


def _norms() -> Iterable[Entry]:
    images, eps = (3, 4, 4), {"eps": 1e-5}
    running = {**eps, "momentum": 0.1}
    names = ("BatchNorm1d BatchNorm2d BatchNorm3d", "batch_norm", "`BatchNorm2d`")
    named = (*names, "BatchNormalization")
    yield Entry("batch_norm", running, (images, *((3,),) * 4), *named)
    yield Entry("batch_norm_training", running, (images, *((3,),) * 4), *named)
    local = {"size": 3, "alpha": 1e-4, "beta": 0.75, "k": 1.0}
    names = ("LocalResponseNorm CrossMapLRN2d", "local_response_norm", "`LocalResponseNorm`", "LRN")
    yield Entry("local_response_norm", local, (images,), *names)
    names = ("LayerNorm", "layer_norm", "`LayerNorm`", "LayerNormalization")
    yield Entry("layer_norm", {**eps, "axes": 1}, ((8,), (8,), (8,)), *names)
    names = ("RMSNorm", "rms_norm", "`RMSNorm`", "RMSNormalization")
    yield Entry("rms_norm", {**eps, "axes": 1}, ((8,), (8,)), *names)
    instances = "InstanceNorm1d InstanceNorm2d InstanceNorm3d"
    names = (f"GroupNorm {instances}", "group_norm instance_norm", "`GroupNorm`, `InstanceNorm2d`")
    onnx = "GroupNormalization InstanceNormalization"
    yield Entry("group_norm", {**eps, "groups": 2}, ((4, 3, 3), (4,), (4,)), *names, onnx)
    names = ("AdaptiveInstanceNorm", "adain")
    yield Entry("styled_instance_norm", eps, (images, (3,), (3,)), *names)
    yield Entry("adaptive_instance_norm", eps, (images, images), *names)


def _losses() -> Iterable[Entry]:
    scores, label = (5,), ()
    classes = {"weight": None, "ignore_index": -100}
    names = ("CrossEntropyLoss", "cross_entropy", "`CrossEntropyLoss`", "SoftmaxCrossEntropyLoss")
    yield Entry("cross_entropy", {}, (scores, label), *names)
    smooth = {**classes, "label_smoothing": 0.0}
    yield Entry("weighted_cross_entropy", smooth, (scores, label), *names)
    soft = {"weight": None, "label_smoothing": 0.0}
    yield Entry("soft_cross_entropy", soft, (scores, scores), *names[:3])
    names = ("NLLLoss", "nll_loss", "`NLLLoss`", "NegativeLogLikelihoodLoss")
    yield Entry("nll_loss", classes, (scores, label), *names)
    names = ("FocalCrossEntropyLoss", "focal_cross_entropy")
    yield Entry("focal_cross_entropy", {**classes, "gamma": 2.0}, (scores, label), *names)
    margin = {"p": 1, "margin": 1.0, "weight": None}
    names = ("MultiMarginLoss", "multi_margin_loss", "`MultiMarginLoss`")
    yield Entry("multi_margin_loss", margin, (scores, label), *names)
    heads = {"weights": [1.0, 0.3], "label_smoothing": 0.0}
    names = ("DeepSupervisionLoss", "deep_supervision_loss")
    yield Entry("deep_supervision_loss", heads, ((5, 2), label), *names)
    yield Entry("mse_loss", {}, (scores, scores), "MSELoss", "mse_loss", "`MSELoss`")
    square = {"expr": ["abs", ["sub", "x", "t"]], "reduction": "mean", "constants": {}}
    layers = """BCELoss BCEWithLogitsLoss ContentLoss HingeEmbeddingLoss HingeLoss HuberLoss
        KLDivLoss L1Loss MSELoss MultiLabelSoftMarginLoss PoissonNLLLoss ScalarLoss
        SigmoidFocalLoss SmoothL1Loss SoftMarginLoss"""
    functions = """binary_cross_entropy binary_cross_entropy_with_logits content_loss
        hinge_embedding_loss hinge_loss huber_loss kl_div l1_loss mse_loss
        multilabel_soft_margin_loss poisson_nll_loss scalar_loss sigmoid_focal_loss smooth_l1_loss
        soft_margin_loss"""
    names = (layers, functions, "`L1Loss`, `BCELoss` and nine more")
    yield Entry("scalar_loss", square, (scores, scores), *names)
    yield Entry("weighted_scalar_loss", square, (scores, (2, 5)))
    names = ("CosineEmbeddingLoss", "cosine_embedding_loss", "`CosineEmbeddingLoss`")
    yield Entry("cosine_embedding", {"margin": 0.0}, (scores, scores, label), *names)
    triplet = {"margin": 1.0, "p": 2.0, "eps": 1e-6, "swap": False}
    names = ("TripletMarginLoss", "triplet_margin_loss", "`TripletMarginLoss`")
    yield Entry("triplet_margin", triplet, (scores, scores, scores), *names)
    yield from _losses_of_images()
    ctc = {"blank": 0, "zero_infinity": False, "mean": False, "length": 3}
    names = ("CTCLoss", "ctc_loss", "`CTCLoss`")
    yield Entry("ctc_loss", ctc, ((7, 5), (3,)), *names)


def _losses_of_images() -> Iterable[Entry]:
    overlap = {"alpha": 0.5, "beta": 0.5, "smooth": 1.0, "per_class": True, "activation": "none"}
    names = ("DiceLoss JaccardLoss TverskyLoss", "dice_loss jaccard_loss tversky_loss")
    regions = ((2, 4, 4), (2, 4, 4))
    yield Entry("overlap_loss", {**overlap, "labels": False}, regions, *names)
    images = ((3, 4, 4),)
    yield Entry("total_variation", {"power": 1}, images, "TotalVariation", "total_variation")
    yield Entry("gram_matrix", {}, images, "GramMatrix", "gram_matrix")
    yield Entry("style_loss", {}, (*images, (3, 3)), "StyleLoss", "style_loss")


def _arithmetic() -> Iterable[Entry]:
    names = ("Linear", "linear", "`Linear`", "Gemm")
    yield Entry("linear", {}, ((8,), (4, 8), (4,)), *names)
    yield Entry("dense", {}, ((3, 8), (4, 8), (4,)), *names[:3], "MatMul")
    names = ("Bilinear", "bilinear", "`Bilinear`")
    yield Entry("bilinear", {}, ((4,), (5,), (2, 4, 5), (2,)), *names)
    product = {"equation": "nij,njk->nik", "inputs": ["x", "y"]}
    names = ("Capsules", "einsum matmul bmm capsules", "`einsum`", "Einsum MatMul")
    yield Entry("einsum", product, ((3, 4), (4, 5)), *names)
    names = ("Embedding", "embedding", "`Embedding`", "Gather")
    yield Entry("embedding", {"padding": -1}, ((4,), (9, 6)), *names)
    yield Entry("rbf", {"prototypes": None}, ((8,), (4, 8)), "RBF", "rbf")
    pixels = ((3, 4, 4), (3,), (3,))
    yield Entry("subsample", {"kernel": [2, 2]}, pixels, "Subsample", "subsample")
    scaled = {"inputs": ["x", "y"], "expr": ["mul", "x", "y"]}
    layers = "Dropout1d Dropout2d Dropout3d FeatureAlphaDropout"
    functions = """add sub mul div maximum minimum scalar expand dropout1d dropout2d dropout3d
        feature_alpha_dropout"""
    names = (layers, functions, "operators of broadcast tensors", "Add Div Mul Sub Where Mod Pow")
    yield Entry("broadcast_map", scaled, ((3, 4, 4), (3, 1, 1)), *names)
    total = {"axes": [2, 3], "keepdim": False, "how": "sum", "inner": "x", "outer": "t"}
    functions = "sum mean max min amax amin prod norm var std global_lp_pool"
    layers = "CosineSimilarity PairwiseDistance"
    onnx = "ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare"
    functions = f"{functions} cosine_similarity pairwise_distance squash capsule_lengths"
    names = (layers, functions, "`sum`, `mean`, `amax`, `norm` …", onnx)
    yield Entry("reduce", total, ((3, 4, 4),), *names)
    over = {"axes": [1], "keepdim": False}
    yield Entry("logsumexp", over, ((5,),), "", "logsumexp", "`logsumexp`", "ReduceLogSumExp")
    yield Entry("cumsum", {"axis": 1}, ((5,),), "", "cumsum", "`cumsum`", "CumSum")


def _recurrent() -> Iterable[Entry]:
    gates, state = (8,), (2,)
    names = ("LSTM LSTMCell", "", "`LSTM`", "LSTM")
    yield Entry("lstm_state", {}, (gates, gates, state), *names)
    yield Entry("lstm_output", {}, (gates, gates, state), *names)
    yield Entry("gru_state", {}, ((6,), (6,), state), "GRU GRUCell", "", "`GRU`", "GRU")


def _structure() -> Iterable[Entry]:
    joined = ((2, 4, 4), (3, 4, 4))
    names = ("PrimaryCapsules", "cat concat stack", "`cat`", "Concat")
    yield Entry("concat", {"axis": 1}, joined, *names)
    part = {"axis": 1, "start": 1, "stop": 3}
    yield Entry(
        "slice", part, ((4, 3, 3),), "", "split chunk", "`x[:, 1:3]`, `split`", "Slice Split"
    )
    functions = "flatten unflatten squeeze unsqueeze"
    names = (
        "Flatten Unflatten",
        functions,
        "`Flatten`, `reshape`",
        "Reshape Flatten Squeeze Unsqueeze",
    )
    yield Entry("reshape", {"shape": [-1]}, ((3, 4, 4),), *names)
    names = ("Permute", "permute transpose", "`permute`", "Transpose")
    yield Entry("permute", {"order": [2, 3, 1]}, ((3, 4, 4),), *names)
    names = ("", "tile repeat expand", "`tile`", "Tile Expand")
    yield Entry("tile", {"repeats": [2, 1, 1]}, ((3, 4, 4),), *names)
    yield Entry("flip", {"axes": [3]}, ((3, 4, 4),), "", "flip", "`flip`")
    yield Entry("roll", {"axes": [3], "shifts": [1]}, ((3, 4, 4),), "", "roll", "`roll`")
    names = ("Dropout", "dropout", "`Dropout`", "Dropout")
    yield Entry("dropout", {"p": 0.5, "site": 0}, ((3, 4, 4),), *names)
    layers = "RReLU Dropout1d AlphaDropout StochasticPool2d"
    names = (layers, "rrelu dropout1d alpha_dropout stochastic_pool", "`rand_like`")
    yield Entry("uniform", {"site": 0, "shape": [3]}, ((3, 4, 4),), *names)
    yield Entry("formula", _own_formula(), ((3, 4, 4),), "Formula")


def _own_formula() -> dict[str, Any]:
    """The attributes of a formula of one's own: sums along the diagonals of an image."""
    from striate.formula.expression import Sum, Tensor, axes
    from striate.formula.own import formula_attributes

    n, c, i, j, p = axes("n c i j p")
    body = Sum((p,), Tensor("x")[n, c, i + p, j + p])
    return formula_attributes((n, c, i, j), body, sizes={"p": 2})


FAMILIES = {
    "Convolution": ("convolution.md", _convolutions),
    "Pooling": ("pooling.md", _pooling),
    "Resizing and rearranging": ("resizing.md", _resizing),
    "Activations": ("activations.md", _activations),
    "Normalisation": ("normalisation.md", _norms),
    "Losses": ("losses.md", _losses),
    "Products and sums": ("arithmetic.md", _arithmetic),
    "Recurrence": ("recurrent.md", _recurrent),
    "Moving numbers": ("arithmetic.md", _structure),
}
