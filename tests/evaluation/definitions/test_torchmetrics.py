import math
import warnings

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from sklearn import metrics as reference
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.functional.classification import multiclass_calibration_error

from raylight.evaluation.definitions.torchmetrics import confusion_matrix, metric_collection


def sample(n, n_classes, seed=0):
    """Probabilities that are right more often than not, and the truth."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(n_classes, (n,), generator=generator)
    logits = torch.randn(n, n_classes, generator=generator)
    logits[torch.arange(n), targets] += 1.0
    return logits.softmax(dim=1), targets


def computed(n_classes, positive, probabilities, targets, batch=7):
    collection = metric_collection(n_classes, positive)
    for start in range(0, len(targets), batch):
        collection.update(probabilities[start : start + batch], targets[start : start + batch])
    return {name: value.item() for name, value in collection.compute().items()}


@pytest.mark.parametrize("positive", [0, 1])
def test_two_classes_agree_with_scikit_learn_whichever_is_positive(positive):
    probabilities, targets = sample(100, 2)
    score, truth = probabilities[:, positive].numpy(), (targets == positive).int().numpy()
    chosen = score > 0.5
    got = computed(2, positive, probabilities, targets)
    ece = got.pop("ece")
    assert got == pytest.approx(
        {
            "accuracy": reference.accuracy_score(truth, chosen),
            "balanced_accuracy": reference.balanced_accuracy_score(truth, chosen),
            "precision": reference.precision_score(truth, chosen),
            "recall": reference.recall_score(truth, chosen),
            "specificity": reference.recall_score(1 - truth, ~chosen),
            "f1": reference.f1_score(truth, chosen),
            "auroc": reference.roc_auc_score(truth, score),
            "average_precision": reference.average_precision_score(truth, score),
            "mcc": reference.matthews_corrcoef(truth, chosen),
            "brier": reference.brier_score_loss(truth, score),
        },
        abs=1e-5,
    )
    bins = np.floor(score * 15)
    gaps = [abs((truth - score)[bins == b].sum()) for b in range(15)]
    assert ece == pytest.approx(sum(gaps) / 100, abs=1e-5)


def test_more_classes_are_macro_averages():
    probabilities, targets = sample(300, 4)
    truth, chosen = targets.numpy(), probabilities.argmax(dim=1).numpy()
    onehot = np.eye(4)[truth]
    got = computed(4, 0, probabilities, targets)
    specificities = [reference.recall_score(truth != k, chosen != k) for k in range(4)]
    assert got == pytest.approx(
        {
            "accuracy": reference.accuracy_score(truth, chosen),
            "balanced_accuracy": reference.balanced_accuracy_score(truth, chosen),
            "precision": reference.precision_score(truth, chosen, average="macro"),
            "recall": reference.recall_score(truth, chosen, average="macro"),
            "specificity": np.mean(specificities),
            "f1": reference.f1_score(truth, chosen, average="macro"),
            "auroc": np.mean([reference.roc_auc_score(onehot[:, k], probabilities[:, k]) for k in range(4)]),
            "average_precision": reference.average_precision_score(onehot, probabilities, average="macro"),
            "mcc": reference.matthews_corrcoef(truth, chosen),
            "ece": multiclass_calibration_error(probabilities, targets, 4, n_bins=15, norm="l1").item(),
            "brier": ((probabilities.numpy() - onehot) ** 2).sum(axis=1).mean(),
        },
        abs=1e-5,
    )


def test_what_is_not_defined_is_nan_and_says_nothing():
    probabilities = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        only_negatives = computed(2, 1, probabilities, torch.tensor([0, 0, 0]))
        only_positives = computed(2, 1, probabilities, torch.tensor([1, 1, 1]))
        nothing_found = computed(2, 1, probabilities[:2], torch.tensor([0, 1]))
        absent_class = computed(3, 0, torch.eye(3)[[0, 1, 2]] * 0.7 + 0.1, torch.tensor([0, 1, 1]))
    undefined = {name for name, value in only_negatives.items() if math.isnan(value)}
    assert undefined == {"recall", "auroc", "average_precision", "mcc", "balanced_accuracy"}
    undefined = {name for name, value in only_positives.items() if math.isnan(value)}
    assert undefined == {"specificity", "auroc", "average_precision", "mcc", "balanced_accuracy"}
    assert {name for name, value in nothing_found.items() if math.isnan(value)} == {"precision"}
    # Who gives every image the same class knows nothing.
    assert nothing_found["mcc"] == 0
    # The third class has no image: its AUROC doesn't count as 0. Those of the other two are 1 and 3/4.
    assert absent_class["auroc"] == pytest.approx((1 + 0.75) / 2)


def test_a_tie_is_negative_even_when_the_positive_class_comes_first():
    tie = torch.tensor([[0.5, 0.5]])
    assert computed(2, 0, tie, torch.tensor([1]))["accuracy"] == 1
    assert computed(2, 1, tie, torch.tensor([0]))["accuracy"] == 1


def test_collections_start_anew_and_do_not_share_counts():
    probabilities, targets = sample(64, 2)
    train = metric_collection(2, 1, prefix="train/")
    val = train.clone(prefix="val/")
    train.update(probabilities, targets)
    val.update(probabilities, 1 - targets)
    first = train.compute()
    assert set(first) == {f"train/{name}" for name in metric_collection(2, 1)}
    assert val.compute()["val/accuracy"] == pytest.approx(1 - first["train/accuracy"])
    train.reset()
    train.update(probabilities[:8], targets[:8])
    alone = computed(2, 1, probabilities[:8], targets[:8])
    assert {name.removeprefix("train/"): value for name, value in train.compute().items()} == pytest.approx(alone)


def test_confusion_matrix_counts_true_classes_in_rows():
    counts = confusion_matrix(3)
    counts.update(torch.eye(3)[[0, 0, 2]], torch.tensor([0, 1, 1]))
    assert counts.compute().tolist() == [[1, 0, 0], [1, 0, 1], [0, 0, 0]]


class Logged(pl.LightningModule):
    def __init__(self, n_classes):
        super().__init__()
        self.val_metrics = metric_collection(n_classes, positive=1, prefix="val/")

    def validation_step(self, batch):
        self.val_metrics.update(*batch)
        self.log_dict(self.val_metrics, on_epoch=True)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_lightning_logs_the_collection_over_all_batches(n_classes):
    data = sample(50, n_classes)
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        barebones=False,
    )
    loader = DataLoader(TensorDataset(*data), batch_size=16)
    (logged,) = trainer.validate(Logged(n_classes), loader, verbose=False)
    expected = computed(n_classes, 1, *data)
    assert logged == pytest.approx({f"val/{name}": value for name, value in expected.items()}, abs=1e-6)
