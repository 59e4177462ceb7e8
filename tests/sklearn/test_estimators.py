"""The estimators on digits: in pipelines and searches, with weights, in parts, copied and kept.

scikit-learn's own checks are in `test_checks`; here is what they do not ask.
"""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
from typing import Any

import joblib
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import striate as st
from striate import nn, settings
from striate.errors import OptionError, ShapeError
from striate.sklearn import ConvFeatures, ConvNetClassifier, ConvNetRegressor

Array = NDArray[Any]


def tiny(shape: tuple[int, ...], outputs: int) -> nn.Module:
    """A small convolutional network for images of any size."""
    return nn.Sequential(
        nn.Conv2d(shape[0], 8, 5, stride=2, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(3),
        nn.Flatten(),
        nn.Linear(72, outputs),
    )


def classifier(**more: Any) -> ConvNetClassifier:
    given = {"epochs": 6, "learning_rate": 0.01, "random_state": 0, **more}
    return ConvNetClassifier(tiny, **given)


@pytest.fixture(scope="module")
def digits() -> tuple[Array, Array]:
    """Images (600, 14, 14) and labels."""
    train, _ = st.data.load("digits")
    return train.images[:600].reshape(600, 14, 2, 14, 2).mean(axis=(2, 4)), train.labels[:600]


def bits(model: Any) -> bytes:
    return b"".join(array.tobytes() for array in model.net_.state_dict().values())


# ---- learning --------------------------------------------------------------------------------


def test_learns_digits_from_arrays_and_from_rows_alike(digits: tuple[Array, Array]) -> None:
    images, labels = digits
    model = classifier().fit(images[:400], labels[:400])
    assert model.score(images[400:], labels[400:]) > 0.7
    assert model.n_iter_ == 6 == len(model.loss_curve_)
    assert model.input_shape_ == (1, 14, 14) and model.n_features_in_ == 196
    rows = classifier(input_shape=(1, 14, 14)).fit(images[:400].reshape(400, -1), labels[:400])
    assert bits(rows) == bits(model)
    assert np.array_equal(rows.predict(images[400:]), model.predict(images[400:, np.newaxis]))


def test_bytes_and_floats_are_brought_to_one_scale(digits: tuple[Array, Array]) -> None:
    whole = np.round(digits[0][:100] * 255)
    as_bytes = classifier(epochs=1).fit(whole.astype(np.uint8), digits[1][:100])
    as_floats = classifier(epochs=1).fit(whole, digits[1][:100])
    assert bits(as_bytes) == bits(as_floats)
    assert as_bytes.scale_.mean == pytest.approx(whole.mean())
    assert 1 / as_bytes.scale_.factor == pytest.approx(whole.std())
    raw = classifier(epochs=1, standardize=False).fit(whole, digits[1][:100])
    assert raw.scale_.mean == 0 and raw.scale_.factor == 1


@pytest.mark.parametrize("names", [("no", "yes"), (False, True), (-7, -2), (2.0, 5.0)])
def test_labels_of_any_type(names: tuple[Any, Any], digits: tuple[Array, Array]) -> None:
    images, odd = digits[0][:200], digits[1][:200] % 2
    labels = np.asarray(names)[odd]
    model = classifier(epochs=2).fit(images, labels)
    assert model.classes_.dtype == labels.dtype and model.classes_.tolist() == list(names)
    found = model.predict(images)
    assert found.dtype == labels.dtype
    leads = model.decision_function(images)
    assert np.array_equal(found == names[1], leads > 0) and 0 < (leads > 0).sum() < 200
    probability = model.predict_proba(images)
    assert probability.sum(axis=1) == pytest.approx(1)
    assert np.log(probability[:, 1] / probability[:, 0]) == pytest.approx(leads, abs=1e-5)


def test_early_stopping_goes_back_to_the_best_epoch(digits: tuple[Array, Array]) -> None:
    model = classifier(
        epochs=40, early_stopping=True, n_iter_no_change=2, validation_fraction=0.25
    ).fit(digits[0][:200], digits[1][:200])
    found = [record["validation_accuracy"] for record in model.history_]
    assert model.n_iter_ == len(found) < 40
    assert max(found) not in found[-2:]


def test_regression_of_several_numbers_comes_back_to_its_scale() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 3))
    y = np.stack([1e4 + 100 * X[:, 0], 1e-3 * (X[:, 1] - X[:, 2]), np.full(300, 7.0)], axis=1)
    model = ConvNetRegressor(random_state=0).fit(X, y)
    found = model.predict(X)
    assert found.shape == (300, 3) and found.dtype == np.float64
    assert (r2_score(y[:, :2], found[:, :2], multioutput="raw_values") > 0.95).all()
    assert found[:, 2] == pytest.approx(7, abs=0.5)
    one = ConvNetRegressor(epochs=1, random_state=0)
    assert one.fit(X, y[:, 0]).predict(X).shape == (300,)
    assert one.fit(X, y[:, :1]).predict(X).shape == (300, 1)


# ---- the same bits ---------------------------------------------------------------------------


def test_the_order_of_samples_and_the_threads_do_not_matter(digits: tuple[Array, Array]) -> None:
    images, labels = digits[0][:150], digits[1][:150]
    shuffled = np.random.default_rng(1).permutation(150)
    model = classifier(epochs=2).fit(images, labels)
    assert bits(classifier(epochs=2, n_jobs=2).fit(images[shuffled], labels[shuffled])) == bits(
        model
    )
    assert bits(classifier(epochs=2, random_state=1).fit(images, labels)) != bits(model)
    with settings.within(seed=99):
        assert bits(classifier(epochs=2).fit(images, labels)) == bits(model)


def test_random_states_of_every_kind(digits: tuple[Array, Array]) -> None:
    images, labels = digits[0][:50], digits[1][:50]
    states = [np.random.RandomState(3), np.random.RandomState(3), None, None]
    made = [bits(classifier(epochs=1, random_state=s).fit(images, labels)) for s in states]
    assert made[0] == made[1] and len(set(made)) == 3


@pytest.mark.parametrize("kind", ["classifier", "regressor"])
def test_a_weight_of_two_is_two_samples(kind: str, digits: tuple[Array, Array]) -> None:
    images, labels = digits[0][:120], digits[1][:120]
    weights = np.random.default_rng(2).integers(0, 4, 120)
    model: Any = classifier(epochs=2)
    if kind == "regressor":
        model = ConvNetRegressor(tiny, epochs=2, random_state=0)
    often = np.repeat(np.arange(120), weights)
    weighted = bits(clone(model).fit(images, labels, sample_weight=weights))
    assert bits(clone(model).fit(images[often], labels[often])) == weighted
    assert bits(clone(model).fit(images, labels, sample_weight=weights * 8.0)) == weighted
    assert bits(clone(model).fit(images, labels)) != weighted


def test_fractional_weights_pull_as_they_say() -> None:
    """Two targets for the same sample: the prediction is their weighted mean."""
    X, y = np.zeros((2, 1)), np.array([0.0, 1.0])
    model = ConvNetRegressor(epochs=400, learning_rate=0.02, random_state=0)
    model.fit(X, y, sample_weight=[0.3, 0.1])
    assert model.predict(X) == pytest.approx(0.25, abs=1e-3)
    told = ConvNetClassifier(epochs=400, learning_rate=0.02, random_state=0)
    told.fit(X, ["a", "b"], sample_weight=[0.3, 0.1])
    assert told.predict_proba(X)[0] == pytest.approx([0.75, 0.25], abs=1e-3)


def test_class_weights_are_weights_of_samples(digits: tuple[Array, Array]) -> None:
    images, labels = digits[0][:120], np.minimum(digits[1][:120], 2)
    by_class = {0: 0.5, 1: 4.0, 2: 1.0}
    own = np.array([by_class[k] for k in labels])
    plain = bits(classifier(epochs=1).fit(images, labels, sample_weight=own))
    assert bits(classifier(epochs=1, class_weight=by_class).fit(images, labels)) == plain
    balanced = classifier(epochs=1, class_weight="balanced").fit(images, labels)
    each = (120 / (3 * np.bincount(labels)))[labels]
    assert bits(balanced) == bits(classifier(epochs=1).fit(images, labels, sample_weight=each))


