"""Planted label errors: how many are found, by leave-one-out ridge regression and by cross-validated logistic regression.

``python -m experiments.rank.labels --photos DIR --weights DIR`` prints a table: of as many suspects as errors were planted, how
many are planted ones (mean over draws); how many labels cleanlab suspects, and how many of these are planted.
"""

import time
from collections.abc import Iterator

import numpy as np
from cleanlab.filter import find_label_issues
from experiments.rank.features import NETWORKS, arguments, photo_features
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from raylight.models.leave_one_out import leave_one_out, probabilities_of

SHARES = (0.01, 0.02, 0.05, 0.1)
DRAWS = 5


def cross_validated(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Probabilities by logistic regression of five folds, the strength of which the first fold's loss chooses."""
    scaled = (features - features.mean(0)) / np.maximum(features.std(0), 1e-9)
    best = np.inf, np.zeros((len(labels), 2))
    for strength in (1e-4, 1e-3, 1e-2):
        found = np.zeros((len(labels), 2))
        for seen, unseen in StratifiedKFold(5, shuffle=True, random_state=0).split(scaled, labels):
            found[unseen] = (
                LogisticRegression(C=strength, max_iter=1000)
                .fit(scaled[seen], labels[seen])
                .predict_proba(scaled[unseen])
            )
        loss = -np.log(np.maximum(found[np.arange(len(labels)), labels], 1e-9)).mean()
        best = min(best, (loss, found), key=lambda one: one[0])
    return best[1]


def rows(features: np.ndarray, truth: np.ndarray, groups: np.ndarray) -> Iterator[str]:
    """A row of the table for each share of planted errors."""
    for share in SHARES:
        count, sums = round(share * len(truth)), np.zeros(8)
        for draw in range(DRAWS):
            planted = np.random.default_rng(draw).choice(len(truth), count, replace=False)
            labels = truth.copy()
            labels[planted] = 1 - labels[planted]
            begin = time.process_time()
            left_out = leave_one_out(features, labels, 2, groups)
            own = left_out.scores[np.arange(len(labels)), labels] - left_out.scores[np.arange(len(labels)), 1 - labels]
            seconds = time.process_time() - begin
            ridge = probabilities_of(left_out, labels)
            logistic = cross_validated(features, labels)
            sums[0] += np.isin(np.argsort(own)[:count], planted).sum()
            sums[1] += np.isin(np.argsort(own)[: 2 * count], planted).sum()
            sums[2] += np.isin(np.argsort(logistic[np.arange(len(labels)), labels])[:count], planted).sum()
            for place, probabilities in ((3, ridge), (5, logistic)):
                suspects = find_label_issues(
                    labels, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1
                )
                sums[place] += len(suspects)
                sums[place + 1] += np.isin(suspects, planted).sum()
            sums[7] += seconds
        m = sums / DRAWS
        yield (
            f"| {100 * share:.0f} % | {count} | {m[0]:.1f} | {m[1]:.1f} | {m[2]:.1f} | {m[3]:.1f}, {m[4]:.1f} planted "
            f"| {m[5]:.1f}, {m[6]:.1f} planted | {m[7]:.1f} |"
        )


def main() -> None:
    """Print the table."""
    asked = arguments(__doc__)
    for network in NETWORKS:
        found = photo_features(asked.photos, network, asked.weights)
        print(f"\n{network}\n")
        heads = (
            "planted",
            "errors",
            "ridge: of the first so many",
            "of twice as many",
            "logistic: of the first so many",
        )
        print("|", " | ".join([*heads, "ridge, cleanlab's filter", "logistic, cleanlab's filter", "s"]), "|")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |")
        for row in rows(found.features, found.targets, found.groups):
            print(row, flush=True)


if __name__ == "__main__":
    main()
