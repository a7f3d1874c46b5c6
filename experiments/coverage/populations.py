"""Images without pictures: classes and probabilities drawn from a known distribution, so that the truth is known.

An image has a score for each class: normal noise, shifted for its own class. Covers two classes at any prevalence and
more, class sizes fixed or drawn, positives of which some are hopeless, images that come in groups, and two models whose
noise is partly the same. Probabilities are those that Bayes' rule gives, stretched where a model is too sure of itself.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from raylight.evaluation.definitions.weighted import WeightedMetrics
from raylight.evaluation.predictions import Predictions

CROWD = 300_000
"""Images that the truth is computed on, fewer with many classes."""


@dataclass(frozen=True)
class Model:
    """What a model makes of images.

    Attributes:
        separation: distance of the classes' scores, in standard deviations.
        boast: factor on its logits; 1 is calibrated.
        shift: added to the positive class's logit.
    """

    separation: float
    boast: float = 1.0
    shift: float = 0.0


@dataclass(frozen=True)
class Population:
    """Where test sets come from.

    Attributes:
        n_classes: two or more.
        positives: share of the positive class, with two classes; more are equally frequent.
        hopeless: share of images that look like any class.
        per_group: images per group.
        alike: share of the noise's variance that images of a group share.
        drawn_mix: whether class sizes vary from one test set to the next.
        shared: share of the noise's variance that two models share.
    """

    n_classes: int = 2
    positives: float = 0.5
    hopeless: float = 0.0
    per_group: int = 1
    alike: float = 0.0
    drawn_mix: bool = True
    shared: float = 0.6

    def draw(self, n: int, models: tuple[Model, ...], rng: np.random.Generator) -> list[Predictions]:
        """A test set of n images as each model sees it."""
        units = n // self.per_group
        labels = np.repeat(self._labels(units, rng), self.per_group)
        n, k = len(labels), self.n_classes
        visible = np.repeat(rng.random(units) >= self.hopeless, self.per_group)
        common = rng.normal(size=(units, k)).repeat(self.per_group, axis=0)
        between = rng.normal(size=(n, k))
        paths = tuple(f"{i}.png" for i in range(n))
        groups = tuple(str(i // self.per_group) for i in range(n)) if self.per_group > 1 else None
        names = tuple(f"c{i:03}" for i in range(k))
        found = []
        for model in models:
            own = np.sqrt(self.shared) * between + np.sqrt(1 - self.shared) * rng.normal(size=(n, k))
            noise = np.sqrt(self.alike) * common + np.sqrt(1 - self.alike) * own
            logits = self._logits(labels, noise, visible, model)
            probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
            probabilities /= probabilities.sum(axis=1, keepdims=True)
            found.append(Predictions(paths, ("test",) * n, labels, probabilities, names, names[1], groups))
        return found

    def truth(self, models: tuple[Model, ...]) -> list[dict[str, float]]:
        """Every metric of each model on a crowd."""
        n = CROWD if self.n_classes < 10 else 60_000
        crowd = replace(self, per_group=1, alike=0.0).draw(n, models, np.random.default_rng(12345))
        whole = np.ones((1, n))
        return [
            {name: float(value[0]) for name, value in WeightedMetrics(one.labelled())(whole).items()} for one in crowd
        ]

    def _labels(self, n: int, rng: np.random.Generator) -> Int[np.ndarray, " unit"]:
        if self.n_classes > 2:
            return rng.integers(0, self.n_classes, n) if self.drawn_mix else np.arange(n) % self.n_classes
        if self.drawn_mix:
            return (rng.random(n) < self.positives).astype(np.int64)
        return (np.arange(n) < round(n * self.positives)).astype(np.int64)

    def _logits(
        self,
        labels: Int[np.ndarray, " image"],
        noise: Float[np.ndarray, "image class"],
        visible: np.ndarray,
        model: Model,
    ) -> Float[np.ndarray, "image class"]:
        if self.n_classes == 2:
            score = model.separation * (labels - 0.5) * visible + noise[:, 1]
            logit = model.separation * score + np.log(self.positives / (1 - self.positives))
            return np.stack([np.zeros(len(labels)), model.boast * logit + model.shift], axis=1)
        own = np.eye(self.n_classes)[labels] * visible[:, None]
        return model.boast * model.separation * (noise + model.separation * own)