def test_samples_of_no_weight_have_no_class(digits: tuple[Array, Array]) -> None:
    images, labels = digits[0][:60], digits[1][:60]
    model = classifier(epochs=1).fit(images, labels, sample_weight=(labels < 3) * 1.0)
    assert model.classes_.tolist() == [0, 1, 2]


# ---- networks --------------------------------------------------------------------------------


def test_a_module_is_copied_with_its_parameters(digits: tuple[Array, Array]) -> None:
    images, labels = digits[0][:100], digits[1][:100]
    net = tiny((1, 14, 14), 10)
    before = {name: array.copy() for name, array in net.state_dict().items()}
    model = ConvNetClassifier(net, epochs=1, learning_rate=1e-9, random_state=0).fit(images, labels)
    assert all((net.state_dict()[name] == array).all() for name, array in before.items())
    assert model.net_ is not net
    assert model.net_[0].weight.data == pytest.approx(before["0.weight"], abs=1e-6)
    assert clone(model).net is not net


def test_networks_by_name(digits: tuple[Array, Array]) -> None:
    images = np.kron(digits[0][:32], np.ones((2, 2), np.float32))  # (32, 28, 28)
    model = ConvNetClassifier("lenet5", epochs=1, random_state=0).fit(images, digits[1][:32])
    assert type(model.net_) is st.models.LeNet5
    assert model.predict_proba(images[:3]).shape == (3, len(model.classes_))


def test_networks_by_pattern(digits: tuple[Array, Array]) -> None:
    model = ConvNetClassifier("(conv5x4s2-relu)*2-softmax", epochs=1, random_state=0)
    model.fit(digits[0][:32], digits[1][:32])
    assert model.net_.state_dict()[next(iter(model.net_.state_dict()))].shape == (4, 1, 5, 5)
    assert model.predict_proba(digits[0][:3]).shape == (3, len(model.classes_))


def test_augmentation_changes_the_training_alike_for_all_threads(
    digits: tuple[Array, Array],
) -> None:
    images, labels = digits[0][:64], digits[1][:64]
    plain = bits(classifier(epochs=1).fit(images, labels))
    moved = [
        bits(classifier(epochs=1, augment=how, n_jobs=jobs).fit(images, labels))
        for how, jobs in (("crop2", 1), ("crop2", 2), (st.data.PadCrop(2), 1), ("crop1", 1))
    ]
    assert moved[0] == moved[1] == moved[2]
    assert len({plain, *moved}) == 3


@pytest.mark.parametrize(
    ("net", "match"),
    [
        ("lenet6", "ConvNetClassifier: unknown net 'lenet6'. Did you mean 'lenet5'?"),
        (7, "ConvNetClassifier: expected net as a name of striate.models, a module, .*got 7"),
        (tiny((1, 14, 14), 3), r"expected a network with the output \(10,\) .*got \(3,\)"),
        (lambda shape, outputs: None, "expected net to give a striate.nn.Module; got NoneType"),
    ],
)
def test_what_is_no_network(net: Any, match: str, digits: tuple[Array, Array]) -> None:
    with pytest.raises(OptionError, match=match):
        ConvNetClassifier(net).fit(*digits)


def test_a_fit_that_fails_leaves_no_network(digits: tuple[Array, Array]) -> None:
    model = ConvNetClassifier(tiny((1, 14, 14), 3), epochs=1, warm_start=True, random_state=0)
    for _ in range(2):
        with pytest.raises(OptionError, match=r"expected a network with the output \(10,\)"):
            model.fit(*digits)
    few = digits[1] < 3
    assert model.fit(digits[0][few], digits[1][few]).classes_.tolist() == [0, 1, 2]


def test_weights_go_with_early_stopping_and_augmentation(digits: tuple[Array, Array]) -> None:
    images, labels = digits[0][:100], digits[1][:100]
    weights = np.linspace(0.1, 2, 100)
    model = classifier(epochs=2, early_stopping=True, augment="crop1,cutout3")
    model.fit(images, labels, sample_weight=weights)
    assert {"loss", "validation_loss"} <= model.history_[-1].keys()
    numbers = ConvNetRegressor(tiny, epochs=2, early_stopping=True, random_state=0)
    numbers.fit(images, labels, sample_weight=weights)
    assert {"loss", "validation_loss"} <= numbers.history_[-1].keys()


def test_named_networks_want_images() -> None:
    with pytest.raises(OptionError, match="expected images for net='lenet5'; got samples of 4"):
        ConvNetClassifier("lenet5").fit(np.eye(4), [0, 1, 0, 1])


def test_shapes_that_do_not_fit(digits: tuple[Array, Array]) -> None:
    images, labels = digits
    with pytest.raises(ShapeError, match=r"fit input_shape=\(1, 7, 7\); got images \(1, 14, 14\)"):
        classifier(input_shape=(1, 7, 7)).fit(images, labels)
    with pytest.raises(OptionError, match=r"expected input_shape=\(channels, height, width\)"):
        classifier(input_shape=(14, 14)).fit(images, labels)
    model = classifier(epochs=1).fit(images[:30], labels[:30])
    with pytest.raises(ShapeError, match=r"got images \(1, 7, 28\)"):
        model.predict(images[:2].reshape(2, 7, 28))
    with pytest.raises(ValueError, match="X has 49 features, but ConvNetClassifier is expecting"):
        model.predict(images[:2, ::2, ::2])
    with pytest.raises(OptionError, match="expected numbers that float32 can hold"):
        model.predict(np.full((1, 14, 14), 1e200))


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"optimizer": "adem"}, "optimizer: unknown name 'adem'. Did you mean 'adam'?"),
        ({"optimizer": 3}, "ConvNetClassifier: expected optimizer as a name or one of striate.op"),
        ({"schedule": "cosin"}, "schedule: unknown name 'cosin'"),
        ({"epochs": 0}, "expected a whole number of at least 1; got epochs=0"),
        ({"class_weight": dict.fromkeys(range(10), 0)}, "expected a class with a weight above"),
    ],
)
def test_bad_settings(more: dict[str, Any], match: str, digits: tuple[Array, Array]) -> None:
    with pytest.raises(OptionError, match=match):
        classifier(**more).fit(digits[0][:60], digits[1][:60])


def test_bad_weights(digits: tuple[Array, Array]) -> None:
    images, labels = digits[0][:20], digits[1][:20]
    with pytest.raises(OptionError, match=r"expected weights of at least zero.*the least -1"):
        classifier().fit(images, labels, sample_weight=np.r_[-1.0, np.ones(19)])


# ---- in parts --------------------------------------------------------------------------------


def test_partial_fit_learns_and_keeps_its_classes(digits: tuple[Array, Array]) -> None:
    images, labels = digits
    model = classifier(learning_rate=0.005)
    for _ in range(4):
        for part in np.split(np.arange(400), 4):
            model.partial_fit(images[part], labels[part], classes=range(10))
    assert model.score(images[400:], labels[400:]) > 0.6
    assert model.n_iter_ == 16
    some = np.flatnonzero(labels[:60] < 2)
    assert model.partial_fit(images[some], labels[some]).classes_.tolist() == list(range(10))
    with pytest.raises(OptionError, match=r"expected labels of the classes .*got \[11\]"):
        model.partial_fit(images[:1], [11])
    with pytest.raises(OptionError, match=r"expected the classes of the first part.*got \[0, 1\]"):
        model.partial_fit(images[:1], [0], classes=[0, 1])
    with pytest.raises(OptionError, match="expected classes with the first part; got classes=None"):
        classifier().partial_fit(images, labels)


