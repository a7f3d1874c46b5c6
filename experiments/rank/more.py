"""Does the interval of ``raylight more`` hold the accuracy that more images bring?

``python -m experiments.rank.more --photos DIR --weights DIR [--made DIR]``: a pilot is a few of a set's images; from it alone
the accuracy with more images is predicted. What they bring is known: heads on many draws of so many images of the whole set,
judged on the rest. ``--made`` adds scikit-learn's digits, of ten classes, as ``experiments.recipes.sets`` writes them.
"""

import time
from collections.abc import Iterator

import numpy as np
from experiments.rank.features import NETWORKS, Features, arguments, features_of, photo_features
from experiments.recipes.sets import write_digits

from raylight.models.leave_one_out import head_of
from raylight.pipeline.probing.learning_curve import learning_curve

PILOTS = 100
TRUTH_DRAWS = 12


def brought(data: Features, images: int) -> float:
    """Mean accuracy of heads that learnt from so many images of the set, on the rest."""
    draw, found = np.random.default_rng(1), []
    for _ in range(TRUTH_DRAWS):
        order = draw.permutation(len(data.targets))
        seen, unseen = order[:images], order[images:]
        head = head_of(data.features[seen], data.targets[seen], data.n_classes)
        found.append((head(data.features[unseen]).argmax(1) == data.targets[unseen]).mean())
    return float(np.mean(found))


def rows(name: str, data: Features, pilots: tuple[int, ...], wanted: tuple[int, ...]) -> Iterator[str]:
    """A row of the table for each size of pilot and each number of images."""
    truth = {images: brought(data, images) for images in wanted}
    for size in pilots:
        told: dict[int, list[tuple[float, float, float]]] = {images: [] for images in wanted if images > size}
        begin = time.process_time()
        for pilot in range(PILOTS):
            chosen = np.random.default_rng(pilot).choice(len(data.targets), size, replace=False)
            curve = learning_curve(data.features[chosen], data.targets[chosen], data.n_classes, data.groups[chosen])
            for images, each in told.items():
                each.append(curve.accuracy(images))
        seconds = (time.process_time() - begin) / PILOTS
        for images, each in told.items():
            middle, low, high = np.array(each).T
            held = (low <= truth[images]) & (truth[images] <= high)
            yield (
                f"| {name} | {size} | {images} | {truth[images]:.3f} | {middle.mean():.3f} | {held.mean():.2f} "
                f"| {(low > truth[images]).sum()}, {(high < truth[images]).sum()} | {(high - low).mean():.3f} | {seconds:.2f} |"
            )


def main() -> None:
    """Print the table."""
    asked = arguments(__doc__, "--made")
    heads = ("set", "pilot", "images", "accuracy", "predicted", "held", "above, below it", "width", "s a pilot")
    print("|", " | ".join(heads), "|")
    print("|", " | ".join("---" for _ in heads), "|")
    for network in NETWORKS:
        photos = photo_features(asked.photos, network, asked.weights)
        for row in rows(f"photos, {network}", photos, (100, 200, 400), (800, 1600)):
            print(row, flush=True)
    if asked.made:
        if not asked.made.is_dir():
            write_digits(asked.made)
        made = features_of([f"data.root={asked.made}", "data=folder"], "resnet18", asked.weights)
        for row in rows("digits, resnet18", made, (400,), (800, 1400)):
            print(row, flush=True)


if __name__ == "__main__":
    main()
