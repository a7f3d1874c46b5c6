"""Caveats of a run's result, a sentence each."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from raylight.config.rules.decision_rule import CONSTRAINED, parse_rule
from raylight.evaluation.caveats import CAVEATS, SAFE
from raylight.report.facts import RunFacts, chosen_row


def caveats_of(facts: RunFacts) -> list[str]:
    """The caveats of a run's result; may be empty."""
    notes = []
    test, accuracy = facts.test, facts.measured()["accuracy"]
    if accuracy.low is not None and accuracy.high is not None:
        shares = np.bincount(test.labels, minlength=len(test.class_names)) / max(len(test), 1)
        majority = int(shares.argmax())
        if accuracy.low <= shares[majority]:
            notes.append(
                f"Always predicting {test.class_names[majority]} would be right for {100 * shares[majority]:.1f} % of the test "
                "images; the interval of the accuracy doesn't exclude that this network is no better."
            )
        if accuracy.high - accuracy.low > 0.1:
            notes.append(
                f"{len(test)} test images determine the accuracy only to between {100 * accuracy.low:.1f} % and "
                f"{100 * accuracy.high:.1f} %; a difference from another run within that range may be chance."
            )
    notes += facts.metrics.get("split_warnings", [])
    caveats = dict.fromkeys(one.caveat for one in facts.measured().values() if one.caveat not in (None, *SAFE))
    notes += [CAVEATS[str(caveat)] for caveat in caveats]
    chosen = facts.chosen
    if chosen["epochs_trained"] > 1 and chosen["selected_epoch"] == chosen["epochs_trained"] - 1:
        notes.append(
            f"The checkpoint comes from the last epoch ({chosen['selected_by']} was best there): "
            "longer training might still improve it."
        )
    row = chosen_row(facts)
    gap = row.get("train/accuracy", 0.0) - row.get("val/accuracy", 1.0)
    if gap > 0.1:
        notes.append(
            f"Accuracy is {100 * gap:.0f} points higher on training images than on validation ones: it overfits."
        )
    if facts.shared_with_training:
        unshared = facts.measured("test_unshared").get("accuracy")
        notes.append(
            f"{len(facts.shared_with_training)} test images show a patient or a picture that is also in train or validation"
            + (f"; without them accuracy is {unshared.words}, n = {unshared.n}." if unshared else ".")
        )
    elif facts.shared_groups:
        shared = len(facts.shared_groups)
        notes.append(
            f"{shared} group{'s' * (shared > 1)} (patients or objects) of the test images also "
            f"{'appear' if shared > 1 else 'appears'} in train or validation: the result may be too optimistic."
        )
    if facts.decision.get("met") is False:
        notes.append(
            f"No threshold reached {facts.decision['rule']} on validation; the nearest one was taken "
            f"({facts.decision['val_metric']} {facts.decision['val_value']:.3f})."
        )
    elif note := _minimum_not_guaranteed(facts):
        notes.append(note)
    if not facts.total("val"):
        notes.append("No validation images were held out, so neither threshold nor temperature was chosen.")
    rejected = len(facts.index.rejected())
    if rejected:
        notes.append(f"{rejected} of {len(facts.index)} files couldn't be used and are listed below.")
    return notes


def rule_on_validation(decision: Mapping[str, Any]) -> str:
    """The value of the rule's metric on validation, with interval and n; empty where it wasn't recorded."""
    if decision.get("val_n") is None or decision["val_value"] is None:
        return ""
    low, high = decision.get("val_low"), decision.get("val_high")
    bounds = "" if low is None or high is None else f", 95 % interval {low:.3f} to {high:.3f}"
    return f"{decision['val_metric']} {decision['val_value']:.3f} on validation{bounds}, n = {decision['val_n']}"


def _minimum_not_guaranteed(facts: RunFacts) -> str | None:
    """A minimum that the decision rule reached on validation, but on too few images to guarantee it for others."""
    decision = facts.decision
    parsed = parse_rule(str(decision["rule"])) if decision.get("rule") else None
    low = decision.get("val_low")
    if parsed is None or parsed.value is None or parsed.kind not in CONSTRAINED or low is None or low >= parsed.value:
        return None
    return (
        f"{decision['rule']} held on the {decision['val_n']} validation images that it is based on "
        f"({decision['val_value']:.3f}), by which the threshold was chosen; they don't guarantee it for other images: its "
        f"95 % interval is {low:.3f} to {decision['val_high']:.3f}."
    )
