"""Convolutional networks as scikit-learn estimators: in pipelines, searches and cross-validation.

    from striate.sklearn import ConvNetClassifier

    net = ConvNetClassifier(epochs=5, random_state=0).fit(images, labels)
    net.score(more_images, more_labels)

Needs scikit-learn 1.3 or newer (`pip install striate[sklearn]`). The trained network itself is
`estimator.net_`, with all that the rest of the package can do with one.
"""

from __future__ import annotations

try:
    import sklearn  # noqa: F401
except ImportError as error:
    raise ImportError(
        "striate.sklearn: expected scikit-learn; got none. Install it by "
        "`pip install striate[sklearn]`."
    ) from error

from striate.sklearn.classifier import ConvNetClassifier
from striate.sklearn.features import ConvFeatures
from striate.sklearn.regressor import ConvNetRegressor

__all__ = ["ConvFeatures", "ConvNetClassifier", "ConvNetRegressor"]
