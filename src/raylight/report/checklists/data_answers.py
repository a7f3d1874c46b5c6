"""What a run can say of its data: source, exclusions, preparation, partitions."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from raylight.config.rules.shapes import height_width
from raylight.evaluation.bootstrap import n_units
from raylight.report.checklists.answer import REPORT, SPLITS, Answer, by_class, listed
from raylight.report.facts import RunFacts

DATA = f"{REPORT}#data"
INDEX = "index.parquet"


def source(facts: RunFacts) -> Answer:
    """Which data set, and where it is published."""
    data = facts.config.data
    where = data.homepage or (f"the Kaggle data set {data.kaggle}" if data.kaggle else None)
    published = f", published at {where}" if where else ""
    return Answer(
        f"The data set {data.name}{published}: {len(facts.index)} files, each with its SHA-256.",
        (INDEX, f"{REPORT}#provenance"),
    )


def exclusions(facts: RunFacts) -> Answer:
    """Files that were left out."""
    rejected = len(facts.index.rejected())
    left = f"{rejected} of {len(facts.index)} files were left out, each for the reason given." if rejected else ""
    return Answer(left or f"None of the {len(facts.index)} files was left out.", ("rejected.csv", DATA))


def unreadable(facts: RunFacts) -> Answer:
    """What became of files that can't be used."""
    rejected = len(facts.index.rejected())
    return Answer(
        f"Files that can't be decoded are left out and named ({rejected} here); no image or class is imputed or replaced.",
        ("rejected.csv",),
    )


def subsets(facts: RunFacts) -> Answer:
    """Whether all usable images are used."""
    limit = facts.config.data.limit
    if limit is None:
        return Answer("All usable images are used.", ("config.yaml", INDEX))
    return Answer(f"At most {limit} images of each class are used, drawn at random.", ("config.yaml", INDEX))


def preprocessing(facts: RunFacts) -> Answer:
    """From a file to the network's input."""
    given = facts.preprocessing
    height, width = height_width(given.size)
    ways = {
        "crop": "the short side resized and the middle cut out",
        "stretch": "stretched",
        "pad": "resized and padded",
    }
    way = ways[given.resize]
    shorter = f", short side {given.resize_size}" if given.resize == "crop" and given.resize_size else ""
    return Answer(
        f"Each image is decoded to 8-bit RGB, brought to {height} x {width} pixels ({way}{shorter}, {given.interpolation} "
        f"interpolation), scaled to 0 to 1, and normalised by mean {_numbers(given.mean)} and standard deviation "
        f"{_numbers(given.std)}, alike in all partitions.",
        ("preprocessing.json",),
    )


