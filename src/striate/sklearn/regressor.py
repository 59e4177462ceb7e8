"""`ConvNetRegressor`: a network that tells numbers, as scikit-learn's regressors do."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import RegressorMixin

from striate.errors import ShapeError
from striate.formula.loss_scalar import scalar_loss, squared_error
from striate.graph.losses import TrainingLoss
from striate.sklearn.arrays import Array, Chosen, Float64, find_scale
from striate.sklearn.base import NetEstimator

_WEIGHTED = TrainingLoss("weighted_scalar_loss", scalar_loss(squared_error()))


class ConvNetRegressor(RegressorMixin, NetEstimator):  # type: ignore[misc]
    """A convolutional network that tells numbers: one for each sample, or several.

    It minimises the mean of `wᵢ·‖net(xᵢ) − yᵢ‖²` over the samples, y being brought to mean 0 and
    variance 1 and predictions back.

    Args:
        net, input_shape, standardize, epochs, batch_size, optimizer, learning_rate, schedule,
            augment, early_stopping, validation_fraction, n_iter_no_change, warm_start,
            random_state, n_jobs, verbose: as for `ConvNetClassifier`; the best epoch is that of
            the least squared error.
    Attributes:
        net_: the trained network; it takes samples on `scale_` and gives numbers on `y_scale_`.
        scale_, y_scale_: the mean and the factor of each feature or channel, and of each target.
        input_shape_, history_, loss_curve_, n_iter_, n_features_in_, feature_names_in_: as for
            `ConvNetClassifier`.

    >>> import numpy as np
    >>> X = np.linspace(-1, 1, 64)[:, np.newaxis]
    >>> model = ConvNetRegressor(epochs=60, random_state=0).fit(X, 3 * X[:, 0])
    >>> model.score(X, 3 * X[:, 0]) > 0.99
    True
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> ConvNetRegressor:
        """Train on samples and their numbers.

        Args:
            X: (n, features), or images (n, h, w) or (n, c, h, w).
            y: (n,) or (n, targets).
            sample_weight: (n,), what each sample counts; those of weight 0 are left out.
        Raises:
            ValueError: the data is none, or does not fit the network or an earlier fit.
        """
        return self._learn(X, y, sample_weight, fresh=not self._goes_on(), part=False)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> ConvNetRegressor:
        """Train once on a part of the data; the network and the scales of the first part stay."""
        return self._learn(X, y, sample_weight, fresh=not hasattr(self, "net_"), part=True)

    def _learn(self, X: Any, y: Any, weights: Any, *, fresh: bool, part: bool) -> ConvNetRegressor:
        X, y = self._checked(X, y, fresh=fresh, multi_output=True, y_numeric=True)
        columns = np.asarray(y, np.float64).reshape(len(y), -1)
        if fresh:
            self._single = y.ndim == 1
        elif columns.shape[1] != len(self.y_scale_.mean):
            raise ShapeError(
                f"ConvNetRegressor: expected y of {len(self.y_scale_.mean)} targets, as in the "
                f"earlier fit; got y {y.shape}. Begin anew by a fit with warm_start=False."
            )
        weights = self._weights(weights, X)
        self._train(X, columns, weights, columns.shape[1], fresh=fresh, part=part)
        return self

    def _start(self, X: Array, y: Array, chosen: Chosen, outputs: int) -> None:
        super()._start(X, y, chosen, outputs)
        self.y_scale_ = find_scale(y, (outputs,), chosen)

    def _targets(self, y: Array, weights: Float64 | None) -> tuple[Array, str | TrainingLoss]:
        targets = self.y_scale_.apply(y, y.shape[1:])
        if weights is None:
            return targets, "mse"
        shares = np.broadcast_to(weights[:, np.newaxis], targets.shape)
        return np.stack([targets, shares], axis=1).astype(np.float32), _WEIGHTED

    def predict(self, X: Any) -> Float64:
        """The numbers of each sample, (n,) or (n, targets) as y was."""
        outputs = self._outputs(X)
        found = self.y_scale_.undo(outputs)
        return found[:, 0] if self._single else found

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _more_tags(self) -> dict[str, Any]:  # scikit-learn before 1.6
        return {"multioutput": True}