def test_regression_in_parts_keeps_the_first_scale() -> None:
    X = np.linspace(-1, 1, 40)[:, np.newaxis]
    model = ConvNetRegressor(random_state=0).partial_fit(X, X[:, 0])
    scale = model.y_scale_
    assert model.partial_fit(X, 5 + X[:, 0]).y_scale_ is scale
    with pytest.raises(ShapeError, match=r"expected y of 1 targets.*got y \(40, 2\)"):
        model.partial_fit(X, np.hstack([X, X]))


def test_the_optimiser_remembers_earlier_parts() -> None:
    X, y = np.array([[0.5, -1.0]]), np.array([2.0])  # one sample: its order cannot matter
    model = ConvNetRegressor(random_state=0)
    for _ in range(3):
        model.partial_fit(X, y)
    whole = ConvNetRegressor(epochs=3, schedule="constant", random_state=0).fit(X, y)
    assert bits(model) == bits(whole)
    model.set_params(optimizer="momentum").partial_fit(X, y)  # begins anew
    assert bits(model) != bits(whole)


def test_warm_start_goes_on_with_the_network(digits: tuple[Array, Array]) -> None:
    images, labels = digits[0][:100], digits[1][:100]
    model = classifier(epochs=2, warm_start=True).fit(images, labels)
    net, first = model.net_, model.loss_curve_[-1]
    model.fit(images, labels)
    assert model.net_ is net and model.n_iter_ == 4 and model.loss_curve_[-1] < first
    with pytest.raises(OptionError, match="Begin anew by a fit with warm_start=False"):
        model.fit(images, labels + 1)


# ---- among scikit-learn's own ----------------------------------------------------------------


def test_grid_search_over_a_pipeline(digits: tuple[Array, Array]) -> None:
    images, labels = digits[0][:200], digits[1][:200]
    steps = make_pipeline(StandardScaler(), classifier(input_shape=(1, 14, 14), epochs=3))
    grid = {"convnetclassifier__learning_rate": [1e-9, 0.02]}
    search = GridSearchCV(steps, grid, cv=2).fit(images.reshape(200, -1), labels)
    assert search.best_params_ == {"convnetclassifier__learning_rate": 0.02}
    assert search.best_score_ > 0.3


def test_cross_validation_in_processes_gives_the_same(digits: tuple[Array, Array]) -> None:
    images, labels = digits[0][:120], digits[1][:120]
    here = cross_val_score(classifier(epochs=2), images, labels, cv=2)
    with joblib.parallel_backend("threading"):
        there = cross_val_score(classifier(epochs=2), images, labels, cv=2, n_jobs=2)
    assert np.array_equal(here, there) and here.min() > 0.1


def test_copies_and_pickles_say_the_same(digits: tuple[Array, Array]) -> None:
    images, labels = digits[0][:60], digits[1][:60]
    model = classifier(epochs=1).fit(images, labels)
    expected = model.predict_proba(images)
    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), joblib.load(file)):
        assert np.array_equal(other.predict_proba(images), expected)
        assert bits(other) == bits(model)
        other.fit(images, labels)


def test_pandas_frames_in() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [0.0, 1, 2, 3], "b": [1.0, 0, 1, 0]})
    model = ConvNetClassifier(random_state=0).fit(frame, pandas.Series(["x", "x", "y", "y"]))
    assert model.feature_names_in_.tolist() == ["a", "b"]
    assert model.predict(frame).tolist() == ["x", "x", "y", "y"]
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame.rename(columns={"a": "c"}))


def test_threads_by_n_jobs_and_by_what_joblib_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    from striate.sklearn.nets import thread_count

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with settings.within(threads=3):
        assert thread_count(None) == 3 and thread_count(2) == 2 and thread_count(-1) >= 1
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        assert thread_count(None) == 2 and thread_count(5) == 5
        for odd in ("", "0", "4,2", "8"):
            monkeypatch.setenv("OMP_NUM_THREADS", odd)
            assert thread_count(None) == 3


