"""Whether each part of a split can do its work: asked of cut and shipped splits alike, before anything is trained.

Leaves out the cutting (``split.py``).
"""

import logging

import numpy as np

from raylight.data.index import Index
from raylight.errors import DataError

log = logging.getLogger("raylight")


def check_splits(index: Index, monitor: str = "val/loss") -> None:
    """Refuses a split that lacks a class where training, choosing or measuring would come to nothing; warns elsewhere.

    Args:
        index: with ``split`` filled in.
        monitor: the metric that chooses the checkpoint.

    Raises:
        DataError: train lacks a class; or validation does, with two classes or an AUROC or average precision to choose by.
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
        named = ", ".join(map(repr, lacking[:6])) + (f", ... ({len(lacking)} in all)" if len(lacking) > 6 else "")
        problem = f"{_NAMES[split]} has no usable image of {named}"
        if split == "train":
            raise DataError(
                f"{problem}: nothing could learn it. Add images of it to train, or take it out of val and test."
            )
        if split == "val" and (n_classes == 2 or monitor in ("val/auroc", "val/average_precision")):
            what = "no threshold can be fitted on it" if n_classes == 2 else f"{monitor} can't be computed on it"
            raise DataError(
                f"{problem}: {what}. Add some; or move its images into train, so that a validation split is cut from there; or "
                "cut one from train and val together with data.folds=10 data.fold=0."
            )
        lost = (
            "their recall can't choose a checkpoint, and the calibration leaves them out"
            if split == "val"
            else "how well they are recognised stays unknown" + ("; AUROC can't be measured" if n_classes == 2 else "")
        )
        log.warning("%s: %s.", problem, lost)


_NAMES = {"train": "The training split", "val": "The validation split", "test": "The test split"}
