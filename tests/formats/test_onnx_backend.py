"""ONNX's own backend tests: node, simple, PyTorch-converted and PyTorch-operator sets."""

from __future__ import annotations

import re

import pytest

from striate.errors import ModelError
from striate.formats.onnx.backend import Backend
from striate.formats.onnx.registry import handlers
from tests.formats.onnx_cases import SETS, Case, cases, outcome
from tests.formats.onnx_exclusions import EXCLUDED, NOT_COVERED

pytestmark = pytest.mark.peer
onnx = pytest.importorskip("onnx", reason="onnx is not installed")

# What parts A and B of the specification have of ONNX's operators.
SPECIFIED = """
    Conv ConvTranspose AveragePool MaxPool GlobalAveragePool GlobalMaxPool GlobalLpPool LpPool
    MaxUnpool BatchNormalization InstanceNormalization LayerNormalization GroupNormalization
    RMSNormalization MeanVarianceNormalization LRN LpNormalization Relu LeakyRelu PRelu Elu Selu
    Celu Softplus Softsign Sigmoid HardSigmoid HardSwish Tanh ThresholdedRelu Shrink Mish Gelu
    Swish Clip Hardmax Softmax LogSoftmax Gemm MatMul Dropout Flatten Reshape Pad Slice Concat
    Split Transpose Squeeze Unsqueeze Expand Tile Resize Upsample DepthToSpace SpaceToDepth Gather
    CenterCropPad Col2Im GridSample Add Sub Mul Div Pow Neg Abs Exp Log Sqrt Reciprocal Min Max
    Mean Sum Floor Ceil Round Erf Sign Sin Cos Tan Asin Acos Atan Sinh Cosh Asinh Acosh Atanh
    ReduceSum ReduceMean ReduceMax ReduceMin ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp
    ReduceSumSquare ReduceProd Einsum LSTM GRU RNN NegativeLogLikelihoodLoss
    SoftmaxCrossEntropyLoss Identity Constant Where Greater GreaterOrEqual Less LessOrEqual Equal
""".split()
OTHERS = "functions made of covered operators"


def why_excluded(case: Case) -> str | None:
    return next((why for pattern, why in EXCLUDED.items() if re.match(pattern, case.name)), None)


def covered(operator: str) -> list[Case]:
    """The cases that must pass: of an operator, a set, or functions that expand to operators."""
    found = [c for c in cases() if c.covered and why_excluded(c) is None]
    if operator == OTHERS:
        known = {*handlers(), *SETS}
        return [c for c in found if c.operator not in known]
    return [c for c in found if c.operator == operator]


@pytest.mark.parametrize("operator", [*sorted(handlers()), *SETS[1:], OTHERS])
def test_cases_pass(operator: str) -> None:
    wrong = [f"{c.name}: {outcome(c).wrong}" for c in covered(operator) if outcome(c).wrong]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("pattern", EXCLUDED)
def test_excluded_cases_would_fail(pattern: str) -> None:
    concerned = [c for c in cases() if c.covered and re.match(pattern, c.name)]
    assert concerned, "no such case"
    passed = [c.name for c in concerned if not outcome(c).wrong]
    assert not passed, f"these pass; take them off the list: {', '.join(passed)}"


@pytest.mark.parametrize("operator", NOT_COVERED)
def test_other_operators_are_refused_by_name(operator: str) -> None:
    concerned = [c for c in cases() if operator in c.operators]
    assert concerned, "no case has it; take it off the list"
    for case in concerned:
        with pytest.raises(ModelError, match=r"^onnx: .*node "):
            Backend.prepare(case.model())


def test_every_case_is_passed_or_has_a_reason() -> None:
    without = {
        f"{c.name}: {name}"
        for c in cases()
        for name in c.operators - set(handlers())
        if name not in NOT_COVERED
    }
    assert not without, "\n".join(sorted(without))


def test_every_specified_operator_has_cases() -> None:
    tested = {name for c in cases() if c.covered for name in c.operators}
    # ONNX has no case of this one; a test of our own has
    assert set(SPECIFIED) - tested == {"GlobalLpPool"}


def test_networks_are_one_program_each() -> None:
    """What PyTorch exports is computed in graphs, but for the numbers that it reads as shapes."""
    plain = [c for c in covered("pytorch-converted") if outcome(c).used != {"graph"}]
    assert len(plain) < 10, [(c.name, outcome(c).used) for c in plain]
