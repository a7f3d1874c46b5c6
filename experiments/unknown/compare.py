"""Two published scores for images unlike all that a network has learnt, on a run's own features.

    python -m experiments.unknown.compare RUN FOLDER [FOLDER ...]

Computes, for a finished run, what enters its classifier head for its training, validation and test images and for the images of
other folders; prints, for the distance to the k-th nearest training image (Sun et al. 2022) and the Mahalanobis distance to the
nearest class (Lee et al. 2018), how well each tells the folder's images from the run's test images (AUROC), and what the limit
of 5 % false refusals on validation refuses of both.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score

from raylight.cpu.engine import InferenceEngine
from raylight.data.decode.engines import decode_files
from raylight.models.familiarity import NEIGHBOURS, distances
from raylight.serving.predictor import Predictor, read_index

ALLOWED = 0.05
Score = Callable[[np.ndarray], np.ndarray]


def unit(features: Float[np.ndarray, "image feature"]) -> Float[np.ndarray, "image feature"]:
    """Of length 1."""
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def mahalanobis(train: Float[np.ndarray, "image feature"], labels: np.ndarray) -> Score:
    """Squared distance to the nearest class mean, with one covariance for all classes, shrunk (Ledoit and Wolf)."""
    means = np.stack([train[labels == label].mean(0) for label in np.unique(labels)])
    precision = LedoitWolf().fit(train - means[np.searchsorted(np.unique(labels), labels)]).precision_
    return lambda x: np.min([np.einsum("ij,jk,ik->i", x - mean, precision, x - mean) for mean in means], axis=0)


def main() -> None:
    """Print a Markdown table."""
    predictor = Predictor.open(Path(sys.argv[1]))
    network, index = predictor.network, read_index(predictor.run)
    engine = InferenceEngine(network, 0, network.head_start, predictor.preprocessing, predictor.precision)

    def features(paths: list[Path]) -> Float[np.ndarray, "image feature"]:
        blocks = [
            block.pixels for block in decode_files(paths, predictor.preprocessing.decode_spec) if len(block.pixels)
        ]
        found = engine(np.concatenate(blocks))
        return found.reshape(len(found), found.shape[1], -1).mean(-1)

    own = {
        split: features([index.root / str(path) for path in index.in_split(split).column("path")])
        for split in ("train", "val", "test")
    }
    scores: dict[str, Score] = {
        f"distance to neighbour {k}": lambda x, k=k: distances(unit(own["train"]), x, k) for k in (1, NEIGHBOURS)
    }
    scores["Mahalanobis distance"] = mahalanobis(own["train"], index.in_split("train").targets())
    print("| score | images | AUROC | refused | test images refused |\n|---|---|--:|--:|--:|")
    for folder in map(Path, sys.argv[2:]):
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))[:300]
        others = features(files)
        for name, score in scores.items():
            val, test, other = score(own["val"]), score(own["test"]), score(others)
            limit = np.sort(val)[min(int(np.ceil((len(val) + 1) * (1 - ALLOWED))), len(val)) - 1]
            area = roc_auc_score([0] * len(test) + [1] * len(other), np.concatenate([test, other]))
            cells = (name, f"{len(other)} of {folder.name}", f"{area:.4f}", f"{(other > limit).mean():.3f}")
            print(f"| {' | '.join(cells)} | {(test > limit).mean():.3f} |")


if __name__ == "__main__":
    main()
