"""Batches for Lightning, epoch by epoch: images, or features once the frozen part has been computed.

The test split isn't here: no loader of it can be made while a network trains.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
from jaxtyping import Int64

from raylight.data.augment import Augmenter
from raylight.data.batches import Batches, Batching, Order, Shard, WaitClock
from raylight.data.samples import Samples
from raylight.training.phases import Phase, phase_at

FeatureSource = Callable[[Samples, int, Augmenter | None, int], Samples]
"""(image samples, input stage, augmenter, views per image) -> the inputs of that stage."""


class FeatureSources(NamedTuple):
    """Where the features of each split come from.

    Attributes:
        train: those that the network learns from.
        val: those that it is validated on.
    """

    train: FeatureSource
    val: FeatureSource


@dataclass(frozen=True)
class Sampling:
    """How images are drawn into batches.

    Attributes:
        batch_size: images per step, over all training processes.
        seed: of the order.
        limit: batches per epoch at most; ``None`` for all.
        weighted: draw training images with replacement, all classes equally often.
        groups: number of each training image's group, which folds don't divide; ``None`` where each is one of its own.
    """

    batch_size: int
    seed: int
    limit: int | None = None
    weighted: bool = False
    groups: Int64[np.ndarray, " image"] | None = field(default=None, compare=False)


class EpochLoaders(pl.LightningDataModule):
    """Makes the batches of each epoch: one process's share of them where several train.

    Args:
        train: images to train on.
        val: images to validate on; may be empty.
        phases: decide where each epoch's training begins.
        features: compute the inputs of a stage, or read them from the cache.
        augmenter: changes training images at random.
        sampling: how images are drawn into batches.
    """

    def __init__(
        self,
        train: Samples,
        val: Samples,
        phases: tuple[Phase, ...],
        features: FeatureSources,
        augmenter: Augmenter | None,
        sampling: Sampling,
    ) -> None:
        super().__init__()
        self.train_images, self.val_images = train, val
        self.phases, self.features, self.augmenter = phases, features, augmenter
        self.sampling = sampling
        self.clock = WaitClock()
        self._cached: dict[tuple[str, int], Samples] = {}

    def prepare(self) -> None:
        """Compute the outputs of frozen stages now, unless an earlier phase trains these stages.

        Called before several processes start, all but one of which would otherwise wait for them.
        """
        for position, phase in enumerate(self.phases):
            if all(phase.input_stage <= earlier.boundary for earlier in self.phases[:position]):
                self._inputs("train", self.train_images, phase, self.augmenter)
                self._inputs("val", self.val_images, phase, None)

    def train_dataloader(self) -> Batches:
        """The training batches of the trainer's current epoch.

        Returns:
            Batches of this process's share, in random order.
        """
        epoch, phase = self._epoch_and_phase()
        augmenter = None if phase.input_stage else self.augmenter
        samples = self._inputs("train", self.train_images, phase, self.augmenter)
        if self.sampling.weighted:
            samples = samples.class_balanced([self.sampling.seed, epoch])
        processes = self.trainer.world_size if self.trainer else 1
        smallest = 2 * processes if phase.batch_norm else 1
        order = Order(self.sampling.seed, epoch, shuffle=True)
        return self._batches(samples, order, smallest, augmenter=augmenter, clock=self.clock)

    def val_dataloader(self) -> Any:
        """The validation batches, never augmented.

        Returns:
            Batches of this process's share; an empty list where nothing is held out.
        """
        if not len(self.val_images):
            return []
        epoch, phase = self._epoch_and_phase()
        return self._batches(self._inputs("val", self.val_images, phase, None), Order(epoch=epoch))

    def features_to_solve(self, phase: Phase) -> tuple[Samples, Samples]:
        """The features that a phase's head is solved on.

        Args:
            phase: with cached features.

        Returns:
            Inputs of its input stage: of the training images, with their views, and of the validation images.
        """
        return self._inputs("train", self.train_images, phase, self.augmenter), self._inputs(
            "val", self.val_images, phase, None
        )

    def _epoch_and_phase(self) -> tuple[int, Phase]:
        epoch = self.trainer.current_epoch if self.trainer else 0
        return epoch, phase_at(self.phases, epoch)

    def _inputs(self, split: str, images: Samples, phase: Phase, augmenter: Augmenter | None) -> Samples:
        if phase.input_stage == 0:
            return images
        key = (split, phase.first_epoch)
        if key not in self._cached:
            source = self.features.train if split == "train" else self.features.val
            self._cached[key] = source(images, phase.input_stage, augmenter if phase.views else None, phase.views)
        return self._cached[key]

    def _batches(self, samples: Samples, order: Order, smallest: int = 1, **settings: Any) -> Batches:
        shard = Shard()
        if self.trainer:
            shard = Shard(self.trainer.global_rank, self.trainer.world_size)
            settings["pin"] = self.trainer.strategy.root_device.type == "cuda"
        return Batches(
            samples, Batching(self.sampling.batch_size, smallest, self.sampling.limit, shard), order, **settings
        )