def test_importing_striate_leaves_scikit_learn_alone() -> None:
    code = "import sys, striate, striate.nn, striate.train, striate.models; "
    code += "sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    code = "import sys; sys.modules['sklearn'] = None; import striate.sklearn"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "expected scikit-learn; got none. Install it by `pip install striate" in done.stderr


# ---- features --------------------------------------------------------------------------------


def test_features_are_what_the_layer_gives(digits: tuple[Array, Array]) -> None:
    images = digits[0][:20]
    model = ConvFeatures(tiny, layer="2", standardize=False, random_state=0).fit(images)
    first = model.net_[2](model.net_[1](model.net_[0](images[:, np.newaxis])))  # (20, 8, 5, 5)
    assert model.transform(images) == pytest.approx(first.reshape(20, -1), abs=1e-6)
    assert model.transform(images).std() > 0
    last = ConvFeatures(tiny, standardize=False, random_state=0).fit(images)
    assert last.layer_ == "4" and last.transform(images).shape == (20, 72)
    by_name = ConvFeatures("lenet5", layer="conv1", random_state=0)
    assert by_name.fit_transform(np.kron(images, np.ones((2, 2)))).shape == (20, 6 * 28 * 28)


@pytest.mark.parametrize(("pooling", "reduce"), [("mean", np.mean), ("max", np.max)])
def test_pooling_in_a_grid(pooling: str, reduce: Any, digits: tuple[Array, Array]) -> None:
    images = digits[0][:7]
    maps = ConvFeatures(tiny, layer="0", random_state=0).fit(images).transform(images)
    maps = maps.reshape(7, 8, 5, 5)
    model = ConvFeatures(tiny, layer="0", pooling=pooling, grid=2, random_state=0).fit(images)
    cells = [slice(0, 2), slice(2, 5)]
    expected = [[reduce(maps[:, :, r, c], axis=(2, 3)) for c in cells] for r in cells]
    found = model.transform(images).reshape(7, 8, 2, 2)
    assert found == pytest.approx(np.transpose(expected, (2, 3, 0, 1)), abs=1e-6)
    assert len(model.get_feature_names_out()) == 32


def test_trained_features_serve_another_classifier(digits: tuple[Array, Array]) -> None:
    images, labels = digits
    features = ConvFeatures(tiny, epochs=4, learning_rate=0.01, random_state=0)
    steps = make_pipeline(features, LogisticRegression(max_iter=1000)).fit(
        images[:400], labels[:400]
    )
    assert steps.score(images[400:], labels[400:]) > 0.7
    alone = clone(features).fit(images[:400], labels[:400])
    assert (
        bits(alone) == bits(steps[0]) == bits(classifier(epochs=4).fit(images[:400], labels[:400]))
    )


def test_features_learned_from_numbers_and_kept_in_a_frame() -> None:
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame(np.random.default_rng(0).normal(size=(50, 3)), columns=list("abc"))
    model = ConvFeatures(epochs=2, random_state=0).set_output(transform="pandas")
    found = model.fit(X, X["a"] * 0.5).transform(X)
    assert isinstance(found, pandas.DataFrame)
    assert found.columns[:2].tolist() == ["convfeatures0", "convfeatures1"]
    assert found.shape == (50, 64) and found.to_numpy().std() > 0


def test_features_of_a_network_trained_before(digits: tuple[Array, Array]) -> None:
    images, labels = digits
    before = classifier(epochs=3).fit(images[:300], labels[:300])
    model = ConvFeatures(before.net_, layer="3").fit(images[:300])
    assert bits(model) == bits(before)


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"layer": "9"}, "ConvFeatures: no layer '9'. .*There is: 0, 1"),
        ({"pooling": "sum"}, "ConvFeatures: expected pooling as 'mean', 'max' or None; got 'sum'"),
        ({"layer": "0", "pooling": "max", "grid": 6}, "expected grid from 1 to 5 for maps of 5×5"),
    ],
)
def test_bad_features(more: dict[str, Any], match: str, digits: tuple[Array, Array]) -> None:
    with pytest.raises(OptionError, match=match):
        ConvFeatures(tiny, **more).fit(digits[0][:9]).transform(digits[0][:9])
