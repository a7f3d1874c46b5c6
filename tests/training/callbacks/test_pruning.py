"""A trial that does worse than the median of those before it is stopped, once all are warm."""

import json
from pathlib import Path

import optuna
import pytest
import pytorch_lightning as pl

from raylight.training.callbacks.pruning import TRIAL_VARIABLE, pruning_callbacks
from tests.training.tiny import classifier, history, trained

EPOCHS = 5


def test_without_a_trial_nothing_is_pruned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TRIAL_VARIABLE, raising=False)
    assert pruning_callbacks("val/loss") == []


@pytest.mark.parametrize(("others", "epochs"), [(0.0, 3), (100.0, EPOCHS)])
def test_training_stops_after_the_warm_up_where_others_were_better(
    others: float, epochs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = f"sqlite:///{tmp_path / 'optuna.db'}"
    study = optuna.create_study(study_name="raylight", storage=storage, direction="minimize")
    for _ in range(2):
        finished = study.ask()
        for epoch in range(EPOCHS):
            finished.report(others, epoch)
        study.tell(finished, others)
    trial = study.ask()
    address = {"storage": storage, "study": "raylight", "number": trial.number, "startup": 2, "warmup": 2}
    monkeypatch.setenv(TRIAL_VARIABLE, json.dumps(address))
    callbacks: list[pl.Callback] = pruning_callbacks("val/loss")
    trained(tmp_path, classifier(), *callbacks)
    rows = history(tmp_path)
    assert len(rows) == epochs
    told = study.get_trials()[trial.number]
    assert list(told.intermediate_values.values()) == pytest.approx([row["val/loss"] for row in rows], rel=1e-5)
    assert told.user_attrs == ({"pruned_at": 2} if epochs == 3 else {})
