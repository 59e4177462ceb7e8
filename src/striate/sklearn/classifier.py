"""`ConvNetClassifier`: a network that tells classes, as scikit-learn's classifiers do."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets

from striate.errors import OptionError
from striate.graph.losses import TrainingLoss
from striate.optim import Optimizer, Schedule
from striate.sklearn.arrays import Array, Float64
from striate.sklearn.base import NetEstimator
from striate.sklearn.nets import Net
from striate.train.predict import log_softmax

_SOFT = TrainingLoss("soft_cross_entropy", {"weight": None, "label_smoothing": 0.0})


class ConvNetClassifier(ClassifierMixin, NetEstimator):  # type: ignore[misc]
    """A convolutional network that tells classes: `P(c | x) = softmax(net(x))[c]`.

    It minimises the mean of `−wᵢ·log P(yᵢ | xᵢ)` over the samples. Equal samples are merged and
    their order is forgotten before the training, so a weight of 2 is two samples, exactly.

    Args:
        net: the network: None for a small one that suits the data; a name of `striate.models`; a
            pattern, as "(conv-relu-pool)*2-softmax"; a function of (shape, outputs) that makes
            one; or a module, which is copied, with the parameters that it has.
        input_shape: (channels, height, width) where images come as rows (n, features). None
            takes rows as plain features. Arrays (n, h, w) and (n, c, h, w) are images anyhow.
        standardize: whether each feature (each channel of images) is brought to mean 0 and
            variance 1, as the training data has them.
        epochs: how many times each sample is used.
        batch_size: samples of a step.
        optimizer: a name (sgd, momentum, nesterov, rmsprop, adam, adamw) or one of `striate.optim`.
        learning_rate: None leaves the optimiser's own.
        schedule: a name (constant, step, cosine, one-cycle, plateau) or one of `striate.optim`.
        augment: how images are changed while training: a text as "flip,crop4", or what else
            `striate.data.augmentation` takes; on images that are already on `scale_`.
        early_stopping: whether to hold out a part, to end after `n_iter_no_change` epochs without
            a new best, and to go back to the best epoch: by accuracy, with weights by the loss.
        validation_fraction: the part that is held out, the same of every class.
        n_iter_no_change: see `early_stopping`.
        class_weight: {label: weight}, "balanced", or None.
        warm_start: whether `fit` goes on with the network of the last one.
        random_state: of the parameters, the order of the samples, dropout and the part held out.
        n_jobs: threads; −1 for all cores; None for `striate.get_num_threads()`.
        verbose: whether to show the course.
    Attributes:
        net_: the trained network; it takes samples on `scale_`.
        classes_: the labels, sorted; the network's outputs are in this order.
        scale_: the mean and the factor of each feature or channel.
        input_shape_: the shape of one sample.
        history_, loss_curve_: a record for each epoch, and the losses.
        n_iter_: epochs done.
        n_features_in_, feature_names_in_: as everywhere in scikit-learn.

    >>> import numpy as np
    >>> X = np.array([[0.0, 0.0], [0.1, 0.2], [1.0, 1.0], [0.9, 1.2]])
    >>> model = ConvNetClassifier(random_state=0).fit(X, ["low", "low", "high", "high"])
    >>> model.predict([[0.0, 0.1], [1.1, 1.0]]).tolist()
    ['low', 'high']
    """

    def __init__(
        self,
        net: Net = None,
        *,
        input_shape: tuple[int, ...] | None = None,
        standardize: bool = True,
        epochs: int = 20,
        batch_size: int = 32,
        optimizer: str | Optimizer = "adam",
        learning_rate: float | None = None,
        schedule: str | Schedule = "cosine",
        augment: Any = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        class_weight: Any = None,
        warm_start: bool = False,
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: bool = False,
    ) -> None:
        super().__init__(
            net,
            input_shape=input_shape,
            standardize=standardize,
            epochs=epochs,
            batch_size=batch_size,
            optimizer=optimizer,
            learning_rate=learning_rate,
            schedule=schedule,
            augment=augment,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            warm_start=warm_start,
            random_state=random_state,
            n_jobs=n_jobs,
            verbose=verbose,
        )
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> ConvNetClassifier:
        """Train on samples and their labels.

        Args:
            X: (n, features), or images (n, h, w) or (n, c, h, w).
            y: (n,), labels of any type that can be sorted.
            sample_weight: (n,), what each sample counts; those of weight 0 are left out.
        Raises:
            ValueError: the data is none, or does not fit the network or an earlier fit.
        """
        fresh = not self._goes_on()
        X, y = self._checked(X, y, fresh=fresh)
        check_classification_targets(y)
        weights = self._weights(sample_weight, X)
        counted = np.ones(len(y), bool) if weights is None else weights > 0
        labels = np.unique(y[counted])
        if fresh:
            self.classes_: NDArray[Any] = labels
        return self._learn(X, y, weights, counted, fresh=fresh, part=False)

    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> ConvNetClassifier:
        """Train once on a part of the data; the network, scale and classes of the first part stay.

        Args:
            X, y, sample_weight: as for `fit`.
            classes: (classes,), all labels there will be; needed with the first part.
        Raises:
            ValueError: as for `fit`, or a label that is no class.
        """
        fresh = not hasattr(self, "net_")
        X, y = self._checked(X, y, fresh=fresh)
        check_classification_targets(y)
        if fresh and classes is None:
            raise OptionError(
                "ConvNetClassifier.partial_fit: expected classes with the first part; got "
                "classes=None. Give all labels that there will be."
            )
        if classes is not None:
            given = np.unique(classes)
            if not fresh and not np.array_equal(given, self.classes_):
                raise OptionError(
                    f"ConvNetClassifier.partial_fit: expected the classes of the first part, "
                    f"{self.classes_.tolist()}; got {given.tolist()}."
                )
            self.classes_ = given
        weights = self._weights(sample_weight, X)
        counted = np.ones(len(y), bool) if weights is None else weights > 0
        return self._learn(X, y, weights, counted, fresh=fresh, part=True)

    def _learn(
        self,
        X: Array,
        y: Array,
        weights: Float64 | None,
        counted: NDArray[np.bool_],
        *,
        fresh: bool,
        part: bool,
    ) -> ConvNetClassifier:
        if not counted.all():
            X, y, weights = X[counted], y[counted], None if weights is None else weights[counted]
        unknown = np.setdiff1d(y, self.classes_)
        if unknown.size:
            raise OptionError(
                f"ConvNetClassifier: expected labels of the classes {self.classes_.tolist()}; got "
                f"{unknown.tolist()}. Begin anew by a fit with warm_start=False."
            )
        codes = np.searchsorted(self.classes_, y)
        weights = self._with_classes(codes, weights)
        self._train(X, codes, weights, len(self.classes_), fresh=fresh, part=part)
        return self

    def _with_classes(self, codes: Array, weights: Float64 | None) -> Float64 | None:
        """The weights of samples times those of their classes."""
        if self.class_weight is None:
            return weights
        own = np.ones(len(codes)) if weights is None else weights
        if isinstance(self.class_weight, str) and self.class_weight == "balanced":
            totals = np.bincount(codes, own, len(self.classes_))  # sklearn's counts samples alone
            present = np.where(totals > 0, totals, 1.0)
            of_class = own.sum() / ((totals > 0).sum() * present)
        else:
            y = self.classes_[codes]
            of_class = compute_class_weight(self.class_weight, classes=self.classes_, y=y)
        found: Float64 = own * of_class[codes]
        if not found.any():
            raise OptionError(
                "ConvNetClassifier: expected a class with a weight above zero; got "
                f"class_weight={self.class_weight!r}."
            )
        return found

    def _targets(self, y: Array, weights: Float64 | None) -> tuple[Array, str | TrainingLoss]:
        if weights is None:
            return y.astype(np.int64), "cross_entropy"
        targets = np.zeros((len(y), len(self.classes_)), np.float32)
        targets[np.arange(len(y)), y] = weights  # cross-entropy is linear in its targets
        return targets, _SOFT

    # ---- use ---------------------------------------------------------------------------------

    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable label of each sample, (n,)."""
        best = self._outputs(X).argmax(axis=1)
        found: NDArray[Any] = self.classes_[best]
        return found

    def predict_log_proba(self, X: Any) -> Float64:
        """The logarithm of each class's probability, (n, classes)."""
        return log_softmax(self._outputs(X))

    def predict_proba(self, X: Any) -> Float64:
        """The probability of each class, (n, classes); a sample's add up to 1."""
        return np.exp(self.predict_log_proba(X))

    def decision_function(self, X: Any) -> Float64:
        """The network's outputs, (n, classes); with two classes by how much the second leads, (n,).

        Larger means more probable.
        """
        scores = self._outputs(X).astype(np.float64)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores
