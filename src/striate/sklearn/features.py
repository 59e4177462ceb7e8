"""`ConvFeatures`: what a layer of a network makes of samples, as features for other estimators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.multiclass import type_of_target

from striate.errors import OptionError, suggest
from striate.graph.graph import Graph
from striate.nn.graph_module import GraphModule
from striate.nn.module import Module
from striate.optim import Optimizer, Schedule
from striate.sklearn.arrays import Float32, Shape, choose
from striate.sklearn.base import NetEstimator
from striate.sklearn.classifier import ConvNetClassifier
from striate.sklearn.nets import Net, make_net
from striate.sklearn.regressor import ConvNetRegressor

_POOLINGS: Mapping[str, np.ufunc] = {"mean": np.add, "max": np.maximum}


class ConvFeatures(ClassNamePrefixFeaturesOutMixin, TransformerMixin, NetEstimator):  # type: ignore[misc]
    """The outputs of a layer as features: of a trained network, a random one, or one trained here.

    With `epochs=0` nothing is trained: the network is the module that is given, or has random
    weights. With `epochs` above 0 the network first learns y, as `ConvNetClassifier` does, or as
    `ConvNetRegressor` where y has real numbers.

    Args:
        net: as for `ConvNetClassifier`.
        layer: the layer's path in the network ("features.3"), or the name of a node of its graph;
            None takes what the last layer with weights reads.
        pooling: "mean" or "max" over the places of each map, in a grid of cells; None keeps all.
        grid: the cells along each side that `pooling` leaves.
        epochs: how many times each sample is used to train the network.
        class_weight: for learning classes, as for `ConvNetClassifier`.
        input_shape, standardize, batch_size, optimizer, learning_rate, schedule, augment,
            early_stopping, validation_fraction, n_iter_no_change, random_state, n_jobs,
            verbose: as for `ConvNetClassifier`.
    Attributes:
        net_: the network; it takes samples on `scale_`.
        features_: its part from the input to the layer.
        layer_: the name of the node that the features are taken from.
        scale_, input_shape_, n_features_in_, feature_names_in_: as for `ConvNetClassifier`.

    >>> import numpy as np
    >>> images = np.random.default_rng(0).random((4, 12, 12))
    >>> maps = ConvFeatures(layer="2", pooling="max", grid=2, random_state=0)
    >>> maps.fit_transform(images).shape  # the largest of each quarter of each map
    (4, 64)
    """

    def __init__(
        self,
        net: Net = None,
        *,
        layer: str | None = None,
        pooling: str | None = None,
        grid: int = 1,
        input_shape: tuple[int, ...] | None = None,
        standardize: bool = True,
        epochs: int = 0,
        batch_size: int = 32,
        optimizer: str | Optimizer = "adam",
        learning_rate: float | None = None,
        schedule: str | Schedule = "cosine",
        augment: Any = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        class_weight: Any = None,
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
            random_state=random_state,
            n_jobs=n_jobs,
            verbose=verbose,
        )
        self.layer, self.pooling, self.grid = layer, pooling, grid
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> ConvFeatures:
        """Make the network, or train it, and find the layer.

        Args:
            X: (n, features), or images (n, h, w) or (n, c, h, w).
            y: what to learn; not read where `epochs` is 0.
            sample_weight: (n,), what each sample counts.
        Raises:
            ValueError: the data or y is none, or there is no such layer.
        """
        if self.pooling not in (None, *_POOLINGS):
            raise OptionError(
                f"ConvFeatures: expected pooling as 'mean', 'max' or None; got {self.pooling!r}."
            )
        if self.epochs:
            X, y = self._checked(X, y, fresh=True, multi_output=True)
            self._learn(X, y, sample_weight)
        else:
            X = self._checked(X, fresh=True)
            chosen = choose(X, np.zeros(len(X)), self._weights(sample_weight, X))
            self._start(X, np.zeros(len(X)), chosen, outputs=1)
        graph = self.net_.to_graph(self.input_shape_)
        self.layer_ = _node_of(graph, self.layer)
        self.features_ = _part(self.net_, graph, self.layer_)
        shape = graph.nodes[self.layer_].shape
        self._n_features_out = int(np.prod(_pooled_shape(shape, self.pooling, self.grid)))
        return self

    def _make_net(self, outputs: int) -> Module:
        """Any network: its own output is not used."""
        return make_net(self.net, self.input_shape_, outputs, self._seed, "ConvFeatures")

    def _learn(self, X: Any, y: Any, sample_weight: Any) -> None:
        """Let a classifier or a regressor train the network."""
        same = {k: v for k, v in self.get_params(deep=False).items() if k not in _OWN}
        same["input_shape"] = self.input_shape_
        teacher: NetEstimator
        if type_of_target(y, input_name="y") in ("binary", "multiclass"):
            teacher = ConvNetClassifier(**same, class_weight=self.class_weight)
        else:
            teacher = ConvNetRegressor(**same)
        teacher.fit(X, y, sample_weight)
        self.net_, self.scale_ = teacher.net_, teacher.scale_
        self.n_iter_, self.history_ = teacher.n_iter_, teacher.history_

    def transform(self, X: Any) -> Float32:
        """The features of samples, (n, features out)."""
        maps = self._outputs(X)
        return _pooled(maps, self.pooling, self.grid).reshape(len(maps), -1)

    def _in_use(self) -> Module:
        return self.features_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        tags.target_tags.required = bool(self.epochs)
        return tags

    def _more_tags(self) -> dict[str, Any]:  # scikit-learn before 1.6
        return {"preserves_dtype": [np.float32], "requires_y": bool(self.epochs)}


_OWN = ("layer", "pooling", "grid", "class_weight", "input_shape")


def _node_of(graph: Graph, layer: str | None) -> str:
    """The name of the node that a layer's output is.

    Raises:
        OptionError: there is no such layer.
    """
    steps = [node.name for node in graph.steps]
    if layer is not None:
        found = [name for name in steps if name == layer or name.startswith(f"{layer}.")]
        if not found:
            raise OptionError(f"ConvFeatures: no layer {layer!r}. {suggest(layer, steps)}")
        return found[-1]
    weights = {node.name for node in graph.parameters}
    last = next((n for n in reversed(graph.steps) if weights.intersection(n.inputs)), None)
    if last is None:
        return graph.only_output("ConvFeatures").name
    return next(name for name in last.inputs if name not in weights)


def _part(net: Module, graph: Graph, layer: str) -> GraphModule:
    """A network's part from the input to a node, with the network's own arrays."""
    part = graph.pruned([layer])
    part.outputs = (layer,)
    arrays = net.arrays()
    return GraphModule(part, {node.name: arrays[node.name] for node in part.parameters})


def _pooled_shape(shape: Shape, pooling: str | None, grid: int) -> Shape:
    return shape if pooling is None or len(shape) != 3 else (shape[0], grid, grid)


def _pooled(maps: Float32, pooling: str | None, grid: int) -> Float32:
    """The mean or the largest of each cell of maps (n, c, h, w), (n, c, grid, grid).

    Raises:
        OptionError: the maps have fewer places than cells.
    """
    if pooling is None or maps.ndim != 4:
        return maps
    height, width = maps.shape[2:]
    if not 1 <= grid <= min(height, width):
        raise OptionError(
            f"ConvFeatures: expected grid from 1 to {min(height, width)} for maps of "
            f"{height}×{width}; got grid={grid!r}."
        )
    rows, columns = (np.arange(grid + 1) * side // grid for side in (height, width))
    reduce = _POOLINGS[pooling].reduceat
    pooled = reduce(reduce(maps, rows[:-1], axis=2), columns[:-1], axis=3)
    if pooling == "mean":
        pooled = pooled / np.outer(np.diff(rows), np.diff(columns)).astype(np.float32)
    found: Float32 = np.asarray(pooled, np.float32)
    return found
