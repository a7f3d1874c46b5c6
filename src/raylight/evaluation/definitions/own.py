"""Metrics of torchmetrics or of a user's package, named in ``metrics``: on a set of images, and under resampling.

Each takes the probabilities and the classes of images. Those of torchmetrics for two classes (``Binary...``) get the positive
class's probability, and whether it is the class. Leaves out their intervals (``evaluation.metrics``).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from raylight.config.rules.nodes import build_for_classes, cause_text
from raylight.config.rules.targets import check_node
from raylight.errors import ConfigError, RunError
from raylight.evaluation.predictions import LabelledPredictions


class OwnMetrics:
    """Built metrics, by name.

    Args:
        nodes: ``_target_`` node of each; it gets the number of classes where its signature has a name for it.
        n_classes: of the data.
        positive: position of the positive class.

    Raises:
        ConfigError: a package isn't trusted, or a metric can't be built.
    """

    def __init__(self, nodes: Mapping[str, Any], n_classes: int, positive: int) -> None:
        self.positive = positive
        self._metrics: dict[str, Any] = {}
        for name, node in nodes.items():
            key = f"metrics.{name}"
            check_node(key, "metric", node)
            metric = build_for_classes(key, node, n_classes)
            if not callable(metric):
                raise ConfigError(
                    [
                        f"{key}: {node['_target_']} made a {type(metric).__name__}; expected a torchmetrics.Metric or function"
                    ]
                )
            self._metrics[name] = metric

    def __bool__(self) -> bool:
        return bool(self._metrics)

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics' names."""
        return tuple(self._metrics)

    def range_of(self, name: str) -> tuple[float, float]:
        """The range of a metric's values, where it declares one as torchmetrics' metrics do.

        Args:
            name: of the metric.

        Returns:
            Smallest and largest value; infinite where the metric doesn't declare it.
        """
        metric = self._metrics[name]
        least, most = getattr(metric, "plot_lower_bound", None), getattr(metric, "plot_upper_bound", None)
        return -np.inf if least is None else float(least), np.inf if most is None else float(most)

    def values(
        self, probabilities: Float[np.ndarray, "image class"], labels: Int[np.ndarray, " image"]
    ) -> dict[str, float]:
        """Computes each metric on some images.

        Args:
            probabilities: of each class, rows summing to 1.
            labels: position of each image's class.

        Returns:
            A value by name.

        Raises:
            RunError: a metric fails, or gives something else than a number.
        """
        return {name: self._value(name, probabilities, labels) for name in self._metrics}

    def resampled(
        self, labelled: LabelledPredictions, weights: Float[np.ndarray, "resample image"]
    ) -> dict[str, Float[np.ndarray, " resample"]]:
        """Computes each metric on each resample.

        Args:
            labelled: the predictions.
            weights: how often each image is in each resample.

        Returns:
            Values by name, one per resample; NaN where the metric fails, as some do where a class is missing.
        """
        found = {name: np.full(len(weights), np.nan) for name in self._metrics}
        for row, weight in enumerate(weights):
            drawn = np.repeat(np.arange(len(weight)), weight.astype(np.int64))
            for name, values in found.items():
                try:
                    values[row] = self._value(name, labelled.probabilities[drawn], labelled.labels[drawn])
                except RunError:
                    continue
        return found

    def _value(
        self, name: str, probabilities: Float[np.ndarray, "image class"], labels: Int[np.ndarray, " image"]
    ) -> float:
        import torch
        from torchmetrics import Metric

        metric = self._metrics[name]
        given, truth = torch.from_numpy(probabilities).float(), torch.from_numpy(labels).long()
        if any(base.__name__.startswith("Binary") for base in type(metric).__mro__):
            given, truth = given[:, self.positive], (truth == self.positive).long()
        try:
            if isinstance(metric, Metric):
                metric.reset()
                metric.update(given, truth)
                value = float(metric.compute())
                metric.reset()
                return value
            return float(metric(given, truth))
        except Exception as error:  # a user's metric may fail in any way
            raise RunError(f"metrics.{name} fails on {len(labels)} images: {cause_text(error)}") from error


def check_metrics(nodes: Mapping[str, Any]) -> None:
    """Builds metrics and tries them on ten images of two classes.

    Args:
        nodes: ``_target_`` node of each, by name.

    Raises:
        ConfigError: one can't be built or used.
    """
    labels = np.arange(10) % 2
    probability = np.linspace(0.05, 0.95, 10)
    for name, node in nodes.items():
        metrics = OwnMetrics({name: node}, 2, 1)
        try:
            metrics.values(np.column_stack([1 - probability, probability]), labels)
        except RunError as error:
            raise ConfigError([str(error)]) from error
