"""``raylight labels``: which labels are suspect, by confident learning (cleanlab) on out-of-fold predictions.

Each prediction comes from a model that wasn't trained on the image: the networks of a cross-validation (the folds of a sweep),
a head on a pretrained network's features (``pipeline.probing.labels``), or, without such a network, a logistic regression on
the 32 x 32 thumbnails, which is good enough where classes differ at a glance; elsewhere a warning follows. Suspects are listed
with pictures; nothing is changed.
"""

import csv
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from raylight.auditing.metadata_baseline import folds_of, percent
from raylight.comparison.replicates import IncomparableError
from raylight.comparison.study import study_of
from raylight.data.decode.spec import DecodeSpec
from raylight.data.index import Index
from raylight.data.splits.split import linked_groups
from raylight.errors import ConfigError, DataError
from raylight.installation import TRAIN, install_command
from raylight.report.images import SAMPLE, OriginalFiles, jpeg
from raylight.report.pages import render
from raylight.storage.atomic import write_atomically

PICTURED = 60
"""Maximum number of suspects on the page; the table has all."""

LARGEST = 20_000
"""Maximum number of images for the logistic regression; with more, a cross-validation is better anyway."""

GOOD_ENOUGH = 0.75
"""Out-of-fold accuracy below which suspects are more likely errors of the model."""


@dataclass(frozen=True)
class Suspect:
    """An image whose label is probably wrong.

    Attributes:
        path: relative to the data's root.
        label: its label.
        likely: the predicted class.
        probability: out-of-fold probability of its label.
    """

    path: str
    label: str
    likely: str
    probability: float


@dataclass(frozen=True, eq=False)
class LabelErrors:
    """The suspect labels of a data set.

    Attributes:
        name: of the data, or of the data and the model.
        judge: the model of the out-of-fold predictions, in words.
        n: images.
        accuracy: of these predictions, against the present labels.
        better: how to get a better model, in a sentence.
        suspects: the least probable labels first.
        index: for the pictures.
    """

    name: str
    judge: str
    n: int
    accuracy: float
    better: str
    suspects: tuple[Suspect, ...]
    index: Index


def report_labels(found: LabelErrors, out: Path | None) -> int:
    """Print the suspects; write ``label_errors.csv`` and ``label_errors.html``.

    Args:
        found: the suspects.
        out: folder for the files; None prints only.

    Returns:
        0 if no label is suspect, 1 otherwise.

    Raises:
        ConfigError: the folder can't be written.
    """
    count = len(found.suspects)
    lines = [
        f"{count} of {found.n:,} labels are suspect, judged by {found.judge} (accuracy {percent(found.accuracy)} "
        "against the present labels)" + (":" if count else ".")
    ]
    lines += [
        f"  {one.path}: {one.label}, more likely {one.likely} (probability of its label {percent(one.probability)})"
        for one in found.suspects[:20]
    ]
    if count > 20:
        lines.append(f"  ... and {count - 20} more")
    if found.accuracy < GOOD_ENOUGH:
        lines.append(f"This accuracy is too low to judge labels by. {found.better}")
    if out is not None:
        try:
            lines += [str(path) for path in _write(found, out)]
        except OSError as error:
            raise ConfigError([f"--out {out}: it can't be written ({error.strerror}); name another folder"]) from error
    sys.stdout.write("\n".join(lines) + "\n")
    return int(count > 0)


def labels_of_sweep(folders: Sequence[Path]) -> LabelErrors:
    """Find suspect labels by the folds of a cross-validation.

    Args:
        folders: a sweep's folder, or the runs of its folds.

    Raises:
        IncomparableError: these aren't the folds of one configuration.
        ConfigError: cleanlab isn't installed.
    """
    study = study_of(folders)
    if len(study.replicates) > 1 or not study.joined:
        raise IncomparableError(
            f"{len(study.replicates)} models are here; labels are judged by the folds of one: "
            f"{TRAIN} -m data.folds=5 data.fold=0,1,2,3,4"
        )
    (recipe,), (whole,) = study.recipes, study.replicates
    images = whole.images
    paths = [whole.paths[key] for key in images.paths]
    return LabelErrors(
        name=f"{whole.facts.config.data.name}, by {recipe.name}",
        judge="networks that weren't trained on the image",
        n=len(images),
        accuracy=whole.estimates["accuracy"].value,
        better="Train better networks: longer training, pretrained weights, more images.",
        suspects=_suspects(paths, images.labels.astype(np.int64), images.probabilities, images.class_names),
        index=whole.facts.index,
    )


