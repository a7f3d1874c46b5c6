"""The metrics that there are, by name: the one list that settings, training and every table go by.

Leaves out what they mean (``evaluation.definitions.torchmetrics``) and their intervals (``evaluation.metrics``).
"""

LABELS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "precision": "precision",
    "recall": "recall",
    "specificity": "specificity",
    "f1": "F1",
    "auroc": "AUROC",
    "average_precision": "average precision",
    "mcc": "Matthews correlation",
    "ece": "calibration error",
    "brier": "Brier score",
}
"""The metrics as people write them, in the order of every table."""

METRICS = tuple(LABELS)
"""As settings and files write them."""

CALIBRATION_BINS = 15
"""Bins of equal width of the expected calibration error (L1), torchmetrics' own default."""

LOWER_IS_BETTER = ("ece", "brier")
"""Metrics whose best value is 0."""