def _numbers(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"


def quality(facts: RunFacts) -> Answer:
    """What was checked."""
    told = "Each file is decoded strictly and hashed; partitions are searched for duplicates"
    if facts.audit is None:
        return Answer(f"{told}.", (INDEX,))
    titles = [str(finding["title"]) for finding in facts.audit["findings"]]
    found = f"the audit found: {'; '.join(titles)}" if titles else "the audit found nothing"
    return Answer(f"{told}, and {found}.", ("audit.json", DATA))


def formats(facts: RunFacts) -> Answer:
    """Formats and sizes of the files."""
    usable = facts.index.usable()
    kinds = Counter(Path(path).suffix.lower() or "without suffix" for path in usable.column("path")).most_common()
    sides = {name: np.array(usable.column(name)) for name in ("width", "height")}
    ranges = " and ".join(f"{name} {side.min():,} to {side.max():,}" for name, side in sides.items())
    return Answer(f"Files: {', '.join(f'{n} {kind}' for kind, n in kinds)}; {ranges} pixels.", (INDEX, DATA))


def classes(facts: RunFacts) -> Answer:
    """The classes, and where they are read from."""
    data, names = facts.config.data, list(facts.index.class_names)
    read = (
        "a table's column"
        if data.csv
        else "the source"
        if data.source or data.kind != "folder"
        else "folders or file names"
    )
    shown = listed(names) if len(names) <= 12 else f"{len(names)} classes"
    positive = f"; the positive class is {facts.index.positive_class}" if len(names) == 2 else ""
    return Answer(
        f"Each image has one class, as {read} give{'' if read.endswith('s') else 's'} it: {shown}{positive}.", (INDEX,)
    )


def partitions(facts: RunFacts) -> Answer:
    """How images were assigned to training, validation and test."""
    data = facts.config.data
    if data.folds is not None:
        how = f"Fold {data.fold} of a cross-validation of {data.folds}, stratified by class (seed {data.split_seed})"
    else:
        how = (
            "Partitions that the data set ships are kept, the others drawn at random, stratified by class "
            f"(seed {data.split_seed})"
        )
    numbers = listed([f"{facts.total(split)} for {words}" for split, words in SPLITS.items()])
    return Answer(f"{how}: {numbers}.", (INDEX, "config.yaml"))


def disjoint(facts: RunFacts) -> Answer:
    """At which level partitions are disjoint, and where they aren't."""
    groups = {group for group in facts.index.column("group") if group is not None}
    level = "Images of a group (a patient or an object) are kept" if groups else "Images are assigned one by one"
    near = ", copies and near-duplicates with them" if facts.config.data.group_duplicates else ""
    told = f"{level} in one partition{near}" if groups else f"{level}{near}"
    shared, met = len(facts.shared_groups), len(facts.shared_with_training)
    crossing = (
        f"as shipped, {shared} groups are in test and in training or validation, and {met} test images are shared with them"
        if shared or met
        else "no group is both in test and in training or validation"
    )
    counted = f" ({len(groups)} groups)" if groups else ""
    return Answer(f"{told}{counted}; {crossing}.", (INDEX, "metrics.json"))


def clusters(facts: RunFacts) -> Answer | None:
    """How images of a group are allowed for."""
    groups = facts.test.labelled().groups
    if groups is None:
        return None
    n = n_units(groups, len(facts.test))
    return Answer(
        f"The {len(facts.test)} test images come in {n} groups; all intervals allow for likeness within a group.",
        ("metrics.json", "predictions.csv"),
    )


def sample_size(facts: RunFacts) -> Answer:
    """What the number of test images can tell."""
    return Answer(facts.resolution, (f"{REPORT}#result",))


def flow(facts: RunFacts) -> Answer:
    """From files to partitions."""
    usable, used = len(facts.index.usable()), sum(facts.total(split) for split in SPLITS)
    unused = f", {usable - used} of which are in no partition" if used < usable else ""
    numbers = "; ".join(f"{words} {facts.total(split)}" for split, words in SPLITS.items())
    return Answer(
        f"{len(facts.index)} files, {len(facts.index) - usable} left out, {usable} usable{unused}: {numbers}.",
        (INDEX, "rejected.csv"),
    )


def by_partition(facts: RunFacts) -> Answer:
    """Images by class and partition."""
    told = "; ".join(f"{words}: {by_class(facts, split)}" for split, words in SPLITS.items() if facts.total(split))
    return Answer(f"{told}.", (DATA, INDEX))


def prevalence(facts: RunFacts) -> Answer:
    """How frequent each class is in the test images."""
    return Answer(f"Test images by class: {by_class(facts, 'test')}.", (INDEX, DATA))


def imbalance(facts: RunFacts) -> Answer:
    """What was done about unequal classes."""
    loss, used = facts.config.loss, []
    if facts.config.data.sampler == "weighted":
        used.append("training images were drawn so that classes are equally frequent")
    if loss.class_weights is not None:
        used.append("the loss weighs classes")
    if loss.focal_gamma:
        used.append(f"focal loss with gamma {loss.focal_gamma:g}")
    if loss._target_:
        used.append(f"the loss is {loss._target_}")
    told = listed(used) if used else "none: training images are drawn alike, and the loss weighs all classes alike"
    temperature = "not recalibrated" if facts.temperature == 1 else "recalibrated by temperature on validation images"
    return Answer(f"Methods against class imbalance: {told}; probabilities were {temperature}.", ("config.yaml",))


def predictors(facts: RunFacts) -> Answer:
    """What the prediction rests on."""
    return Answer(
        "The predictors are the pixels of the whole preprocessed image; none was selected, and nothing else is used.",
        ("preprocessing.json",),
    )


def no_reader(facts: RunFacts) -> Answer:
    """Whether somebody read the predictors."""
    return Answer("Not applicable: pixels are read by a program, without judgement.", ("preprocessing.json",))


DATA_ANSWERS: dict[str, Callable[[RunFacts], Answer | None]] = {
    answer.__name__: answer
    for answer in (
        *(source, exclusions, unreadable, subsets, preprocessing, quality, formats, classes, partitions, disjoint),
        *(clusters, sample_size, flow, by_partition, prevalence, imbalance, predictors, no_reader),
    )
}
"""By the name that the standards use."""