def labels_of_data(index: Index, name: str) -> LabelErrors:
    """Find suspect labels by a logistic regression on the thumbnails.

    Args:
        index: with thumbnails.
        name: of the data.

    Raises:
        DataError: too few independent images of a class, or too many images in all.
        ConfigError: cleanlab isn't installed.
    """
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    usable = index.usable()
    targets = usable.targets()
    counts = np.bincount(targets, minlength=len(index.class_names))
    if counts.min() < 10 or len(usable) > LARGEST:
        raise DataError(
            f"{index.root} has {counts.min()} to {counts.max()} usable images per class; logistic regression on "
            f"thumbnails needs 10 per class and at most {LARGEST:,} in all; or train a cross-validation and name its folder."
        )
    features = usable.thumbnails.reshape(len(usable), -1).astype(np.float32) / 255
    folds = folds_of(targets, linked_groups(usable, True))
    for number, class_name in enumerate(index.class_names):
        if len(np.unique(folds[targets == number])) < 2:
            raise DataError(
                f"{index.root}: the {counts[number]} usable images of the class {class_name!r} are all in one fold, "
                "since images of one patient (or object), and of one picture, stay together; no model can learn the class from "
                "the other folds. Add independent images of it."
            )
    probabilities = np.zeros((len(usable), len(counts)))
    for fold in np.unique(folds):
        held = folds == fold
        model = make_pipeline(
            PCA(min(50, int((~held).sum()) // 2), random_state=0),
            StandardScaler(),
            LogisticRegression(C=0.05, max_iter=1000, class_weight="balanced"),
        )
        model.fit(features[~held], targets[~held])
        probabilities[np.ix_(held, model.classes_)] = model.predict_proba(features[held])
    return labels_by(
        usable,
        probabilities,
        name=name,
        judge="a logistic regression on 32 x 32 thumbnails that wasn't trained on the image",
        better="A pretrained network is better: set model.weights=FILE. Or train a cross-validation "
        "(data.folds=5 -m data.fold=0,1,2,3,4) and name its folder.",
    )


def labels_by(
    images: Index, probabilities: Float[np.ndarray, "image class"], *, name: str, judge: str, better: str
) -> LabelErrors:
    """Find suspect labels by given probabilities.

    Args:
        images: usable ones.
        probabilities: of each class, by a model that wasn't trained on the image.
        name: of the data.
        judge: the model, in words.
        better: how to get a better model, in a sentence.

    Raises:
        ConfigError: cleanlab isn't installed.
    """
    targets = images.targets()
    return LabelErrors(
        name=name,
        judge=judge,
        n=len(images),
        accuracy=float((probabilities.argmax(axis=1) == targets).mean()),
        better=better,
        suspects=_suspects(list(images.column("path")), targets, probabilities, images.class_names),
        index=images,
    )


def _suspects(
    paths: Sequence[str],
    labels: Int64[np.ndarray, " image"],
    probabilities: Float[np.ndarray, "image class"],
    class_names: Sequence[str],
) -> tuple[Suspect, ...]:
    try:
        from cleanlab.filter import find_label_issues
    except ImportError as error:
        raise ConfigError(
            [f"label errors are found with cleanlab, which isn't installed: {install_command('labels')}"]
        ) from error
    # One process: a few thousand images take less time than starting another.
    ranked = find_label_issues(labels, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1)
    likely = probabilities.argmax(axis=1)
    return tuple(
        Suspect(paths[i], class_names[labels[i]], class_names[likely[i]], float(probabilities[i, labels[i]]))
        for i in map(int, ranked)
        if likely[i] != labels[i]
    )


def _write(found: LabelErrors, out: Path) -> list[Path]:
    out.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["path", "label", "likely", "probability_of_label"])
    table.writerows([one.path, one.label, one.likely, one.probability] for one in found.suspects)
    files = OriginalFiles(found.index, DecodeSpec(SAMPLE, "stretch"))
    shown: list[tuple[Suspect, Any]] = []
    for one in found.suspects[:PICTURED]:
        pixels = files.pixels(one.path, SAMPLE)
        shown.append((one, None if pixels is None else jpeg(pixels)))
    page = render("label_errors.html", found=found, shown=shown, percent=percent, weak=found.accuracy < GOOD_ENOUGH)
    contents = {"label_errors.csv": text.getvalue(), "label_errors.html": page}
    return [write_atomically(out / name, part.encode("utf-8", "surrogateescape")) for name, part in contents.items()]
