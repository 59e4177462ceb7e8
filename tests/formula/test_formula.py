"""The readings of a formula that no operation needs by itself, on formulas of all kinds."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from striate.errors import OptionError, ShapeError
from striate.formula.expression import Max, Sum, Tensor, Var, axes, exp, sqrt, where
from striate.formula.formula import Formula, infer_sizes

N, G, O, I, J, C, P, Q, K = axes("n g o i j c p q k")  # noqa: E741
X, W, B = Tensor("x"), Tensor("w"), Tensor("b")


def strided() -> Formula:
    body = B[O] + Sum((C, P, Q), X[N, C, I * 2 + P - 1, J + Q * 2] * W[O, C, P, Q])
    shapes = {"x": (2, 3, 7, 6), "w": (4, 3, 3, 2), "b": (4,)}
    return Formula.infer((N, O, I, J), body, shapes, {"x": ((0, 0), (0, 0), (1, 1), (0, 0))})


def local() -> Formula:
    body = Sum((C, P), X[N, C, I + P] * W[I, O, C, P])
    return Formula.infer((N, O, I), body, {"x": (2, 3, 7), "w": (5, 2, 3, 3)})


def tiled() -> Formula:
    body = Sum((P, Q), X[N, I + P, J + Q] * W[I % 2, J % 2, P, Q])
    return Formula.infer((N, I, J), body, {"x": (2, 6, 5), "w": (2, 2, 3, 2)})


def flipped() -> Formula:
    return Formula.infer(
        (N, I), Sum((P,), X[N, I + 2 - P] * W[P]), {"x": (2, 8), "w": (3,)}, sizes={"i": 6}
    )


def diagonal() -> Formula:
    return Formula.infer(
        (N,), Sum((I,), X[N, I, I] * X[N, I, I] * W[I]), {"x": (2, 4, 4), "w": (4,)}
    )


def nested() -> Formula:
    body = exp(X[N, O]) / sqrt(1 + Sum((C,), exp(X[N, C]) * W[C] ** 2) + Max((K,), X[N, K]) ** 2)
    return Formula.infer((N, O), body, {"x": (2, 4), "w": (4,)})


def selected() -> Formula:
    body = where(X[I] > 0, X[I], X[I] / sqrt(1 + 3 * X[I] ** 2)) * Sum((P,), 2.0)
    return Formula.infer((I,), body, {"x": (9,)}, sizes={"p": 3})


FORMULAS = {f.__name__: f for f in (strided, local, tiled, flipped, diagonal, nested, selected)}


def tensors_of(formula: Formula) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    return {name: rng.normal(size=shape) ** 2 - 0.3 for name, shape in formula.shapes.items()}


@pytest.mark.parametrize("name", FORMULAS)
def test_whole_arrays_agree_with_single_numbers(name: str) -> None:
    """The array arithmetic and the one that explains a number are written apart."""
    formula = FORMULAS[name]()
    tensors = tensors_of(formula)
    whole = formula.reference(**tensors)
    assert whole.shape == formula.shape
    for at in itertools.product(*map(range, formula.shape)):
        assert formula.explain(at, **tensors).value == pytest.approx(
            whole[at], rel=1e-12, abs=1e-13
        )


@pytest.mark.parametrize("name", FORMULAS)
def test_gradient_by_central_differences(name: str) -> None:
    formula, rng = FORMULAS[name](), np.random.default_rng(8)
    tensors = tensors_of(formula)
    upstream = rng.normal(size=formula.shape)
    found = formula.gradient(upstream, **tensors)
    for key, slope in found.items():
        direction, step = rng.normal(size=slope.shape), 1e-6
        ends = [
            (upstream * formula.reference(**{**tensors, key: tensors[key] + s * direction})).sum()
            for s in (step, -step)
        ]
        expected = (ends[0] - ends[1]) / (2 * step)
        assert (slope * direction).sum() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ["strided", "local", "tiled", "flipped"])
def test_matrix_and_region(name: str) -> None:
    formula = FORMULAS[name]()
    tensors = tensors_of(formula)
    matrix = formula.matrix("x", **{k: v for k, v in tensors.items() if k != "x"})
    zero = formula.reference(**{**tensors, "x": 0 * tensors["x"]}).ravel()
    assert np.allclose(matrix @ tensors["x"].ravel() + zero, formula.reference(**tensors).ravel())
    shape = formula.shapes["x"]
    for at in itertools.product(*map(range, formula.shape)):
        row = matrix[np.ravel_multi_index(at, formula.shape)].reshape(shape)
        touched = np.argwhere(row)
        inside = [
            (max(lo, 0), min(hi, n - 1))
            for (lo, hi), n in zip(formula.region("x", at), shape, strict=True)
        ]
        assert list(zip(touched.min(0), touched.max(0), strict=True)) == inside


def test_gradient_of_a_linear_formula_is_its_transpose() -> None:
    formula = tiled()
    tensors = tensors_of(formula)
    upstream = np.random.default_rng(9).normal(size=formula.shape)
    found = formula.gradient(upstream, wanted=["x"], **tensors)
    assert list(found) == ["x"]
    matrix = formula.matrix("x", w=tensors["w"])
    assert np.allclose(found["x"].ravel(), matrix.T @ upstream.ravel())


def test_tiled_ends() -> None:
    """One tile is a convolution; a tile for each place is a locally connected layer."""
    x, w = np.random.default_rng(10).normal(size=(1, 6)), np.arange(1.0, 4)
    plain = Formula.infer((N, I), Sum((P,), X[N, I + P] * W[P]), {"x": (1, 6), "w": (3,)})
    one = Formula.infer((N, I), Sum((P,), X[N, I + P] * W[I % 1, P]), {"x": (1, 6), "w": (1, 3)})
    each = Formula.infer((N, I), Sum((P,), X[N, I + P] * W[I % 4, P]), {"x": (1, 6), "w": (4, 3)})
    own = Formula.infer((N, I), Sum((P,), X[N, I + P] * W[I, P]), {"x": (1, 6), "w": (4, 3)})
    assert np.allclose(one.reference(x=x, w=w[None]), plain.reference(x=x, w=w))
    many = np.random.default_rng(11).normal(size=(4, 3))
    assert np.array_equal(each.reference(x=x, w=many), own.reference(x=x, w=many))


def test_a_selection_keeps_infinities_out() -> None:
    """where(x > 0, x, exp(x)): the slope of the branch not taken must not make NaN."""
    formula = Formula.infer((I,), where(X[I] > 0, X[I], exp(X[I]) - 1), {"x": (2,)})
    assert formula.gradient(np.ones(2), x=[1e4, -1e4])["x"].tolist() == [1, 0]


def test_text_and_latex() -> None:
    formula = strided()
    assert str(formula) == (
        "y[n, o, i, j] = b[o] + Σ[c,p,q] (x[n, c, 2i+p-1, j+2q] · w[o, c, p, q])"
    )
    assert formula.latex() == (
        r"y_{n,o,i,j} = b_{o} + \sum_{c,p,q} x_{n,c,2i+p-1,j+2q}\, w_{o,c,p,q}"
    )
    assert r"\frac{\exp\left(x_{n,o}\right)}{\sqrt{" in nested().latex()
    assert r"w_{(i) \bmod 2,(j) \bmod 2,p,q}" in tiled().latex()
    assert r"\begin{cases} x_{i} & x_{i} > 0 \\" in selected().latex()


def test_cost_counts_points() -> None:
    points = math.prod(strided().shape)
    cost = strided().cost()
    assert cost.multiply_adds == points * 3 * 3 * 2
    assert cost.operations == points * (18 + 17 + 1)
    pooling = Formula.infer((I,), Max((P,), X[I * 2 + P]), {"x": (8,)}, sizes={"p": 2})
    assert pooling.cost().multiply_adds == 0 and pooling.cost().operations == 4


def test_explanation_shows_places_and_padding() -> None:
    formula = strided()
    tensors = tensors_of(formula)
    step = formula.explain((1, 2, 0, 3), **tensors)
    assert step.kind == "add" and [part.kind for part in step.parts] == ["read", "sum"]
    total = step.find("sum")
    assert total is not None and len(total.terms) == 18
    first, middle = total.terms[0], total.terms[2]
    assert [(p.tensor, p.index, p.inside) for p in first.places] == [
        ("x", (1, 0, -1, 3), False),
        ("w", (2, 0, 0, 0), True),
    ]
    assert first.value == 0 and dict(middle.at) == {"c": 0, "p": 1, "q": 0}
    assert middle.value == tensors["x"][1, 0, 0, 3] * tensors["w"][2, 0, 1, 0]


def test_the_number_of_samples_may_be_zero() -> None:
    formula = Formula.infer(
        (N, I), Sum((P,), X[N, I + P] * W[P]), {"x": (0, 6), "w": (3,)}, sizes={"n": 0}
    )
    assert formula.reference(x=np.zeros((0, 6)), w=np.ones(3)).shape == (0, 4)
    assert (
        formula.gradient(np.zeros((0, 4)), x=np.zeros((0, 6)), w=np.ones(3))["w"].tolist()
        == [0] * 3
    )


def test_faults_are_told() -> None:
    with pytest.raises(ShapeError, match=r"'c' to have 3 values, as elsewhere; got 4 of w\[c\]"):
        infer_sizes(Sum((C,), X[C] * W[C]), {"x": (3,), "w": (4,)}, {}, {})
    with pytest.raises(ShapeError, match="axis 'i' has no value that stays inside"):
        infer_sizes(Sum((P,), X[I + P] * W[P]), {"x": (2,), "w": (3,)}, {}, {})
    with pytest.raises(ShapeError, match=r"x\[i\] expected a tensor of 1 axes; got shape \(2, 2\)"):
        infer_sizes(X[I], {"x": (2, 2)}, {}, {})
    with pytest.raises(ShapeError, match="the size of axis 'p'"):
        Formula.infer((I,), Sum((P,), X[I]), {"x": (2,)})
    with pytest.raises(OptionError, match="counts every place once; got 2i"):
        Formula.infer((I * 2,), X[I], {"x": (2,)})
    formula = strided()
    with pytest.raises(OptionError, match=r"expected tensors \['b', 'w', 'x'\]; got \['x'\]"):
        formula.reference(x=np.zeros((2, 3, 7, 6)))
    with pytest.raises(ShapeError, match=r"b expected shape \(4,\); got \(5,\)"):
        formula.reference(**{**tensors_of(formula), "b": np.zeros(5)})
    with pytest.raises(ShapeError, match=r"upstream gradient of shape \(2, 4, 4, 4\); got \(1,\)"):
        formula.gradient(np.zeros(1), **tensors_of(formula))
    with pytest.raises(OptionError, match=r"a place in an output of shape \(2, 4, 4, 4\)"):
        formula.explain((0, 0, 0, 9), **tensors_of(formula))
    with pytest.raises(OptionError, match="does not read a tensor 'z'"):
        formula.region("z", (0, 0, 0, 0))
    with pytest.raises(OptionError, match="no free scalar; got a"):
        Formula.infer((I,), X[I] * Var("a"), {"x": (2,)}).reference(x=[1, 2])


def test_an_index_that_is_divided() -> None:
    """`x[(i − p)/2]` spreads x out and fills the gaps with zeros."""
    i, p = axes("i p")
    index = (i - p + 1) // 2
    assert str(index) == "(i-p+1)/2" and not index.affine and index.axis is None
    assert index.at({"i": 4, "p": 1}) == 2 and index.at({"i": 4, "p": 0}) == -1
    assert index.at({"i": np.array([0, 1, 2]), "p": 1}).tolist() == [0, -1, 1]
    body = Sum((p,), Tensor("x")[index] * Tensor("w")[p])
    spread = Formula((i,), body, {"i": 6, "p": 3}, {"x": (3,), "w": (3,)})
    x, w = [1.0, 10.0, 100.0], [1.0, 2.0, 3.0]
    assert spread.reference(x=x, w=w).tolist() == [2, 13, 20, 130, 200, 300]
    assert spread.region("x", (4,)) == ((2, 2),)
    assert spread.gradient(np.ones(6), x=x, w=w)["x"].tolist() == [5, 6, 6]
    assert spread.explain((4,), x=x, w=w).value == 200
    with pytest.raises(OptionError, match="an output index that counts every place once"):
        Formula((i // 2,), body, {"i": 6, "p": 3}, {"x": (3,), "w": (3,)})
