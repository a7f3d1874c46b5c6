"""Checks before training that each split has images of each class, whether Raylight made it or the data set ships it.

Not here: making splits (``split``).
"""

import logging
from collections.abc import Collection, Iterator

import numpy as np

from raylight.config.schema import DataConfig
from raylight.data.index import Index
from raylight.data.names import shortened
from raylight.errors import DataError

log = logging.getLogger("raylight")


def share_problems(data: DataConfig, shipped: Collection[str | None]) -> Iterator[str]:
    """Finds fractions of 0 that would leave no image to validate or test on; checked before any image is read.

    Args:
        data: the fractions.
        shipped: the splits that the data set ships.

    Yields:
        A sentence or two per problem.
    """
    if data.val_fraction == 0 and data.folds is None and "val" not in shipped:
        yield (
            "data.val_fraction=0: there would be no images to choose the checkpoint by. Set it above 0 (0.1 is the default), "
            "add a val folder, or cross-validate with data.folds=5 data.fold=0."
        )
    if data.test_fraction == 0 and "test" not in shipped:
        yield (
            "data.test_fraction=0: there would be no images to test on. Set it above 0 (0.1 is the default), or add a test "
            "folder."
        )


def check_splits(index: Index, monitor: str = "val/loss") -> None:
    """Rejects splits that lack a class where that makes training or model selection pointless; else warns.

    Args:
        index: with ``split`` filled in.
        monitor: the metric that chooses the checkpoint.

    Raises:
        DataError: train lacks a class; or val does, with two classes or if the monitor is AUROC or average precision.
    """
    n_classes = len(index.class_names)
    counts = {
        split: np.bincount(part.targets(), minlength=n_classes)
        for split in ("train", "val", "test")
        if len(part := index.in_split(split))
    }
    for split, number in counts.items():
        lacking = [name for name, count in zip(index.class_names, number, strict=True) if count == 0]
        if not lacking:
            continue
        problem = f"{_NAMES[split]} has no usable image of {shortened([repr(name) for name in lacking])}"
        if split == "train":
            raise DataError(
                f"{problem}: it can't be learnt. Add images of it to train, or remove it from val and test."
            )
        if split == "val" and (n_classes == 2 or monitor in ("val/auroc", "val/average_precision")):
            consequence = "no threshold can be fitted on it" if n_classes == 2 else f"{monitor} can't be computed on it"
            raise DataError(
                f"{problem}: {consequence}. Add some; or move all of val into train, so that Raylight makes a validation "
                "split; or make one from train and val together with data.folds=10 data.fold=0."
            )
        consequence = (
            "they count neither in the choice of the checkpoint nor in the calibration"
            if split == "val"
            else "their recall stays unknown" + ("; AUROC can't be measured" if n_classes == 2 else "")
        )
        log.warning("%s: %s.", problem, consequence)


_NAMES = {"train": "The training split", "val": "The validation split", "test": "The test split"}
